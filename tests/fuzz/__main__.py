"""Fire requests at a gateway of our own: `make fuzz COUNT=1000000`, or

    python -m tests.fuzz [--count 100000] [--seed N] [--connections 24]

Ends with 1 when something was found; each input is then in build/fuzz and can be sent again with netcat.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description="Fire odd and hostile requests at a gateway of its own.")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000))
    parser.add_argument("--connections", type=int, default=24)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sp-fuzz-", ignore_cleanup_errors=True) as folder:
        result = fuzz(
            Path(folder), count=arguments.count, seed=arguments.seed, connections=arguments.connections,
            failures=Path("build/fuzz"),
        )  # fmt: skip
    print(result.said)
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
