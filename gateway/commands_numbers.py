"""`sendpool numbers import` and `export`: the inventory as CSV files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TimeRemainingColumn

from gateway.clock import SystemClock
from gateway.commands import Config, Data, settings_of, with_stores
from gateway.fields import BadSetting
from gateway.number_files import BadLine, Imported, export_numbers, import_numbers
from gateway.stores import Stores
from resolver.model import AccountId

SHOWN_MAX: Final = 20
"""Bad lines that are shown where no file is named for them."""
SOME_BAD: Final = 1


def import_file(
    file: Annotated[Path, typer.Argument(help="CSV; its first line names the columns: see docs/numbers.md.")],
    account: Annotated[str, typer.Option(help="Make the numbers this account's (auth_id) at once.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, store nothing.")] = False,
    errors: Annotated[Path | None, typer.Option(help="A file for what is wrong with which line.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Put numbers into the inventory, for accounts to rent; lines that are wrong are named and left out."""
    settings = settings_of(data, config)
    with ExitStack() as stack:
        lines, advance = _lines_of(file, stack)
        said = stack.enter_context(_opened(errors, "w")) if errors is not None else None
        shown = _Shown(said)

        async def work(stores: Stores) -> Imported:
            return await import_numbers(
                stores.catalog, lines, carriers=settings.carriers, account_id=AccountId(account) if account else None,
                now_ms=SystemClock().now_ms(), is_rehearsal=dry_run, on_bad=shown, on_stretch=advance,
            )  # fmt: skip

        done = with_stores(settings, work)
    shown.end()
    good = done.lines - done.bad
    if dry_run:
        typer.echo(f"{done.lines} lines: {good} good, {done.bad} bad; nothing was stored")
    else:
        went = f", {done.rented} of them now of account {account}" if account else ""
        typer.echo(
            f"{done.lines} lines: {done.changed} stored, {good - done.changed} as they were{went}, {done.bad} bad"
        )
    if done.bad:
        sys.exit(SOME_BAD)


def export_file(
    file: Annotated[str, typer.Argument(help="CSV to write; - is standard output.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Write the whole inventory, with what accounts have rented of it, as `import` reads it."""
    settings = settings_of(data, config)
    if file == "-":
        with_stores(settings, lambda stores: export_numbers(stores.catalog, sys.stdout))
        return
    path, half = Path(file), Path(f"{file}.new")
    with _opened(half, "w") as out:
        count = with_stores(settings, lambda stores: export_numbers(stores.catalog, out))
    half.replace(path)
    typer.echo(f"{count} numbers written to {path}")


class _Shown:
    """Tells of bad lines: all of them in a file, or the first few on standard error."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file, self._count = file, 0

    def __call__(self, bad: BadLine) -> None:
        self._count += 1
        if self._file is not None:
            self._file.write(f"{bad.line}: {bad.why}\n")
        elif self._count <= SHOWN_MAX:
            typer.echo(f"line {bad.line}: {bad.why}", err=True)

    def end(self) -> None:
        if self._file is None and self._count > SHOWN_MAX:
            typer.echo(f"and {self._count - SHOWN_MAX} more; --errors FILE has them all", err=True)


def _opened(path: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode, encoding="utf-8", errors="replace", newline="")
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from error


def _lines_of(path: Path, stack: ExitStack) -> tuple[Iterator[str], Callable[[], None]]:
    """The file's lines, and what shows on a terminal how far they are read."""
    file = stack.enter_context(_opened(path, "r"))
    if not sys.stderr.isatty():
        return iter(file), lambda: None
    bars = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*bars, console=Console(stderr=True), transient=True))
    task = progress.add_task("", total=path.stat().st_size)
    return iter(file), partial(_advance, progress, task, file)


def _advance(progress: Progress, task: TaskID, file: IO[str]) -> None:
    progress.update(task, completed=os.lseek(file.fileno(), 0, os.SEEK_CUR))
