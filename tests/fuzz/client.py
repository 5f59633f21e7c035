"""Fires shots over many connections and judges what comes back: a raw client that costs little.

Every connection has one shot on its way. What is framed as HTTP must be answered, once; what is mutilated is sent with
an end behind it, and the connection must close. Nothing may be a failure of the gateway's, or hang, or stall it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.fuzz.requests import Requests, Shot

HANG_S: Final = 10.0
STALL_S: Final = 0.1
"""An answer that took so long is asked for again, alone; if it does so then too, the gateway stalls."""
_status = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_length = re.compile(rb"(?i)\r\ncontent-length: ([0-9]+)\r\n")
_code = re.compile(rb'"code":"([a-z_]+)"')
_uuids = re.compile(rb'"message_uuid":\[([^\]]*)\]')


class Found(Exception):
    """Something that must not be."""


@dataclass
class Tally:
    """What came of a run."""

    shots: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[bytes] = field(default_factory=Counter)
    accepted: set[bytes] = field(default_factory=set)  # ids that were answered
    seconds: float = 0.0
    slow: list[int] = field(default_factory=list)  # numbers of shots, to be looked at alone
    slowest_ms: float = 0.0
    found: list[tuple[int, str]] = field(default_factory=list)  # number of a shot, what is wrong with its answer


class Line:
    """One connection, made again when it is gone."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port, self._tally = port, tally
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def fire(self, number: int, shot: Shot) -> float:
        """Send a shot and judge what comes; give the seconds it took."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(HANG_S):
                if shot.is_whole:
                    await self._whole(shot)
                else:
                    await self._mutilated(shot)
        except TimeoutError:
            self._tally.found.append((number, f"nothing for {HANG_S:.0f} s"))
            self.drop()
        except Found as error:
            self._tally.found.append((number, str(error)))
            self.drop()
        self._tally.shots += 1
        return time.perf_counter() - began

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof() or self._writer.is_closing():
            self.drop()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        assert self._writer is not None
        return self._reader, self._writer

    async def _whole(self, shot: Shot) -> None:
        for is_last in (False, True):
            reader, writer = await self._open()
            try:
                writer.write(shot.data)
                await self._answer(reader, shot)
                return
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.drop()  # a kept connection may have been closed by the gateway as the shot left
                if is_last:
                    raise Found(f"no answer: {error!r}") from error

    async def _answer(self, reader: asyncio.StreamReader, shot: Shot) -> None:
        status = 100
        while status == 100:
            head = await reader.readuntil(b"\r\n\r\n")
            status = _status_of(head)
        body = b""
        if b"\r\nTransfer-Encoding: chunked\r\n" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        elif (length := _length.search(head)) is not None and shot.method != "HEAD":
            body = await reader.readexactly(int(length[1]))
        self._judge(status, body, shot)
        if b"\r\nConnection: close\r\n" in head:
            self.drop()

    async def _mutilated(self, shot: Shot) -> None:
        self.drop()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        try:
            writer.write(shot.data)
            writer.write_eof()
            raw = await reader.read(-1)
        except ConnectionError:
            raw = b""
        finally:
            writer.transport.abort()
        for found in _status.finditer(raw):
            self._judge(int(found[1]), raw, shot)

    def _judge(self, status: int, body: bytes, shot: Shot) -> None:
        self._tally.statuses[status] += 1
        self._tally.codes.update(_code.findall(body))
        if status >= 500 and status not in (501, 505):
            raise Found(f"{status}: {body[:300]!r}")
        if b"Traceback" in body:
            raise Found(f"{status} shows what it is made of: {body[:300]!r}")
        if status == 202 and shot.is_whole and (uuids := _uuids.search(body)) is not None:
            self._tally.accepted.update(uuids[1].split(b","))


def _status_of(head: bytes) -> int:
    found = _status.match(head)
    if found is None:
        raise Found(f"no answer of HTTP: {head[:200]!r}")
    return int(found[1])


async def fire_all(port: int, requests: Requests, *, count: int, connections: int) -> Tally:
    """Fire shots 0 to `count` - 1; then those whose answers took long once more, one by one."""
    tally = Tally()
    numbers = iter(range(count))

    async def keep_firing() -> None:
        line = Line(port, tally)
        for number in numbers:
            took_s = await line.fire(number, requests.shot(number))
            tally.slowest_ms = max(tally.slowest_ms, took_s * 1_000)
            if took_s > STALL_S:
                tally.slow.append(number)
        line.drop()

    began = time.perf_counter()
    await asyncio.gather(*(keep_firing() for _ in range(connections)))
    tally.seconds = time.perf_counter() - began
    line = Line(port, tally)
    for number in tally.slow[:200]:
        times = [await line.fire(number, requests.shot(number)) for _ in range(3)]
        if min(times) > STALL_S:
            tally.found.append((number, f"stalls: {min(times) * 1_000:.0f} ms, alone"))
    line.drop()
    return tally
