"""The server's connections: what aiohttp leaves unbounded is bounded here.

* A connection without a complete first request head within `head_ms_max` is closed; between requests it has
  `keepalive_ms`.
* One address has at most `connections_per_ip_max` connections.
* What is no HTTP is answered in JSON, like everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.api.call import Reply
from gateway.api.errors import ERRORS
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
        self.address = ""
        self.head_since: float | None = loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        if not self._api_server.welcome(self):
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._api_server.farewell(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        request = self._current_request
        if request is not None and self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._misframed(request)

    def _misframed(self, request: web.BaseRequest) -> None:
        """What came is no HTTP: if it stands in the body of `request`, whoever reads that is told and answers.

        aiohttp's parser forgets the body then, and its reader would wait for ever.
        """
        if len(self._messages) == 1 and not request.content.is_eof():
            self._messages.pop()
            request.content.set_exception(web.RequestPayloadError("the body is not framed as its head says"))
            request.content.feed_eof()
            self.close()

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
        code = "bad_request" if status < 500 else "internal"
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
        self._by_address: dict[str, int] = {}
        self.ids = ids

    def __call__(self) -> Connection:
        return Connection(self, loop=self._api_loop, keepalive_s=self._settings.keepalive_ms / 1_000)

    def welcome(self, connection: Connection) -> bool:
        """Count a connection; False when its address has too many."""
        count = self._by_address.get(connection.address, 0) + 1
        self._by_address[connection.address] = count
        return count <= self._settings.connections_per_ip_max

    def farewell(self, connection: Connection) -> None:
        count = self._by_address.get(connection.address, 0) - 1
        if count > 0:
            self._by_address[connection.address] = count
        else:
            self._by_address.pop(connection.address, None)

    async def sweep(self) -> None:
        """Close connections that owe us a request head for too long; until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.close_slow(self._api_loop.time())

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
        return len(slow)

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
