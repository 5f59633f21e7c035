"""Notices what comes without end: a line of a head, an extension, a trailer that is never finished.

aiohttp bounds a line when it is complete, and gathers it until then. So bytes are counted here that complete nothing:
no head came to its end by them, and no body became longer.
"""

from __future__ import annotations

from typing import Final

from aiohttp.streams import StreamReader

UNFINISHED_BYTES_MAX: Final = 65_536  # several times what the longest lines of a head take together with most clients


class Unfinished:
    """The bytes of one connection that came since something was completed."""

    __slots__ = ("_body", "_body_bytes", "_bytes")

    def __init__(self) -> None:
        self._bytes = 0
        self._body: StreamReader | None = None  # behind the latest head
        self._body_bytes = 0

    def is_endless(self, came_bytes: int, body: StreamReader | None) -> bool:
        """Count what came; `body` is that of a head that came to its end by it. Says when it is too much."""
        if body is not None:
            self._body = body
        body_bytes = self._body.total_bytes if self._body is not None else 0
        if body is not None or body_bytes != self._body_bytes:
            self._bytes, self._body_bytes = 0, body_bytes
            return False
        self._bytes += came_bytes
        return self._bytes > UNFINISHED_BYTES_MAX
