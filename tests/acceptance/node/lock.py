"""Take the addresses out of package-lock.json, beside this file: `make lock` runs it.

npm leaves those of the tarballs out when it is told to, and keeps those of people who like to be paid.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).with_name("package-lock.json")


def main() -> None:
    lock = json.loads(FILE.read_text("utf-8"))
    for package in lock["packages"].values():
        package.pop("funding", None)
        package.pop("resolved", None)
    FILE.write_text(json.dumps(lock, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
