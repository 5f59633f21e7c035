"""One HTTP/1.1 connection to a carrier, and a pool of those that are ready.

Why not an HTTP client: the caller must know, in the same loop turn, that a connection is ready and that the whole
request was written to it. A client connects, waits and writes on its own terms, and tries again behind our back.

Invariants of a `Connection`
* At most one exchange runs on it; `is_ready` means that a request can be written to it now: no exchange runs, the
  peer has neither closed nor said anything unasked, and it has not idled for too long.
* Once `write` was called, the exchange ends in an answer or in a SendFailed whose outcome is unknown; the connection
  is closed unless the answer was complete and both sides may go on.
* It reads the bytes as they come (a Protocol, not a stream), so a peer's goodbye is seen before the next write.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, cast

import h11
import structlog

from gateway.carriers.carrier import BAD_ROUTE, DISCONNECTED, GARBLED, TIMED_OUT, UNREACHABLE, Failure, SendFailed

log = structlog.get_logger(__name__)

HEAD_BYTES_MAX = 16_384
ANSWER_BYTES_MAX = 256 * 1_024
"""Read of one answer, head and framing included; ours are some hundred bytes."""
IDLE_MS_MAX = 4_000
"""A connection that idled longer is not used again: common servers close after 5 s, and a race costs a duplicate."""
ADDRESSES_GOOD_MS = 30_000
"""How long a look-up is good for; afterwards it is still better than nothing."""

Header = tuple[bytes, bytes]
Addresses = Sequence[str]
LookUp = Callable[[str, int], Awaitable[Addresses]]


class Answer(NamedTuple):
    """A complete answer; header names are lower case, the last of several wins."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Deadlines(NamedTuple):
    """How long a carrier may take, in milliseconds."""

    connect_ms: int  # look-up, TCP and TLS together
    answer_ms: int  # from the write to the whole answer
    read_ms: int  # without a single byte


class Connection(asyncio.Protocol):
    """One connection; see the invariants above."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._usable = False
        self._answer: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = 0.0  # loop time of the exchange's end at the latest
        self._idle_since = self._loop.time()
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._bytes = 0

    @property
    def is_ready(self) -> bool:
        idle_s = self._loop.time() - self._idle_since
        return (
            self._usable
            and self._answer is None
            and self._transport is not None
            and not self._transport.is_closing()
            and idle_s * 1_000 < IDLE_MS_MAX
        )

    def write(
        self, target: bytes, headers: list[Header], body: bytes, *, method: bytes = b"POST"
    ) -> asyncio.Future[Answer]:
        """Write a whole request at once and give the answer to come; raises SendFailed there. Never waits.

        Whoever stops waiting closes the connection.
        """
        assert self.is_ready
        assert self._transport is not None
        head = self._http.send(h11.Request(method=method, target=target, headers=headers))
        content = self._http.send(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        self._transport.write((head or b"") + (content or b""))
        self._answer = self._loop.create_future()
        self._head, self._body, self._bytes = None, bytearray(), 0
        self._ends_at = self._loop.time() + self._deadlines.answer_ms / 1_000
        self._set_timer()
        return self._answer

    def close(self) -> None:
        """At once; an exchange that runs ends as disconnected."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(SendFailed(DISCONNECTED, "closed by us"))

    # -- what the loop tells --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._usable = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # unasked: a farewell, or bytes of an answer that was over
            self._fail(SendFailed(GARBLED))
            return
        self._bytes += len(data)
        if self._bytes > ANSWER_BYTES_MAX + HEAD_BYTES_MAX:
            self._fail(SendFailed(GARBLED, "answer too large"))
            return
        self._http.receive_data(data)
        self._read_events()
        if self._answer is not None:
            self._set_timer()

    def eof_received(self) -> bool:
        if self._answer is not None:
            self._http.receive_data(b"")
            self._read_events(trouble=DISCONNECTED)  # too little, not wrong
        self._fail(SendFailed(DISCONNECTED))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(SendFailed(DISCONNECTED, type(exc).__name__ if exc else ""))

    # -- the exchange ---------------------------------------------------------------------------------------------

    def _read_events(self, *, trouble: Failure = GARBLED) -> None:
        try:
            while self._answer is not None:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self._finish()
                elif not isinstance(event, h11.InformationalResponse):
                    return  # NEED_DATA, PAUSED, or a connection that is over
        except h11.RemoteProtocolError as error:
            self._fail(SendFailed(trouble, type(error).__name__))  # its text may hold what the peer said

    def _finish(self) -> None:
        assert self._head is not None
        assert self._answer is not None
        answer = Answer(self._head.status_code, dict(self._head.headers), bytes(self._body))
        waiting, self._answer = self._answer, None
        self._stop_timer()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            self._idle_since = self._loop.time()
        else:
            self._fail(SendFailed(DISCONNECTED))
        if not waiting.done():
            waiting.set_result(answer)

    def _fail(self, failed: SendFailed) -> None:
        """The connection is over; so is the exchange, if one runs."""
        self._usable = False
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(failed)

    def _set_timer(self) -> None:
        self._stop_timer()
        at = min(self._loop.time() + self._deadlines.read_ms / 1_000, self._ends_at)
        self._timer = self._loop.call_at(at, self._fail, SendFailed(TIMED_OUT))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Endpoint(NamedTuple):
    """Where a carrier listens."""

    host: str
    port: int
    tls: ssl.SSLContext | None


