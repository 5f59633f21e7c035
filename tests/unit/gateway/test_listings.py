"""Listings against a naive one: sort everything, look at each, cut the page out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.listings import FEW, Facets, Listing, Lists, facets_of, page, total
from resolver.model import E164, AccountId, CarrierName, NumberRow, NumberType, PowerpackId, Service

MINE, OTHERS = AccountId("MA1"), AccountId("MA2")
PACK = PowerpackId("p")


def row(digits: str, *, kind: NumberType = NumberType.LONG_CODE, country: str = "US", **more: object) -> NumberRow:
    return replace(NumberRow(E164(digits), MINE, kind, country, CarrierName("c")), **more)  # type: ignore[arg-type]


rows = st.builds(
    row,
    st.integers(0, 999).map(lambda last: f"+1415555{last:04d}"),
    kind=st.sampled_from(list(NumberType)),
    country=st.sampled_from(["US", "CA"]),
    verified=st.booleans(),
    services=st.sampled_from([frozenset({Service.SMS}), frozenset(Service)]),
    account_id=st.sampled_from([MINE, OTHERS]),
    alias=st.sampled_from(["", "a", "b"]),
    powerpack_id=st.sampled_from([None, PACK]),
)


def choose(types: set[NumberType], prefixes: tuple[str, ...]) -> Callable[[Facets], tuple[str, ...]]:
    return lambda facets: prefixes if facets.type in types else ()


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.booleans(), rows), max_size=300),
    st.sets(st.sampled_from(list(NumberType))),
    st.sets(st.sampled_from(["+14155550", "+141555502", "+14155559", "+1415555012", "+2"]), max_size=3),
    st.integers(0, 60),
    st.integers(1, 20),
    st.sampled_from(["", "a"]),
)
def test_a_page_is_what_sorting_everything_would_give(
    edits: list[tuple[bool, NumberRow]],
    types: set[NumberType],
    said: set[str],
    offset: int,
    limit: int,
    alias: str,
) -> None:
    lists, there = Lists(), dict[E164, NumberRow]()
    for place, (puts, each) in enumerate(edits):
        was = there.pop(each.number, None)
        if puts:
            lists.put(was, each)
            there[each.number] = each
        elif was is not None:
            lists.drop(was)
        if place % 7 == 0:  # read in between: what is sorted already is edited
            lists.settle()
    disjoint = tuple(one for one in said if not any(one != other and one.startswith(other) for other in said))
    prefixes = disjoint or ("",)
    for listing, belongs in (
        (lists.of_account(MINE, alias), lambda one: one.account_id == MINE and (not alias or one.alias == alias)),
        (lists.of_powerpack(PACK), lambda one: one.powerpack_id == PACK),
    ):
        mine = [one for one in there.values() if belongs(one)]
        wanted = sorted(one.number for one in mine if one.type in types and one.number.startswith(prefixes))
        spans = listing.pick(choose(types, prefixes))
        assert total(spans) == len(wanted)
        assert page(spans, offset=offset, limit=limit) == wanted[offset : offset + limit]
        assert len(listing) == len(mine)


def test_pages_over_many_columns_meet_without_gap_or_repeat() -> None:
    lists = Lists()
    kinds, both = list(NumberType), (frozenset({Service.SMS}), frozenset(Service))
    all_of_them = [
        row(f"+1415{place:07d}", kind=kinds[place % 3], services=both[place % 2], verified=place % 5 == 0)
        for place in range(0, 40_000, 7)
    ]
    for each in reversed(all_of_them):
        lists.put(None, each)
    assert len({facets_of(each) for each in all_of_them}) == 12
    spans = lists.of_account(MINE).pick(lambda _: ("",))
    found = [page(spans, offset=offset, limit=20) for offset in range(0, total(spans) + 20, 20)]
    assert [number for each in found for number in each] == [each.number for each in all_of_them]
    assert found[-1] == []


def test_a_few_and_many_edits_are_worked_in_alike() -> None:
    listing = Listing()
    numbers = [row(f"+1415{place:07d}") for place in range(1_000)]
    for each in numbers:
        listing.add(each)
    for count in (3, FEW + 1):
        for each in numbers[10 : 10 + count]:
            listing.remove(each)
        spans = listing.pick(lambda _: ("",))
        assert page(spans, offset=0, limit=1_000) == [each.number for each in numbers[:10] + numbers[10 + count :]]
        for each in numbers[10 : 10 + count]:
            listing.add(each)
        spans = listing.pick(lambda _: ("",))
        assert page(spans, offset=0, limit=1_000) == [each.number for each in numbers]


def test_nobody_s_listing_is_empty_and_a_last_number_takes_its_listing_along() -> None:
    lists = Lists()
    one = row("+14155550100", alias="a", powerpack_id=PACK)
    lists.put(None, one)
    lists.drop(one)
    for listing in (lists.of_account(MINE), lists.of_account(MINE, "a"), lists.of_powerpack(PACK)):
        assert (len(listing), listing.pick(lambda _: ("",))) == (0, [])


def test_a_page_deep_in_many_numbers_costs_no_walk_there() -> None:
    lists = Lists()
    for place in range(200_000):
        lists.put(None, row(f"+1{place:010d}", verified=place % 3 == 0))
    lists.settle()
    began = process_time()
    for _ in range(20):
        spans = lists.of_account(MINE).pick(lambda _: ("",))
        assert page(spans, offset=150_000, limit=2) == ["+10000150000", "+10000150001"]
    assert (process_time() - began) / 20 < 0.01  # walking there: 0.03 s and more
