"""The arithmetic of a run."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.figures import BOUNDS_MS, Answered, conclude, histogram, late_share, percentile, percentiles, slices

MS, S = 1_000_000, 1_000_000_000


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([], 0.5, 0.0),
        ([7], 0.001, 7),
        ([7], 1.0, 7),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2, 3, 4], 0.51, 3),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 0.9, 90),
        (range(1, 1001), 0.999, 999),
        (range(1, 1001), 1.0, 1000),
        (range(1, 21), 0.55, 11),  # 0.55 × 20 is 11.000000000000002 in binary
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[int], share: float, found: float) -> None:
    assert percentile(list(values), share) == found


@given(st.lists(st.integers(0, 10**12), min_size=1), st.sampled_from([0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_a_value_that_its_share_does_not_exceed(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def test_percentiles_are_in_milliseconds() -> None:
    assert percentiles([place * MS for place in range(1, 1_001)]) == {
        "p50": 500.0, "p90": 900.0, "p99": 990.0, "p99.9": 999.0, "max": 1_000.0,
    }  # fmt: skip


@given(st.lists(st.integers(0, 60 * S)))
def test_a_histogram_counts_everything_once_where_it_belongs(values: list[int]) -> None:
    counts = histogram(values)
    assert sum(counts) == len(values)
    assert Counter(bisect_left(BOUNDS_MS, value / MS) for value in values) == Counter(
        {place: count for place, count in enumerate(counts) if count}
    )


def test_late_starts_are_those_over_five_milliseconds() -> None:
    assert late_share([]) == 0.0
    assert late_share([0, 5 * MS, 5 * MS + 1, 900 * MS]) == 0.5


def test_seconds_are_by_intended_start() -> None:
    answered = [Answered(0, 2 * MS), Answered(S - 1, 3 * S), Answered(2 * S, 5 * MS)]
    found = slices(answered)
    assert [(each.second, each.answered, each.max_ms) for each in found] == [(0, 2, 3_000.0), (2, 1, 5.0)]


def test_a_run_is_concluded() -> None:
    answered = [Answered(place * 10 * MS, (1 + place % 10) * MS) for place in range(100)]
    figures = conclude(
        answered, Counter({"503 overloaded": 3}), Counter({"202": 100, "503": 3}), mode="single",
        messages_per_request=1, rate_per_s=100, seconds=1.0, late_ns=[0] * 101 + [6 * MS, 9 * MS], queued=4,
        connections=8,
    )  # fmt: skip
    assert (figures.intended, figures.good, figures.queued) == (103, 100, 4)
    assert figures.latency_ms["p50"] == 5.0
    assert figures.latency_ms["p50"] == statistics.median_low([each.latency_ns for each in answered]) / MS
    assert figures.achieved_per_s == 100.0
    assert figures.own_lateness_ms["max"] == 9.0
    assert figures.late_share == round(2 / 103, 5)
    assert figures.is_own_fault
    assert figures.faults == {"503 overloaded": 3}


def test_a_run_whose_answers_come_late_was_slower_than_intended() -> None:
    answered = [Answered(place * 10 * MS, 4 * S) for place in range(100)]
    figures = conclude(
        answered, Counter(), Counter(), mode="single", messages_per_request=1, rate_per_s=100, seconds=1.0,
        late_ns=[0] * 100, queued=0, connections=8,
    )  # fmt: skip
    assert figures.achieved_per_s == pytest.approx(100 / 4.99, abs=0.1)
    assert not figures.is_own_fault


def test_a_run_without_an_answer_is_told_too() -> None:
    figures = conclude(
        [], Counter({"cut": 2}), Counter(), mode="bulk", messages_per_request=10, rate_per_s=1, seconds=2.0,
        late_ns=[0, 0], queued=0, connections=1,
    )  # fmt: skip
    assert (figures.good, figures.achieved_per_s, figures.latency_ms["p99"]) == (0, 0.0, 0.0)
