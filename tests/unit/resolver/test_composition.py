"""Of which places long codes are, and what is lacking."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resolver.composition import Lack, Place, Scope, count_places, lacks, places_of
from resolver.geography import AREA_CODES

CODES = st.sampled_from(["415", "213", "212", "917", "416", "604", "902"])
PLACES = st.sampled_from(
    [
        Place(Scope.AREA_CODE, "415"), Place(Scope.AREA_CODE, "902"), Place(Scope.REGION, "CA"),
        Place(Scope.REGION, "NS"), Place(Scope.COUNTRY, "US"), Place(Scope.COUNTRY, "CA"),
    ]
)  # fmt: skip


def number(code: str) -> str:
    return f"+1{code}5550100"


def test_a_number_counts_for_all_it_lies_in() -> None:
    assert places_of(number("415")) == (
        Place(Scope.AREA_CODE, "415"), Place(Scope.REGION, "CA"), Place(Scope.COUNTRY, "US"),
    )  # fmt: skip
    assert places_of(number("902"))[1] == Place(Scope.REGION, "NS")  # Nova Scotia, and Prince Edward Island after it
    assert places_of(number("800")) == (Place(Scope.COUNTRY, "US"),)
    assert places_of("+493012345678") == (Place(Scope.COUNTRY, "DE"),)
    assert places_of("22555") == ()


def test_what_is_added_for_a_narrow_place_counts_for_the_wider_ones() -> None:
    wanted = {Place(Scope.AREA_CODE, "415"): 3, Place(Scope.REGION, "CA"): 4, Place(Scope.COUNTRY, "US"): 10}
    assert lacks(count_places([number("415")]), wanted) == [
        Lack(Place(Scope.AREA_CODE, "415"), 2), Lack(Place(Scope.REGION, "CA"), 1), Lack(Place(Scope.COUNTRY, "US"), 6),
    ]  # fmt: skip


def fill(lack: Lack) -> list[str]:
    """Numbers as they would be bought."""
    name = lack.place.name
    if lack.place.scope is Scope.AREA_CODE:
        code = name
    elif lack.place.scope is Scope.REGION:
        code = next(code for code, each in AREA_CODES.items() if min(each.regions) == name)
    else:
        code = {"US": "212", "CA": "604"}[name]
    return [number(code)] * lack.more


@given(st.lists(CODES, max_size=30), st.dictionaries(PLACES, st.integers(0, 20)))
def test_filled_there_is_what_was_wanted_and_nothing_lacks_any_more(codes: list[str], wanted: dict[Place, int]) -> None:
    numbers = [number(code) for code in codes]
    found = lacks(count_places(numbers), wanted)
    for lack in found:
        numbers += fill(lack)
    counts = count_places(numbers)
    assert all(counts[place] >= count for place, count in wanted.items())
    assert lacks(counts, wanted) == []
    assert len(numbers) - len(codes) <= sum(wanted.values())
