"""decide + apply per message, sticky on, in pools of 10², 10⁴ and 10⁶ numbers with an approved campaign.

    python -m benchmarks.decide [--sizes 100,10000,1000000] [--plain]

Traffic is spread over the area codes of the pool as its numbers are, half of it to recipients written to before; what
is decided leaves as the windows allow, so the pool is neither idle nor drowned. Time is virtual, 2,000 messages a
second of it (50 for 10² numbers, which can send 100). Blocks of the sizes are interleaved; medians are told. Measured
in this thread's CPU time, so a busy neighbour costs little. Goal: ≤ 8 µs at 10⁴, and at 10⁶ at most twice that.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from dataclasses import dataclass, field

from uuid_utils import uuid7

from gateway.compiled import program
from resolver.core import Resolver, Verdict
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

CARRIER, ACCOUNT, POWERPACK = CarrierName("bench"), AccountId("MABENCH"), PowerpackId("bench")
BLOCK = 2_000
BLOCKS = 25
START_MS = 1_800_000_000_000


@dataclass
class World:
    """One pool, its virtual clock and its traffic."""

    size: int
    resolver: Resolver = field(default_factory=lambda: Resolver(threads_max=2_000_000, waiting_max=10_000_000))
    now_ms: int = START_MS
    random: random.Random = field(default_factory=lambda: random.Random(7))
    known: list[E164] = field(default_factory=list)
    spent_us: list[float] = field(default_factory=list)

    def build(self) -> None:
        resolver = self.resolver
        resolver.put_link(CARRIER, segments_per_s=100_000, now_ms=self.now_ms)
        resolver.put_powerpack(PowerpackRow(POWERPACK, ACCOUNT, PoolId("pool"), "bench"))
        codes = list(AREA_CODES)
        for index in range(self.size):
            code = codes[index % len(codes)]
            number = E164(f"+1{code}{2_000_000 + index // len(codes)}")
            country = AREA_CODES[code].country
            row = NumberRow(number, ACCOUNT, NumberType.LONG_CODE, country, CARRIER, POWERPACK, campaign_approved=True)
            resolver.put_number(row, now_ms=self.now_ms)

    def recipients(self, count: int) -> list[E164]:
        codes = list(AREA_CODES)[: self.size]
        found: list[E164] = []
        for _ in range(count):
            if self.known and self.random.random() < 0.5:
                found.append(self.random.choice(self.known))
            else:
                found.append(E164(f"+1{self.random.choice(codes)}555{self.random.randrange(10_000):04d}"))
        self.known = (self.known + found)[-50_000:]
        return found

    def block(self) -> None:
        """Decide and apply `BLOCK` messages, then let leave what may; only the first is timed."""
        resolver, request = self.resolver, Request(RequestId("r"), ACCOUNT, POWERPACK, "Your table is ready.", 1)
        per_ms = 2.0 if self.size > 1_000 else 0.05
        step = 50
        spent_ns = 0
        for _ in range(BLOCK // step):
            recipients = self.recipients(step)
            ids = [MessageId(str(uuid7())) for _ in range(step)]
            chances = [self.random.random() for _ in range(step)]
            now_ms, made = self.now_ms, []
            began_ns = time.thread_time_ns()
            for recipient, message_id, chance in zip(recipients, ids, chances, strict=True):
                decision = resolver.decide(request, recipient, now_ms=now_ms, chance=chance)
                if isinstance(decision, Decision):
                    made.append(resolver.apply(request, recipient, decision, message_id, now_ms=now_ms))
            spent_ns += time.thread_time_ns() - began_ns
            assert len(made) == step, "every message of this traffic gets a number"
            resolver.commit(made)
            self.now_ms += int(step / per_ms)
            self.leave()
        self.spent_us.append(spent_ns / BLOCK / 1_000)

    def leave(self) -> None:
        released: list[Message] = self.resolver.release(
            CARRIER, now_ms=self.now_ms, until_ms=self.now_ms, places=10_000
        )
        for message in released:
            if self.resolver.depart(message, now_ms=self.now_ms).verdict is Verdict.GO:
                self.resolver.settle_sent(message, now_ms=self.now_ms)
            else:
                self.resolver.take_back(message, now_ms=self.now_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--sizes", default="100,10000,1000000")
    sizes = [int(size) for size in parser.parse_args().sizes.split(",")]
    print(f"program: {program()}")
    worlds = [World(size) for size in sizes]
    for world in worlds:
        began = time.perf_counter()
        world.build()
        print(f"{world.size:>9,} numbers loaded in {time.perf_counter() - began:.2f} s", flush=True)
    gc.collect()
    gc.freeze()  # as the gateway does after its start
    gc.set_threshold(50_000, 20, 50)
    for number in range(BLOCKS + 2):
        for world in worlds:
            world.block()
            if number < 2:
                world.spent_us.clear()  # warming up
    medians = {world.size: statistics.median(world.spent_us) for world in worlds}
    for world in worlds:
        figures = f"median {medians[world.size]:5.2f} µs, worst block {max(world.spent_us):5.2f} µs"
        print(f"decide + apply, {world.size:>9,} numbers: {figures}")
    if 10_000 in medians and 1_000_000 in medians:
        print(f"10⁶ : 10⁴ = {medians[1_000_000] / medians[10_000]:.2f} (goal ≤ 2), 10⁴ ≤ 8 µs: {medians[10_000] <= 8}")


if __name__ == "__main__":
    main()
