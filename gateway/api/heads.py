"""Heads that have come before, and requests that come with one of them.

Who sends message after message sends the same head each time, but for the few lengths its bodies have. What aiohttp's
parser made of such a head holds for the same bytes ever after; so a request whose head is known byte by byte, and whose
body is there, need not be parsed (5 µs) nor pass aiohttp's general way of a request (15 µs).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, StreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

HEAD_END: Final = b"\r\n\r\n"
HEADS_MAX: Final = 2_000
HEAD_BYTES_MAX: Final = 2_048  # a client's usual lines; so all heads together take a few megabytes
BODY_BYTES_MAX: Final = 65_536  # of a request that goes the short way
READ_BYTES: Final = 65_536


class KnownHead(NamedTuple):
    """A head as it was parsed, and how long the body behind it is."""

    message: RawRequestMessage
    body_bytes: int


def body_bytes_of(message: RawRequestMessage) -> int | None:
    """How many bytes follow this head; None when it does not say so beforehand."""
    if message.chunked or message.upgrade:
        return None
    return int(message.headers.get("Content-Length", 0))  # aiohttp's parser takes plain digits only


class Heads:
    """The heads that are known, by their bytes."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, head: bytes) -> KnownHead | None:
        return self._known.get(head)

    def learn(self, head: bytes, message: RawRequestMessage, body_bytes: int) -> None:
        """Remember a head, if requests with it may go the short way."""
        if (
            message.method != "POST"
            or message.version != HttpVersion11
            or message.should_close
            or body_bytes > BODY_BYTES_MAX
            or len(head) > HEAD_BYTES_MAX
            or "Expect" in message.headers
        ):
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known[head] = KnownHead(message, body_bytes)


class KnownRequest(web.BaseRequest):
    """A request with a known head, its whole body at hand. What only few handlers ask for is made when asked for."""

    def __init__(
        self,
        head: KnownHead,
        body: bytes,
        protocol: web.RequestHandler,
        task: asyncio.Task[None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(head.message, _nothing, protocol, _nobody, task, loop)
        self.body = body
        self._reader: StreamReader | None = None
        self._writer: StreamWriter | None = None

    @property
    def content(self) -> StreamReader:
        """The body as what aiohttp reads bodies from."""
        if self._reader is None:
            self._reader = StreamReader(self._protocol, READ_BYTES, loop=self._loop)
            self._reader.feed_data(self.body)
            self._reader.feed_eof()
        return self._reader

    @property
    def writer(self) -> AbstractStreamWriter:
        if self._writer is None:
            self._writer = StreamWriter(self._protocol, self._loop)
        return self._writer


if TYPE_CHECKING:
    _nothing: StreamReader
    _nobody: AbstractStreamWriter
else:
    _nothing: Any = None
    _nobody: Any = None