class ConnectionPool:
    """Ready connections to one endpoint. It bounds nothing: its caller has a bounded number of places."""

    def __init__(self, endpoint: Endpoint, deadlines: Deadlines, *, look_up: LookUp | None = None) -> None:
        self._endpoint = endpoint
        self._deadlines = deadlines
        self._look_up = look_up or look_up_addresses
        self._idle: list[Connection] = []
        self._addresses: Addresses = ()
        self._looked_up = 0.0  # loop time
        self._looking_up = asyncio.Lock()

    async def get(self) -> Connection:
        """A connection that is ready, new if need be; raises SendFailed (unreachable)."""
        while self._idle:
            connection = self._idle.pop()  # the latest: the least likely to have been closed
            if connection.is_ready:
                return connection
            connection.close()
        try:
            async with asyncio.timeout(self._deadlines.connect_ms / 1_000):
                return await self._connect()
        except TimeoutError as error:
            raise SendFailed(UNREACHABLE, "connect timed out") from error

    def put_back(self, connection: Connection) -> None:
        """Give a connection back; it is kept if another request can follow."""
        if connection.is_ready:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect(self) -> Connection:
        endpoint = self._endpoint
        loop = asyncio.get_running_loop()
        last: Exception | None = None
        for address in await self._find_addresses():
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self._deadlines),
                    address,
                    endpoint.port,
                    ssl=endpoint.tls,
                    server_hostname=endpoint.host if endpoint.tls else None,
                )
            except ssl.SSLCertVerificationError as error:  # expired, another host's: never talked to
                raise SendFailed(BAD_ROUTE, "certificate") from error
            except OSError as error:  # refused, no route, no TLS there
                last = error
                continue
            if connection.is_ready:  # and has not said or closed anything while we were waiting to go on
                return connection
            connection.close()
        raise SendFailed(UNREACHABLE, type(last).__name__ if last else "no address") from last

    async def _find_addresses(self) -> Addresses:
        loop = asyncio.get_running_loop()
        async with self._looking_up:
            if self._addresses and (loop.time() - self._looked_up) * 1_000 < ADDRESSES_GOOD_MS:
                return self._addresses
            try:
                async with asyncio.timeout(self._deadlines.connect_ms / 2_000):  # leaves time for former addresses
                    self._addresses = await self._look_up(self._endpoint.host, self._endpoint.port)
            except (OSError, UnicodeError) as error:
                if not self._addresses:
                    raise SendFailed(UNREACHABLE, "name not found") from error
                log.warning("name not found, former addresses used", host=self._endpoint.host, error=str(error))
            self._looked_up = loop.time()
            return self._addresses


async def look_up_addresses(host: str, port: int) -> Addresses:
    """The addresses of a host in the system's order; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
