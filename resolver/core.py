"""The Resolver: everything in memory that decides. `decide` reads, `apply` changes, `release` and `depart` let leave.

Runs between two awaits, so it needs no lock; time and chance come in as arguments. Memory is a fold over the journal:
every change here is either a decision, a claim or a fact that is stored, or can be made again from them.

Invariants
* A message in `open` waits, holds a slot, is at the carrier or has an unknown outcome; `waiting` counts them.
* Nothing is released whose decision is not durable, but with its own decision's transaction (`release_own`).
* `depart` is the only door out: it looks at the actual charges of the number and its link once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from resolver.alone import decide_alone
from resolver.choosing import PAUSED, Question, choose, wait_for_resume
from resolver.geography import locate
from resolver.memory import Memory
from resolver.model import (
    E164,
    CarrierName,
    Decision,
    Message,
    MessageId,
    Pause,
    Phase,
    Priority,
    Refusal,
    RefusalCode,
    Request,
    Thread,
)
from resolver.pausing import is_paused
from resolver.queues import Number
from resolver.rebinding import rebind
from resolver.sticky import join_thread, leave_thread
from resolver.trace import Trace, explain

CLAIM_GOOD_MS = 5_000
"""How old a claim may be when its message departs."""


class Verdict(StrEnum):
    GO = "go"
    NOT_YET = "not_yet"
    ENDED = "ended"
    GIVEN_UP = "given_up"
    GONE = "gone"


class Departure(NamedTuple):
    """Whether a claimed message may be written now. `at_ms`: the actual instant, or when to ask again."""

    verdict: Verdict
    at_ms: int
    reason: str = ""


class Resolver(Memory):
    """Pools, numbers, links, threads and what waits, for one process."""

    # -- choosing -------------------------------------------------------------------------------------------------

    def decide(
        self, request: Request, recipient: E164, *, now_ms: int, chance: float, operator: str = ""
    ) -> Decision | Refusal:
        """Choose a number, or say why none; reads only. About 5 µs whatever the size of the pool."""
        if request.source:
            return decide_alone(
                self.numbers, request, recipient, operator=operator, excluded_networks=self.excluded_networks,
                now_ms=now_ms, latest_ms=now_ms + request.validity_ms,
            )  # fmt: skip
        question = self.question(request, recipient, now_ms=now_ms, chance=chance, operator=operator)
        return question if isinstance(question, Refusal) else _answer(question)

    def question(
        self, request: Request, recipient: E164, *, now_ms: int, chance: float, operator: str = ""
    ) -> Question | Refusal:
        """What `decide` asks, for those who want to know more than the answer."""
        pool = self.pools.get(request.powerpack_id)
        if pool is None:
            return Refusal(RefusalCode.NO_NUMBER, "There is no such powerpack.")
        if pool.row.pause is Pause.REFUSE:
            return Refusal(RefusalCode.PAUSED, "The powerpack is paused, and takes no messages until it is resumed.")
        if recipient in pool.numbers:
            return Refusal(RefusalCode.DESTINATION_IS_SOURCE, "The recipient is a number of this powerpack.")
        location = locate(recipient)
        if location is None:
            return Refusal(RefusalCode.INVALID_DESTINATION, "The recipient is not a number of a known country.")
        patience_ms = pool.row.patience_ms if request.patience_ms is None else request.patience_ms
        validity_ms = request.validity_ms
        return Question(
            pool, request, recipient, location, operator, self.excluded_networks, now_ms=now_ms, chance=chance,
            horizon_ms=now_ms + (patience_ms if patience_ms < validity_ms else validity_ms),
            latest_ms=now_ms + validity_ms,
        )  # fmt: skip

    def explain(self, request: Request, recipient: E164, *, now_ms: int, chance: float, operator: str = "") -> Trace:
        """`decide`, with how many candidates each filter left; O(size of the pool), for people."""
        question = self.question(request, recipient, now_ms=now_ms, chance=chance, operator=operator)
        return Trace(question, []) if isinstance(question, Refusal) else explain(question, _answer(question))

    def apply(
        self,
        request: Request,
        recipient: E164,
        decision: Decision,
        message_id: MessageId,
        *,
        now_ms: int,
        operator: str = "",
    ) -> Message:
        """Take a decision in: the message waits at its number, the thread follows. `commit` makes it ready to leave."""
        pool = self.pools.get(request.powerpack_id)
        # The choice has just looked the number up among its pool's.
        number = self.numbers[decision.number] if pool is None else pool.numbers[decision.number]
        message = Message(message_id, request, recipient, decision.number, decision.tier, now_ms + request.validity_ms)
        message.operator = operator
        self.enqueue(number, message, decision.forecast_ms, now_ms)
        self.open[message_id] = message
        self.expiries.add(message)
        if pool is not None and pool.row.sticky_sender:
            message.thread, message.thread_before = pool.threads.follow(
                recipient, decision.number, decision.tier, now_ms=now_ms, life_ms=pool.row.sticky_life_ms
            )
            join_thread(message)
        return message

    def undo(self, message: Message, *, now_ms: int) -> None:
        """Its decision was not stored: it leaves queue and slot, and the thread is as it was before."""
        thread, before = message.thread, message.thread_before
        self.leave(message)
        if thread is None:
            return
        if before is not None and (thread.undone is None or message.message_id < thread.undone[0]):
            thread.undone = message.message_id, before
        if thread.undone is None:
            return
        first, before = thread.undone
        is_used = thread.used and thread.number != before.number
        # While later ones wait by the thread as it is, it stays; should they be undone too, it goes with the last.
        if not is_used and all(each.message_id < first for each in thread.waiting or ()):
            pool = self.pools.get(message.request.powerpack_id)
            if pool is not None:
                pool.threads.unfollow(message.recipient, thread, before)
            thread.undone = None

    def commit(self, messages: Iterable[Message]) -> set[CarrierName]:
        """Their decisions are durable: they may leave. Answers whose lanes have something new."""
        woken: set[CarrierName] = set()
        for message in messages:
            message.committed = True
            if message.thread is not None:
                message.thread.undone = None
            if message.phase is not Phase.WAITING:
                continue
            if self.orphans and message in self.orphans:
                self.orphans.add(message)
                continue
            number = self.numbers[message.number]
            urgent = message.request.priority is Priority.URGENT
            if number.placed is None or (urgent and number.placed is Priority.BULK):
                number.link.place(number, 0)
                woken.add(number.link.carrier)
        return woken

    def rebind(self, *, now_ms: int, chance: float, most: int) -> list[tuple[Message, Decision | Refusal]]:
        """Decide again what no number holds, and what could leave a minute sooner; at most `most` looked at.

        Decisions are applied already; a refused message is taken out and must be ended by the caller.
        """
        return rebind(self, now_ms=now_ms, chance=chance, most=most)

    # -- leaving --------------------------------------------------------------------------------------------------

    def release(self, carrier: CarrierName, *, now_ms: int, until_ms: int, places: int) -> list[Message]:
        """Up to `places` heads that may lawfully leave by `until_ms`, each with a slot at its planned instant."""
        link = self.links[carrier]
        self.wake_retries(link, now_ms)
        link.collect_due(until_ms)
        taken: list[Message] = []
        while len(taken) < places:
            number = link.next_due()
            if number is None:
                break
            message = number.head()
            if message is None or not message.committed or message.request.priority is not number.placed:
                link.place(number, now_ms)
                link.collect_due(until_ms)
                continue
            slot_ms = self._slot_ms(number, message, now_ms=now_ms, until_ms=until_ms)
            if slot_ms is None:
                link.place(number, now_ms)
                continue
            if slot_ms > until_ms:
                break  # the link is full
            link.count_turn(number)
            self._take(number, message, slot_ms=slot_ms, now_ms=now_ms)
            taken.append(message)
            link.place(number, now_ms)
            link.collect_due(until_ms)
        return taken

    def release_own(
        self, messages: Sequence[Message], *, now_ms: int, lead_ms: int, places: Mapping[CarrierName, int]
    ) -> list[Message]:
        """At accept: heads of these messages' numbers that may leave at once, committed ones or these themselves.

        Nothing where others wait for the link already: they are first.
        """
        until_ms = now_ms + lead_ms
        own = set(messages)
        left = dict(places)
        taken: list[Message] = []
        for number in {number: None for each in messages if (number := self.numbers.get(each.number)) is not None}:
            link = number.link
            while left.get(link.carrier, 0) > 0 and link.down_since_ms is None and link.next_due() is None:
                message = number.head()
                if message is None or not (message.committed or message in own):
                    break
                slot_ms = self._slot_ms(number, message, now_ms=now_ms, until_ms=until_ms)
                if slot_ms is None or slot_ms > until_ms:
                    break
                self._take(number, message, slot_ms=slot_ms, now_ms=now_ms)
                left[link.carrier] -= 1
                taken.append(message)
            if number.placed is None and number.messages:
                link.place(number, now_ms)
        return taken

    def _slot_ms(self, number: Number, message: Message, *, now_ms: int, until_ms: int) -> int | None:
        """When it would leave by the windows of its number and its link; None when its number is later than wanted."""
        units = message.request.segments
        if number.must_wait(units):
            return None
        plan_ms = number.plan_ms(units, now_ms)
        if plan_ms > until_ms:
            return None
        link = number.link
        return max(plan_ms, link.window.forecast_ms(link.released_segments, units, now_ms))

    def _take(self, number: Number, message: Message, *, slot_ms: int, now_ms: int) -> None:
        number.take(message)
        number.link.released_segments += message.request.segments
        message.phase = Phase.RELEASED
        message.attempt += 1
        message.slot_ms, message.claimed_ms = slot_ms, now_ms

    def take_back(self, message: Message, *, now_ms: int) -> None:
        """A claim that failed or was given up before the write: its slot is free, it is its number's head again."""
        if message.phase is not Phase.RELEASED:
            return
        number = self.numbers[message.number]
        self.free_slot(number, message)
        message.phase = Phase.WAITING
        self.expiries.add(message)
        if number.holds(message):
            number.put_front(message)
        else:
            number.count(message, -1)
            self.unbook(number, message)
            self.orphans.add(message)
        self.loosen(number)

    def depart(self, message: Message, *, now_ms: int) -> Departure:
        """The only door out, in the same loop turn as the write. `GO` turns the slot into the actual time."""
        if message.phase is not Phase.RELEASED:
            return Departure(Verdict.GONE, now_ms)
        if message.cancelled:
            return Departure(Verdict.ENDED, now_ms, "cancelled")
        if message.expires_ms <= now_ms:
            return Departure(Verdict.ENDED, now_ms, "expired")
        number = self.numbers[message.number]
        link = number.link
        if now_ms - message.claimed_ms > CLAIM_GOOD_MS or message.claimed_ms <= number.link_since_ms:
            return Departure(Verdict.GIVEN_UP, now_ms)  # too old, or claimed for another carrier
        if not number.holds(message):
            return Departure(Verdict.GIVEN_UP, now_ms)  # the number was taken out, or disabled, since
        if number.is_paused and not message.request.source:
            return Departure(Verdict.GIVEN_UP, now_ms, PAUSED)
        units = message.request.segments
        lawful_ms = max(number.lawful_ms(units), link.window.lawful_ms(units))
        if lawful_ms > now_ms:
            return Departure(Verdict.NOT_YET, lawful_ms)
        number.hand_over(message, now_ms)
        link.released_segments -= units
        link.window.charge(units, now_ms)
        self.unbook(number, message)
        if number.placed is None and number.messages:
            link.place(number, now_ms)
        message.phase = Phase.DEPARTED
        message.slot_ms = now_ms
        self.expiries.remove(message)
        if message.thread is not None:
            self._use_thread(message, message.thread)
        return Departure(Verdict.GO, now_ms)

    def _use_thread(self, message: Message, thread: Thread) -> None:
        leave_thread(message)
        if not thread.used and thread.number == message.number:
            pool = self.pools.get(message.request.powerpack_id)
            if pool is not None:
                pool.threads.mark_used(thread, message.recipient)

    # -- what became of it ----------------------------------------------------------------------------------------

    def settle_sent(self, message: Message, *, now_ms: int) -> None:
        """The carrier took it, or a report says so: it is no longer ours to send."""
        self.leave(message)

    def settle_ended(self, message: Message, *, now_ms: int) -> None:
        """It will not be sent (again): out of queue, slot and every index."""
        self.leave(message)

    def settle_returned(self, message: Message, *, now_ms: int, retry_at_ms: int, charged: bool) -> None:
        """The carrier did not take it: aside until `retry_at_ms`, then its number's head. Uncharged: charge undone."""
        if message.phase is not Phase.DEPARTED:
            return
        self.put_aside(message, retry_at_ms)
        if charged:
            return
        number = self.numbers.get(message.number)
        if number is not None:
            number.give_back(message, message.slot_ms)
            if message.slot_ms >= number.link_since_ms:
                number.link.window.give_back(message.request.segments, message.slot_ms)
            self.loosen(number)

    def settle_unknown(self, message: Message, *, now_ms: int) -> None:
        """Handed over, no answer: the charge stays; it may exist twice if it is sent again."""
        message.phase = Phase.UNKNOWN
        message.possible_duplicate = True

    def resend(self, message: Message, *, now_ms: int, retry_at_ms: int) -> None:
        """`on_unknown` says to try again: a new attempt, charged again."""
        if message.phase is Phase.UNKNOWN:
            self.put_aside(message, retry_at_ms)

    def cancel(self, message: Message, *, now_ms: int) -> bool:
        """Stop a message that was not handed over; False when it was. A released one is stopped at the door."""
        if message.phase is Phase.RELEASED:
            message.cancelled = True
            return True
        if message.phase not in (Phase.WAITING, Phase.ASIDE):
            return False
        self.leave(message)
        return True

    def expire(self, *, now_ms: int, most: int) -> list[Message]:
        """Waiting messages whose validity has ended, taken out; those with a slot are ended at the door."""
        found: list[Message] = []
        undecided: list[Message] = []  # whether their decisions are durable is not known yet: another time
        for message in self.expiries.take_expired(now_ms, most):
            if message.phase not in (Phase.WAITING, Phase.ASIDE):
                continue
            if message.committed:
                self.leave(message)
                found.append(message)
            else:
                undecided.append(message)
        for message in undecided:
            self.expiries.add(message)
        return found

    def find(self, message_id: MessageId) -> Message | None:
        """The message, while it waits or has an open attempt."""
        return self.open.get(message_id)

    def wake_ms(self, carrier: CarrierName, *, now_ms: int) -> int | None:
        """When the lane of this carrier should look again; None when nothing waits for it."""
        return self.links[carrier].wake_ms(now_ms)


def _answer(question: Question) -> Decision | Refusal:
    found = choose(question)
    return wait_for_resume(found) if is_paused(question.pool) else found
