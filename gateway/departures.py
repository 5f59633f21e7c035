"""Claimed messages by their slot: a heap, and one alarm for its head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from gateway.clock import Clock
from resolver.model import Message

Claimed = tuple[Message, int]
"""A message and the attempt that was claimed."""


class Departures:
    """Messages of the same slot leave in the order in which they came. `on_due` is called once for each alarm set."""

    def __init__(self, clock: Clock, on_due: Callable[[], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._heap: list[tuple[int, int, Claimed]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, at_ms: int, claimed: Claimed) -> None:
        """Add one; `set_alarm` when all are added."""
        self._order += 1
        heappush(self._heap, (at_ms, self._order, claimed))

    def pop_due(self, now_ms: int) -> Claimed | None:
        """Take out the head if its slot has come."""
        if self._heap and self._heap[0][0] <= now_ms:
            return heappop(self._heap)[2]
        return None

    def take_all(self) -> list[tuple[int, Claimed]]:
        """Everything that still waits, soonest first, taken out."""
        heap, self._heap = self._heap, []
        return [(at_ms, claimed) for at_ms, _, claimed in sorted(heap)]

    def set_alarm(self) -> None:
        """Let `on_due` be called, in another loop turn, when the head's slot has come."""
        if not self._heap:
            return
        at_ms = self._heap[0][0]
        if self._timer is not None:
            if self._timer_ms <= at_ms:
                return
            self._timer.cancel()
        self._timer_ms = at_ms
        wait_ms = max(0, at_ms - self._clock.now_ms())
        self._timer = asyncio.get_running_loop().call_later(wait_ms / 1_000, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._on_due()
