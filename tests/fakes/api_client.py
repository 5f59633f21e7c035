"""A client of the API in a test: a real socket to a real server, and answers read as the SDKs read them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from gateway.api.connections import ApiServer
from gateway.api.middleware import Front
from gateway.clock import SystemIds
from gateway.settings import ServerSettings
from resolver.model import AccountId

ACCOUNT = AccountId("MA00000000000000000A")
OTHER_ACCOUNT = AccountId("MA00000000000000000B")
TOKEN = "a-token"


class Got(NamedTuple):
    """An answer."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


def basic(user: str = ACCOUNT, token: str = TOKEN) -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


class Client:
    """Sends requests as `ACCOUNT` unless told otherwise; what is no 204 nor NDJSON must be JSON with an `api_id`."""

    def __init__(self, session: aiohttp.ClientSession, port: int, server: ApiServer) -> None:
        self._session = session
        self.port = port
        self.server = server

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> Got:
        """`path` is sent as written; below the account where it does not begin with a slash."""
        if not path.startswith("/"):
            path = f"/v1/Account/{ACCOUNT}/{path}"
        data = raw if raw is not None else (orjson.dumps(body) if body is not None else None)
        sent = {"Authorization": basic() if authorization is None else authorization, **(headers or {})}
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self._session.request(
            method, url, data=data, headers=sent, allow_redirects=False, skip_auto_headers=("Content-Type",)
        ) as answer:
            content = await answer.read()
            if answer.status == 204:
                assert content == b""
                return Got(204, {}, answer.headers)
            if answer.headers["Content-Type"] == "application/x-ndjson":
                return Got(answer.status, {"lines": list(map(orjson.loads, content.splitlines()))}, answer.headers)
            assert answer.headers["Content-Type"] == "application/json"
            assert "Server" not in answer.headers
            read: dict[str, Any] = orjson.loads(content) if method != "HEAD" else {}
            if method != "HEAD":
                assert len(read["api_id"]) == 36
                if answer.status >= 400:
                    assert read["error"]
                    assert read["code"]
            return Got(answer.status, read, answer.headers)

    async def get(self, path: str, **more: Any) -> Got:
        return await self.send("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> Got:
        return await self.send("POST", path, body, **more)

    async def delete(self, path: str, body: object = None, **more: Any) -> Got:
        return await self.send("DELETE", path, body, **more)

    async def first(self, data: bytes) -> bytes:
        """Write bytes to a connection of its own and read one answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                return head + await reader.readexactly(length)
        finally:
            writer.close()

    async def raw(self, data: bytes, *, wait_s: float = 5) -> bytes:
        """Write bytes to a connection of its own and read until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(wait_s):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def serving(front: Front, settings: ServerSettings | None = None) -> AsyncIterator[Client]:
    """A server for `front` on a free port, and a client of it."""
    server = ApiServer(front, settings or ServerSettings(), ids=SystemIds())
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            yield Client(session, port, server)
    finally:
        await runner.cleanup()
