"""Time that tests own: a clock moved by hand, and an event loop on which waiting costs nothing.

On the virtual loop everything that waits (sleeps, timers, deadlines) waits in virtual time: when nothing is ready, the
loop jumps to the next timer. When there is none either, the test would hang, so it fails.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeVar

START_MS = 1_767_225_600_000
"""The virtual clock's first instant: 2026-01-01T00:00:00Z."""

FileObject = Any  # as selectors has it
P = ParamSpec("P")
T = TypeVar("T")


class HandClock:
    """A clock that stands still until somebody moves it."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> int:
        return self.now

    async def sleep_ms(self, ms: int) -> None:
        self.now += ms
        await asyncio.sleep(0)


class VirtualClock:
    """The clock of the running virtual loop."""

    def now_ms(self) -> int:
        return START_MS + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1_000)

    async def sleep_ms(self, ms: int) -> None:
        await asyncio.sleep(ms / 1_000)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time only passes while everybody waits."""

    def __init__(self) -> None:
        self.virtual_s = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.virtual_s


class _JumpingSelector(selectors.BaseSelector):
    """Looks without waiting; what the loop was willing to wait is added to its time instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if not events and timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        if not events and timeout is not None and timeout > 0:
            self._loop.virtual_s += timeout
        return events

    def register(self, fileobj: FileObject, events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileObject) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[FileObject, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def in_virtual_time(test: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Run an async test on a virtual loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async def call() -> T:
            return await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(call())

    return run
