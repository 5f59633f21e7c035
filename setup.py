"""Compiles the message path with mypyc: `make` into build/compiled/, pip into the wheel. The rest is in pyproject.toml.

All or nothing: where there is no C compiler, or no Python.h, nothing is compiled and everything works, slower.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import Command, Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))

from gateway.compiled import built, fingerprint, modules_in, write_sizes

# What is compiled. A module belongs here when messages spend their time in Python code of its own: it pays most where
# modules call each other and for classes with many fields, least where libraries do the work. It does not belong here
# when tests' fakes subclass its classes, or when it asks for `__file__`. CONTRIBUTING.md says what code mypyc needs;
# `python -m benchmarks.decide` and `benchmarks.accept`, with and without `--plain`, say whether it paid.
COMPILED = """
    resolver.model resolver.limits resolver.area_codes resolver.geography resolver.segments resolver.compliance
    resolver.windows resolver.links resolver.queues resolver.sticky resolver.preference resolver.groups resolver.pool
    resolver.pausing resolver.choosing resolver.alone resolver.trace resolver.expiries resolver.registry
    resolver.orphans resolver.memory resolver.rebinding resolver.core
    storage.records storage.backlog
    gateway.clock gateway.metrics gateway.submissions gateway.outbound
    gateway.bulks
    gateway.api.times gateway.api.router gateway.api.shapes_accepted gateway.api.requests gateway.api.sending
    gateway.api.lines gateway.api.shapes_bulk gateway.api.bulk_run gateway.api.intake gateway.api.credentials
    gateway.api.middleware
    gateway.carriers.carrier gateway.carriers.simulated
    gateway.awaiting gateway.facts gateway.deposits gateway.pace gateway.attempts gateway.departures gateway.hands
    gateway.claims gateway.lanes gateway.rows gateway.inbound
""".split()

# `make check` is strict about types; here they are translated, whatever libraries are installed beside.
MYPY = ("--config-file=", "--ignore-missing-imports", "--explicit-package-bases", "--cache-dir=build/mypy")


def extensions(folder: str) -> list[Extension]:
    """Translate the modules to C files in `folder`; one library and, for each module, a file that finds it there.

    A file of C for each module: in one file they take a C compiler three times as long.
    """
    from mypyc.build import mypycify

    paths = [name.replace(".", "/") + ".py" for name in COMPILED]
    said = StringIO()
    try:
        with redirect_stdout(said):
            found: list[Extension] = mypycify(
                [*MYPY, *paths], opt_level="2", debug_level="0", target_dir=folder, multi_file=True
            )
    except SystemExit as error:
        raise RuntimeError(said.getvalue()) from error
    return found


def can_compile() -> bool:
    """Whether there is a C compiler, and the header it needs."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


class CompiledDistribution(Distribution):
    """Its extensions are found when they are built: that takes seconds, and most commands do not need to know."""

    def has_ext_modules(self) -> bool:
        return can_compile()


class BuildCompiled(build_ext):
    """Build all extensions or, when one fails, none. Nothing beside the sources of an editable installation."""

    def finalize_options(self) -> None:
        self.distribution.ext_modules = []
        super().finalize_options()

    def run(self) -> None:
        if self.editable_mode:
            return
        self._clear()  # of an earlier build: what is newer than its headers would count as up to date
        try:
            build(self.distribution, self.build_lib, self.build_temp)
        except Exception as error:
            self.warn(f"compiling failed, so Sendpool will run as plain Python: {error}")
            self._clear()

    def _clear(self) -> None:
        for path in modules_in(Path(self.build_lib)).values():
            path.unlink()


class ParallelBuild(build_ext):
    """Compiles an extension's files on all cores."""

    def build_extension(self, ext: Extension) -> None:
        def compiled(source: str) -> list[str]:
            found: list[str] = self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=ext.extra_compile_args,
                depends=ext.depends,
            )
            return found

        with ThreadPoolExecutor(os.cpu_count()) as cores:
            for objects in cores.map(compiled, ext.sources):
                ext.extra_objects.extend(objects)
        ext.sources = []
        super().build_extension(ext)


def build(distribution: Distribution, lib: str, temp: str) -> None:
    """Compile everything into the folder `lib`; whatever is wrong is raised."""
    distribution.ext_modules = extensions(temp)
    builder = ParallelBuild(distribution)
    builder.build_lib, builder.build_temp = lib, temp
    builder.ensure_finalized()
    builder.run()


class Compile(Command):
    """`python setup.py compile`: compile these sources for running from this folder, unless that was done."""

    description = __doc__
    user_options = [("strict", None, "fail when compiling fails; not when there is no compiler")]  # noqa: RUF012
    boolean_options = ["strict"]  # noqa: RUF012

    def initialize_options(self) -> None:
        self.strict = False

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        folder = built() / fingerprint()
        if folder.is_dir():
            return
        if not can_compile():
            print("No C compiler or no Python.h here: nothing is compiled, Sendpool runs as plain Python, slower.")
            return
        print("Compiling the message path; this takes a minute.", flush=True)
        try:
            self._compile_into(folder)
        except Exception as error:
            if self.strict:
                raise
            print(f"Compiling failed, so Sendpool runs as plain Python, slower: {error}", file=sys.stderr)

    def _compile_into(self, folder: Path) -> None:
        """The folder appears whole or not at all; this Python's of other sources go."""
        built().mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=built().parent) as work:
            build(self.distribution, f"{work}/lib", f"{work}/temp")
            if fingerprint() != folder.name:
                raise RuntimeError("a source has changed meanwhile")
            shutil.rmtree(built())
            built().mkdir()
            write_sizes(Path(work, "lib"))
            Path(work, "lib").rename(folder)


setup(
    distclass=CompiledDistribution,
    cmdclass={"build_ext": BuildCompiled, "compile": Compile},
)
