"""Anything at random: whatever happens, the law holds at each hand-over and every message ends exactly once."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from resolver.model import NO_POWERPACK, CarrierName, NumberState, Pause, Phase, Priority, Service
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    SAN_FRANCISCO,
    TORONTO,
    limits,
    long_code,
    powerpack,
    recipient,
    request,
    short_code,
    toll_free,
)
from tests.unit.resolver.laws import check_counts
from tests.unit.resolver.twins import EFFORT
from tests.unit.resolver.worlds import World

OTHER = CarrierName("other")

ROWS = (
    long_code(SAN_FRANCISCO),
    long_code(SAN_FRANCISCO, 1, limits=limits(2, 1_000, recommended=4)),
    long_code(LOS_ANGELES, limits=limits(1, 1_000, recommended=3, day=6)),
    long_code(TORONTO, limits=limits(5, 20_000, recommended=10), carrier=OTHER),
    toll_free(carrier=OTHER),
    short_code(limits=limits(7, 1_000)),
)
RECIPIENTS = [recipient(code, line) for code in (SAN_FRANCISCO, TORONTO) for line in range(4)]
REQUESTS = [
    request(segments, priority=priority, patience_ms=patience_ms, validity_ms=validity_ms)
    for segments in (1, 1, 2, 4, 9)
    for priority in Priority
    for patience_ms, validity_ms in ((None, 10_800_000), (2_000, 60_000), (0, 3_000))
]


REQUESTS += [
    replace(REQUESTS[place], powerpack_id=NO_POWERPACK, source=row.number)
    for row, place in zip(ROWS * 2, (0, 2, 3, 5, 8, 12, 14, 17, 18, 20, 23, 29), strict=True)
]


class Driver:
    """Does one thing after another to a world."""

    def __init__(self, random: Random) -> None:
        self.random = random
        count = random.randint(1, len(ROWS))
        self.world = World(
            random.sample(ROWS, count),
            random=random,
            rates={CARRIER: random.choice([2, 5, 100]), OTHER: random.choice([3, 100])},
            powerpack=powerpack(
                sticky_sender=random.random() < 0.7,
                local_connect=random.random() < 0.8,
                sticky_wait_ms=random.choice([0, 2_000, 60_000]),
            ),
        )
        self.acts = [
            *[self.accept] * 8, *[self.commit] * 4, *[self.lane] * 8, *[self.depart] * 8, *[self.answer] * 8,
            *[self.wait] * 10, self.stall, self.cancel, self.cancel_many, self.expire, self.unknown, self.report,
            self.rate, self.up_or_down, self.edit, self.drop_or_add, self.rebind, self.rebind, self.restart,
            self.pause, self.resume,
        ]  # fmt: skip

    def step(self) -> None:
        self.random.choice(self.acts)()
        check_counts(self.world.resolver)

    def accept(self) -> None:
        random = self.random
        for _ in range(random.choice([1, 1, 2, 5, 20])):
            own = random.choice(["", "", "", "stored", "failed"])
            self.world.accept(random.choice(REQUESTS), random.choice(RECIPIENTS), claim_own=own)

    def commit(self) -> None:
        if self.random.random() < 0.2:
            self.world.fail_commit()
        else:
            self.world.commit()

    def lane(self) -> None:
        places = self.random.choice([1, 3, 50])
        claim = self.random.random() < 0.9
        lead_ms = self.random.choice([0, 100, 1_000])
        self.world.release(self.random.choice([CARRIER, OTHER]), places=places, lead_ms=lead_ms, claim=claim)

    def depart(self) -> None:
        self.world.depart(late_ms=self.random.choice([0, 0, 30]))

    def answer(self) -> None:
        for message in list(self.world.away):
            outcome = self.random.choice(["sent"] * 6 + ["returned", "returned charged", "unknown", "rejected"])
            self.world.answer(message, outcome, retry_ms=self.random.choice([0, 500, 30_000]))

    def wait(self) -> None:
        self.world.now_ms += self.random.choice([1, 20, 100, 300, 1_020, 3_000])

    def stall(self) -> None:
        self.world.now_ms += self.random.choice([10_000, 600_000, 90_000_000])

    def cancel(self) -> None:
        found = list(self.world.resolver.open.values())
        if found:
            self.world.cancel(self.random.choice(found))

    def cancel_many(self) -> None:
        for message in list(self.world.resolver.open.values()):
            if self.random.random() < 0.8:
                self.world.cancel(message)

    def expire(self) -> None:
        self.world.expire()

    def unknown(self) -> None:
        for message in list(self.world.unknown):
            self.world.resolve_unknown(message, resend=self.random.random() < 0.7)

    def report(self) -> None:
        """A report tells of something that waits for another attempt."""
        world = self.world
        for message in list(world.resolver.open.values()):
            if message.phase is not Phase.DEPARTED and message.committed and self.random.random() < 0.2:
                if message in world.unknown:
                    world.unknown.remove(message)
                world.report(message)

    def rate(self) -> None:
        self.world.set_rate(self.random.choice([CARRIER, OTHER]), self.random.choice([1, 2, 5, 50]))

    def up_or_down(self) -> None:
        self.world.set_up(self.random.choice([CARRIER, OTHER]), self.random.random() < 0.6)

    def edit(self) -> None:
        random = self.random
        row = random.choice(list(self.world.rows.values()) or [ROWS[0]])
        changed = random.choice([
            replace(row, limits=limits(random.choice([1, 3, 20]), random.choice([1_000, 20_000]), day=None)),
            replace(row, limits=limits(random.choice([1, 3, 20]), random.choice([1_000, 20_000]), day=5)),
            replace(row, state=random.choice(list(NumberState))),
            replace(row, carrier=random.choice([CARRIER, OTHER])),
            replace(row, services=frozenset(random.sample(list(Service), random.randint(1, 2)))),
            replace(row, powerpack_id=None),
            next(each for each in ROWS if each.number == row.number),
        ])  # fmt: skip
        self.world.put_number(changed)

    def drop_or_add(self) -> None:
        row = self.random.choice(ROWS)
        if row.number in self.world.rows:
            self.world.drop_number(row.number)
        else:
            self.world.put_number(row)

    def rebind(self) -> None:
        self.world.rebind(most=self.random.choice([1, 5, 100]))

    def pause(self) -> None:
        self.world.set_pause(self.random.choice([Pause.WAIT, Pause.WAIT, Pause.REFUSE]))

    def resume(self) -> None:
        self.world.set_pause(Pause.NONE)

    def restart(self) -> None:
        if self.random.random() < 0.3:
            self.world.restart()


@settings(max_examples=150 * EFFORT, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 150))
@example(33_972, 77)  # joins a retry's line while its powerpack is paused, which is then resumed
@example(33_972, 79)  # … and the retry is cancelled
def test_the_law_holds_and_every_message_ends_exactly_once_whatever_happens(seed, steps):
    driver = Driver(Random(seed))
    for _ in range(steps):
        driver.step()
    world = driver.world
    world.drain()
    check_counts(world.resolver)
    assert not world.resolver.open
    assert all(stored.fate for stored in world.stored.values())
    for number in world.resolver.numbers.values():
        assert not number.messages
        assert not number.segments
        assert number.head() is None
    for link in world.resolver.links.values():
        assert (link.booked_segments, link.released_segments) == (0, 0)
