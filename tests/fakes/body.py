"""A stream's body, chunk by chunk, as `gateway.api.streams.Stream` gives it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from gateway.api.streams import DRAINING, StreamEnded


class Body:
    """Gives `chunks`, then ends, or is ended by `ends`. With `waits` no chunk has come before it is waited for."""

    def __init__(self, chunks: Iterable[bytes], *, waits: bool = False, ends: str = "") -> None:
        self._chunks = deque(chunks)
        self._waits, self._ends = waits, ends
        self.is_draining = self.is_gone = False

    @property
    def has_ended(self) -> bool:
        return not self._chunks and not self._ends

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)
        if self.is_draining:
            raise StreamEnded(DRAINING)
        while self._chunks:
            if chunk := self._chunks.popleft():
                return chunk
        if self._ends:
            raise StreamEnded(self._ends)
        raise StopAsyncIteration

    def at_hand(self) -> bytes:
        if self.is_draining:
            raise StreamEnded(DRAINING)
        return b"" if self._waits or not self._chunks else self._chunks.popleft()
