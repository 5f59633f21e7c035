from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from gateway.carriers.carrier import DISCONNECTED, GARBLED, TIMED_OUT, UNREACHABLE, Failure, SendFailed
from gateway.carriers.connection import (
    ADDRESSES_GOOD_MS,
    ANSWER_BYTES_MAX,
    IDLE_MS_MAX,
    Answer,
    Connection,
    ConnectionPool,
    Deadlines,
    Endpoint,
    look_up_addresses,
)
from tests.fakes.wire import Peer, answering, on_a_wire, wire_loop

DEADLINES = Deadlines(connect_ms=3_000, answer_ms=10_000, read_ms=5_000)
BODY = b'{"text": "Hello"}'
HEADERS = [(b"host", b"carrier.example"), (b"content-length", b"%d" % len(BODY))]

Say = Callable[[Peer], None]


async def look_up_one(host: str, port: int) -> list[str]:
    return ["192.0.2.1"]


def pool(say: Say, *, look_up: Callable = look_up_one) -> ConnectionPool:
    """A pool whose connections all lead to peers that say the same to each request."""
    wire_loop().dial = lambda address: Peer(lambda peer, head, body: say(peer))
    return ConnectionPool(Endpoint("carrier.example", 443, None), DEADLINES, look_up=look_up)


async def exchange(connection: Connection) -> Answer:
    return await connection.write(b"/messages?v=1", list(HEADERS), BODY)


def say(*pieces: bytes) -> Say:
    def answer(peer: Peer) -> None:
        for piece in pieces:
            peer.say(piece)

    return answer


@on_a_wire
async def test_a_request_is_written_whole_and_its_answer_read() -> None:
    connections = pool(say(answering(202, b'{"id": 1}', X_More="yes")))
    connection = await connections.get()
    answer = await exchange(connection)
    assert answer.status == 202
    assert answer.body == b'{"id": 1}'
    assert answer.headers[b"x-more"] == b"yes"
    assert wire_loop().peers[0].raw == (
        b"POST /messages?v=1 HTTP/1.1\r\nhost: carrier.example\r\ncontent-length: 17\r\n\r\n" + BODY
    )


@on_a_wire
async def test_an_answer_may_come_in_pieces_chunked_and_after_others_that_only_inform() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    connections = pool(
        say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", chunked[:20], chunked[20:])
    )
    connection = await connections.get()
    waiting = connection.write(b"/", list(HEADERS), BODY)
    await asyncio.sleep(4)
    wire_loop().peers[0].say(b"3\r\nabc\r\n")
    await asyncio.sleep(4)
    wire_loop().peers[0].say(b"2\r\nde\r\n0\r\n\r\n")
    assert (await waiting).body == b"abcde"
    connections.put_back(connection)
    assert await connections.get() is connection


@on_a_wire
async def test_a_connection_is_used_again_while_it_is_fresh() -> None:
    connections = pool(say(answering(200)))
    first = await connections.get()
    await exchange(first)
    connections.put_back(first)
    await asyncio.sleep(IDLE_MS_MAX / 1_000 - 0.001)
    assert await connections.get() is first
    await exchange(first)
    connections.put_back(first)
    await asyncio.sleep(IDLE_MS_MAX / 1_000)
    second = await connections.get()
    assert second is not first
    await asyncio.sleep(0)
    assert wire_loop().peers[0].wire.is_over


def goodbye(peer: Peer) -> None:
    peer.wire.end()


def reset(peer: Peer) -> None:
    peer.wire.reset()


def farewell(peer: Peer) -> None:
    peer.say(answering(408))


@pytest.mark.parametrize("leave", [goodbye, reset, farewell])
@on_a_wire
async def test_a_connection_that_the_peer_has_left_is_not_written_to(leave: Say) -> None:
    connections = pool(say(answering(200)))
    first = await connections.get()
    await exchange(first)
    connections.put_back(first)
    leave(wire_loop().peers[0])
    await asyncio.sleep(0.01)
    assert not first.is_ready
    assert await connections.get() is not first


