"""A carrier link: its state, its forecast, and whose turn it is."""

from __future__ import annotations

import pytest

from resolver.limits import default_limits
from resolver.links import LINK_GRACE_MS, STALE_MAX, UNKNOWN_SINCE_MS, Link, Turns
from resolver.model import AccountId, Message, NumberRow, Phase, Priority, Tier
from resolver.queues import Number
from tests.unit.resolver.floor import CARRIER, NOW_MS, URGENT, long_code, new_id, recipient, request

ONE, TWO = AccountId("MAONEONEONEONEONEONE"), AccountId("MATWOTWOTWOTWOTWOTWO")


def link_of(segments_per_s: int = 10) -> Link[Number]:
    return Link(CARRIER, segments_per_s=segments_per_s)


def number_on(link: Link[Number], order: int, row: NumberRow | None = None) -> Number:
    row = row or long_code(line=order)
    return Number(row, default_limits(row.type, row.country, True), link, order=order)


def waiting(number: Number, asked=None, *, committed: bool = True) -> Message:
    message = Message(
        new_id(), asked or request(), recipient(), number.number, Tier.AREA, NOW_MS + 9_999, committed=committed
    )
    number.push(message)
    return message


# --- up and down ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("down_since_ms", "fits"),
    [
        (None, True),
        (NOW_MS, True),
        (NOW_MS - LINK_GRACE_MS + 1, True),
        (NOW_MS - LINK_GRACE_MS, False),
        (UNKNOWN_SINCE_MS, False),
    ],
)
def test_numbers_are_passed_over_once_their_link_has_been_down_for_the_grace(down_since_ms, fits):
    link = link_of()
    link.down_since_ms = down_since_ms
    assert link.fits(NOW_MS) is fits


def test_one_that_nobody_has_set_up_has_no_grace():
    link = link_of()
    link.down_since_ms = UNKNOWN_SINCE_MS
    assert not link.fits(0)


