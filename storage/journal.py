"""The journal: many entries, one commit. What gathered while the last commits ran is committed next.

Invariants
* An answer of COMMITTED follows a COMMIT that PostgreSQL confirmed with `synchronous_commit` on, or a row found there.
* Every entry is settled exactly once, with the truth: first `on_settled`, synchronously, in append order inside a
  batch, then its future. A waiter may be told before that nothing is known in time (OutcomeUnknown), or be gone. Only
  where the journal ends before the truth can be known is it never told: the next process finds it.
* Two connections commit, each its own batches, so a later batch may be stored before an earlier one. Order is explicit:
  batch numbers count in append order, and readers order by (epoch, batch). What must not be stored without what came
  before it waits for that to be committed, or shares its entry (a claim and its `sent`); what is left is order-free,
  since a final state never goes back. A batch that was split for a poisoned entry gets new numbers.
* Of two entries with one idempotency key the second waits here for the first, so transactions never wait for one
  another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Self

import structlog

from storage.backlog import JournalLimits, OnSettled, Ticket
from storage.database import Database
from storage.feed import Feed
from storage.records import Entry, EpochLost, JournalUnavailable, OutcomeUnknown, Settled
from storage.transaction import Batch
from storage.writer import Writer

log = structlog.get_logger(__name__)

LIMITS = JournalLimits()
WRITERS = 2
COMMIT_SHARE = 0.2
"""What the latest commit says about how long one takes."""
WATCH_MS = 50
"""How often it is looked whether the server owes an answer for too long."""


class Journal:
    """The port to durability. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], int],
        limits: JournalLimits = LIMITS,
        on_commit: Callable[[int, float], object] = lambda _rows, _ms: None,
    ) -> None:
        assert database.epoch > 0, "only the owner of the epoch writes"
        self._clock = clock
        self._limits = limits
        self._feed = Feed(limits)
        self._backlog = self._feed.backlog
        self._writers = [Writer(self, database, limits, clock) for _ in range(WRITERS)]
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = count(1)
        self._keys: dict[tuple[str, str], list[Ticket]] = {}  # under way -> those that wait for how it ends
        self._change_waiters: list[asyncio.Future[None]] = []
        self._watching: asyncio.TimerHandle | None = None
        self._is_leaving = False
        self._on_commit = on_commit
        self._commit_s = 0.0  # of one batch, lately
        self.ready = False
        """Whether `append` takes anything: a connection stands and answers, and the epoch is ours."""
        self.lost = asyncio.Event()
        """Set when this process must end: another one owns the database, or the journal broke."""
        self.lost_reason: BaseException | None = None

    # -- what others see ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin; answers once a connection stands, or the epoch is lost."""
        for writer in self._writers:
            task = asyncio.create_task(writer.run(), name="journal writer")
            task.add_done_callback(self._writer_ended)
            self._tasks.append(task)
        self._watch()
        while not self.ready and not self.lost.is_set():
            await self._next_change()

    async def stop(self) -> None:
        """Take nothing more, commit what waits, within `drain_ms_max`. What is unknown then stays so."""
        self._leave()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.drain_ms_max / 1_000)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._watching is not None:
            self._watching.cancel()
        self._abandon(None)

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        """Take an entry of at least one row, which nobody changes from now on. Costs about 2 µs.

        Raises JournalUnavailable, JournalFull, EpochLost at once, before anything is taken. The future answers how it
        ended, or raises OutcomeUnknown; EpochLost where nothing of it is stored for that reason.
        """
        if not self.ready:
            if self.owns_epoch:
                raise JournalUnavailable("the database is away")
            raise EpochLost(str(self.lost_reason))
        ticket = self._backlog.admit(entry, on_settled, asyncio.get_running_loop().create_future())
        if ticket.key is not None:
            others = self._keys.get(ticket.key)
            if others is not None:
                others.append(ticket)
                return ticket.future
            self._keys[ticket.key] = []
        self._feed.put(ticket)
        return ticket.future

    async def wait_ready(self, ms_max: int) -> bool:
        """Wait until `append` takes something, while the server has not been away for `ms_max` in all."""
        deadline_ms = self._clock() + ms_max - self.away_ms(self._clock())
        while not self.ready and not self._is_leaving:
            left_ms = deadline_ms - self._clock()
            if left_ms <= 0:
                break
            try:
                async with asyncio.timeout(left_ms / 1_000):
                    await self._next_change()
            except TimeoutError:
                break
        return self.ready

    @property
    def owns_epoch(self) -> bool:
        """False as soon as another owner is known."""
        return not isinstance(self.lost_reason, EpochLost)

    def away_ms(self, now_ms: int) -> int:
        """How long the server has owed all writers an answer: a few while it commits, 0 while nothing is under way."""
        return min(writer.silent_ms(now_ms) for writer in self._writers)

    @property
    def waiting_rows(self) -> int:
        """Rows that are not settled yet."""
        return self._backlog.rows

    def wait_ms(self, account_id: str) -> float:
        """About how long what this account appends now would wait before its own batch begins; 0 mostly."""
        ahead = self._backlog.batches_ahead(account_id)
        return ahead * self._commit_s * 1_000 / WRITERS if ahead else 0.0

    # -- what the writers see -----------------------------------------------------------------------------------------

    async def next_batch(self, writer: Writer) -> Batch | None:
        tickets = await self._feed.take(writer)
        return self.new_batch(tickets) if tickets is not None else None

    def new_batch(self, tickets: list[Ticket]) -> Batch:
        return Batch(next(self._numbers), tickets)

    def settle(self, ticket: Ticket, settled: Settled, error: Exception | None = None) -> None:
        if ticket.is_settled:
            return
        self._backlog.free(ticket)
        ticket.settle(settled, error)
        if ticket.key is not None:
            self._free_key(ticket.key, settled)

    def stored(self, rows: int, took_s: float) -> None:
        self._commit_s += (took_s - self._commit_s) * COMMIT_SHARE
        self._on_commit(rows, took_s * 1_000)

    def woken(self, writer: Writer) -> None:
        self._feed.release(writer)

    def changed(self) -> None:
        was_ready = self.ready
        self.ready = (
            not self._is_leaving
            and any(writer.is_connected for writer in self._writers)
            and self.away_ms(self._clock()) < self._limits.stall_ms_max
        )
        if self.ready is not was_ready:
            log.info("journal ready" if self.ready else "journal not ready")
        waiters, self._change_waiters = self._change_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def lose_epoch(self, error: EpochLost) -> None:
        if not self.lost.is_set():
            log.error("epoch lost", reason=str(error))
            self._lose(error)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _next_change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._change_waiters.append(waiter)
        await waiter

    def _free_key(self, key: tuple[str, str], settled: Settled) -> None:
        """Those who waited for a key: it is taken now, or the first of them tries."""
        others = self._keys.pop(key, None)
        if not others:
            return
        if settled in (Settled.COMMITTED, Settled.REPLAYED):
            for ticket in others:
                self.settle(ticket, Settled.REPLAYED)
        else:
            self._keys[key] = others[1:]
            self._feed.put(others[0])

    def _watch(self) -> None:
        """Answer those who have waited long enough for a silent server, and see that `ready` is true."""
        now_ms = self._clock()
        for writer in self._writers:
            if writer.begun and writer.silent_ms(now_ms) >= self._limits.unknown_ms_max:
                for batch in writer.begun:
                    self._give_up(batch, None)
        if self._backlog and self.away_ms(now_ms) >= self._limits.unknown_ms_max:
            self._fail_waiting(None)
        self.changed()
        self._watching = asyncio.get_running_loop().call_later(WATCH_MS / 1_000, self._watch)

    def _give_up(self, batch: Batch, error: Exception | None) -> None:
        """Hold its answers no longer: it failed, or nobody knows yet."""
        if batch.is_given_up:
            return
        batch.is_given_up = True
        for ticket in batch.tickets:
            if not batch.is_unknown:
                self.settle(ticket, Settled.FAILED, error)
                continue
            ticket.answer(OutcomeUnknown("the connection was lost in COMMIT"))
            if ticket.key is not None:
                others, self._keys[ticket.key] = self._keys[ticket.key], []
                for other in others:
                    self.settle(other, Settled.FAILED, error)

    def _fail_waiting(self, error: Exception | None) -> None:
        while self._backlog:  # a key that becomes free lets another one in
            for ticket in self._backlog.take_all():
                self.settle(ticket, Settled.FAILED, error)

    def _abandon(self, error: Exception | None) -> None:
        for writer in self._writers:
            for batch in writer.begun:
                self._give_up(batch, error)
        self._fail_waiting(error)

    def _leave(self) -> None:
        self._is_leaving = True
        for writer in self._writers:
            writer.is_leaving = True
            self._feed.release(writer)
        self.changed()

    def _lose(self, reason: BaseException) -> None:
        """This process is to end: take nothing more and fail what waits."""
        self.lost_reason = reason
        self._leave()
        self._fail_waiting(self._reason())
        self.lost.set()

    def _reason(self) -> Exception | None:
        return EpochLost(str(self.lost_reason)) if not self.owns_epoch else None

    def _writer_ended(self, task: asyncio.Task[None]) -> None:
        error = task.exception() if not task.cancelled() else None
        if error is not None and not self.lost.is_set():
            log.critical("journal broke", exc_info=error)
            self._lose(error)
        if self.lost.is_set() and all(each.done() for each in self._tasks):
            self._abandon(self._reason())
