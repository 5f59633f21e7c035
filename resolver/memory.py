"""What the resolver remembers: pools, numbers, links, open messages; the catalog's edits and the moves they share.

Invariants
* A message in `open` waits, holds a slot, is at the carrier or has an unknown outcome.
* A number *holds* a message while it is in the message's powerpack and not disabled. A waiting message that no number
  holds is an orphan: in nobody's queue and nobody's counts, until it is decided again.
* What waits by a thread (waiting, aside, with a slot) stands in the thread's `waiting`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from resolver.choosing import NO_THREAD
from resolver.expiries import Expiries
from resolver.limits import default_limits, padded_span_ms
from resolver.links import UNKNOWN_SINCE_MS, Link
from resolver.model import (
    E164,
    CarrierName,
    Decision,
    Limits,
    Message,
    MessageId,
    NumberRow,
    NumberState,
    Phase,
    PowerpackId,
    PowerpackRow,
    Priority,
    Thread,
    Tier,
)
from resolver.orphans import Orphans
from resolver.pausing import change_powerpack, is_paused, set_paused
from resolver.pool import Pool
from resolver.queues import Number
from resolver.registry import Registry
from resolver.sticky import ThreadRow, join_thread, leave_thread

_IN_HAND: Final = frozenset({Phase.WAITING, Phase.ASIDE, Phase.RELEASED})
"""The phases in which a message is ours to send: it counts in its number and its thread."""


class Memory:
    """State and the edits people make to it; `resolver.core.Resolver` decides over it."""

    def __init__(self, *, waiting_max: int = 1_000_000, threads_max: int = 1_000_000) -> None:
        self.waiting_max = waiting_max
        self._threads_max = threads_max
        self.pools: dict[PowerpackId, Pool] = {}
        self._registry = Registry()
        self.numbers = self._registry.numbers  # those that were dropped lately are still among them
        self.links: dict[CarrierName, Link[Number]] = {}
        self.open: dict[MessageId, Message] = {}
        self.expiries = Expiries()
        self.orphans = Orphans()
        self.improving: deque[Pool] = deque()  # where something could leave sooner elsewhere (rebinding)
        self.excluded_networks: frozenset[str] = frozenset()

    @property
    def waiting(self) -> int:
        """Messages in memory that have not been taken by a carrier."""
        return len(self.open)

    # -- the catalog ----------------------------------------------------------------------------------------------

    def put_link(self, carrier: CarrierName, *, segments_per_s: int, now_ms: int) -> None:
        """Add a carrier link, which is up, or change the rate of one for good."""
        link = self.links.get(carrier)
        if link is None:
            self.links[carrier] = Link(carrier, segments_per_s=segments_per_s)
            return
        self.set_link_rate(carrier, segments_per_s, now_ms=now_ms)
        if link.down_since_ms == UNKNOWN_SINCE_MS:
            self.set_link_up(carrier, True, now_ms=now_ms)

    def set_link_up(self, carrier: CarrierName, up: bool, *, now_ms: int) -> None:
        """Note that a link went down or came back; the grace of five seconds is counted from the first word."""
        link = self.links[carrier]
        if up:
            if not link.fits(now_ms):
                self.better_chances()
            link.down_since_ms = None
        elif link.down_since_ms is None:
            link.down_since_ms = now_ms

    def set_link_rate(self, carrier: CarrierName, segments_per_s: int, *, now_ms: int) -> None:
        """Lower (throttled) or raise a link's rate at once; what was used stays used."""
        window = self.links[carrier].window
        if segments_per_s > window.limit:
            self.better_chances()
        window.change(limit=max(1, segments_per_s), span_ms=padded_span_ms(1_000))

    def put_powerpack(self, row: PowerpackRow) -> None:
        """Add or change a powerpack, before its numbers; rules the very next decision."""
        pool = self.pools.get(row.powerpack_id)
        if pool is None:
            self.pools[row.powerpack_id] = Pool(row, self._registry.by_order, threads_max=self._threads_max)
        elif change_powerpack(pool, row):
            self.improve(pool)

    def powerpack(self, powerpack_id: PowerpackId) -> PowerpackRow | None:
        """Its settings; None when there is no such powerpack."""
        pool = self.pools.get(powerpack_id)
        return pool.row if pool is not None else None

    def drop_powerpack(self, powerpack_id: PowerpackId, *, now_ms: int) -> list[Message]:
        """Forget a powerpack; its numbers stay the account's. What waited there comes back, taken out: to be ended."""
        pool = self.pools.pop(powerpack_id, None)
        if pool is not None:
            for number in list(pool.numbers.values()):
                pool.drop(number)
                self.put_number(replace(number.row, powerpack_id=None), now_ms=now_ms)
        ended = [each for each in self.orphans if each.request.powerpack_id == powerpack_id]
        for message in ended:
            self.leave(message)
        return sorted(ended, key=_accept_order)

    def put_number(self, row: NumberRow, *, now_ms: int) -> list[Message]:
        """Add or change one of our numbers. Answers what waits there and must be decided again, in accept order."""
        limits = row.limits or default_limits(row.type, row.country, row.campaign_approved)
        number = self.numbers.get(row.number)
        moved: list[Message] = []
        if number is None:
            number = self._registry.make(row, limits, self._link(row.carrier))
        else:
            self._registry.revive(row.number)
            moved = self._change_number(number, row, limits, now_ms)
        pool = self.pools.get(row.powerpack_id) if row.powerpack_id is not None else None
        if pool is not None:
            pool.put(number)
            self.improve(pool)
        set_paused(number, is_paused(pool))
        number.link.place(number, now_ms)
        return moved

    def drop_number(self, number_id: E164, *, now_ms: int) -> list[Message]:
        """Forget one of our numbers. Answers what waits there and must be decided again, in accept order."""
        number = self.numbers.get(number_id)
        if number is None or self._registry.is_dropped(number_id):
            return []
        pool = self._pool_of(number)
        if pool is not None:
            pool.drop(number)
        number.row = replace(number.row, powerpack_id=None, state=NumberState.DISABLED)
        moved = self._let_go(number)
        set_paused(number, False)
        self._registry.drop(number_id, now_ms)
        return moved

    def carrier_of(self, number: E164) -> CarrierName | None:
        """The carrier that a number is handed over through; None for one that is not ours."""
        found = self.numbers.get(number)
        return found.link.carrier if found is not None else None

    def threads_changed(self, most: int) -> list[ThreadRow]:
        """Up to `most` threads changed since they were last asked for."""
        rows: list[ThreadRow] = []
        for pool in self.pools.values():
            if len(rows) >= most:
                break
            rows.extend(pool.threads.take_changed(most - len(rows)))
        return rows

    def better_chances(self) -> None:
        """What waits anywhere may leave sooner elsewhere now."""
        for pool in self.pools.values():
            self.improve(pool)

    def improve(self, pool: Pool) -> None:
        """What waits in this powerpack may leave sooner elsewhere now."""
        if not pool.better and pool.backlog is None:
            self.improving.append(pool)
        pool.better = True

    # -- after a restart ------------------------------------------------------------------------------------------

    def restore_charge(self, number_id: E164, carrier: CarrierName, *, handed_ms: int, segments: int) -> None:
        """Count a stored hand-over again; to be called in time order, before anything is decided."""
        number = self.numbers.get(number_id)
        if number is not None:
            number.charge(segments, handed_ms)
        else:
            self._registry.keep_charge(number_id, segments, handed_ms)
        link = self.links.get(carrier)
        if link is not None:
            link.window.charge(segments, handed_ms)

    def restore_forgotten(self, number_id: E164, *, count: int, at_ms: int) -> None:
        """Count `count` stored hand-overs, none later than `at_ms`, that are older than those charged again."""
        number = self.numbers.get(number_id)
        if number is not None:
            number.forget(count, at_ms)

    def restore_thread(self, row: ThreadRow) -> None:
        """Take in a stored thread; to be called oldest first, before decisions are replayed."""
        pool = self.pools.get(row.powerpack_id)
        if pool is not None:
            pool.threads.restore(row.recipient, Thread(row.number, row.detour, row.used, row.last_ms))

    def replay_decision(
        self, powerpack_id: PowerpackId, recipient: E164, number: E164, tier: Tier, rules: str, *, at_ms: int
    ) -> None:
        """Let a stored decision have its effect on the recipient's thread again; in the order they were made.

        A `rebound` fact is one too: its number and tier at its time, with the rules of its message.
        """
        pool = self.pools.get(powerpack_id)
        if pool is not None and NO_THREAD not in rules:
            pool.threads.follow(recipient, number, tier, now_ms=at_ms, life_ms=pool.row.sticky_life_ms)

    def replay_hand_over(self, powerpack_id: PowerpackId, recipient: E164, number: E164, rules: str = "") -> None:
        """Let a stored hand-over have its effect on the thread again: used, it moves only when its number is gone."""
        pool = self.pools.get(powerpack_id) if NO_THREAD not in rules else None
        thread = pool.threads.find(recipient) if pool is not None else None
        if pool is not None and thread is not None and thread.number == number:
            pool.threads.mark_used(thread, recipient)

    def restore_message(self, message: Message, *, now_ms: int = 0) -> None:
        """Take in an open message whose decision is stored; in accept order, after charges and threads."""
        self.open[message.message_id] = message
        pool = self.pools.get(message.request.powerpack_id)
        message.thread = pool.threads.find(message.recipient) if pool is not None else None
        if message.phase is Phase.UNKNOWN:
            return
        self.expiries.add(message)
        join_thread(message)
        number = self.numbers.get(message.number)
        if number is None or not number.holds(message):
            self.orphans.add(message)
            return
        urgent = message.request.priority is Priority.URGENT
        self.enqueue(number, message, number.forecast_ms(urgent, message.request.segments, now_ms), now_ms)
        if number.placed is None:
            number.link.place(number, 0)

    # -- moves that core and rebinding share ----------------------------------------------------------------------

    def enqueue(self, number: Number, message: Message, forecast_ms: int | None, now_ms: int) -> None:
        """Put a message at the end of a number's queue; where its link is what it waits for, it is booked there."""
        link, units = number.link, message.request.segments
        if forecast_ms is None or forecast_ms <= now_ms or forecast_ms <= link.free_ms(units, now_ms):
            message.booked = True
            number.booked_segments += units
            if not number.is_paused:
                link.booked_segments += units
        number.push(message)

    def move(self, message: Message, decision: Decision, *, now_ms: int) -> None:
        """Put a waiting message, or an orphan, into the queue of another number: it was decided again."""
        self._withdraw(message)
        number = self.numbers[decision.number]
        message.number, message.tier, message.rebound_ms = decision.number, decision.tier, now_ms
        message.phase = Phase.WAITING
        self.enqueue(number, message, decision.forecast_ms, now_ms)
        if message.thread is not None:  # so what is stored with the message tells it all, whatever is set by now
            pool = self.pools[message.request.powerpack_id]
            message.thread, _ = pool.threads.follow(
                message.recipient, decision.number, decision.tier, now_ms=now_ms, life_ms=pool.row.sticky_life_ms
            )
        join_thread(message)
        if number.placed is None or message.request.priority is Priority.URGENT:
            number.link.place(number, now_ms)

    def put_aside(self, message: Message, retry_at_ms: int) -> None:
        """Let a message that was handed over wait for another attempt."""
        join_thread(message)
        self.expiries.add(message)
        number = self.numbers.get(message.number)
        if number is None or not number.holds(message):
            message.phase = Phase.WAITING
            self.orphans.add(message)
            return
        message.phase = Phase.ASIDE
        message.retry_at_ms = retry_at_ms
        number.count(message, 1)
        number.put_aside(message)
        number.link.schedule_retry(message)
        number.link.place_sooner(number, 0)  # its head may wait behind this one now

    def wake_retries(self, link: Link[Number], now_ms: int) -> None:
        """Bring back what waited aside on this link and whose instant has come."""
        for message in link.due_retries(now_ms):
            if message.phase is Phase.ASIDE and message.retry_at_ms <= now_ms:
                number = self.numbers[message.number]
                number.retry_due(message)
                number.link.place(number, now_ms)

    def free_slot(self, number: Number, message: Message) -> None:
        """Take the slot of a released message back."""
        number.hold(message, -1)
        number.link.released_segments -= message.request.segments

    def loosen(self, number: Number) -> None:
        """Something of it was taken out or given back: it could leave sooner than schedule and indexes say."""
        number.link.place_sooner(number, 0)
        pool = self._pool_of(number)
        if pool is not None:
            pool.touch(number)

    def leave(self, message: Message) -> None:
        """Out of everything, for good."""
        self._withdraw(message)
        self.open.pop(message.message_id, None)
        self.expiries.remove(message)

    def unbook(self, number: Number, message: Message) -> None:
        """It waits for the link no longer."""
        if message.booked:
            message.booked = False
            number.booked_segments -= message.request.segments
            if not number.is_paused:
                number.link.booked_segments -= message.request.segments

    # -- inside ---------------------------------------------------------------------------------------------------

    def _withdraw(self, message: Message) -> None:
        """Take a message out of its number's counts and its thread; its queue entries die."""
        phase, message.phase = message.phase, Phase.DONE
        if phase not in _IN_HAND:
            return
        leave_thread(message)
        if self.orphans.discard(message):
            return
        number = self.numbers[message.number]
        if number.stayed:
            number.stayed.pop(message, None)
        if phase is Phase.RELEASED:
            self.free_slot(number, message)
        number.count(message, -1)
        self.unbook(number, message)
        if phase is Phase.ASIDE:
            number.retry_due(message)
        self.loosen(number)

    def _let_go(self, number: Number) -> list[Message]:
        """Take out of a number's queue what it no longer holds; answers what is durable of it, in accept order."""
        moved: list[Message] = []
        kept: list[Message] = []
        for message in number.waiting_messages():
            if number.holds(message):
                kept.append(message)
                continue
            moved.append(message)
            number.count(message, -1)
            self.unbook(number, message)
            message.phase = Phase.WAITING
            self.orphans.add(message)
        number.keep(kept)
        number.link.remove(number)
        return [message for message in moved if message.committed]

    def _pool_of(self, number: Number) -> Pool | None:
        powerpack_id = number.row.powerpack_id
        return self.pools.get(powerpack_id) if powerpack_id is not None else None

    def _change_number(self, number: Number, row: NumberRow, limits: Limits, now_ms: int) -> list[Message]:
        old, was = self._pool_of(number), number.row
        if old is not None and row.powerpack_id != was.powerpack_id:
            old.drop(number)
        number.row = row
        moved: list[Message] = []
        has_moved = (row.account_id, row.powerpack_id) != (was.account_id, was.powerpack_id)
        if has_moved or row.state is NumberState.DISABLED:
            moved = self._let_go(number)
        if row.carrier != number.link.carrier:
            self._change_link(number, self._link(row.carrier), now_ms)
        number.change_limits(limits)
        return moved

    def _link(self, carrier: CarrierName) -> Link[Number]:
        """The link, down until it is set up: numbers may name one that nobody knows yet."""
        link = self.links.get(carrier)
        if link is None:
            link = self.links[carrier] = Link(carrier, segments_per_s=1)
            link.down_since_ms = UNKNOWN_SINCE_MS
        return link

    def _change_link(self, number: Number, link: Link[Number], now_ms: int) -> None:
        """Its carrier changed: what waits and what holds a slot goes over to the other link."""
        old = number.link
        old.remove(number)
        old.released_segments -= number.released_segments
        link.released_segments += number.released_segments
        if not number.is_paused:
            old.booked_segments -= number.booked_segments
            link.booked_segments += number.booked_segments
        number.link, number.link_since_ms = link, now_ms
        for others in (number.aside or {}).values():
            for message in others:
                if message.phase is Phase.ASIDE:
                    link.schedule_retry(message)


def _accept_order(message: Message) -> str:
    return message.message_id
