"""A client of bulks that costs little: it writes lines prepared before, as fast as the gateway reads them.

Lines go out in chunks of some 60 KB; the answer is read when the stream has ended, as most clients do.
"""

from __future__ import annotations

import asyncio
import random
import time
from itertools import cycle, islice

import orjson

from benchmarks.wire import read_answer
from resolver.geography import AREA_CODES

ANSWER_S_MAX = 1_800  # sockets hold a hundred thousand lines that are still to be read when all are written
BLOCK_LINES = 500
BLOCKS = 100
"""Prepared, and sent round and round: 50,000 recipients."""

Block = tuple[bytes, int]
"""A chunk as it goes over the wire, and how many lines it holds."""


def blocks(seed: int, *, own_texts: bool, refused: bool = False) -> list[Block]:
    """Lines to recipients all over North America; each with a text of its own, or all with that of the query."""
    chance = random.Random(seed)
    codes = list(AREA_CODES)
    made: list[Block] = []
    for _ in range(BLOCKS):
        lines = []
        for _ in range(BLOCK_LINES):
            number = f"+1{chance.choice(codes)}{chance.randrange(2, 10)}{chance.randrange(10**6):06d}"
            line = {"dst": number[:-1] if refused else number}
            if own_texts:
                line["text"] = f"Dear customer {chance.randrange(10**6)}, your table for two is ready at 19:30."
            lines.append(orjson.dumps(line))
        data = b"\n".join(lines) + b"\n"
        made.append((b"%x\r\n%b\r\n" % (len(data), data), BLOCK_LINES))
    return made


def head(path: str, authorization: str) -> bytes:
    """Begin a stream."""
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: {authorization}",
             "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked", "", "")  # fmt: skip
    return "\r\n".join(lines).encode()


async def stream(port: int, begin: bytes, prepared: list[Block], *, lines_max: int) -> tuple[dict[str, int], float]:
    """Send one stream of so many lines, in whole blocks; its summary, and how many seconds it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(begin)
    try:
        for data, _ in islice(cycle(prepared), -(-lines_max // BLOCK_LINES)):
            if reader.at_eof():
                break
            writer.write(data)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        buffer = b""
        async with asyncio.timeout(ANSWER_S_MAX):
            while (answer := read_answer(buffer)) is None:
                data = await reader.read(65_536)
                if not data:
                    raise SystemExit("a stream was cut off")
                buffer += data
    finally:
        writer.close()
    if answer.status != 202:
        raise SystemExit(f"a stream was answered {answer.status}: {answer.body!r}")
    summary: dict[str, int] = orjson.loads(answer.body)
    if not summary["complete"]:
        raise SystemExit(f"a stream ended early: {summary}")
    return summary, time.perf_counter() - began
