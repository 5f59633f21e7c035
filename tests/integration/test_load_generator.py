"""The open-loop generator against a server that is quick, stalls, hangs up or talks nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtests.generator import Generator, Outlet
from loadtests.schedule import NS_PER_S, Schedule, even_starts
from tests.acceptance.kill.wire import Handler, Reply, Request, listening

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
NO_PORT = 9


def find_fault(status: int, _body: bytes) -> str:
    return "" if status == 202 else str(status)


def generator(port: int, *, rate: float, seconds: float, connections: int, wait_s_max: float = 3.0) -> Generator:
    return Generator(
        Outlet("127.0.0.1", port), Schedule(even_starts(rate, seconds)), lambda: REQUEST, find_fault,
        connections=connections, wait_s_max=wait_s_max,
    )  # fmt: skip


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[int]:
    async with listening(handler) as port:
        yield port


async def test_every_request_is_sent_at_its_instant_and_answered_once() -> None:
    arrived: list[int] = []

    def answer(request: Request) -> Reply:
        arrived.append(request.arrived_ns)
        return Reply(202)

    async with server(answer) as port:
        run = generator(port, rate=200, seconds=1.0, connections=4)
        await run.run()
    assert len(run.answered) == len(arrived) == 200
    assert sorted(each.intended_ns for each in run.answered) == list(even_starts(200, 1.0))
    assert (run.faults, run.statuses) == ({}, {"202": 200})
    assert (arrived[-1] - arrived[0]) / NS_PER_S == pytest.approx(0.995, abs=0.3)


async def test_a_stall_is_charged_to_all_who_should_have_started_during_it() -> None:
    """A client that waits for its answers would have seen four slow requests and reported a fine p90."""
    began_s = time.monotonic()

    def answer(_request: Request) -> Reply:
        since_s = time.monotonic() - began_s
        return Reply(202, delay_ms=max(0.0, (0.8 - since_s) * 1_000) if since_s > 0.3 else 0.0)

    async with server(answer) as port:
        run = generator(port, rate=100, seconds=1.0, connections=4)
        await run.run()
    assert len(run.answered) == 100
    slow = [each for each in run.answered if each.latency_ns > 0.1 * NS_PER_S]
    assert len(slow) > 25, "they were due while the server stood still"
    assert run.queued > 25, "and found no free connection"


async def test_refusals_and_cut_connections_are_told_and_do_not_end_the_run() -> None:
    count = 0

    def answer(_request: Request) -> Reply:
        nonlocal count
        count += 1
        if count % 10 == 3:
            return Reply(503)
        return Reply(cut=True) if count % 10 == 6 else Reply(202)

    async with server(answer) as port:
        run = generator(port, rate=200, seconds=0.5, connections=3)
        await run.run()
    assert run.faults == {"503": 10, "cut": 10}
    assert len(run.answered) == 80


async def test_what_is_never_answered_is_told() -> None:
    async with server(lambda _request: Reply(202, delay_ms=60_000)) as port:
        run = generator(port, rate=20, seconds=0.5, connections=2, wait_s_max=0.3)
        await run.run()
    assert run.faults == {"unanswered": 10}


async def test_nonsense_is_told() -> None:
    calls = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        with contextlib.suppress(OSError):
            await reader.read(1_000)
            writer.write(b"220 mail.example ESMTP\r\n\r\n")
            await writer.drain()
            await reader.read(1_000)
        writer.transport.abort()

    there = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with there:
        run = generator(there.sockets[0].getsockname()[1], rate=20, seconds=0.2, connections=1, wait_s_max=0.5)
        await run.run()
        await asyncio.sleep(0.05)
    assert run.faults["garbled"] >= 1
    assert not run.answered
    assert calls < 6, "it is not stormed with connections"


async def test_nobody_there_is_an_error_at_once() -> None:
    with pytest.raises(OSError):  # noqa: PT011 - refused, or no route: any
        await generator(NO_PORT, rate=1, seconds=1, connections=1).run()
