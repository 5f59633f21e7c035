"""Sticky threads set by hand: ruling the very next decision, and durable before that is told.

A thread is stored by the write-behind of all threads: its flush says that what was changed before is in the table, and
moves the mark from which decisions are replayed after a start. The pause before it keeps a decision made in the same
millisecond from being replayed over what was set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from gateway.clock import Clock
from resolver.core import Resolver
from resolver.model import E164, PowerpackRow, Thread

SETTLE_MS: Final = 2


class StickyThreads:
    """The threads of powerpacks, as people see and set them. `flush` is `ThreadKeeper.keep`."""

    def __init__(self, resolver: Resolver, flush: Callable[[], Awaitable[None]], *, clock: Clock) -> None:
        self._resolver = resolver
        self._flush = flush
        self._clock = clock

    def find(self, powerpack: PowerpackRow, recipient: E164) -> Thread | None:
        """The living thread of a recipient."""
        pool = self._resolver.pools.get(powerpack.powerpack_id)
        return pool.thread_of(recipient, self._clock.now_ms()) if pool is not None else None

    def recipients(self, powerpack: PowerpackRow) -> list[E164]:
        """Whoever has a thread, living or not, the longest silent first."""
        pool = self._resolver.pools.get(powerpack.powerpack_id)
        return pool.threads.recipients() if pool is not None else []

    async def point(self, powerpack: PowerpackRow, threads: Iterable[tuple[E164, E164]]) -> None:
        """Let recipients hear from numbers of the powerpack. Raises DatabaseAway: it rules, and may be forgotten."""
        pool = self._resolver.pools.get(powerpack.powerpack_id)
        if pool is None:
            return
        now_ms = self._clock.now_ms()
        for recipient, number in threads:
            pool.threads.point(recipient, number, now_ms=now_ms, life_ms=powerpack.sticky_life_ms)
        await self._store()

    async def forget(self, powerpack: PowerpackRow, recipient: E164) -> None:
        """Let a recipient have no thread. Raises DatabaseAway."""
        pool = self._resolver.pools.get(powerpack.powerpack_id)
        if pool is not None:
            pool.threads.forget(recipient)
            await self._store()

    async def _store(self) -> None:
        await self._clock.sleep_ms(SETTLE_MS)
        await self._flush()
