"""The server's connections: aiohttp's, and what it leaves unbounded is bounded here.

* A connection without a complete first request head within `head_ms_max` is closed; between requests it has
  `keepalive_ms`.
* Who takes nothing of its answers for `unread_ms_max` is cut off.
* There are only so many connections: see crowd.py.
* What is no HTTP is answered in JSON, like everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

import orjson
import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.api.call import Reply
from gateway.api.crowd import Crowd
from gateway.api.errors import ERRORS
from gateway.api.framing import Unfinished
from gateway.clock import Ids
from gateway.settings import ServerSettings

log = structlog.get_logger(__name__)

SWEEP_S: Final = 1.0
LINGER_S: Final = 2.0
"""How long a body that nobody reads any more is read away, so that the client sees the answer before the end."""


class Connection(web.RequestHandler):
    """One connection. `head_since` is when it began to owe us its first request head; None once it has come.

    Later heads may take as long as it may be idle: who waits between two requests and who dawdles cost us the same.
    """

    def __init__(self, server: ApiServer, *, loop: asyncio.AbstractEventLoop, keepalive_s: float) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=keepalive_s,
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp says: no line per request
            auto_decompress=False,
            lingering_time=LINGER_S,
        )
        self._api_server = server
        self._is_over = False  # what came is no HTTP: nothing more is read
        self._content: StreamReader | None = None  # the body of the latest request, begun with or not yet
        self.address = ""
        self.head_since: float | None = loop.time()
        self._unread = (0, 0.0)  # bytes that wait for the client, and since when there are not fewer
        self._unfinished = Unfinished()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        if not self._api_server.crowd.welcome(self.address):
            self.force_close()

    def unread_s(self, now_s: float) -> float:
        """How long the client has taken nothing of what waits for it."""
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        before, since_s = self._unread
        if not waiting or waiting < before or not before:
            self._unread = (waiting, now_s)
            return 0.0
        return now_s - since_s

    def cut(self) -> None:
        """End the connection at once, whatever waits."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._api_server.crowd.farewell(self.address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_over or self._close:
            return
        before = len(self._messages)
        super().data_received(data)
        messages = self._messages
        has_head = len(messages) > before
        for message, content in islice(messages, before, None):
            if isinstance(message, RawRequestMessage):
                self._content = content
        if has_head and not isinstance(messages[-1][0], RawRequestMessage):
            self._is_over = True  # else each further piece would be answered, and kept until then
            if self._content is not None and not self._content.is_eof():
                messages.pop()
                self._misframed(self._content)
        elif self._unfinished.is_endless(len(data), messages[-1][1] if has_head else None):
            self._refuse_endless()

    def _misframed(self, content: StreamReader) -> None:
        """What came is no HTTP, and stands in a request's body: whoever reads that, or will, is told and answers.

        aiohttp's parser forgets the body then, and its reader would wait for ever.
        """
        content.set_exception(web.RequestPayloadError("the body is not framed as its head says"))
        content.feed_eof()
        self.close()

    def _refuse_endless(self) -> None:
        """What comes completes nothing, and there is too much of it."""
        request = self._current_request
        if self._content is not None and not self._content.is_eof():
            self._misframed(self._content)
        elif request is None and not self._messages and self.transport is not None:
            self.transport.write(self._closing("bad_request", 400).whole())
            self.force_close()
        else:
            self.close()

    # -- errors -------------------------------------------------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read as HTTP, or what got past the front."""
        if status >= 500:
            log.error("a request failed outside its handler", exc_info=exc)
        else:
            log.debug("no HTTP", problem=message)
        return self._closing("bad_request" if status < 500 else "internal", status)

    def _closing(self, code: str, status: int) -> Reply:
        body = {"api_id": self._api_server.ids.new(), "error": ERRORS[code].text, "code": code}
        reply = Reply(orjson.dumps(body), status)
        reply.force_close()
        return reply


class ApiServer(web.Server):
    """aiohttp's low-level server with `Connection`s; `sweep` must be running for heads to have a deadline."""

    def __init__(
        self,
        front: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        settings: ServerSettings,
        *,
        ids: Ids,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._api_loop = loop or asyncio.get_running_loop()
        super().__init__(front, request_factory=self._begin, loop=self._api_loop)
        self._settings = settings
        self.crowd = Crowd(settings, self._api_loop.time)
        self.ids = ids

    def __call__(self) -> Connection:
        return Connection(self, loop=self._api_loop, keepalive_s=self._settings.keepalive_ms / 1_000)

    async def sweep(self) -> None:
        """Close connections that take too long over a request's head, or over our answers; until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self._api_loop.time()
            self.close_slow(now_s)
            self.cut_unread(now_s)

    def close_slow(self, now_s: float) -> int:
        """Close what is over its time now; answers how many."""
        latest_s = now_s - self._settings.head_ms_max / 1_000
        slow = [
            each
            for each in self.connections
            if isinstance(each, Connection) and each.head_since is not None and each.head_since < latest_s
        ]
        for connection in slow:
            connection.force_close()
        self.crowd.turned_away["head_ms"] += len(slow)
        return len(slow)

    def cut_unread(self, now_s: float) -> int:
        """Cut off those that read nothing; answers how many."""
        most_s = self._settings.unread_ms_max / 1_000
        deaf = [each for each in self.connections if isinstance(each, Connection) and each.unread_s(now_s) > most_s]
        for connection in deaf:
            connection.cut()
        self.crowd.turned_away["unread_ms"] += len(deaf)
        return len(deaf)

    def _begin(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if isinstance(protocol, Connection):
            protocol.head_since = None
        return web.BaseRequest(message, payload, protocol, writer, task, self._api_loop)
