"""One connection, without a network: what comes when, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from gateway.api.call import Reply
from gateway.api.connections import ApiServer
from gateway.clock import SystemIds
from gateway.settings import ServerSettings

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Pipe(asyncio.Transport):
    """The other end of a connection: what was written to it, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Floor:
    """A server whose front says what it was asked, and one connection to it. Made inside a running loop."""

    def __init__(self) -> None:
        self.server = ApiServer(self._front, ServerSettings(), ids=SystemIds())
        self.go: asyncio.Event | None = None
        self.connection = self.server()
        self.pipe = Pipe()

    async def _front(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.content.read()
        except web.RequestPayloadError:
            return Reply(b"misframed", 400)
        if self.go is not None:
            await self.go.wait()
        return Reply(b"[%s %s %s]" % (request.method.encode(), request.raw_path.encode(), body))

    async def connect(self) -> None:
        self.connection.connection_made(self.pipe)
        await turns()

    async def say(self, *pieces: bytes) -> bytes:
        """Write pieces one after another; what is answered then."""
        before = len(self.pipe.written)
        for piece in pieces:
            if piece and not self.pipe.is_closed:
                self.connection.data_received(piece)
            await turns()
        return self.pipe.written[before:]

    async def end(self) -> None:
        self.connection.connection_lost(None)
        await turns()


async def turns(count: int = 12) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def post(body: bytes, path: bytes = b"/x", *lines: bytes) -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % (path, len(body))
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


async def connected() -> Floor:
    floor = Floor()
    await floor.connect()
    return floor


@pytest.mark.parametrize("turns_between", range(6))
@pytest.mark.parametrize("malformed", [b"zz\r\n", b"-1\r\n", b"+1\r\n", b"1\r\naa\r\n"])
async def test_a_malformed_body_is_told_to_who_reads_it_whenever_it_comes(turns_between: int, malformed: bytes) -> None:
    # In the first turns nobody has begun with the request, or nobody reads its body yet.
    floor = await connected()
    floor.connection.data_received(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await turns(turns_between)
    for place in range(len(malformed)):
        floor.connection.data_received(malformed[place : place + 1])
    await turns()
    assert floor.pipe.written.startswith(b"HTTP/1.1 400 ")
    assert floor.pipe.written.count(b"HTTP/1.1 ") == 1
    assert floor.pipe.written.endswith(b"misframed")
    assert floor.pipe.is_closed


async def test_what_is_no_http_behind_a_good_request_is_refused_after_its_answer() -> None:
    floor = await connected()
    floor.go = asyncio.Event()
    await floor.say(post(b"1"), b"no http\r\n\r\n")
    assert floor.pipe.written == b""
    floor.go.set()
    await turns()
    assert floor.pipe.written.index(b"[POST /x 1]") < floor.pipe.written.index(b" 400 Bad Request")
    assert floor.pipe.is_closed


async def test_blank_lines_before_a_head_belong_to_no_request() -> None:
    first, second = await connected(), await connected()
    assert (await first.say(b"\r\n\r\n" + post(b"1"))).endswith(b"[POST /x 1]")
    assert (await second.say(b"\r\n\r\n" + post(b"2", b"/y"))).endswith(b"[POST /y 2]")


async def test_answers_come_in_the_order_of_requests() -> None:
    floor = await connected()
    answers = await floor.say(post(b"1") + post(b"22", b"/y") + post(b"3"))
    assert [answers.index(each) for each in (b"[POST /x 1]", b"[POST /y 22]", b"[POST /x 3]")] == sorted(
        answers.index(each) for each in (b"[POST /x 1]", b"[POST /y 22]", b"[POST /x 3]")
    )


async def test_a_connection_is_one_of_aiohttps() -> None:
    """What of aiohttp's connection is leant on beyond what it documents; look here when it has changed."""
    floor = await connected()
    assert floor.connection._messages is not None
    await floor.end()