@on_a_wire
async def test_a_connection_that_ends_before_it_is_handed_out_is_not_handed_out() -> None:
    def dial(address: str) -> Peer:
        peer = Peer(lambda *_: None)
        if not wire_loop().peers:
            asyncio.get_running_loop().call_soon(lambda: peer.wire.reset())
        return peer

    wire_loop().dial = dial
    connections = ConnectionPool(Endpoint("carrier.example", 443, None), DEADLINES, look_up=lambda *_: look_up_two())
    assert (await connections.get()).is_ready
    assert wire_loop().dialled == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize(
    "last_words",
    [
        answering(200, Connection="close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        answering(200) + b"HTTP/1.1 200 OK\r\n",
    ],
)
@on_a_wire
async def test_a_connection_that_cannot_go_on_is_closed_after_its_answer(last_words: bytes) -> None:
    connections = pool(say(last_words))
    connection = await connections.get()
    assert (await exchange(connection)).status == 200
    connections.put_back(connection)
    await asyncio.sleep(0.01)
    assert wire_loop().peers[0].wire.is_over
    assert await connections.get() is not connection


@on_a_wire
async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    def answer(peer: Peer) -> None:
        peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.say(b'{"id": 1}')
        peer.wire.end()

    connection = await pool(answer).get()
    assert (await exchange(connection)).body == b'{"id": 1}'
    assert not connection.is_ready


def nothing(peer: Peer) -> None: ...


def half_an_answer(peer: Peer) -> None:
    peer.say(answering(200)[:-3])
    peer.wire.end()


def endless(peer: Peer) -> None:
    peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(ANSWER_BYTES_MAX // 1_024 + 20):
        peer.say(b"x" * 1_024)


def slow_head(peer: Peer) -> None:
    """A byte a second: never silent, never done."""
    loop = asyncio.get_running_loop()
    for second, byte in enumerate(answering(200)):
        loop.call_later(second, peer.say, bytes([byte]))


@pytest.mark.parametrize(
    ("answer", "failure", "after_ms"),
    [
        (nothing, TIMED_OUT, DEADLINES.read_ms),
        (slow_head, TIMED_OUT, DEADLINES.answer_ms),
        (goodbye, DISCONNECTED, 0),
        (reset, DISCONNECTED, 0),
        (half_an_answer, DISCONNECTED, 0),
        (endless, GARBLED, 0),
        (say(b"SSH-2.0-OpenSSH\r\n\r\n"), GARBLED, 0),
        (say(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000), GARBLED, 0),
    ],
)
@on_a_wire
async def test_without_a_complete_answer_the_outcome_is_unknown(answer: Say, failure: Failure, after_ms: int) -> None:
    connections = pool(answer)
    connection = await connections.get()
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(SendFailed) as failed:
        await exchange(connection)
    assert failed.value.failure is failure
    assert round((asyncio.get_running_loop().time() - began_s) * 1_000) == after_ms
    await asyncio.sleep(0.01)
    assert wire_loop().peers[0].wire.is_over
    connections.put_back(connection)
    assert await connections.get() is not connection
    assert sum(len(peer.requests) for peer in wire_loop().peers) == 1, "nothing is tried again"


@on_a_wire
async def test_who_stops_waiting_closes_the_connection() -> None:
    connection = await pool(nothing).get()
    waiting = connection.write(b"/", list(HEADERS), BODY)
    connection.close()
    with pytest.raises(SendFailed) as failed:
        await waiting
    assert failed.value.failure is DISCONNECTED


# --- Reaching it ------------------------------------------------------------------------------------------------------


async def look_up_two() -> list[str]:
    return ["192.0.2.1", "192.0.2.2"]


@on_a_wire
async def test_the_second_address_is_tried_when_the_first_refuses() -> None:
    connections = pool(say(answering(200)), look_up=lambda *_: look_up_two())
    dial = wire_loop().dial
    wire_loop().dial = lambda address: ConnectionRefusedError() if address == "192.0.2.1" else dial(address)
    await connections.get()
    assert wire_loop().dialled == ["192.0.2.1", "192.0.2.2"]


@on_a_wire
async def test_a_carrier_that_refuses_or_does_not_answer_is_unreachable() -> None:
    connections = pool(nothing)
    wire_loop().dial = lambda address: ConnectionRefusedError()
    with pytest.raises(SendFailed, match="unreachable ConnectionRefusedError"):
        await connections.get()
    wire_loop().dial = lambda address: None
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(SendFailed) as failed:
        await connections.get()
    assert failed.value.failure is UNREACHABLE
    assert round((asyncio.get_running_loop().time() - began_s) * 1_000) == DEADLINES.connect_ms


class Names:
    """A name server under the test's control."""

    def __init__(self) -> None:
        self.addresses: list[str] | OSError | None = ["192.0.2.1"]
        self.asked = 0

    async def look_up(self, host: str, port: int) -> list[str]:
        self.asked += 1
        if self.addresses is None:
            await asyncio.Event().wait()
        if isinstance(self.addresses, OSError):
            raise self.addresses
        assert isinstance(self.addresses, list)
        return self.addresses


@on_a_wire
async def test_names_are_looked_up_once_for_many_connections_and_again_later() -> None:
    names = Names()
    connections = pool(nothing, look_up=names.look_up)
    await asyncio.gather(*(connections.get() for _ in range(5)))
    assert names.asked == 1
    names.addresses = ["192.0.2.9"]
    await asyncio.sleep(ADDRESSES_GOOD_MS / 1_000)
    await connections.get()
    assert wire_loop().dialled[-1] == "192.0.2.9"


@pytest.mark.parametrize("trouble", [socket.gaierror("no such name"), None])
@on_a_wire
async def test_former_addresses_are_better_than_none(trouble: OSError | None) -> None:
    names = Names()
    connections = pool(nothing, look_up=names.look_up)
    await connections.get()
    names.addresses = trouble
    await asyncio.sleep(ADDRESSES_GOOD_MS / 1_000)
    await connections.get()
    assert wire_loop().dialled == ["192.0.2.1", "192.0.2.1"]


@pytest.mark.parametrize("trouble", [socket.gaierror("no such name"), None])
@on_a_wire
async def test_a_name_that_was_never_found_makes_it_unreachable(trouble: OSError | None) -> None:
    names = Names()
    names.addresses = trouble
    with pytest.raises(SendFailed) as failed:
        await pool(nothing, look_up=names.look_up).get()
    assert failed.value.failure is UNREACHABLE


@on_a_wire
async def test_a_pool_that_is_closed_closes_what_is_idle() -> None:
    connections = pool(say(answering(200)))
    connection = await connections.get()
    await exchange(connection)
    connections.put_back(connection)
    connections.close()
    await asyncio.sleep(0)
    assert wire_loop().peers[0].wire.is_over


async def test_addresses_come_from_the_system() -> None:
    assert await look_up_addresses("127.0.0.1", 80) == ["127.0.0.1"]
