"""Carrier links: each with its rate, its state, and the schedule of its numbers by next lawful instant.

Invariants
* `schedule` is a heap of numbers, never of messages. An entry's instant is a lower bound; what is stale (another
  stamp) is dropped when it surfaces, and swept out once it is most of the heap.
* A number whose head is due stands in `due`, urgent or bulk. While the link's window binds, urgent heads go first, at
  most four to one, then account by account in turn.
* `booked_segments` counts what waits for the link rather than for its number: the link's forecast is its window's,
  behind so many.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Final, Generic, Protocol, TypeVar

from resolver.limits import padded_span_ms
from resolver.model import AccountId, CarrierName, Message, NumberRow, Priority
from resolver.windows import Window

URGENT_SHARE: Final = 4
"""Urgent messages that may leave before one bulk message gets its turn."""

LINK_GRACE_MS: Final = 5_000
"""How long a link may be down before its numbers are passed over (RESOLUTION: links)."""

UNKNOWN_SINCE_MS: Final = -1
"""`down_since_ms` of a link that numbers name and nobody has set up."""

STALE_MAX: Final = 64
"""Stale entries a heap may hold whatever its size; beyond that, no more than live ones."""


class Scheduled(Protocol):
    """What a link needs to know of a number: resolver/queues.py has the one that is."""

    row: NumberRow
    order: int
    stamp: int
    placed: Priority | None
    due_ms: int

    def head(self) -> Message | None: ...

    def plan_ms(self, units: int, now_ms: int) -> int: ...

    def must_wait(self, units: int) -> bool: ...


N = TypeVar("N", bound=Scheduled)


class Turns(Generic[N]):
    """Numbers whose head is due, account by account in turn; all calls O(1) on average."""

    __slots__ = ("_accounts", "_numbers")

    def __init__(self) -> None:
        self._accounts: deque[AccountId] = deque()
        self._numbers: dict[AccountId, deque[tuple[int, N]]] = {}

    def push(self, number: N) -> None:
        account = number.row.account_id
        numbers = self._numbers.get(account)
        if numbers is None:
            numbers = self._numbers[account] = deque()
            self._accounts.append(account)
        numbers.append((number.stamp, number))

    def peek(self) -> N | None:
        """The number whose turn it is; None when there is none."""
        while self._accounts:
            account = self._accounts[0]
            numbers = self._numbers[account]
            while numbers and numbers[0][0] != numbers[0][1].stamp:
                numbers.popleft()
            if numbers:
                return numbers[0][1]
            del self._numbers[account]
            self._accounts.popleft()
        return None

    def pop(self) -> None:
        """The number that `peek` gave has had its turn: its account goes to the end of the line."""
        account = self._accounts[0]
        self._numbers[account].popleft()
        self._accounts.rotate(-1)


class Link(Generic[N]):
    """One carrier link in memory."""

    __slots__ = (
        "booked_segments", "carrier", "down_since_ms", "due", "released_segments", "retries", "retry_order", "schedule",
        "stale", "turn", "window",
    )  # fmt: skip

    def __init__(self, carrier: CarrierName, *, segments_per_s: int) -> None:
        self.carrier = carrier
        self.window = Window("link_rate", limit=segments_per_s, span_ms=padded_span_ms(1_000))
        self.down_since_ms: int | None = None
        self.schedule: list[tuple[int, int, int, N]] = []
        self.stale = 0  # entries of the schedule that were replaced by sooner ones
        self.retries: list[tuple[int, str, int, Message]] = []
        self.retry_order = 0  # unique: breaks ties in the heap
        self.due: dict[Priority, Turns[N]] = {Priority.URGENT: Turns(), Priority.BULK: Turns()}
        self.turn = 0
        self.released_segments = 0
        self.booked_segments = 0

    # -- for choosing ---------------------------------------------------------------------------------------------

    def fits(self, now_ms: int) -> bool:
        """Whether numbers on it are candidates: up, or down for less than the grace."""
        down_since_ms = self.down_since_ms
        if down_since_ms is None:
            return True
        return down_since_ms != UNKNOWN_SINCE_MS and now_ms - down_since_ms < LINK_GRACE_MS

    def free_ms(self, units: int, now_ms: int) -> int:
        """When it is expected to take `units` more behind what waits for it; never earlier than `now_ms`."""
        window = self.window
        times = window.times
        place = len(times) - window.limit + self.booked_segments + units - 1
        if place < 0 or (place < len(times) and times[place] + window.span_ms <= now_ms):
            return now_ms  # nearly always; the same as below
        return window.forecast_ms(self.booked_segments, units, now_ms)

    # -- the schedule ---------------------------------------------------------------------------------------------

    def place(self, number: N, now_ms: int) -> None:
        """Put a number with something to send into the schedule; older entries of it become stale."""
        if number.due_ms and number.placed is not None:
            self._count_stale()
        number.stamp += 1
        message = number.head()
        if message is None or not message.committed or number.must_wait(message.request.segments):
            number.placed = None
            return
        number.placed = message.request.priority
        number.due_ms = at_ms = number.plan_ms(message.request.segments, now_ms)
        heappush(self.schedule, (at_ms, number.order, number.stamp, number))

    def place_sooner(self, number: N, now_ms: int) -> None:
        """Something of it was taken out or given back: bring its entry forward if it may leave sooner now."""
        message = number.head()
        if message is None or not message.committed or number.must_wait(message.request.segments):
            return
        if number.placed is None or number.plan_ms(message.request.segments, now_ms) < number.due_ms:
            self.place(number, now_ms)

    def remove(self, number: N) -> None:
        """Take a number out of schedule and turns."""
        if number.due_ms and number.placed is not None:
            self._count_stale()
        number.stamp += 1
        number.placed = None

    def collect_due(self, until_ms: int) -> None:
        """Move numbers whose instant has come from the schedule into their turn."""
        schedule = self.schedule
        while schedule and schedule[0][0] <= until_ms:
            _, _, stamp, number = heappop(schedule)
            if stamp != number.stamp:
                self.stale = max(0, self.stale - 1)
                continue
            message = number.head()
            number.due_ms = 0
            if message is None:
                number.placed = None
                continue
            number.placed = message.request.priority
            self.due[number.placed].push(number)

    def next_due(self) -> N | None:
        """The number whose turn it is: `count_turn` once its message goes, `place` when it may not go yet."""
        urgent, bulk = self.due[Priority.URGENT].peek(), self.due[Priority.BULK].peek()
        if urgent is not None and (self.turn < URGENT_SHARE or bulk is None):
            return urgent
        return bulk

    def count_turn(self, number: N) -> None:
        """The head of the number that `next_due` gave goes."""
        assert number.placed is not None, "it stands in a turn"
        self.turn = self.turn + 1 if number.placed is Priority.URGENT else 0
        self.due[number.placed].pop()

    def wake_ms(self, now_ms: int) -> int | None:
        """The next instant at which something may be released; None when nothing waits."""
        instants = [entries[0][0] for entries in (self.schedule, self.retries) if entries]
        number = self.next_due()
        if number is not None:
            message = number.head()
            units = message.request.segments if message is not None else 1
            instants.append(self.window.forecast_ms(self.released_segments, units, now_ms))
        return min(instants) if instants else None

    def _count_stale(self) -> None:
        self.stale += 1
        if self.stale > STALE_MAX + len(self.schedule) // 2:
            self.schedule = [entry for entry in self.schedule if entry[2] == entry[3].stamp]
            heapify(self.schedule)
            self.stale = 0

    # -- retries --------------------------------------------------------------------------------------------------

    def schedule_retry(self, message: Message) -> None:
        """Let a message aside come back at its `retry_at_ms`."""
        self.retry_order += 1
        heappush(self.retries, (message.retry_at_ms, message.message_id, self.retry_order, message))

    def due_retries(self, now_ms: int) -> list[Message]:
        """Messages whose instant has come; some may have gone on since they were put aside."""
        found: list[Message] = []
        while self.retries and self.retries[0][0] <= now_ms:
            found.append(heappop(self.retries)[3])
        return found
