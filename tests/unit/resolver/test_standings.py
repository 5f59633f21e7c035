"""What windows have left is what their own law says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resolver.limits import NO_RECOMMENDATION
from resolver.links import Link
from resolver.model import E164, AccountId, CarrierName, Limits, NumberRow, NumberType
from resolver.queues import Number
from resolver.standings import standing_of_link, standings_of
from resolver.windows import DAY_MS

NOW_MS = 1_760_000_000_000


def number(limits: Limits) -> Number:
    row = NumberRow(E164("+14155550100"), AccountId("MA"), NumberType.LONG_CODE, "US", CarrierName("c"))
    return Number(row, limits, Link(CarrierName("c"), segments_per_s=10), order=1)


def test_a_fresh_number_has_all_its_room_at_once() -> None:
    rate, law, day = standings_of(number(Limits(15, 60_000, 150, 200)), NOW_MS)
    assert (rate.name, rate.limit, rate.span_ms, rate.used, rate.room, rate.free_ms) == (
        "number_rate", 15, 61_200, 0, 15, NOW_MS,
    )  # fmt: skip
    assert (law.name, law.unit, law.limit, law.room, law.is_law) == ("number_day", "messages", 200, 200, True)
    assert (day.name, day.limit, day.room, day.is_law) == ("day_recommended", 150, 150, False)


def test_without_a_law_of_the_day_there_is_the_recommendation_alone_and_without_both_the_rate() -> None:
    assert [each.name for each in standings_of(number(Limits(1, 1_000, 150, None)), NOW_MS)] == [
        "number_rate", "day_recommended",
    ]  # fmt: skip
    assert [each.name for each in standings_of(number(Limits(100, 1_000, NO_RECOMMENDATION, None)), NOW_MS)] == [
        "number_rate"
    ]


@given(
    st.integers(1, 20),
    st.lists(st.integers(0, 2 * DAY_MS), max_size=60).map(sorted),
)
def test_what_is_used_has_not_elapsed_and_what_is_free_is_lawful(limit: int, ages_ms: list[int]) -> None:
    found = number(Limits(limit, 60_000, limit, limit))
    for age_ms in reversed(ages_ms):
        if found.lawful_ms(1) <= NOW_MS - age_ms:
            found.charge(1, NOW_MS - age_ms)
    charged = found.rate.times if found.day is None else found.day.times
    rate, law, recommended = standings_of(found, NOW_MS)
    assert rate.used == sum(at_ms > NOW_MS - rate.span_ms for at_ms in charged)
    assert law.used == recommended.used == sum(at_ms > NOW_MS - DAY_MS for at_ms in charged)
    for each in (rate, law, recommended):
        assert each.room == limit - each.used >= 0
        assert (each.free_ms == NOW_MS) == (each.room > 0)
    assert max(rate.free_ms, law.free_ms) == max(NOW_MS, found.lawful_ms(1))


def test_the_link_is_what_all_its_numbers_share() -> None:
    link = number(Limits(1, 1_000, 150, None)).link
    link.window.charge(4, NOW_MS - 500)
    found = standing_of_link(link, NOW_MS)
    assert (found.scope, found.name, found.limit, found.used, found.room) == ("link", "link_rate", 10, 4, 6)


def test_a_lowered_limit_keeps_what_was_used() -> None:
    found = number(Limits(5, 60_000, NO_RECOMMENDATION, None))
    for _ in range(5):
        found.charge(1, NOW_MS - 1_000)
    found.change_limits(Limits(2, 60_000, NO_RECOMMENDATION, None))
    (rate,) = standings_of(found, NOW_MS)
    assert (rate.limit, rate.used, rate.room, rate.free_ms) == (2, 5, 0, NOW_MS - 1_000 + 61_200)
