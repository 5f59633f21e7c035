"""Accept messages: check, decide, apply, journal, and only then answer.

    checks ─► journal there? ─► decide + apply, one recipient after another ─► first claims ─► one entry ─► committed
                                └────────── between two awaits: nobody sees half of it ──────────┘

Invariants
* Memory is ahead of the disk, never of an answer or a hand-over: what an entry that failed had taken is given back by
  `Batch.settle`, which the journal calls exactly once, whoever still waits for the answer.
* One request is one entry: all of it is stored, or nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from gateway.claims import handover_row
from gateway.clock import Chance, Clock, Ids
from gateway.facts import Facts
from gateway.metrics import Counts
from gateway.pools import Pools
from gateway.rows import body_row, decided_row, failed_row
from gateway.submissions import NOT_LEARNT, Answer, Invalid, KeyTaken, LearnOperators, NotAccepted, Outcome, Submission
from resolver.compliance import check_recipient
from resolver.core import Resolver
from resolver.model import (
    E164,
    STATE_REFUSALS,
    CarrierName,
    Message,
    MessageId,
    Refusal,
    RefusalCode,
    Request,
    RequestId,
    Tier,
)
from resolver.segments import check_text, measure
from storage.records import (
    Entry,
    FactKind,
    JournalUnavailable,
    Settled,
)

log = structlog.get_logger(__name__)

RECIPIENTS_MAX: Final = 1_000  # of one request; Plivo's
CHECKED_IN_A_ROW: Final = 200  # recipients between two turns of the loop; a foreign one costs 100 µs
NO_NUMBER: Final = E164("")


REFUSAL_CODES: Final[Mapping[RefusalCode, str]] = {
    RefusalCode.NO_CAPACITY: "420",
    RefusalCode.STICKY_AT_LIMIT: "420",
    RefusalCode.NO_NUMBER: "90",
    RefusalCode.PAUSED: "90",
}
"""Plivo's error code of a message that failed because of the pool's state."""


class ReadyJournal(Protocol):
    """What is needed of the journal beyond what facts do with it."""

    @property
    def ready(self) -> bool: ...

    async def wait_ready(self, ms_max: int) -> bool: ...


class LanePort(Protocol):
    """What is needed of a lane."""

    def free_places(self) -> int: ...

    def take(self, claims: list[Message]) -> None: ...

    def wake(self) -> None: ...


class Outbound:
    """Takes submissions for this process's accounts."""

    def __init__(
        self,
        resolver: Resolver,
        facts: Facts,
        journal: ReadyJournal,
        pools: Pools,
        lanes: Mapping[CarrierName, LanePort],
        *,
        clock: Clock,
        ids: Ids,
        chance: Chance,
        allowed_countries: frozenset[str],
        claim_lead_ms: int,
        hold_ms_max: int,
        find_operator: Callable[[E164], str],
        learn_operators: LearnOperators | None = None,
        accepted: Counts,
        refused: Counts,
        binding: Counts | None = None,
        is_overloaded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._resolver = resolver
        self._facts = facts
        self._journal = journal
        self._pools = pools
        self._lanes = lanes
        self._clock = clock
        self._ids = ids
        self._chance = chance
        self._allowed_countries = allowed_countries
        self._claim_lead_ms = claim_lead_ms
        self._hold_ms_max = hold_ms_max
        self._find_operator, self._learn_operators = find_operator, learn_operators
        self._accepted, self._refused, self._binding = accepted, refused, binding
        self.is_overloaded = is_overloaded
        self._pending: dict[CarrierName, int] = {}  # claims being committed, by carrier: their places are taken

    async def submit(self, submission: Submission) -> Answer:
        """Implements `Submit`."""
        request = submission.request
        refusal = check_text(request.text)
        if refusal is not None:
            self._refused.add(refusal.code)
            raise NotAccepted(refusal.code, refusal.detail)
        self.check_sender(request)
        destinations = submission.destinations
        if len(destinations) == 1:
            recipients, invalid, duplicates = self._check_one(destinations[0])
        else:
            recipients, invalid, duplicates = await self._check_recipients(destinations)
        if not recipients:
            raise NotAccepted(invalid[0].refusal.code, _all_invalid(invalid))
        if self.is_overloaded() or self._resolver.waiting + len(recipients) > self._resolver.waiting_max:
            raise NotAccepted("overloaded")
        if not self._journal.ready and not await self._journal.wait_ready(self._hold_ms_max):
            raise JournalUnavailable("the database is away")  # what cannot be stored must not move anything
        operators = await self.learn((request, each) for each in recipients) if self._learn_operators else NOT_LEARNT
        self.check_sender(request)  # it may have been deleted meanwhile
        request.request_id = RequestId(self._ids.new())
        request.segments, request.accepted_ms = measure(request.text).segments, self._clock.now_ms()
        batch = Batch(self)
        try:
            self._decide(batch, request, recipients, operators, invalid, refuse_now=submission.refuse_now)
            answer = Answer(request.segments, batch.stored, batch.refused, invalid, duplicates)
            if not batch.stored:
                if not batch.refused:
                    raise NotAccepted(invalid[0].refusal.code, _all_invalid(invalid))
                return answer
            if submission.keep is not None:
                batch.entry.idempotency = submission.keep(answer)
            settling = self._facts.append(batch.entry, batch.settle)
        except BaseException:  # nothing was handed to the journal, so nothing of it will ever be stored
            batch.settle(Settled.FAILED)
            raise
        check_stored(await settling)
        return answer

    def check_sender(self, request: Request) -> None:
        """The powerpack, or the number that is named, must be the account's. Raises NotAccepted."""
        if request.source:
            numbers = self._pools.numbers
            number = numbers.get(request.source) or numbers.get(E164(request.source.removeprefix("+")))
            if number is None or number.account_id != request.account_id:
                raise NotAccepted("src_not_allowed")
            request.source = number.number
            return
        row = self._pools.powerpacks.get(request.powerpack_id)
        if row is None or row.account_id != request.account_id:
            raise NotAccepted("not_found", "there is no such powerpack")

    def _check_one(self, written: str) -> tuple[list[E164], list[Invalid], list[E164]]:
        """`_check_recipients` of one."""
        checked = self.check_recipient(written)
        return ([], [Invalid(written, checked)], []) if isinstance(checked, Refusal) else ([checked], [], [])

    async def _check_recipients(self, destinations: Sequence[str]) -> tuple[list[E164], list[Invalid], list[E164]]:
        """Which recipients there are, each once; which are none; which were named more than once."""
        counts = dict.fromkeys(destinations, 0)
        for written in destinations:
            counts[written] += 1
        if len(counts) > RECIPIENTS_MAX:
            raise NotAccepted("too_many_recipients", f"{len(counts)} recipients are named; at most {RECIPIENTS_MAX}")
        recipients: dict[E164, int] = {}
        invalid: list[Invalid] = []
        for place, (written, count) in enumerate(counts.items()):
            if place % CHECKED_IN_A_ROW == CHECKED_IN_A_ROW - 1:
                await asyncio.sleep(0)
            checked = self.check_recipient(written)
            if isinstance(checked, Refusal):
                invalid.append(Invalid(written, checked))
            else:
                recipients[checked] = recipients.get(checked, 0) + count
        return list(recipients), invalid, [each for each, count in recipients.items() if count > 1]

    def check_recipient(self, written: str) -> E164 | Refusal:
        """Say who it is, or why he may not be written to."""
        checked = check_recipient(written, self._allowed_countries)
        if isinstance(checked, Refusal):
            self._refused.add(checked.code)
        return checked

    async def learn(self, wanted: Iterable[tuple[Request, E164]]) -> Mapping[E164, str]:
        """Ask whose recipients they are, where the powerpack has a rule for operators and the table does not know."""
        if self._learn_operators is None:
            return NOT_LEARNT
        powerpacks, recipients = self._pools.powerpacks, list[E164]()
        for request, recipient in wanted:
            row = powerpacks.get(request.powerpack_id)
            if row is not None and row.operator_types and not self._find_operator(recipient):
                recipients.append(recipient)
        return await self._learn_operators(recipients) if recipients else NOT_LEARNT

    # -- deciding: no await from here to the journal --------------------------------------------------------------

    def _decide(
        self,
        batch: Batch,
        request: Request,
        recipients: Sequence[E164],
        operators: Mapping[E164, str],
        invalid: list[Invalid],
        *,
        refuse_now: bool,
    ) -> None:
        """One recipient after another, each knowing what those before it took."""
        for line, recipient in enumerate(recipients):
            decided = self.decide(batch, request, recipient, line, operators)
            if not isinstance(decided, Refusal):
                batch.stored.append(decided)
            elif decided.code not in STATE_REFUSALS:
                invalid.append(Invalid(recipient, decided))
            elif refuse_now:
                batch.refused.append(Outcome(MessageId(""), recipient, decided))
            else:
                self._store_failed(batch, request, recipient, line, decided)
        if batch.stored:
            batch.entry.bodies.append(body_row(request))
            self.claim(batch, request.accepted_ms)

    def decide(
        self, batch: Batch, request: Request, recipient: E164, line: int, operators: Mapping[E164, str] = NOT_LEARNT
    ) -> Outcome | Refusal:
        """Decide one message and, unless it is refused, take it in: memory, the batch, its rows.

        `operators`: what was learnt beforehand of those the table does not know.
        """
        now_ms = request.accepted_ms
        operator = self._find_operator(recipient)
        if operators and not operator:
            operator = operators.get(recipient, "")
        decided = self._resolver.decide(request, recipient, now_ms=now_ms, chance=self._chance(), operator=operator)
        if isinstance(decided, Refusal):
            self._refused.add(decided.code)
            return decided
        message_id = MessageId(self._ids.new())
        message = self._resolver.apply(request, recipient, decided, message_id, now_ms=now_ms, operator=operator)
        batch.messages.append(message)
        batch.entry.messages.append(decided_row(message, line, decided))
        if request.callback_url:
            self._facts.record_accepted(batch.entry, message)
        self._accepted.add(decided.tier)
        if decided.window and self._binding is not None:
            self._binding.add(decided.window)
        return Outcome(message_id, recipient, decided)

    def _store_failed(self, batch: Batch, request: Request, recipient: E164, line: int, refusal: Refusal) -> None:
        """Keep a state refusal as a message that failed, as Plivo's clients expect: one id for each recipient."""
        message_id = MessageId(self._ids.new())
        expires_ms = request.accepted_ms + request.validity_ms
        message = Message(message_id, request, recipient, request.source or NO_NUMBER, Tier.NONE, expires_ms)
        batch.stored.append(Outcome(message_id, recipient, refusal))
        batch.entry.messages.append(failed_row(message, line, refusal))
        self._facts.record(
            batch.entry, message, FactKind.REFUSED, code=REFUSAL_CODES[refusal.code], detail=refusal.code
        )

    def claim(self, batch: Batch, now_ms: int) -> None:
        """Let what may leave at once be claimed in the transaction of its own decision."""
        if not batch.messages:
            return
        places: dict[CarrierName, int] = {}
        for carrier, lane in self._lanes.items():
            free = lane.free_places() - self._pending.get(carrier, 0)
            if free > 0:
                places[carrier] = free
        if not places:
            return
        for message in self._resolver.release_own(
            batch.messages, now_ms=now_ms, lead_ms=self._claim_lead_ms, places=places
        ):
            link = self._resolver.carrier_of(message.number)
            assert link is not None, "a number that released has a carrier"
            batch.claims.setdefault(link, []).append(message)
        for carrier, claims in batch.claims.items():
            self._pending[carrier] = self._pending.get(carrier, 0) + len(claims)
            batch.entry.handovers.append(handover_row(carrier, claims))

    # -- the truth about an entry ---------------------------------------------------------------------------------

    def settled(self, batch: Batch, settled: Settled) -> None:
        """The truth about an entry, in the loop turn in which it is known; see `Batch.settle`."""
        for carrier, claims in batch.claims.items():
            self._pending[carrier] -= len(claims)
        if settled is Settled.COMMITTED:
            for woken in self._resolver.commit(batch.messages):
                self._wake(woken)
            for carrier, claims in batch.claims.items():
                self._lanes[carrier].take(claims)
            self._pools.committed(batch.messages)
            return
        now_ms = self._clock.now_ms()
        own = set(batch.messages)
        for carrier, claims in batch.claims.items():
            for message in claims:
                if message not in own:
                    self._resolver.take_back(message, now_ms=now_ms)
            self._wake(carrier)
        for message in reversed(batch.messages):
            self._resolver.undo(message, now_ms=now_ms)
        self._pools.forgotten(batch.messages)

    def _wake(self, carrier: CarrierName) -> None:
        lane = self._lanes.get(carrier)
        if lane is not None:  # a number may name a carrier that is not set up
            lane.wake()


class Batch:
    """An entry on its way into the journal, and what memory has taken for it."""

    __slots__ = ("_outbound", "claims", "entry", "messages", "refused", "stored")

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self.entry = Entry()
        self.messages: list[Message] = []
        self.claims: dict[CarrierName, list[Message]] = {}
        self.stored: list[Outcome] = []
        self.refused: list[Outcome] = []

    def settle(self, settled: Settled) -> None:
        """Called once by the journal, synchronously, also when nobody waits any more."""
        self._outbound.settled(self, settled)


def check_stored(settled: Settled) -> None:
    """Raises KeyTaken, NotAccepted (the database refused the data) or JournalUnavailable unless all is committed."""
    if settled is Settled.REPLAYED:
        raise KeyTaken
    if settled is Settled.POISONED:
        raise NotAccepted("invalid_data")
    if settled is not Settled.COMMITTED:
        raise JournalUnavailable("it was not stored")


def _all_invalid(invalid: Sequence[Invalid]) -> str:
    first = invalid[0].refusal.detail
    return first if len(invalid) == 1 else f"none of the {len(invalid)} recipients can be sent to; the first: {first}"
