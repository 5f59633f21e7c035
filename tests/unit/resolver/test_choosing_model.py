"""Decisions against a twin that walks all numbers, in random pools whose past is random too."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core import Resolver, Verdict
from resolver.limits import padded_span_ms
from resolver.model import (
    E164,
    CarrierName,
    Decision,
    Message,
    NumberRow,
    NumberState,
    NumberType,
    Phase,
    Priority,
    Refusal,
    Request,
    Service,
    StickyAtLimit,
)
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    MARITIMES,
    NEW_YORK,
    NORTH,
    NOW_MS,
    PLENTY,
    SAN_FRANCISCO,
    TORONTO,
    limits,
    long_code,
    new_id,
    powerpack,
    recipient,
    request,
    short_code,
    toll_free,
)
from tests.unit.resolver.pack_twin import Expected, LinkTwin, NumberTwin, PackTwin, Waiting
from tests.unit.resolver.twins import EFFORT, WindowTwin

ROOT = Path(__file__).resolve().parents[3]
OTHER = CarrierName("other")
CODES = (SAN_FRANCISCO, LOS_ANGELES, NEW_YORK, TORONTO, MARITIMES, NORTH)
OPERATORS = ("", "", "verizon", "bell")
NUMBERS_MAX = 12  # below LOOKS_MAX and MOVES_MAX of resolver/groups.py, so the heaps must be exact


def random_row(random: Random, line: int) -> NumberRow:
    limit = random.choice([
        None, None, limits(15, 60_000), limits(1, 1_000, recommended=random.randint(1, 6)),
        limits(1, 1_000, recommended=3, day=random.randint(1, 5)), limits(4, 5_000, recommended=random.randint(2, 9)),
    ])  # fmt: skip
    fields = {
        "limits": limit,
        "carrier": random.choice([CARRIER, CARRIER, OTHER]),
        "services": frozenset(random.choice([{Service.SMS}, {Service.SMS, Service.MMS}])),
        "verified": random.random() < 0.8,
    }
    kind = random.random()
    if kind < 0.75:
        return long_code(random.choice(CODES), line, **fields)
    if kind < 0.85:
        return toll_free(line, **fields)
    return short_code(random.choice(["US", "CA"]), line, **fields)


def random_request(random: Random) -> Request:
    return request(
        random.choice([1, 1, 1, 2, 5, 17]),
        priority=random.choice(list(Priority)),
        patience_ms=random.choice([None, None, 0, 3_000, 100_000]),
        validity_ms=random.choice([10_800_000, 10_800_000, 60_000, 2_000]),
        service=random.choice([Service.SMS, Service.SMS, Service.MMS]),
    )


class Both:
    """A resolver and its twin, kept in step."""

    def __init__(self, random: Random) -> None:
        self.random, self.now_ms = random, NOW_MS
        rates = {CARRIER: random.choice([3, 50, PLENTY]), OTHER: random.choice([5, PLENTY])}
        row = powerpack(
            sticky_sender=random.random() < 0.5,
            local_connect=random.random() < 0.8,
            sticky_at_limit=random.choice(list(StickyAtLimit)),
            sticky_wait_ms=random.choice([0, 3_000, 60_000]),
            sticky_life_ms=random.choice([30_000, 86_400_000]),
            patience_ms=random.choice([2_000, 600_000]),
            operator_types=random.choice([{}, {"verizon": NumberType.LONG_CODE, "bell": NumberType.TOLL_FREE}]),
            priority=random.choice([{}, {("US", Service.SMS): (NumberType.LONG_CODE, NumberType.TOLL_FREE)}]),
        )
        self.resolver = Resolver()
        self.resolver.excluded_networks = frozenset(random.choice([(), ("bell",)]))
        for carrier, rate in rates.items():
            self.resolver.put_link(carrier, segments_per_s=rate, now_ms=self.now_ms)
        self.resolver.put_powerpack(row)
        links = {carrier: LinkTwin(WindowTwin(rate, padded_span_ms(1_000))) for carrier, rate in rates.items()}
        self.twin = PackTwin(row, links, excluded_networks=self.resolver.excluded_networks)
        self.lines = 0
        self.waits: dict[Message, Waiting] = {}
        self.released: list[Message] = []
        self.departed: list[Message] = []
        for _ in range(random.randint(0, NUMBERS_MAX)):
            self.add()
        self.acts = [
            *[self.accept] * 10, *[self.release] * 5, *[self.depart] * 5, *[self.wait] * 6, self.cancel, self.give_back,
            self.take_back, self.add, self.edit, self.drop, self.link, self.toggle, self.stall,
        ]  # fmt: skip

    # -- what happens ---------------------------------------------------------------------------------------------

    def add(self) -> None:
        if len(self.twin.numbers) < NUMBERS_MAX:
            self.lines += 1
            row = random_row(self.random, self.lines)
            self.resolver.put_number(row, now_ms=self.now_ms)
            self.twin.numbers[row.number] = NumberTwin.of(row)

    def edit(self) -> None:
        if not self.twin.numbers:
            return
        self.settle()  # what was charged under other limits, or in the same millisecond, is given back in part only
        self.now_ms += 1
        number = self.random.choice(list(self.twin.numbers.values()))
        if number.rate.charges and number.rate.charges[-1] > self.now_ms:
            return  # other limits while a long text is still being paid for: the forecast is then no more than a bound
        other = random_row(self.random, 0)
        span_ms = number.row.limits.span_ms if number.row.limits else 1_000
        row = self.random.choice([
            replace(number.row, limits=limits(self.random.randint(1, 20), span_ms)),
            replace(number.row, state=self.random.choice([NumberState.ACTIVE, NumberState.DRAINING])),
            replace(number.row, services=other.services, verified=other.verified),
        ])  # fmt: skip
        number.change(row)
        self.resolver.put_number(row, now_ms=self.now_ms)

    def drop(self) -> None:
        if not self.twin.numbers:
            return
        number = self.random.choice(list(self.twin.numbers))
        self.resolver.drop_number(number, now_ms=self.now_ms)
        del self.twin.numbers[number]
        for message in [each for each in self.waits if each.number == number]:
            if message.phase is Phase.WAITING:
                self.resolver.cancel(message, now_ms=self.now_ms)
                del self.waits[message]
        for message in [each for each in self.released if each.number == number]:
            self.resolver.settle_ended(message, now_ms=self.now_ms)
            self.released.remove(message)
            del self.waits[message]
        self.settle()

    def link(self) -> None:
        carrier = self.random.choice([CARRIER, OTHER])
        up = self.random.random() < 0.6
        self.resolver.set_link_up(carrier, up, now_ms=self.now_ms)
        link = self.twin.links[carrier]
        if up:
            link.down_since_ms = None
        elif link.down_since_ms is None:
            link.down_since_ms = self.now_ms

    def toggle(self) -> None:
        row = replace(self.twin.row, sticky_sender=self.random.random() < 0.5, local_connect=self.random.random() < 0.7)
        self.twin.row = row
        self.resolver.put_powerpack(row)

    def accept(self) -> None:
        for _ in range(self.random.choice([1, 1, 2, 8])):
            asked, to = random_request(self.random), recipient(self.random.choice(CODES), self.random.randint(0, 3))
            decided = self.compare(asked, to)
            if isinstance(decided, Decision):
                self.apply(asked, to, decided)

    def apply(self, asked: Request, to: E164, decided: Decision) -> None:
        number, at_ms = self.twin.numbers[decided.number], decided.forecast_ms
        link = self.twin.links[number.row.carrier]
        booked = sum(each.units for one in self.twin.numbers.values() if one.row.carrier == number.row.carrier
                     for each in one.waiting if each.booked)  # fmt: skip
        waits_for_link = at_ms is None or at_ms <= link.window.forecast_ms(booked, asked.segments, self.now_ms)
        message = self.resolver.apply(asked, to, decided, new_id(), now_ms=self.now_ms)
        self.resolver.commit([message])
        waiting = Waiting(asked.segments, asked.priority is Priority.URGENT, waits_for_link)
        number.waiting.append(waiting)
        self.waits[message] = waiting
        if self.twin.row.sticky_sender:
            self.twin.follow(to, decided.number, decided.tier, now_ms=self.now_ms)

    def release(self) -> None:
        carrier = self.random.choice([CARRIER, OTHER])
        taken = self.resolver.release(
            carrier,
            now_ms=self.now_ms,
            until_ms=self.now_ms + self.random.choice([0, 200]),
            places=self.random.choice([1, 9]),
        )
        for message in taken:
            self.waits[message].released = True
        self.released += taken

    def depart(self) -> None:
        for message in list(self.released):
            if message.slot_ms > self.now_ms or self.random.random() < 0.2:
                continue
            verdict = self.resolver.depart(message, now_ms=self.now_ms).verdict
            if verdict is Verdict.NOT_YET:
                continue
            self.released.remove(message)
            if verdict is Verdict.GO:
                number = self.twin.numbers[message.number]
                units = message.request.segments
                number.rate.charge(units, self.now_ms)
                number.day.charge(1, self.now_ms)
                self.twin.links[number.row.carrier].window.charge(units, self.now_ms)
                number.used_ms = self.now_ms
                self.forget(message)
                self.departed.append(message)
            elif verdict is Verdict.GIVEN_UP:
                self.resolver.take_back(message, now_ms=self.now_ms)
                self.waits[message].released = False
            else:
                self.resolver.settle_ended(message, now_ms=self.now_ms)
                self.forget(message)

    def forget(self, message: Message) -> None:
        self.twin.numbers[message.number].waiting.remove(self.waits.pop(message))

    def cancel(self) -> None:
        for message in list(self.waits):
            if message.phase is Phase.WAITING and self.random.random() < 0.5:
                assert self.resolver.cancel(message, now_ms=self.now_ms)
                self.forget(message)

    def take_back(self) -> None:
        for message in self.released:
            self.resolver.take_back(message, now_ms=self.now_ms)
            self.waits[message].released = False
        self.released = []

    def give_back(self) -> None:
        """The carrier did not take the latest one; then it is cancelled."""
        for message in self.departed[-1:]:
            units, at_ms = message.request.segments, message.slot_ms
            number = self.twin.numbers[message.number]
            for window, count in (
                (number.rate, units), (number.day, 1), (self.twin.links[number.row.carrier].window, units),
            ):  # fmt: skip
                window.give_back(window.instants(count, at_ms))
            if number.used_ms == at_ms:
                number.used_ms = max((each for each in number.rate.charges if each <= at_ms), default=0)
            self.resolver.settle_returned(message, now_ms=self.now_ms, retry_at_ms=self.now_ms + 9, charged=False)
            assert self.resolver.cancel(message, now_ms=self.now_ms)
        del self.departed[-1:]
        self.settle()

    def settle(self) -> None:
        for message in self.departed:
            self.resolver.settle_sent(message, now_ms=self.now_ms)
        self.departed = []

    def wait(self) -> None:
        self.now_ms += self.random.choice([1, 100, 1_020, 5_000])

    def stall(self) -> None:
        self.now_ms += self.random.choice([61_200, 600_000, 43_200_000, 86_400_000])

    # -- the comparison -------------------------------------------------------------------------------------------

    def compare(self, asked: Request, to: E164) -> Decision | Refusal:
        operator = self.random.choice(OPERATORS)
        chance = self.random.random()
        expected = self.twin.decide(asked, to, now_ms=self.now_ms, operator=operator)
        for _ in range(2):  # it only reads, so the second answer is as good as the first
            found = self.resolver.decide(asked, to, now_ms=self.now_ms, chance=chance, operator=operator)
            self.check(found, expected)
        return found

    def check(self, found: Decision | Refusal, expected: Expected) -> None:
        if isinstance(found, Refusal):
            assert (found.code, found.retry_at_ms) == (expected.refusal, expected.retry_at_ms), found
        else:
            assert expected.refusal is None, (found, expected)
            assert (found.tier, found.forecast_ms) == (expected.tier, expected.forecast_ms), (found, expected)
            assert found.number in expected.numbers, (found, expected)

    def step(self) -> None:
        self.random.choice(self.acts)()
        self.compare(random_request(self.random), recipient(self.random.choice(CODES), self.random.randint(0, 3)))


@settings(max_examples=100 * EFFORT, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 80))
def test_it_decides_as_a_twin_that_walks_all_numbers(seed, steps):
    both = Both(Random(seed))
    for _ in range(steps):
        both.step()


STORY = """
import sys
from random import Random
from tests.unit.resolver.test_choosing_model import Both
both = Both(Random(int(sys.argv[1])))
found = []
check = both.check
both.check = lambda answer, expected: found.append(answer)
for _ in range(60):
    both.step()
print([tuple(map(str, each)) for each in found])
"""


def test_same_inputs_clock_and_chances_give_the_same_choices_in_any_process():
    stories = [
        subprocess.run(
            [sys.executable, "-c", STORY, "5"],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True, timeout=60,
        ).stdout
        for seed in ("0", "1", "4711")
    ]  # fmt: skip
    assert len(stories[0]) > 10_000
    assert stories[0] == stories[1] == stories[2]
