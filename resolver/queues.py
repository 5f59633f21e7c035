"""What waits at each number: urgent and bulk, what was tried before, and what may leave next.

Invariants of a `Number`
* `segments`/`messages` count everything decided for it that has not been handed over: waiting, aside and released;
  `urgent_…` the urgent part of it, `released_…` the part that holds a slot.
* A message in a queue counts only while it is `WAITING` and still this number's; others are dropped when they come
  to the head, so cancelling and deciding again cost O(1).
* While a message waits aside for its retry, messages to the same recipient accepted after it wait behind it and no
  others do: `aside` holds both, by recipient and in accept order.
* While its powerpack is paused, its head is the first message that named the number itself; what stands before that is
  in `stayed`.
* Charges are made by `hand_over` alone, at the actual instant, and only when every window allows it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from resolver.limits import NO_RECOMMENDATION, padded_span_ms
from resolver.links import URGENT_SHARE, Link
from resolver.model import E164, Limits, Message, NumberRow, NumberState, Phase, Priority
from resolver.windows import DAY_MS, Tally, Window


class Index(Protocol):
    """Something a number stands in, to be told when the number could leave sooner: resolver/pool.py."""

    live: int

    def push(self, number: Number) -> None: ...


class Number:
    """One source number in memory: its windows, its queue, its place in the indexes. Identity is its own."""

    __slots__ = (
        "aside", "booked_segments", "bulk", "busy", "day", "day_law", "day_recommended", "due_ms", "entry", "front",
        "is_paused", "is_touched", "last_used_ms", "link", "link_since_ms", "messages", "number", "order",
        "own_messages", "own_segments", "parts", "placed", "rate", "released_bulk_segments", "released_messages",
        "released_segments", "row", "segments", "stamp", "stayed", "tally", "turn", "urgent", "urgent_messages",
        "urgent_segments", "version",
    )  # fmt: skip

    def __init__(self, row: NumberRow, limits: Limits, link: Link[Number], *, order: int) -> None:
        self.row = row
        self.number: E164 = row.number
        self.order = order  # unique; its place among all numbers
        self.link = link
        self.link_since_ms = -1  # what it was handed before went over another link
        self.parts: tuple[Index, ...] = ()
        self.version = 0  # entries of the indexes with another version are stale
        self.entry = 0  # order and version, as the indexes write it
        self.is_touched = False  # it could leave sooner than the indexes say, and waits for its powerpack to say so
        self.stamp = 0  # entries of the link's schedule with another stamp are stale
        self.placed: Priority | None = None  # in the link's schedule, in which turn
        self.due_ms = 0  # the instant of its entry there; 0 once it has its turn
        self.last_used_ms = 0
        self.rate = Window("number_rate", limit=limits.segments, span_ms=padded_span_ms(limits.span_ms))
        self.day: Window | None = None
        self.day_law: Window | None = None  # `day` where the day's limit is law
        self.day_recommended = 0
        self.tally: Tally | None = None  # where there is no day
        self._set_day(limits)
        self.urgent: deque[Message] | None = None
        self.bulk: deque[Message] | None = None
        self.front: list[Message] | None = None
        self.aside: dict[E164, list[Message]] | None = None
        self.turn = 0
        self.segments = self.messages = 0
        self.urgent_segments = self.urgent_messages = 0
        self.released_segments = self.released_messages = self.released_bulk_segments = 0
        self.booked_segments = 0  # its part of the link's, unless it is paused
        self.own_segments = self.own_messages = 0  # the part that named this number itself, without a powerpack
        self.is_paused = False  # its powerpack is: what named the number itself leaves all the same
        self.stayed: dict[Message, None] | None = None  # what such messages went past
        self.busy: dict[Number, None] | None = None  # its powerpack's numbers with a backlog

    def change_limits(self, limits: Limits) -> None:
        """Other limits at once; what was used stays used."""
        self.rate.change(limit=limits.segments, span_ms=padded_span_ms(limits.span_ms))
        self._set_day(limits)

    def _set_day(self, limits: Limits) -> None:
        law, recommended = limits.day_limit, limits.day_recommended
        self.day_recommended = recommended if recommended < NO_RECOMMENDATION else 0
        limit = law if law is not None else self.day_recommended
        keep = max(limit, self.day_recommended)
        if self.day is not None:  # kept when there is no limit any longer: another may come
            self.day.change(limit=limit or self.day.limit, span_ms=DAY_MS, keep=keep)
        elif limit:
            self.day = Window("number_day", limit=limit, span_ms=DAY_MS, keep=keep)
            if self.tally is not None:
                self.tally.pour(self.day, self.last_used_ms)
                self.tally = None
        self.day_law = self.day if law is not None else None

    # -- forecasts ------------------------------------------------------------------------------------------------

    def forecast_ms(self, urgent: bool, units: int, now_ms: int, share: int = URGENT_SHARE) -> int:
        """When a message decided now is expected to leave.

        With `now_ms` 0 and `share` 0 (no bulk message goes before an urgent one) it is a bound that only grows, but
        for what is told to the indexes.
        """
        if urgent:
            ahead = self.urgent_segments + self.released_bulk_segments
            count = self.urgent_messages
            behind = self.segments - ahead
            if share and behind > 0:
                ahead += min(behind, self.urgent_segments // share)
        else:
            ahead, count = self.segments, self.messages
        rate = self.rate
        if rate.limit == 1:  # nearly every long code: the same as below, without the division
            span_ms = rate.span_ms
            at_ms = rate.last_ms + span_ms
            at_ms = (at_ms if at_ms > now_ms else now_ms) + ahead * span_ms
        else:
            at_ms = rate.forecast_ms(ahead, units, now_ms)
        if self.day_law is not None:
            day_ms = self.day_law.forecast_ms(count, 1, now_ms)
            if day_ms > at_ms:
                return day_ms
        return at_ms

    def binding_window(self, *, urgent: bool, units: int, now_ms: int) -> str:
        """The window that sets the forecast; `""` when it can leave at once."""
        at_ms = self.forecast_ms(urgent, units, now_ms)
        if at_ms <= now_ms:
            return ""
        count = self.urgent_messages if urgent else self.messages
        if self.day_law is not None and self.day_law.forecast_ms(count, 1, now_ms) >= at_ms:
            return self.day_law.name
        return self.rate.name

    def rested_ms(self, now_ms: int) -> int:
        """When the day's recommendation has room again, counting what waits as handed over; 0 when it has."""
        recommended = self.day_recommended
        if not recommended or self.day is None:
            return 0
        open_places = recommended - self.messages
        if open_places <= 0:
            return now_ms + DAY_MS
        times = self.day.times
        index = len(times) - open_places
        if index < 0:
            return 0
        at_ms = times[index] + DAY_MS
        return at_ms if at_ms > now_ms else 0

    def plan_ms(self, units: int, now_ms: int) -> int:
        """The lawful instant of the next release, behind those that hold a slot: a slot has not elapsed yet."""
        at_ms = self.rate.forecast_ms(self.released_segments, units, now_ms)
        if self.day_law is not None:
            day_ms = self.day_law.forecast_ms(self.released_messages, 1, now_ms)
            if day_ms > at_ms:
                return day_ms
        return at_ms

    def forecast_past_pause_ms(self, units: int, now_ms: int) -> int:
        """While it is paused: when a message that names the number itself is expected to leave."""
        at_ms = self.rate.forecast_ms(self.own_segments, units, now_ms)
        if self.day_law is not None:
            return max(at_ms, self.day_law.forecast_ms(self.own_messages, 1, now_ms))
        return at_ms

    def must_wait(self, units: int) -> bool:
        """Whether only the hand-over of what holds a slot can tell when `units` more may leave.

        Texts of several segments need not fill a span, so behind slots that fill it the plan would be too early.
        """
        limit, held = self.rate.limit, self.released_segments
        if limit == 1 or not held or held + (min(units, limit)) <= limit:
            return False
        return units > 1 or held != self.released_messages

    def lawful_ms(self, units: int) -> int:
        """The earliest instant by actual hand-overs alone."""
        at_ms = self.rate.lawful_ms(units)
        if self.day_law is not None:
            day_ms = self.day_law.lawful_ms(1)
            if day_ms > at_ms:
                return day_ms
        return at_ms

    def holds(self, message: Message) -> bool:
        """Whether a message may wait here."""
        row, request = self.row, message.request
        if request.source:
            return row.account_id == request.account_id and row.state is not NumberState.DISABLED
        return row.powerpack_id == request.powerpack_id and row.state is not NumberState.DISABLED

    # -- the queue ------------------------------------------------------------------------------------------------

    def push(self, message: Message) -> None:
        """Put a newly decided message at the end of its queue."""
        self._queue_of(message).append(message)
        self.count(message, 1)

    def count(self, message: Message, sign: int) -> None:
        """Add (1) or take away (-1) a message from what has not been handed over."""
        units = message.request.segments * sign
        self.segments += units
        self.messages += sign
        if self.messages <= 1 and self.busy is not None:
            self.note_busy(self.busy)
        if message.request.priority is Priority.URGENT:
            self.urgent_segments += units
            self.urgent_messages += sign
        if message.request.source:
            self.own_segments += units
            self.own_messages += sign

    def note_busy(self, busy: dict[Number, None]) -> None:
        """Stand among the busy numbers of its powerpack exactly while something is not handed over."""
        if self.messages:
            busy[self] = None
        else:
            busy.pop(self, None)

    def head(self) -> Message | None:
        """The message that leaves next, after dropping what no longer waits here; None when nothing does."""
        while True:
            queue = self._next_queue()
            if queue is None:
                return None
            message = queue[0]
            waits_here = message.phase is Phase.WAITING and message.number == self.number
            if waits_here and not (self.aside and self._waits_behind(message)):
                if not self.is_paused or message.request.source:
                    return message
                if not self.own_messages:
                    return None
                if self.stayed is None:
                    self.stayed = {}
                self.stayed[message] = None
            self._drop_head(queue)

    def take(self, message: Message) -> None:
        """Take `message`, which is the head, out of its queue and give it a slot."""
        queue = self._next_queue()
        assert queue, "nothing waits here"
        assert queue[0] is message, "only the head is taken"
        if queue is self.urgent:
            self.turn += 1
        elif queue is self.bulk:
            self.turn = 0
        self._drop_head(queue)
        self.hold(message, 1)

    def hold(self, message: Message, sign: int) -> None:
        """Count (1) or free (-1) the slot of a released message."""
        units = message.request.segments * sign
        self.released_segments += units
        self.released_messages += sign
        if message.request.priority is Priority.BULK:
            self.released_bulk_segments += units

    def put_front(self, message: Message) -> None:
        """Give a message that was taken its place at the head back, in accept order among such."""
        if self.front is None:
            self.front = []
        insort(self.front, message, key=_accept_order)

    def put_aside(self, message: Message) -> None:
        """Let it wait for its retry; later messages to its recipient wait behind it."""
        if self.aside is None:
            self.aside = {}
        insort(self.aside.setdefault(message.recipient, []), message, key=_accept_order)

    def retry_due(self, message: Message) -> None:
        """Its instant has come, or it has left: it, and those that waited behind it alone, go to the head."""
        others = self.aside.get(message.recipient) if self.aside is not None else None
        if others is None or self.aside is None or message not in others:
            return
        others.remove(message)
        if message.phase is Phase.ASIDE:
            message.phase = Phase.WAITING
            self.put_front(message)
        still = next((place for place, other in enumerate(others) if other.phase is Phase.ASIDE), len(others))
        if still:
            freed = [other for other in others[:still] if other.phase is Phase.WAITING]
            self.front = sorted([*(self.front or ()), *freed], key=_accept_order)
            del others[:still]
        if not others:
            del self.aside[message.recipient]

    def _waits_behind(self, message: Message) -> bool:
        """Whether an earlier message to its recipient waits aside; then it waits behind that one from now on."""
        others = self.aside.get(message.recipient) if self.aside is not None else None
        if others is None or others[0].message_id > message.message_id:
            return False
        place = bisect_left(others, _accept_order(message), key=_accept_order)
        if place == len(others) or others[place] is not message:
            others.insert(place, message)
        return True

    def waiting_messages(self) -> list[Message]:
        """Everything that waits here or aside, in accept order; O(n log n) in what waits. Not what holds a slot."""
        found: dict[Message, None] = {}
        for queue in (self.front, self.urgent, self.bulk, self.stayed, *(self.aside or {}).values()):
            for message in queue or ():
                if message.phase in (Phase.WAITING, Phase.ASIDE) and message.number == self.number:
                    found[message] = None
        return sorted(found, key=_accept_order)

    def keep(self, messages: Iterable[Message]) -> None:
        """Let only these, of what waits here, wait on; in accept order. What was taken out is counted out already."""
        self.urgent = self.bulk = self.front = self.aside = self.stayed = None
        for message in messages:
            if message.phase is Phase.ASIDE:
                self.put_aside(message)
            else:
                self._queue_of(message).append(message)

    def resume(self) -> None:
        """What stayed may leave again, ahead of what came later."""
        self.is_paused = False
        stayed, self.stayed = self.stayed, None
        for message in sorted(stayed or (), key=_accept_order, reverse=True):
            self._queue_of(message).appendleft(message)

    def _queue_of(self, message: Message) -> deque[Message]:
        if message.request.priority is Priority.URGENT:
            if self.urgent is None:
                self.urgent = deque()
            return self.urgent
        if self.bulk is None:
            self.bulk = deque()
        return self.bulk

    def _next_queue(self) -> deque[Message] | list[Message] | None:
        if self.front:
            return self.front
        if self.urgent and (self.turn < URGENT_SHARE or not self.bulk):
            return self.urgent
        if self.bulk:
            return self.bulk
        return self.urgent or None

    @staticmethod
    def _drop_head(queue: deque[Message] | list[Message]) -> None:
        if isinstance(queue, list):
            del queue[0]
        else:
            queue.popleft()

    # -- hand-over ------------------------------------------------------------------------------------------------

    def hand_over(self, message: Message, at_ms: int) -> None:
        """Turn its slot into the actual time."""
        self.hold(message, -1)
        self.count(message, -1)
        self.charge(message.request.segments, at_ms)

    def charge(self, units: int, at_ms: int) -> None:
        """Count a hand-over of `units` segments."""
        self.rate.charge(units, at_ms)
        if self.day is not None:
            self.day.charge(1, at_ms)
        else:
            self._tally().count(at_ms)
        self.last_used_ms = at_ms

    def give_back(self, message: Message, at_ms: int) -> None:
        """The carrier definitely did not take it: the charge of `at_ms` is undone."""
        self.rate.give_back(message.request.segments, at_ms)
        if self.day is not None:
            self.day.give_back(1, at_ms)
        else:
            self._tally().count(at_ms, -1)
        if at_ms == self.last_used_ms:
            self.last_used_ms = self.rate.latest_ms(at_ms)

    def forget(self, count: int, at_ms: int) -> None:
        """After a restart: `count` hand-overs, none later than `at_ms`, that are older than all that is remembered."""
        self.rate.forget(at_ms)
        if self.day is not None:
            self.day.forget(at_ms)
        else:
            for _ in range(count):
                self._tally().count(at_ms)

    def _tally(self) -> Tally:
        if self.tally is None:
            self.tally = Tally()
        return self.tally


def _accept_order(message: Message) -> str:
    return message.message_id
