"""Sends requests at their intended instants over kept connections, whatever becomes of those before them.

A start that finds every connection in use waits for one, and its latency goes on counting. How late this process itself
came to a start is the schedule's to know. One protocol object per connection, no task per request.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, cast

from benchmarks.wire import NotUnderstood, read_answer
from loadtests.figures import Answered
from loadtests.schedule import Schedule

SLICE_S = 0.001  # a loop's timers are no finer; starts of one millisecond go together
CONNECT_S_MAX = 5.0
AGAIN_S = 0.2  # until the next try to connect where one failed

FindFault = Callable[[int, bytes], str]
"""Why an answer, by status and body, is not good; "" when it is."""


class Outlet(NamedTuple):
    """Where to."""

    host: str
    port: int
    tls: bool = False


class Generator:
    """One run. Give it requests as bytes, in the order of the starts."""

    def __init__(
        self,
        outlet: Outlet,
        schedule: Schedule,
        next_request: Callable[[], bytes],
        find_fault: FindFault,
        *,
        connections: int,
        wait_s_max: float,
    ) -> None:
        self._outlet = outlet
        self._schedule = schedule
        self._next_request = next_request
        self._find_fault = find_fault
        self._wait_s_max = wait_s_max
        self._connections = connections
        self._idle: list[_Pipe] = []
        self._pipes: set[_Pipe] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._queue: deque[int] = deque()
        self._open = 0  # started and not answered
        self._began_ns = 0
        self._ended = asyncio.Event()
        self._is_over = False
        self.answered: list[Answered] = []
        self.statuses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.queued = 0

    async def run(self) -> None:
        """Send everything; answers are waited for `wait_s_max` after the last start. Raises OSError: nobody listens."""
        async with asyncio.timeout(CONNECT_S_MAX):
            await self._connect()  # the first one tells whether anybody is there
            await asyncio.gather(*(self._connect() for _ in range(self._connections - 1)))
        self._began_ns = time.monotonic_ns()
        try:
            await self._send_all()
            await self._wait_for_answers()
        finally:
            self._is_over = True
            for task in self._connecting:
                task.cancel()
            for pipe in list(self._pipes):
                pipe.close()

    async def _send_all(self) -> None:
        while (wait_s := self._schedule.wait_s(self._now_ns())) is not None:
            if wait_s > 0:
                await asyncio.sleep(max(wait_s, SLICE_S))
            for intended_ns in self._schedule.take(self._now_ns()):
                self._start(intended_ns)
            if wait_s == 0:
                await asyncio.sleep(0)  # behind: answers are read all the same

    async def _wait_for_answers(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s_max):
                while self._open:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            self.faults["unanswered"] += self._open

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._began_ns

    def _start(self, intended_ns: int) -> None:
        self._open += 1
        if self._idle:
            self._idle.pop().send(self._next_request(), intended_ns)
        else:
            self.queued += 1
            self._queue.append(intended_ns)

    # -- what pipes tell ----------------------------------------------------------------------------------------------

    def joined(self, pipe: _Pipe) -> None:
        self._pipes.add(pipe)
        self.free(pipe)

    def free(self, pipe: _Pipe) -> None:
        """It can take another request."""
        if self._queue:
            pipe.send(self._next_request(), self._queue.popleft())
        else:
            self._idle.append(pipe)

    def landed(self, intended_ns: int, status: int, body: bytes) -> None:
        """An answer is complete."""
        latency_ns = self._now_ns() - intended_ns
        self.statuses[str(status)] += 1
        fault = self._find_fault(status, body)
        if fault:
            self.faults[fault] += 1
        else:
            self.answered.append(Answered(intended_ns, latency_ns))
        self._end_one()

    def broke(self, what: str) -> None:
        """A request's connection was lost, or said something that is no answer."""
        if not self._is_over:
            self.faults[what] += 1
            self._end_one()

    def left(self, pipe: _Pipe) -> None:
        """A connection has ended; another takes its place."""
        self._pipes.discard(pipe)
        if pipe in self._idle:
            self._idle.remove(pipe)
        if not self._is_over:
            pause_s = 0.0 if pipe.is_proven else AGAIN_S  # who hangs up at once is not stormed
            task = asyncio.get_running_loop().create_task(self._connect_again(pause_s))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _end_one(self) -> None:
        self._open -= 1
        if not self._open:
            self._ended.set()

    async def _connect(self) -> None:
        context = ssl.create_default_context() if self._outlet.tls else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Pipe(self), self._outlet.host, self._outlet.port, ssl=context)

    async def _connect_again(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        while True:
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    return await self._connect()
            except OSError:
                await asyncio.sleep(AGAIN_S)


class _Pipe(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._intended_ns: int | None = None  # of the request that is under way
        self.is_proven = False  # it has answered once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their type
        self._generator.joined(self)

    def send(self, request: bytes, intended_ns: int) -> None:
        assert self._transport is not None
        assert self._intended_ns is None, "one request at a time"
        self._intended_ns = intended_ns
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        try:
            answer = read_answer(self._buffer)
        except NotUnderstood:
            self._give_up("garbled")
            return
        if answer is None:
            return
        intended_ns, self._intended_ns = self._intended_ns, None
        if intended_ns is None:  # a word nobody asked for: the server is closing
            self.close()
            return
        self._buffer = self._buffer[answer.size_bytes :]
        self.is_proven = True
        self._generator.landed(intended_ns, answer.status, answer.body)
        if answer.closes:
            self.close()
        else:
            self._generator.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up("cut")
        self._generator.left(self)

    def _give_up(self, what: str) -> None:
        if self._intended_ns is not None:
            self._intended_ns = None
            self._generator.broke(what)
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
