"""What waits to be committed: bounded, and taken account by account in turn when more waits than fits.

Invariants
* `rows` and `size_bytes` count everything that is not settled yet: what waits here and what is being committed.
* Entries that decide messages wait in their account's queue. Claims and facts are ours: they wait in one queue, which
  is served first, with at most half of a batch while accounts wait. So nobody's flood delays what lets messages leave,
  and the facts of one message stay in the order in which they were appended.
* An entry is never split. What does not fit into a batch is the first of the next one; one that is larger than a whole
  batch goes alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice

from storage.records import Entry, JournalFull, Settled

OURS = ""
"""The queue of claims and facts, which belong to no one account."""

ROW_BYTES = 250
"""What a row without its long texts takes, about."""

OnSettled = Callable[[Settled], None]


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Every bound of the journal, with its reason."""

    batch_rows_max: int = 1_000  # 7 ms of COPY, so nobody waits long for another
    batch_bytes_max: int = 1_048_576
    waiting_rows_max: int = 20_000  # not yet committed, what is under way included
    waiting_bytes_max: int = 33_554_432
    linger_ms: int = 2  # a commit waits for company, under load only
    unknown_ms_max: int = 4_000  # an answer is held while nobody knows it; SDKs give up at 5 s
    stall_ms_max: int = 2_000  # a server that owes an answer for so long takes no more
    statement_ms_max: int = 10_000  # then the connection is cut, and the outcome is looked up
    retry_ms: int = 100  # between two tries to connect, so that work goes on at once when the server is back
    drain_ms_max: int = 5_000  # at the stop, for what waits


