"""All benchmarks, one after another: `make bench`. Each says what it measures and what its goal is.

python -m benchmarks [--plain]
"""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "benchmarks.decide",
    "benchmarks.journal",
    "benchmarks.lane",
    "benchmarks.accept",
    "benchmarks.bulk",
    "benchmarks.pools",
)

if __name__ == "__main__":
    for module in MODULES:
        print(f"== {module}", flush=True)
        subprocess.run([sys.executable, "-m", module, *sys.argv[1:]], check=True)
