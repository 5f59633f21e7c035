"""Cleans up after a run whose test was killed itself: waits for the end of its input, which is the end of its parent.

    python -m tests.acceptance.kill.janitor /tmp/sp-kill-…

The gateways and the witness have been killed by the kernel by then (PDEATHSIG); PostgreSQL is nobody's child and must
be stopped. After a run that ended well there is nothing left to do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.acceptance.kill.processes import stop_database


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test
    folder = Path(sys.argv[1])
    sys.stdin.buffer.read()
    stop_database(folder / "data")
    if (folder / "data").is_mount():
        subprocess.run(["umount", "--lazy", str(folder / "data")], check=False)
    if not os.environ.get("SENDPOOL_TEST_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
