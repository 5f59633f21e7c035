"""Whole bodies of requests, read within their bounds.

Most come together with their head and cost nothing. What has to be waited for keeps its caller's place among the
requests in progress. Callers who have proven nothing yet get few of those places, and when they are taken, the one that
has waited longest gives way: a webhook is here within milliseconds, while who holds a place on purpose loses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from aiohttp import web

from gateway.api.errors import ApiError, api_error

GAVE_WAY: Final = 0.0
"""The deadline of who has to give way: long past."""


class Intake:
    """See above. `strangers_max`: bodies that are waited for of callers who have proven nothing."""

    def __init__(self, *, body_bytes_max: int, body_ms_max: int, strangers_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._body_s_max = body_ms_max / 1_000
        self._strangers_max = strangers_max
        self._strangers: dict[asyncio.Timeout, None] = {}  # their deadlines, the one that waits longest first

    def at_hand(self, request: web.BaseRequest) -> bytes | None:
        """Give the body if it came together with the head, None when it has to be waited for. Raises ApiError."""
        check_encoding(request)
        content = request.content
        if not content.is_eof():
            return None
        body = content.read_nowait()
        if len(body) > self._body_bytes_max:
            raise self._too_large()
        return body

    async def read(self, request: web.BaseRequest, *, is_stranger: bool) -> bytes:
        """Read the body. Raises ApiError."""
        at_hand = self.at_hand(request)
        if at_hand is not None:
            return at_hand
        declared = request.content_length
        if declared is not None and declared > self._body_bytes_max:
            raise self._too_large()
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        deadline = asyncio.timeout(self._body_s_max)
        try:
            async with deadline:
                with self._waiting(deadline) if is_stranger else nullcontext():
                    while chunk := await request.content.readany():
                        body += chunk
                        if len(body) > self._body_bytes_max:
                            raise self._too_large()
        except TimeoutError:
            if is_stranger and deadline.when() == GAVE_WAY:
                raise api_error("overloaded", bound="strangers") from None
            raise api_error("body_timeout", bound="body_ms") from None
        except (web.RequestPayloadError, ConnectionError) as error:  # the latter when the client is gone
            raise api_error("bad_request", "the request's body is not framed as its head says") from error
        return bytes(body)

    @contextmanager
    def _waiting(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Hold a stranger's place while the block runs; whoever has held one longest gives way to it."""
        if len(self._strangers) >= self._strangers_max:
            longest = next(iter(self._strangers))
            del self._strangers[longest]
            if not longest.expired():
                longest.reschedule(GAVE_WAY)
        self._strangers[deadline] = None
        try:
            yield
        finally:
            self._strangers.pop(deadline, None)

    def _too_large(self) -> ApiError:
        words = f"the request's body is larger than {self._body_bytes_max} bytes"
        return api_error("body_too_large", words, bound="body_bytes")


def check_encoding(request: web.BaseRequest) -> None:
    """Bodies are taken as they are. Raises ApiError for one that is compressed."""
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and (encoding != "identity" or len(request.headers.getall("Content-Encoding")) > 1):
        raise api_error("unsupported_encoding")
