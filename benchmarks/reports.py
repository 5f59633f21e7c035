"""Delivery reports over HTTP: arrays or streams to /carriers/{carrier}/reports, answered when facts are committed.

    python -m benchmarks.reports [--messages 40000] [--array 500] [--connections 4] [--stream] [--callbacks] [--plain]

Messages are accepted and handed over first, so they are in memory and wait for their reports. Then all of them are
reported as delivered, as fast as the gateway answers; told are the reports committed a second. With `--callbacks` each
report makes a callback, too, and the callbacks of the hand-overs go out meanwhile. Goal without them ≥ 20,000/s.
With `--stream` each connection sends its part as one NDJSON stream, and asks for the summary alone.
Client, gateway and PostgreSQL (fsync on) share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator

import orjson

from benchmarks.gateway import CARRIER, POWERPACK, Gateway, cpu_seconds, free_port, gateway, new_recipients
from benchmarks.peer import Peer
from benchmarks.wire import request_bytes
from gateway.compiled import program

SECRET = "benchmark"
NUMBERS = 20_000
HANDED_PER_S = 20_000
RECIPIENTS = 500
AWAITING = "gateway_awaiting_messages"
WAIT_S_MAX = 60


async def fill(target: Gateway, count: int, callback_url: str) -> list[str]:
    """Accept `count` messages and wait until all of them were handed over; their ids."""
    peer = await Peer.connect(target.port)
    chance = random.Random(1)
    ids: list[str] = []
    while len(ids) < count:
        body = {
            "powerpack_uuid": POWERPACK,
            "dst": "<".join(new_recipients(chance, RECIPIENTS)),
            "text": "Your table is ready.",
        }
        if callback_url:
            body["url"] = callback_url
        said = await peer.ask(
            request_bytes("POST", target.path, body=orjson.dumps(body), authorization=target.authorization), status=202
        )
        ids += orjson.loads(said)["message_uuid"]
    deadline = time.monotonic() + WAIT_S_MAX
    while (await target.metrics())[AWAITING] < len(ids):
        if time.monotonic() > deadline:
            raise SystemExit("the lane did not hand everything over")
        await asyncio.sleep(0.1)
    return ids


def requests_of(ids: list[str], size: int, *, is_stream: bool) -> Iterator[bytes]:
    """Requests that report all of them as delivered, `size` in each."""
    path, proof = f"/carriers/{CARRIER}/reports", f"Bearer {SECRET}"
    for start in range(0, len(ids), size):
        reports = [
            {"id": f"a{start + place:x}", "reference": message_id, "status": "delivered", "at": 1_767_225_600_000}
            for place, message_id in enumerate(ids[start : start + size])
        ]
        if is_stream:
            lines = b"".join(orjson.dumps(report) + b"\n" for report in reports)
            yield request_bytes(
                "POST", path + "?answers=end", body=lines, authorization=proof, media_type="application/x-ndjson"
            )
        else:
            yield request_bytes("POST", path, body=orjson.dumps(reports), authorization=proof)


async def report(target: Gateway, requests: list[bytes], connections: int) -> None:
    """Send all requests, each connection its next when the last is answered."""
    waiting = iter(requests)

    async def work() -> None:
        peer = await Peer.connect(target.port)
        for request in waiting:
            await peer.ask(request, status=200)

    await asyncio.gather(*(work() for _ in range(connections)))


async def measure(arguments: argparse.Namespace) -> None:
    endpoint_port = free_port()
    endpoint = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare", str(endpoint_port), stdout=asyncio.subprocess.PIPE
    )
    assert endpoint.stdout is not None
    await endpoint.stdout.readline()
    url = f"http://127.0.0.1:{endpoint_port}/v1/Account/endpoint/Message/" if arguments.callbacks else ""
    try:
        async with gateway(
            numbers=NUMBERS, handed_per_s=HANDED_PER_S, carrier=f'reports = false\nsecret = "{SECRET}"',
            settings="[callbacks]\nallow_http = true\nallow_private = true\n",
        ) as target:  # fmt: skip
            ids = await fill(target, arguments.messages, url)
            size = -(-len(ids) // arguments.connections) if arguments.stream else arguments.array
            requests = list(requests_of(ids, size, is_stream=arguments.stream))
            await asyncio.sleep(1)
            cpu, began = cpu_seconds(target.process_id), time.perf_counter()
            await report(target, requests, arguments.connections)
            took = time.perf_counter() - began
            cpu = cpu_seconds(target.process_id) - cpu
            left = (await target.metrics())[AWAITING]
            if left:
                raise SystemExit(f"{left} messages still wait for their report")
    finally:
        endpoint.terminate()
        await endpoint.wait()
    what = f"{arguments.connections} streams" if arguments.stream else f"arrays of {arguments.array}"
    how, goal = ("with", "") if arguments.callbacks else ("without", " (goal ≥ 20,000/s)")
    print(
        f"reports {how} callbacks: {len(ids) / took:.0f}/s committed{goal}, {len(ids)} in {what}, "
        f"CPU {cpu * 1e6 / len(ids):.1f} µs a report, {cpu / took:.2f} of a core",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--array", type=int, default=500, help="reports in one request, at most 1,000")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--stream", action="store_true", help="NDJSON streams instead of arrays")
    parser.add_argument("--callbacks", action="store_true", help="each report makes a callback")
    arguments = parser.parse_args()
    print(f"program: {program()}", flush=True)
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
