"""How many numbers a volume needs: the larger of day and peak, never fewer for more, and enough when it is tried."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.simulation import Arrival, Simulation
from resolver.sizing import size, spread
from tests.unit.resolver.floor import LOS_ANGELES, NOW_MS, SAN_FRANCISCO, TORONTO, build, long_code, recipient, request

COUNTRIES = st.sampled_from(("US", "CA"))
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("country", "daily", "peak", "segments", "by_day", "by_peak"),
    [
        ("US", 0, "0", 1, 0, 0),
        ("US", 150, "1", 1, 1, 1),
        ("US", 151, "1.01", 1, 2, 2),
        ("US", 3_000, "5", 3, 20, 15),
        ("CA", 150, "1", 1, 1, 4),  # 15 a minute
        ("CA", 10_000, "0.25", 1, 67, 1),
    ],
)
def test_the_larger_of_day_and_peak_is_needed(
    country: str, daily: int, peak: str, segments: int, by_day: int, by_peak: int
) -> None:
    need = size(country, daily=daily, peak_per_s=Fraction(peak), segments=segments)
    assert (need.by_day, need.by_peak, need.numbers) == (by_day, by_peak, max(by_day, by_peak))


@given(COUNTRIES, st.integers(0, 10**7), st.integers(0, 10**6), st.fractions(0, 1_000), st.integers(1, 10))
def test_more_never_needs_fewer(country: str, daily: int, more: int, peak: Fraction, segments: int) -> None:
    less = size(country, daily=daily, peak_per_s=peak, segments=segments)
    assert less.numbers <= size(country, daily=daily + more, peak_per_s=peak + more, segments=segments).numbers
    assert less.numbers <= size(country, daily=daily, peak_per_s=peak, segments=segments + 1).numbers


@given(
    st.integers(0, 10_000), st.dictionaries(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.integers(0, 500))
)
def test_shares_add_up_and_are_within_one_of_what_is_due(count: int, shares: dict[tuple[str, str], int]) -> None:
    found, whole = spread(count, shares), sum(shares.values())
    assert sum(found.values()) == (count if whole else 0)
    assert all(part > 0 for part in found.values())
    for place, share in shares.items():
        assert not whole or abs(found.get(place, 0) - Fraction(count * share, whole)) < 1


@pytest.mark.parametrize(
    ("country", "area_code", "daily", "peak"),
    [("US", SAN_FRANCISCO, 1_200, "3"), ("US", LOS_ANGELES, 450, "4"), ("CA", TORONTO, 900, "1")],
)
def test_what_is_recommended_is_enough_when_it_is_tried(country: str, area_code: str, daily: int, peak: str) -> None:
    """Spread over the day with its peak in the middle: nobody hands over more than is good, or waits long."""
    need = size(country, daily=daily, peak_per_s=Fraction(peak))
    resolver = build([long_code(area_code, line) for line in range(need.numbers)])
    burst = int(Fraction(peak) * 10)
    calm = daily - burst
    plan = [Arrival(NOW_MS + place * DAY_MS // calm, recipient(area_code, place)) for place in range(calm)]
    plan += [
        Arrival(NOW_MS + DAY_MS // 2 + int(place * 1_000 / Fraction(peak)), recipient(area_code, calm + place))
        for place in range(burst)
    ]
    simulation = Simulation(resolver, request(), sorted(plan), now_ms=NOW_MS, draw=lambda: 0.5)
    while simulation.run(1_000):
        pass
    course = simulation.course
    assert (course.messages.total(), course.refused, course.expired) == (daily, {}, 0)
    assert max(course.messages.values()) <= need.limits.day_recommended
    assert max(course.waits_ms) <= 2 * need.limits.span_ms
