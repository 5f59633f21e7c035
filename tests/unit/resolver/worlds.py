"""A small gateway around a resolver: it accepts, claims, hands over, fails, crashes and starts again, from a seed.

It writes down what a journal would hold and every actual hand-over, and checks the law at each of them with windows
that keep everything. `restart` makes a new resolver from what was written, as storage/recovery.py does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from resolver.core import Resolver, Verdict
from resolver.limits import default_limits, padded_span_ms
from resolver.model import (
    E164,
    CarrierName,
    Decision,
    Message,
    MessageId,
    NumberRow,
    Pause,
    Phase,
    PowerpackRow,
    Refusal,
    Request,
    Tier,
)
from tests.unit.resolver.floor import NOW_MS, POWERPACK, new_id
from tests.unit.resolver.laws import Law
from tests.unit.resolver.twins import DAY_MS

CLAIM_GOOD_MS = 5_000


@dataclass
class Attempt:
    """A claim in the journal, and the fact that settles it."""

    message_id: MessageId
    number: E164
    carrier: CarrierName
    segments: int
    claimed_ms: int
    handed_ms: int | None = None
    settled: bool = False
    charged: bool = False


class Entry(NamedTuple):
    """What threads follow from, in order: a decision, a decision made again, a hand-over."""

    kind: str
    at_ms: int
    recipient: E164
    number: E164
    tier: Tier
    rules: str


@dataclass
class Stored:
    """A message's row, and what became of it."""

    request: Request
    recipient: E164
    number: E164
    tier: Tier
    rules: str
    accepted_ms: int
    expires_ms: int
    fate: str = ""
    attempts: int = 0


