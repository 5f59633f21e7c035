"""What must be done every second though nothing happens: validity ends, better chances, unknown outcomes.

Each turn takes a bounded part, so that a million messages that expire at once do not stop the loop; nothing is begun
while facts cannot be stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import structlog

from gateway.attempts import Attempts
from gateway.clock import Chance, Clock
from gateway.facts import Facts
from resolver.core import Resolver
from resolver.model import CarrierName, Message, Refusal, RefusalCode
from storage.records import Entry, FactKind, StorageError

log = structlog.get_logger(__name__)

EVERY_MS = 1_000
EXPIRED_PER_PART_MAX = 1_000
REBOUND_PER_PART_MAX = 500
PARTS_PER_TURN_MAX = 10
SWEEP_EVERY_MS = 3_600_000
SWEEP_AGAIN_MS = 60_000
SWEEP_MS_MAX = 600_000
OVERDUE_MS_MAX = 10_000

Sweep = Callable[[], Awaitable[None]]
"""Ends what was sent and never reported; raises storage's errors."""


class ReadyJournal(Protocol):
    """What upkeep needs of the journal."""

    @property
    def ready(self) -> bool: ...


class Upkeep:
    """See above; `run` it in a task."""

    def __init__(
        self,
        resolver: Resolver,
        journal: ReadyJournal,
        facts: Facts,
        attempts: Attempts,
        *,
        clock: Clock,
        chance: Chance,
        wake: Callable[[CarrierName], None],
        refusal_codes: Mapping[RefusalCode, str],
        sweep: Sweep | None = None,
    ) -> None:
        self._resolver = resolver
        self._journal = journal
        self._facts = facts
        self._attempts = attempts
        self._clock = clock
        self._chance = chance
        self._wake = wake
        self._refusal_codes = refusal_codes
        self._sweep = sweep

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._turn_and_turn())
            if self._sweep is not None:
                tasks.create_task(self._sweep_and_sweep(self._sweep))

    async def _turn_and_turn(self) -> None:
        while True:
            await self._clock.sleep_ms(EVERY_MS)
            await self.turn()

    async def turn(self) -> None:
        """What one second asks for."""
        for _ in range(PARTS_PER_TURN_MAX):
            if not self._journal.ready or self._facts.is_behind:
                return
            if not self._expire() and not self._rebind():
                break
            await asyncio.sleep(0)
        self._attempts.tick()

    async def end_overdue(self, lost: Iterable[Message] = ()) -> None:
        """End `lost` and all whose validity ended while nobody ran, durably. Await it before anything is accepted.

        A start looks for open messages only so far behind the newest accepted one; what an outage of days left must
        therefore have ended before a newer one is accepted.
        """
        self._attempts.end_lost(lost)
        is_more = True
        while is_more:
            is_more = self._expire()
            self._attempts.flush()
            while not await self._facts.drain(ms_max=OVERDUE_MS_MAX):
                log.warning("what an outage left over cannot be ended yet", owed_rows=self._facts.owed_rows)

    def _expire(self) -> bool:
        """End a part of what is past its validity; whether there may be more."""
        expired = self._resolver.expire(now_ms=self._clock.now_ms(), most=EXPIRED_PER_PART_MAX)
        self._attempts.expired(expired)
        return len(expired) >= EXPIRED_PER_PART_MAX

    def _rebind(self) -> bool:
        """Take better chances for a part of what waits; whether there may be more."""
        moved = self._resolver.rebind(
            now_ms=self._clock.now_ms(), chance=self._chance(), most=REBOUND_PER_PART_MAX
        )  # fmt: skip
        if not moved:
            return False
        entry = Entry()
        for message, decided in moved:
            if isinstance(decided, Refusal):
                code = self._refusal_codes.get(decided.code, "90")
                self._facts.record(entry, message, FactKind.REFUSED, code=code, detail=decided.code)
            else:
                self._facts.record(entry, message, FactKind.REBOUND, detail=decided.tier)
        self._facts.keep(entry)
        for carrier in {self._resolver.carrier_of(message.number) for message, _ in moved}:
            if carrier is not None:
                self._wake(carrier)
        return True

    async def _sweep_and_sweep(self, sweep: Sweep) -> None:
        await self._clock.sleep_ms(SWEEP_AGAIN_MS)
        while True:
            wait_ms = SWEEP_EVERY_MS
            try:
                async with asyncio.timeout(SWEEP_MS_MAX / 1_000):
                    await sweep()
            except (StorageError, TimeoutError) as error:
                log.warning("sweep failed", error=repr(error))
                wait_ms = SWEEP_AGAIN_MS
            await self._clock.sleep_ms(wait_ms)
