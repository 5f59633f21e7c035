"""A powerpack's indexes: which rungs a recipient's ladder has, and that they follow every edit."""

from __future__ import annotations

import pytest

from resolver.geography import locate
from resolver.limits import default_limits
from resolver.links import Link
from resolver.model import Location, NumberRow, NumberState, NumberType, Service, Tier
from resolver.pool import LADDERS_MAX, Pool
from resolver.queues import Number
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    MARITIMES,
    NORTH,
    NOW_MS,
    PLENTY,
    SAN_FRANCISCO,
    TORONTO,
    limits,
    long_code,
    powerpack,
    recipient,
    short_code,
    toll_free,
)

LONG, FREE, SHORT = NumberType.LONG_CODE, NumberType.TOLL_FREE, NumberType.SHORT_CODE
LINK = Link[Number](CARRIER, segments_per_s=PLENTY)


def pool_of(*rows: NumberRow, **fields: object) -> tuple[Pool, list[Number]]:
    by_order: list[Number] = []
    pool = Pool(powerpack(**fields), by_order, threads_max=10)
    for row in rows:
        by_order.append(Number(row, default_limits(row.type, row.country, True), LINK, order=len(by_order)))
        pool.put(by_order[-1])
    return pool, by_order


def place(area_code: str) -> Location:
    location = locate(recipient(area_code))
    assert location is not None
    return location


def rungs(
    pool: Pool, area_code: str, service: Service = Service.SMS, *, urgent: bool = False
) -> list[tuple[NumberType, Tier]]:
    return [(rung.type, rung.tier) for rung in pool.ladder(place(area_code), service, urgent, "")]


def found(pool: Pool, area_code: str, tier: Tier) -> set[str]:
    """The numbers of a tier's groups."""
    groups = [rung.group for rung in pool.ladder(place(area_code), Service.SMS, False, "") if rung.tier is tier]
    parts = [part for group in groups for part in group.parts]
    return {number.number for number in pool.numbers.values() if any(part in parts for part in number.parts)}


@pytest.mark.parametrize(
    ("row", "area_code", "expected"),
    [
        (long_code(), SAN_FRANCISCO, [Tier.AREA, Tier.REGION, Tier.COUNTRY]),
        (long_code(), LOS_ANGELES, [Tier.REGION, Tier.COUNTRY]),
        (long_code(), "212", [Tier.COUNTRY]),
        (long_code(), TORONTO, [Tier.NEIGHBOR]),
        (long_code(MARITIMES), MARITIMES, [Tier.AREA, Tier.REGION, Tier.REGION, Tier.COUNTRY]),
        (long_code(MARITIMES), "782", [Tier.REGION, Tier.REGION, Tier.COUNTRY]),
        (long_code(NORTH), NORTH, [Tier.AREA, Tier.REGION, Tier.REGION, Tier.REGION, Tier.COUNTRY]),
        (toll_free(), SAN_FRANCISCO, [Tier.COUNTRY]),
        (toll_free(), TORONTO, [Tier.COUNTRY]),
        (toll_free(verified=False), SAN_FRANCISCO, []),
        (short_code(), SAN_FRANCISCO, [Tier.COUNTRY]),
        (short_code(), TORONTO, []),
        (long_code(state=NumberState.DRAINING), SAN_FRANCISCO, []),
        (long_code(services=frozenset({Service.MMS})), SAN_FRANCISCO, []),
    ],
)
def test_a_number_stands_on_these_rungs_of_a_recipients_ladder(row, area_code, expected):
    pool, _ = pool_of(row)
    for urgent in (False, True):
        assert [tier for _, tier in rungs(pool, area_code, urgent=urgent)] == expected


def test_without_local_connect_a_long_code_has_its_country_and_the_neighbor():
    pool, _ = pool_of(long_code(), long_code(TORONTO), local_connect=False)
    assert rungs(pool, SAN_FRANCISCO) == [(LONG, Tier.COUNTRY), (LONG, Tier.NEIGHBOR)]


