"""Requests whose body is read piece by piece, and answers that leave so: the one place that does it over aiohttp.

    route.streams(call)? ─► Streams.entered ─► call.stream ─► handler: `async for chunk in call.stream`
                                                              └► a Reply, or StreamReply(pieces) ─► StreamReply.send

Invariants
* Who does not ask for the next chunk is sent no more: beyond what the connection holds (about 1 MiB) nothing gathers.
* Nothing waits for a client longer than `idle_ms` until `bytes_min` more have moved, in either direction. In all a
  stream may take as long as it likes, until the process drains.
* A piece is asked for when the one before it was taken, so a client that does not read stops whatever makes the pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Final

import structlog
from aiohttp import web

from gateway.api.call import Reply
from gateway.api.errors import api_error

log = structlog.get_logger(__name__)

NDJSON: Final = "application/x-ndjson"
CHUNK_BYTES_MAX: Final = 65_536
IDLE, CUT, MISFRAMED, DRAINING = "idle", "cut", "misframed", "draining"

Pieces = AsyncGenerator[bytes, None]


class StreamEnded(Exception):
    """The body ended before its end. `reason` is one of IDLE, CUT (nobody is there any more), MISFRAMED, DRAINING."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stream:
    """One request on a route that streams. Iterating gives the body's chunks, of at most CHUNK_BYTES_MAX, as they come.

    What came together is not kept back: a chunk may be one byte. Raises StreamEnded.
    """

    def __init__(self, request: web.BaseRequest, *, idle_s: float, bytes_min: int) -> None:
        self.request = request
        self.idle_s = idle_s
        self.bytes_min = bytes_min
        self._left_s = idle_s  # to wait for what is owed; what we take for ourselves does not count
        self._owed_bytes = bytes_min
        self.is_draining = False
        self._waiting: asyncio.Timeout | None = None
        self._expected = request.headers.get("Expect", "").lower() == "100-continue"

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        chunk = self.at_hand()
        if chunk:
            return chunk
        try:
            if not self.request.content.is_eof():
                chunk = await self._next_to_come()
        except Exception as error:
            raise _ended(error) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def at_hand(self) -> bytes:
        """The next chunk if it has come already, else b"". Raises StreamEnded."""
        if self.is_draining:
            raise StreamEnded(DRAINING)
        try:
            chunk = self.request.content.read_nowait(CHUNK_BYTES_MAX)
        except Exception as error:
            raise _ended(error) from error
        self._came(len(chunk))
        return chunk

    def _came(self, count: int) -> None:
        self._owed_bytes -= count
        if self._owed_bytes <= 0:
            self._left_s, self._owed_bytes = self.idle_s, self.bytes_min

    async def _next_to_come(self) -> bytes:
        """What comes next, b"" at the end. Raises StreamEnded at `drain`, and when it comes too slowly."""
        transport = self.request.transport
        if self._expected and transport is not None:
            self._expected = False
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        clock = asyncio.get_running_loop().time
        began_s = clock()
        try:
            async with asyncio.timeout(self._left_s) as self._waiting:
                chunk = await self.request.content.read(CHUNK_BYTES_MAX)
            self._left_s -= clock() - began_s
            self._came(len(chunk))
            return chunk
        except TimeoutError:
            raise StreamEnded(DRAINING if self.is_draining else IDLE) from None
        finally:
            self._waiting = None

    @property
    def has_ended(self) -> bool:
        """Whether the whole body has come from the client."""
        content = self.request.content
        return content.is_eof() and content.exception() is None

    @property
    def is_gone(self) -> bool:
        """Whether there is nobody any more to answer."""
        transport = self.request.transport
        return transport is None or transport.is_closing()

    def drain(self) -> None:
        """Let the body end where it is: the process is to stop."""
        self.is_draining = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())


