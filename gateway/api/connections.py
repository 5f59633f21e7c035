"""The server's connections: what aiohttp leaves unbounded is bounded here.

* A connection without a complete first request head within `head_ms_max` is closed; between requests it has
  `keepalive_ms`.
* Who takes nothing of its answers for `unread_ms_max` is cut off.
* One address has at most `connections_per_ip_max` connections, all together at most `connections_max`, or as many as
  the process may have open files, less those it needs itself. One too many is closed at once: the process never runs
  out of files, so whoever is connected, and the database, notice nothing.
* What is no HTTP is answered in JSON, like everything else.
"""

from __future__ import annotations

import asyncio
import resource
import sys
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
FILES_RESERVED: Final = 100  # for the database, carriers, callbacks, logs
CONNECTIONS_MIN: Final = 16
COMPLAIN_S: Final = 10.0  # between two lines about too many connections
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
        self._unread = (0, 0.0)  # bytes that wait for the client, and since when there are not fewer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        if not self._api_server.welcome(self):
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


def connections_max(settings: ServerSettings) -> int:
    """Give how many connections there may be at once."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(CONNECTIONS_MIN, files - FILES_RESERVED) if files != resource.RLIM_INFINITY else sys.maxsize
    return min(room, settings.connections_max)


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
        self._connections_max = connections_max(settings)
        self._complained_s = -COMPLAIN_S
        self.open = 0
        self.turned_away: dict[str, int] = {"connections": 0, "connections_per_ip": 0, "head_ms": 0, "unread_ms": 0}
        """Connections that were closed, by the bound they met."""
        self.ids = ids

    def __call__(self) -> Connection:
        return Connection(self, loop=self._api_loop, keepalive_s=self._settings.keepalive_ms / 1_000)

    def welcome(self, connection: Connection) -> bool:
        """Count a connection; False when there are too many, of its address or in all."""
        self.open += 1
        count = self._by_address.get(connection.address, 0) + 1
        self._by_address[connection.address] = count
        if self.open > self._connections_max:
            self._turn_away("connections")
        elif count > self._settings.connections_per_ip_max:
            self._turn_away("connections_per_ip")
        else:
            return True
        return False

    def _turn_away(self, bound: str) -> None:
        self.turned_away[bound] += 1
        now_s = self._api_loop.time()
        if now_s - self._complained_s >= COMPLAIN_S:
            self._complained_s = now_s
            log.warning("connections are turned away", bound=bound, open=self.open, most=self._connections_max)

    def farewell(self, connection: Connection) -> None:
        self.open -= 1
        count = self._by_address.get(connection.address, 0) - 1
        if count > 0:
            self._by_address[connection.address] = count
        else:
            self._by_address.pop(connection.address, None)

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
        self.turned_away["head_ms"] += len(slow)
        return len(slow)

    def cut_unread(self, now_s: float) -> int:
        """Cut off those that read nothing; answers how many."""
        most_s = self._settings.unread_ms_max / 1_000
        deaf = [each for each in self.connections if isinstance(each, Connection) and each.unread_s(now_s) > most_s]
        for connection in deaf:
            connection.cut()
        self.turned_away["unread_ms"] += len(deaf)
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
