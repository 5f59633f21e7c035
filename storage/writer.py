"""One of the journal's two writers: holds a connection, stores batch after batch on it, settles what a cut left open.

What a lost connection means for the batch under way:

    COMMIT not sent yet     nothing is stored: it is sent again, on the next connection
    COMMIT sent             unknown: found in the database ─► committed
                            not found, the old server process gone ─► it is sent again, the same rows and number
                            not found, the old process alive ─► it is told to end, and looked for again
    longer than the answer may be held
                            not sent ─► failed; unknown ─► its waiters hear so, and the truth follows when it is known
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import asyncpg
import structlog

from storage.backlog import JournalLimits, Ticket
from storage.database import Database
from storage.records import EpochLost, Settled, StorageError
from storage.transaction import POISON, Batch, JournalConnection

log = structlog.get_logger(__name__)

CONNECT_MS_MAX = 2_000
LOOK_AGAIN_MS = 20

LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises besides bad data. TimeoutError is an OSError; its own confusion is a dying connection's."""


class Desk(Protocol):
    """What a writer needs of the journal."""

    async def next_batch(self, writer: Writer) -> Batch | None:
        """The next batch, once there is one; None when the writer's connection is gone or its work is over."""

    def new_batch(self, tickets: list[Ticket]) -> Batch: ...

    def settle(self, ticket: Ticket, settled: Settled) -> None:
        """It is known how an entry ended; nothing happens if it was known before."""

    def stored(self, rows: int, took_s: float) -> None:
        """A batch was committed, and how long that took."""

    def woken(self, writer: Writer) -> None:
        """Its connection is gone, so it need not wait for work."""

    def changed(self) -> None:
        """A connection was made or lost, or an overdue answer came."""

    def lose_epoch(self, error: EpochLost) -> None: ...


class _ConnectionLost(Exception):
    """The connection cannot be used any more."""


class Writer:
    """See above. `begun` holds what it took and has not settled; the last is stored next."""

    def __init__(self, desk: Desk, database: Database, limits: JournalLimits, clock: Callable[[], int]) -> None:
        self._desk = desk
        self._database = database
        self._limits = limits
        self._clock = clock
        self._connection: JournalConnection | None = None
        self._silent_since_ms: int | None = clock()  # a connection, or an answer, is owed since then
        self.begun: list[Batch] = []
        self.is_leaving = False

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.is_lost

    def silent_ms(self, now_ms: int) -> int:
        """How long the server has owed it a connection or an answer; 0 while it owes nothing."""
        return max(0, now_ms - self._silent_since_ms) if self._silent_since_ms is not None else 0

    async def run(self) -> None:
        """Write until told to leave, or the epoch is lost."""
        try:
            while not self.is_leaving:
                connection = await self._connect()
                if connection is None:
                    return
                try:
                    await self._write(connection)
                    await connection.close()
                except _ConnectionLost as error:
                    log.warning("journal connection lost", reason=repr(error.__cause__))
                finally:
                    connection.cut()
                    self._connection = None
                    self._owes()
                    self._desk.changed()
        except EpochLost as error:
            self._desk.lose_epoch(error)

    async def _connect(self) -> JournalConnection | None:
        """A connection, however long it takes; None when it is not wanted any more. Raises EpochLost."""
        is_first = True
        while not self.is_leaving:
            try:
                async with asyncio.timeout(CONNECT_MS_MAX / 1_000):
                    self._connection = await JournalConnection.open(self._database, self._on_lost)
            except EpochLost:
                raise
            except (StorageError, *LOST) as error:
                if is_first:
                    log.warning("journal cannot connect", reason=str(error))
                is_first = False
                await asyncio.sleep(self._limits.retry_ms / 1_000)
                continue
            self._answered()
            self._desk.changed()
            return self._connection
        return None

    async def _write(self, connection: JournalConnection) -> None:
        """Store batches until there are none to come. Raises _ConnectionLost, EpochLost."""
        while True:
            if not self.begun:
                batch = await self._desk.next_batch(self)
                if batch is None:
                    if connection.is_lost:
                        raise _ConnectionLost
                    return
                self.begun.append(batch)
            self._owes()
            try:
                async with asyncio.timeout(self._limits.statement_ms_max / 1_000):
                    await self._advance(connection, self.begun[-1])
            except LOST as error:
                raise _ConnectionLost from error
            self._answered()

    async def _advance(self, connection: JournalConnection, batch: Batch) -> None:
        """One step with a batch: it is settled, split, or asked about once more."""
        if batch.is_unknown:
            await self._look_up(connection, batch)
        elif batch.is_given_up:
            self._settled(batch, Settled.FAILED)
        else:
            await self._store(connection, batch)

    async def _store(self, connection: JournalConnection, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await connection.fill(batch, self._replayed)
        except POISON as error:
            await connection.roll_back()
            self._split(batch, error)
            return
        except asyncpg.PostgresError as error:
            if connection.is_lost:
                raise
            await connection.roll_back()
            log.error("journal transaction refused", reason=str(error), rows=sum(each.rows for each in batch.tickets))
            self._settled(batch, Settled.FAILED)
            return
        if batch.is_given_up or not batch.tickets:
            await connection.roll_back()
            self._settled(batch, Settled.FAILED)
            return
        batch.backend = connection.backend  # from here on its outcome is unknown, until there is an answer
        await connection.commit()
        self._desk.stored(sum(each.rows for each in batch.tickets), loop.time() - began_s)
        self._settled(batch, Settled.COMMITTED)

    async def _look_up(self, connection: JournalConnection, batch: Batch) -> None:
        """Learn what became of a batch whose COMMIT was not answered.

        First whether its process is gone: then nothing can follow, and what is not found then is not stored.
        """
        assert batch.backend is not None
        is_gone = not await connection.lives(batch.backend)
        if await connection.holds(batch):
            log.info("unanswered commit found", batch=batch.number)
            self._settled(batch, Settled.COMMITTED)
        elif not is_gone:
            await connection.end(batch.backend)
            await asyncio.sleep(LOOK_AGAIN_MS / 1_000)
        elif batch.is_given_up:
            log.info("unanswered commit did not happen", batch=batch.number)
            self._settled(batch, Settled.FAILED)
        else:
            batch.backend = None  # it did not happen: once more, with the same number

    def _split(self, batch: Batch, error: BaseException) -> None:
        """Some entry's data cannot be stored: find it by halves, so that only its own request fails."""
        if len(batch.tickets) == 1 or batch.is_given_up:
            log.warning("entry refused by the database", reason=type(error).__name__)
            self._settled(batch, Settled.POISONED)
            return
        middle = len(batch.tickets) // 2
        first, second = self._desk.new_batch(batch.tickets[:middle]), self._desk.new_batch(batch.tickets[middle:])
        self.begun[-1:] = [second, first]

    def _replayed(self, ticket: Ticket) -> None:
        self._desk.settle(ticket, Settled.REPLAYED)

    def _settled(self, batch: Batch, settled: Settled) -> None:
        assert self.begun.pop() is batch
        for ticket in batch.tickets:
            self._desk.settle(ticket, settled)

    def _on_lost(self) -> None:
        self._desk.woken(self)

    def _owes(self) -> None:
        if self._silent_since_ms is None:
            self._silent_since_ms = self._clock()

    def _answered(self) -> None:
        self._silent_since_ms = None
