"""NDJSON: a stream's chunks, cut into lines."""

from __future__ import annotations

from typing import Final

from gateway.api.call import BodyStream
from gateway.api.streams import StreamEnded

LINE_BYTES_MAX: Final = 65_536
GATHERED_BYTES_MAX: Final = 262_144
BOM: Final = b"\xef\xbb\xbf"


class Lines:
    """Holds no more than one chunk, one unfinished line, and what `take` gathers.

    A line ends with LF, or where the body ends; a CR before it stays, which is blank in JSON. A byte order mark before
    the first line falls off.
    """

    def __init__(self, chunks: BodyStream) -> None:
        self._chunks = chunks
        self._lines: list[bytes | None] = []
        self._taken = 0  # of `_lines`
        self._rest = bytearray()  # of a line that has not ended
        self._is_skipping = False  # the line that has not ended is too long
        self._is_first = True
        self._has_ended = False
        self._trouble: StreamEnded | None = None

    async def take(self, most: int) -> list[bytes | None]:
        """Give up to `most` lines, waiting only for the first of them; none at the end. None is a line too long.

        Raises StreamEnded when there is no whole line left of a body that ended before its end.
        """
        while self._taken >= len(self._lines):
            if self._trouble is not None:
                raise self._trouble
            if self._has_ended:
                return []
            await self._wait()
        gathered = self._gather(most)
        while len(gathered) < most and self._take_at_hand(gathered):
            gathered += self._gather(most - len(gathered))
        return gathered

    def _gather(self, most: int) -> list[bytes | None]:
        first, self._taken = self._taken, min(self._taken + most, len(self._lines))
        return self._lines[first : self._taken]

    def _take_at_hand(self, gathered: list[bytes | None]) -> bool:
        """Cut one more chunk that has come already; False when there is none, or enough is held."""
        if self._has_ended or self._trouble is not None:
            return False
        if sum(len(each) for each in gathered if each is not None) > GATHERED_BYTES_MAX:
            return False
        try:
            chunk = self._chunks.at_hand()
        except StreamEnded as error:
            self._trouble = error
            return False
        if chunk:
            self._cut(chunk)
        elif self._chunks.has_ended:
            self._end()
        return bool(chunk) or self._has_ended

    async def _wait(self) -> None:
        try:
            self._cut(await anext(self._chunks))
        except StopAsyncIteration:
            self._end()
        except StreamEnded as error:
            self._trouble = error

    def _end(self) -> None:
        """The body is whole: what is left of it is its last line."""
        self._has_ended = True
        if self._rest or self._is_skipping:
            self._keep([bytes(self._rest)])

    def _cut(self, chunk: bytes) -> None:
        if self._is_first:
            chunk = bytes(self._rest) + chunk
            self._rest = bytearray()
            if len(chunk) < len(BOM) and BOM.startswith(chunk):
                self._rest += chunk
                return
            self._is_first = False
            chunk = chunk.removeprefix(BOM)
        lines = chunk.split(b"\n")
        last = lines.pop()
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest = bytearray()
        self._keep(lines)
        if not self._is_skipping:
            self._rest += last
            if len(self._rest) > LINE_BYTES_MAX:
                self._rest, self._is_skipping = bytearray(), True

    def _keep(self, lines: list[bytes]) -> None:
        """Make these the lines to be taken; only the first of a chunk can be too long."""
        kept: list[bytes | None] = [*lines]
        if lines and (self._is_skipping or len(lines[0]) > LINE_BYTES_MAX):
            kept[0] = None
            self._is_skipping = False
        self._lines, self._taken = kept, 0
