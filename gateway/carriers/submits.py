"""The request that hands a message over, made from a carrier's template. Compiled once; pure afterwards.

No message can break out of its place: what it holds is percent-encoded in the URL, encoded as a form or as JSON in the
body, and a header takes visible ASCII alone, which every placeholder but the text is made of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import orjson

from gateway.carriers.carrier import SAMPLE, Outbound
from gateway.carriers.placeholders import Fill, Placeholders, constant, fills_of_messages
from gateway.carriers.template import SubmitTable
from gateway.fields import BadSetting

Header = tuple[bytes, bytes]
Render = Callable[[Outbound, int], bytes]

URL_LENGTH_MAX: Final = 8_000
OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "authorization", "expect", "te"}
)
"""Headers a template may not set: framing is ours, and credentials have settings of their own."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?")
_TYPES: Final = {"json": b"application/json", "form": b"application/x-www-form-urlencoded"}


class Origin(NamedTuple):
    """Where the requests of a template go: the same for every message."""

    scheme: str
    host: str
    port: int
    netloc: str


class Rendered(NamedTuple):
    """One request, whole."""

    method: bytes
    target: bytes
    headers: list[Header]
    body: bytes


class Submit:
    """Renders a request per message; 2 to 4 µs as JSON, about twice as much as a form."""

    def __init__(
        self, table: SubmitTable, url: str, authorization: str, settings: Mapping[str, str], *, place: str
    ) -> None:
        if table.validity_s_min > table.validity_s_max:
            raise BadSetting(f"[{place}.submit] validity_s_min is over validity_s_max")
        fills = fills_of_messages(table.validity_s_min, table.validity_s_max)
        placeholders = Placeholders(settings, fills)
        self.method = table.method
        self.origin, self._target = _compile_url(placeholders, url, place)
        has_body = table.method != "GET"
        self._body = _compile_body(placeholders, table, f"[{place}.submit] body") if has_body else None
        self._headers, self._late = _compile_headers(placeholders, table, self.origin, authorization, place)

    def render(self, outbound: Outbound, now_ms: int) -> Rendered:
        """Make the request for one message."""
        headers = list(self._headers)
        body = b""
        if self._body is not None:
            body = self._body(outbound, now_ms)
            headers.append((b"content-length", b"%d" % len(body)))
        for name, fill in self._late:
            headers.append((name, str(fill(outbound, now_ms)).encode("ascii")))
        return Rendered(self.method.encode(), self._target(outbound, now_ms), headers, body)


def _compile_url(placeholders: Placeholders, url: str, place: str) -> tuple[Origin, Render]:
    compiled = placeholders.compile_text(url, f"[{place}] submit_url", encode=_percent_encoded)
    if compiled is None:
        raise BadSetting(f"[{place}] submit_url: has a placeholder for something that is not set")
    sample = compiled if isinstance(compiled, str) else str(compiled(SAMPLE, 0))
    split = urlsplit(sample)
    if split.scheme not in ("http", "https") or not split.hostname or split.username is not None or split.fragment:
        raise BadSetting(f"[{place}] submit_url: must be https://name[:port]/path, without credentials")
    port = _port_of(sample)
    if not re.fullmatch(r"[\x21-\x7e]*", sample) or not 0 < port < 65_536 or len(sample) > URL_LENGTH_MAX:
        raise BadSetting(f"[{place}] submit_url: has a character or a port that no URL has")
    origin = Origin(split.scheme, split.hostname, port, split.netloc)
    head = f"{split.scheme}://{split.netloc}"
    if not url.lower().startswith(head.lower()):
        raise BadSetting(f"[{place}] submit_url: the host may hold no placeholder")
    skip = len(head)
    if isinstance(compiled, str):
        target = _target_of(compiled[skip:])
        return origin, lambda _outbound, _now_ms: target
    fill = compiled
    return origin, lambda outbound, now_ms: _target_of(str(fill(outbound, now_ms))[skip:])


def _target_of(rest: str) -> bytes:
    return (rest if rest.startswith("/") else f"/{rest}").encode("ascii")


def _percent_encoded(text: str) -> str:
    return quote(text, safe="")


def _port_of(url: str) -> int:
    try:
        split = urlsplit(url)
        return split.port or (443 if split.scheme == "https" else 80)
    except ValueError:
        return 0


def _compile_body(placeholders: Placeholders, table: SubmitTable, place: str) -> Render:
    fill = placeholders.compile(table.body, place)
    assert fill is not None, "a table is never left out"
    if table.format == "json":
        return lambda outbound, now_ms: orjson.dumps(fill(outbound, now_ms))
    for key, value in table.body.items():
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if any(isinstance(each, Mapping | list) for each in values):
            raise BadSetting(f"{place}.{key}: a form has no tables inside")

    def render(outbound: Outbound, now_ms: int) -> bytes:
        filled = fill(outbound, now_ms)
        assert isinstance(filled, dict)
        return urlencode(_pairs(filled)).encode("ascii")

    return render


def _pairs(filled: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (key, str(each).lower() if isinstance(each, bool) else str(each))
        for key, value in filled.items()
        for each in (value if isinstance(value, list) else [value])
    ]


def _compile_headers(
    placeholders: Placeholders, table: SubmitTable, origin: Origin, authorization: str, place: str
) -> tuple[list[Header], list[tuple[bytes, Fill]]]:
    """Those that are the same for every message, ours first, and those that are not."""
    fixed = {
        b"host": origin.netloc.encode(),
        b"user-agent": b"sendpool",
        b"accept": b"application/json",
        b"accept-encoding": b"identity",
    }
    if table.method != "GET":
        fixed[b"content-type"] = _TYPES[table.format]
    if authorization:
        fixed[b"authorization"] = authorization.encode()
    late: list[tuple[bytes, Fill]] = []
    for name, text in table.headers.items():
        where = f"[{place}.submit] headers.{name}"
        key = name.lower()
        if not _HEADER_NAME.fullmatch(name) or key in OURS:
            raise BadSetting(f"{where}: is no header a template may set")
        filled = placeholders.compile_text(text, where, without=("text",))
        if filled is None:
            continue
        sample = filled if isinstance(filled, str) else str(filled(SAMPLE, 0))
        if not _HEADER_VALUE.fullmatch(sample):
            raise BadSetting(f"{where}: has characters, or blanks around it, that no header takes")
        if isinstance(filled, str) and key.encode() in fixed:
            fixed[key.encode()] = filled.encode()
        else:
            late.append((key.encode(), constant(filled) if isinstance(filled, str) else filled))
    return list(fixed.items()), late
