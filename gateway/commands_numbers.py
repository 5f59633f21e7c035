"""`sendpool numbers import` and `export`: the inventory as CSV files."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.clock import SystemClock
from gateway.commands import Config, Data, settings_of, with_stores
from gateway.commands_files import Shown, lines_of, opened, written
from gateway.number_files import Imported, export_numbers, import_numbers
from gateway.stores import Stores
from resolver.model import AccountId

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
        lines, advance = lines_of(file, stack)
        said = stack.enter_context(opened(errors, "w")) if errors is not None else None
        shown = Shown(said)

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
    with written(file) as out:
        count = with_stores(settings, lambda stores: export_numbers(stores.catalog, out))
    if file != "-":
        typer.echo(f"{count} numbers written to {file}")
