"""Claimed messages by their slot, and the workers that wait for them.

A heap, one timer for its head, and a list of idle workers: no task and no timer per message.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush

from gateway.clock import Clock
from resolver.model import Message

Claimed = tuple[Message, int]
"""A message and the attempt that was claimed."""


class Departures:
    """See above. Messages of the same slot leave in the order in which they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Claimed]] = []
        self._order = 0
        self._idle: list[asyncio.Future[Claimed]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, at_ms: int, claimed: Claimed) -> None:
        """Add one; `dispatch` when all are added."""
        self._order += 1
        heappush(self._heap, (at_ms, self._order, claimed))

    def dispatch(self) -> None:
        """Give what is due to idle workers, and come again when the next is."""
        while self._idle:
            claimed = self._pop_due()
            if claimed is None:
                break
            waiting = self._idle.pop()
            if waiting.done():  # its worker was cancelled
                self.push(0, claimed)
            else:
                waiting.set_result(claimed)
        self._set_timer()

    async def next(self) -> Claimed:
        """For a worker: the next message whose slot has come."""
        claimed = self._pop_due()
        if claimed is not None:
            return claimed
        waiting: asyncio.Future[Claimed] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        self._set_timer()
        return await waiting

    def take_all(self) -> list[tuple[int, Claimed]]:
        """Everything that still waits, soonest first, taken out."""
        heap, self._heap = self._heap, []
        return [(at_ms, claimed) for at_ms, _, claimed in sorted(heap)]

    def _pop_due(self) -> Claimed | None:
        if self._heap and self._heap[0][0] <= self._clock.now_ms():
            return heappop(self._heap)[2]
        return None

    def _set_timer(self) -> None:
        if not self._heap or not self._idle:
            return  # a worker that becomes free looks by itself
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
        self.dispatch()