class World:
    """See above. `random` drives everything but the resolver."""

    def __init__(
        self,
        rows: Sequence[NumberRow],
        *,
        random: Random,
        rates: dict[CarrierName, int],
        powerpack: PowerpackRow,
    ) -> None:
        self.random = random
        self.now_ms = NOW_MS
        self.rates, self.powerpack = dict(rates), powerpack
        self.rows = {row.number: row for row in rows}
        self.gone: dict[E164, NumberRow] = {}  # dropped
        self.restarted: set[E164] = set()  # dropped before a restart
        self.down: set[CarrierName] = set()
        self.stored: dict[MessageId, Stored] = {}
        self.journal: list[Entry] = []
        self.attempts: dict[tuple[MessageId, int], Attempt] = {}
        self.pending: list[Message] = []  # applied, not committed
        self.claimed: list[Message] = []
        self.away: list[Message] = []  # handed over, no answer
        self.unknown: list[Message] = []
        self.queued: dict[tuple[MessageId, E164], list[int]] = {}  # when it joined a number's queue, in order
        self.joins = 0
        self.went_back: set[MessageId] = set()
        self.moved: set[MessageId] = set()
        self.handed: list[tuple[int, Message]] = []
        self.laws: dict[str, Law] = {}
        self.resolver = self._new_resolver()

    def _new_resolver(self) -> Resolver:
        resolver = Resolver()
        for carrier, rate in self.rates.items():
            resolver.put_link(carrier, segments_per_s=rate, now_ms=self.now_ms)
            if carrier in self.down:
                resolver.set_link_up(carrier, False, now_ms=self.now_ms)
        resolver.put_powerpack(self.powerpack)
        for row in self.rows.values():
            resolver.put_number(row, now_ms=self.now_ms)
        return resolver

    # -- accepting ----------------------------------------------------------------------------------------------------

    def accept(self, request: Request, recipient: E164, *, claim_own: str = "") -> Message | Refusal:
        """Decide and apply; durable only with `commit`."""
        request = replace(request, accepted_ms=self.now_ms)
        decided = self.resolver.decide(request, recipient, now_ms=self.now_ms, chance=self.random.random())
        if isinstance(decided, Refusal):
            return decided
        message = self.resolver.apply(request, recipient, decided, new_id(), now_ms=self.now_ms)
        self._join(message)
        self.pending.append(message)
        self.stored[message.message_id] = Stored(
            request, recipient, decided.number, decided.tier, ",".join(decided.rules), self.now_ms, message.expires_ms
        )
        if claim_own:
            self.claim_own(message, stored=claim_own == "stored")
        return message

    def claim_own(self, message: Message, *, stored: bool) -> None:
        """Claim what may leave at once in the transaction of its decision, which is stored or fails."""
        self._note_behind()
        places = dict.fromkeys(self.rates, 3)
        own = self.resolver.release_own(self.pending, now_ms=self.now_ms, lead_ms=100, places=places)
        self._note_released(own)
        if stored:
            self.commit()
            self._claim(own)
            return
        for each in own:
            if each not in self.pending:
                self.went_back.add(each.message_id)
                self.resolver.take_back(each, now_ms=self.now_ms)
        self.fail_commit()

    def commit(self) -> None:
        """What was applied is durable now."""
        self._note_behind()
        for message in self.pending:
            stored = self.stored[message.message_id]
            self._write("decided", stored, at_ms=stored.accepted_ms)
        self.resolver.commit(self.pending)
        self.pending = []

    def fail_commit(self) -> None:
        """What was applied is not stored: nobody was told."""
        self._note_behind()
        for message in reversed(self.pending):
            self.resolver.undo(message, now_ms=self.now_ms)
            del self.stored[message.message_id]
        self.pending = []

    # -- leaving ------------------------------------------------------------------------------------------------------

    def release(self, carrier: CarrierName, *, places: int = 10, lead_ms: int = 100, claim: bool = True) -> None:
        """One round of a lane: what is released is claimed, or its claim fails."""
        self._note_behind()
        taken = self.resolver.release(carrier, now_ms=self.now_ms, until_ms=self.now_ms + lead_ms, places=places)
        assert len(taken) <= places
        self._note_released(taken)
        if claim:
            self._claim(taken)
        else:
            for message in taken:
                self._went_back(message)
                self.resolver.take_back(message, now_ms=self.now_ms)

    def _note_behind(self) -> None:
        """What waits behind a retry goes first once the retry is gone, by whatever way: noted before each of them."""
        for number in self.resolver.numbers.values():
            for behind in (number.aside or {}).values():
                self.went_back.update(each.message_id for each in behind)

    def _note_released(self, taken: Sequence[Message]) -> None:
        waiting = [each for each in self.resolver.open.values() if each.phase is Phase.WAITING]
        aside = [each for each in self.resolver.open.values() if each.phase is Phase.ASIDE]
        for message in taken:
            assert message.phase is Phase.RELEASED
            for other in waiting:
                self._check_order(message, other, aside)

    def _check_order(self, gone: Message, stays: Message, aside: list[Message]) -> None:
        """A released message has overtaken nobody of its number and priority, but for retries and those behind one."""
        if stays.number != gone.number or stays in self.resolver.orphans:
            return
        if self.resolver.numbers[gone.number].is_paused and not stays.request.source:
            return  # what names its number itself goes past what stays
        if gone.message_id in self.went_back or stays.message_id in self.went_back:
            return  # retries go first, and with them what waited behind them, in accept order
        if stays.request.priority is not gone.request.priority:
            return
        # Whoever comes back to a number may find the place it had there.
        stays_joined, gone_joined = (self.queued[each.message_id, each.number] for each in (stays, gone))
        if stays_joined[-1] > gone_joined[0] or stays.message_id > gone.message_id:
            return  # it came later, or at least was accepted later
        assert any(
            each.recipient == stays.recipient and each.number == stays.number and each.message_id < stays.message_id
            for each in aside
        ), f"{gone.message_id} overtook {stays.message_id}"

    def _claim(self, taken: Sequence[Message]) -> None:
        for message in taken:
            carrier = self.resolver.carrier_of(message.number)
            assert carrier is not None
            stored = self.stored[message.message_id]
            assert message.attempt > stored.attempts
            stored.attempts = message.attempt
            self.attempts[message.message_id, message.attempt] = Attempt(
                message.message_id, message.number, carrier, message.request.segments, message.claimed_ms
            )
            self.claimed.append(message)

    def depart(self, *, late_ms: int = 0) -> None:
        """Let everything claimed whose slot has come go to the door."""
        for message in sorted(self.claimed, key=lambda each: each.slot_ms):
            if message.slot_ms + late_ms > self.now_ms:
                continue
            departure = self.resolver.depart(message, now_ms=self.now_ms)
            attempt = self.attempts[message.message_id, message.attempt]
            if departure.verdict is Verdict.NOT_YET:
                assert departure.at_ms > self.now_ms
                continue
            self.claimed.remove(message)
            if departure.verdict is Verdict.GO:
                self._hand_over(message, attempt)
                continue
            attempt.settled = True
            if departure.verdict is Verdict.ENDED:
                self._end(message, departure.reason)
                self.resolver.settle_ended(message, now_ms=self.now_ms)
            elif departure.verdict is Verdict.GIVEN_UP:
                self._went_back(message)
                self.resolver.take_back(message, now_ms=self.now_ms)
            else:
                assert self.stored[message.message_id].fate

    def _hand_over(self, message: Message, attempt: Attempt) -> None:
        stored = self.stored[message.message_id]
        assert not stored.fate, f"{message.message_id} was handed over after it had ended: {stored.fate}"
        assert not message.cancelled
        assert message.request.source or not self.powerpack.pause
        assert message.request.source in ("", message.number)
        assert self.now_ms < message.expires_ms
        assert self.now_ms - message.claimed_ms <= CLAIM_GOOD_MS
        attempt.handed_ms = self.now_ms
        for law, units in self._laws(attempt):
            law.charge(units, self.now_ms)
        self.handed.append((self.now_ms, message))
        self._write("handed over", stored, at_ms=self.now_ms)
        self.away.append(message)

    def _laws(self, attempt: Attempt) -> list[tuple[Law, int]]:
        """The windows this hand-over counts in, with the limits of now."""
        rate, day = self._laws_of(attempt.number)
        link = self._law(attempt.carrier, self.rates[attempt.carrier], padded_span_ms(1_000))
        return [(rate, attempt.segments), (day, 1), (link, attempt.segments)]

    def _laws_of(self, number: E164) -> tuple[Law, Law]:
        """A number's own; a number that is gone keeps its limits."""
        row = self.rows[number] if number in self.rows else self.gone[number]
        limits = row.limits or default_limits(row.type, row.country, row.campaign_approved)
        rate = self._law(f"{number} rate", limits.segments, padded_span_ms(limits.span_ms))
        return rate, self._law(f"{number} day", limits.day_limit or 1 << 40, DAY_MS)

    def _law(self, name: str, limit: int, span_ms: int) -> Law:
        law = self.laws.setdefault(name, Law(limit, span_ms))
        law.limit, law.span_ms = limit, span_ms
        return law

    # -- what became of it --------------------------------------------------------------------------------------------

    def answer(self, message: Message, outcome: str, *, retry_ms: int = 500) -> None:
        """The carrier's answer to a hand-over."""
        self.away.remove(message)
        attempt = self.attempts[message.message_id, message.attempt]
        attempt.settled, attempt.charged = True, True
        now_ms = self.now_ms
        if outcome == "sent":
            self._end(message, "sent")
            self.resolver.settle_sent(message, now_ms=now_ms)
        elif outcome == "rejected":
            self._end(message, "rejected")
            self.resolver.settle_ended(message, now_ms=now_ms)
        elif outcome in ("returned", "returned charged"):
            attempt.charged = outcome == "returned charged"
            if not attempt.charged:
                for law, units in self._laws(attempt):
                    law.give_back(units, message.slot_ms)
            self._went_back(message)
            self.resolver.settle_returned(
                message, now_ms=now_ms, retry_at_ms=now_ms + retry_ms, charged=attempt.charged
            )
        else:
            self.resolver.settle_unknown(message, now_ms=now_ms)
            self.unknown.append(message)

    def resolve_unknown(self, message: Message, *, resend: bool) -> None:
        """`on_unknown` has its way."""
        self.unknown.remove(message)
        if resend and self.now_ms < message.expires_ms:
            self._went_back(message)
            self.resolver.resend(message, now_ms=self.now_ms, retry_at_ms=self.now_ms + 100)
        else:
            self._end(message, "given up")
            self.resolver.settle_ended(message, now_ms=self.now_ms)

    def report(self, message: Message) -> None:
        """A report says that it was taken after all."""
        if self.stored[message.message_id].attempts:
            self._end(message, "sent")
            self.resolver.settle_sent(message, now_ms=self.now_ms)

    def cancel(self, message: Message) -> None:
        """Stop it: at once, or at the door."""
        self._note_behind()
        if message.phase is Phase.DONE or not message.committed:
            return
        is_released = message.phase is Phase.RELEASED
        if self.resolver.cancel(message, now_ms=self.now_ms) and not is_released:
            self._end(message, "cancelled")

    def expire(self) -> None:
        self._note_behind()
        for message in self.resolver.expire(now_ms=self.now_ms, most=7):
            assert message.expires_ms <= self.now_ms
            self._end(message, "expired")

    def rebind(self, most: int = 50) -> list[tuple[Message, Decision | Refusal]]:
        """Take better chances, and write down what moved."""
        self._note_behind()
        moved = self.resolver.rebind(now_ms=self.now_ms, chance=self.random.random(), most=most)
        for message, decided in moved:
            if isinstance(decided, Refusal):
                self._end(message, "refused")
                continue
            stored = self.stored[message.message_id]
            stored.number, stored.tier = decided.number, decided.tier
            self._write("decided", stored, at_ms=self.now_ms)
            self.moved.add(message.message_id)
            self._join(message)
        return moved

    def _write(self, kind: str, stored: Stored, *, at_ms: int) -> None:
        if not stored.request.source:  # recovery reads those of powerpacks only
            self.journal.append(Entry(kind, at_ms, stored.recipient, stored.number, stored.tier, stored.rules))

    def _join(self, message: Message) -> None:
        self.joins += 1
        self.queued.setdefault((message.message_id, message.number), []).append(self.joins)

    def _went_back(self, message: Message) -> None:
        self.went_back.add(message.message_id)

    def _end(self, message: Message, fate: str) -> None:
        stored = self.stored[message.message_id]
        assert not stored.fate, f"{message.message_id} ended twice: {stored.fate}, then {fate}"
        stored.fate = fate

    # -- the catalog --------------------------------------------------------------------------------------------------

    def put_number(self, row: NumberRow) -> None:
        self._note_behind()
        self.rows[row.number] = row
        if row.number in self.gone and row.number in self.restarted:
            for law in self._laws_of(row.number):
                law.read_again()
        self.gone.pop(row.number, None)
        self.restarted.discard(row.number)
        self.resolver.put_number(row, now_ms=self.now_ms)

    def drop_number(self, number: E164) -> None:
        self._note_behind()
        self.gone[number] = self.rows.pop(number)
        self.resolver.drop_number(number, now_ms=self.now_ms)

    def set_sticky(self, sticky_sender: bool) -> None:
        self.powerpack = replace(self.powerpack, sticky_sender=sticky_sender)
        self.resolver.put_powerpack(self.powerpack)

    def set_pause(self, pause: Pause) -> None:
        self._note_behind()
        self.powerpack = replace(self.powerpack, pause=pause)
        self.resolver.put_powerpack(self.powerpack)

    def set_rate(self, carrier: CarrierName, segments_per_s: int) -> None:
        self.rates[carrier] = segments_per_s
        self.resolver.set_link_rate(carrier, segments_per_s, now_ms=self.now_ms)

    def set_up(self, carrier: CarrierName, up: bool) -> None:
        (self.down.discard if up else self.down.add)(carrier)
        self.resolver.set_link_up(carrier, up, now_ms=self.now_ms)

    # -- a crash ------------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Kill the process, and start another from what was written."""
        for message in self.pending:
            del self.stored[message.message_id]
        self.pending, self.claimed, self.away, self.unknown = [], [], [], []
        self.restarted |= self.gone.keys()
        for carrier in self.rates:
            self._law(carrier, self.rates[carrier], padded_span_ms(1_000)).read_again()
        for number in self.rows:
            for law in self._laws_of(number):
                law.read_again()
        self.resolver = self.restored()
        for stored_id in self.resolver.open:
            self._join(self.resolver.open[stored_id])
        self.went_back = set(self.resolver.open)
        for message in self.resolver.open.values():
            if message.phase is Phase.UNKNOWN:
                self.unknown.append(message)

    def restored(self) -> Resolver:
        """Another resolver, made from what is stored."""
        resolver = self._new_resolver()
        charges: list[tuple[int, Attempt]] = []
        open_attempts: set[MessageId] = set()
        for attempt in self.attempts.values():
            if not attempt.settled:
                open_attempts.add(attempt.message_id)
                at_ms = max(self.now_ms, attempt.claimed_ms + CLAIM_GOOD_MS)
                # Settled as unknown: it may have been handed over or not, so it counts as late as it can have been.
                attempt.settled, attempt.charged, attempt.handed_ms = True, True, at_ms
                charges.append((at_ms, attempt))
            elif attempt.charged and attempt.handed_ms is not None:
                charges.append((attempt.handed_ms, attempt))
        for at_ms, attempt in sorted(charges, key=lambda charge: charge[0]):
            resolver.restore_charge(attempt.number, attempt.carrier, handed_ms=at_ms, segments=attempt.segments)
        self._replay(resolver)
        for message_id, stored in sorted(self.stored.items()):
            if not stored.fate:
                phase = Phase.UNKNOWN if message_id in open_attempts else Phase.WAITING
                message = Message(
                    message_id,
                    stored.request,
                    stored.recipient,
                    stored.number,
                    stored.tier,
                    stored.expires_ms,
                    committed=True,
                )
                message.phase, message.attempt = phase, stored.attempts
                resolver.restore_message(message, now_ms=self.now_ms)
        return resolver

    def _replay(self, resolver: Resolver) -> None:
        for kind, at_ms, recipient, number, tier, rules in self.journal:
            if kind == "decided":
                resolver.replay_decision(POWERPACK, recipient, number, tier, rules, at_ms=at_ms)
            else:
                resolver.replay_hand_over(POWERPACK, recipient, number, rules)

    # -- the end ------------------------------------------------------------------------------------------------------

    def drain(self, *, rounds_max: int = 5_000) -> None:
        """Let everything end: links up, answers good, time as far as it takes."""
        self.commit()
        self.set_pause(Pause.NONE)
        for carrier in self.rates:
            self.set_up(carrier, True)
        for _ in range(rounds_max):
            for message in list(self.away):
                self.answer(message, "sent")
            for message in list(self.unknown):
                self.resolve_unknown(message, resend=True)
            self.expire()
            self.rebind()
            for carrier in self.rates:
                self.release(carrier, lead_ms=0)
            self.depart()
            if not self.resolver.open:
                return
            self.now_ms = max(self.now_ms + 1, min(self._next_ms(), self.now_ms + 600_000))
        raise AssertionError(f"{len(self.resolver.open)} messages never ended")

    def _next_ms(self) -> int:
        """When a lane would look again, or a claim's slot comes, or a validity ends."""
        instants = [max(message.slot_ms, self.now_ms + 100) for message in self.claimed]
        instants += [message.expires_ms for message in self.resolver.open.values() if message.phase is Phase.WAITING]
        for carrier in self.rates:
            wake_ms = self.resolver.wake_ms(carrier, now_ms=self.now_ms)
            if wake_ms is not None:
                instants.append(wake_ms)
        return min(instants, default=self.now_ms)
