"""One connection: known heads, the short way, and that it shows in nothing but time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.call import Reply
from gateway.api.connections import SWEEP_S, ApiServer, Connection
from gateway.api.heads import BODY_BYTES_MAX, HEADS_MAX, KnownRequest
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

    def __init__(self, *, knows: bool = True, keepalive_ms: int = 75_000) -> None:
        self.server = ApiServer(self._front, ServerSettings(keepalive_ms=keepalive_ms), ids=SystemIds())
        if not knows:
            self.server.heads.learn = lambda *_: None  # type: ignore[method-assign]  # an aiohttp server as it comes
        self.ways: list[type] = []
        self.go: asyncio.Event | None = None
        self.connection = self.server()
        self.pipe = Pipe()

    async def _front(self, request: web.BaseRequest) -> web.StreamResponse:
        self.ways.append(type(request))
        body = await request.content.read()
        if self.go is not None:
            await self.go.wait()
        if body == b"fail":
            raise RuntimeError("a bug")
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


async def connected(*, keepalive_ms: int = 75_000) -> Floor:
    """A connection on which heads of one-byte, two-byte and four-byte bodies are known."""
    floor = Floor(keepalive_ms=keepalive_ms)
    await floor.connect()
    await floor.say(post(b"1"), post(b"22"), post(b"4444"))
    floor.ways.clear()
    return floor


async def test_a_head_is_read_once_and_known_from_then_on() -> None:
    floor = await connected()
    answer = await floor.say(post(b"7"))
    assert answer.endswith(b"[POST /x 7]")
    assert floor.ways == [KnownRequest]
    assert await floor.say(post(b"333")) != b""
    assert floor.ways == [KnownRequest, web.BaseRequest]
    await floor.end()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /x HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n1",
        post(b"1", b"/x", b"Expect: 100-continue"),
        post(b"1", b"/x", b"X-Long: " + b"x" * 2_048),
        post(b"x" * (BODY_BYTES_MAX + 1)),
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
    ],
)
async def test_what_is_not_plain_is_never_known(data: bytes) -> None:
    floor = Floor()
    await floor.connect()
    for _ in range(3):
        assert await floor.say(data)
    assert floor.ways == [web.BaseRequest] * 3
    await floor.end()


async def test_a_body_may_come_after_its_known_head() -> None:
    floor = await connected()
    data = post(b"22")
    assert await floor.say(data[:-2]) == b""
    assert (await floor.say(data[-2:])).endswith(b"[POST /x 22]")
    assert floor.ways == [KnownRequest]
    assert (await floor.say(data[:-2], b"3", b"3")).endswith(b"[POST /x 33]")
    assert floor.ways == [KnownRequest, web.BaseRequest]  # in three pieces: somebody else waits for it
    assert (await floor.say(data)).endswith(b"[POST /x 22]")
    assert floor.ways[-1] is KnownRequest
    await floor.end()


async def test_a_body_that_does_not_come_is_waited_for_by_who_bounds_it() -> None:
    floor = await connected()
    data, now_s = post(b"22"), asyncio.get_running_loop().time()
    await floor.say(data[:-2])
    floor.server.let_go_slow(now_s + SWEEP_S / 2)
    await turns()
    assert floor.ways == []
    floor.server.let_go_slow(now_s + 2 * SWEEP_S)
    await turns()
    assert floor.ways == [web.BaseRequest]
    assert (await floor.say(data[-2:])).endswith(b"[POST /x 22]")
    await floor.end()


async def test_answers_come_in_the_order_of_requests() -> None:
    floor = await connected()
    floor.go = asyncio.Event()
    data = post(b"1") + post(b"22") + b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n" + post(b"3")
    assert await floor.say(data, post(b"4444")) == b""
    assert floor.ways == [KnownRequest]
    floor.go.set()
    answer = await floor.say(post(b"5"))
    at = [answer.find(each) for each in (b"x 1]", b"x 22]", b"GET /y ", b"x 3]", b"x 4444]", b"x 5]")]
    assert at == sorted(at)
    assert at[0] >= 0
    await floor.end()


async def test_who_sends_on_and_on_is_not_read_on_and_on() -> None:
    floor = await connected()
    floor.go = asyncio.Event()
    await floor.say(post(b"1"), post(b"x" * BODY_BYTES_MAX, b"/z"))
    assert floor.pipe.is_paused
    floor.go.set()
    await turns()
    assert not floor.pipe.is_paused
    assert floor.pipe.written.count(b"[POST /z x") == 1
    await floor.end()


async def test_who_does_not_read_answers_gets_no_more_of_them() -> None:
    floor = await connected()
    floor.connection.pause_writing()
    assert b"x 1]" in await floor.say(post(b"1"), post(b"2"))
    assert floor.ways == [KnownRequest]
    floor.connection.resume_writing()
    await turns()
    assert floor.pipe.written.endswith(b"[POST /x 2]")
    await floor.end()


async def test_what_is_no_http_is_refused_behind_a_known_head_too() -> None:
    floor = await connected()
    answer = await floor.say(post(b"1") + b"\0\0\0\r\n\r\n")
    assert b"[POST /x 1]" in answer
    assert b"HTTP/1.0 400" in answer
    assert floor.pipe.is_closed
    await floor.end()


async def test_a_bug_behind_the_front_is_answered_and_ends_the_connection() -> None:
    floor = await connected()
    answer = await floor.say(post(b"fail"))
    assert floor.ways == [KnownRequest]
    assert b" 500 " in answer
    assert floor.pipe.is_closed
    await floor.end()


async def test_who_goes_away_meanwhile_is_no_error() -> None:
    floor = await connected()
    floor.go = asyncio.Event()
    await floor.say(post(b"1"))
    await floor.end()
    floor.go.set()
    await turns()
    assert floor.server.connections == []


async def test_a_drain_waits_for_the_answer_and_then_closes() -> None:
    floor = await connected()
    floor.go = asyncio.Event()
    await floor.say(post(b"1"))
    floor.server.pre_shutdown()
    closing = asyncio.create_task(floor.server.shutdown(5))
    await turns()
    assert not closing.done()
    floor.go.set()
    await asyncio.wait_for(closing, 5)
    assert floor.pipe.written.endswith(b"[POST /x 1]")
    assert floor.pipe.is_closed
    await floor.end()


async def test_a_drain_does_not_wait_for_ever() -> None:
    floor = await connected()
    floor.go = asyncio.Event()
    await floor.say(post(b"1"))
    answering = floor.connection._answering
    assert answering is not None
    await asyncio.wait_for(floor.server.shutdown(0.01), 5)
    await turns()
    assert answering.cancelled()
    assert floor.pipe.is_closed
    await floor.end()


async def test_a_connection_is_kept_while_it_is_answered_and_ended_when_it_is_idle() -> None:
    floor = await connected(keepalive_ms=50)
    floor.go = asyncio.Event()
    await floor.say(post(b"1"))
    await asyncio.sleep(0.2)
    assert not floor.pipe.is_closed
    floor.go.set()
    await turns()
    assert floor.pipe.written.endswith(b"[POST /x 1]")
    assert not floor.pipe.is_closed
    await asyncio.sleep(0.2)
    assert floor.pipe.is_closed
    await floor.end()


async def test_heads_are_bounded() -> None:
    floor = Floor()
    await floor.connect()
    for number in range(HEADS_MAX + 10):
        floor.connection.data_received(post(b"1", b"/%d" % number))
        await turns(6)
    assert len(floor.server.heads) <= HEADS_MAX
    await floor.end()


REQUESTS = (
    post(b"1"), post(b"22"), post(b""), post(b"4444", b"/y"), post(b"1", b"/x", b"Content-Type: text/plain"),
    post(b"x" * 3_000), b"GET /g HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /0 HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n1",
    b"\r\n",
)  # fmt: skip
LAST = (b"", post(b"1", b"/e", b"Connection: close"), b"nonsense\r\n\r\n", post(b"22")[:-1])


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(REQUESTS[:7]), max_size=4),
    st.lists(st.sampled_from(REQUESTS), max_size=8),
    st.sampled_from(LAST),
    st.lists(st.integers(0, 600), max_size=12),
)
def test_however_bytes_are_cut_the_answers_are_those_of_aiohttp(
    before: list[bytes], requests: list[bytes], last: bytes, cuts: list[int]
) -> None:
    """What is no HTTP comes by itself: aiohttp answers nothing of what came in one piece with it, we do."""
    data = b"".join(requests)
    places = sorted({cut for cut in cuts if 0 < cut < len(data)})
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if end > start]

    async def answers(*, knows: bool) -> tuple[bytes, bool]:
        floor = Floor(knows=knows)
        await floor.connect()
        await floor.say(*before, *pieces, last)
        await turns(100)
        said = floor.pipe.written
        is_closed = floor.pipe.is_closed
        await floor.end()
        return mask(said), is_closed

    assert asyncio.run(answers(knows=True)) == asyncio.run(answers(knows=False))


def mask(answer: bytes) -> bytes:
    """Without the ids, which are others each time."""
    parts = answer.split(b'"api_id":"')
    return b"".join([parts[0], *(part[36:] for part in parts[1:])])


def test_a_connection_is_one_of_aiohttps() -> None:
    """What the short way leans on: should aiohttp name it otherwise, this says so before a client does."""
    names = (
        "_waiter", "_messages", "_handler_waiter", "_request_in_progress", "_next_keepalive_close_time", "_close",
        "_keepalive_timeout", "_force_close", "_paused", "_reading_paused", "_buffer_paused", "_loop",
    )  # fmt: skip
    slots = {name for kind in Connection.__mro__ for name in getattr(kind, "__slots__", ())}
    assert set(names) <= slots
