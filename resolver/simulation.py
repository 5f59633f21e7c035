"""A plan run against a copy of a powerpack, on the same core: who would send what, and when all of it would be gone.

Time is the plan's own: from arrival to arrival, and between them from one instant at which something may leave to the
next. The copy begins with what numbers and links have used and with what waits; the powerpack itself sees nothing.
Carriers take everything at once, so what is told is what the windows allow, not what a carrier will do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from resolver.core import Resolver, Verdict
from resolver.model import (
    E164,
    Decision,
    Message,
    MessageId,
    Pause,
    PowerpackId,
    Refusal,
    Request,
    Thread,
)
from resolver.queues import Number
from resolver.sticky import ThreadRow

PLACES: Final = 1_000_000  # hand-overs without an answer at once: none is ever waited for
BEFORE: Final = "before"  # begins the ids of what waited already


class Arrival(NamedTuple):
    """One message of a plan."""

    at_ms: int
    recipient: E164


@dataclass(slots=True)
class Course:
    """What came of a plan, so far. Only its own messages are counted, not what waited before."""

    arrived: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by code
    tiers: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)  # that let messages wait
    messages: Counter[E164] = field(default_factory=Counter)  # handed over, by number
    waits_ms: list[int] = field(default_factory=list)  # from arrival to hand-over
    first_ms: int = 0
    last_ms: int = 0
    expired: int = 0


def copy_into(
    copy: Resolver, live: Resolver, powerpack_id: PowerpackId, recipients: Iterable[E164], *, now_ms: int
) -> Iterator[None]:
    """Copy a powerpack out of the living resolver into an empty one, a number a step.

    Its windows, what waits in it, and the threads of `recipients`. Paused or with its carriers down, it is copied as if
    it were neither. O(1) a step but for a number's backlog.
    """
    pool = live.pools[powerpack_id]
    copy.put_powerpack(replace(pool.row, pause=Pause.NONE))
    twins = copy.pools[powerpack_id]
    for number in list(pool.numbers.values()):
        _copy_number(copy, number, now_ms)
        yield
    for recipient in recipients:
        thread = pool.thread_of(recipient, now_ms)
        if thread is not None and thread.number in twins.numbers:
            copy.restore_thread(_row_of(powerpack_id, recipient, thread))
    for number in list(pool.busy):
        if number.number in twins.numbers:  # else it has joined since
            for message in number.waiting_messages():
                _copy_message(copy, message, now_ms)
            yield


def _copy_number(copy: Resolver, number: Number, now_ms: int) -> None:
    carrier = number.link.carrier
    if carrier not in copy.links:
        copy.put_link(carrier, segments_per_s=number.link.window.limit, now_ms=now_ms)
        copy.links[carrier].window = number.link.window.copy()
    copy.put_number(number.row, now_ms=now_ms)
    twin = copy.numbers[number.number]
    twin.rate, twin.last_used_ms = number.rate.copy(), number.last_used_ms
    if number.day is not None:
        twin.day = number.day.copy()
        twin.day_law = twin.day if number.day_law is not None else None


def _row_of(powerpack_id: PowerpackId, recipient: E164, thread: Thread) -> ThreadRow:
    return ThreadRow(powerpack_id, recipient, thread.number, thread.detour, thread.used, thread.last_ms, gone=False)


def _copy_message(copy: Resolver, message: Message, now_ms: int) -> None:
    decided = Decision(message.number, message.tier, now_ms, (), "")
    before = MessageId(f"{BEFORE}{message.message_id}")
    copy.commit([copy.apply(message.request, message.recipient, decided, before, now_ms=now_ms)])


def dissolve(copy: Resolver) -> None:
    """Let go of a copy at once: its parts refer to each other, and nobody looks for such cycles for a long while."""
    for message in copy.open.values():
        message.thread = None
    copy.open.clear()
    for link in copy.links.values():
        link.schedule.clear()
        link.due.clear()
    for number in copy.numbers.values():
        number.busy, number.parts = None, ()
    for pool in copy.pools.values():
        pool.numbers.clear()
        pool.busy.clear()
        pool.index.clear()
    copy.pools.clear()
    copy.links.clear()
    copy.numbers.clear()


class Simulation:
    """A plan, in the order of its arrivals, on a copy that is its own."""

    def __init__(
        self, copy: Resolver, request: Request, plan: Iterable[Arrival], *, now_ms: int, draw: Callable[[], float]
    ) -> None:
        self.course = Course()
        self._copy, self._request = copy, request
        self._plan = iter(plan)
        self._next = next(self._plan, None)
        self._now_ms = now_ms
        self._draw = draw
        self._arrived_ms: dict[MessageId, int] = {}

    def run(self, most: int) -> bool:
        """Go on by up to `most` arrivals or looks at what may leave; False at the end. About 20 µs each."""
        for _ in range(most):
            leaves_ms = self._leaves_ms()
            if self._next is not None and (leaves_ms is None or self._next.at_ms <= leaves_ms):
                self._now_ms = max(self._now_ms, self._next.at_ms)
                self._arrive(self._next.recipient)
                self._next = next(self._plan, None)
            elif leaves_ms is not None:
                self._now_ms = leaves_ms
                self._let_leave()
            else:
                return False
        return True

    def _leaves_ms(self) -> int | None:
        """When something may leave next; None when nothing waits."""
        instants = [each for link in self._copy.links.values() if (each := link.wake_ms(self._now_ms)) is not None]
        return max(self._now_ms, min(instants)) if instants else None

    def _arrive(self, recipient: E164) -> None:
        course, copy, request, now_ms = self.course, self._copy, self._request, self._now_ms
        course.arrived += 1
        decided = copy.decide(request, recipient, now_ms=now_ms, chance=self._draw())
        if isinstance(decided, Refusal):
            course.refused[decided.code] += 1
            return
        message_id = MessageId(f"{course.arrived:09}")
        copy.commit([copy.apply(request, recipient, decided, message_id, now_ms=now_ms)])
        course.tiers[decided.tier] += 1
        course.types[copy.numbers[decided.number].row.type] += 1
        if decided.window:
            course.windows[decided.window] += 1
        self._arrived_ms[message_id] = now_ms

    def _let_leave(self) -> None:
        copy, now_ms = self._copy, self._now_ms
        for message in copy.expire(now_ms=now_ms, most=PLACES):
            self.course.expired += self._arrived_ms.pop(message.message_id, None) is not None
        has_left = False
        for carrier in copy.links:
            for message in copy.release(carrier, now_ms=now_ms, until_ms=now_ms, places=PLACES):
                departure = copy.depart(message, now_ms=now_ms)
                if departure.verdict is Verdict.GO:
                    copy.settle_sent(message, now_ms=now_ms)
                    self._note(message)
                    has_left = True
                else:
                    copy.settle_ended(message, now_ms=now_ms)
                    self.course.expired += self._arrived_ms.pop(message.message_id, None) is not None
        if not has_left:
            self._now_ms += 1  # a window has room a moment later than it was forecast

    def _note(self, message: Message) -> None:
        course, arrived_ms = self.course, self._arrived_ms.pop(message.message_id, None)
        if arrived_ms is None:
            return
        course.messages[message.number] += 1
        course.waits_ms.append(self._now_ms - arrived_ms)
        course.first_ms = course.first_ms or self._now_ms
        course.last_ms = self._now_ms
