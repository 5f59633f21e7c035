"""Makes requests nobody should send, from a seed: odd bodies, queries, paths, heads, methods; and mutilated ones.

About 20 µs each. Every request stands alone: what the generator gives for a seed and a number is always the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from gateway.api.shapes_message import RESOLVE_KEYS, SendBody

NUMBERS: Final = (
    "+14155550123", "14155550124", "(415) 555-0125", "+1 415.555.0126", "4155550127", "+442079460000", "911", "112",
    "+19005550100", "+97912345678", "+88216123456", "+0", "+", "0", "-1", "tel:+14155550123", "+1415555012", "12345",
    "+141555501234567", "１４１５５５５０１２３", "٤١٥", "+1415555o123", "0x1415", "1e10",
    "+14155550123;ext=9", "22555",
    "+14155550123\\r\\nX: y", "\\u0000", "'; DROP TABLE messages; --",
)  # fmt: skip
TEXTS: Final = (
    "Hello", "", " ", "a" * 1_601, "\\u0000", "\\ud800", "\\udc00\\ud800", "\U0001f600" * 40, "שלום\u202e\u200b\u200d",
    "'; DROP TABLE messages; --", "\\r\\nSet-Cookie: a=b", "{{7*7}}", "%s%n%x", "../../etc/passwd", "<script>",
    "€[]{}~^|\\\\", "\ufeff", "\u0001", "ﷺ" * 300, "null", "1e999", "a" * 70_000,
)  # fmt: skip
SCALARS: Final = (
    "null", "true", "false", "0", "-1", "1", "600", "1e308", "1e999", "-0.0", "NaN", "Infinity", "1" * 400, "0.1", "01",
    "9223372036854775808", '""', '"true"', '"1"', "[]", "{}", "[null]", '[["+14155550123"]]',
    '{"a":{"a":{}}}', '"\\x00"',
    "", "tru", '"\\ud83d"', '"\\ud83d\\ude00"', "[" * 2_000 + "]" * 2_000, '{"a":' * 1_100 + "1" + "}" * 1_100,
)  # fmt: skip
URLS: Final = (
    "https://example.com/a", "http://127.0.0.1:1/", "https://[::1]/", "https://a b/", "https://a\\r\\nX: y/", "ftp://a/",
    "https://user:pass@example.com/", "https://169.254.169.254/", "//example.com", "https://", "javascript:alert(1)",
    "https://example.com/" + "a" * 3_000, "https://0x7f000001/", "https://ex\u0430mple.com/",
)  # fmt: skip
KEYS: Final = tuple(
    sorted(
        {*SendBody.__struct_fields__, *RESOLVE_KEYS}
        | set(
            "name sticky_sender local_connect number_priority operator_types sticky_at_limit sticky_wait_ms rent "
            "sticky_life_ms application_id application_type service unrent messages id status error_code __proto__ "
            "powerpackUUID trackable limit offset auth_id account_id".split()
        )
    )
)
HEADS: Final = (
    "Prefer: refuse-now", "Prefer: ;;,=", "Idempotency-Key: a", "Idempotency-Key: \x7f", "Content-Type: text/plain",
    "Content-Type: application/x-www-form-urlencoded", "Content-Type: multipart/form-data; boundary=a",
    "Content-Type: application/x-ndjson", "Content-Type: ", "Content-Encoding: gzip", "Content-Encoding: identity",
    "Expect: 100-continue", "Accept: */*", "Accept: application/x-ndjson", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4",
    "Range: bytes=0-1", "If-None-Match: *", "Transfer-Encoding: identity", "Upgrade: h2c", "Connection: keep-alive",
    "X-HTTP-Method-Override: DELETE", "Host: b", "X-A: " + "b" * 7_000, "X-A: \xe9\xff", "Origin: null",
)  # fmt: skip
QUERIES: Final = (
    "", "?", "?limit=0", "?limit=-1&offset=9999999999999999999", "?limit=1e3", "?a=%00",
    "?a=%ff%fe", "?%", "?a=%zz", "?=",
    "?message_time__gt=2024-13-45 99:99".replace(" ", "%20"),
    "?message_state=queued&limit=20", "?type=fixed", "?&&&&&=",
    "?limit=1&limit=2", "?" + "a=1&" * 200, "?" + "a" * 7_900,
    "?subaccount=x&message_direction=outbound", "?offset=500000",
    "?starts_with=415,416&service=sms", "?message_time__lt=2024-01-01%2000:00", "?error_code=420&powerpack_id=';--",
)  # fmt: skip
METHODS: Final = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
PIECES: Final = (b"\0", b"\r\n", b"\n", b" ", b"\xff", b":", b"\r\n\r\n", b"{", b"%", b"\r\n ", b"0", b"HTTP/1.1", b"")


class World(NamedTuple):
    """What requests may speak of."""

    authorization: str
    account_id: str
    powerpack_id: str
    pool_id: str
    routes: Sequence[tuple[str, str]]  # method, path with braces


class Shot(NamedTuple):
    """One request. `is_whole`: it is framed as HTTP says, so that one answer follows and the connection stays."""

    data: bytes
    method: str
    is_whole: bool


class Requests:
    """The shots of one seed."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed

    def shot(self, number: int) -> Shot:
        """Give the shot of this number."""
        chance = random.Random(self._seed * 1_000_003 + number)
        method, path = self._target(chance)
        body = self._body(chance, path) if method not in ("GET", "HEAD", "OPTIONS") or chance.random() < 0.05 else b""
        data = self._framed(chance, method, path, body)
        if chance.random() < 0.12:
            return Shot(_mutilated(chance, data), method, is_whole=False)
        return Shot(data, method, is_whole=True)

    def _target(self, chance: random.Random) -> tuple[str, str]:
        world = self._world
        method, pattern = chance.choice(world.routes)
        if chance.random() < 0.5:
            method, pattern = "POST", "/v1/Account/{auth_id}/Message/"
        if chance.random() < 0.1:
            method = chance.choice(METHODS)
        parts = [self._part(chance, method, part) if part[:1] == "{" else part for part in pattern.split("/")]
        if chance.random() < 0.1:
            place = chance.randrange(len(parts))
            parts[place] = chance.choice(("", ".", "..", "%2e%2e", "%00", "a" * 1_100, "%ff", "&a=b", "*", quote("🙂")))
        query = chance.choice(QUERIES) if chance.random() < 0.4 else ""
        return method, ("/".join(parts) + query)[:8_000]

    def _part(self, chance: random.Random, method: str, part: str) -> str:
        world = self._world
        if chance.random() < 0.15:
            return quote(chance.choice(NUMBERS + TEXTS[:6]))[:300]
        if part == "{auth_id}":
            return world.account_id
        if part == "{powerpack_uuid}":
            # What everything else is sent through must not be lost.
            return world.powerpack_id if method != "DELETE" else "0193a1b2-0000-7000-8000-00000000000a"
        if part == "{pool_uuid}":
            return world.pool_id
        return quote(chance.choice(NUMBERS))

    def _body(self, chance: random.Random, path: str) -> bytes:
        kind = chance.random()
        if kind < 0.1:
            return chance.choice(SCALARS).encode("utf-8", "surrogatepass")
        if kind < 0.15:
            return chance.randbytes(chance.randrange(200))
        if kind < 0.17:
            return b'{"dst":"' + b"<".join(b"+1415555%04d" % chance.randrange(10_000) for _ in range(1_100)) + b'"}'
        pairs = []
        if "Message" in path and chance.random() < 0.8:
            pairs = [
                f'"powerpack_uuid":"{self._world.powerpack_id}"',
                f'"dst":"+1415555{chance.randrange(200, 10_000):04d}"',
                '"text":"Hello"',
            ]
        for _ in range(chance.randrange(5)):
            pairs.append(f'"{chance.choice(KEYS)}":{_value(chance)}')
        chance.shuffle(pairs)
        body = ("{" + ",".join(pairs) + "}").encode("utf-8", "surrogatepass")
        if chance.random() < 0.1:
            body = _mutilated(chance, body)
        return b"\n".join([body] * chance.randrange(1, 4)) if "Bulk" in path else body

    def _framed(self, chance: random.Random, method: str, path: str, body: bytes) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: a"]
        if chance.random() < 0.95:
            lines.append(f"Authorization: {self._world.authorization}")
        lines += chance.choices(HEADS, k=chance.choice((0, 0, 0, 1, 1, 2)))
        if body and chance.random() < 0.15:
            lines.append("Transfer-Encoding: chunked")
            size = chance.randrange(1, len(body) + 1)
            pieces = [body[at : at + size] for at in range(0, len(body), size)][:50]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def _value(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.3:
        return chance.choice(SCALARS)
    if kind < 0.5:
        return f'"{"<".join(chance.choices(NUMBERS, k=chance.randrange(1, 4)))}"'
    if kind < 0.7:
        return f'"{chance.choice(URLS)}"'
    return f'"{chance.choice(TEXTS)}"'


def _mutilated(chance: random.Random, data: bytes) -> bytes:
    """`data` with a few bytes changed, put in, taken out, doubled, or cut off."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(5):
            case 0:
                made[at : at + 1] = chance.randbytes(1)
            case 1:
                made[at:at] = chance.choice(PIECES)
            case 2:
                del made[at : at + chance.randrange(1, 20)]
            case 3:
                made[at:at] = made[at : at + 30]
            case _:
                del made[at + chance.randrange(200) :]
    return bytes(made)
