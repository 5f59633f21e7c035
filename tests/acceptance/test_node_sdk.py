"""Plivo's Node SDK against a gateway, in Node: each file of node/ is a user's program that checks what it gets.

Node is needed for nothing else, so these are skipped where it is not; `make node-sdk` brings it and the SDK.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Gateway

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted((Path(__file__).parent / "node").glob("*.test.js"))
MODULES = ROOT / "build" / "node" / "node_modules"
NODE = shutil.which("node") or str(ROOT / ".venv-node" / "bin" / "node")

pytestmark = pytest.mark.skipif(
    not (MODULES / "plivo").is_dir() or not Path(NODE).exists(),
    reason="Plivo's Node SDK is not here: `make node-sdk` brings it, and Node if there is none",
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name.removesuffix(".test.js"))
def test_plivos_node_sdk_works_as_it_is(program: Path, running: Gateway) -> None:
    done = subprocess.run(
        [NODE, "--no-deprecation", "--test", str(program)],
        env={**os.environ, "NODE_PATH": str(MODULES), "SENDPOOL_DEMO": str(running.data / "demo.json")},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"^(#|ℹ) pass [1-9]", said, re.MULTILINE), said
