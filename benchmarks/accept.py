"""Accepting over HTTP, durably, with lanes handing over in the same process, beside a bare handler.

    python -m benchmarks.accept [--pairs 5] [--seconds 3] [--numbers 10000] [--handed-per-s 2000] [--plain]

* single: one recipient a request, 100 connections. The peer is an aiohttp handler that answers a fixed 202 and stores
  nothing, driven by the same client; runs are interleaved in pairs and the median ratio is told. Goals: with the lane
  idle (its link lets one segment a second pass) ≥ 0.6, with the lane handing over ≥ 0.5.
* hundred: 100 recipients a request, 8 connections, in messages a second. Goal ≥ 40,000.

Before each kind enough waits that the lane is saturated: it hands over at its link's rate during every run, which is
measured and told. So is the gateway's core time for each message, which a busy machine changes least. Client, gateway
and PostgreSQL (fsync on) share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys

import orjson

from benchmarks.client import NewRequest, Run, drive
from benchmarks.gateway import HANDED, POWERPACK, Gateway, cpu_seconds, free_port, gateway
from benchmarks.wire import request_bytes
from gateway.compiled import program
from resolver.geography import AREA_CODES

SINGLE_CONNECTIONS = 100
HUNDRED_CONNECTIONS = 32


def new_requests(target: Gateway, recipients: int) -> NewRequest:
    """Requests to recipients all over the pool's area codes, each another."""
    chance = random.Random(recipients)
    codes = list(AREA_CODES)

    def request() -> bytes:
        numbers = (
            f"+1{chance.choice(codes)}{chance.randrange(2, 10)}{chance.randrange(10**6):06d}" for _ in range(recipients)
        )
        body = orjson.dumps(
            {"powerpack_uuid": POWERPACK, "dst": "<".join(numbers), "text": "Your table for two is ready at 19:30."}
        )
        return request_bytes("POST", target.path, body=body, authorization=target.authorization)

    return request


async def bare_run(port: int, target: Gateway, seconds: float) -> Run:
    return await drive("127.0.0.1", port, new_requests(target, 1), connections=SINGLE_CONNECTIONS, seconds=seconds)


async def gateway_run(target: Gateway, recipients: int, connections: int, seconds: float) -> tuple[Run, float, float]:
    """A run, the messages handed over a second during it, and the gateway's CPU share."""
    before, cpu = await target.metrics(), cpu_seconds(target.process_id)
    run = await drive(
        "127.0.0.1", target.port, new_requests(target, recipients), connections=connections, seconds=seconds
    )
    cpu = (cpu_seconds(target.process_id) - cpu) / run.seconds
    after = await target.metrics()
    if set(run.statuses) != {202}:
        raise SystemExit(f"not only 202: {run.statuses}")
    handed = sum(value - before.get(name, 0) for name, value in after.items() if name.startswith(HANDED))
    return run, handed / run.seconds, cpu


async def singles(bare_port: int, target: Gateway, arguments: argparse.Namespace, *, lane: str, goal: float) -> None:
    """Pairs of the bare handler and the gateway, one recipient a request."""
    ratios: list[float] = []
    for _ in range(arguments.pairs):
        ceiling = await bare_run(bare_port, target, arguments.seconds)
        run, handed, cpu = await gateway_run(target, 1, SINGLE_CONNECTIONS, arguments.seconds)
        ratios.append(run.per_second / ceiling.per_second)
        print(
            f"single, lane {lane}: {run.per_second:7.0f}/s of {ceiling.per_second:7.0f}/s bare = {ratios[-1]:.2f}, "
            f"{told(run, 1, handed, cpu)}",
            flush=True,
        )
    print(
        f"single, lane {lane}: median {statistics.median(ratios):.2f} of the bare handler (goal ≥ {goal})", flush=True
    )


async def hundreds(target: Gateway, arguments: argparse.Namespace) -> None:
    """100 recipients a request."""
    rates: list[float] = []
    for _ in range(arguments.pairs):
        run, handed, cpu = await gateway_run(target, 100, HUNDRED_CONNECTIONS, arguments.seconds)
        rates.append(run.per_second * 100)
        print(f"hundred: {rates[-1]:8.0f} messages/s, {told(run, 100, handed, cpu)}", flush=True)
        await asyncio.sleep(0.5)
    print(f"100-recipient accept: median {statistics.median(rates):.0f} messages/s (goal ≥ 40,000)")


def told(run: Run, recipients: int, handed: float, cpu: float) -> str:
    """The rest of a run's line."""
    core_us = cpu / (run.per_second * recipients) * 1_000_000
    return (
        f"p50 {run.percentile_ms(0.5):.1f} ms, p99 {run.percentile_ms(0.99):.1f} ms, handed over {handed:.0f}/s, "
        f"CPU {cpu:.2f}, {core_us:.0f} µs a message"
    )


async def measure(arguments: argparse.Namespace) -> None:
    bare_port = free_port()
    bare = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare", str(bare_port), stdout=asyncio.subprocess.PIPE
    )
    assert bare.stdout is not None
    await bare.stdout.readline()
    try:
        async with gateway(numbers=arguments.numbers, handed_per_s=1) as target:
            await gateway_run(target, 1, SINGLE_CONNECTIONS, 1.0)  # warm
            await bare_run(bare_port, target, 1.0)
            await singles(bare_port, target, arguments, lane="idle", goal=0.6)
        async with gateway(numbers=arguments.numbers, handed_per_s=arguments.handed_per_s) as target:
            await gateway_run(target, 100, HUNDRED_CONNECTIONS, 1.0)  # warm, and a backlog for the lane
            await singles(bare_port, target, arguments, lane=f"at {arguments.handed_per_s}/s", goal=0.5)
            await hundreds(target, arguments)
    finally:
        bare.terminate()
        await bare.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--numbers", type=int, default=10_000)
    parser.add_argument("--handed-per-s", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"program: {program()}", flush=True)
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
