from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.carriers.carrier import (
    BAD_ROUTE,
    BUSY,
    FAILING,
    FAILURES,
    GARBLED,
    SPAM,
    THROTTLED,
    TIMED_OUT,
    UNREACHABLE,
    Failure,
)
from gateway.pace import (
    BURST_MS,
    LONG_AWAY_MS,
    PAUSE_MS_DEFAULT,
    PAUSE_MS_MAX,
    PAUSE_MS_MIN,
    PROBE_MS_FIRST,
    PROBE_MS_MAX,
    STEP_MS,
    Pace,
)

RATE = 1_000


class World:
    """A pace, what it told, and a clock."""

    def __init__(self, rate: int = RATE) -> None:
        self.now = 1_000_000
        self.rates: list[int] = []
        self.ups: list[bool] = []
        self.pace = Pace(rate, set_rate=self.rates.append, set_up=self.ups.append)

    def places(self, free: int = 10) -> int:
        return self.pace.places(free, now_ms=self.now)

    def fail(self, failure: Failure, *, departed_ms: int | None = None, retry_after_ms: int | None = None) -> None:
        self.pace.failed(
            failure,
            departed_ms=self.now if departed_ms is None else departed_ms,
            retry_after_ms=retry_after_ms,
            now_ms=self.now,
        )

    def answer(self) -> None:
        self.pace.answered(self.now)

    def probe(self, failure: Failure | None) -> None:
        """One message tries the link, and comes to this."""
        assert self.places() == 1
        self.pace.begin_probe()
        assert self.places() == 0
        if failure is None:
            self.answer()
        else:
            self.pace.failed(failure, departed_ms=self.now, retry_after_ms=None, now_ms=self.now, is_probe=True)
        self.pace.end_probe(self.now)

    def take_down(self) -> None:
        for _ in range(3):
            self.fail(UNREACHABLE)
        assert self.pace.is_down


def test_a_link_that_stands_fills_all_places() -> None:
    world = World()
    assert world.places(7) == 7
    assert world.pace.is_open(world.now)


# --- The rate within the second ---------------------------------------------------------------------------------------


def test_a_backlog_is_released_evenly_and_not_in_one_burst() -> None:
    world = World(rate=200)
    released = []
    for _ in range(300):
        places = world.places(free=10_000)
        world.pace.spend(places)
        released.append(places)
        world.now += 10
    assert released[0] == 200 * BURST_MS // 1_000
    assert set(released[1:]) == {2}


def test_what_was_not_used_is_made_up_for_a_moment_only() -> None:
    world = World(rate=200)
    world.now += 3_600_000
    assert world.places(free=10_000) == 200 * BURST_MS // 1_000


def test_a_text_of_many_segments_is_paid_for_afterwards() -> None:
    world = World(rate=10)
    assert world.places() == 2
    world.pace.spend(7)
    instants = []
    for _ in range(200):
        world.now += 10
        if world.places():
            instants.append(world.now - 1_000_000)
            world.pace.spend(1)
    assert instants[0] == 600
    assert {b - a for a, b in pairwise(instants)} == {100}


# --- Throttling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_after_ms", "pause_ms"),
    [(None, PAUSE_MS_DEFAULT), (2_500, 2_500), (0, PAUSE_MS_MIN), (3_600_000, PAUSE_MS_MAX)],
)
def test_throttling_pauses_the_lane_as_long_as_the_carrier_says_within_bounds(
    retry_after_ms: int | None, pause_ms: int
) -> None:
    world = World()
    world.fail(THROTTLED, retry_after_ms=retry_after_ms)
    assert world.places() == 0
    assert world.pace.next_ms(world.now) == world.now + pause_ms
    world.now += pause_ms - 1
    assert world.places() == 0
    assert not world.pace.is_open(world.now)
    world.now += 1
    assert world.places() == 10
    assert world.ups == [], "a link that throttles stands"


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    world = World()
    world.fail(THROTTLED, retry_after_ms=10_000)
    world.fail(THROTTLED, retry_after_ms=1_000)
    world.now += 9_999
    assert world.places() == 0


