"""`sendpool operators`: which network recipients belong to, as a CSV file of prefixes."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.clock import SystemClock
from gateway.commands import Config, Data, settings_of, with_stores
from gateway.commands_files import Shown, lines_of, opened, written
from gateway.operators import ImportedPrefixes, export_operators, import_operators
from gateway.stores import Stores

SOME_BAD: Final = 1

operators = typer.Typer(help="Which network recipients belong to, for operator rules.", no_args_is_help=True)


@operators.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV; its first line is: prefix,operator.")],
    replace: Annotated[bool, typer.Option("--replace", help="Drop what the file does not name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, store nothing.")] = False,
    errors: Annotated[Path | None, typer.Option(help="A file for what is wrong with which line.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Put prefixes into the table; of those a number begins with the longest counts."""
    settings = settings_of(data, config)
    with ExitStack() as stack:
        lines, advance = lines_of(file, stack)
        shown = Shown(stack.enter_context(opened(errors, "w")) if errors is not None else None)

        async def work(stores: Stores) -> ImportedPrefixes:
            return await import_operators(
                stores.catalog,
                lines,
                now_ms=SystemClock().now_ms(),
                replaces=replace,
                is_rehearsal=dry_run,
                on_bad=shown,
                on_stretch=advance,
            )

        done = with_stores(settings, work)
    shown.end()
    stored = "nothing was stored" if dry_run else f"{done.dropped} others dropped"
    typer.echo(f"{done.lines} lines: {done.lines - done.bad} good, {done.bad} bad; {stored}")
    if done.bad:
        sys.exit(SOME_BAD)


@operators.command("export")
def export_file(
    file: Annotated[str, typer.Argument(help="CSV to write; - is standard output.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Write the whole table, as `import` reads it."""
    with written(file) as out:
        count = with_stores(settings_of(data, config), lambda stores: export_operators(stores.catalog, out))
    if file != "-":
        typer.echo(f"{count} prefixes written to {file}")