# --- the forecast -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("booked", [0, 3, 8, 9, 10, 11, 25, 1_000])
@pytest.mark.parametrize("units", [1, 4, 10, 33])
@pytest.mark.parametrize("charged", [0, 5, 10, 40])
def test_it_is_free_when_its_window_has_room_behind_what_waits_for_it(booked, units, charged):
    link = link_of(10)
    for place in range(charged):
        link.window.charge(1, NOW_MS - 2_000 + place // 10 * 1_020)
    link.booked_segments = booked
    for now_ms in (NOW_MS, NOW_MS + 500, NOW_MS + 9_000):
        assert link.free_ms(units, now_ms) == link.window.forecast_ms(booked, units, now_ms)


# --- turns ------------------------------------------------------------------------------------------------------------


def test_accounts_take_turns_and_each_accounts_numbers_go_in_order():
    link, turns = link_of(), Turns[Number]()
    numbers = [
        number_on(link, order, long_code(line=order, account_id=ONE if order < 4 else TWO)) for order in range(6)
    ]
    for number in numbers:
        turns.push(number)
    gone = []
    while (found := turns.peek()) is not None:
        assert turns.peek() is found  # looking changes nothing
        turns.pop()
        gone.append(found.order)
    assert gone == [0, 4, 1, 5, 2, 3]


def test_a_number_that_was_placed_again_loses_its_turn_and_its_account_does_not():
    link, turns = link_of(), Turns[Number]()
    first, second = (number_on(link, order, long_code(line=order, account_id=ONE)) for order in range(2))
    third = number_on(link, 2, long_code(line=2, account_id=TWO))
    for number in (first, third, second):
        turns.push(number)
    first.stamp += 1
    assert turns.peek() is second
    turns.pop()
    assert turns.peek() is third
    third.stamp += 1
    assert turns.peek() is None


def due(link: Link[Number], urgent: int, bulk: int) -> list[Number]:
    numbers = [number_on(link, order) for order in range(urgent + bulk)]
    for number in numbers:
        waiting(number, URGENT if number.order < urgent else None)
        link.place(number, NOW_MS)
    link.collect_due(NOW_MS)
    return numbers


@pytest.mark.parametrize(
    ("urgent", "bulk", "expected"),
    [(3, 0, "uuu"), (0, 3, "bbb"), (9, 3, "uuuubuuuubub"), (2, 4, "uubbbb"), (10, 1, "uuuubuuuuuu")],
)
def test_urgent_heads_go_first_at_most_four_to_one(urgent, bulk, expected):
    link = link_of()
    due(link, urgent, bulk)
    gone = ""
    while (number := link.next_due()) is not None:
        gone += "u" if number.placed is Priority.URGENT else "b"
        link.count_turn(number)
        number.stamp += 1
    assert gone == expected


def test_a_turn_counts_only_when_its_message_goes():
    link = link_of()
    due(link, 8, 1)
    for _ in range(10):  # the link is full: asked again and again
        number = link.next_due()
        assert number is not None
        assert number.placed is Priority.URGENT
    for _ in range(4):
        number = link.next_due()
        assert number is not None
        link.count_turn(number)
    number = link.next_due()
    assert number is not None
    assert number.placed is Priority.BULK


# --- the schedule -----------------------------------------------------------------------------------------------------


def test_a_number_stands_in_the_schedule_at_the_instant_its_head_may_leave():
    link = link_of()
    number = number_on(link, 0)
    number.charge(1, NOW_MS)
    link.place(number, NOW_MS)
    assert (number.placed, link.wake_ms(NOW_MS)) == (None, None)  # nothing waits
    message = waiting(number, committed=False)
    link.place(number, NOW_MS)
    assert link.wake_ms(NOW_MS) is None  # not durable
    message.committed = True
    link.place(number, NOW_MS)
    assert link.wake_ms(NOW_MS) == NOW_MS + 1_020
    link.collect_due(NOW_MS + 1_019)
    assert link.next_due() is None
    link.collect_due(NOW_MS + 1_020)
    assert link.next_due() is number


def test_a_number_taken_out_is_in_nobodys_turn():
    link = link_of()
    numbers = due(link, 0, 2)
    link.remove(numbers[0])
    assert link.next_due() is numbers[1]
    link.remove(numbers[1])
    assert link.next_due() is None
    assert link.wake_ms(NOW_MS) is None


def test_it_is_brought_forward_when_something_before_it_went_out():
    link = link_of()
    number = number_on(link, 0)
    number.charge(1, NOW_MS)
    long_text = waiting(number, request(3))
    waiting(number)
    number.take(long_text)
    long_text.phase = Phase.RELEASED
    link.place(number, NOW_MS)
    assert link.wake_ms(NOW_MS) == NOW_MS + 4 * 1_020
    link.place_sooner(number, NOW_MS)  # no sooner: nothing changes
    assert (link.stale, len(link.schedule)) == (0, 1)
    number.hold(long_text, -1)
    link.place_sooner(number, NOW_MS)
    assert link.wake_ms(NOW_MS) == NOW_MS + 1_020


def test_stale_entries_are_swept_out_and_the_number_stays():
    link = link_of()
    number = number_on(link, 0)
    number.charge(1, NOW_MS + 60_000)  # not due for long
    waiting(number)
    for _ in range(10_000):
        link.place(number, NOW_MS)
        assert len(link.schedule) <= 2 * STALE_MAX + 4
    link.collect_due(NOW_MS + 90_000)
    assert link.next_due() is number
    link.count_turn(number)
    assert link.next_due() is None


def test_it_wakes_when_the_text_whose_turn_it_is_fits():
    link = link_of(4)
    link.window.charge(3, NOW_MS)
    numbers = due(link, 0, 1)
    assert link.wake_ms(NOW_MS) == NOW_MS  # one more fits
    numbers[0].urgent = None
    numbers[0].bulk = None
    waiting(numbers[0], request(2))
    link.place(numbers[0], NOW_MS)
    link.collect_due(NOW_MS)
    assert link.wake_ms(NOW_MS) == NOW_MS + 1_020


# --- retries ----------------------------------------------------------------------------------------------------------


def test_retries_come_back_at_their_instant_in_order():
    link = link_of()
    number = number_on(link, 0)
    messages = [waiting(number) for _ in range(4)]
    for message, wait_ms in zip(messages, (300, 100, 200, 200), strict=True):
        message.retry_at_ms = NOW_MS + wait_ms
        link.schedule_retry(message)
        link.schedule_retry(message)  # its carrier changed there and back: twice is not too much
    assert link.wake_ms(NOW_MS) == NOW_MS + 100
    assert link.due_retries(NOW_MS + 99) == []
    assert link.due_retries(NOW_MS + 200) == [
        each for each in (messages[1], messages[2], messages[3]) for _ in range(2)
    ]
    assert link.due_retries(NOW_MS + 300) == [messages[0]] * 2
