"""One request on its way through the API, and the JSON that answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from gateway.api.errors import invalid
from resolver.model import AccountId

JSON: Final = "application/json"
BODILESS: Final = frozenset({204, 304})
QUERY_VALUES_MAX: Final = 100
STATUS_LINES: Final[Mapping[int, bytes]] = {each.value: f" {each.value} {each.phrase}".encode() for each in HTTPStatus}
USUAL: Final = b"HTTP/1.1%b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n\r\n%b"
"""What nearly every answer is: JSON, dated, without lines of its own."""


class Reply(web.StreamResponse):
    """A whole answer, head and body in one write.

    `web.Response` makes its head anew from general parts, which costs as much as all else aiohttp does for a request,
    and names the server and its version. The protocol needs of an answer what stands here and no more, so the
    constructor of `StreamResponse` is not called.
    """

    def __init__(
        self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = JSON
    ) -> None:
        self._reply_status = status
        self.payload = body
        self._reply_headers = headers
        self._reply_type = content_type
        self._reply_keeps_alive = True
        self._reply_to: web.BaseRequest | None = None
        self.date = ""

    @property
    def status(self) -> int:
        return self._reply_status

    @property
    def keep_alive(self) -> bool:
        return self._reply_keeps_alive

    def force_close(self) -> None:
        """Close the connection after this answer."""
        self._reply_keeps_alive = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Note whom it is for; head and body leave together."""
        self._reply_to = request
        if not request.keep_alive:
            self._reply_keeps_alive = False
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        request, body = self._reply_to, self.payload
        assert request is not None, "prepare comes first"
        if request.method != "HEAD" and request.version.minor == 1:
            await request.writer.write(self.whole())
            return
        head = self._head(request.version.minor, b"\r\nContent-Length: %d" % len(body))
        if request.method == "HEAD" or self._reply_status in BODILESS:
            body = b""
        await request.writer.write(b"%b%b" % (head, body))

    def whole(self) -> bytes:
        """Head and body for all but a HEAD, by HTTP/1.1."""
        status, body = self._reply_status, self.payload
        if status in BODILESS:
            return self._head(1, b"")
        if self._reply_headers or not self._reply_keeps_alive or not self.date or self._reply_type is not JSON:
            return self._head(1, b"\r\nContent-Length: %d" % len(body)) + body
        return USUAL % (STATUS_LINES[status], len(body), self.date.encode(), body)

    def _head(self, minor: int, framing: bytes) -> bytes:
        """All lines of the head; `framing` says, after a line's end, where the body ends."""
        status = self._reply_status
        lines = [b"HTTP/1.%d%b" % (minor, STATUS_LINES[status])]
        if status not in BODILESS:
            lines.append(b"Content-Type: %b%b" % (self._reply_type.encode(), framing))
        if self.date:
            lines.append(b"Date: %b" % self.date.encode())
        for name, value in (self._reply_headers or {}).items():
            assert value.isprintable(), f"{name} would break out of its line"
            lines.append(f"{name}: {value}".encode())
        if not self._reply_keeps_alive:
            lines.append(b"Connection: close")
        elif minor == 0:
            lines.append(b"Connection: keep-alive")
        return b"\r\n".join((*lines, b"\r\n"))


class BodyStream(Protocol):
    """What a handler sees of `gateway.api.streams.Stream`."""

    @property
    def is_draining(self) -> bool: ...

    @property
    def is_gone(self) -> bool: ...

    @property
    def has_ended(self) -> bool: ...

    def __aiter__(self) -> BodyStream: ...

    async def __anext__(self) -> bytes: ...

    def at_hand(self) -> bytes: ...


class Call:
    """One request: who calls, what the path named, the whole body. A handler gets it and gives an answer.

    Where the route streams, `body` is empty and `stream` gives the body chunk by chunk.
    """

    __slots__ = ("account_id", "api_id", "body", "params", "request", "stream")

    def __init__(self, request: web.BaseRequest, api_id: str) -> None:
        self.request = request
        self.api_id = api_id
        self.account_id = AccountId("")  # set on routes that need credentials
        self.params: tuple[str, ...] = ()  # what stood in the braces of the route, in order, percent-decoded
        self.body = b""
        self.stream: BodyStream | None = None

    @property
    def query_text(self) -> str:
        """The query as it was sent, without the question mark."""
        return self.request.raw_path.partition("?")[2]

    def query(self) -> dict[str, str]:
        """Give the query's values; of a name given twice the last counts. Raises ApiError."""
        raw = self.query_text
        if not raw:
            return {}
        text = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        try:
            values = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_VALUES_MAX))
        except ValueError as error:
            raise invalid("the query", f"has more than {QUERY_VALUES_MAX} values") from error
        for name, value in values.items():
            if "\0" in value:
                raise invalid(name, "holds a NUL character")
        return values

    def json(self, value: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Answer with `value` under this call's `api_id`."""
        return Reply(orjson.dumps({"api_id": self.api_id, **value}, option=orjson.OPT_UTC_Z), status, headers)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
