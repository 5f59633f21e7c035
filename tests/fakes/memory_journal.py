"""The journal's twin in memory: the same port and promises, for simulations; tests/contract holds it to them.

What is stored lives in a `MemoryStore`, which outlives the journal: a crash drops the journal and whatever it had not
committed, and the next one begins with the next epoch on the same store. Time is the loop's, so a virtual loop works.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import count

from storage.backlog import Backlog, JournalLimits, OnSettled, Ticket
from storage.records import Entry, EpochLost, IdempotencyRow, JournalUnavailable, OutcomeUnknown, Settled
from storage.transaction import TABLES, Row
from tests.fakes.proxy import Fate

UNIQUE = {"messages": 1, "bodies": 1, "outcomes": 1, "callbacks": 1, "bulk_stretches": 2}
"""Tables with a primary key, and how many of their first columns it is."""


class MemoryStore:
    """What a database would hold."""

    def __init__(self) -> None:
        self.epoch = 0
        self.tables: dict[str, list[Row]] = defaultdict(list)
        self.keys: dict[tuple[str, str], IdempotencyRow] = {}
        self._taken: set[tuple[str, object]] = set()

    def take_over(self) -> int:
        self.epoch += 1
        return self.epoch

    def is_poison(self, entry: Entry) -> bool:
        """Whether PostgreSQL would refuse its data."""
        rows = [(table.name, row) for table in TABLES for row in table.rows(entry)]
        if entry.idempotency is not None:
            rows.append(("idempotency", entry.idempotency))
        return any(
            (name in UNIQUE and (name, row[: UNIQUE[name]]) in self._taken) or not all(map(_is_storable, row))
            for name, row in rows
        )

    def add(self, entry: Entry, mark: tuple[int, int]) -> None:
        for table in TABLES:
            for row in table.rows(entry):
                self.tables[table.name].append(row + mark if table.is_numbered else row)
                if table.name in UNIQUE:
                    self._taken.add((table.name, row[: UNIQUE[table.name]]))
        if entry.idempotency is not None:
            self.keys[entry.idempotency.account_id, entry.idempotency.key] = entry.idempotency


def _is_storable(value: object) -> bool:
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return False
            return "\0" not in value
        case int():
            return -(2**63) <= value < 2**63
        case list():
            return all(map(_is_storable, value))
    return True


class _Flight:
    """A batch under way."""

    def __init__(self, number: int, tickets: list[Ticket]) -> None:
        self.number = number
        self.tickets = tickets
        self.is_sent = self.is_stored = self.is_given_up = False


class MemoryJournal:
    """See above. `commit_ms` is how long a commit takes; `fates` are those of the next commits, one each."""

    def __init__(
        self,
        store: MemoryStore,
        *,
        clock: Callable[[], int],
        limits: JournalLimits = JournalLimits(),  # noqa: B008 - frozen
        commit_ms: int = 1,
        reconnect_ms: int = 5,
        connections: int = 2,
    ) -> None:
        self._store, self._clock, self._limits = store, clock, limits
        self._commit_s, self._reconnect_s, self._connections = commit_ms / 1_000, reconnect_ms / 1_000, connections
        self._epoch = store.take_over()
        self._backlog = Backlog(limits)
        self._numbers = count(1)
        self._flights: list[_Flight] = []
        self._keys: dict[tuple[str, str], list[Ticket]] = {}
        self._open: set[asyncio.Future[Settled]] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._away_since_ms: int | None = None
        self._is_crashed = self._is_leaving = False
        self.fates: deque[Fate] = deque()
        self.leaves_with_fate = False  # the server is away from the next commit on that does not simply pass
        self.lost = asyncio.Event()
        self.lost_reason: BaseException | None = None

    # -- the port -----------------------------------------------------------------------------------------------------

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Commit what waits; what cannot be within `drain_ms_max` has failed."""
        self._is_leaving = True
        self._tell_waiters()
        if self._open:
            await asyncio.wait(self._open, timeout=self._limits.drain_ms_max / 1_000)
        for flight in list(self._flights):
            self._give_up(flight)
        self._fail_waiting()
        self._is_crashed = True

    @property
    def ready(self) -> bool:
        return self._away_since_ms is None and not (self._is_leaving or self._is_crashed or self.lost.is_set())

    @property
    def owns_epoch(self) -> bool:
        return self.lost_reason is None

    @property
    def waiting_rows(self) -> int:
        return self._backlog.rows

    def away_ms(self, now_ms: int) -> int:
        return 0 if self._away_since_ms is None else now_ms - self._away_since_ms

    async def wait_ready(self, ms_max: int) -> bool:
        left_ms = ms_max - self.away_ms(self._clock())
        try:
            async with asyncio.timeout(max(0, left_ms) / 1_000):
                while not self.ready and not self._is_leaving and not self.lost.is_set():
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            pass
        return self.ready

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        if not self.ready:
            raise JournalUnavailable if self.owns_epoch else EpochLost
        ticket = self._backlog.admit(entry, on_settled, asyncio.get_running_loop().create_future())
        self._open.add(ticket.future)
        ticket.future.add_done_callback(self._open.discard)
        if ticket.key is not None:
            if ticket.key in self._keys:
                self._keys[ticket.key].append(ticket)
                return ticket.future
            self._keys[ticket.key] = []
        self._push(ticket)
        return ticket.future

    # -- faults -------------------------------------------------------------------------------------------------------

    def go_away(self) -> None:
        """The server is gone; what is under way waits for it."""
        if self._away_since_ms is None:
            self._away_since_ms = self._clock()
            self._later(self._limits.unknown_ms_max / 1_000, self._fail_waiting)

    def come_back(self) -> None:
        self._away_since_ms = None
        self._tell_waiters()
        for flight in self._flights:
            self._later(self._reconnect_s, self._go_on, flight)
        self._later(0, self._begin)

    def crash(self) -> None:
        """The process is gone: nobody hears of anything any more."""
        self._is_crashed = True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _later(self, wait_s: float, call: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(wait_s, lambda: None if self._is_crashed else call(*arguments))

    def _tell_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _push(self, ticket: Ticket) -> None:
        self._backlog.push(ticket)
        self._later(0, self._begin)

    def _begin(self) -> None:
        if self._backlog and len(self._flights) < self._connections and self._away_since_ms is None:
            self._fly(self._backlog.take())

    def _fly(self, tickets: list[Ticket]) -> None:
        flight = _Flight(next(self._numbers), tickets)
        self._flights.append(flight)
        self._later(self._limits.unknown_ms_max / 1_000, self._give_up, flight)
        self._later(self._commit_s, self._go_on, flight)

    def _go_on(self, flight: _Flight) -> None:
        if self._away_since_ms is not None or flight not in self._flights:
            return
        if flight.is_sent:
            self._look_up(flight)
        else:
            self._commit(flight)

    def _look_up(self, flight: _Flight) -> None:
        if flight.is_stored:
            self._land(flight, Settled.COMMITTED)
        elif flight.is_given_up:
            self._land(flight, Settled.FAILED)
        else:
            flight.is_sent = False
            self._commit(flight)

    def _commit(self, flight: _Flight) -> None:
        if self._store.epoch != self._epoch:
            self._lose_epoch()
            return
        if flight.is_given_up:
            self._land(flight, Settled.FAILED)
            return
        for ticket in [each for each in flight.tickets if each.key in self._store.keys]:
            flight.tickets.remove(ticket)
            self._settle(ticket, Settled.REPLAYED)
        poisoned = [each for each in flight.tickets if self._store.is_poison(each.entry)]
        for ticket in poisoned:
            flight.tickets.remove(ticket)
            self._settle(ticket, Settled.POISONED)
        fate = self.fates.popleft() if self.fates else Fate.PASSES
        if fate is not Fate.PASSES and self.leaves_with_fate:
            self.leaves_with_fate = False
            self.go_away()
        flight.is_sent = fate is not Fate.NOT_SENT
        if fate in (Fate.PASSES, Fate.ANSWER_LOST, Fate.SILENT):
            for ticket in flight.tickets:
                self._store.add(ticket.entry, (self._epoch, flight.number))
            flight.is_stored = True
        if fate is Fate.PASSES:
            self._land(flight, Settled.COMMITTED)
        elif fate is Fate.SILENT:
            self._later(self._limits.statement_ms_max / 1_000, self._go_on, flight)
        else:
            self._later(self._reconnect_s, self._go_on, flight)

    def _land(self, flight: _Flight, settled: Settled) -> None:
        self._flights.remove(flight)
        for ticket in flight.tickets:
            self._settle(ticket, settled)
        self._begin()

    def _settle(self, ticket: Ticket, settled: Settled, error: Exception | None = None) -> None:
        if ticket.is_settled:
            return
        self._backlog.free(ticket)
        ticket.settle(settled, error)
        others = self._keys.pop(ticket.key, []) if ticket.key is not None else []
        if others and settled in (Settled.COMMITTED, Settled.REPLAYED):
            for other in others:
                self._settle(other, Settled.REPLAYED)
        elif others and ticket.key is not None:
            self._keys[ticket.key] = others[1:]
            self._push(others[0])

    def _give_up(self, flight: _Flight) -> None:
        if flight not in self._flights:
            return
        flight.is_given_up = True
        for ticket in flight.tickets:
            if flight.is_sent:
                ticket.answer(OutcomeUnknown())
            else:
                self._settle(ticket, Settled.FAILED)

    def _fail_waiting(self, error: Exception | None = None) -> None:
        while self._backlog and not self.ready:
            for ticket in self._backlog.take_all():
                self._settle(ticket, Settled.FAILED, error)

    def _lose_epoch(self) -> None:
        error = EpochLost("another process owns this database")
        self.lost_reason = error
        self.lost.set()
        self._tell_waiters()
        flights, self._flights = self._flights, []
        for flight in flights:
            for ticket in flight.tickets:
                if flight.is_sent:
                    ticket.answer(OutcomeUnknown())
                else:
                    self._settle(ticket, Settled.FAILED, error)
        self._fail_waiting(error)
