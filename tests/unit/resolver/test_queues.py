"""What waits at a number, in which order it leaves, and what is counted meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.limits import NO_RECOMMENDATION
from resolver.links import Link
from resolver.model import E164, Limits, Message, NumberState, Phase, PowerpackId, Request, Tier
from resolver.queues import Number
from resolver.windows import DAY_MS
from tests.unit.resolver.floor import CARRIER, NOW_MS, PLENTY, URGENT, limits, long_code, new_id, recipient, request
from tests.unit.resolver.twins import EFFORT


def number_with(its: Limits | None = None) -> Number:
    return Number(long_code(), its or limits(), Link(CARRIER, segments_per_s=PLENTY), order=0)


def put(number: Number, asked: Request | None = None, *, to: E164 | None = None) -> Message:
    message = Message(
        new_id(), asked or request(), to or recipient(), number.number, Tier.AREA, NOW_MS + 9_999, committed=True
    )
    number.push(message)
    return message


def take_head(number: Number) -> Message | None:
    """Let the head leave."""
    message = number.head()
    if message is not None:
        number.take(message)
        message.phase = Phase.RELEASED
        number.hand_over(message, NOW_MS)
        message.phase = Phase.DEPARTED
    return message


def leaving_order(number: Number) -> list[Message]:
    return list(iter(lambda: take_head(number), None))


# --- the order --------------------------------------------------------------------------------------------------------


def test_each_queue_is_first_in_first_out():
    number = number_with()
    for asked in (request(), URGENT):
        messages = [put(number, asked) for _ in range(5)]
        assert leaving_order(number) == messages


def test_urgent_goes_first_at_most_four_to_one():
    number = number_with()
    bulk = [put(number) for _ in range(3)]
    urgent = [put(number, URGENT) for _ in range(10)]
    expected = [*urgent[:4], bulk[0], *urgent[4:8], bulk[1], *urgent[8:], bulk[2]]
    assert leaving_order(number) == expected


def test_urgent_alone_is_not_held_up():
    number = number_with()
    urgent = [put(number, URGENT) for _ in range(6)]
    assert [take_head(number) for _ in range(6)] == urgent
    late_bulk, late_urgent = put(number), put(number, URGENT)
    assert leaving_order(number) == [late_bulk, late_urgent]  # its turn has come long ago


def test_what_was_taken_back_goes_before_all_others_in_accept_order():
    number = number_with()
    messages = [put(number, URGENT), put(number), put(number, URGENT), put(number)]
    for message in (messages[2], messages[1]):
        message.phase = Phase.RELEASED
        number.hold(message, 1)
        number.hold(message, -1)
        message.phase = Phase.WAITING
        number.put_front(message)
    assert leaving_order(number) == [messages[1], messages[2], messages[0], messages[3]]


def test_what_has_left_or_moved_is_dropped_when_it_comes_to_the_head():
    number = number_with()
    gone, moved, stays = put(number), put(number), put(number)
    gone.phase = Phase.DONE
    moved.number = E164("+14152009999")
    assert number.head() is stays
    assert number.waiting_messages() == [stays]


# --- retries aside ----------------------------------------------------------------------------------------------------

TO, OTHER = recipient(line=1), recipient(line=2)


def aside(number: Number, message: Message) -> None:
    """It was handed over and came back."""
    message.phase = Phase.ASIDE
    number.count(message, 1)
    number.put_aside(message)


def test_a_retry_aside_lets_only_later_messages_to_its_recipient_wait():
    number = number_with()
    earlier, first = put(number, to=TO), put(number, to=TO)
    same, urgent, other = put(number, to=TO), put(number, URGENT, to=TO), put(number, to=OTHER)
    number.urgent, number.bulk = None, None
    for message in (earlier, same, urgent, other):
        number.push(message)
    aside(number, first)
    assert leaving_order(number) == [earlier, other]
    number.retry_due(first)
    assert leaving_order(number) == [first, same, urgent]
    assert not number.aside


def test_an_earlier_retry_holds_a_later_one_and_not_the_other_way_round():
    number = number_with()
    first, second = put(number, to=TO), put(number, to=TO)
    leaving_order(number)
    aside(number, first)
    aside(number, second)
    number.retry_due(second)
    assert number.head() is None  # behind the first
    number.retry_due(first)
    assert leaving_order(number) == [first, second]
    aside(number, first)
    aside(number, second)
    number.retry_due(first)
    assert leaving_order(number) == [first]  # the second waits for its own instant
    number.retry_due(second)
    assert leaving_order(number) == [second]


def test_what_waited_behind_a_retry_goes_on_when_that_has_left():
    number = number_with()
    first = put(number, to=TO)
    leaving_order(number)
    aside(number, first)
    behind = put(number, to=TO)
    assert number.head() is None
    first.phase = Phase.DONE  # cancelled
    number.retry_due(first)
    assert number.head() is behind


def test_what_left_while_it_waited_behind_a_retry_does_not_come_back():
    number = number_with()
    first = put(number, to=TO)
    leaving_order(number)
    aside(number, first)
    behind = put(number, to=TO)
    assert number.head() is None
    behind.phase = Phase.DONE
    number.retry_due(first)
    number.retry_due(first)  # once is enough
    assert leaving_order(number) == [first]


def test_waiting_messages_are_all_that_wait_in_accept_order():
    number = number_with()
    messages = [put(number, asked, to=to) for asked in (request(), URGENT) for to in (TO, OTHER, TO)]
    number.take(messages[3])
    messages[3].phase = Phase.RELEASED
    retried = messages[0]
    number.bulk = None
    for message in messages[1:3]:
        number.push(message)
    aside(number, retried)
    assert number.head() is not None
    assert number.waiting_messages() == [*messages[:3], *messages[4:]]
    number.keep([retried, messages[4]])
    assert number.waiting_messages() == [retried, messages[4]]
    number.keep([])
    assert number.waiting_messages() == []
    assert number.head() is None


# --- plans ------------------------------------------------------------------------------------------------------------


def held(number: Number, units: int) -> Message:
    """One that holds a slot."""
    message = put(number, request(units))
    number.take(message)
    message.phase = Phase.RELEASED
    return message


def test_a_slot_counts_as_not_yet_elapsed():
    number = number_with()
    number.charge(1, NOW_MS - 500)
    assert number.plan_ms(1, NOW_MS) == NOW_MS + 520
    held(number, 1)
    assert number.plan_ms(1, NOW_MS) == NOW_MS + 520 + 1_020
    assert number.plan_ms(1, NOW_MS + 60_000) == NOW_MS + 60_000 + 1_020  # it has not left: a stall
    assert number.lawful_ms(1) == NOW_MS + 520


def test_a_plan_keeps_the_day_too():
    number = number_with(limits(5, 1_000, day=3))
    number.charge(1, NOW_MS)
    held(number, 1)
    assert number.plan_ms(1, NOW_MS) == NOW_MS
    held(number, 1)
    assert number.plan_ms(1, NOW_MS) == NOW_MS + DAY_MS


@pytest.mark.parametrize(
    ("limit", "slots", "units", "waits"),
    [
        (15, [], 8, False),  # nothing holds a slot
        (15, [8], 7, False),  # fits beside it
        (15, [8], 8, True),  # would begin another span, and when that is only the hand-over tells
        (15, [8, 7], 1, True),
        (15, [1] * 15, 1, False),  # single segments fill spans exactly
        (15, [1] * 14, 2, True),
        (1, [5], 3, False),  # one at a time: always exact
    ],
)
def test_behind_texts_of_several_segments_only_their_hand_over_can_tell(limit, slots, units, waits):
    number = number_with(limits(limit, 60_000))
    for each in slots:
        held(number, each)
    assert number.must_wait(units) is waits


# --- the day ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100 * EFFORT)
@given(
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(1, 8)),
    st.lists(st.integers(0, 30_000_000), max_size=30),
    st.integers(0, 10),
    st.integers(0, DAY_MS),
)
def test_it_rests_while_what_it_handed_over_in_24_hours_and_what_waits_reach_the_recommendation(
    recommended, law, waits, waiting, wait_ms
):
    number, now_ms, handed = number_with(limits(recommended=recommended, day=law)), NOW_MS, []
    for wait in waits:
        now_ms = max(now_ms + wait, number.lawful_ms(1))
        number.charge(1, now_ms)
        handed.append(now_ms)
    now_ms += wait_ms
    for _ in range(waiting):
        put(number)
    rested_ms = number.rested_ms(now_ms)
    in_day = sum(each > now_ms - DAY_MS for each in handed)
    assert (rested_ms == 0) == (in_day + waiting < recommended)
    if rested_ms and waiting < recommended:  # that is when the day has room again, if nothing else happens
        assert sum(each > rested_ms - DAY_MS for each in handed) + waiting < recommended
        assert sum(each > rested_ms - 1 - DAY_MS for each in handed) + waiting >= recommended
    elif rested_ms:
        assert rested_ms == now_ms + DAY_MS  # what waits has yet to be handed over


def test_a_number_without_recommendation_never_rests():
    number = number_with(Limits(100, 1_000, NO_RECOMMENDATION, None))
    for _ in range(500):
        put(number)
    assert number.rested_ms(NOW_MS) == 0


def test_the_days_law_is_messages_and_the_rate_segments():
    number = number_with(limits(10, 1_000, day=2))
    number.charge(9, NOW_MS)
    assert number.lawful_ms(1) == 0
    assert number.lawful_ms(2) == NOW_MS + 1_020
    number.charge(1, NOW_MS)
    assert number.lawful_ms(1) == NOW_MS + DAY_MS


def test_a_charge_given_back_frees_rate_and_day():
    number = number_with(limits(1, 1_000, day=1))
    message = put(number)
    take_head(number)
    assert (number.lawful_ms(1), number.last_used_ms) == (NOW_MS + DAY_MS, NOW_MS)
    number.give_back(message, NOW_MS)
    assert (number.lawful_ms(1), number.last_used_ms) == (0, 0)


def test_a_day_limit_that_comes_later_counts_what_was_used_before():
    number = number_with(Limits(100, 1_000, NO_RECOMMENDATION, None))
    for hour in range(30):
        number.charge(1, NOW_MS + hour * 3_600_000)
    number.charge(1, NOW_MS + 30 * 3_600_000)
    number.rate.give_back(1, NOW_MS + 30 * 3_600_000)
    now_ms = NOW_MS + 30 * 3_600_000
    number.change_limits(limits(100, 1_000, day=25))
    assert number.lawful_ms(1) > now_ms  # 25 within the last day
    number.change_limits(limits(100, 1_000, day=27))
    assert number.lawful_ms(1) <= now_ms


def test_a_day_limit_taken_away_and_put_back_reopens_nothing():
    number = number_with(limits(5, 1_000, day=2))
    number.charge(1, NOW_MS)
    number.change_limits(Limits(5, 1_000, NO_RECOMMENDATION, None))
    assert number.lawful_ms(1) == 0
    number.charge(1, NOW_MS + 10)
    number.change_limits(limits(5, 1_000, day=2))
    assert number.lawful_ms(1) == NOW_MS + DAY_MS


def test_a_charge_given_back_is_no_longer_in_the_tally():
    number = number_with(Limits(5, 1_000, NO_RECOMMENDATION, None))
    message = put(number)
    take_head(number)
    number.give_back(message, NOW_MS)
    number.change_limits(limits(5, 1_000, day=1))
    assert number.lawful_ms(1) == 0


def test_hand_overs_that_are_not_charged_again_count_where_other_limits_reach_them():
    number = number_with(limits(2, 1_000, day=2))
    number.forget(100, NOW_MS - 500)
    number.charge(1, NOW_MS)
    number.charge(1, NOW_MS)
    assert number.lawful_ms(1) == NOW_MS + DAY_MS
    number.change_limits(limits(2, 1_000, day=3))
    assert number.lawful_ms(1) == NOW_MS - 500 + DAY_MS  # the third last is one of those, and none of them is later
    without_day = number_with(Limits(2, 1_000, NO_RECOMMENDATION, None))
    without_day.forget(3, NOW_MS - 500)
    without_day.charge(1, NOW_MS)
    assert without_day.lawful_ms(1) == NOW_MS + 520  # in doubt one of those was just before
    without_day.change_limits(limits(2, 1_000, day=4))
    assert without_day.lawful_ms(1) > NOW_MS + DAY_MS - 3_600_000


# --- forecasts --------------------------------------------------------------------------------------------------------


def test_a_bulk_message_waits_behind_all_and_an_urgent_one_behind_the_urgent():
    number = number_with()
    for _ in range(8):
        put(number)
    assert number.forecast_ms(False, 1, NOW_MS) == NOW_MS + 8 * 1_020
    assert number.forecast_ms(True, 1, NOW_MS) == NOW_MS
    for _ in range(3):
        put(number, URGENT)
    assert number.forecast_ms(False, 1, NOW_MS) == NOW_MS + 11 * 1_020
    assert number.forecast_ms(True, 1, NOW_MS) == NOW_MS + 3 * 1_020
    put(number, URGENT)
    assert number.forecast_ms(True, 1, NOW_MS) == NOW_MS + 5 * 1_020  # one bulk message has its turn before it
    held_one = number_with()
    held(held_one, 1)
    assert held_one.forecast_ms(True, 1, NOW_MS) == NOW_MS + 1_020  # what holds a slot goes in any case


@pytest.mark.parametrize(
    ("its", "handed", "waits", "window"),
    [
        (limits(), 0, 0, ""),
        (limits(), 0, 1, "number_rate"),
        (limits(), 1, 0, "number_rate"),
        (limits(day=1), 0, 1, "number_day"),
        (limits(day=1), 1, 0, "number_day"),
        (limits(day=5), 0, 2, "number_rate"),
    ],
)
def test_the_window_that_binds_is_named(its, handed, waits, window):
    number = number_with(its)
    for _ in range(handed):
        number.charge(1, NOW_MS)
    for _ in range(waits):
        put(number)
    assert number.binding_window(urgent=False, units=1, now_ms=NOW_MS) == window


def test_a_message_is_held_by_the_numbers_of_its_powerpack_that_are_not_disabled():
    number = number_with()
    message = put(number)
    for state, holds in ((NumberState.ACTIVE, True), (NumberState.DRAINING, True), (NumberState.DISABLED, False)):
        number.row = long_code(state=state)
        assert number.holds(message) is holds
    for powerpack_id in (None, PowerpackId("another")):
        number.row = long_code(powerpack_id=powerpack_id)
        assert not number.holds(message)
