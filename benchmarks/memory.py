"""Memory while a million lines go through a gateway: flat, whatever becomes of them.

    python -m benchmarks.memory [--lines 1000000] [--waiting 200000] [--streams 4] [--plain]

* refused: every line is refused; nothing waits, and each refusal is stored. Goal: no growth beyond 32 MiB.
* leaving: at most 20,000 messages may wait, so the streams are read as fast as the lane lets messages leave, which
  takes a minute or two. Its 500 numbers have been handed more than the 150 whose instants each of them remembers (40
  bytes each) before it is measured. Goal: no growth beyond 32 MiB.
* waiting: messages that wait because the lane lets few leave. Goal: at most 700 bytes a message that shares
  its request; what its own text adds is told.

Resident memory of the gateway's process is read 20 times a second. PostgreSQL's is not ours and not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from benchmarks.gateway import POWERPACK, Gateway, gateway
from benchmarks.streams import blocks, head, stream
from gateway.compiled import program
from resolver.model import Limits

MIB = 1_048_576
LOOK_S = 0.05
TEXT = "Your table for two is ready at 19:30."
WAITING_MAX = 20_000
WAITING_HANDED_PER_S = 50
"""Three hours of it are 540,000 messages: more could not leave within their validity, and would be refused."""
QUICK_NUMBER = Limits(100, 1_000, 150, None)
QUICK_CARRIER = "latency_ms_min = 1\nlatency_ms_max = 2\nreports = false\n"


class Resident(NamedTuple):
    """Bytes of resident memory: before, at most, and afterwards."""

    before: int
    most: int
    after: int

    def __str__(self) -> str:
        return " → ".join(f"{each / MIB:.0f}" for each in self) + " MiB (before, most, after)"


def resident_bytes(process_id: int) -> int:
    pages = int(Path(f"/proc/{process_id}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def watched(process_id: int) -> AsyncIterator[list[Resident]]:
    """Watch a process while the block runs; the list then holds what was seen."""
    before = most = resident_bytes(process_id)
    found: list[Resident] = []

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, resident_bytes(process_id))
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield found
    finally:
        looking.cancel()
        await asyncio.sleep(1)
        found.append(Resident(before, most, resident_bytes(process_id)))


async def send(target: Gateway, lines: int, *, streams: int, own_texts: bool = False, refused: bool = False) -> int:
    """Send so many lines in all; how many were accepted."""
    path = f"{target.path}Bulk/?powerpack_uuid={POWERPACK}&text={quote(TEXT)}"
    begin = head(path, target.authorization)
    prepared = [blocks(seed, own_texts=own_texts, refused=refused) for seed in range(streams)]
    found = await asyncio.gather(*(stream(target.port, begin, each, lines_max=lines // streams) for each in prepared))
    return sum(summary["accepted"] for summary, _ in found)


async def measure_refused(lines: int, streams: int) -> Resident:
    async with gateway(numbers=100, handed_per_s=1) as target:
        await send(target, 20_000, streams=streams, refused=True)  # warm
        async with watched(target.process_id) as found:
            if await send(target, lines, streams=streams, refused=True):
                raise SystemExit("lines that should have been refused were accepted")
    return found[0]


async def measure_leaving(lines: int, streams: int, *, waiting_max: int = WAITING_MAX) -> Resident:
    limits = f"waiting_max = {waiting_max}\n[lanes]\nawaiting_max = 1000\n"
    async with gateway(
        numbers=500, handed_per_s=50_000, carrier=QUICK_CARRIER, limits=limits, each=QUICK_NUMBER
    ) as target:
        await send(target, max(10 * waiting_max, 10_000), streams=streams)  # warm, with all threads
        async with watched(target.process_id) as found:
            await send(target, lines, streams=streams)
    return found[0]


async def measure_waiting(messages: int, streams: int, *, own_texts: bool) -> float:
    """Bytes a message."""
    async with gateway(numbers=10_000, handed_per_s=WAITING_HANDED_PER_S) as target:
        await send(target, 50_000, streams=streams, own_texts=own_texts)  # warm, and every recipient has its thread
        async with watched(target.process_id) as found:
            accepted = await send(target, messages, streams=streams, own_texts=own_texts)
    if accepted < 0.95 * messages:
        raise SystemExit(f"only {accepted} of {messages} messages could wait")
    return (found[0].after - found[0].before) / accepted


async def measure(arguments: argparse.Namespace) -> None:
    streams = arguments.streams
    for own_texts in (False, True):
        each = await measure_waiting(arguments.waiting, streams, own_texts=own_texts)
        kind = "with a text of its own" if own_texts else "that shares its request"
        print(f"waiting: {each:.0f} bytes a message {kind}", flush=True)
    print(f"refused: {await measure_refused(arguments.lines, streams)}, {arguments.lines} lines", flush=True)
    print(f"leaving: {await measure_leaving(arguments.lines, streams)}, {arguments.lines} lines", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=200_000)
    parser.add_argument("--streams", type=int, default=4)
    arguments = parser.parse_args()
    print(f"program: {program()}", flush=True)
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
