"""The compiled program is what runs, until a source changes: then the sources run, and say so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.compiled import ROOT, built, fingerprint
from tests.acceptance.conftest import Gateway

TOLD = "from gateway.compiled import program, use_compiled; use_compiled(); print(program())"

pytestmark = pytest.mark.skipif(
    not (built() / fingerprint()).is_dir(), reason="these sources are not compiled; `make compile` does it"
)


def told(tree: Path) -> str:
    done = subprocess.run([sys.executable, "-c", TOLD], cwd=tree, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_changed_source_runs_instead_of_what_was_compiled_before(tmp_path: Path) -> None:
    for folder in ("gateway", "resolver", "storage", "build/compiled"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "setup.py", tmp_path)
    assert told(tmp_path) == "compiled"
    core = tmp_path / "resolver" / "core.py"
    before = core.read_text("utf-8")
    core.write_text(before + "\n# another line\n", "utf-8")
    assert told(tmp_path).startswith("plain Python, slower: the sources have changed")
    core.write_text(before, "utf-8")
    assert told(tmp_path) == "compiled"
    shutil.rmtree(tmp_path / "build")
    assert told(tmp_path).startswith("plain Python, slower: nothing is compiled")


def test_the_gateway_says_in_its_log_that_it_is_compiled(running: Gateway) -> None:
    assert '"program":"compiled"' in running.log().replace('": "', '":"')
