"""The compiled program is what runs, until a source changes: then the sources run, and say so."""

from __future__ import annotations

import re
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


@pytest.mark.timeout(180)
def test_a_second_wheel_of_a_checkout_holds_nothing_of_the_first(tmp_path: Path) -> None:
    for folder in ("gateway", "resolver", "storage"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    script = (ROOT / "setup.py").read_text("utf-8")
    few, found = re.subn(
        r'"""\n    resolver\.model .*?"""', '"resolver.area_codes resolver.limits"', script, flags=re.DOTALL
    )
    assert found == 1, "two modules are enough, and quick"
    (tmp_path / "setup.py").write_text(few, "utf-8")
    source = tmp_path / "resolver" / "limits.py"
    code = source.read_text("utf-8")
    for answer in (1, 2):
        source.write_text(f"{code}\n\ndef answer() -> int:\n    return {answer}\n", "utf-8")
        build = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build"], cwd=tmp_path, capture_output=True, text=True, timeout=80
        )
        assert build.returncode == 0, build.stderr
        (lib,) = (tmp_path / "build").glob("lib.*")
        look = "from resolver import limits; print(limits.__file__.endswith('.py'), limits.answer())"
        done = subprocess.run([sys.executable, "-c", look], cwd=lib, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == ["False", str(answer)], done.stderr


def test_the_gateway_says_in_its_log_that_it_is_compiled(running: Gateway) -> None:
    assert '"program":"compiled"' in running.log().replace('": "', '":"')
