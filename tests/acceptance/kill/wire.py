"""The smallest HTTP/1.1 server that can be a witness: what arrives is stamped and handled in the same loop turn.

A handler is a plain function, so that whatever it writes down is written before anything is answered. A reply may come
late, or not at all: then the connection is cut without a word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, cast

HEAD_END: Final = b"\r\n\r\n"


class Request(NamedTuple):
    """One request; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    arrived_ns: int  # monotonic, of the loop turn in which its last byte was there


class Reply(NamedTuple):
    """What is answered, and how late."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    delay_ms: float = 0.0
    cut: bool = False  # nothing is answered: the connection is closed after the delay


Handler = Callable[[Request], Reply]


class Wire(asyncio.Protocol):
    """One connection: requests one after another, as our clients send them."""

    def __init__(self, handler: Handler, connections: set[Wire]) -> None:
        self._handler = handler
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        arrived_ns = time.monotonic_ns()
        self._received += data
        while (request := self._take(arrived_ns)) is not None:
            reply = self._handler(request)
            if reply.delay_ms > 0:
                self._loop.call_later(reply.delay_ms / 1_000, self._answer, reply)
            else:
                self._answer(reply)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self, arrived_ns: int) -> Request | None:
        """The next complete request, taken out of what was received."""
        end = self._received.find(HEAD_END)
        if end < 0:
            return None
        lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        begin = end + len(HEAD_END)
        until = begin + int(headers.get("content-length", "0"))
        if len(self._received) < until:
            return None
        body = bytes(self._received[begin:until])
        del self._received[:until]
        return Request(method, path, headers, body, arrived_ns)

    def _answer(self, reply: Reply) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if reply.cut:
            self._transport.abort()
            return
        head = [f"HTTP/1.1 {reply.status} -", "content-type: application/json", f"content-length: {len(reply.body)}"]
        head += [f"{name}: {value}" for name, value in reply.headers]
        self._transport.write("\r\n".join(head).encode() + HEAD_END + reply.body)


@asynccontextmanager
async def listening(handler: Handler, *, port: int = 0) -> AsyncIterator[int]:
    """Serve on this machine until the block ends; gives the port."""
    connections: set[Wire] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Wire(handler, connections), "127.0.0.1", port, backlog=512
    )
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for connection in list(connections):
            connection.close()
        await server.wait_closed()
