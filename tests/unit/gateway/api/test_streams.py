"""Bodies read and answers written piece by piece, over real sockets: slow, silent, broken and vanishing clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from gateway.api.call import Call, Handler
from gateway.api.errors import api_error
from gateway.api.middleware import Front
from gateway.api.router import Access, Route, Router
from gateway.api.streams import CUT, DRAINING, IDLE, MISFRAMED, StreamEnded, StreamReply, streamed
from gateway.clock import SystemClock, SystemIds
from gateway.settings import LimitsSettings, ServerSettings
from storage.catalog import AccountRow
from storage.sealing import token_hash
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, TOKEN, Client, basic, serving

ACCOUNTS = {account: AccountRow(account, "n", token_hash(TOKEN), TOKEN) for account in (ACCOUNT, OTHER_ACCOUNT)}
SETTINGS = ServerSettings(streams_max=4, stream_idle_ms=5_000, requests_max=2)
PATH = f"/v1/Account/{ACCOUNT}/S/"
MIB = 1_048_576

Pieces = AsyncGenerator[bytes, None]


async def plain(call: Call) -> web.StreamResponse:
    return call.json({"body": call.body.decode()})


def front(handler: Handler, settings: ServerSettings) -> Front:
    routes = [
        Route("POST", "/v1/Account/{auth_id}/S/", Access.ACCOUNT, handler, streamed),
        Route("GET", "/v1/Account/{auth_id}/S/", Access.ACCOUNT, handler, streamed),
        Route("POST", "/v1/Account/{auth_id}/", Access.ACCOUNT, plain),
        Route("POST", "/carriers/{carrier}", Access.OWN, handler, streamed),
        Route("POST", "/open", Access.OPEN, handler, lambda call: "ndjson" in call.request.headers["Content-Type"]),
    ]
    return Front(
        Router(routes), ACCOUNTS, clock=SystemClock(), ids=SystemIds(), server=settings, limits=LimitsSettings()
    )


@asynccontextmanager
async def client(handler: Handler, settings: ServerSettings = SETTINGS) -> AsyncIterator[Client]:
    async with serving(front(handler, settings), settings) as made:
        yield made


def answering(make: Callable[[Call], Pieces]) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        return StreamReply(make(call))

    return handler


async def shout(call: Call) -> Pieces:
    assert call.stream is not None
    async for chunk in call.stream:
        yield chunk.upper()


async def gather(call: Call) -> web.StreamResponse:
    """Read the whole stream; say how much came and how it ended."""
    assert call.stream is not None
    count, ended = 0, "whole"
    try:
        async for chunk in call.stream:
            assert 0 < len(chunk) <= 65_536
            count += len(chunk)
    except StreamEnded as error:
        ended = error.reason
    return call.json({"count": count, "ended": ended})


def head(*lines: str, method: str = "POST", path: str = PATH, version: str = "1.1") -> bytes:
    return "\r\n".join(
        (f"{method} {path} HTTP/{version}", "Host: a", f"Authorization: {basic()}", *lines, "", "")
    ).encode()


CHUNKED = "Transfer-Encoding: chunked"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_head(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readuntil(b"\r\n\r\n")


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        length = int(await reader.readuntil(b"\r\n"), 16)
        data = await reader.readexactly(length + 2)
        return data[:-2]


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """What is left, to the end of the connection, however it ends."""
    got = b""
    try:
        async with asyncio.timeout(5):
            while data := await reader.read(MIB):
                got += data
    except ConnectionResetError:
        pass
    return got


# --- The body ---------------------------------------------------------------------------------------------------------


async def test_what_comes_is_answered_before_more_comes() -> None:
    async with client(answering(shout)) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head(CHUNKED) + framed(b"one"))
        got = await read_head(reader)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n" in got
        assert await read_chunk(reader) == b"ONE"
        for word in (b"two", b"three"):
            writer.write(framed(word))
            assert await read_chunk(reader) == word.upper()
        writer.write(framed(b""))
        assert await read_chunk(reader) == b""
        writer.close()


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, MIB])
async def test_a_body_with_a_length_comes_whole(size: int) -> None:
    async with client(gather) as api:
        got = await api.post("S/", raw=b"x" * size, headers={"Content-Type": "application/x-ndjson"})
    assert got.body["count"] == size
    assert got.body["ended"] == "whole"


async def test_a_body_in_many_tiny_chunks_comes_whole() -> None:
    async with client(gather) as api:
        got = await api.first(head(CHUNKED) + b"".join(framed(b"x") for _ in range(20_000)) + framed(b""))
    assert b'"count":20000,"ended":"whole"' in got


async def test_who_waits_to_be_told_to_go_on_is_told_when_the_body_is_wanted() -> None:
    async with client(gather) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head("Content-Length: 3", "Expect: 100-continue"))
        assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_handler_that_does_not_read_holds_the_client_back() -> None:
    go_on = asyncio.Event()

    async def handler(call: Call) -> web.StreamResponse:
        await go_on.wait()
        return await gather(call)

    async with client(handler) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.transport.set_write_buffer_limits(high=MIB)
        size, sent = 64 * MIB, 0
        writer.write(head(f"Content-Length: {size}"))
        block = b"x" * MIB
        try:
            async with asyncio.timeout(1):
                while sent < size:
                    writer.write(block)
                    sent += MIB
                    await writer.drain()
        except TimeoutError:
            pass
        assert sent < 24 * MIB  # what sockets and one reader's buffer hold, and no more
        go_on.set()
        while sent < size:
            writer.write(block)
            sent += MIB
            await writer.drain()
        await read_head(reader)
        assert b'"ended":"whole"' in await reader.read(1_000)
        writer.close()


async def test_a_silent_client_is_told_that_it_was_silent() -> None:
    async with client(gather, replace(SETTINGS, stream_idle_ms=200)) as api:
        got = await api.raw(head(CHUNKED) + framed(b"abc"))
        assert got.startswith(b"HTTP/1.1 200")
        assert f'"count":3,"ended":"{IDLE}"'.encode() in got
        assert b"Connection: close" in got  # whatever it sends later is no request


async def trickle(api: Client, pieces: int, *, size: int) -> bytes:
    """Send a piece every 0.1 s and give what was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head(CHUNKED))
    for _ in range(pieces):
        await asyncio.sleep(0.1)
        writer.write(framed(b"x" * size))
    writer.write(framed(b""))
    await read_head(reader)
    answer = await reader.read(1_000)
    writer.close()
    return answer


