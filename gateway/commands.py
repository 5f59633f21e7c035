"""What every command needs: its settings, what is stored, logs on standard error, a table to print."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from gateway import demo
from gateway.logs import configure_logs
from gateway.settings import Settings, read_settings
from gateway.stores import Stores, find_owner, open_stores

T = TypeVar("T")

Config = Annotated[Path | None, typer.Option("--config", help="Settings file; else ./sendpool.toml if there is one.")]
Data = Annotated[Path | None, typer.Option("--data", help="Data folder [./data].")]


def settings_of(data: Path | None, config: Path | None) -> Settings:
    """Settings for a command; in a demo's data folder those that `serve --demo` has."""
    flags: dict[str, object] = {"storage.data": data}
    settings = read_settings(flags, config=config)
    if (settings.storage.data / demo.FILE).exists():
        settings = read_settings({**flags, "server.demo": True}, config=config)
    return settings


@contextmanager
def logging_to_stderr(settings: Settings, *, level: str = "warning") -> Iterator[None]:
    """Log to standard error; commands only what went wrong."""
    wish = settings.log.format
    is_console = sys.stderr.isatty() if wish == "auto" else wish == "console"
    sink = configure_logs(sys.stderr, level=level, console=is_console)
    try:
        yield
    finally:
        sink.close()


def with_stores(settings: Settings, work: Callable[[Stores], Awaitable[T]]) -> T:
    """Do `work` on what is stored; a PostgreSQL that was started for it stops again."""

    async def run() -> T:
        async with open_stores(settings.storage) as stores:
            done = await work(stores)
            if stores.server is not None and (await find_owner(stores.database))[1]:
                stores.server.stop_on_exit = False  # a gateway has begun to use the server we had started
            return done

    with logging_to_stderr(settings):
        return asyncio.run(run())


def print_table(head: str, rows: list[tuple[str, ...]]) -> None:
    """For people a table, for programs tab-separated lines with the same columns."""
    if not sys.stdout.isatty():
        for row in [tuple(head.split()), *rows]:
            typer.echo("\t".join(row))
        return
    table = Table(*head.split(), box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
