"""The clock: never back, at the monotonic pace, anchored at the journal; ids in order; chance from a seed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.clock import NS_PER_MS, SLEW_PPM, STEP_MS_MIN, SystemClock, SystemIds, seeded_chance

START_MS = 1_800_000_000_000


class Hands:
    """Both clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.wall_ms = float(START_MS)
        self.elapsed_ms = 5_000.0

    def wall_ns(self) -> int:
        return int(self.wall_ms * NS_PER_MS)

    def elapsed_ns(self) -> int:
        return int(self.elapsed_ms * NS_PER_MS)

    def clock(self) -> SystemClock:
        return SystemClock(wall_ns=self.wall_ns, elapsed_ns=self.elapsed_ns)

    def move(self, ms: float, *, wall_ms: float | None = None) -> None:
        """Time goes by; the wall clock with it, unless it is said to go otherwise."""
        self.elapsed_ms += ms
        self.wall_ms += ms if wall_ms is None else wall_ms


def test_it_starts_at_the_wall_clock_and_goes_on_with_it() -> None:
    hands = Hands()
    clock = hands.clock()
    assert clock.now_ms() == START_MS
    hands.move(1_234)
    assert clock.now_ms() == START_MS + 1_234


def test_durations_are_those_of_the_monotonic_clock() -> None:
    hands = Hands()
    clock = hands.clock()
    before = clock.monotonic_ms()
    hands.move(250, wall_ms=-90_000)
    assert clock.monotonic_ms() - before == 250


@pytest.mark.parametrize("step_ms", [-86_400_000, -3_600_000, -1_000, 1_000, 3_600_000, 86_400_000])
def test_a_step_of_the_wall_clock_moves_nothing_at_once(step_ms: int) -> None:
    hands = Hands()
    clock = hands.clock()
    hands.move(1_000, wall_ms=1_000 + step_ms)
    clock.look()
    assert abs(clock.now_ms() - (START_MS + 1_000)) <= 1


def test_a_step_is_alarmed_once_and_counted() -> None:
    hands = Hands()
    clock = hands.clock()
    with capture_logs() as logs:
        hands.move(1_000, wall_ms=1_000 + 3_600_000)
        clock.look()
        for _ in range(10):
            hands.move(1_000)
            clock.look()
    assert [line["event"] for line in logs] == ["the wall clock stepped"]
    assert logs[0]["by_ms"] == 3_600_000
    assert clock.steps == 1


def test_drift_is_not_alarmed_however_far_it_goes() -> None:
    hands = Hands()
    clock = hands.clock()
    with capture_logs() as logs:
        for _ in range(3_000):
            hands.move(1_000, wall_ms=1_001)  # 1,000 ppm: twice what can be slewed
            clock.look()
    assert clock.behind_ms() >= STEP_MS_MIN
    assert logs == []


@pytest.mark.parametrize("ahead_ms", [-400, -30, 30, 400])
def test_a_small_difference_is_slewed_in(ahead_ms: int) -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall_ms += ahead_ms
    seconds_needed = abs(ahead_ms) * 1_000 // SLEW_PPM
    for _ in range(seconds_needed - 10):
        hands.move(1_000)
        clock.look()
    assert abs(clock.behind_ms()) >= 4  # slowly: not before its time
    for _ in range(20):
        hands.move(1_000)
        clock.look()
    assert abs(clock.behind_ms()) <= 1
    assert abs(clock.now_ms() - hands.wall_ms) <= 1


def test_a_journal_that_is_ahead_is_where_it_goes_on() -> None:
    hands = Hands()
    clock = hands.clock()
    clock.anchor(START_MS + 7_200_000)
    assert clock.now_ms() == START_MS + 7_200_000
    hands.move(500)
    assert clock.now_ms() == START_MS + 7_200_500


def test_an_older_journal_changes_nothing() -> None:
    hands = Hands()
    clock = hands.clock()
    clock.anchor(START_MS - 1)
    clock.anchor(0)
    assert clock.now_ms() == START_MS


def test_being_ahead_by_the_anchor_is_no_step() -> None:
    hands = Hands()
    clock = hands.clock()
    with capture_logs() as logs:
        clock.anchor(START_MS + 7_200_000)
        hands.move(1_000)
        clock.look()
    assert [line["event"] for line in logs] == ["the journal is ahead of the clock"]
    assert clock.steps == 0


MOVES = st.lists(
    st.tuples(
        st.floats(0, 100_000),  # by how much time goes on
        st.floats(-200_000_000, 200_000_000),  # what the wall clock does beside
        st.booleans(),
    ),
    max_size=40,
)


@given(MOVES)
def test_it_never_goes_back_and_keeps_the_pace_whatever_the_wall_clock_does(
    moves: list[tuple[float, float, bool]],
) -> None:
    hands = Hands()
    clock = hands.clock()
    began_ms = last_ms = clock.now_ms()
    began_elapsed = hands.elapsed_ms
    for ms, wall_ms, looks in moves:
        hands.move(ms, wall_ms=wall_ms)
        if looks:
            clock.look()
        now_ms = clock.now_ms()
        assert now_ms >= last_ms
        last_ms = now_ms
        elapsed_ms = hands.elapsed_ms - began_elapsed
        assert abs(now_ms - began_ms - elapsed_ms) <= elapsed_ms * SLEW_PPM / 1_000_000 + 2


async def test_watching_looks_again_and_again() -> None:
    hands = Hands()

    async def sleep(s: float) -> None:
        hands.move(round(s * 1_000), wall_ms=round(s * 1_000) + 5_000)
        await asyncio.sleep(0)

    clock = SystemClock(wall_ns=hands.wall_ns, elapsed_ns=hands.elapsed_ns, sleep=sleep)
    watching = asyncio.create_task(clock.watch())
    with capture_logs():
        while clock.steps < 3:
            await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_sleeping_into_the_past_returns_at_once() -> None:
    await asyncio.wait_for(SystemClock().sleep_ms(-5), timeout=1)


def test_the_real_clocks_agree_with_each_other() -> None:
    clock = SystemClock()
    assert abs(clock.behind_ms()) <= 1_000
    assert clock.now_ms() > START_MS - 40 * 365 * 86_400_000


def test_ids_are_uuids_of_version_7_in_order() -> None:
    ids = SystemIds()
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert all(len(one) == 36 and one[14] == "7" for one in made)


def test_an_id_is_as_old_as_the_gateway_says_not_the_machine() -> None:
    """Partitions and recovery tell the day from the id; after a clock was set back the two differ by days."""
    now_ms = START_MS + 10 * 86_400_000
    assert int(SystemIds(lambda: now_ms).new().replace("-", "")[:12], 16) == now_ms


def test_ids_stay_in_order_when_more_come_than_a_millisecond_has_or_it_goes_back() -> None:
    times_ms = iter([START_MS] * 10_000 + [START_MS - 5] * 10 + [START_MS + 50])
    ids = SystemIds(lambda: next(times_ms))
    made = [ids.new() for _ in range(10_011)]
    assert made == sorted(set(made))
    assert int(made[-1].replace("-", "")[:12], 16) == START_MS + 50
    assert all(one[14] == "7" and one[19] in "89ab" for one in made)


def test_the_same_seed_gives_the_same_chance() -> None:
    one, same, other = seeded_chance(1), seeded_chance(1), seeded_chance(2)
    numbers = [one() for _ in range(100)]
    assert numbers == [same() for _ in range(100)]
    assert numbers != [other() for _ in range(100)]
    assert all(0 <= number < 1 for number in numbers)


def test_without_a_seed_chance_differs() -> None:
    assert seeded_chance()() != seeded_chance()()
