"""Compiled modules run in the place of their sources, as long as they were made from exactly these sources.

`make` compiles what setup.py lists into `build/compiled/<python>/<fingerprint>/`; the fingerprint is that of every
source of the three packages. So what was compiled from other sources is not found, and the sources run as plain Python:
slower, never stale. So they do where what was compiled is not whole, or does not load on this machine. A wheel holds
the compiled modules beside the sources, where Python finds them by itself.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

PACKAGES: Final = ("gateway", "resolver", "storage")
ROOT: Final = Path(__file__).resolve().parents[1]
SIZES: Final = "sizes.txt"
LIBRARY: Final = "__mypyc"

_SUFFIX: Final = EXTENSION_SUFFIXES[0]
"""How the names of extensions for this Python end, and for no other."""


def fingerprint(root: Path = ROOT) -> str:
    """What tells these sources, what of them is to be compiled, and this kind of Python from all others; in 5 ms."""
    digest = hashlib.sha256(_SUFFIX.encode())
    paths = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    for path in (root / "setup.py", *paths):
        source = path.read_bytes()
        digest.update(f"\n{path.relative_to(root)} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()[:24]


def built(root: Path = ROOT) -> Path:
    """Where `make` puts what it has compiled for this Python, in a folder named by its fingerprint."""
    return root / "build" / "compiled" / _SUFFIX.strip(".").partition(".")[0]


def write_sizes(folder: Path) -> None:
    """Note how large each compiled module is, once they are there: a copy may have been cut short."""
    (folder / SIZES).write_text(_sizes_of(modules_in(folder)), "utf-8")


def _sizes_of(modules: Mapping[str, Path]) -> str:
    return "".join(f"{path.stat().st_size} {name}\n" for name, path in sorted(modules.items()))


def find_damage(folder: Path) -> str:
    """Say why what was compiled cannot be used here, "" if it can."""
    modules = modules_in(folder)
    try:
        if (folder / SIZES).read_text("utf-8") != _sizes_of(modules):
            return "they are not whole"
        for name, path in modules.items():
            if name.endswith(LIBRARY):  # all others load it
                module_from_spec(_spec_of(name, path))
    except (ImportError, OSError) as error:
        return str(error)
    return ""


def modules_in(folder: Path) -> dict[str, Path]:
    """The extension modules in a folder, by the name they are imported by."""
    return {
        ".".join(path.relative_to(folder).parts).removesuffix(_SUFFIX): path for path in folder.rglob(f"*{_SUFFIX}")
    }


def use_compiled(root: Path = ROOT) -> bool:
    """Let the compiled modules of these sources be imported, if there are any, and say whether there are.

    To be called before any of those modules is imported.
    """
    folder = built(root) / fingerprint(root) if built(root).is_dir() else None
    modules = modules_in(folder) if folder is not None else {}
    early = sorted(modules.keys() & sys.modules.keys())
    assert not early, f"imported before their compiled ones were looked for: {early}"
    if folder is not None and modules and find_damage(folder):
        return False
    if modules:
        sys.meta_path.insert(0, _Finder(modules))
    return bool(modules)


def is_compiled() -> bool:
    """Whether this process runs compiled modules."""
    return not str(importlib.import_module("resolver.core").__file__).endswith(".py")


def program() -> str:
    """What this process runs, for people: `compiled`, or `plain Python` and why."""
    if is_compiled():
        return "compiled"
    if not built().is_dir():
        return "plain Python, slower: nothing is compiled; `make setup` does it where there is a C compiler"
    if not (built() / fingerprint()).is_dir():
        return "plain Python, slower: the sources have changed since they were compiled; `make setup` does it again"
    damage = find_damage(built() / fingerprint())
    if damage:
        return f"plain Python, slower: the compiled modules cannot be used ({damage}); remove build, then `make setup`"
    return "plain Python, slower: the compiled modules were not asked for"


class _Finder(MetaPathFinder):
    """Finds compiled modules by name, before anybody looks for their sources."""

    def __init__(self, modules: Mapping[str, Path]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = self._modules.get(fullname)
        if found is None:
            return None
        return _spec_of(fullname, found)


def _spec_of(name: str, path: Path) -> ModuleSpec:
    spec = spec_from_file_location(name, path, loader=ExtensionFileLoader(name, str(path)))
    assert spec is not None, "it has a loader"
    return spec