class Ticket:
    """An entry on its way, and who wants to know how it ended. Settled exactly once."""

    __slots__ = ("account_id", "entry", "future", "is_settled", "key", "on_settled", "order", "rows", "size_bytes")

    def __init__(self, entry: Entry, on_settled: OnSettled | None, future: asyncio.Future[Settled], order: int) -> None:
        self.entry = entry
        self.on_settled = on_settled
        self.future = future
        self.order = order
        self.account_id: str = account_of(entry)
        key = entry.idempotency
        self.key = (key.account_id, key.key) if key is not None else None
        self.rows = entry.rows()
        self.size_bytes = size_of(entry, self.rows)
        self.is_settled = False

    def settle(self, settled: Settled, error: Exception | None = None) -> None:
        """Tell the truth: first to `on_settled`, then to the waiter, if there still is one that waits."""
        assert not self.is_settled, "an entry is settled once"
        self.is_settled = True
        if self.on_settled is not None:
            self.on_settled(settled)
        if error is not None:
            self.answer(error)
        elif not self.future.done():
            self.future.set_result(settled)

    def answer(self, error: Exception) -> None:
        """Tell only the waiter, that nothing is known in time."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # nobody need be waiting: it counts as looked at


def account_of(entry: Entry) -> str:
    """The account whose turn pays for it."""
    if entry.messages:
        return entry.messages[0].account_id
    if entry.bodies:
        return entry.bodies[0].account_id
    if entry.stretch is not None:
        return entry.stretch.account_id
    return entry.idempotency.account_id if entry.idempotency is not None else OURS


def size_of(entry: Entry, rows: int) -> int:
    """About how many bytes it takes."""
    size_bytes = ROW_BYTES * rows
    for body in entry.bodies:
        size_bytes += 2 * len(body.text)
    if entry.stretch is not None:
        size_bytes += sum(map(len, entry.stretch.refused_errors))
    for handover in entry.handovers:
        size_bytes += 50 * len(handover.message_ids)
    for callback in entry.callbacks:
        size_bytes += len(callback.params)
    if entry.idempotency is not None:
        size_bytes += len(entry.idempotency.answer)
    return size_bytes


class Backlog:
    """The entries that wait for a batch."""

    def __init__(self, limits: JournalLimits) -> None:
        self._limits = limits
        self._ours: deque[Ticket] = deque()
        self._queues: OrderedDict[str, deque[Ticket]] = OrderedDict()  # by account, in the order of their turns
        self._orders = count()
        self.rows = 0
        self.size_bytes = 0
        self.waiting_rows = 0
        self.waiting_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._ours or self._queues)

    @property
    def fills_a_batch(self) -> bool:
        """Whether waiting for more would make no batch larger."""
        limits = self._limits
        return self.waiting_rows >= limits.batch_rows_max or self.waiting_bytes >= limits.batch_bytes_max

    def batches_ahead(self, account_id: str) -> float:
        """How many batches, about, are to be taken before what this account appends now; 0 while one holds all.

        Accounts take turns, so of what another one's flood has put here only its first entries count. Looks at every
        entry that waits, where there are more than a batch holds.
        """
        limits = self._limits
        if self.waiting_rows <= limits.batch_rows_max:
            return 0.0
        turns = len(self._queues.get(account_id, ())) + 1
        rows = sum(ticket.rows for queue in self._queues.values() for ticket in islice(queue, turns))
        return rows / (limits.batch_rows_max / 2 if self._ours else limits.batch_rows_max)

    def admit(self, entry: Entry, on_settled: OnSettled | None, future: asyncio.Future[Settled]) -> Ticket:
        """Count an entry in. Raises JournalFull when it finds no room; one entry alone always does."""
        ticket = Ticket(entry, on_settled, future, next(self._orders))
        assert ticket.rows, "an entry has rows"
        rows, size_bytes = self.rows + ticket.rows, self.size_bytes + ticket.size_bytes
        if self.rows and (rows > self._limits.waiting_rows_max or size_bytes > self._limits.waiting_bytes_max):
            raise JournalFull(f"{self.rows} rows wait to be committed")
        self.rows, self.size_bytes = rows, size_bytes
        return ticket

    def push(self, ticket: Ticket) -> None:
        """Let an admitted entry wait for its batch."""
        queue = self._ours if ticket.account_id == OURS else self._queues.get(ticket.account_id)
        if queue is None:
            queue = self._queues[ticket.account_id] = deque()
        queue.append(ticket)
        self.waiting_rows += ticket.rows
        self.waiting_bytes += ticket.size_bytes

    def free(self, ticket: Ticket) -> None:
        """Count a settled entry out."""
        self.rows -= ticket.rows
        self.size_bytes -= ticket.size_bytes

    def take(self) -> list[Ticket]:
        """The next batch, in append order. One entry of ours and one of the accounts go in any case."""
        limits = self._limits
        if self.waiting_rows <= limits.batch_rows_max and self.waiting_bytes <= limits.batch_bytes_max:
            return self.take_all()
        room = _Room(limits.batch_rows_max, limits.batch_bytes_max)
        taken: list[Ticket] = []
        reserved = room.half() if self._queues else _Room(0, 0)
        self._take_ours(taken, room, reserved, least=1)
        self._take_in_turn(taken, room)
        if not self._queues:
            self._take_ours(taken, room, _Room(0, 0), least=0)
        return self._leave(taken)

    def take_all(self) -> list[Ticket]:
        """Everything that waits, in append order."""
        taken = list(self._ours)
        for queue in self._queues.values():
            taken.extend(queue)
        self._ours.clear()
        self._queues.clear()
        return self._leave(taken)

    def _take_ours(self, taken: list[Ticket], room: _Room, reserved: _Room, *, least: int) -> None:
        while self._ours and (least > 0 or room.fits(self._ours[0], reserved)):
            least -= 1
            taken.append(room.use(self._ours.popleft()))

    def _take_in_turn(self, taken: list[Ticket], room: _Room) -> None:
        """One entry of each account after the other, until the next one does not fit: it is the first next time."""
        least = 1
        while self._queues:
            account_id, queue = next(iter(self._queues.items()))
            if least <= 0 and not room.fits(queue[0]):
                return
            least -= 1
            taken.append(room.use(queue.popleft()))
            if queue:
                self._queues.move_to_end(account_id)
            else:
                del self._queues[account_id]

    def _leave(self, taken: list[Ticket]) -> list[Ticket]:
        for ticket in taken:
            self.waiting_rows -= ticket.rows
            self.waiting_bytes -= ticket.size_bytes
        taken.sort(key=_append_order)
        return taken


def _append_order(ticket: Ticket) -> int:
    return ticket.order


@dataclass(slots=True)
class _Room:
    """What is left of a batch."""

    rows: int
    size_bytes: int

    def half(self) -> _Room:
        return _Room(self.rows // 2, self.size_bytes // 2)

    def fits(self, ticket: Ticket, reserved: _Room | None = None) -> bool:
        rows, size_bytes = (reserved.rows, reserved.size_bytes) if reserved is not None else (0, 0)
        return ticket.rows + rows <= self.rows and ticket.size_bytes + size_bytes <= self.size_bytes

    def use(self, ticket: Ticket) -> Ticket:
        self.rows -= ticket.rows
        self.size_bytes -= ticket.size_bytes
        return ticket
