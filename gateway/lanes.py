"""One lane per carrier: what is released and claimed is handed over, each message at its lawful instant.

Committed claims wait for their slot, then they are put into the carrier's hands (gateway/hands.py), and the door
(`may_go`) is asked in the loop turn of the write.

Invariants
* `held` counts claims without an outcome. Releases fill free places only; what accept releases it counts itself until
  `take`, so a claim may have to wait for a worker.
* Nothing leaves whose claim is not committed, is too old, belongs to a lost epoch, or while the link may not be used.
* A claim ends in exactly one of: handed over, given up (`returned`), or ended at the door.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from gateway.attempts import Attempts, LaneMetrics
from gateway.carriers.carrier import Carrier, SendFailed
from gateway.claims import Claims, LaneJournal
from gateway.clock import Clock
from gateway.facts import Facts
from gateway.hands import hands_of
from gateway.pace import Pace
from gateway.settings import LaneSettings
from resolver.core import Resolver, Verdict
from resolver.links import LINK_GRACE_MS
from resolver.model import CarrierName, Message, Phase

log = structlog.get_logger(__name__)

NOT_OPEN = "not_open"
STALE = "stale"
AWAY = "database_away"
"""Why a claim was given up, in the fact's detail and in metrics."""


class Lane:
    """See the invariants above. `run` it in a task; `drain` ends it."""

    def __init__(
        self,
        carrier: Carrier,
        resolver: Resolver,
        journal: LaneJournal,
        facts: Facts,
        attempts: Attempts,
        *,
        segments_per_s: int,
        clock: Clock,
        metrics: LaneMetrics,
        settings: LaneSettings,
    ) -> None:
        self.name: CarrierName = carrier.name
        self.held = 0
        self._places = carrier.places
        self._resolver = resolver
        self._journal = journal
        self._facts = facts
        self._attempts = attempts
        self._clock = clock
        self._metrics = metrics
        self._settings = settings
        self._pace = Pace(segments_per_s, set_rate=self._set_rate, set_up=self._set_up)
        self._claims = Claims(
            self.name, self, resolver, journal, self._pace,
            clock=clock, lead_ms=settings.claim_lead_ms, before_claim=attempts.flush, on_settled=self._note_landing,
        )  # fmt: skip
        self._hands = hands_of(carrier, self, clock)
        self._looked_ms = -1  # when it was last looked whether the database is away
        self._is_away = False
        self._probe: Message | None = None  # the one message that tries a link that is down
        self._draining = False
        self._is_paused = False  # an administrator's word
        self._seems_up = True  # the link, as far as its pace is concerned
        self._landed = asyncio.Event()  # draining, and nothing is held or being claimed
        self._stopped = asyncio.Event()

    # -- for those who release ------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may leave sooner than the lane thinks."""
        self._claims.wake()

    def free_places(self) -> int:
        """How many messages may be released for this lane now."""
        if self._draining or self._is_paused or not self._journal.ready or self._facts.is_behind:
            return 0
        free = max(0, self._places - self.held - self._claims.messages)
        return self._pace.places(free, now_ms=self._clock.now_ms())

    def take(self, messages: Sequence[Message]) -> None:
        """Messages that others released and whose claim is committed: each leaves at its slot."""
        self._pace.spend(sum(message.request.segments for message in messages))
        self.hold(messages)

    def hold(self, messages: Sequence[Message]) -> None:
        """Let claimed messages wait for their slots."""
        now_ms = self._clock.now_ms()
        for message in messages:
            self.held += 1
            if self._pace.is_down and self._probe is None and self._pace.places(1, now_ms=now_ms):
                self._probe = message
                self._pace.begin_probe()
            if self._may_wait(message, now_ms):
                self._hands.push(message.slot_ms, (message, message.attempt))
            else:
                self._give_up(message, NOT_OPEN)
        self._hands.dispatch()

    def on_link(self, up: bool) -> None:
        """The carrier's own word about its link."""
        self._pace.hear(up, self._clock.now_ms())
        self._give_up_what_waits()
        self.wake()

    def set_paused(self, paused: bool) -> None:
        """An administrator's word: what waits stays, and numbers of other carriers are chosen as if the link were down.

        What is claimed and has not left goes back.
        """
        log.warning("carrier is paused" if paused else "carrier is resumed", carrier=self.name)
        self._is_paused = paused
        self._tell_up()
        self._give_up_what_waits()
        self.wake()

    # -- running --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hand over until drained, or cancelled. A broken promise of our own ends it with that exception."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._hands.run()), tasks.create_task(self._claims.run())]
            try:
                await self._stopped.wait()
            finally:
                self._attempts.flush()
                for task in running:
                    task.cancel()

    async def drain(self, *, ms_max: int) -> None:
        """No new claims; unused ones are returned; answers are waited for, then `run` ends.

        What is unanswered then stays without an outcome: unknown at the next start.
        """
        self._draining = True
        self._give_up_what_waits()
        self._note_landing()
        try:
            async with asyncio.timeout(ms_max / 1_000):
                await self._landed.wait()
        except TimeoutError:
            log.warning("carrier did not answer in time", carrier=self.name, messages=self._hands.flying)
        self._stopped.set()

    # -- what hands say -------------------------------------------------------------------------------------------

    def sent(self, message: Message, carrier_ref: str, now_ms: int) -> None:
        """Implements `Keeper`, as do the next two."""
        self._attempts.sent(message, self.name, carrier_ref, now_ms=now_ms)
        self._pace.answered(now_ms)
        self._free(message)

    def failed(self, message: Message, failed: SendFailed, begun_ms: int) -> None:
        departed_ms = message.slot_ms if message.phase is Phase.DEPARTED else begun_ms
        self._attempts.failed(message, self.name, failed)
        self._pace.failed(
            failed.failure, departed_ms=departed_ms, retry_after_ms=failed.retry_after_ms,
            now_ms=self._clock.now_ms(), is_probe=message is self._probe,
        )  # fmt: skip
        self._give_up_what_waits()
        self.wake()
        self._free(message)

    # -- the door -------------------------------------------------------------------------------------------------

    def may_go(self, message: Message, attempt: int, now_ms: int) -> bool:
        """Asked in the loop turn of the write. False: the message has been seen to otherwise."""
        if not self._journal.owns_epoch:
            self._free(message)  # no fact of ours would be taken: the next owner decides
            return False
        bar = self._bar(message, now_ms)
        if bar:
            self._give_up(message, bar)
            return False
        departure = self._resolver.depart(message, now_ms=now_ms)
        match departure.verdict:
            case Verdict.GO:
                self._metrics.handed_over.add(self.name)
                return True
            case Verdict.NOT_YET:
                self._hands.push(departure.at_ms, (message, attempt))
                self._hands.dispatch()
                return False
            case Verdict.ENDED:
                self._attempts.ended(message, self.name, departure.reason)
            case Verdict.GIVEN_UP:
                self._attempts.given_up(message, self.name, departure.reason or STALE)
            case Verdict.GONE:
                self._attempts.gone(message, self.name, attempt)
        self._free(message)
        return False

    def _bar(self, message: Message, now_ms: int) -> str:
        """Why a claim must be given up; "" if it need not."""
        if not self._may_wait(message, now_ms):
            return NOT_OPEN
        if now_ms - message.claimed_ms > self._settings.claim_good_ms:
            return STALE
        if now_ms != self._looked_ms:
            self._looked_ms, self._is_away = now_ms, self._journal.away_ms(now_ms) > self._settings.away_ms_max
        return AWAY if self._is_away else ""

    def _may_wait(self, message: Message, now_ms: int) -> bool:
        """Whether a claimed message may go on towards the door."""
        if self._draining or self._is_paused:
            return False
        return message is self._probe or self._pace.is_open(now_ms)

    def _give_up_what_waits(self) -> None:
        """Return the claims that may not be used now."""
        now_ms = self._clock.now_ms()
        if not len(self._hands) or (self._pace.is_open(now_ms) and not (self._draining or self._is_paused)):
            return
        for at_ms, (message, attempt) in self._hands.take_all():
            if self._may_wait(message, now_ms):
                self._hands.push(at_ms, (message, attempt))
            else:
                self._give_up(message, NOT_OPEN)
        self._hands.dispatch()

    def _give_up(self, message: Message, reason: str) -> None:
        self._attempts.given_up(message, self.name, reason)
        self._free(message)

    def _free(self, message: Message) -> None:
        """It holds no place any longer."""
        self.held -= 1
        if message is self._probe:
            self._probe = None
            self._pace.end_probe(self._clock.now_ms())
        self._note_landing()

    def _note_landing(self) -> None:
        if self._draining and not self.held and not self._claims.entries:
            self._landed.set()

    # -- the link -------------------------------------------------------------------------------------------------

    def _set_rate(self, segments_per_s: int) -> None:
        log.info("carrier's rate changed", carrier=self.name, segments_per_s=segments_per_s)
        self._resolver.set_link_rate(self.name, segments_per_s, now_ms=self._clock.now_ms())

    def _set_up(self, up: bool) -> None:
        log.warning("carrier is back" if up else "carrier is down", carrier=self.name)
        self._seems_up = up
        self._tell_up()

    def _tell_up(self) -> None:
        """Let decisions, and what is to be sent again, know whether the link may be used."""
        up, now_ms = self._seems_up and not self._is_paused, self._clock.now_ms()
        since_ms = now_ms - LINK_GRACE_MS if self._is_paused else now_ms  # a pause is meant, and needs no grace
        self._resolver.set_link_up(self.name, up, now_ms=since_ms)
        self._attempts.set_link_up(self.name, up)
