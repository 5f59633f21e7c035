"""Bulks over HTTP: NDJSON accepted durably, with lanes handing over in the same process, beside a bare reader of lines.

    python -m benchmarks.bulk [--pairs 3] [--lines 120000] [--streams 4] [--numbers 10000] [--handed-per-s 2000]

* bare: an aiohttp handler that cuts the body into lines and decodes each, and stores nothing: the ceiling.
* shared: all lines say the same, so a stretch of them shares one body. Goal ≥ 40,000 messages/s.
* own: each line has its own text, so each message has a body of its own.

Beside the streams somebody sends single messages, one after another: what a stream costs others is their latency.
Runs have a number of lines and not of seconds: sockets hold a hundred thousand lines that nobody has read yet.
Client, gateway and PostgreSQL (fsync on) share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from typing import NamedTuple
from urllib.parse import quote

from benchmarks.accept import new_requests
from benchmarks.gateway import HANDED, POWERPACK, Gateway, cpu_seconds, free_port, gateway
from benchmarks.streams import Block, blocks, head, stream
from benchmarks.wire import read_answer
from gateway.compiled import program

TEXT = "Your table for two is ready at 19:30."


class BulkRun(NamedTuple):
    lines_per_s: float
    refused: int
    handed_per_s: float
    cpu: float
    single_ms: list[float]


async def many(port: int, begin: bytes, prepared: list[list[Block]], lines: int) -> tuple[float, int]:
    """Streams side by side; lines a second, and how many were refused."""
    began = time.perf_counter()
    found = await asyncio.gather(*(stream(port, begin, each, lines_max=lines // len(prepared)) for each in prepared))
    took = time.perf_counter() - began
    return sum(each["lines"] for each, _ in found) / took, sum(each["refused"] for each, _ in found)


async def bulk_run(target: Gateway, prepared: list[list[Block]], lines: int) -> BulkRun:
    begin = head(f"{target.path}Bulk/?powerpack_uuid={POWERPACK}&text={quote(TEXT)}", target.authorization)
    before, cpu = await target.metrics(), cpu_seconds(target.process_id)
    began = time.perf_counter()
    singles = asyncio.create_task(one_by_one(target))
    lines_per_s, refused = await many(target.port, begin, prepared, lines)
    singles.cancel()
    single_ms = await singles
    took = time.perf_counter() - began
    cpu = (cpu_seconds(target.process_id) - cpu) / took
    after = await target.metrics()
    handed = sum(value - before.get(name, 0) for name, value in after.items() if name.startswith(HANDED))
    return BulkRun(lines_per_s, refused, handed / took, cpu, single_ms)


async def one_by_one(target: Gateway) -> list[float]:
    """Single sends until cancelled; the milliseconds each took."""
    took: list[float] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    new_request = new_requests(target, 1)
    try:
        while True:
            began, buffer = time.perf_counter(), b""
            writer.write(new_request())
            while (answer := read_answer(buffer)) is None:
                buffer += await reader.read(65_536)
            if answer.status != 202:
                raise SystemExit(f"a single send was answered {answer.status}: {answer.body!r}")
            took.append((time.perf_counter() - began) * 1_000)
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        return sorted(took)
    finally:
        writer.close()


def told(name: str, run: BulkRun, ceiling: float) -> str:
    singles = run.single_ms
    return (
        f"{name}: {run.lines_per_s:8.0f} messages/s of {ceiling:8.0f} bare, {run.refused} refused, "
        f"handed over {run.handed_per_s:.0f}/s, CPU {run.cpu:.2f}; single sends meanwhile: {len(singles)}, "
        f"p50 {singles[len(singles) // 2]:.0f} ms, p99 {singles[int(len(singles) * 0.99)]:.0f} ms, "
        f"most {singles[-1]:.0f} ms"
    )


async def measure(arguments: argparse.Namespace) -> None:
    bare_port = free_port()
    bare = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare", str(bare_port), stdout=asyncio.subprocess.PIPE
    )
    assert bare.stdout is not None
    await bare.stdout.readline()
    kinds = {
        "shared": [blocks(seed, own_texts=False) for seed in range(arguments.streams)],
        "own": [blocks(seed, own_texts=True) for seed in range(arguments.streams)],
    }
    try:
        async with gateway(numbers=arguments.numbers, handed_per_s=arguments.handed_per_s) as target:
            await bulk_run(target, kinds["shared"], 20_000)  # warm, and a backlog for the lane
            for name, prepared in kinds.items():
                rates: list[float] = []
                for _ in range(arguments.pairs):
                    ceiling, _ = await many(bare_port, head("/bulk", ""), prepared, arguments.lines)
                    run = await bulk_run(target, prepared, arguments.lines)
                    rates.append(run.lines_per_s)
                    print(told(name, run, ceiling), flush=True)
                    await asyncio.sleep(0.5)
                print(f"{name}: median {statistics.median(rates):.0f} messages/s (goal ≥ 40,000)", flush=True)
    finally:
        bare.terminate()
        await bare.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--lines", type=int, default=120_000)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--numbers", type=int, default=10_000)
    parser.add_argument("--handed-per-s", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"program: {program()}", flush=True)
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
