"""What is fast enough, measured: each figure beside its ceiling or a peer in the same run.

Compiled where the sources are, as the gateway is; with `--plain` as plain Python. Each says which.
"""

import sys

from gateway.compiled import use_compiled

if sys.argv[0] == "-m" and "--plain" not in sys.argv:  # so it is while `python -m` looks for the module
    use_compiled()