def test_all_tiers_of_a_type_come_before_the_next_type():
    pool, _ = pool_of(long_code(), long_code(TORONTO), toll_free(), short_code())
    assert rungs(pool, SAN_FRANCISCO) == [
        (SHORT, Tier.COUNTRY), (FREE, Tier.COUNTRY), (LONG, Tier.AREA), (LONG, Tier.REGION), (LONG, Tier.COUNTRY),
        (LONG, Tier.NEIGHBOR),
    ]  # fmt: skip


def test_a_number_stands_in_the_groups_of_its_place_and_in_no_others():
    pool, numbers = pool_of(long_code(), long_code(line=1), long_code(LOS_ANGELES), long_code(TORONTO))
    ids = [number.number for number in numbers]
    assert found(pool, SAN_FRANCISCO, Tier.AREA) == set(ids[:2])
    assert found(pool, SAN_FRANCISCO, Tier.REGION) == set(ids[:3])
    assert found(pool, SAN_FRANCISCO, Tier.NEIGHBOR) == {ids[3]}


def test_edits_move_a_number_between_the_groups_and_ladders_follow():
    pool, (number,) = pool_of(long_code())
    assert rungs(pool, SAN_FRANCISCO, Service.MMS) == []
    number.row = long_code(services=frozenset(Service))
    pool.put(number)
    assert (LONG, Tier.AREA) in rungs(pool, SAN_FRANCISCO, Service.MMS)
    number.row = long_code(state=NumberState.DISABLED)
    pool.put(number)
    assert number.parts == ()
    assert found(pool, SAN_FRANCISCO, Tier.AREA) == set()
    number.row = long_code()
    pool.put(number)
    assert found(pool, SAN_FRANCISCO, Tier.AREA) == {number.number}
    pool.drop(number)
    assert pool.numbers == {}
    assert found(pool, SAN_FRANCISCO, Tier.AREA) == set()


def test_a_first_number_of_an_area_shows_on_ladders_asked_for_before():
    pool, _ = pool_of(long_code(LOS_ANGELES))
    assert (LONG, Tier.AREA) not in rungs(pool, SAN_FRANCISCO)
    late = Number(long_code(), limits(), LINK, order=1)
    pool.ladder(place(SAN_FRANCISCO), Service.SMS, False, "")
    pool._by_order.append(late)
    pool.put(late)
    assert (LONG, Tier.AREA) in rungs(pool, SAN_FRANCISCO)


def test_settings_rule_the_very_next_ladder():
    pool, _ = pool_of(long_code(), toll_free())
    assert rungs(pool, SAN_FRANCISCO)[0] == (FREE, Tier.COUNTRY)
    pool.change(powerpack(priority={("US", Service.SMS): (LONG, FREE)}))
    assert rungs(pool, SAN_FRANCISCO)[0] == (LONG, Tier.AREA)


def test_no_more_ladders_are_kept_than_may_be():
    pool, _ = pool_of(long_code())
    for count in range(LADDERS_MAX + 10):
        pool.ladder(place(SAN_FRANCISCO), Service.SMS, False, f"operator {count}")
    assert len(pool._ladders) <= LADDERS_MAX


def test_a_touched_number_gets_its_new_entries_with_the_next_decision_once():
    pool, numbers = pool_of(*[long_code(line=line) for line in range(200)])
    for number in numbers:
        number.charge(1, NOW_MS)
        pool.touch(number)
        pool.touch(number)
    assert len(pool.touched) == 200
    versions = [number.version for number in numbers]
    pool.freshen()
    assert 100 < len(pool.touched) < 200  # a bounded part
    while pool.touched:
        pool.freshen()
    assert [number.version for number in numbers] == [version + 1 for version in versions]


def test_parts_know_how_many_numbers_stand_in_them():
    pool, numbers = pool_of(*[long_code(line=line) for line in range(5)])
    pool.drop(numbers[0])
    numbers[1].row = long_code(line=1, state=NumberState.DRAINING)
    pool.put(numbers[1])
    pool.put(numbers[2])
    assert {part.live for part in numbers[2].parts} == {3}