async def test_a_slow_client_is_not_silent() -> None:
    async with client(gather, replace(SETTINGS, stream_idle_ms=500, stream_bytes_min=2)) as api:
        assert b'"count":10,"ended":"whole"' in await trickle(api, 10, size=1)


async def test_a_trickle_does_not_hold_a_place() -> None:
    async with client(gather, replace(SETTINGS, stream_idle_ms=500, stream_bytes_min=100)) as api:
        answer = await trickle(api, 12, size=5)
    assert f'"ended":"{IDLE}"'.encode() in answer


async def test_what_we_take_for_ourselves_is_not_the_clients_slowness() -> None:
    async def handler(call: Call) -> web.StreamResponse:
        assert call.stream is not None
        count = 0
        async for chunk in call.stream:
            count += len(chunk)
            await asyncio.sleep(0.3)
        return call.json({"count": count})

    async with client(handler, replace(SETTINGS, stream_idle_ms=500, stream_bytes_min=100)) as api:
        assert b'"count":12' in await trickle(api, 12, size=1)


async def test_a_client_that_vanishes_ends_its_stream_and_frees_its_place() -> None:
    ends: list[str] = []

    async def handler(call: Call) -> web.StreamResponse:
        assert call.stream is not None
        try:
            async for _ in call.stream:
                pass
        except StreamEnded as error:
            assert call.stream.is_gone
            ends.append(error.reason)
        return call.json({})

    async with client(handler) as api:
        for _ in range(5):  # more than there are places
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(head(CHUNKED) + framed(b"abc"))
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.transport.abort()
            await asyncio.sleep(0.02)
    assert ends == [CUT] * 5


async def test_a_misframed_body_ends_there() -> None:
    async with client(gather) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head(CHUNKED) + framed(b"abc"))
        await asyncio.sleep(0.05)
        writer.write(b"no length\r\n")
        got = await read_all(reader)
        writer.close()
    assert f'"count":3,"ended":"{MISFRAMED}"'.encode() in got


# --- The answer -------------------------------------------------------------------------------------------------------


async def test_the_next_request_on_the_connection_is_answered_after_the_stream() -> None:
    following = head("Content-Length: 2", path=f"/v1/Account/{ACCOUNT}/") + b"{}"
    for handler in (answering(shout), gather):
        async with client(handler) as api:
            got = await api.raw(
                (head(CHUNKED) + framed(b"abc") + framed(b"")) * 2 + following + head("Connection: close", method="GET")
            )
        assert got.count(b"HTTP/1.1 200 OK") == 4
        assert b'"body":"{}"' in got


async def test_a_client_that_does_not_read_stops_what_makes_the_answer_and_is_cut_off() -> None:
    made = 0
    ended = asyncio.Event()

    async def endless(call: Call) -> Pieces:
        nonlocal made
        try:
            while True:
                made += 1
                yield b"x" * 65_536
        finally:
            ended.set()

    async with client(answering(endless), replace(SETTINGS, stream_idle_ms=300)) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=65_536)
        writer.write(head(method="GET"))
        async with asyncio.timeout(5):
            await ended.wait()
        assert made < 400  # 25 MiB: what sockets hold
        assert not (await read_all(reader)).endswith(b"0\r\n\r\n")
        writer.close()


async def test_a_client_that_reads_slowly_is_not_cut_off() -> None:
    async def much(call: Call) -> Pieces:
        for _ in range(200):
            yield b"x" * 65_536

    async with client(answering(much), replace(SETTINGS, stream_idle_ms=400)) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=65_536)
        writer.write(head(method="GET"))
        await read_head(reader)
        for _ in range(200):
            assert await read_chunk(reader) == b"x" * 65_536
            await asyncio.sleep(0.005)
        assert await read_chunk(reader) == b""
        writer.close()


