"""Attempts: what an outcome means for a message, by the table of failures, and what its attempt leaves behind.

Invariants
* Every attempt that was claimed is settled by exactly one fact naming it, whatever happens; only a process that ends
  meanwhile leaves one without, which recovery reads as unknown.
* Memory (the resolver) is changed and the fact recorded in the same loop turn; facts gather for `LINGER_MS` and are
  kept until they are stored.
* A message that a report has called sent or ended is never handed over again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

import structlog

from gateway.carriers.carrier import Failure, SendFailed, Taken
from gateway.clock import Chance, Clock
from gateway.facts import Facts
from gateway.metrics import Counts
from gateway.settings import LaneSettings
from resolver.core import Resolver
from resolver.model import CarrierName, Message, OnUnknown, Phase
from storage.records import ENDS, Entry, FactKind, State

log = structlog.get_logger(__name__)

LINGER_MS = 20
"""How long facts wait for company; a lane that is busy claims more often, and hands them over with its claims."""
ENTRY_ROWS_MAX = 500
AGAIN_MS = 1_000
"""How long a message waits whose attempt failed through no fault of its own; a carrier's Retry-After wins."""
RETRY_AFTER_MS_MAX = 60_000
JITTER = 0.25
"""Retries are spread by up to this part of their delay."""
LINK_DOWN_AGAIN_MS = 1_000
REQUEST_LOST = "request_lost"
ALARM_EVERY_MS = 60_000


class LaneMetrics(NamedTuple):
    """What lanes count."""

    handed_over: Counts  # carrier
    settled: Counts  # carrier, outcome: a fact's kind, or a failure's code


