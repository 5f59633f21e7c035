"""The two journals and what surrounds them, so that one suite can ask the same of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from storage.backlog import JournalLimits, OnSettled
from storage.database import Database
from storage.journal import Journal
from storage.records import Entry, Settled
from storage.transaction import TABLES, Row
from tests.fakes.entries import NOW_MS
from tests.fakes.memory_journal import MemoryJournal, MemoryStore
from tests.fakes.proxy import Fate, Proxy, proxied

QUICK = JournalLimits(retry_ms=10)
"""Production's bounds, but that a lost connection is made again at once."""
HASTY = replace(QUICK, unknown_ms_max=300)
"""Where somebody is to wait in vain."""


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class JournalPort(Protocol):
    """What the gateway's parts know of the journal."""

    lost: asyncio.Event

    @property
    def ready(self) -> bool: ...

    @property
    def owns_epoch(self) -> bool: ...

    @property
    def waiting_rows(self) -> int: ...

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]: ...

    def away_ms(self, now_ms: int) -> int: ...

    async def wait_ready(self, ms_max: int) -> bool: ...

    async def stop(self) -> None: ...


class World(Protocol):
    """One journal, and the faults it is exposed to."""

    @property
    def journal(self) -> JournalPort: ...

    def next_commit(self, fate: Fate, *, and_leave: bool = False) -> None:
        """What becomes of the next COMMIT, and whether the database is away from then on."""

    def go_away(self) -> None: ...

    def come_back(self) -> None: ...

    async def take_over(self) -> None:
        """Another process becomes the owner, without ending anybody's sessions."""

    async def rows(self, table: str) -> list[Row]:
        """What is stored, in the order of (epoch, batch) where there is one."""

    async def keys(self) -> list[str]: ...


class MemoryWorld:
    def __init__(self, limits: JournalLimits) -> None:
        self._store = MemoryStore()
        self.journal = MemoryJournal(self._store, clock=wall_ms, limits=limits)

    def next_commit(self, fate: Fate, *, and_leave: bool = False) -> None:
        self.journal.fates.append(fate)
        self.journal.leaves_with_fate = and_leave

    def go_away(self) -> None:
        self.journal.go_away()

    def come_back(self) -> None:
        self.journal.come_back()

    async def take_over(self) -> None:
        self._store.take_over()

    async def rows(self, table: str) -> list[Row]:
        is_numbered = next(each.is_numbered for each in TABLES if each.name == table)
        rows = self._store.tables[table]
        return sorted(rows, key=lambda row: row[-2:]) if is_numbered else rows

    async def keys(self) -> list[str]:
        return [key for _, key in self._store.keys]


class PostgresWorld:
    def __init__(self, journal: Journal, proxy: Proxy, database: Database) -> None:
        self.journal = journal
        self._proxy, self._database = proxy, database

    def next_commit(self, fate: Fate, *, and_leave: bool = False) -> None:
        self._proxy.fates.append(fate)
        self._proxy.leaves_with_fate = and_leave

    def go_away(self) -> None:
        self._proxy.go_away()

    def come_back(self) -> None:
        self._proxy.come_back()

    async def take_over(self) -> None:
        async with self._database.side() as connection:
            await connection.execute("UPDATE lease SET epoch = epoch + 1, owner = 'another process'")

    async def rows(self, table: str) -> list[Row]:
        known = next(each for each in TABLES if each.name == table)
        order = " ORDER BY epoch, batch" if known.is_numbered else ""
        async with self._database.side() as connection:
            found = await connection.fetch(f"SELECT {', '.join(known.columns)} FROM {table}{order}")
        return [tuple(row) for row in found]

    async def keys(self) -> list[str]:
        async with self._database.side() as connection:
            return [row["key"] for row in await connection.fetch("SELECT key FROM idempotency")]


@asynccontextmanager
async def memory_world(limits: JournalLimits) -> AsyncIterator[World]:
    world = MemoryWorld(limits)
    yield world
    await world.journal.stop()


@asynccontextmanager
async def postgres_world(database_url: str, limits: JournalLimits) -> AsyncIterator[World]:
    """The journal behind a proxy; what the test reads takes the direct road."""
    async with proxied(database_url) as proxy:
        direct = await Database.open(database_url)
        owner = await Database.open(proxy.url)
        await owner.take_over(owner="the test", now_ms=NOW_MS, force=True)
        journal = Journal(owner, clock=wall_ms, limits=limits)
        try:
            await journal.start()
            yield PostgresWorld(journal, proxy, direct)
        finally:
            proxy.come_back()
            await journal.stop()
            await owner.close()
            await direct.close()
