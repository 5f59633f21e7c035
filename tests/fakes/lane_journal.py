"""A journal in memory, as much of it as lanes and facts need; the test says how it behaves.

Commits take `commit_ms`. `verdicts` are taken one per entry: what its commit comes to; COMMITTED when there is none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from gateway.clock import Clock
from storage.records import (
    Entry,
    EpochLost,
    FactRow,
    HandoverRow,
    JournalFull,
    JournalUnavailable,
    OutcomeRow,
    OutcomeUnknown,
    Settled,
)

OnSettled = Callable[[Settled], None]


class LaneJournal:
    def __init__(self, clock: Clock, *, commit_ms: int = 3) -> None:
        self._clock = clock
        self.commit_ms = commit_ms
        self.ready = True
        self.owns_epoch = True
        self.full = False
        self.waiting_rows = 0
        self.commit_wait_ms: dict[str, float] = {}
        self.went_away_ms: int | None = None
        self.verdicts: deque[Settled] = deque()
        self.answers_late = False  # the caller's future ends as unknown, and the truth comes a second later
        self.poison: Callable[[Entry], bool] = lambda _: False
        self.committed: list[Entry] = []
        self.appended = 0

    def go_away(self) -> None:
        self.ready, self.went_away_ms = False, self._clock.now_ms()

    def come_back(self) -> None:
        self.ready, self.went_away_ms = True, None

    def away_ms(self, now_ms: int) -> int:
        return 0 if self.went_away_ms is None else now_ms - self.went_away_ms

    def wait_ms(self, account_id: str) -> float:
        return self.commit_wait_ms.get(account_id, 0)

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        if not self.owns_epoch:
            raise EpochLost
        if not self.ready:
            raise JournalUnavailable
        if self.full:
            raise JournalFull
        self.appended += 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Settled] = loop.create_future()
        verdict = self.verdicts.popleft() if self.verdicts else Settled.COMMITTED
        if self.poison(entry):
            verdict = Settled.POISONED

        def settle() -> None:
            if verdict is Settled.COMMITTED:
                self.committed.append(entry)
            if on_settled is not None:
                on_settled(verdict)
            if not future.done():
                future.set_result(verdict)

        wait_s = self.commit_ms / 1_000
        if self.answers_late:
            loop.call_later(wait_s, future.set_exception, OutcomeUnknown())
            wait_s += 1
        loop.call_later(wait_s, settle)
        return future

    # -- what is stored -------------------------------------------------------------------------------------------

    def facts(self) -> Iterator[FactRow]:
        return (fact for entry in self.committed for fact in entry.facts)

    def facts_of(self, message_id: str) -> list[FactRow]:
        return [fact for fact in self.facts() if fact.message_id == message_id]

    def handovers(self) -> Iterator[HandoverRow]:
        return (row for entry in self.committed for row in entry.handovers)

    def outcomes(self) -> list[OutcomeRow]:
        return [row for entry in self.committed for row in entry.outcomes]
