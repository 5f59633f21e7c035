"""How a process runs and ends: signals, background tasks, exit codes, and a watchdog for a shutdown that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Final, NoReturn

import structlog

log = structlog.get_logger(__name__)

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, and a terminal that is closed (unless it was to be ignored, as `nohup` sees to)."""
TASK_MS_MAX: Final = 2_000  # for a cancelled task to end


class Exit(IntEnum):
    """What the process says when it ends; docs/ARCHITECTURE.md lists them."""

    DRAINED = 0
    FAILED = 1
    BAD_SETTING = 2
    TAKEN_OVER = 3
    CUT_SHORT = 4


def end_at_once(said: str) -> NoReturn:
    """End without tidying up, which is as safe as a kill: what counts is in the journal."""
    os.write(2, f"sendpool: {said}\n".encode())
    os._exit(Exit.CUT_SHORT)


def allow_files() -> None:
    """Let the process open as many files as it may ask for: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Stopping:
    """Hears the wish to stop. The first signal asks, a second one ends the process at once."""

    def __init__(self, *, end: Callable[[str], object] = end_at_once) -> None:
        self.asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._end = end

    def hear_signals(self) -> None:
        """From now on; instead of whatever the loop or Python would do."""
        loop = asyncio.get_running_loop()
        for each in STOP_SIGNALS:
            if signal.getsignal(each) is not signal.SIG_IGN:
                loop.add_signal_handler(each, self.ask, each.name)

    def ask(self, why: str) -> None:
        if self.asked.done():
            self._end(f"{why} again, ended at once")
            return
        log.info("stopping", why=why)
        self.asked.set_result(why)


class Watchdog:
    """Ends a process whose shutdown hangs. A thread, since the event loop may be what hangs."""

    def __init__(self, *, end: Callable[[str], object] = end_at_once) -> None:
        self._end = end
        self._timer: threading.Timer | None = None

    def start(self, ms_max: int) -> None:
        """Bite in `ms_max`, unless stopped; the first start counts."""
        if self._timer is None:
            self._timer = threading.Timer(
                ms_max / 1_000, self._end, (f"stopping took over {ms_max} ms, ended at once",)
            )
            self._timer.daemon, self._timer.name = True, "watchdog"
            self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()


class Tasks:
    """The tasks that run beside everything else. None ends by itself: the first that does is told to `ended`."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def end(self, error: Exception) -> None:
        """End the run: a promise of our own was broken, and going on with wrong memory is worse."""
        if not self.ended.done():
            self.ended.set_result(error)

    @asynccontextmanager
    async def running(
        self, name: str, work: Coroutine[None, None, None], *, drain: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Run `work` while the block does. At its end `drain` lets it finish, then it is cancelled."""
        task = asyncio.create_task(work, name=name)
        is_leaving = False

        def note(done: asyncio.Task[None]) -> None:
            if not is_leaving and not done.cancelled() and not self.ended.done():
                error = done.exception()
                is_bug = error is None or not isinstance(error, Exception)
                self.ended.set_result(RuntimeError(f"{name} has ended by itself") if is_bug else error)  # type: ignore[arg-type]

        task.add_done_callback(note)
        try:
            yield
        finally:
            is_leaving = True
            if drain is not None and not task.done():
                await drain()
            task.cancel()
            _, late = await asyncio.wait([task], timeout=TASK_MS_MAX / 1_000)
            if late:
                log.error("a task does not end", task=name)


@asynccontextmanager
async def stopped_after(name: str, stop: Callable[[], Awaitable[object]], *, ms_max: int) -> AsyncIterator[None]:
    """Run `stop` when the block ends, for at most `ms_max`: what comes after it gets its turn whatever it does."""
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(ms_max / 1_000):
                await stop()
        except TimeoutError:
            log.error("a part did not stop in time", part=name, ms_max=ms_max)
