"""The highest rate at which the lane keeps up with accept: everything in one process, reports included.

    python -m benchmarks.end_to_end [--recipients 100] [--seconds 3] [--from 2000] [--step 1.25] [--no-reports]
        [--plain]

Messages are accepted `--recipients` a request at a fixed rate, open loop: a step lasts `--seconds`, the next one asks
for `--step` times as much. A step is kept up with when the requests were answered as they came, and when no more waits
at its end than a quarter of a second's worth. Told is, for each step, what was accepted, handed over and reported a
second, and last the highest rate that was kept up with. The carrier is the simulated one, its link faster than any
step; there is a number for each message of a second, so no number's window binds. Client, gateway and PostgreSQL
(fsync on) share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
from typing import NamedTuple

import orjson

from benchmarks.gateway import POWERPACK, Gateway, cpu_seconds, gateway, new_recipients
from benchmarks.peer import Peer, Refused
from benchmarks.wire import request_bytes
from gateway.compiled import program

NUMBERS = 40_000
LINK_PER_S = 100_000
PLACES = 5_000
CONNECTIONS = 16
STEPS_MAX = 12
BEHIND_S_MAX = 0.5  # how late requests may be at the end of a step that was kept up with
GRACE_S = 2.0  # then a step is broken off
WAITING_S_MAX = 0.25  # how much may wait then; an answer alone takes 20 to 60 ms


class Step(NamedTuple):
    """What a step came to; rates in messages a second."""

    asked: float
    accepted: float
    handed: float
    reported: float
    waiting: float  # at its end
    behind_s: float
    cpu: float

    @property
    def kept_up(self) -> bool:
        return self.behind_s <= BEHIND_S_MAX and self.waiting <= self.asked * WAITING_S_MAX


class Source:
    """Requests made beforehand, so that the client costs little while it matters."""

    def __init__(self, target: Gateway, recipients: int) -> None:
        chance = random.Random(recipients)
        self._requests = [self._make(target, chance, recipients) for _ in range(max(50, 40_000 // recipients))]
        self._next = 0

    def _make(self, target: Gateway, chance: random.Random, recipients: int) -> bytes:
        body = {"powerpack_uuid": POWERPACK, "dst": "<".join(new_recipients(chance, recipients)), "text": "At 19:30."}
        return request_bytes("POST", target.path, body=orjson.dumps(body), authorization=target.authorization)

    def take(self) -> bytes:
        self._next += 1
        return self._requests[self._next % len(self._requests)]


async def accept(target: Gateway, source: Source, *, recipients: int, per_s: float, seconds: float) -> float:
    """Ask at a fixed rate; how many seconds behind its time the last request was answered: endless when refused."""
    count = int(per_s * seconds / recipients)
    began = time.perf_counter()
    places = iter(range(count))

    async def work() -> None:
        peer = await Peer.connect(target.port)
        for place in places:
            await asyncio.sleep(max(0.0, began + place * recipients / per_s - time.perf_counter()))
            await peer.ask(source.take(), status=202)
        peer.close()

    late_s = -seconds
    try:
        async with asyncio.timeout(seconds + GRACE_S), asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(work())
    except* Refused as refused:
        print(f"refused: {refused.exceptions[0]}")
        late_s = math.inf
    except* TimeoutError:
        pass
    return late_s + time.perf_counter() - began


async def step(target: Gateway, source: Source, *, recipients: int, per_s: float, seconds: float) -> Step:
    before, cpu, began = await target.metrics(), cpu_seconds(target.process_id), time.perf_counter()
    behind_s = await accept(target, source, recipients=recipients, per_s=per_s, seconds=seconds)
    took, after = time.perf_counter() - began, await target.metrics()

    def rate(prefix: str) -> float:
        grown = (value - before.get(name, 0) for name, value in after.items() if name.startswith(prefix))
        return sum(grown) / took

    return Step(
        per_s,
        rate("gateway_accepted_messages_total"),
        rate("gateway_handovers_total"),
        rate("gateway_reports_total"),
        after["gateway_waiting_messages"],
        max(0.0, behind_s),
        (cpu_seconds(target.process_id) - cpu) / took,
    )


async def measure(arguments: argparse.Namespace) -> None:
    reports = "reports = false" if arguments.no_reports else "report_ms_min = 100\nreport_ms_max = 500"
    highest, per_s = 0.0, float(arguments.begin)
    async with gateway(numbers=NUMBERS, handed_per_s=LINK_PER_S, places=PLACES, carrier=reports) as target:
        source = Source(target, arguments.recipients)
        await asyncio.sleep(1)  # it has just read its numbers
        await accept(target, source, recipients=arguments.recipients, per_s=1_000, seconds=1)
        for _ in range(STEPS_MAX):
            done = await step(target, source, recipients=arguments.recipients, per_s=per_s, seconds=arguments.seconds)
            print(
                f"asked {done.asked:6.0f}/s: accepted {done.accepted:6.0f}/s, handed over {done.handed:6.0f}/s, "
                f"reported {done.reported:6.0f}/s, waiting {done.waiting:.0f}, late {done.behind_s:.1f} s, "
                f"CPU {done.cpu:.2f}{'' if done.kept_up else ': not kept up'}",
                flush=True,
            )
            if not done.kept_up:
                break
            highest, per_s = done.asked, per_s * arguments.step
    print(f"end to end, {arguments.recipients} recipients a request: the lane keeps up with {highest:.0f} messages/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--recipients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a step")
    parser.add_argument("--from", type=float, default=2_000, dest="begin", help="messages/s of the first step")
    parser.add_argument("--step", type=float, default=1.25, help="how much more each step asks for")
    parser.add_argument("--no-reports", action="store_true")
    arguments = parser.parse_args()
    print(f"program: {program()}", flush=True)
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
