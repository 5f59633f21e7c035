"""What a lane stands on, in virtual time: a real resolver, facts and attempts over a journal and a carrier we own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.attempts import Attempts, LaneMetrics
from gateway.carriers.carrier import Carrier
from gateway.facts import Facts
from gateway.lanes import Lane
from gateway.settings import LaneSettings
from resolver.core import Resolver
from resolver.model import (
    E164,
    NO_POWERPACK,
    AccountId,
    CarrierName,
    Decision,
    Limits,
    Message,
    MessageId,
    NumberRow,
    NumberType,
    OnUnknown,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Request,
    RequestId,
)
from storage.records import CallbackRow, FactRow, State
from tests.fakes.carrier import ScriptedCarrier
from tests.fakes.clock import VirtualClock
from tests.fakes.ids import CountingIds, chance_of
from tests.fakes.lane_journal import LaneJournal

ACCOUNT = AccountId("MA00000000000000000A")
POWERPACK = PowerpackId("0193a1b2-0000-7000-8000-00000000000a")
POOL = PoolId("0193a1b2-0000-7000-8000-00000000000b")
CARRIER = CarrierName("carrier")
NO_SOURCE = E164("")
UNLIMITED = Limits(1_000, 1_000, 1_000_000_000, None)


class Tally:
    """Counts, as a metric does."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def add(self, *labels: str, by: int = 1) -> None:
        self.counts[labels] += by


def render(message: Message, state: State, fact: FactRow | None) -> list[tuple[str, str]]:
    return [("Status", state), ("Sequence", str(message.sequence)), ("ErrorCode", fact.code if fact else "")]


class Floor:
    """Made inside a running virtual loop."""

    def __init__(
        self,
        *,
        numbers: int = 1,
        limits: Limits | None = UNLIMITED,
        segments_per_s: int = 1_000,
        commit_ms: int = 3,
        carrier: Carrier | None = None,
        places: int = 8,
        prompt: bool = False,
        settings: LaneSettings | None = None,
        sticky: bool = False,
        on_unknown: OnUnknown = OnUnknown.RESEND,
    ) -> None:
        self.clock = VirtualClock()
        self.ids = CountingIds()
        self.journal = LaneJournal(self.clock, commit_ms=commit_ms)
        self.scripted = ScriptedCarrier(self.clock, places=places, prompt=prompt)
        self.carrier = carrier or self.scripted
        self.settings = settings or LaneSettings()
        self.resolver = Resolver()
        self.resolver.put_link(CARRIER, segments_per_s=segments_per_s, now_ms=self.clock.now_ms())
        self.resolver.put_powerpack(
            PowerpackRow(POWERPACK, ACCOUNT, POOL, "pack", sticky_sender=sticky, on_unknown=on_unknown)
        )
        for place in range(numbers):
            self.resolver.put_number(
                NumberRow(
                    E164(f"+1415555{place:04d}"), ACCOUNT, NumberType.LONG_CODE, "US", CARRIER,
                    powerpack_id=POWERPACK, campaign_approved=True, limits=limits,
                ),
                now_ms=self.clock.now_ms(),
            )  # fmt: skip
        self.callbacks: list[CallbackRow] = []
        self.facts = Facts(
            self.journal, self.clock, self.ids,
            render_callback=render, on_callbacks_committed=self.callbacks.extend, awaiting_max=10_000,
        )  # fmt: skip
        self.handed_over, self.settled = Tally(), Tally()
        metrics = LaneMetrics(self.handed_over, self.settled)
        self.attempts = Attempts(
            self.resolver, self.facts,
            clock=self.clock, chance=chance_of(0.0), metrics=metrics, settings=self.settings,
        )  # fmt: skip
        self.lane = Lane(
            self.carrier, self.resolver, self.journal, self.facts, self.attempts,
            segments_per_s=segments_per_s, clock=self.clock, metrics=metrics, settings=self.settings,
        )  # fmt: skip
        self._accepted = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Floor]:
        """The lane runs, and upkeep's look at unknown outcomes every second."""
        running = [asyncio.create_task(self.lane.run()), asyncio.create_task(self._tick())]
        try:
            yield self
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            broken = [task for task in running if not task.cancelled() and task.exception()]
            if broken:
                broken[0].result()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.attempts.expired(self.resolver.expire(now_ms=self.clock.now_ms(), most=1_000))
            self.attempts.tick()

    def accept(
        self,
        count: int = 1,
        *,
        recipient: Callable[[int], str] = lambda place: f"+1415556{place % 10_000:04d}",
        validity_ms: int = 10_800_000,
        callback_url: str = "",
        on_unknown: OnUnknown | None = None,
        wake: bool = True,
        segments: int = 1,
        may_refuse: bool = False,
        source: E164 = NO_SOURCE,
    ) -> list[Message]:
        """Decide and commit messages, as outbound does once their decisions are durable."""
        now_ms = self.clock.now_ms()
        request = Request(
            RequestId(self.ids.new()), ACCOUNT, NO_POWERPACK if source else POWERPACK, "Hello", segments,
            validity_ms=validity_ms, callback_url=callback_url, on_unknown=on_unknown, accepted_ms=now_ms,
            source=source,
        )  # fmt: skip
        messages = []
        for _ in range(count):
            self._accepted += 1
            to = E164(recipient(self._accepted))
            decision = self.resolver.decide(request, to, now_ms=now_ms, chance=0.5)
            if not isinstance(decision, Decision):
                assert may_refuse, decision
                continue
            messages.append(self.resolver.apply(request, to, decision, MessageId(self.ids.new()), now_ms=now_ms))
        if self.resolver.commit(messages) and wake:
            self.lane.wake()
        return messages

    def kinds(self, message: Message) -> list[str]:
        """The facts stored about a message, with the attempt each settles."""
        return [
            f"{fact.kind} {fact.attempt}" if fact.attempt else str(fact.kind)
            for fact in self.journal.facts_of(message.message_id)
        ]
