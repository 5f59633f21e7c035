"""Plays http.toml against a server, over sockets alone: what answers there is none of its business."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

CORPUS: Final = Path(__file__).with_name("http.toml")
ANSWER_S_MAX: Final = 3.0
QUIET_S: Final = 0.05
"""Nothing more comes after so long."""
CLOSE_S_MAX: Final = 4.0
"""A server may read on for a while, so that its answer is heard, before it closes."""
SMALL_BYTES: Final = 600
"""What is short is also sent byte by byte."""

REPEATED: Final = {
    "a": b"a",
    "crlf": b"\r\n",
    "lines": b"X-A: b\r\n",
    "chunks": b"1\r\n{\r\n",
    "requests": b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
}
_placeholder = re.compile(rb"\{(post|path|auth|body|n|x|([a-z]+)\*([0-9]+))\}")
_answer = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


class Case(NamedTuple):
    """One table of http.toml; what its keys mean stands there."""

    name: str
    send: str
    status: list[int]
    answers: int = 1
    open: bool = False
    stores: bool = False
    ends: bool = False


class Target(NamedTuple):
    """A server, and what a message is sent with there."""

    port: int
    path: str
    authorization: str
    body: bytes

    def bytes_of(self, case: Case) -> bytes:
        """What is written for `case`."""
        auth = f"Authorization: {self.authorization}".encode()
        words = {
            b"path": self.path.encode(),
            b"auth": auth,
            b"post": b"POST %b HTTP/1.1\r\nHost: a\r\n%b" % (self.path.encode(), auth),
            b"body": self.body,
            b"n": b"%d" % len(self.body),
            b"x": b"%x" % len(self.body),
        }

        def put(found: re.Match[bytes]) -> bytes:
            name, count = found[2], found[3]
            return REPEATED[name.decode()] * int(count) if name else words[found[1]]

        return _placeholder.sub(put, case.send.encode("latin-1"))


class Heard(NamedTuple):
    """What came back."""

    statuses: list[int]
    is_closed: bool
    raw: bytes

    @property
    def first(self) -> int:
        return self.statuses[0] if self.statuses else 0


GOOD: Final = Case("a good one", "{post}\r\nContent-Length: {n}\r\n\r\n{body}", [202], open=True, stores=True)
CASES: Final = [Case(**each) for each in tomllib.loads(CORPUS.read_text("utf-8"))["case"]]


async def say(
    port: int,
    data: bytes,
    *,
    first: bytes = b"",
    byte_by_byte: bool = False,
    ends: bool = False,
    answers: int = 1,
    quiet_s: float = QUIET_S,
) -> Heard:
    """Write `data` to a connection of its own; give what comes until the server closes, or says nothing more.

    `first` is a request that goes before, whose answer is waited for and not told.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    if first:
        writer.write(first)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
    heard, is_closed = bytearray(), False
    writing = asyncio.create_task(_write(writer, data, byte_by_byte=byte_by_byte, ends=ends))
    try:
        while not is_closed:
            # Once the answer is there and all was said, silence is the end; before, it is the server's to speak.
            is_enough = len(_answer.findall(heard)) >= answers
            if is_enough:
                await asyncio.wait([writing], timeout=ANSWER_S_MAX)
            async with asyncio.timeout(quiet_s if is_enough else ANSWER_S_MAX):
                chunk = await _read(reader)
            heard += chunk
            is_closed = not chunk
    except TimeoutError:
        pass
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        writer.transport.abort()
    return Heard([int(each) for each in _answer.findall(bytes(heard))], is_closed, bytes(heard))


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65_536)
    except ConnectionError:
        return b""


async def _write(writer: asyncio.StreamWriter, data: bytes, *, byte_by_byte: bool, ends: bool) -> None:
    try:
        for place in range(len(data) if byte_by_byte else 0):
            writer.write(data[place : place + 1])
            await asyncio.sleep(0)
        if not byte_by_byte:
            writer.write(data)
        await writer.drain()
        if ends:
            writer.write_eof()
    except OSError:
        return  # the server has heard enough


async def play(target: Target, case: Case, count_stored: Callable[[], int]) -> list[str]:
    """Send `case`, whole and, if it is short, byte by byte; give what is wrong with what came back."""
    data, wrong = target.bytes_of(case), []
    for manner in ("whole", "after a good one", "byte by byte") if len(data) <= SMALL_BYTES else ("whole",):
        before, byte_by_byte, first = count_stored(), manner == "byte by byte", b""
        if manner == "after a good one":  # on its connection: what is known of that one must not help this one
            first, before = target.bytes_of(GOOD), before + 1
        heard = await say(
            target.port, data, first=first, byte_by_byte=byte_by_byte, ends=case.ends, answers=case.answers,
            quiet_s=QUIET_S if case.open else CLOSE_S_MAX,
        )  # fmt: skip
        stored = count_stored() - before
        # Who goes on speaking when the connection is closed may lose the answer to the reset that it brings about.
        is_lost = byte_by_byte and heard.is_closed and not heard.statuses and 400 in case.status
        said = [
            (heard.first not in case.status and not is_lost, f"answered {heard.first or 'nothing'}, not {case.status}"),
            (len(heard.statuses) > case.answers, f"answered {len(heard.statuses)} times: {heard.statuses[:9]}"),
            (not heard.is_closed and not case.open, "left the connection open"),
            (bool(stored) and not case.stores, f"stored {stored} messages"),
            (stored != heard.statuses.count(202), f"answered 202 {heard.statuses.count(202)} times, stored {stored}"),
            (any(status >= 500 and status not in (501, 505) for status in heard.statuses), "a failure of ours"),
            (b"\nServer: Python" in heard.raw or b"Traceback" in heard.raw, "showed what it is made of"),
        ]
        wrong += [f"{case.name}, {manner}: {what}" for is_so, what in said if is_so]
    return wrong
