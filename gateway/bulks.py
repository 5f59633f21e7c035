"""Accept the lines of bulks: as many messages as one entry holds, with what accepting a single one is made of.

Invariants
* One stretch is one entry: its lines are stored together with what became of each, or nothing of it is stored.
* One stretch is decided in a turn of the loop, however many streams there are, and bulks fill at most half of what may
  wait to be committed: so a stream delays a single request by a few milliseconds and never shuts it out.
* Who first found no room has the first room there is, so that short stretches never keep a long one waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

from gateway.clock import Clock, Ids
from gateway.facts import Facts, OnSettled
from gateway.outbound import Batch, Outbound, check_stored
from gateway.rows import body_row
from gateway.submissions import NotAccepted, Outcome, RefusedLine, Stretch, StretchAnswer
from resolver.core import Resolver
from resolver.model import E164, Decision, Refusal, Request, RequestId
from resolver.segments import check_text, measure
from storage.bulks import BulkMessage
from storage.records import JournalFull, JournalUnavailable, Settled

WAITING_PERCENT_MAX: Final = 98  # of the messages that may wait; the rest is for those who send one by one


class BulkJournal(Protocol):
    """What is needed of the journal beyond what facts do with it."""

    @property
    def ready(self) -> bool: ...

    @property
    def waiting_rows(self) -> int: ...

    def wait_ms(self, account_id: str) -> float: ...


class Bulks:
    """See above. Bulks wait while `rows_max` rows wait to be committed, or the account's for `commit_wait_ms_max`."""

    def __init__(
        self,
        outbound: Outbound,
        resolver: Resolver,
        facts: Facts,
        journal: BulkJournal,
        *,
        clock: Clock,
        ids: Ids,
        rows_max: int,
        commit_wait_ms_max: int,
    ) -> None:
        self._outbound = outbound
        self._resolver = resolver
        self._facts = facts
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._rows_max = rows_max
        self._commit_wait_ms_max = commit_wait_ms_max
        self._turn = asyncio.Lock()
        self._line: dict[int, None] = {}  # the stretches that found no room, by identity, in order

    def check_recipient(self, written: str) -> E164 | Refusal:
        """Say who it is, or why he may not be written to. 0.4 µs in North America, else 100 µs."""
        return self._outbound.check_recipient(written)

    async def submit(self, stretch: Stretch) -> StretchAnswer:
        """Store a stretch and decide its messages.

        Raises JournalFull or JournalUnavailable where there is no room for it just now: try the same stretch again
        soon, or `give_up` its place in the line. Raises KeyTaken, NotAccepted (the database refused its data) and
        storage's other errors, too. Only OutcomeUnknown leaves open what is stored.
        """
        operators = await self._outbound.learn((request, recipient) for _, request, recipient in stretch.lines)
        async with self._turn:
            self._check_room(stretch)
            settling, answer = self._take(stretch, operators)
            await asyncio.sleep(0)
        check_stored(await settling)
        return answer

    def give_up(self, stretch: Stretch) -> None:
        """Say that a stretch will not be tried again."""
        self._line.pop(id(stretch), None)

    def _check_room(self, stretch: Stretch) -> None:
        resolver, journal, place = self._resolver, self._journal, id(stretch)
        if not journal.ready:
            raise JournalUnavailable("the database is away")
        if self._outbound.is_overloaded():
            raise JournalFull("there is no room for more messages")
        if journal.waiting_rows and journal.wait_ms(stretch.account_id) > self._commit_wait_ms_max:
            self._line.pop(place, None)  # its account waits behind itself; the others go on
            raise JournalFull("too much of the account waits to be committed")
        if stretch.lines:
            self._line.setdefault(place)
            if next(iter(self._line)) != place:
                raise JournalFull("others were there before")
        if journal.waiting_rows > self._rows_max:
            raise JournalFull("too much waits to be committed")
        if stretch.lines and (resolver.waiting + len(stretch.lines)) * 100 > resolver.waiting_max * WAITING_PERCENT_MAX:
            raise JournalFull("too many messages wait")
        self._line.pop(place, None)

    def _take(self, stretch: Stretch, operators: Mapping[E164, str]) -> tuple[asyncio.Future[Settled], StretchAnswer]:
        """All from the decisions to the journal, without an await."""
        outbound, now_ms = self._outbound, self._clock.now_ms()
        batch, answer = Batch(outbound), StretchAnswer([], [])
        refusals = {
            id(request): refusal
            for request in stretch.requests
            if (refusal := self._prepare(request, now_ms)) is not None
        }
        used: dict[RequestId, Request] = {}
        settle: OnSettled = batch.settle
        try:
            for line, request, recipient in stretch.lines:
                refusal = refusals.get(id(request))
                if refusal is not None:
                    answer.refused.append(RefusedLine(line, refusal.code, refusal.detail))
                    continue
                decided = outbound.decide(batch, request, recipient, line, operators)
                if isinstance(decided, Outcome):
                    answer.stored.append(_message(line, request, decided))
                    used[request.request_id] = request
                else:
                    answer.refused.append(RefusedLine(line, decided.code, decided.detail, decided.retry_at_ms or 0))
            batch.entry.bodies.extend(map(body_row, used.values()))
            outbound.claim(batch, now_ms)
            batch.entry.stretch, batch.entry.idempotency = stretch.keep(answer)
            settle = partial(_settle, batch, stretch)
            return self._facts.append(batch.entry, settle), answer
        except BaseException:  # nothing was handed to the journal, so nothing of it will ever be stored
            settle(Settled.FAILED)
            raise

    def _prepare(self, request: Request, now_ms: int) -> NotAccepted | None:
        """Fill in a request, or say why none of its lines may be sent."""
        refusal = check_text(request.text)
        if refusal is not None:
            return NotAccepted(refusal.code, refusal.detail)
        try:
            self._outbound.check_sender(request)
        except NotAccepted as error:
            return error
        request.request_id = RequestId(self._ids.new())
        request.segments, request.accepted_ms = measure(request.text).segments, now_ms
        return None


def _message(line: int, request: Request, outcome: Outcome) -> BulkMessage:
    decision = outcome.result
    assert isinstance(decision, Decision)
    return BulkMessage(
        line, outcome.message_id, decision.number, decision.tier, request.segments, decision.forecast_ms,
        decision.window,
    )  # fmt: skip


def _settle(batch: Batch, stretch: Stretch, settled: Settled) -> None:
    batch.settle(settled)
    stretch.on_settled(settled)
