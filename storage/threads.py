"""The sticky table, written behind memory: what changed goes there in batches, and a mark says how far it is true.

Invariants
* Every thread changed before the mark is in the table. So the table, and the decisions and hand-overs since the mark
  over it, are the threads as they were (storage/recovery.py).
* A thread may be in the table before the decision that made it is durable; without its message it is harmless.
* What could not be written is kept, the latest of each thread, and the mark stays where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from resolver.model import E164, PowerpackId
from resolver.sticky import ThreadRow
from storage.database import Database, DatabaseAway, Session
from storage.queries import QUERIES

log = structlog.get_logger(__name__)

FLUSH_EVERY_MS = 1_000
MARK_EVERY_MS = 60_000  # also when no thread changes, so that there is never much to replay
SWEEP_EVERY_MS = 3_600_000
PAGE_ROWS = 2_000
"""Threads of one statement: about 20 ms of the server's time."""

TakeChanged = Callable[[int], list[ThreadRow]]
"""Up to so many threads that changed since they were last asked for: the resolver's `threads_changed`."""


class ThreadKeeper:
    """Writes changed threads behind the resolver. Run it in a task; `flush` once more at the end."""

    def __init__(self, database: Database, take_changed: TakeChanged, *, clock: Callable[[], int]) -> None:
        self._database = database
        self._take_changed = take_changed
        self._clock = clock
        self._kept: dict[tuple[PowerpackId, E164], ThreadRow] = {}
        self._marked_ms = 0
        self._writing = asyncio.Lock()  # one flush at a time: it alone knows what is stored of what was taken
        self._swept_ms = clock()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_MS / 1_000)
            try:
                await self.flush()
                if self._clock() - self._swept_ms >= SWEEP_EVERY_MS:
                    await self.sweep()
            except DatabaseAway as error:
                log.warning("sticky threads cannot be written", kept=len(self._kept), reason=str(error))

    async def flush(self, *, moves_mark: bool = False) -> None:
        """Write all that has changed so far, and move the mark to now. Raises DatabaseAway; nothing is lost by it.

        The mark may stay where nothing has changed. `moves_mark`: not even then, since a flush that began before may
        have taken the change and left the mark behind it.
        """
        async with self._writing:
            mark_ms = self._clock()
            is_all = False
            while not is_all:
                page = self._take_changed(PAGE_ROWS)
                is_all = len(page) < PAGE_ROWS
                self._kept.update({(row.powerpack_id, row.recipient): row for row in page})
                if not self._kept and not moves_mark and mark_ms - self._marked_ms < MARK_EVERY_MS:
                    return
                async with self._database.side() as connection, connection.transaction():
                    await _store(connection, list(self._kept.values()))
                    if is_all:
                        await connection.execute(QUERIES["move_mark"], mark_ms)
                self._kept.clear()
            self._marked_ms = mark_ms

    async def keep(self) -> None:
        """`flush` that moves the mark in any case, for what was set by hand. Raises DatabaseAway."""
        await self.flush(moves_mark=True)

    async def sweep(self) -> None:
        """Forget threads that are dead in the table, too."""
        self._swept_ms = self._clock()
        async with self._database.side() as connection:
            await connection.execute(QUERIES["sweep_threads"], self._clock())


async def _store(connection: Session, rows: Sequence[ThreadRow]) -> None:
    stored = [row for row in rows if not row.gone]
    gone = [row for row in rows if row.gone]
    if stored:
        await connection.execute(
            QUERIES["store_threads"],
            [row.powerpack_id for row in stored],
            [row.recipient for row in stored],
            [row.number for row in stored],
            [row.detour or "" for row in stored],
            [row.used for row in stored],
            [row.last_ms for row in stored],
        )
    if gone:
        await connection.execute(
            QUERIES["drop_threads"], [row.powerpack_id for row in gone], [row.recipient for row in gone]
        )


async def read_mark(connection: Session) -> int:
    """The instant from which decisions must be replayed over the table."""
    return int(await connection.fetchval(QUERIES["read_mark"]) or 0)


async def thread_pages(connection: Session, *, now_ms: int) -> AsyncIterator[list[ThreadRow]]:
    """The living threads, the longest silent first, page by page. The connection must be in a transaction."""
    cursor = await connection.cursor(QUERIES["stream_threads"], now_ms)
    while page := await cursor.fetch(PAGE_ROWS):
        yield [
            ThreadRow(powerpack_id, recipient, number, detour or None, used, last_ms, False)
            for powerpack_id, recipient, number, detour, used, last_ms in page
        ]