class Attempts:
    """Settles what lanes hand over, for all of them; see the invariants above."""

    def __init__(
        self,
        resolver: Resolver,
        facts: Facts,
        *,
        clock: Clock,
        chance: Chance,
        metrics: LaneMetrics,
        settings: LaneSettings,
    ) -> None:
        self._resolver = resolver
        self._facts = facts
        self._clock = clock
        self._chance = chance
        self._metrics = metrics
        self._settings = settings
        self._entry = Entry()
        self._timer: asyncio.TimerHandle | None = None
        self._unknown: list[tuple[int, int, Message]] = []  # heap of (when to decide, order, message)
        self._order = 0
        self._down: set[CarrierName] = set()
        self._alarmed_ms: dict[tuple[CarrierName, str], int] = {}

    # -- outcomes -------------------------------------------------------------------------------------------------

    def sent(self, message: Message, carrier: CarrierName, carrier_ref: str, *, now_ms: int) -> None:
        """The carrier took it."""
        self._facts.record(
            self._entry, message, FactKind.SENT, attempt=message.attempt, handed_ms=message.slot_ms, carrier=carrier,
            carrier_ref=carrier_ref, charged=True, now_ms=now_ms,
        )  # fmt: skip
        self._metrics.settled.add(carrier, FactKind.SENT)
        self._resolver.settle_sent(message, now_ms=now_ms)
        self._gather()

    def failed(self, message: Message, carrier: CarrierName, failed: SendFailed) -> None:
        """The carrier did not take it, or nobody knows: do what the table of failures says."""
        failure = failed.failure
        if failure.is_ours:
            self._alarm(carrier, failed)
        if message.phase is not Phase.DEPARTED:  # never written: nothing but time was lost
            self.given_up(message, carrier, failure.code)
        elif message.state != State.QUEUED:  # a report was quicker than the answer, and wins
            self._settle(message, FactKind.SENT, carrier, detail="by_report", charged=True)
            self._resolver.settle_sent(message, now_ms=self._clock.now_ms())
        elif failure.taken is Taken.MAYBE:
            self._leave_unknown(message, carrier, failure)
        elif not failure.may_retry:
            self._reject(message, carrier, failure)
        else:
            self._retry(message, carrier, failed)

    def given_up(self, message: Message, carrier: CarrierName, reason: str) -> None:
        """Its claim was not used: it goes back to its place, and its slot is free. One cancelled meanwhile ends here:
        memory alone knows of that, and the next process would send it.
        """
        if message.cancelled and message.phase is Phase.RELEASED:
            self.ended(message, carrier, FactKind.CANCELLED)
            return
        self._settle(message, FactKind.RETURNED, carrier, detail=reason, handed=False)
        self._resolver.take_back(message, now_ms=self._clock.now_ms())

    def ended(self, message: Message, carrier: CarrierName, reason: str) -> None:
        """At the door it was found expired or cancelled; `reason` is that fact's kind."""
        self._settle(message, FactKind.RETURNED, carrier, detail=reason, handed=False)
        self._record(message, FactKind(reason))
        self._resolver.settle_ended(message, now_ms=self._clock.now_ms())

    def gone(self, message: Message, carrier: CarrierName, attempt: int) -> None:
        """At the door it was found to have ended meanwhile, by a report for instance."""
        self._settle(message, FactKind.RETURNED, carrier, detail="gone", handed=False, attempt=attempt)

    def expired(self, messages: Iterable[Message]) -> None:
        """The resolver has taken them out: their validity is over."""
        for message in messages:
            self._record(message, FactKind.EXPIRED)

    def reported(self, message: Message) -> None:
        """A report's fact was recorded for it: see that it is not sent (again). What is in flight settles itself."""
        if message.phase in (Phase.DONE, Phase.DEPARTED) or message.state == State.QUEUED:
            return
        now_ms = self._clock.now_ms()
        if message.state in ENDS:
            self._resolver.settle_ended(message, now_ms=now_ms)
        else:
            self._resolver.settle_sent(message, now_ms=now_ms)

    # -- unknown outcomes -----------------------------------------------------------------------------------------

    def end_lost(self, messages: Iterable[Message]) -> None:
        """Messages whose requests are no longer stored: nobody knows what was to be sent. They are not in memory."""
        for message in messages:
            self._record(message, FactKind.GIVEN_UP, detail=REQUEST_LOST)

    def adopt_unknown(self, messages: Iterable[Message]) -> None:
        """Messages that recovery brought back with an attempt nobody knows the outcome of: wait, then decide."""
        due_ms = self._clock.now_ms() + self._settings.unknown_wait_ms
        for message in messages:
            self._await(message, due_ms)

    def set_link_up(self, carrier: CarrierName, up: bool) -> None:
        """While its link is down, nothing unknown is sent again: others are probes enough."""
        (self._down.discard if up else self._down.add)(carrier)

    def tick(self) -> None:
        """Decide about messages whose outcome stayed unknown; called every second."""
        now_ms = self._clock.now_ms()
        while self._unknown and self._unknown[0][0] <= now_ms:
            message = heappop(self._unknown)[2]
            if message.phase is Phase.UNKNOWN:
                self._decide_unknown(message, now_ms)

    def _decide_unknown(self, message: Message, now_ms: int) -> None:
        policy = self._policy_of(message)
        if now_ms < message.expires_ms:
            if policy is OnUnknown.AWAIT_REPORT:
                self._await(message, message.expires_ms)
                return
            if policy is OnUnknown.RESEND and message.retries <= self._settings.retries_max:
                if self._resolver.carrier_of(message.number) in self._down:
                    self._await(message, now_ms + LINK_DOWN_AGAIN_MS)
                else:
                    self._resolver.resend(message, now_ms=now_ms, retry_at_ms=now_ms)
                return
        self._record(message, FactKind.GIVEN_UP, detail=policy)
        self._resolver.settle_ended(message, now_ms=now_ms)

    def _policy_of(self, message: Message) -> OnUnknown:
        request = message.request
        if request.source:
            return request.on_unknown or OnUnknown.RESEND
        row = self._resolver.powerpack(request.powerpack_id)
        if row is None:  # deleted: nothing of it is sent any more
            return OnUnknown.FAIL
        return request.on_unknown or row.on_unknown

    def _leave_unknown(self, message: Message, carrier: CarrierName, failure: Failure) -> None:
        message.retries += 1
        now_ms = self._clock.now_ms()
        self._settle(message, FactKind.UNKNOWN, carrier, detail=failure.code, charged=True)
        self._resolver.settle_unknown(message, now_ms=now_ms)
        self._await(message, now_ms + self._settings.unknown_wait_ms)

    def _await(self, message: Message, due_ms: int) -> None:
        self._order += 1
        heappush(self._unknown, (due_ms, self._order, message))

    # -- refused, or tried again ----------------------------------------------------------------------------------

    def _reject(self, message: Message, carrier: CarrierName, failure: Failure) -> None:
        self._settle(
            message, FactKind.REJECTED, carrier, code=failure.plivo_code, detail=failure.code, charged=True
        )  # fmt: skip
        self._resolver.settle_ended(message, now_ms=self._clock.now_ms())

    def _retry(self, message: Message, carrier: CarrierName, failed: SendFailed) -> None:
        failure = failed.failure
        if failure.spends_attempt:
            message.retries += 1
            if message.retries > self._settings.retries_max:
                self._reject(message, carrier, failure)
                return
        now_ms = self._clock.now_ms()
        retry_at_ms = now_ms + self._delay_ms(message, failed)
        charged = failure.keeps_charge
        self._settle(message, FactKind.RETURNED, carrier, detail=failure.code, charged=charged)
        self._resolver.settle_returned(message, now_ms=now_ms, retry_at_ms=retry_at_ms, charged=charged)
        if retry_at_ms >= message.expires_ms:
            self._record(message, FactKind.EXPIRED, detail=failure.code)
            self._resolver.settle_ended(message, now_ms=now_ms)

    def _delay_ms(self, message: Message, failed: SendFailed) -> int:
        delay_ms = AGAIN_MS
        if failed.failure.spends_attempt:
            first, most = self._settings.retry_ms_first, self._settings.retry_ms_most
            delay_ms = min(first << min(message.retries - 1, 30), most)
            delay_ms += int(delay_ms * JITTER * self._chance())
        return max(delay_ms, min(failed.retry_after_ms or 0, RETRY_AFTER_MS_MAX))

    def _alarm(self, carrier: CarrierName, failed: SendFailed) -> None:
        """Tell the administrator, at most once a minute for the same trouble."""
        now_ms = self._clock.now_ms()
        code = failed.failure.code
        if now_ms - self._alarmed_ms.get((carrier, code), -ALARM_EVERY_MS) >= ALARM_EVERY_MS:
            self._alarmed_ms[carrier, code] = now_ms
            log.error("carrier is not set up as it should be", carrier=carrier, failure=code, said=failed.carrier_code)

    # -- facts ----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hand over to the journal what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entry.facts:
            entry, self._entry = self._entry, Entry()
            self._facts.keep(entry)

    def _settle(
        self,
        message: Message,
        kind: FactKind,
        carrier: CarrierName,
        *,
        carrier_ref: str = "",
        code: str = "",
        detail: str = "",
        charged: bool = False,
        handed: bool = True,
        attempt: int = 0,
    ) -> None:
        self._facts.record(
            self._entry, message, kind,
            attempt=attempt or message.attempt, handed_ms=message.slot_ms if handed else None, carrier=carrier,
            carrier_ref=carrier_ref, code=code, detail=detail, charged=charged,
        )  # fmt: skip
        self._metrics.settled.add(carrier, detail or kind)
        self._gather()

    def _record(self, message: Message, kind: FactKind, *, detail: str = "") -> None:
        self._facts.record(self._entry, message, kind, detail=detail)
        self._gather()

    def _gather(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_MS / 1_000, self.flush)
        elif len(self._entry.facts) >= ENTRY_ROWS_MAX:
            self.flush()
