"""The default limits, row by row, and the span with its reserve for clocks."""

import pytest

from resolver.limits import CLOCK_SKEW_PERCENT, NO_RECOMMENDATION, default_limits, padded_span_ms
from resolver.model import Limits, NumberType

LONG, FREE, SHORT = NumberType.LONG_CODE, NumberType.TOLL_FREE, NumberType.SHORT_CODE


@pytest.mark.parametrize(
    ("number_type", "country", "campaign_approved", "expected"),
    [
        (LONG, "US", False, Limits(1, 1_000, 150, 150)),
        (LONG, "US", True, Limits(1, 1_000, 150, None)),
        (LONG, "CA", False, Limits(15, 60_000, 150, 150)),
        (LONG, "CA", True, Limits(15, 60_000, 150, None)),
        (FREE, "US", False, Limits(3, 1_000, NO_RECOMMENDATION, None)),
        (FREE, "CA", False, Limits(3, 1_000, NO_RECOMMENDATION, None)),
        (FREE, "US", True, Limits(3, 1_000, NO_RECOMMENDATION, None)),
        (SHORT, "US", False, Limits(100, 1_000, NO_RECOMMENDATION, None)),
        (SHORT, "CA", False, Limits(10, 1_000, NO_RECOMMENDATION, None)),
    ],
)
def test_a_number_has_the_published_limits_of_its_type_and_country(number_type, country, campaign_approved, expected):
    assert default_limits(number_type, country, campaign_approved) == expected


@pytest.mark.parametrize("number_type", list(NumberType))
def test_a_number_of_another_country_has_the_slowest_limits_of_its_type(number_type):
    known = [default_limits(number_type, country, False) for country in ("US", "CA")]
    slowest = min(known, key=lambda limits: limits.segments / limits.span_ms)
    assert default_limits(number_type, "GB", False) == slowest


def test_no_recommendation_is_more_than_any_rate_allows_in_a_day():
    fastest = default_limits(SHORT, "US", False)
    assert fastest.segments * 86_400_000 // fastest.span_ms < NO_RECOMMENDATION


@pytest.mark.parametrize(
    ("span_ms", "padded_ms"),
    [(1, 2), (10, 11), (50, 51), (100, 102), (1_000, 1_020), (1_001, 1_022), (60_000, 61_200)],
)
def test_a_span_up_to_a_minute_gets_two_percent_more_rounded_up(span_ms, padded_ms):
    assert padded_span_ms(span_ms) == padded_ms


@pytest.mark.parametrize("span_ms", [60_001, 3_600_000, 86_400_000])
def test_a_longer_span_is_kept_as_it_is(span_ms):
    assert padded_span_ms(span_ms) == span_ms


@pytest.mark.parametrize("span_ms", [1_000, 60_000])
def test_saturated_use_stays_at_or_above_97_percent(span_ms):
    assert span_ms / padded_span_ms(span_ms) >= 0.97
    assert CLOCK_SKEW_PERCENT == 2
