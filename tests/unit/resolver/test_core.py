"""The whole way out: release ahead, depart exactly, what became of it; no burst, no hole, and whose turn it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resolver.core import Departure, Resolver, Verdict
from resolver.limits import default_limits
from resolver.model import AccountId, CarrierName, Decision, Message, NumberState, Phase, Priority, Tier
from tests.unit.resolver.floor import (
    CARRIER,
    NOW_MS,
    SAN_FRANCISCO,
    TORONTO,
    URGENT,
    accept,
    build,
    decided,
    hand_over,
    limits,
    long_code,
    new_id,
    recipient,
    request,
    run_lane,
    short_code,
    toll_free,
)
from tests.unit.resolver.laws import check_counts
from tests.unit.resolver.twins import most_in_a_span

OTHER = CarrierName("other")


# --- release ahead, depart exactly ------------------------------------------------------------------------------------


def test_a_head_is_released_ahead_and_departs_at_its_slot():
    resolver = build([long_code()])
    accept(resolver, recipient())
    second = accept(resolver, recipient(line=1))
    assert hand_over(resolver, now_ms=NOW_MS)
    assert resolver.release(CARRIER, now_ms=NOW_MS + 800, until_ms=NOW_MS + 900, places=10) == []
    assert resolver.release(CARRIER, now_ms=NOW_MS + 950, until_ms=NOW_MS + 1_050, places=10) == [second]
    assert (second.phase, second.attempt, second.slot_ms) == (Phase.RELEASED, 1, NOW_MS + 1_020)
    assert resolver.depart(second, now_ms=NOW_MS + 1_019) == Departure(Verdict.NOT_YET, NOW_MS + 1_020)
    assert resolver.depart(second, now_ms=NOW_MS + 1_030) == Departure(Verdict.GO, NOW_MS + 1_030)
    assert (second.phase, second.slot_ms) == (Phase.DEPARTED, NOW_MS + 1_030)


def test_several_heads_of_one_number_are_released_when_its_windows_will_have_room():
    resolver = build([long_code(limits=limits(3, 1_000))])
    messages = [accept(resolver, recipient(line=line)) for line in range(5)]
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 100, places=10) == messages[:3]
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_000, places=10) == []
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_020, places=10) == messages[3:]


def test_never_more_than_the_lane_has_places():
    resolver = build([long_code(line=line) for line in range(5)])
    for line in range(5):
        accept(resolver, recipient(line=line))
    assert len(resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=2)) == 2
    assert len(resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=10)) == 3


def test_nothing_is_released_before_its_decision_is_durable():
    resolver = build([long_code()])
    message = accept(resolver, recipient(), committed=False)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=10) == []
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) is None
    assert resolver.commit([message]) == {CARRIER}
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=10) == [message]


def test_what_is_behind_a_decision_that_fails_goes_on():
    resolver = build([long_code()])
    first = accept(resolver, recipient(), committed=False)
    second = accept(resolver, recipient(line=1))
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=10) == []
    resolver.undo(first, now_ms=NOW_MS)
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) is not None
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=10) == [second]


def test_at_accept_heads_that_may_leave_at_once_are_released_with_their_own_decision():
    resolver = build([long_code(), long_code(line=1)])
    places = {CARRIER: 10}
    messages = [accept(resolver, recipient(line=line), committed=False) for line in range(3)]
    own = resolver.release_own(messages, now_ms=NOW_MS, lead_ms=100, places=places)
    assert own == messages[:2]  # the third waits behind one of them
    other = accept(resolver, recipient(line=4), committed=False)
    assert resolver.release_own([other], now_ms=NOW_MS, lead_ms=100, places=places) == []
    resolver.commit(messages)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_020, places=10) == messages[2:]


def test_at_accept_a_head_of_another_decision_that_is_not_durable_holds_all_behind_it():
    resolver = build([long_code(limits=limits(5, 1_000))])
    other = accept(resolver, recipient(), committed=False)
    own = accept(resolver, recipient(line=1), committed=False)
    assert resolver.release_own([own], now_ms=NOW_MS, lead_ms=100, places={CARRIER: 9}) == []
    resolver.commit([other])
    assert resolver.release_own([own], now_ms=NOW_MS, lead_ms=100, places={CARRIER: 9}) == [other, own]


def test_at_accept_nothing_overtakes_what_waits_for_the_link():
    resolver = build([long_code(line=line) for line in range(3)], segments_per_s=1)
    first, second = (accept(resolver, recipient(line=line)) for line in range(2))
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 100, places=10) == [first]
    third = accept(resolver, recipient(line=2), committed=False)
    assert resolver.release_own([third], now_ms=NOW_MS, lead_ms=5_000, places={CARRIER: 10}) == []
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_020, places=10) == [second]


def test_at_accept_nothing_is_released_for_a_carrier_without_places_or_a_link_that_is_down():
    resolver = build([long_code()])
    message = accept(resolver, recipient(), committed=False)
    assert resolver.release_own([message], now_ms=NOW_MS, lead_ms=100, places={}) == []
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS)
    assert resolver.release_own([message], now_ms=NOW_MS, lead_ms=100, places={CARRIER: 1}) == []
    resolver.set_link_up(CARRIER, True, now_ms=NOW_MS)
    assert resolver.release_own([message], now_ms=NOW_MS, lead_ms=100, places={CARRIER: 1}) == [message]


def test_a_claim_that_fails_frees_its_slot_and_its_message_is_the_head_again():
    resolver = build([long_code()])
    first, second = (accept(resolver, recipient(line=line)) for line in range(2))
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1) == [first]
    resolver.take_back(first, now_ms=NOW_MS)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 2_000, places=10) == [first, second]
    assert (first.attempt, second.attempt) == (2, 1)
    assert (first.slot_ms, second.slot_ms) == (NOW_MS, NOW_MS + 1_020)


def test_taking_back_what_holds_no_slot_does_nothing():
    resolver = build([long_code()])
    message = accept(resolver, recipient())
    resolver.take_back(message, now_ms=NOW_MS)
    check_counts(resolver)
    assert message.phase is Phase.WAITING


def test_texts_of_several_segments_are_not_claimed_before_they_can_leave():
    # Eight fit into the minute once: the second must wait for the first one's hand-over, and is not claimed before.
    resolver = build([long_code(limits=limits(15, 60_000))])
    first, second, third = (accept(resolver, recipient(line=line), request(8)) for line in range(3))
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_000, places=10) == [first]
    at_ms = NOW_MS + 700
    assert resolver.depart(first, now_ms=at_ms).verdict is Verdict.GO
    assert resolver.wake_ms(CARRIER, now_ms=at_ms) == at_ms + 61_200
    at_ms += 61_200
    assert resolver.release(CARRIER, now_ms=at_ms, until_ms=at_ms + 1_000, places=10) == [second]
    assert resolver.depart(second, now_ms=at_ms).verdict is Verdict.GO
    assert resolver.wake_ms(CARRIER, now_ms=at_ms) == at_ms + 61_200
    assert third.phase is Phase.WAITING


# --- the door ---------------------------------------------------------------------------------------------------------


def released(resolver: Resolver, *, now_ms: int = NOW_MS) -> Message:
    (message,) = resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=1)
    return message


def test_a_claim_older_than_five_seconds_is_given_up_at_the_door():
    resolver = build([long_code()])
    accept(resolver, recipient())
    message = released(resolver)
    assert resolver.depart(message, now_ms=NOW_MS + 5_001).verdict is Verdict.GIVEN_UP
    assert resolver.depart(message, now_ms=NOW_MS + 5_000).verdict is Verdict.GO


def test_a_claim_for_a_carrier_that_the_number_has_left_is_given_up_at_the_door():
    resolver = build([long_code()])
    resolver.put_link(OTHER, segments_per_s=100, now_ms=NOW_MS)
    accept(resolver, recipient())
    message = released(resolver)
    resolver.put_number(long_code(carrier=OTHER), now_ms=NOW_MS + 10)
    assert resolver.depart(message, now_ms=NOW_MS + 20).verdict is Verdict.GIVEN_UP
    resolver.take_back(message, now_ms=NOW_MS + 20)
    assert resolver.release(CARRIER, now_ms=NOW_MS + 30, until_ms=NOW_MS + 30, places=1) == []
    assert resolver.release(OTHER, now_ms=NOW_MS + 30, until_ms=NOW_MS + 30, places=1) == [message]
    assert resolver.depart(message, now_ms=NOW_MS + 30).verdict is Verdict.GO


def test_a_claim_of_a_number_that_was_taken_out_or_disabled_since_is_given_up_at_the_door():
    for changed in (long_code(powerpack_id=None), long_code(state=NumberState.DISABLED)):
        resolver = build([long_code(), long_code(line=1)])
        accept(resolver, recipient())
        message = released(resolver)
        first = next(each for each in (long_code(), long_code(line=1)) if each.number == message.number)
        gone = replace(first, powerpack_id=changed.powerpack_id, state=changed.state)
        resolver.put_number(gone, now_ms=NOW_MS + 10)
        assert resolver.depart(message, now_ms=NOW_MS + 20).verdict is Verdict.GIVEN_UP
        resolver.take_back(message, now_ms=NOW_MS + 20)
        resolver.rebind(now_ms=NOW_MS + 30, chance=0.0, most=10)
        assert message.number not in ("", first.number)


def test_a_released_message_that_was_cancelled_or_has_expired_ends_at_the_door():
    resolver = build([long_code(), long_code(line=1)])
    accept(resolver, recipient(), request(validity_ms=1_000))
    message = released(resolver)
    assert resolver.depart(message, now_ms=NOW_MS + 1_000) == Departure(Verdict.ENDED, NOW_MS + 1_000, "expired")
    assert resolver.cancel(message, now_ms=NOW_MS)
    assert resolver.depart(message, now_ms=NOW_MS) == Departure(Verdict.ENDED, NOW_MS, "cancelled")
    resolver.settle_ended(message, now_ms=NOW_MS)
    assert resolver.depart(message, now_ms=NOW_MS).verdict is Verdict.GONE
    check_counts(resolver)
    assert resolver.waiting == 0


def test_what_was_handed_over_cannot_be_cancelled():
    resolver = build([long_code()])
    accept(resolver, recipient())
    message = released(resolver)
    assert resolver.depart(message, now_ms=NOW_MS).verdict is Verdict.GO
    assert not resolver.cancel(message, now_ms=NOW_MS)
    resolver.settle_sent(message, now_ms=NOW_MS)
    assert not resolver.cancel(message, now_ms=NOW_MS)


def test_a_message_is_found_until_it_has_ended():
    resolver = build([long_code()])
    message = accept(resolver, recipient())
    assert resolver.find(message.message_id) is message
    assert resolver.waiting == 1
    assert resolver.cancel(message, now_ms=NOW_MS)
    assert resolver.find(message.message_id) is None
    assert resolver.waiting == 0


# --- what became of it ------------------------------------------------------------------------------------------------


def departed(resolver: Resolver, *, now_ms: int = NOW_MS) -> Message:
    message = released(resolver, now_ms=now_ms)
    assert resolver.depart(message, now_ms=now_ms).verdict is Verdict.GO
    return message


@pytest.mark.parametrize("charged", [True, False])
def test_a_returned_message_waits_aside_then_is_the_head_and_its_charge_stays_or_not(charged):
    resolver = build([long_code()])
    first, second = (accept(resolver, recipient(line=line)) for line in range(2))
    departed(resolver)
    resolver.settle_returned(first, now_ms=NOW_MS + 10, retry_at_ms=NOW_MS + 3_000, charged=charged)
    assert first.phase is Phase.ASIDE
    next_ms = NOW_MS + (1_020 if charged else 10)
    assert (resolver.wake_ms(CARRIER, now_ms=NOW_MS + 10) or 0) <= next_ms
    assert resolver.release(CARRIER, now_ms=NOW_MS + 10, until_ms=next_ms - 1, places=10) == []
    assert resolver.release(CARRIER, now_ms=NOW_MS + 10, until_ms=next_ms, places=10) == [second]
    resolver.take_back(second, now_ms=NOW_MS + 10)
    at_ms = NOW_MS + 3_000
    assert resolver.release(CARRIER, now_ms=at_ms, until_ms=at_ms + 2_000, places=10) == [first, second]


def test_a_retry_aside_blocks_its_recipient_alone():
    resolver = build([long_code(limits=limits(10, 1_000))])
    first = accept(resolver, recipient())
    departed(resolver)
    same, other = accept(resolver, recipient()), accept(resolver, recipient(line=1))
    resolver.settle_returned(first, now_ms=NOW_MS, retry_at_ms=NOW_MS + 500, charged=False)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 499, places=10) == [other]
    at_ms = NOW_MS + 500
    assert resolver.release(CARRIER, now_ms=at_ms, until_ms=at_ms, places=10) == [first, same]


def test_what_waits_behind_a_retry_makes_way_for_others_at_once():
    # The head must wait for a slot to be used; then it waits behind a retry, and the next needs no such thing.
    resolver = build([long_code(limits=limits(7, 60_000))])
    retried = accept(resolver, recipient())
    departed(resolver)
    holds_slot = accept(resolver, recipient(line=1), request(3))
    assert released(resolver) is holds_slot
    accept(resolver, recipient(), request(5))
    other = accept(resolver, recipient(line=2))
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) is None
    resolver.settle_returned(retried, now_ms=NOW_MS, retry_at_ms=NOW_MS + 9_000, charged=True)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=9) == [other]


def test_a_retry_that_was_decided_again_meanwhile_keeps_to_its_new_instant():
    resolver = build([long_code()])
    message = accept(resolver, recipient())
    departed(resolver)
    resolver.settle_returned(message, now_ms=NOW_MS, retry_at_ms=NOW_MS + 9_000, charged=True)
    resolver.put_number(long_code(line=1), now_ms=NOW_MS)
    resolver.drop_number(long_code().number, now_ms=NOW_MS)
    assert resolver.rebind(now_ms=NOW_MS, chance=0.5, most=9)
    assert departed(resolver, now_ms=NOW_MS + 100) is message
    resolver.settle_returned(message, now_ms=NOW_MS + 100, retry_at_ms=NOW_MS + 30_000, charged=True)
    at_ms = NOW_MS + 20_000
    assert resolver.release(CARRIER, now_ms=at_ms, until_ms=at_ms, places=9) == []
    assert resolver.release(CARRIER, now_ms=NOW_MS + 30_000, until_ms=NOW_MS + 30_000, places=9) == [message]


def test_an_unknown_outcome_stays_charged_and_is_sent_again_as_another_attempt():
    resolver = build([long_code()])
    accept(resolver, recipient())
    message = departed(resolver)
    resolver.settle_unknown(message, now_ms=NOW_MS + 10)
    assert (message.phase, message.possible_duplicate) == (Phase.UNKNOWN, True)
    assert resolver.find(message.message_id) is message
    resolver.resend(message, now_ms=NOW_MS + 20, retry_at_ms=NOW_MS + 20)
    assert resolver.release(CARRIER, now_ms=NOW_MS + 20, until_ms=NOW_MS + 1_019, places=1) == []
    assert resolver.release(CARRIER, now_ms=NOW_MS + 20, until_ms=NOW_MS + 1_020, places=1) == [message]
    assert message.attempt == 2


def test_what_is_late_for_what_a_message_is_changes_nothing():
    resolver = build([long_code()])
    message = accept(resolver, recipient())
    resolver.settle_returned(message, now_ms=NOW_MS, retry_at_ms=NOW_MS, charged=False)
    resolver.resend(message, now_ms=NOW_MS, retry_at_ms=NOW_MS)
    assert message.phase is Phase.WAITING
    check_counts(resolver)


def test_a_report_that_it_was_taken_takes_a_message_out_wherever_it_waits():
    for phase in (Phase.WAITING, Phase.ASIDE, Phase.RELEASED, Phase.UNKNOWN):
        resolver = build([long_code()])
        accept(resolver, recipient())
        message = departed(resolver)
        resolver.settle_unknown(message, now_ms=NOW_MS)
        if phase is not Phase.UNKNOWN:
            resolver.resend(message, now_ms=NOW_MS, retry_at_ms=NOW_MS + 100)
        if phase in (Phase.WAITING, Phase.RELEASED):
            message = released(resolver, now_ms=NOW_MS + 2_000)
        if phase is Phase.WAITING:
            resolver.take_back(message, now_ms=NOW_MS + 2_000)
        assert message.phase is phase
        resolver.settle_sent(message, now_ms=NOW_MS + 2_000)
        check_counts(resolver)
        assert resolver.waiting == 0
        assert resolver.release(CARRIER, now_ms=NOW_MS + 9_000, until_ms=NOW_MS + 9_000, places=1) == []


def test_expired_messages_are_taken_out_a_bounded_part_at_a_time():
    resolver = build([long_code()])
    messages = [accept(resolver, recipient(line=line), request(validity_ms=600_000)) for line in range(5)]
    assert resolver.expire(now_ms=NOW_MS + 599_999, most=10) == []
    assert resolver.expire(now_ms=NOW_MS + 600_000, most=3) == messages[:3]
    assert resolver.expire(now_ms=NOW_MS + 600_000, most=3) == messages[3:]
    assert resolver.waiting == 0


def test_what_is_not_durable_yet_does_not_expire_before_it_is():
    resolver = build([long_code()])
    message = accept(resolver, recipient(), request(validity_ms=1_000), committed=False)
    assert resolver.expire(now_ms=NOW_MS + 2_000, most=10) == []
    resolver.commit([message])
    assert resolver.expire(now_ms=NOW_MS + 2_000, most=10) == [message]


def test_a_claim_given_up_after_its_validity_expires_though_nothing_releases_it_again():
    resolver = build([long_code()])
    accept(resolver, recipient(), request(validity_ms=1_000))
    message = released(resolver)
    assert resolver.expire(now_ms=NOW_MS + 2_000, most=10) == []  # the door ends it
    resolver.take_back(message, now_ms=NOW_MS + 2_000)
    assert resolver.expire(now_ms=NOW_MS + 2_000, most=10) == [message]


# --- no burst, no hole ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [long_code(), long_code(TORONTO), toll_free(), short_code(), short_code("CA")])
def test_a_saturated_number_uses_at_least_97_percent_of_its_rate(row):
    resolver = build([row], local_connect=False)
    area_code = TORONTO if row.country == "CA" else SAN_FRANCISCO
    published = default_limits(row.type, row.country, True)
    seconds = max(10, 2 * published.span_ms // 1_000)
    count = 2 * seconds * 1_000 * published.segments // published.span_ms
    for line in range(count):
        accept(resolver, recipient(area_code, line))
    gone = run_lane(resolver, now_ms=NOW_MS, ms=seconds * 1_000, every_ms=5)
    assert len(gone) >= 0.97 * seconds * 1_000 * published.segments / published.span_ms
    assert most_in_a_span([at_ms for at_ms, _ in gone], published.span_ms) <= published.segments


@pytest.mark.parametrize("segments_per_s", [1, 7, 100])
def test_a_saturated_link_uses_at_least_97_percent_of_its_rate_and_never_more(segments_per_s):
    resolver = build([long_code(line=line) for line in range(150)], segments_per_s=segments_per_s, sticky_sender=False)
    for line in range(30 * segments_per_s):
        accept(resolver, recipient(line=line))
    gone = run_lane(resolver, now_ms=NOW_MS, ms=20_000, every_ms=5)
    assert len(gone) >= 0.97 * 20 * segments_per_s
    assert most_in_a_span([at_ms for at_ms, _ in gone], 1_020) <= segments_per_s


def test_a_carrier_that_stalls_ten_minutes_and_comes_back_is_not_flooded():
    resolver = build([long_code(line=line) for line in range(20)], segments_per_s=5)
    for line in range(400):
        accept(resolver, recipient(line=line), request(validity_ms=3_600_000))
    run_lane(resolver, now_ms=NOW_MS, ms=5_000)
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS + 5_000)
    back_ms = NOW_MS + 605_000
    resolver.set_link_up(CARRIER, True, now_ms=back_ms)
    gone = run_lane(resolver, now_ms=back_ms, ms=10_000)
    instants = [at_ms for at_ms, _ in gone]
    assert most_in_a_span(instants, 1_020) <= 5
    assert len(gone) >= 0.97 * 50
    for number in {message.number for _, message in gone}:
        assert most_in_a_span([at_ms for at_ms, message in gone if message.number == number], 1_020) <= 1


def test_a_claim_that_waits_out_a_stall_departs_only_when_it_is_lawful_then():
    resolver = build([long_code(limits=limits(2, 10_000))])
    for line in range(4):
        accept(resolver, recipient(line=line))
    hand_over(resolver, now_ms=NOW_MS)
    claims = resolver.release(CARRIER, now_ms=NOW_MS + 9_900, until_ms=NOW_MS + 10_200, places=10)
    late_ms = NOW_MS + 13_000  # the journal or the carrier took its time
    assert [resolver.depart(each, now_ms=late_ms).verdict for each in claims] == [Verdict.GO, Verdict.GO]
    fifth = accept(resolver, recipient(line=5), now_ms=late_ms)
    assert resolver.release(CARRIER, now_ms=late_ms, until_ms=late_ms + 10_199, places=10) == []
    assert resolver.release(CARRIER, now_ms=late_ms, until_ms=late_ms + 10_200, places=10) == [fifth]


@pytest.mark.parametrize("segments", [1, 7])
@pytest.mark.parametrize("row", [long_code(limits=limits(15, 10_000)), long_code()])
def test_a_cancelled_backlog_leaves_no_hole(row, segments):
    resolver = build([row])
    doomed = [accept(resolver, recipient(line=line), request(segments)) for line in range(300)]
    kept = [accept(resolver, recipient(line=line), request()) for line in range(300, 600)]
    gone = run_lane(resolver, now_ms=NOW_MS, ms=500)
    now_ms = NOW_MS + 500
    for message in doomed:
        resolver.cancel(message, now_ms=now_ms)
    left = resolver.numbers[row.number].rate.lawful_ms(1) - now_ms  # what was handed over before is still paid for
    rate = resolver.numbers[row.number].rate
    gone = run_lane(resolver, now_ms=now_ms, ms=max(0, left) + 6 * rate.span_ms)
    assert [message for _, message in gone] == kept[: len(gone)]
    assert len(gone) >= 0.97 * 6 * rate.limit


def test_forecasts_of_number_and_link_shrink_at_once_when_a_backlog_is_cancelled():
    resolver = build([long_code(line=line) for line in range(50)], segments_per_s=10)
    doomed = [accept(resolver, recipient(line=line)) for line in range(2_000)]
    assert (decided(resolver, recipient(line=5_000)).forecast_ms or 0) > NOW_MS + 150_000
    for message in doomed:
        resolver.cancel(message, now_ms=NOW_MS)
    found = decided(resolver, recipient(line=5_000))
    assert (found.forecast_ms, found.window) == (NOW_MS, "")


# --- when the link binds ----------------------------------------------------------------------------------------------


def test_when_the_link_binds_urgent_heads_go_first_at_most_four_to_one():
    resolver = build([long_code(line=line) for line in range(60)], segments_per_s=10, sticky_sender=False)
    for line in range(30):
        accept(resolver, recipient(line=line))
    for line in range(30):
        accept(resolver, recipient(line=100 + line), URGENT)
    gone = [message for _, message in run_lane(resolver, now_ms=NOW_MS, ms=3_000, places=3)]
    kinds = "".join("u" if message.request.priority is Priority.URGENT else "b" for message in gone[:30])
    assert kinds == "uuuub" * 6


def test_an_urgent_message_moves_its_number_to_the_urgent_turn():
    resolver = build([long_code(line=line) for line in range(4)], segments_per_s=1, sticky_sender=False)
    bulk = [accept(resolver, recipient(line=line)) for line in range(8)]
    assert len(hand_over(resolver, now_ms=NOW_MS)) == 1  # the others stand in the bulk turn
    last = next(message for message in reversed(bulk) if message.phase is Phase.WAITING)
    there = Decision(last.number, Tier.AREA, NOW_MS, (), "")
    urgent = resolver.apply(URGENT, recipient(line=9), there, new_id(), now_ms=NOW_MS)
    resolver.commit([urgent])
    gone = [message for _, message in run_lane(resolver, now_ms=NOW_MS + 2_000, ms=3_000, lead_ms=0)]
    assert gone[0] is urgent
    assert set(gone[1:]) <= set(bulk)


def test_when_the_link_binds_accounts_take_turns():
    others = AccountId("MABBBBBBBBBBBBBBBBBB")
    rows = [long_code(line=line) for line in range(40)]
    rows += [long_code(line=40 + line, account_id=others) for line in range(10)]
    resolver = build(rows, segments_per_s=10, sticky_sender=False)
    for line in range(50):
        accept(resolver, recipient(line=line))
    gone = run_lane(resolver, now_ms=NOW_MS, ms=2_100)
    of_others = [resolver.numbers[message.number].row.account_id == others for _, message in gone]
    assert len(gone) >= 20
    assert sum(of_others[:20]) == 10
    assert sum(of_others[:10]) == 5


def test_wake_tells_when_the_lane_should_look_again():
    resolver = build([long_code(line=line) for line in range(3)], segments_per_s=4)
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) is None
    accept(resolver, recipient(), request(3))
    assert (resolver.wake_ms(CARRIER, now_ms=NOW_MS) or 0) <= NOW_MS
    hand_over(resolver, now_ms=NOW_MS)
    accept(resolver, recipient(line=1), request(2))
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1) == []
    # the link has room for one segment, not for two
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) == NOW_MS + 1_020
