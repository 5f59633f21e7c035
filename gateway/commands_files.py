"""Files that commands read line by line and write whole: CSV in, with what is wrong in it told, and out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TimeRemainingColumn

from gateway.csv_lines import BadLine
from gateway.fields import BadSetting

SHOWN_MAX: Final = 20
"""Bad lines that are shown where no file is named for them."""


@contextmanager
def written(file: str) -> Iterator[IO[str]]:
    """A file to write, whole or not at all; `-` is standard output."""
    if file == "-":
        yield sys.stdout
        return
    half = Path(f"{file}.new")
    with opened(half, "w") as out:
        yield out
    half.replace(file)


class Shown:
    """Tells of bad lines: all of them in a file, or the first few at the end, when no progress is shown any more."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file, self._count = file, 0
        self._first: list[BadLine] = []

    def __call__(self, bad: BadLine) -> None:
        self._count += 1
        if self._file is not None:
            self._file.write(f"{bad.line}: {bad.why}\n")
        elif self._count <= SHOWN_MAX:
            self._first.append(bad)

    def end(self) -> None:
        for bad in self._first:
            typer.echo(f"line {bad.line}: {bad.why}", err=True)
        if self._file is None and self._count > SHOWN_MAX:
            typer.echo(f"and {self._count - SHOWN_MAX} more; --errors FILE has them all", err=True)


def opened(path: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode, encoding="utf-8", errors="replace", newline="")
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from error


def lines_of(path: Path, stack: ExitStack) -> tuple[Iterator[str], Callable[[], None]]:
    """The file's lines, and what shows on a terminal how far they are read."""
    file = stack.enter_context(opened(path, "r"))
    if not sys.stderr.isatty():
        return iter(file), lambda: None
    bars = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*bars, console=Console(stderr=True), transient=True))
    task = progress.add_task("", total=path.stat().st_size)
    return iter(file), partial(_advance, progress, task, file)


def _advance(progress: Progress, task: TaskID, file: IO[str]) -> None:
    progress.update(task, completed=os.lseek(file.fileno(), 0, os.SEEK_CUR))
