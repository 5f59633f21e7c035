"""Compiled modules are found by the fingerprint of their sources, and only by it."""

from __future__ import annotations

import ast
import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import pytest

from gateway.compiled import ROOT, SIZES, built, find_damage, fingerprint, modules_in, use_compiled, write_sizes

SUFFIX = EXTENSION_SUFFIXES[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A program of three packages with one module each."""
    (tmp_path / "setup.py").write_text("COMPILED = 'resolver.example'")
    for package in ("gateway", "resolver", "storage"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "example.py").write_text("X = 1\n")
    return tmp_path


def put_compiled(tree: Path) -> Path:
    folder = built(tree) / fingerprint(tree)
    (folder / "resolver").mkdir(parents=True)
    (folder / "resolver" / f"example{SUFFIX}").touch()
    (folder / f"group{SUFFIX}").touch()  # its name is no library's: there is nothing in it to be loaded
    write_sizes(folder)
    return folder


@pytest.fixture(autouse=True)
def _finders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())


def edit(tree: Path) -> None:
    (tree / "storage" / "example.py").write_text("X = 2\n")


def add(tree: Path) -> None:
    (tree / "gateway" / "api").mkdir()
    (tree / "gateway" / "api" / "more.py").touch()


def remove(tree: Path) -> None:
    (tree / "gateway" / "example.py").unlink()


def rename(tree: Path) -> None:
    (tree / "resolver" / "example.py").rename(tree / "resolver" / "sample.py")


def move_a_line(tree: Path) -> None:
    (tree / "resolver" / "example.py").write_text("")
    (tree / "storage" / "example.py").write_text("X = 1\nX = 1\n")


def list_another(tree: Path) -> None:
    (tree / "setup.py").write_text("COMPILED = 'storage.example'")


@pytest.mark.parametrize("change", [edit, add, remove, rename, move_a_line, list_another])
def test_what_was_compiled_from_other_sources_is_not_found(tree: Path, change: object) -> None:
    put_compiled(tree)
    assert callable(change)
    change(tree)
    before = sys.meta_path.copy()
    assert not use_compiled(tree)
    assert sys.meta_path == before


def test_what_is_no_source_changes_nothing(tree: Path) -> None:
    before = fingerprint(tree)
    (tree / "resolver" / "__pycache__").mkdir()
    (tree / "resolver" / "__pycache__" / "example.pyc").touch()
    (tree / "README.md").touch()
    assert fingerprint(tree) == before


@pytest.mark.parametrize("fault", ["cut short", "missing", "not noted", "not loadable"])
def test_what_is_damaged_is_not_used_and_the_reason_is_told(tree: Path, fault: str) -> None:
    folder = put_compiled(tree)
    module = folder / "resolver" / f"example{SUFFIX}"
    if fault == "cut short":
        module.write_bytes(b"ELF")
    elif fault == "missing":
        module.unlink()
    elif fault == "not noted":
        (folder / SIZES).unlink()
    else:
        (folder / f"group__mypyc{SUFFIX}").write_bytes(b"no library of this machine")
        write_sizes(folder)
    before = sys.meta_path.copy()
    assert find_damage(folder)
    assert not use_compiled(tree)
    assert sys.meta_path == before


def test_another_pythons_build_lies_elsewhere(tree: Path) -> None:
    assert built(tree).name in SUFFIX
    assert built(tree).parent == tree / "build" / "compiled"


def test_what_was_compiled_from_these_sources_is_found_before_them(tree: Path) -> None:
    folder = put_compiled(tree)
    assert use_compiled(tree)
    finder = sys.meta_path[0]
    spec = finder.find_spec("resolver.example", None)
    assert spec is not None
    assert isinstance(spec.loader, ExtensionFileLoader)
    assert spec.origin == str(folder / "resolver" / f"example{SUFFIX}")
    assert finder.find_spec("group", None) is not None
    assert finder.find_spec("storage.example", None) is None


def test_a_module_may_not_have_been_imported_before(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_compiled(tree)
    monkeypatch.setitem(sys.modules, "resolver.example", sys)
    with pytest.raises(AssertionError, match=r"resolver\.example"):
        use_compiled(tree)


def test_extensions_for_another_python_are_not_taken(tree: Path) -> None:
    folder = put_compiled(tree)
    (folder / "resolver" / "other.cpython-399-x86_64-linux-gnu.so").touch()
    assert sorted(modules_in(folder)) == ["group", "resolver.example"]


def test_no_compiled_class_is_made_of_a_librarys() -> None:
    """A wheel is compiled where no library is installed, and a class of unknown parents breaks when it is used."""
    listed = re.search(r'COMPILED = """(.*?)"""', (ROOT / "setup.py").read_text("utf-8"), re.DOTALL)
    assert listed is not None
    known = {*sys.stdlib_module_names, "gateway", "resolver", "storage"}
    found = []
    for name in listed[1].split():
        tree = ast.parse((ROOT / name.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
        strange: set[str] = set()
        for node in ast.walk(tree):
            match node:
                case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] not in known:
                    strange |= {each.asname or each.name for each in names}
                case ast.Import(names=names):
                    strange |= {each.asname or each.name for each in names if each.name.partition(".")[0] not in known}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).partition(".")[0].partition("[")[0] for base in node.bases}
                found += [f"{name}.{node.name}"] if bases & strange else []
    assert not found
