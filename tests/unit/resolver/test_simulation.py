"""A plan on a copy: what is told is what would happen, and the powerpack itself sees nothing of it."""

from __future__ import annotations

import gc
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core import Resolver
from resolver.model import E164, Message, Pause, Refusal, RefusalCode, StickyAtLimit, Tier
from resolver.queues import Number
from resolver.simulation import Arrival, Course, Simulation, copy_into, dissolve
from tests.unit.resolver.floor import (
    LOS_ANGELES,
    NEW_YORK,
    NOW_MS,
    POWERPACK,
    SAN_FRANCISCO,
    accept,
    build,
    decide,
    limits,
    long_code,
    powerpack,
    recipient,
    request,
    toll_free,
)
from tests.unit.resolver.laws import check_counts

SECOND_MS = 1_020  # with what is added against clock skew


def copied(live: Resolver, *recipients: str) -> Resolver:
    copy = Resolver()
    for _ in copy_into(copy, live, POWERPACK, map(E164, recipients), now_ms=NOW_MS):
        pass
    return copy


def run(copy: Resolver, plan: list[Arrival], **asked: object) -> Course:
    simulation = Simulation(copy, request(**asked), plan, now_ms=NOW_MS, draw=random.Random(1).random)  # type: ignore[arg-type]
    while simulation.run(50):
        pass
    return simulation.course


def at_once(count: int, area_code: str = SAN_FRANCISCO) -> list[Arrival]:
    return [Arrival(NOW_MS, recipient(area_code, line)) for line in range(count)]


def test_a_burst_leaves_as_fast_as_its_numbers_may() -> None:
    live = build([long_code(line=line) for line in range(2)])
    course = run(copied(live), at_once(20))
    assert (course.arrived, course.tiers, course.types) == (20, {"area": 20}, {"longcode": 20})
    assert (course.first_ms, course.last_ms) == (NOW_MS, NOW_MS + 9 * SECOND_MS)
    assert sorted(course.messages.values()) == [10, 10]
    assert sorted(course.waits_ms) == sorted(2 * [place * SECOND_MS for place in range(10)])
    assert course.windows == {"number_rate": 18}


def test_what_was_used_and_what_waits_comes_first() -> None:
    live = build([long_code()])
    for line in range(30, 35):
        accept(live, recipient(line=line))
    course = run(copied(live), at_once(1))
    assert (course.arrived, course.waits_ms) == (1, [5 * SECOND_MS])


def test_refusals_are_counted_by_their_code() -> None:
    live = build([long_code(limits=limits(1, 1_000, day=3))], sticky_sender=False)
    course = run(copied(live), at_once(5), validity_ms=60_000)
    assert (course.refused, course.messages.total()) == ({RefusalCode.NO_CAPACITY: 2}, 3)
    course = run(copied(build([])), at_once(2))
    assert course.refused == {RefusalCode.NO_NUMBER: 2}


def test_threads_of_those_who_are_named_count() -> None:
    live = build([long_code(), long_code(LOS_ANGELES)])
    live.pools[POWERPACK].threads.point(
        recipient(SAN_FRANCISCO, 1), long_code(LOS_ANGELES).number, now_ms=NOW_MS, life_ms=10**9
    )
    course = run(copied(live, recipient(SAN_FRANCISCO, 1)), at_once(2))
    assert course.tiers == {Tier.AREA: 1, Tier.STICKY: 1}


@pytest.mark.parametrize("pause", [Pause.WAIT, Pause.REFUSE])
def test_a_paused_powerpack_is_tried_as_if_it_were_not(pause: Pause) -> None:
    live = build([long_code()])
    live.put_powerpack(powerpack(pause=pause))
    assert run(copied(live), at_once(1)).messages.total() == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from((SAN_FRANCISCO, LOS_ANGELES, NEW_YORK)), max_size=5),
    st.booleans(),
    st.lists(
        st.tuples(st.integers(0, 60_000), st.sampled_from((SAN_FRANCISCO, NEW_YORK)), st.integers(0, 5)), max_size=40
    ),
    st.integers(0, 10),
    st.sampled_from(StickyAtLimit),
)
def test_the_living_powerpack_sees_nothing_and_every_message_has_an_end(
    areas: list[str], tolls: bool, arrivals: list[tuple[int, str, int]], waiting: int, policy: StickyAtLimit
) -> None:
    rows = [long_code(area, line) for line, area in enumerate(areas)] + ([toll_free()] if tolls else [])
    live = build(rows, segments_per_s=5, sticky_at_limit=policy)
    for line in range(waiting if rows else 0):
        accept(live, recipient(line=line))
    before = [_gist(live, area) for area in (SAN_FRANCISCO, NEW_YORK)]
    counts = {number.number: (number.messages, number.rate.times[:]) for number in live.numbers.values()}
    plan = sorted(Arrival(NOW_MS + at, recipient(area, line)) for at, area, line in arrivals)
    copy = copied(live, *(each.recipient for each in plan))
    check_counts(copy)
    course = run(copy, plan)
    check_counts(copy)
    assert course.arrived == len(plan)
    assert course.messages.total() + course.refused.total() + course.expired == len(plan)
    assert course.tiers.total() + course.refused.total() == len(plan)
    assert not copy.open
    check_counts(live)
    assert [_gist(live, area) for area in (SAN_FRANCISCO, NEW_YORK)] == before
    assert {number.number: (number.messages, number.rate.times[:]) for number in live.numbers.values()} == counts


def test_a_copy_that_was_dissolved_leaves_nothing_behind() -> None:
    live = build([long_code(line=line) for line in range(20)])
    for line in range(50):
        accept(live, recipient(line=line))
    gc.collect()
    gc.disable()
    try:
        there_are = _living()
        copy = copied(live, *(recipient(line=line) for line in range(10)))
        simulation = Simulation(copy, request(), at_once(200), now_ms=NOW_MS, draw=lambda: 0.5)
        simulation.run(150)
        assert _living() > there_are
        dissolve(copy)
        del copy, simulation
        assert _living() == there_are
    finally:
        gc.enable()


def _gist(resolver: Resolver, area_code: str) -> object:
    """What a decision says, but for which of two that are as good."""
    found = decide(resolver, recipient(area_code, 7))
    return found.code if isinstance(found, Refusal) else (found.tier, found.forecast_ms, found.window)


def _living() -> int:
    return sum(isinstance(each, (Number, Message)) for each in gc.get_objects())
