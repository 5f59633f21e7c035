"""The server's connections: what aiohttp leaves unbounded is bounded here, and what it need not do again is left out.

    bytes ─┬► the head is known, the body whole, nothing under way ─► a task, one write          (`_answer`)
           └► everything else ─► aiohttp's parser, and its own loop of this connection

* A connection without a complete first request head within `head_ms_max` is closed; between requests it has
  `keepalive_ms`.
* Who takes nothing of its answers for `unread_ms_max` is cut off.
* There are only so many connections: see crowd.py.
* What is no HTTP is answered in JSON, like everything else.

Invariants
* One request of a connection is answered at a time, in the order in which they came, whichever way it goes: nothing is
  begun here unless aiohttp waits for a request, and it gets no byte while one is answered here.
* aiohttp's parser never sees half a request: bytes go past it only where a head begins (`_owed` is 0).
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
from gateway.api.crowd import Crowd
from gateway.api.errors import ERRORS
from gateway.api.framing import Unfinished
from gateway.api.heads import BODY_BYTES_MAX, HEAD_END, Heads, KnownHead, KnownRequest, body_bytes_of
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
        self._owed: int | None = 0  # of a body, to aiohttp's parser; None: nobody knows where the next head begins
        self._held = b""  # a request with a known head, whose body is still to come
        self._answering: asyncio.Task[None] | None = None
        self._later: list[bytes] = []  # what came meanwhile
        self._later_bytes = 0
        self.address = ""
        self.head_since: float | None = loop.time()
        self._unread = (0, 0.0)  # bytes that wait for the client, and since when there are not fewer
        self.held_since = 0.0
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

    # -- the short way ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._answering is not None:
            self._keep_for_later(data)
            return
        if not data:  # aiohttp calls itself so, to go on with what its parser holds
            self._feed(data)
            return
        if self._held:
            data = self._held + data
            self._held = b""
            if not self._begin_known(data, may_wait=False):
                self._pass_on(data)
        elif self._owed != 0 or not self._begin_known(data, may_wait=True):
            self._pass_on(data)

    def _begin_known(self, data: bytes, *, may_wait: bool) -> bool:
        """Answer a request whose head is known, or wait for its body; False when it must go the other way."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages or self._close or self._force_close:
            return False
        body_at = data.find(HEAD_END) + len(HEAD_END)
        head = self._api_server.heads.find(data[:body_at])
        if head is None:
            return False
        end = body_at + head.body_bytes
        if len(data) < end:
            if may_wait:  # many clients send head and body each by itself
                self._held, self.held_since = data, self._loop.time()
            return may_wait
        self.head_since = None
        self._request_in_progress = True
        self._answering = self._loop.create_task(self._answer(head, data[body_at:end]))
        if len(data) > end:
            self._keep_for_later(data[end:])
        return True

    def _keep_for_later(self, data: bytes) -> None:
        if data:
            self._later.append(data)
        self._later_bytes += len(data)
        if self._later_bytes > BODY_BYTES_MAX:
            self._pause_transport_reading()

    @property
    def is_held(self) -> bool:
        """Whether a request waits here for its body."""
        return bool(self._held)

    def let_go(self) -> None:
        """The body takes its time: let aiohttp wait for it."""
        held, self._held = self._held, b""
        self._pass_on(held)

    def _pass_on(self, data: bytes) -> None:
        """Give bytes to aiohttp; see where the next head will begin, and learn the head they begin with."""
        owed, before = self._owed, len(self._messages)
        self._feed(data)
        if owed is None:
            return
        if owed > 0:
            self._owed = owed - len(data) if owed >= len(data) else None
            return
        self._owed = None
        body_at = data.find(HEAD_END) + len(HEAD_END)
        if body_at < len(HEAD_END) or len(self._messages) != before + 1:
            return
        message = self._messages[-1][0]
        if not isinstance(message, RawRequestMessage):
            return
        body_bytes = body_bytes_of(message)
        if body_bytes is None or len(data) > body_at + body_bytes:
            return
        self._owed = body_at + body_bytes - len(data)
        self._api_server.heads.learn(data[:body_at], message, body_bytes)

    async def _answer(self, head: KnownHead, body: bytes) -> None:
        """Answer one request; then what came meanwhile, or the end of the connection."""
        keeps_alive = False
        try:
            keeps_alive = await self._answered(head, body)
        finally:
            self._answering = None
            self._request_in_progress = False
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)
            if keeps_alive and not self._close and not self._force_close:
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                if self._later:
                    self._go_on()
            else:
                self.close()
                if self.transport is not None:
                    self.transport.close()

    async def _answered(self, head: KnownHead, body: bytes) -> bool:
        """Let the front answer, and send it. Says whether the connection may go on."""
        assert self._answering is not None
        server = self._api_server
        server.requests_count += 1
        request = KnownRequest(head, body, self, self._answering, self._loop)
        try:
            reply = await server.request_handler(request)
        except Exception as error:  # noqa: BLE001 - got past the front
            reply = self.handle_error(request, 500, error)
        try:
            if type(reply) is Reply:
                if self.transport is not None:
                    self.transport.write(reply.whole())
                    if self._paused:
                        await self._drain_helper()
            else:
                await reply.prepare(request)
                await reply.write_eof()
        except ConnectionError:  # nobody is there any more
            return False
        return bool(reply.keep_alive)

    def _go_on(self) -> None:
        data, self._later, self._later_bytes = b"".join(self._later), [], 0
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()
        self.data_received(data)

    def _process_keepalive(self) -> None:
        if self._answering is not None:  # it only looks idle to aiohttp
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - its name is aiohttp's
        """Let what is being answered end within `timeout`; then the connection ends."""
        await super().shutdown(timeout)
        if self._answering is not None:
            self._answering.cancel()

    # -- aiohttp's way ----------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Let aiohttp have it."""
        before = len(self._messages)
        super().data_received(data)
        request, messages = self._current_request, self._messages
        has_head = len(messages) > before
        if has_head and not isinstance(messages[-1][0], RawRequestMessage):
            self.close()  # else each further piece would be answered, and kept until then
            if request is not None and len(messages) == 1 and not request.content.is_eof():
                messages.pop()
                self._misframed(request)
        elif self._unfinished.is_endless(len(data), messages[-1][1] if has_head else None):
            self._refuse_endless()

    def _misframed(self, request: web.BaseRequest) -> None:
        """What came is no HTTP, and stands in the body of `request`: whoever reads that is told and answers.

        aiohttp's parser forgets the body then, and its reader would wait for ever.
        """
        request.content.set_exception(web.RequestPayloadError("the body is not framed as its head says"))
        request.content.feed_eof()
        self.close()

    def _refuse_endless(self) -> None:
        """What comes completes nothing, and there is too much of it."""
        request = self._current_request
        if request is not None and not request.content.is_eof():
            self._misframed(request)
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
        self.heads = Heads()
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
            self.let_go_slow(now_s)

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

    def let_go_slow(self, now_s: float) -> None:
        """Let aiohttp wait for bodies that did not come at once; it is the front that bounds how long."""
        for each in self.connections:
            if isinstance(each, Connection) and each.is_held and each.held_since < now_s - SWEEP_S:
                each.let_go()

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
