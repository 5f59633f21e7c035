"""Numbers in memory, and for a while after they were dropped."""

from resolver.limits import default_limits
from resolver.links import Link
from resolver.model import NumberRow
from resolver.queues import Number
from resolver.registry import REMEMBERED_MS, Registry
from tests.unit.resolver.floor import CARRIER, NOW_MS, long_code

LINK: Link[Number] = Link(CARRIER, segments_per_s=1)


def make(kept: Registry, row: NumberRow) -> Number:
    return kept.make(row, default_limits(row.type, row.country, True), LINK)


def test_a_number_is_found_by_its_order():
    kept = Registry()
    numbers = [make(kept, long_code(line=line)) for line in range(3)]
    assert [kept.by_order[number.order] for number in numbers] == numbers
    assert list(kept.numbers.values()) == numbers


def test_a_dropped_number_is_remembered_while_a_window_could_reach_its_last_hand_over():
    kept = Registry()
    used, other = make(kept, long_code()), make(kept, long_code(line=1))
    used.charge(1, NOW_MS)
    kept.drop(used.number, NOW_MS)
    assert kept.is_dropped(used.number)
    kept.drop(other.number, NOW_MS + REMEMBERED_MS - 1)
    assert used.number in kept.numbers
    assert other.number not in kept.numbers  # never used: nothing to remember
    kept.drop(make(kept, long_code(line=2)).number, NOW_MS + REMEMBERED_MS)
    assert used.number not in kept.numbers


def test_one_that_comes_back_is_a_number_like_any():
    kept = Registry()
    number = make(kept, long_code())
    number.charge(1, NOW_MS)
    kept.drop(number.number, NOW_MS)
    kept.revive(number.number)
    assert not kept.is_dropped(number.number)
    kept.drop(make(kept, long_code(line=1)).number, NOW_MS + 2 * REMEMBERED_MS)
    assert kept.numbers[number.number] is number


def test_the_place_of_a_forgotten_number_is_taken_and_its_stale_entries_stay_stale():
    kept = Registry()
    number = make(kept, long_code())
    number.version, number.stamp = 7, 9
    kept.drop(number.number, NOW_MS)
    another = make(kept, long_code(line=1))
    assert (another.order, another.version, another.stamp) == (number.order, 7, 9)
    assert kept.by_order == [another]


def test_what_waits_to_leave_keeps_a_dropped_number():
    kept = Registry()
    number = make(kept, long_code())
    number.messages = 1  # holds a slot
    kept.drop(number.number, NOW_MS)
    assert number.number in kept.numbers


def test_restored_hand_overs_of_a_number_that_is_not_ours_count_when_it_comes_back():
    kept, row = Registry(), long_code()
    kept.keep_charge(row.number, 2, NOW_MS)
    kept.keep_charge(row.number, 1, NOW_MS + 5_000)
    assert make(kept, row).lawful_ms(1) == NOW_MS + 6_020
    assert make(kept, row).lawful_ms(1) == 0  # counted once


def test_no_more_dropped_numbers_and_charges_are_remembered_than_may_be():
    kept = Registry(dropped_max=2, charges_max=2)
    for line in range(5):
        number = make(kept, long_code(line=line))
        number.charge(1, NOW_MS)
        kept.drop(number.number, NOW_MS)
    assert len(kept.numbers) == 2
    for line in range(10, 15):
        kept.keep_charge(long_code(line=line).number, 1, NOW_MS)
    assert [make(kept, long_code(line=line)).last_used_ms for line in range(10, 15)] == [NOW_MS, NOW_MS, 0, 0, 0]