def test_a_crowd_of_throttled_messages_halves_the_rate_once() -> None:
    world = World()
    departed_ms = world.now
    world.now += 50
    for _ in range(20):
        world.fail(THROTTLED, departed_ms=departed_ms)
    assert world.rates == [RATE // 2]
    world.now += PAUSE_MS_DEFAULT
    world.fail(THROTTLED)
    assert world.rates == [RATE // 2, RATE // 4]


def test_the_rate_never_falls_to_nothing() -> None:
    world = World(rate=3)
    for _ in range(10):
        world.now += 10_000
        world.fail(THROTTLED)
    assert world.rates == [1]


def test_a_lowered_rate_grows_back_step_by_step_to_what_was_agreed() -> None:
    world = World()
    world.fail(THROTTLED)
    began_ms = world.now
    grown: list[tuple[int, int]] = []
    for _ in range(1_000):
        world.now += 10
        world.pace.tick(world.now)
        if len(world.rates) > 1 + len(grown):
            grown.append((world.now - began_ms, world.rates[-1]))
    assert [rate for _, rate in grown] == [600, 700, 800, 900, 1_000]
    assert [ms for ms, _ in grown] == [PAUSE_MS_DEFAULT + STEP_MS * step for step in range(5)]


# --- A link that is down ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [each for each in FAILURES.values() if each.link_after], ids=lambda each: each.code)
def test_a_link_is_down_after_so_many_failures_in_a_row(failure: Failure) -> None:
    world = World()
    for _ in range(failure.link_after - 1):
        world.fail(failure)
    world.answer()
    for _ in range(failure.link_after - 1):
        world.fail(failure)
    assert not world.pace.is_down
    world.fail(failure)
    assert world.pace.is_down
    assert world.ups == [False]
    assert not world.pace.is_open(world.now)


def test_failures_of_different_kinds_add_up() -> None:
    world = World()
    for failure in (UNREACHABLE, BUSY, TIMED_OUT):
        assert not world.pace.is_down
        world.fail(failure)
    assert world.pace.is_down


@pytest.mark.parametrize("failure", [SPAM, THROTTLED])
def test_a_refusal_shows_that_the_link_stands(failure: Failure) -> None:
    world = World()
    world.fail(UNREACHABLE)
    world.fail(UNREACHABLE)
    world.fail(failure)
    world.fail(UNREACHABLE)
    assert not world.pace.is_down


def test_an_answer_that_means_nothing_says_nothing_about_the_link() -> None:
    world = World()
    for failure in (UNREACHABLE, UNREACHABLE, GARBLED, GARBLED, GARBLED):
        world.fail(failure)
        assert not world.pace.is_down
    world.fail(UNREACHABLE)
    assert world.pace.is_down


def test_one_message_at_a_time_tries_a_link_that_is_down_with_growing_delays() -> None:
    world = World()
    world.take_down()
    delays, last_ms = [], world.now
    for _ in range(8):
        while not world.places():
            world.now += 1
        delays.append(world.now - last_ms)
        world.probe(UNREACHABLE)
        last_ms = world.now
    assert delays == [PROBE_MS_FIRST, 500, 1_000, 2_000, 4_000, PROBE_MS_MAX, PROBE_MS_MAX, PROBE_MS_MAX]
    assert world.ups == [False]


def test_failures_of_messages_that_were_on_their_way_do_not_lengthen_the_delay() -> None:
    world = World()
    world.take_down()
    for _ in range(50):
        world.fail(UNREACHABLE)
    assert world.pace.next_ms(world.now) == world.now + PROBE_MS_FIRST


def test_a_probe_that_never_left_lets_the_next_one_try() -> None:
    world = World()
    world.take_down()
    world.now += PROBE_MS_FIRST
    world.pace.begin_probe()
    assert world.pace.next_ms(world.now) is None
    world.now += 30
    world.pace.end_probe(world.now)
    assert world.pace.next_ms(world.now) == world.now + PROBE_MS_FIRST


def test_the_first_answer_brings_a_link_back() -> None:
    world = World()
    world.take_down()
    world.now += PROBE_MS_FIRST
    world.probe(None)
    assert world.ups == [False, True]
    assert world.places() == 10
    assert world.rates == [], "it was away for a moment only"


def test_after_a_long_time_away_it_starts_with_a_quarter_of_its_rate() -> None:
    world = World()
    world.take_down()
    world.now += LONG_AWAY_MS
    world.probe(None)
    assert world.rates == [RATE // 4]
    for _ in range(20):
        world.now += STEP_MS
        world.pace.tick(world.now)
    assert world.rates[-1] == RATE
    assert world.rates == sorted(world.rates)


def test_a_link_nothing_waits_for_is_offered_again_and_withdrawn_when_its_probe_fails() -> None:
    world = World()
    world.take_down()
    world.now += PROBE_MS_FIRST
    world.pace.find_nothing_to_probe()
    world.pace.find_nothing_to_probe()
    assert world.ups == [False, True]
    world.probe(UNREACHABLE)
    assert world.ups == [False, True, False]
    world.now += 500
    world.pace.find_nothing_to_probe()
    world.probe(None)
    assert world.ups == [False, True, False, True]


def test_what_the_carrier_says_of_its_link_counts() -> None:
    world = World()
    world.pace.hear(False, world.now)
    assert world.ups == [False]
    world.now += 3_600_000
    assert world.places() == 0, "it knows best: nothing is tried"
    assert world.pace.next_ms(world.now) is None
    world.answer()
    assert world.places() == 0
    world.pace.hear(True, world.now)
    assert world.ups == [False, True]
    assert world.places() > 0


def test_a_route_that_is_not_set_up_stops_the_lane_at_once() -> None:
    world = World()
    world.fail(BAD_ROUTE)
    assert world.places() == 0
    assert FAILING.link_after > BAD_ROUTE.link_after == 1
