"""A proxy before PostgreSQL that does to connections, and to COMMITs, what networks do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from urllib.parse import parse_qs, urlsplit

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
CHUNK_BYTES = 65_536
LATE_S = 0.15


class Fate(Enum):
    """What becomes of a COMMIT."""

    PASSES = auto()
    NOT_SENT = auto()  # the connection is cut, the server never sees it
    ANSWER_LOST = auto()  # the server commits, the connection is cut before its answer is through
    SERVER_HELD = auto()  # the client's side is cut, the server never sees COMMIT and keeps its process
    SILENT = auto()  # the server commits, and its answer never comes
    LATE = auto()  # the client's side is cut, and the server sees COMMIT a while later


class Proxy:
    """Stands between a client, by TCP, and the server's Unix socket."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        folder = parse_qs(parts.query)["host"][0]
        port = parse_qs(parts.query).get("port", ["5432"])[0]
        self._path = f"{folder}/.s.PGSQL.{port}"
        self._user, self._database = parts.username, parts.path
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self.fates: deque[Fate] = deque()
        """Of the next COMMITs, one each; PASSES when it is empty."""
        self.leaves_with_fate = False  # the server is away from the next COMMIT on that does not simply pass
        self.commits = 0
        self.commit_s = 0.0  # how long a COMMIT is on its way to the server: a disk that is slow to sync
        self.is_refusing = False
        self.flows = asyncio.Event()  # cleared: a black hole
        self.flows.set()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://{self._user}@127.0.0.1:{port}{self._database}?sslmode=disable"

    @property
    def links(self) -> int:
        return len(self._links)

    def cut(self, but: _Link | None = None) -> None:
        """End every connection at once."""
        for link in self._links - {but}:
            link.cut()

    def go_away(self) -> None:
        self.is_refusing = True
        self.cut()

    def come_back(self) -> None:
        self.is_refusing = False

    def meet_fate(self, link: _Link) -> Fate:
        self.commits += 1
        fate = self.fates.popleft() if self.fates else Fate.PASSES
        if fate is not Fate.PASSES and self.leaves_with_fate:
            self.leaves_with_fate = False
            self.is_refusing = True
            self.cut(but=link)
        return fate

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.flows.set()
        links = list(self._links)
        self.cut()
        for link in links:
            await link.ended.wait()
        await self._server.wait_closed()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            to_client.transport.abort()
            return
        try:
            server, to_server = await asyncio.open_unix_connection(self._path)
        except OSError:
            to_client.transport.abort()
            return
        link = _Link(self, client, to_client, server, to_server)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            link.ended.set()


class _Link:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: Proxy,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client, self._to_client = client, to_client
        self._server, self._to_server = server, to_server
        self._fate = Fate.PASSES
        self.ended = asyncio.Event()

    def cut(self) -> None:
        self._to_client.transport.abort()
        self._to_server.transport.abort()

    async def run(self) -> None:
        pumps = [asyncio.create_task(self._from_client()), asyncio.create_task(self._from_server())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if self._fate in (Fate.SERVER_HELD, Fate.LATE):
                self._to_client.transport.abort()
                if self._fate is Fate.LATE:
                    await asyncio.sleep(LATE_S)
                    self._to_server.write(COMMIT)
                await asyncio.wait(pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.cut()

    async def _from_client(self) -> None:
        while chunk := await _read(self._client):
            await self._proxy.flows.wait()
            if chunk.endswith(COMMIT):
                await asyncio.sleep(self._proxy.commit_s)
                self._fate = self._proxy.meet_fate(self)
                if self._fate in (Fate.NOT_SENT, Fate.SERVER_HELD, Fate.LATE):
                    return
            self._to_server.write(chunk)

    async def _from_server(self) -> None:
        while chunk := await _read(self._server):
            await self._proxy.flows.wait()
            if self._fate is Fate.ANSWER_LOST:
                return
            if self._fate is Fate.PASSES:
                self._to_client.write(chunk)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(CHUNK_BYTES)
    except OSError:
        return b""


@asynccontextmanager
async def proxied(server_url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(server_url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
