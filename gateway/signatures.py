"""Plivo's callback signatures, V2 and V3: pure functions of URL, nonce, token and parameters.

The key is the account's token, the digest HMAC-SHA256 in base64. What is signed follows PLIVO_API.md 4.1 and is held
equal to the validators of Plivo's own Python SDK by a test: `urlparse` takes the address apart as they do (so a
`;parameter` of the last path segment is not signed), names are sorted by code point.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs, urlparse, urlsplit, urlunparse

Params = Sequence[tuple[str, str]]
"""Names and values in the order they are sent; a name may come several times."""

NONCE_DIGITS = 20


def make_nonce(below: Callable[[int], int]) -> str:
    """Twenty digits; `below(n)` gives an unpredictable integer in [0, n)."""
    return f"{below(10**NONCE_DIGITS):0{NONCE_DIGITS}d}"


def sign_v2(url: str, nonce: str, token: str) -> str:
    """Signs scheme, host with its explicit port, and path: neither query nor body."""
    return _digest(token, signed_text_v2(url, nonce))


def sign_v3(method: str, url: str, nonce: str, token: str, params: Params) -> str:
    """Signs the address with its query and, for POST, the body's parameters."""
    return _digest(token, signed_text_v3(method, url, nonce, params))


def signed_text_v2(url: str, nonce: str) -> str:
    return _address(url) + nonce


def signed_text_v3(method: str, url: str, nonce: str, params: Params) -> str:
    """GET: address?query. POST: address?query.params, the `.` only between two that are there."""
    query = parse_qs(urlparse(url).query, keep_blank_values=True)
    sent = _grouped(params)
    if method.upper() == "GET":
        pairs = "&".join(f"{name}={value}" for name, value in _sorted({**sent, **query}))
        return f"{_address(url)}{'?' if pairs else ''}{pairs}.{nonce}"
    pairs = "&".join(f"{name}={value}" for name, value in _sorted(query))
    body = "".join(name + value for name, value in _sorted(sent))
    mark = "?" if pairs or sent else ""
    return f"{_address(url)}{mark}{pairs}{'.' if pairs and sent else ''}{body}.{nonce}"


class Tokens(NamedTuple):
    """What a callback is signed with: the account's tokens, and its main account's (the same, if it is one).

    The newest first; the one before is there while it is good, so that an endpoint need not change in the same moment.
    """

    account: tuple[str, ...]
    main: tuple[str, ...]

    def __repr__(self) -> str:
        return "Tokens(...)"


def signature_headers(method: str, url: str, nonce: str, tokens: Tokens, params: Params) -> dict[str, str]:
    """The six headers. V3 is a list: of each token one signature for each way an SDK may write down the address.

    V2 has room for one: the newest token's, of the address as it is.
    """
    text_v2 = signed_text_v2(url, nonce)
    texts_v3 = [signed_text_v3(method, address, nonce, params) for address in _ways_to_write(url)]

    def signed(by: tuple[str, ...]) -> tuple[str, str]:
        return _digest(by[0], text_v2), ",".join(_digest(token, text) for token in by for text in texts_v3)

    v2, v3 = signed(tokens.account)
    main_v2, main_v3 = (v2, v3) if tokens.main == tokens.account else signed(tokens.main)
    return {
        "X-Plivo-Signature-V2": v2,
        "X-Plivo-Signature-Ma-V2": main_v2,
        "X-Plivo-Signature-V2-Nonce": nonce,
        "X-Plivo-Signature-V3": v3,
        "X-Plivo-Signature-Ma-V3": main_v3,
        "X-Plivo-Signature-V3-Nonce": nonce,
    }


def _ways_to_write(url: str) -> Iterator[str]:
    """`url` as it is, then without its port, then both with the path an endpoint sees where there is none.

    Ruby, Java and .NET leave the port out; an endpoint that rebuilds its address from the request writes `/` for an
    empty path.
    """
    split = urlsplit(url)
    host, _, port = split.netloc.rpartition(":")
    has_port = port.isdigit()  # else the last colon, if there is one, belongs to an IPv6 address
    yield url
    if has_port:
        yield split._replace(netloc=host).geturl()
    if not split.path:
        yield split._replace(path="/").geturl()
    if has_port and not split.path:
        yield split._replace(netloc=host, path="/").geturl()


def _address(url: str) -> str:
    parsed = urlparse(url)
    return urlunparse((parsed.scheme, parsed.netloc, parsed.path, "", "", ""))


def _grouped(params: Params) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in params:
        grouped.setdefault(name, []).append(value)
    return grouped


def _sorted(grouped: dict[str, list[str]]) -> Iterable[tuple[str, str]]:
    return ((name, value) for name in sorted(grouped) for value in sorted(grouped[name]))


def _digest(token: str, text: str) -> str:
    return b64encode(hmac.digest(token.encode(), text.encode(), "sha256")).decode()
