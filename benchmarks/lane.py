"""What a message costs the gateway's core after it was accepted: release, claim, hand-over, outcome, `sent` fact.

    python -m benchmarks.lane [--messages 40000] [--numbers 20000] [--reports] [--profile FILE] [--plain]

One lane, the simulated carrier with its default latency and the real journal (embedded PostgreSQL, fsync on), without
HTTP. The messages wait decided and committed in memory before the clock starts; told is the CPU time of this process
for each of them until its `sent` fact is stored (with `--reports`: until its report's facts are). Goals: ≤ 35 µs a
message compiled, ≤ 55 µs not.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import random
import shutil
import tempfile
import time
from pathlib import Path

import structlog
import uvloop

from gateway.app import GC_THRESHOLDS
from gateway.attempts import Attempts
from gateway.carriers.simulated import SimulatedCarrier
from gateway.clock import SystemClock, SystemIds, seeded_chance
from gateway.compiled import program
from gateway.dials import Dials
from gateway.facts import Facts
from gateway.inbound import Reports
from gateway.lanes import Lane
from gateway.settings import CarrierSettings, LaneSettings
from resolver.core import Resolver
from resolver.geography import AREA_CODES
from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Decision,
    Message,
    MessageId,
    NumberRow,
    NumberType,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Request,
    RequestId,
)
from storage.database import Database
from storage.embedded import embedded_server
from storage.journal import Journal
from storage.messages import MessageArchive

CARRIER = CarrierName("bench")
ACCOUNT = AccountId("MABENCH0000000000000")
POWERPACK = PowerpackId("0197a000-0000-7000-8000-000000000001")
POOL = PoolId("0197a000-0000-7000-8000-000000000002")
SEGMENTS_PER_S = 100_000


class Bench:
    """One lane and all it needs."""

    def __init__(self, database: Database, *, reports: bool) -> None:
        self.clock = clock = SystemClock()
        self.ids = SystemIds(clock.now_ms)
        self.dials = dials = Dials()
        self.resolver = Resolver(waiting_max=2_000_000)
        self.resolver.put_link(CARRIER, segments_per_s=SEGMENTS_PER_S, now_ms=clock.now_ms())
        self.journal = Journal(database, clock=clock.now_ms)
        self.facts = Facts(
            self.journal, clock, self.ids, render_callback=lambda *_: [], on_callbacks_committed=lambda _: None
        )
        self.attempts = Attempts(
            self.resolver, self.facts, clock=clock, chance=seeded_chance(1), metrics=dials.lanes,
            settings=LaneSettings(),
        )  # fmt: skip
        options = {"reports": reports, "report_ms_min": 100, "report_ms_max": 200}
        settings = CarrierSettings(CARRIER, "simulated", places=500, segments_per_s=SEGMENTS_PER_S, options=options)
        self.carrier = SimulatedCarrier(settings, clock=clock, answer_ms_max=5_000)
        self.lane = Lane(
            self.carrier, self.resolver, self.journal, self.facts, self.attempts, segments_per_s=SEGMENTS_PER_S,
            clock=clock, metrics=dials.lanes, settings=LaneSettings(),
        )  # fmt: skip
        self.reports = Reports(
            self.facts, MessageArchive(database), clock=clock, find=self.resolver.find,
            carrier_of=self.resolver.carrier_of, reported=self.attempts.reported, flush=self.attempts.flush,
            is_ready=lambda: self.journal.ready, counts=dials.reports,
        )  # fmt: skip
        self.facts.on_carrier_ref(self.reports.carrier_ref_known)

    def fill(self, numbers: int, messages: int) -> int:
        """Numbers all over, and messages that wait at them, committed; answers how many."""
        now_ms = self.clock.now_ms()
        codes, chance = list(AREA_CODES.items()), random.Random(1)
        self.resolver.put_powerpack(PowerpackRow(POWERPACK, ACCOUNT, POOL, "bench", created_ms=now_ms))
        for index in range(numbers):
            code, area = codes[index % len(codes)]
            number = E164(f"+1{code}{2_000_000 + index // len(codes)}")
            row = NumberRow(
                number, ACCOUNT, NumberType.LONG_CODE, area.country, CARRIER, POWERPACK, campaign_approved=True
            )
            self.resolver.put_number(row, now_ms=now_ms)
        made: list[Message] = []
        for _ in range(messages):
            recipient = E164(f"+1{chance.choice(codes)[0]}{chance.randrange(2, 10)}{chance.randrange(10**6):06d}")
            request = Request(
                RequestId(self.ids.new()), ACCOUNT, POWERPACK, "Your table for two is ready at 19:30.", 1,
                accepted_ms=now_ms,
            )  # fmt: skip
            decided = self.resolver.decide(request, recipient, now_ms=now_ms, chance=chance.random())
            if isinstance(decided, Decision):
                made.append(self.resolver.apply(request, recipient, decided, MessageId(self.ids.new()), now_ms=now_ms))
        self.resolver.commit(made)
        return len(made)


async def measure(arguments: argparse.Namespace) -> None:
    data = Path(tempfile.mkdtemp(prefix="sp-bench-"))
    try:
        async with embedded_server(data) as server:
            database = await Database.open(server.url)
            await database.migrate()
            now_ms = time.time_ns() // 1_000_000
            await database.make_partitions(now_ms=now_ms)
            await database.take_over(owner="bench", now_ms=now_ms, force=True)
            bench = Bench(database, reports=arguments.reports)
            made = bench.fill(arguments.numbers, arguments.messages)
            gc.collect()  # as the gateway does once it has started
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            async with bench.journal:
                await run(bench, made, arguments)
            await database.close()
    finally:
        shutil.rmtree(data, ignore_errors=True)


async def run(bench: Bench, made: int, arguments: argparse.Namespace) -> None:
    await bench.carrier.start(bench.reports.taker(CARRIER), lambda _: None)
    profile = cProfile.Profile() if arguments.profile else None
    if profile is not None:
        profile.enable()
    began, cpu = time.perf_counter(), time.process_time()
    lane = asyncio.create_task(bench.lane.run())
    while bench.resolver.waiting or bench.lane.held or (arguments.reports and len(bench.facts.awaiting)):
        await asyncio.sleep(0.02)
    bench.attempts.flush()
    await bench.facts.drain(ms_max=5_000)
    cpu, took = time.process_time() - cpu, time.perf_counter() - began
    if profile is not None:
        profile.disable()
        profile.dump_stats(arguments.profile)
    await bench.lane.drain(ms_max=1_000)
    await lane
    await bench.carrier.stop()
    what = "with its report" if arguments.reports else "without reports"
    cost_us = cpu * 1e6 / made
    print(f"lane, {what}: {cost_us:.1f} µs CPU a message, {made / took:.0f}/s ({made} messages)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--numbers", type=int, default=20_000)
    parser.add_argument("--reports", action="store_true")
    parser.add_argument("--profile", default="")
    arguments = parser.parse_args()
    print(f"program: {program()}", flush=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    uvloop.run(measure(arguments))


if __name__ == "__main__":
    main()
