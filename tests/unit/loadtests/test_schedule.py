"""Intended starts, and how late the generator was, by a clock that is moved by hand."""

from __future__ import annotations

import itertools

import pytest

from loadtests.schedule import NS_PER_S, Schedule, even_starts, random_starts

MS = 1_000_000


def test_even_starts_are_one_period_apart() -> None:
    starts = list(even_starts(2_000, 1.5))
    assert len(starts) == 3_000
    assert starts[:3] == [0, 500_000, 1_000_000]
    assert starts[-1] == 1_499_500_000


def test_a_period_that_is_no_whole_number_does_not_drift() -> None:
    assert list(even_starts(3, 1_000))[2_997] == 999 * NS_PER_S


def test_random_starts_keep_the_rate_and_are_the_same_for_a_seed() -> None:
    starts = list(random_starts(1_000, 20, seed=7))
    assert starts == list(random_starts(1_000, 20, seed=7))
    assert starts != list(random_starts(1_000, 20, seed=8))
    assert starts == sorted(starts)
    assert starts[-1] < 20 * NS_PER_S
    assert len(starts) == pytest.approx(20_000, rel=0.03)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert sum(gap > 1 * MS for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02), "exponential gaps"


def test_what_is_due_is_given_once_with_its_own_instant() -> None:
    schedule = Schedule([0, 1 * MS, 2 * MS, 10 * MS])
    assert schedule.take(-1) == []
    assert schedule.take(0) == [0]
    assert schedule.take(2 * MS) == [1 * MS, 2 * MS]
    assert schedule.take(2 * MS) == []
    assert schedule.take(25 * MS) == [10 * MS]
    assert schedule.take(99 * MS) == []


def test_lateness_is_from_the_instant_to_the_asking() -> None:
    schedule = Schedule([0, 1 * MS, 2 * MS])
    schedule.take(0)
    schedule.take(8 * MS)  # the process did not get its turn for 8 ms
    assert list(schedule.late_ns) == [0, 7 * MS, 6 * MS]


def test_how_long_to_wait() -> None:
    schedule = Schedule([500 * MS])
    assert schedule.wait_s(0) == 0.5
    assert schedule.wait_s(700 * MS) == 0
    schedule.take(700 * MS)
    assert schedule.wait_s(800 * MS) is None
    assert Schedule([]).wait_s(0) is None