async def test_what_goes_wrong_before_the_first_piece_is_an_error_as_always() -> None:
    async def refused(call: Call) -> Pieces:
        raise api_error("not_found", "no such thing")
        yield b""

    async with client(answering(refused)) as api:
        got = await api.get("S/")
    assert (got.status, got.body["code"], got.body["error"]) == (404, "not_found", "no such thing")


async def test_what_goes_wrong_later_leaves_an_answer_without_an_end() -> None:
    async def broken(call: Call) -> Pieces:
        yield b"one"
        raise ZeroDivisionError("secret")

    async with client(answering(broken)) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head(method="GET"))
        await read_head(reader)
        assert await read_chunk(reader) == b"one"
        assert await read_all(reader) == b""
        writer.close()


async def test_an_answer_without_any_piece_is_an_empty_body() -> None:
    async def nothing(call: Call) -> Pieces:
        return
        yield b""

    async with client(answering(nothing)) as api:
        got = await api.raw(head("Connection: close", method="GET"))
    assert got.endswith(b"\r\n\r\n0\r\n\r\n")


async def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection() -> None:
    async with client(answering(shout)) as api:
        got = await api.raw(head("Content-Length: 3", "Connection: keep-alive", version="1.0") + b"abc")
    assert b"Transfer-Encoding" not in got
    assert got.endswith(b"Connection: close\r\n\r\nABC")


async def test_head_gets_the_head() -> None:
    async with client(answering(shout)) as api:
        got = await api.raw(head("Connection: close", method="HEAD"))
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"\r\n\r\n")
    assert got.count(b"\r\n\r\n") == 1


# --- Bounds, and who may ----------------------------------------------------------------------------------------------


async def test_streams_are_bounded_apart_from_requests_and_half_are_one_accounts() -> None:
    async with client(gather) as api:
        open_ones = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(4)]
        for _, writer in open_ones[:2]:
            writer.write(head(CHUNKED))
        await asyncio.sleep(0.05)
        third = await api.post("S/", raw=b"")
        other = head(CHUNKED, path=f"/v1/Account/{OTHER_ACCOUNT}/S/").replace(
            basic().encode(), basic(OTHER_ACCOUNT).encode()
        )
        for _, writer in open_ones[2:]:
            writer.write(other)
        await asyncio.sleep(0.05)
        single = await api.post("", {})
        carriers = await api.post("/open", raw=b"", headers={"Content-Type": "application/x-ndjson"}, authorization="")
        for reader, writer in open_ones:
            writer.write(framed(b""))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
            writer.close()
        again = await api.post("S/", raw=b"")
    assert (third.status, third.body["code"], third.headers["Retry-After"]) == (503, "overloaded", "1")
    assert (carriers.status, carriers.body["code"]) == (503, "overloaded")
    assert single.status == 200
    assert again.status == 200


async def test_each_carrier_has_a_half_of_its_own() -> None:
    async with client(gather) as api:
        writers = []
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(head(CHUNKED, path="/carriers/a"))
            writers.append(writer)
        await asyncio.sleep(0.05)
        for carrier, status in (("a", 503), ("b", 200)):
            answer = await api.first(head(CHUNKED, path=f"/carriers/{carrier}") + framed(b""))
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        for writer in writers:
            writer.close()


async def test_a_route_may_stream_for_some_of_its_requests() -> None:
    async def handler(call: Call) -> web.StreamResponse:
        return call.json({"body": call.body.decode()}) if call.stream is None else await gather(call)

    async with client(handler) as api:
        whole = await api.post("/open", raw=b"abc")
        stream = await api.post("/open", raw=b"abc", headers={"Content-Type": "application/x-ndjson"})
    assert whole.body["body"] == "abc"
    assert stream.body["count"] == 3


async def test_draining_ends_what_is_read_and_takes_no_more() -> None:
    made = front(gather, SETTINGS)
    async with serving(made, SETTINGS) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head(CHUNKED) + framed(b"abc"))
        await asyncio.sleep(0.05)
        made.drain()
        got = await read_head(reader)
        assert b"Connection: close" in got
        assert f'"count":3,"ended":"{DRAINING}"'.encode() in await reader.read(1_000)
        writer.close()
        assert (await api.post("S/", raw=b"")).status == 503


async def test_a_handler_that_leaves_the_body_unread_ends_the_connection() -> None:
    async def handler(call: Call) -> web.StreamResponse:
        raise api_error("idempotency_key_reused")

    async with client(handler) as api:
        got = await api.raw(head(CHUNKED) + framed(b"abc"), wait_s=5)
    assert got.startswith(b"HTTP/1.1 409")
    assert b"Connection: close" in got


async def test_strangers_compressed_bodies_and_forms_are_refused_before_anything_is_read() -> None:
    async with client(gather) as api:
        stranger = await api.post("S/", raw=b"x", authorization=basic(token="wrong"))
        packed = await api.post("S/", raw=b"x", headers={"Content-Encoding": "gzip"})
        form = await api.post("S/", raw=b"x", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (stranger.status, packed.status, form.status) == (401, 415, 415)
    assert packed.body["code"] == "unsupported_encoding"