class Streams:
    """The streams in progress: how many there may be, and who tells them to end."""

    def __init__(self, *, most: int, idle_ms: int, bytes_min: int) -> None:
        self._most = most
        self._most_of_one = max(1, most // 2)
        self._idle_s = idle_ms / 1_000
        self._bytes_min = bytes_min
        self._open: dict[Stream, str] = {}
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def entered(self, owner: str, request: web.BaseRequest) -> Iterator[Stream]:
        """Hold a place while the block runs; one owner has at most half of them. Raises ApiError (503)."""
        mine = sum(each == owner for each in self._open.values())
        if self._is_draining or len(self._open) >= self._most or mine >= self._most_of_one:
            raise api_error("overloaded", "too many streams are in progress; try again", bound="streams")
        stream = Stream(request, idle_s=self._idle_s, bytes_min=self._bytes_min)
        self._open[stream] = owner
        try:
            yield stream
        finally:
            del self._open[stream]

    def drain(self) -> None:
        """End every stream's body where it is, and take no more."""
        self._is_draining = True
        for stream in self._open:
            stream.drain()


class StreamReply(Reply):
    """An answer that leaves piece by piece, with a head as soon as there is a first piece.

    Over HTTP/1.0, which knows no chunks, the end of the connection is its end.
    """

    def __init__(
        self, pieces: Pieces, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = NDJSON
    ) -> None:
        super().__init__(b"", status, headers, content_type)
        self._pieces = pieces
        self._in_chunks = True
        self._has_begun = False

    async def write_eof(self, data: bytes = b"") -> None:
        """`send` has sent everything."""

    async def send(self, stream: Stream) -> None:
        """Send it all. What the pieces raise before the first of them is raised; later it cuts the connection.

        Raises ConnectionError where nobody reads, or is there any more.
        """
        request = stream.request
        await self.prepare(request)
        async with aclosing(self._pieces) as pieces:
            try:
                if request.method != "HEAD":
                    async for piece in pieces:
                        if piece:
                            await self._write(stream, self._framed(piece))
                await self._write(stream, self._framed(b""))
            except ConnectionError:
                self._cut(stream)
                raise
            except Exception as error:
                if not self._has_begun:
                    raise
                log.error("a stream's answer failed", exc_info=error)
                self._cut(stream)
        if not stream.has_ended:
            self.force_close()

    def _framed(self, piece: bytes) -> bytes:
        """A piece as it goes over the wire, the head before the first; an empty one is the end."""
        head = b"" if self._has_begun else self._begin()
        if not self._in_chunks:
            return head + piece
        return b"%b%x\r\n%b\r\n" % (head, len(piece), piece)

    def _begin(self) -> bytes:
        assert self._reply_to is not None
        self._has_begun = True
        self._in_chunks = self._reply_to.version.minor > 0 and self._reply_to.method != "HEAD"
        if not self._in_chunks:
            self.force_close()
        return self._head(self._reply_to.version.minor, b"\r\nTransfer-Encoding: chunked" if self._in_chunks else b"")

    async def _write(self, stream: Stream, data: bytes) -> None:
        """Return when the connection can take more. Raises ConnectionError when it does not get on in `idle_s`."""
        transport = stream.request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("nobody is there any more")
        transport.write(data)
        watch = _Watch(transport, stream.idle_s, stream.bytes_min)
        try:
            await stream.request.writer.drain()
        finally:
            watch.end()
        if transport.is_closing():
            raise ConnectionResetError("the client does not read, or is gone")

    def _cut(self, stream: Stream) -> None:
        """End the connection without the answer's end, so that nobody takes it for whole."""
        self.force_close()
        if stream.request.transport is not None:
            stream.request.transport.abort()


def _ended(error: Exception) -> Exception:
    """What an exception of aiohttp's reader means; itself where it means nothing of the kind."""
    if isinstance(error, web.RequestPayloadError):
        return StreamEnded(MISFRAMED)
    if isinstance(error, ConnectionError | RuntimeError):  # RuntimeError: for a connection that is gone
        return StreamEnded(CUT)
    return error


class _Watch:
    """Ends a connection that in `idle_s` takes less than `bytes_min` of what is to be written.

    Not a timeout around `drain`: cancelling it would leave aiohttp's connection with a future nobody may await again.
    """

    def __init__(self, transport: asyncio.WriteTransport, idle_s: float, bytes_min: int) -> None:
        self._transport, self._idle_s, self._bytes_min = transport, idle_s, bytes_min
        self._look_again()

    def _look_again(self) -> None:
        self._left = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._look)

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() > self._left - self._bytes_min:
            self._transport.abort()
        else:
            self._look_again()

    def end(self) -> None:
        self._timer.cancel()


def streamed(_call: object) -> bool:
    """Say of a route that its every request is a stream."""
    return True
