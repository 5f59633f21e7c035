"""The listening socket, from before the start to after the last answer.

It is bound first of all, so that a port in use costs nobody the lease. Until the gateway accepts, whoever asks hears
that it is alive and not ready (503); then everything passes to the front. Closing it lets requests in progress end.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import orjson
import structlog
from aiohttp import web

from gateway.api.around import Around
from gateway.api.call import Reply
from gateway.api.connections import ApiServer
from gateway.api.errors import api_error
from gateway.api.middleware import Front
from gateway.api.router import Router
from gateway.clock import Clock, Ids
from gateway.settings import LimitsSettings, ServerSettings

log = structlog.get_logger(__name__)

EARLY_PATHS: Final = ("/healthz", "/readyz", "/metrics")


class CannotListen(Exception):
    """The port or the address cannot be had; one line that says why."""


def bind(server: ServerSettings) -> socket.socket:
    """Take the port. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        bound = socket.create_server((server.host, server.port), family=family, backlog=server.backlog)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise CannotListen(f"cannot listen on {server.host} port {server.port}: {why}") from error
    bound.setblocking(False)
    return bound


def address_of(bound: socket.socket) -> str:
    """Give the address that reaches `bound` from this machine."""
    host, port = bound.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Door:
    """Who answers: this until `open`, then the front."""

    def __init__(
        self,
        server: ServerSettings,
        limits: LimitsSettings,
        *,
        around: Around,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._settings = server
        self._ids = ids
        self._early = Front(Router(around.routes()), {}, clock=clock, ids=ids, server=server, limits=limits)
        self._front: Front | None = None
        self._server = ApiServer(self._answer, server, ids=ids)
        self._listening: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        return self._server.crowd.open

    @property
    def turned_away(self) -> Mapping[str, int]:
        """Connections that were closed, by the bound they met."""
        return self._server.crowd.turned_away

    @property
    def in_progress(self) -> int:
        return self._front.in_progress if self._front is not None else 0

    @property
    def streams(self) -> int:
        return self._front.streams if self._front is not None else 0

    def _answer(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        front = self._front
        return self._answer_early(request) if front is None else front(request)

    async def _answer_early(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in EARLY_PATHS:
            return await self._early(request)
        error = api_error("storage_unavailable", "the gateway is starting; try again")
        body = {"api_id": self._ids.new(), "error": error.message, "code": error.code}
        reply = Reply(orjson.dumps(body), error.status, error.headers)
        reply.force_close()  # its body is not read
        return reply

    @asynccontextmanager
    async def listening(self, bound: socket.socket) -> AsyncIterator[None]:
        """Answer on `bound` while the block runs."""
        self._listening = await asyncio.get_running_loop().create_server(
            self._server, sock=bound, backlog=self._settings.backlog
        )
        sweeping = asyncio.create_task(self._server.sweep(), name="slow connections")
        try:
            yield
        finally:
            await self.close()
            sweeping.cancel()
            await asyncio.wait([sweeping])

    @asynccontextmanager
    async def opened(self, front: Front) -> AsyncIterator[None]:
        """Let everything pass to `front` while the block runs; at its end let requests in progress end."""
        self._front = front
        try:
            yield
        finally:
            front.drain()
            await self.close()

    async def close(self) -> None:
        """Take no connections, answer what is in progress, close what is open. Again is no error."""
        if self._listening is None:
            return
        listening, self._listening = self._listening, None
        listening.close()
        await asyncio.sleep(0)  # requests that have just arrived begin, so that the next line does not end them
        self._server.pre_shutdown()  # ends idle connections; without it `shutdown` would wait for them
        await self._server.shutdown(self._settings.drain_requests_ms_max / 1_000)
