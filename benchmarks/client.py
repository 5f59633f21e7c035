"""A closed-loop HTTP client that costs little: raw requests on kept connections, each sent when the last is answered.

One process of it asks for more than the gateway can take, which aiohttp's own client on the same machine could not.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.wire import read_answer, request_bytes

__all__ = ["NewRequest", "Run", "drive", "request_bytes"]

NewRequest = Callable[[], bytes]


@dataclass
class Run:
    """What one run of a client saw. Latencies in milliseconds, of answered requests."""

    seconds: float = 0.0
    answered: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered, until told to stop."""

    def __init__(self, run: Run, new_request: NewRequest, done: asyncio.Future[None]) -> None:
        self._run, self._new_request, self._done = run, new_request, done
        self._buffer = b""
        self._began = 0.0
        self.stopping = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        if self.stopping:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(self._new_request())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answer = read_answer(self._buffer)
        if answer is None:
            return
        self._buffer = b""
        run = self._run
        run.answered += 1
        run.statuses[answer.status] = run.statuses.get(answer.status, 0) + 1
        run.latencies_ms.append((time.perf_counter() - self._began) * 1_000)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def drive(host: str, port: int, new_request: NewRequest, *, connections: int, seconds: float) -> Run:
    """Keep `connections` requests on their way for `seconds`; what is answered in that time counts."""
    loop = asyncio.get_running_loop()
    run = Run()
    made: list[_Connection] = []
    futures: list[asyncio.Future[None]] = []
    began = time.perf_counter()
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        protocol = _Connection(run, new_request, done)
        await loop.create_connection(functools.partial(_itself, protocol), host, port)
        made.append(protocol)
        futures.append(done)
    await asyncio.sleep(seconds)
    run.seconds = time.perf_counter() - began
    counted = Run(run.seconds, run.answered, dict(run.statuses), list(run.latencies_ms))
    for protocol in made:
        protocol.stopping = True
    await asyncio.wait(futures, timeout=10)
    return counted


def _itself(protocol: _Connection) -> _Connection:
    return protocol
