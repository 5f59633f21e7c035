"""One real PostgreSQL for all tests: Sendpool's own embedded server in a temporary folder, a database per test.

A migrated template is made once and copied for each test. The server lives in a loop of its own, in a thread, since the
tests' loops end with their test.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from storage.database import Database
from storage.embedded import EmbeddedServer, embedded_server

_Result = TypeVar("_Result")

TEMPLATE = "template_sendpool"
CALL_S_MAX = 60


class Postgres:
    """The server, and fresh databases on it. Its methods may be called from any thread but its own."""

    def __init__(self, server: EmbeddedServer, data_dir: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.data_dir = server, data_dir
        self.url = server.url  # for making databases; tests use one of their own
        self._loop, self._names = loop, itertools.count(1)

    def database_url(self, name: str) -> str:
        return self.url.replace("@/sendpool?", f"@/{name}?")

    def create(self, *, template: str = "template0") -> str:
        """A new database; its name."""
        name = f"test_{next(self._names)}"
        self.run(self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        return name

    def drop(self, name: str) -> None:
        self.run(self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S_MAX)

    async def make_template(self) -> None:
        await self._execute(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE template0')
        database = await Database.open(self.database_url(TEMPLATE))
        try:
            await database.migrate()
        finally:
            await database.close()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="the test server's loop")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The server with its template, stopped and removed afterwards."""
    data_dir = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    data_dir.chmod(0o755)  # for root's server, which another user runs
    stack = AsyncExitStack()
    try:
        with running_loop() as loop:
            try:
                start = stack.enter_async_context(embedded_server(data_dir))
                postgres = Postgres(asyncio.run_coroutine_threadsafe(start, loop).result(), data_dir, loop)
                postgres.run(postgres.make_template())
                yield postgres
            finally:
                asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
