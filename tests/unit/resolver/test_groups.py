"""The numbers of one rung in their heaps: the soonest is found, and no call pays for all the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.groups import LOOKS_MAX, MOVES_MAX, SEARCH_MAX, Candidate, Group, entry_of, is_sooner
from resolver.links import LINK_GRACE_MS, STALE_MAX, Link
from resolver.model import CarrierName, Limits, Message, Tier
from resolver.queues import Number
from resolver.windows import DAY_MS
from tests.unit.resolver.floor import NOW_MS, PLENTY, URGENT, limits, long_code, new_id, recipient, request
from tests.unit.resolver.twins import EFFORT

LATER_MS = NOW_MS + 1_000_000
OTHER = CarrierName("other")


class Floor:
    """A group, its numbers and its links."""

    def __init__(self, *, recommended: bool = True, urgent: bool = False, links: int = 1) -> None:
        self.by_order: list[Number] = []
        self.links = [Link[Number](CarrierName(f"link{place}"), segments_per_s=PLENTY) for place in range(links)]
        self.group = Group(self.by_order, urgent=urgent, recommended=recommended)

    def add(self, its: Limits | None = None, *, link: int = 0) -> Number:
        order = len(self.by_order)
        number = Number(long_code(line=order), its or limits(), self.links[link], order=order)
        self.by_order.append(number)
        part = self.group.part_of(self.links[link])
        part.live += 1
        number.parts = (part,)
        self.push(number)
        return number

    def push(self, number: Number) -> None:
        """Its entries are stale, here is another."""
        number.version, number.entry = entry_of(number.order, number.version + 1)
        for part in number.parts:
            part.push(number)

    def pick(
        self, now_ms: int = NOW_MS, units: int = 1, horizon_ms: int = LATER_MS, chance: float = 0.5
    ) -> Candidate | None:
        return self.group.pick(units, now_ms, horizon_ms, chance)

    def picked(self, now_ms: int = NOW_MS, units: int = 1, chance: float = 0.5) -> Number:
        found = self.pick(now_ms, units, 1 << 60, chance)
        assert found is not None
        return found[0]

    def entries(self) -> int:
        return sum(len(part.fresh) + len(part.idle) + len(part.busy) + len(part.resting) for part in self.group.parts)


def put(number: Number, units: int = 1, asked=None) -> Message:
    message = Message(
        new_id(), asked or request(units), recipient(), number.number, Tier.AREA, LATER_MS, committed=True
    )
    number.push(message)
    return message


# --- who is found -----------------------------------------------------------------------------------------------------


def test_nobody_is_found_in_an_empty_group():
    floor = Floor()
    assert floor.pick() is None
    floor.push(floor.add())
    floor.by_order[0].parts = ()
    floor.push(floor.by_order[0])
    assert floor.pick() is None


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5, 0.9999999])
def test_never_used_numbers_are_drawn_by_chance(chance):
    floor = Floor()
    numbers = [floor.add() for _ in range(10)]
    assert floor.picked(chance=chance) is numbers[int(chance * 10)]


def test_every_never_used_number_can_be_drawn_over_all_links():
    floor = Floor(links=3)
    numbers = [floor.add(link=place % 3) for place in range(12)]
    assert {floor.picked(chance=place / 100) for place in range(100)} == set(numbers)


@pytest.mark.parametrize("its", [limits(), limits(15, 60_000)])
def test_the_least_recently_used_of_the_idle_goes_first(its):
    floor = Floor()
    numbers = [floor.add(its) for _ in range(5)]
    for number, ago_ms in zip(numbers, (3_000, 9_000, 5_000, 7_000, 4_000), strict=True):
        number.charge(1, NOW_MS - ago_ms)
    order = []
    for _ in range(5):
        number = floor.picked()
        order.append(numbers.index(number))
        number.charge(1, NOW_MS)
    assert order == [1, 3, 2, 4, 0]


def test_the_soonest_of_the_busy_is_found_and_none_beyond_the_horizon():
    floor = Floor()
    numbers = [floor.add() for _ in range(6)]
    for number, waiting in zip(numbers, (5, 3, 8, 2, 9, 4), strict=True):
        number.charge(1, NOW_MS)
        for _ in range(waiting):
            put(number)
    assert floor.picked() is numbers[3]
    assert floor.pick(horizon_ms=NOW_MS + 3 * 1_020 - 1) is None
    assert floor.pick(horizon_ms=NOW_MS + 3 * 1_020) == (numbers[3], NOW_MS + 3 * 1_020)


def test_a_number_whose_forecast_shrank_is_found_once_it_is_pushed_again():
    floor = Floor()
    first, second = floor.add(), floor.add()
    for number, waiting in ((first, 10), (second, 3)):
        number.charge(1, NOW_MS)
        messages = [put(number) for _ in range(waiting)]
        if number is first:
            doomed = messages
    assert floor.picked() is second
    for message in doomed:
        first.count(message, -1)
    floor.push(first)
    assert floor.picked() is first


def test_an_urgent_forecast_that_shrinks_as_urgent_messages_leave_is_found():
    # Four urgent messages ahead let a bulk one go before the next; once one of the four has left, three let none.
    floor = Floor(urgent=True)
    first, second = floor.add(), floor.add()
    urgent = [put(first, asked=URGENT) for _ in range(4)]
    put(first)
    for _ in range(4):
        put(second, asked=URGENT)
    for number, ago_ms in ((first, 1_020), (second, 510)):
        number.charge(1, NOW_MS - ago_ms)
        floor.push(number)
    assert floor.pick() == (second, NOW_MS - 510 + 5 * 1_020)
    first.take(urgent[0])
    first.hand_over(urgent[0], NOW_MS)
    assert floor.pick() == (first, NOW_MS + 4 * 1_020)


def test_texts_of_several_segments_find_the_number_with_room_for_them():
    floor = Floor()
    numbers = [floor.add(limits(15, 60_000)) for _ in range(8)]
    for number, units in zip(numbers, (14, 13, 12, 9, 11, 10, 14, 12), strict=True):
        number.charge(units, NOW_MS - 1_000)
    assert floor.pick(units=6) == (numbers[3], NOW_MS)
    assert floor.picked(units=1) in numbers
    assert floor.pick(units=7, horizon_ms=NOW_MS) is None


@pytest.mark.parametrize("urgent", [False, True])
def test_numbers_at_their_recommendation_rest_until_the_day_has_room(urgent):
    floor = Floor(urgent=urgent)
    numbers = [floor.add(limits(recommended=1)) for _ in range(3)]
    for place, number in enumerate(numbers):
        number.charge(1, NOW_MS - 50_000 + place)
    assert floor.pick() is None
    assert floor.pick(NOW_MS - 50_000 + DAY_MS - 1) is None
    assert floor.picked(NOW_MS - 50_000 + DAY_MS) is numbers[0]


def test_the_last_resort_sets_the_recommendation_aside():
    floor = Floor(recommended=False)
    number = floor.add(limits(recommended=1))
    number.charge(1, NOW_MS - 5_000)
    assert floor.pick() == (number, NOW_MS)


# --- links ------------------------------------------------------------------------------------------------------------


def test_numbers_on_a_link_that_is_down_are_passed_over_after_the_grace_and_found_behind_it():
    floor = Floor(links=2)
    on_first, on_second = floor.add(), floor.add(link=1)
    on_second.charge(1, NOW_MS)
    floor.links[0].down_since_ms = NOW_MS
    assert floor.picked() is on_first
    late_ms = NOW_MS + LINK_GRACE_MS
    assert floor.picked(late_ms) is on_second
    assert floor.group.pick_behind_links(1, late_ms, LATER_MS, 0.5) == (on_first, late_ms)
    floor.links[0].down_since_ms = None
    assert floor.picked(late_ms) is on_first
    assert floor.group.pick_behind_links(1, late_ms, LATER_MS, 0.5) is None


def test_a_single_link_that_is_down_leaves_nobody():
    floor = Floor()
    number = floor.add()
    floor.links[0].down_since_ms = NOW_MS - LINK_GRACE_MS
    assert floor.pick() is None
    assert floor.group.pick_behind_links(1, NOW_MS, LATER_MS, 0.5) == (number, NOW_MS)


def test_a_links_backlog_counts_for_all_its_numbers():
    floor = Floor(links=2)
    behind = floor.add()
    floor.links[0].window.change(limit=10, span_ms=1_020)
    floor.links[0].booked_segments = 100
    assert floor.pick() == (behind, NOW_MS + 10 * 1_020)
    assert floor.pick(horizon_ms=NOW_MS + 10 * 1_020 - 1) is None
    busy = floor.add(link=1)
    busy.charge(1, NOW_MS)
    assert floor.pick() == (busy, NOW_MS + 1_020)


def test_among_equals_the_never_used_then_the_least_recently_used_is_better():
    floor = Floor()
    fresh, waits, old, new = (floor.add() for _ in range(4))
    put(waits)
    old.charge(1, NOW_MS - 9)
    new.charge(1, NOW_MS - 1)
    ranked = [(fresh, NOW_MS), (waits, NOW_MS), (old, NOW_MS), (new, NOW_MS), (fresh, NOW_MS + 1)]
    for better, worse in pairwise(ranked):
        assert is_sooner(better, worse)
        assert not is_sooner(worse, better)


# --- against a walk over all ------------------------------------------------------------------------------------------

KINDS = (limits(), limits(recommended=4), limits(3, 5_000, recommended=9), limits(day=3))
HISTORY = st.lists(
    st.tuples(st.sampled_from("hhhwwcpt"), st.integers(0, 11), st.integers(1, 6), st.integers(0, 3_000)), max_size=60
)


@settings(max_examples=100 * EFFORT, deadline=None)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=12), st.booleans(), st.booleans(), st.booleans(), HISTORY)
def test_the_soonest_is_found_whatever_happened(all_limits, is_urgent, recommended, is_even, history):
    floor = Floor(recommended=recommended, urgent=is_urgent)
    numbers = [floor.add(all_limits[0] if is_even else each) for each in all_limits]
    waiting: list[tuple[Number, Message]] = []
    now_ms = NOW_MS
    for what, which, units, wait_ms in history:
        number = numbers[which % len(numbers)]
        if what == "h":
            now_ms = max(now_ms, number.lawful_ms(units))
            number.charge(units, now_ms)
        elif what == "w":
            waiting.append((number, put(number, asked=URGENT if units == 6 else request(units))))
        elif what == "c" and waiting:
            owner, message = waiting.pop(which % len(waiting))
            owner.count(message, -1)
            floor.push(owner)
        elif what == "t":
            now_ms += wait_ms * wait_ms
        expected = soonest(numbers, is_urgent, units, now_ms, recommended=recommended)
        found = floor.pick(now_ms, units, 1 << 60)
        assert (found[1] if found is not None else None) == expected


def soonest(numbers: Sequence[Number], urgent: bool, units: int, now_ms: int, *, recommended: bool) -> int | None:
    able = [each for each in numbers if not (recommended and each.rested_ms(now_ms))]
    return min((each.forecast_ms(urgent, units, now_ms) for each in able), default=None)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_stale_entries_are_never_many_more_than_the_numbers():
    floor = Floor()
    numbers = [floor.add() for _ in range(50)]
    for number in numbers:
        number.charge(1, NOW_MS)
    for turn in range(20_000):
        floor.push(numbers[turn % 50])
        assert floor.entries() <= 2 * 50 + STALE_MAX + 1
    assert floor.picked(NOW_MS + 5_000) in numbers


def test_a_pick_moves_a_bounded_part_and_still_finds_a_number():
    floor = Floor(recommended=False)
    numbers = [floor.add() for _ in range(3 * SEARCH_MAX)]
    for number in numbers:  # all were used since the group was last asked
        number.charge(1, NOW_MS)
        put(number)
    found = floor.pick(horizon_ms=1 << 60)
    assert found is not None
    assert found[1] == NOW_MS + 2 * 1_020
    part = floor.group.parts[0]
    assert len(part.fresh) >= SEARCH_MAX  # the others have stayed where they were


def test_once_it_has_a_number_it_looks_at_few_more():
    floor = Floor(recommended=False)
    numbers = [floor.add(limits(15, 60_000)) for _ in range(5 * MOVES_MAX)]
    for number in numbers:
        number.charge(1, NOW_MS - 1)
    floor.picked()
    for number in numbers:
        number.charge(12, NOW_MS)
    assert floor.picked(units=5) in numbers
    assert LOOKS_MAX < MOVES_MAX < SEARCH_MAX


def test_versions_come_round_without_touching_the_order():
    version, entry = entry_of(5, 65_535)
    again, next_entry = entry_of(5, version + 1)
    assert (version, again) == (65_535, 0)
    assert entry >> 16 == next_entry >> 16 == 5
