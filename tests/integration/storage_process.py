"""A small process over a real journal: accepts, claims, hands over and settles as the gateway does, from a seed.

So that recovery can be asked to bring back what its memory was.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from resolver.core import Resolver, Verdict
from resolver.model import (
    E164,
    NO_POWERPACK,
    CarrierName,
    Decision,
    Message,
    MessageId,
    NumberRow,
    NumberType,
    Phase,
    PowerpackRow,
    Priority,
    Request,
    RequestId,
)
from storage.catalog import CatalogRows
from storage.journal import Journal
from storage.records import (
    ENDS,
    BodyRow,
    Entry,
    FactKind,
    FactRow,
    HandoverRow,
    MessageRow,
    OutcomeRow,
    Settled,
    State,
    fold,
)
from tests.fakes.clock import HandClock
from tests.fakes.entries import ACCOUNT, POWERPACK, SIMULATED
from tests.fakes.ids import CountingIds

LINKS = {SIMULATED: 40}
NUMBERS = [E164(f"+1{area}5550{place:03d}") for area in (415, 212, 305) for place in range(100, 103)]
RECIPIENTS = [E164(f"+1{area}5551{place:03d}") for area in (415, 212, 604) for place in range(8)]


def catalog_rows() -> CatalogRows:
    numbers = [
        NumberRow(number, ACCOUNT, NumberType.LONG_CODE, "US", SIMULATED, POWERPACK, campaign_approved=True)
        for number in NUMBERS
    ]
    powerpack = PowerpackRow(POWERPACK, ACCOUNT, POWERPACK, "p")  # type: ignore[arg-type]
    return CatalogRows([], [], [powerpack], numbers)


def filled_resolver(clock: HandClock) -> Resolver:
    resolver, rows = Resolver(), catalog_rows()
    for carrier, segments_per_s in LINKS.items():
        resolver.put_link(carrier, segments_per_s=segments_per_s, now_ms=clock.now_ms())
    resolver.put_powerpack(rows.powerpacks[0])
    for number in rows.numbers:
        resolver.put_number(number, now_ms=clock.now_ms())
    return resolver


class Process:
    """What one gateway process does, as far as memory and the journal are concerned."""

    def __init__(self, journal: Journal, resolver: Resolver, clock: HandClock, ids: CountingIds, seed: int) -> None:
        self.journal, self.resolver, self.clock, self.ids = journal, resolver, clock, ids
        self.chance = Random(seed)
        self.unsettled: dict[str, Message] = {}
        self.counts: Counter[str] = Counter()

    async def store(self, entry: Entry) -> None:
        assert await self.journal.append(entry) is Settled.COMMITTED

    # -- accepting ----------------------------------------------------------------------------------------------------

    async def accept(self) -> None:
        now_ms, chance = self.clock.now_ms(), self.chance
        request = Request(
            RequestId(self.ids.new()), ACCOUNT, POWERPACK, "Hello", chance.choice([1, 1, 2]),
            priority=chance.choice(list(Priority)), accepted_ms=now_ms, callback_url="https://example.com/status",
            validity_ms=chance.choice([20_000, 10_800_000]),
        )  # fmt: skip
        if chance.random() < 0.2:
            request.powerpack_id, request.source = NO_POWERPACK, chance.choice(NUMBERS)
        entry = Entry(bodies=[body_of(request)])
        messages: list[Message] = []
        for line, recipient in enumerate(chance.sample(RECIPIENTS, chance.randint(1, 6))):
            decided = self.resolver.decide(request, recipient, now_ms=now_ms, chance=chance.random())
            if isinstance(decided, Decision):
                message = self.resolver.apply(request, recipient, decided, MessageId(self.ids.new()), now_ms=now_ms)
                message.sequence = 1
                messages.append(message)
                entry.messages.append(row_of(message, decided, line))
        if not messages:
            return
        own = self.resolver.release_own(messages, now_ms=now_ms, lead_ms=100, places={SIMULATED: 5})
        if own:
            entry.handovers.append(claim_of(own, now_ms))
        await self.store(entry)
        self.resolver.commit(messages)
        self.counts["accepted"] += len(messages)
        await self.hand_over(own)

    # -- leaving ------------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        now_ms = self.clock.now_ms()
        claims = self.resolver.release(SIMULATED, now_ms=now_ms, until_ms=now_ms + 100, places=10)
        if claims:
            await self.store(Entry(handovers=[claim_of(claims, now_ms)]))
            await self.hand_over(claims)

    async def hand_over(self, claims: list[Message]) -> None:
        entry = Entry()
        for message in claims:
            departure = self.resolver.depart(message, now_ms=self.clock.now_ms())
            if departure.verdict is Verdict.NOT_YET:
                self.clock.now = departure.at_ms
                departure = self.resolver.depart(message, now_ms=self.clock.now_ms())
            if departure.verdict is Verdict.GO:
                self.answer(entry, message)
            elif departure.verdict is Verdict.ENDED:
                self.fact(entry, message, FactKind.RETURNED, attempt=message.attempt)
                self.fact(entry, message, FactKind(departure.reason))
                self.resolver.settle_ended(message, now_ms=self.clock.now_ms())
            elif departure.verdict is not Verdict.GONE:
                self.fact(entry, message, FactKind.RETURNED, attempt=message.attempt)
                self.resolver.take_back(message, now_ms=self.clock.now_ms())
        if entry.facts:
            await self.store(entry)

    def answer(self, entry: Entry, message: Message) -> None:
        """What the carrier answers; nothing, now and then, for good."""
        now_ms = self.clock.now_ms()
        kind = self.chance.choice(
            [FactKind.SENT] * 6 + [FactKind.RETURNED] * 2 + [FactKind.REJECTED, FactKind.UNKNOWN, None]
        )
        if kind is None:
            self.unsettled[message.message_id] = message
            self.counts["unsettled"] += 1
            return
        charged = kind is not FactKind.RETURNED or self.chance.random() < 0.5
        handed = {"attempt": message.attempt, "handed_ms": message.slot_ms, "charged": charged}
        self.fact(entry, message, kind, **handed)
        if kind is FactKind.SENT:
            self.resolver.settle_sent(message, now_ms=now_ms)
        elif kind is FactKind.REJECTED:
            self.resolver.settle_ended(message, now_ms=now_ms)
        elif kind is FactKind.UNKNOWN:
            message.retries += 1
            self.resolver.settle_unknown(message, now_ms=now_ms)
        else:
            message.retries += charged
            self.resolver.settle_returned(message, now_ms=now_ms, retry_at_ms=now_ms + 500, charged=charged)

    def fact(self, entry: Entry, message: Message, kind: FactKind, **settling: int | None) -> None:
        attempt, handed_ms = settling.get("attempt") or 0, settling.get("handed_ms")
        detail = str(message.tier) if kind is FactKind.REBOUND else ""
        self.counts[kind] += 1
        entry.facts.append(
            FactRow(
                message.message_id, ACCOUNT, kind, attempt, self.clock.now_ms(), handed_ms, message.number or None,
                SIMULATED, "", "", detail, message.request.segments, bool(settling.get("charged")),
            )
        )  # fmt: skip
        before, message.state = message.state, fold(State(message.state), kind)
        message.sequence += message.state != before
        if message.state in ENDS:
            outcome = OutcomeRow(message.message_id, ACCOUNT, State(message.state), "", self.clock.now_ms())
            entry.outcomes.append(outcome)

    # -- what else happens --------------------------------------------------------------------------------------------

    async def tidy(self) -> None:
        """Expire, cancel, decide again, send unknown ones again."""
        now_ms, resolver, entry = self.clock.now_ms(), self.resolver, Entry()
        for message in resolver.expire(now_ms=now_ms, most=100):
            self.fact(entry, message, FactKind.EXPIRED)
        for message in [each for each in resolver.open.values() if each.message_id not in self.unsettled]:
            if self.chance.random() < 0.05 and resolver.cancel(message, now_ms=now_ms):
                self.fact(entry, message, FactKind.CANCELLED)
            elif message.phase is Phase.UNKNOWN and self.chance.random() < 0.5:
                resolver.resend(message, now_ms=now_ms, retry_at_ms=now_ms)
        for message, decided in resolver.rebind(now_ms=now_ms, chance=self.chance.random(), most=100):
            self.fact(entry, message, FactKind.REBOUND if isinstance(decided, Decision) else FactKind.REFUSED)
        if entry.facts:
            await self.store(entry)

    async def live(self, steps: int) -> None:
        for _ in range(steps):
            await self.chance.choice([self.accept, self.accept, self.leave, self.leave, self.leave, self.tidy])()
            self.clock.now += self.chance.choice([0, 1, 50, 400, 3_000])


def body_of(request: Request) -> BodyRow:
    return BodyRow(
        request.request_id, ACCOUNT, request.text, request.callback_url, "POST", request.patience_ms,
        request.validity_ms, "", "true", "",
    )  # fmt: skip


def row_of(message: Message, decided: Decision, line: int) -> MessageRow:
    request = message.request
    return MessageRow(
        message.message_id, request.request_id, ACCOUNT, request.powerpack_id or None, message.recipient,
        decided.number, decided.tier, ",".join(decided.rules), decided.window, request.segments, "sms",
        request.priority, "", line,
        request.accepted_ms, message.expires_ms, decided.forecast_ms, "",
    )  # fmt: skip


def claim_of(messages: list[Message], now_ms: int) -> HandoverRow:
    return HandoverRow(
        CarrierName(SIMULATED), now_ms, [each.message_id for each in messages], [each.attempt for each in messages],
        [each.number for each in messages], [each.request.segments for each in messages],
    )  # fmt: skip
