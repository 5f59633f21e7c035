"""The half of a lane that looks ahead: releases what is due and claims it in the journal.

A round takes due heads up to `claim_lead_ms` ahead and claims them in one entry. It does not wait for one claim before
it makes the next; a few may be open. What settled earlier attempts is handed to the journal before each claim, so that
no claim is durable before the facts it rests on, and both share a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gateway.clock import Clock
from gateway.facts import OnSettled, look_at
from gateway.pace import Pace
from resolver.core import Resolver
from resolver.model import CarrierName, Message
from storage.records import Entry, EpochLost, HandoverRow, JournalFull, JournalUnavailable, Settled

ROUND_MS = 10
"""A lane that is busy looks this often: claims of 2,000 a second then come in twenties."""
ROUND_MS_HOLDING = 50
"""While anything is held its departure may make the next lawful: well inside the lead of 100 ms."""
ROUND_MS_IDLE = 1_000
CLAIMS_OPEN_MAX = 4


class LaneJournal(Protocol):
    """What a lane needs of the journal."""

    @property
    def ready(self) -> bool: ...

    @property
    def owns_epoch(self) -> bool: ...

    def away_ms(self, now_ms: int) -> int: ...

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]: ...


class LaneState(Protocol):
    """What claiming needs to know of its lane."""

    @property
    def held(self) -> int: ...

    def free_places(self) -> int:
        """None while the journal is away or facts could not be stored."""

    def hold(self, messages: Sequence[Message]) -> None: ...


class Claims:
    """See above. `messages` and `entries` count what is being committed."""

    def __init__(
        self,
        carrier: CarrierName,
        lane: LaneState,
        resolver: Resolver,
        journal: LaneJournal,
        pace: Pace,
        *,
        clock: Clock,
        lead_ms: int,
        before_claim: Callable[[], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._carrier = carrier
        self._lane = lane
        self._resolver = resolver
        self._journal = journal
        self._pace = pace
        self._clock = clock
        self._lead_ms = lead_ms
        self._before_claim = before_claim
        self._on_settled = on_settled
        self.messages = 0
        self.entries = 0
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something may be released sooner than we think."""
        self._woken.set()

    async def run(self) -> None:
        """One round after the other, until cancelled."""
        while True:
            wait_ms = self.look()
            await asyncio.sleep(ROUND_MS / 1_000)
            if wait_ms > ROUND_MS:
                try:
                    async with asyncio.timeout((wait_ms - ROUND_MS) / 1_000):
                        await self._woken.wait()
                except TimeoutError:
                    pass
            self._woken.clear()

    def look(self) -> int:
        """Release and claim what is due; answers in how many milliseconds to look again, at the latest."""
        now_ms = self._clock.now_ms()
        self._pace.tick(now_ms)
        if self.entries >= CLAIMS_OPEN_MAX:
            return ROUND_MS_HOLDING
        places = self._lane.free_places()  # none while the journal is away
        if places > 0:
            released = self._resolver.release(
                self._carrier, now_ms=now_ms, until_ms=now_ms + self._lead_ms, places=places
            )
            if released:
                self._claim(released)
                return ROUND_MS
            if self._pace.is_down:
                self._pace.find_nothing_to_probe()
        return self._next_look_ms(now_ms)

    def _next_look_ms(self, now_ms: int) -> int:
        longest_ms = ROUND_MS_HOLDING if self._lane.held or self.messages else ROUND_MS_IDLE
        wake_ms = self._resolver.wake_ms(self._carrier, now_ms=now_ms)
        open_ms = self._pace.next_ms(now_ms)
        if wake_ms is None or open_ms is None:
            return longest_ms
        at_ms = max(wake_ms - self._lead_ms, open_ms)
        return min(longest_ms, max(ROUND_MS, at_ms - now_ms))

    def _claim(self, released: Sequence[Message]) -> None:
        self._before_claim()
        entry = Entry(handovers=[handover_row(self._carrier, released)])
        self.entries += 1
        self.messages += len(released)
        self._pace.spend(sum(entry.handovers[0].segments))
        try:
            future = self._journal.append(entry, partial(self._settled, released))
        except (JournalUnavailable, JournalFull, EpochLost):
            self._settled(released, Settled.FAILED)
        else:
            future.add_done_callback(look_at)

    def _settled(self, released: Sequence[Message], settled: Settled) -> None:
        self.entries -= 1
        self.messages -= len(released)
        if settled is Settled.COMMITTED:
            self._lane.hold(released)
        else:
            now_ms = self._clock.now_ms()
            for message in released:
                self._resolver.take_back(message, now_ms=now_ms)
        self._on_settled()


def handover_row(carrier: CarrierName, released: Sequence[Message]) -> HandoverRow:
    """The row that claims messages released together."""
    return HandoverRow(
        carrier,
        released[0].claimed_ms,
        [message.message_id for message in released],
        [message.attempt for message in released],
        [message.number for message in released],
        [message.request.segments for message in released],
    )
