"""Windows against a twin that keeps every charge; and what any sliding span holds, counted from actual hand-overs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.limits import default_limits, padded_span_ms
from resolver.model import NumberType
from resolver.windows import DAY_MS, Window
from tests.unit.resolver.twins import EFFORT, WindowTwin, most_in_a_span

NOW_MS = 1_700_000_000_000

LIMITS = st.integers(1, 12)
SPANS = st.sampled_from([1, 7, 20, 1_020, 61_200])
TEXTS = st.one_of(st.just(1), st.integers(1, 30))  # mostly short, some longer than any limit here
# what happens, how long before it, units, which earlier hand-over
STEPS = st.lists(
    st.tuples(st.sampled_from("hhhhhhhgw"), st.integers(0, 5), TEXTS, st.integers(0, 5)), min_size=1, max_size=60
)


def run(window: Window, twin: WindowTwin, steps: list[tuple[str, int, int, int]]) -> tuple[list[int], int]:
    """Hand over, wait, stall and give back; the two must agree all along. Answers the charges that stand, and now."""
    now_ms = NOW_MS
    handed: list[list[int]] = []
    for what, wait, units, which in steps:
        now_ms += wait * twin.span_ms // 3
        assert max(now_ms, window.lawful_ms(units)) == max(now_ms, twin.lawful_ms(units))
        if what == "h":
            now_ms = max(now_ms, window.lawful_ms(units))
            window.charge(units, now_ms)
            twin.charge(units, now_ms)
            handed.append(twin.instants(units, now_ms))
        elif what == "g" and which < len(handed):
            instants = handed.pop(-1 - which)
            window.give_back(len(instants), instants[0])
            twin.give_back(instants)
    return [instant for instants in handed for instant in instants], now_ms


@settings(max_examples=150 * EFFORT)
@given(LIMITS, SPANS, st.integers(0, 20), STEPS)
def test_it_agrees_with_a_twin_that_keeps_everything_and_no_span_ever_holds_more_than_the_limit(
    limit, span_ms, keep, steps
):
    standing, _ = run(Window("w", limit=limit, span_ms=span_ms, keep=keep), WindowTwin(limit, span_ms), steps)
    assert most_in_a_span(standing, span_ms) <= limit


@settings(max_examples=100 * EFFORT)
@given(LIMITS, SPANS, STEPS, st.integers(0, 40), TEXTS, st.integers(0, 5))
def test_a_forecast_is_when_it_leaves_if_all_before_it_leave_as_soon_as_they_may(
    limit, span_ms, steps, ahead, units, wait
):
    window, twin = Window("w", limit=limit, span_ms=span_ms), WindowTwin(limit, span_ms)
    _, now_ms = run(window, twin, steps)
    now_ms += wait * span_ms // 3
    assert window.forecast_ms(ahead, units, now_ms) == twin.forecast_ms(ahead, units, now_ms)


@settings(max_examples=50 * EFFORT)
@given(LIMITS, SPANS, STEPS, st.integers(0, 40), TEXTS, st.integers(0, 5))
def test_a_forecast_at_no_time_is_a_bound_that_holds_at_any_later_one(limit, span_ms, steps, ahead, units, wait):
    window, twin = Window("w", limit=limit, span_ms=span_ms), WindowTwin(limit, span_ms)
    _, now_ms = run(window, twin, steps)
    bound_ms = window.forecast_ms(ahead, units, 0)
    assert bound_ms <= window.forecast_ms(ahead, units, now_ms) <= window.forecast_ms(ahead, units, now_ms + wait)


CHANGES = st.lists(st.tuples(LIMITS, SPANS, STEPS), min_size=1, max_size=4)


@settings(max_examples=100 * EFFORT)
@given(LIMITS, SPANS, STEPS, CHANGES)
def test_other_limits_hold_at_once_over_what_was_used_and_in_doubt_it_under_sends(limit, span_ms, steps, changes):
    window, twin = Window("w", limit=limit, span_ms=span_ms), WindowTwin(limit, span_ms)
    _, now_ms = run(window, twin, steps)
    for limit, span_ms, steps in changes:
        window.change(limit=limit, span_ms=span_ms)
        twin.limit, twin.span_ms = limit, span_ms
        for _, wait, units, _ in steps:
            now_ms += wait * span_ms // 3
            now_ms = max(now_ms, window.lawful_ms(units))
            assert now_ms >= twin.lawful_ms(units)
            window.charge(units, now_ms)
            twin.charge(units, now_ms)


@settings(max_examples=100 * EFFORT)
@given(LIMITS, SPANS, st.lists(st.tuples(LIMITS, STEPS), min_size=1, max_size=4))
def test_other_limits_over_the_same_span_are_exact(limit, span_ms, changes):
    window, twin, now_ms = Window("w", limit=limit, span_ms=span_ms), WindowTwin(limit, span_ms), NOW_MS
    for limit, steps in changes:
        window.change(limit=limit, span_ms=span_ms)
        twin.limit = limit
        for _, wait, units, _ in steps:
            now_ms += wait * span_ms // 3
            assert max(now_ms, window.lawful_ms(units)) == max(now_ms, twin.lawful_ms(units))
            now_ms = max(now_ms, window.lawful_ms(units))
            window.charge(units, now_ms)
            twin.charge(units, now_ms)


def test_a_limit_lowered_and_raised_again_reopens_nothing():
    window = Window("w", limit=3, span_ms=1_020)
    window.charge(3, NOW_MS)
    window.change(limit=1, span_ms=1_020)
    window.change(limit=3, span_ms=1_020)
    assert window.lawful_ms(1) == NOW_MS + 1_020


def test_a_limit_that_comes_later_counts_what_is_no_longer_remembered_in_doubt_against_us():
    window = Window("day", limit=2, span_ms=1_000)
    for second in range(10):
        window.charge(1, NOW_MS + 500 * second)
    window.change(limit=5, span_ms=DAY_MS)
    # The fifth last is forgotten; it may have been as late as the third last.
    assert window.lawful_ms(1) >= NOW_MS + 500 * 5 + DAY_MS


def test_a_text_given_back_after_other_limits_takes_nobody_elses_charge_with_it():
    window = Window("w", limit=3, span_ms=1_000)
    window.charge(3, NOW_MS)
    window.change(limit=1, span_ms=1_000)
    window.charge(1, NOW_MS + 2_000)  # where the third unit would stand under the new limit
    window.give_back(3, NOW_MS)
    assert window.lawful_ms(1) == NOW_MS + 3_000


def test_charges_out_of_order_count_where_they_are():
    window = Window("w", limit=2, span_ms=1_000)
    window.charge(1, NOW_MS + 5_000)  # an unsettled attempt, counted late after a restart
    window.charge(1, NOW_MS)
    assert window.lawful_ms(1) == NOW_MS + 1_000
    window.charge(2, NOW_MS + 1_000)
    assert window.lawful_ms(1) == NOW_MS + 2_000
    assert window.lawful_ms(2) == NOW_MS + 6_000


def test_memory_is_bounded_by_the_largest_limit():
    window = Window("w", limit=1_000, span_ms=1_020)
    for at_ms in range(10_000):
        window.charge(1, NOW_MS + 2 * at_ms)
        assert len(window.times) <= 1_125
    assert len(window.times) >= 1_000


def test_a_copy_goes_its_own_way():
    window = Window("w", limit=1, span_ms=1_000)
    window.charge(1, NOW_MS)
    copy = window.copy()
    window.charge(1, NOW_MS + 1_000)
    assert (copy.lawful_ms(1), window.lawful_ms(1)) == (NOW_MS + 1_000, NOW_MS + 2_000)


@pytest.mark.parametrize("country", ["US", "CA"])
@pytest.mark.parametrize("number_type", list(NumberType))
def test_saturated_use_stays_at_or_above_97_percent_of_the_published_rate(number_type, country):
    limits = default_limits(number_type, country, campaign_approved=True)
    window = Window("w", limit=limits.segments, span_ms=padded_span_ms(limits.span_ms))
    now_ms, spans = NOW_MS, 60
    sent = 0
    while now_ms < NOW_MS + spans * limits.span_ms:
        window.charge(1, now_ms)
        sent += 1
        now_ms = max(now_ms, window.lawful_ms(1))
    assert sent >= 0.97 * spans * limits.segments
