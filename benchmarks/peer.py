"""One kept connection to the gateway, for clients that wait for each answer."""

from __future__ import annotations

import asyncio
from typing import Self

from benchmarks.wire import read_answer


class Refused(Exception):
    """What the gateway answered instead."""


class Peer:
    """See above. An answer of another status than is expected raises `Refused`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes, *, status: int) -> bytes:
        """Send a request, and give the answer's body."""
        self._writer.write(request)
        buffer = b""
        while (answer := read_answer(buffer)) is None:
            received = await self._reader.read(1 << 16)
            if not received:
                raise SystemExit("the gateway hung up")
            buffer += received
        if answer.status != status:
            raise Refused(f"{answer.status}: {answer.body[:200]!r}")
        return answer.body

    def close(self) -> None:
        self._writer.close()
