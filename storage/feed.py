"""Gives the journal's writers their batches: wakes one when there is work, and lets company come when that pays.

At low load a batch goes at once. Under load two milliseconds halve our cost per message while messages come by
themselves (a transaction costs as much as the rows of fifty messages); when everybody who could come waits for this
very commit, they only lose time. So lingering is tried, and where it brought too little it is left alone for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

from storage.backlog import Backlog, JournalLimits, Ticket

COMPANY_MIN = 2.0
"""Entries that must be expected while lingering."""
PAUSE_BATCHES = 16
"""Batches without lingering, after it brought fewer than half as many rows as had come before."""
KEEP = 0.9
"""What of the measured rate is kept from batch to batch."""


class Taker(Protocol):
    """Who takes batches."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def is_leaving(self) -> bool: ...


class Linger:
    """Decides batch by batch whether to wait for company. Times are the loop's, in seconds."""

    def __init__(self, *, linger_ms: int) -> None:
        self.linger_s = linger_ms / 1_000
        self._entries = self._spent_s = 0.0
        self._taken_s: float | None = None
        self._pause = 0

    def pays(self) -> bool:
        """Whether the next batch should wait."""
        if not self._spent_s or self._entries * self.linger_s < COMPANY_MIN * self._spent_s:
            return False
        if self._pause > 0:
            self._pause -= 1
            return False
        return True

    def lingered(self, *, before: int, after: int) -> None:
        """How many rows waited before and after."""
        if 2 * (after - before) < before:
            self._pause = PAUSE_BATCHES

    def took(self, entries: int, *, now_s: float) -> None:
        """A batch was taken; from this follows the rate at which entries come."""
        if self._taken_s is not None:
            self._entries = KEEP * self._entries + entries
            self._spent_s = KEEP * self._spent_s + now_s - self._taken_s
        self._taken_s = now_s


class Feed:
    """The backlog, and who waits for it. One writer is woken at a time, and the next one if it leaves something."""

    def __init__(self, limits: JournalLimits) -> None:
        self.backlog = Backlog(limits)
        self._linger = Linger(linger_ms=limits.linger_ms)
        self._idle: OrderedDict[Taker, asyncio.Future[None]] = OrderedDict()
        self._is_woken = False  # a writer is on its way to the backlog
        self._lingering: asyncio.Future[None] | None = None  # a writer waits for company

    def put(self, ticket: Ticket) -> None:
        """Let an admitted entry wait for its batch."""
        self.backlog.push(ticket)
        if self._lingering is None:
            self._wake_one()
        elif self.backlog.fills_a_batch:
            _finish(self._lingering)

    def release(self, taker: Taker) -> None:
        """Let this one go on without work: its connection is lost, or it is to leave."""
        idle = self._idle.pop(taker, None)
        if idle is not None:
            _finish(idle)

    async def take(self, taker: Taker) -> list[Ticket] | None:
        """The next batch, once there is one; None when the taker's connection is gone or its work is over."""
        while taker.is_connected:
            if not self.backlog or self._lingering is not None:
                if taker.is_leaving:
                    break
                await self._wait_for_work(taker)
                continue
            await self._wait_for_company(taker)
            if self.backlog and taker.is_connected:
                return self._take()
        if self.backlog and self._lingering is None:
            self._wake_one()
        return None

    def _take(self) -> list[Ticket]:
        tickets = self.backlog.take()
        self._linger.took(len(tickets), now_s=asyncio.get_running_loop().time())
        if self.backlog:
            self._wake_one()
        return tickets

    def _wake_one(self) -> None:
        if self._idle and not self._is_woken:
            self._is_woken = True
            _, idle = self._idle.popitem(last=False)
            _finish(idle)

    async def _wait_for_work(self, taker: Taker) -> None:
        idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle[taker] = idle
        try:
            await idle
        finally:
            self._idle.pop(taker, None)
            self._is_woken = False

    async def _wait_for_company(self, taker: Taker) -> None:
        if self.backlog.fills_a_batch or taker.is_leaving or not self._linger.pays():
            return
        before = self.backlog.waiting_rows
        loop = asyncio.get_running_loop()
        self._lingering = loop.create_future()
        timer = loop.call_later(self._linger.linger_s, _finish, self._lingering)
        try:
            await self._lingering
        finally:
            timer.cancel()
            self._lingering = None
        self._linger.lingered(before=before, after=self.backlog.waiting_rows)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
