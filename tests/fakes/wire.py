"""A network in memory, in virtual time: connections to peers that do what the test tells them.

`WireLoop.create_connection` asks `dial` for the peer of each new connection. What is written in one loop turn arrives
in the next, both ways, in the pieces in which it was written.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import h11

from tests.fakes.clock import VirtualLoop

P = ParamSpec("P")
T = TypeVar("T")


class Wire(asyncio.Transport):
    """Our end of one connection."""

    def __init__(self, loop: WireLoop, protocol: asyncio.Protocol, peer: Peer) -> None:
        super().__init__()
        self._loop, self._protocol, self._peer = loop, protocol, peer
        self.is_over = False
        peer.wire = self

    # our side
    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_over, "written to a connection that is over"
        self._loop.turns.append("write")
        self._loop.call_soon(self._peer.hear, bytes(data))

    def is_closing(self) -> bool:
        return self.is_over

    def abort(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    close = abort

    # the peer's side
    def deliver(self, data: bytes) -> None:
        if data:
            self._loop.call_soon(lambda: None if self.is_over else self._protocol.data_received(data))

    def end(self) -> None:
        self._loop.call_soon(lambda: None if self.is_over else self._protocol.eof_received())

    def reset(self) -> None:
        self.is_over = True
        self._loop.call_soon(self._protocol.connection_lost, ConnectionResetError("reset by peer"))


class Peer:
    """The carrier's end of one connection; `requests` are the bodies and headers it got."""

    wire: Wire

    def __init__(self, answer: Callable[[Peer, h11.Request, bytes], None]) -> None:
        self._answer = answer
        self._http = h11.Connection(h11.SERVER)
        self.raw = b""
        self.requests: list[tuple[h11.Request, bytes]] = []

    def hear(self, data: bytes) -> None:
        self.raw += data
        self._http.receive_data(data)
        head: h11.Request | None = None
        body = b""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                self.requests.append((head, body))
                self._http = h11.Connection(h11.SERVER)
                self._answer(self, head, body)
                return
            else:
                raise AssertionError("a request must be written whole, at once")

    def say(self, data: bytes) -> None:
        self.wire.deliver(data)


def answering(status: int, body: bytes = b'{"id": "abc-1"}', **headers: str) -> bytes:
    """A complete answer; header names with underscores."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class WireLoop(VirtualLoop):
    """A virtual loop whose connections lead to peers of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.dial: Callable[[str], Peer | OSError | None] = lambda address: None
        self.dialled: list[str] = []
        self.peers: list[Peer] = []
        self.turns: list[str] = []

    async def create_connection(self, protocol_factory, host=None, port=None, **_options):
        self.dialled.append(host)
        peer = self.dial(host)
        if isinstance(peer, OSError):
            raise peer
        if peer is None:  # nobody is there, and nobody says so
            await asyncio.Event().wait()
        assert isinstance(peer, Peer)
        protocol = protocol_factory()
        wire = Wire(self, protocol, peer)
        self.peers.append(peer)
        protocol.connection_made(wire)
        await asyncio.sleep(0)
        return wire, protocol


def on_a_wire(test: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Run an async test on a wire loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async def call() -> T:
            return await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=WireLoop) as runner:
            return runner.run(call())

    return run


def wire_loop() -> WireLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WireLoop)
    return loop
