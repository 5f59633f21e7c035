"""Pause: what waits stays, what is decided waits too or is refused, and nothing bursts when it is resumed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from resolver.core import Verdict
from resolver.model import (
    NO_POWERPACK,
    CarrierName,
    Decision,
    NumberState,
    Pause,
    Phase,
    PoolId,
    PowerpackId,
    Priority,
    RefusalCode,
    Tier,
)
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    NOW_MS,
    POWERPACK,
    SAN_FRANCISCO,
    accept,
    build,
    decided,
    hand_over,
    limits,
    long_code,
    powerpack,
    recipient,
    refused,
    request,
    run_lane,
)

ROW = long_code(limits=limits(1, 1_000))
TO = recipient()
OWN = request(powerpack_id=NO_POWERPACK, source=ROW.number)
WAIT, REFUSE, RESUMED = powerpack(pause=Pause.WAIT), powerpack(pause=Pause.REFUSE), powerpack()


def test_new_messages_wait_at_the_number_they_would_have_had():
    resolver = build([ROW, long_code(LOS_ANGELES)])
    expected = decided(resolver, TO)
    resolver.put_powerpack(WAIT)
    found = decided(resolver, TO)
    assert (found.number, found.tier) == (expected.number, Tier.AREA)
    assert (found.forecast_ms, found.window) == (None, "paused")
    assert found.rules == (*expected.rules, "paused")
    accept(resolver, TO)
    assert decided(resolver, TO).tier is Tier.STICKY  # threads are made and followed as ever
    assert hand_over(resolver, now_ms=NOW_MS + 60_000) == []
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) is None


def test_what_could_not_leave_in_time_even_now_is_refused():
    resolver = build([ROW], pause=Pause.WAIT)
    for _ in range(10):
        accept(resolver, TO, request(validity_ms=10_000))
    assert refused(resolver, TO, request(validity_ms=10_000)).code is RefusalCode.NO_CAPACITY


def test_with_refuse_new_messages_are_refused_and_what_waits_stays():
    resolver = build([ROW])
    message = accept(resolver, TO)
    resolver.put_powerpack(REFUSE)
    assert refused(resolver, TO).code is RefusalCode.PAUSED
    assert hand_over(resolver, now_ms=NOW_MS) == []
    resolver.put_powerpack(WAIT)
    assert decided(resolver, TO).window == "paused"
    assert hand_over(resolver, now_ms=NOW_MS) == []
    resolver.put_powerpack(RESUMED)
    assert hand_over(resolver, now_ms=NOW_MS) == [message]


def test_it_rules_the_very_next_departure():
    resolver = build([ROW])
    message = accept(resolver, TO)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1) == [message]
    resolver.put_powerpack(WAIT)
    departure = resolver.depart(message, now_ms=NOW_MS)
    assert (departure.verdict, departure.reason) == (Verdict.GIVEN_UP, "paused")
    resolver.take_back(message, now_ms=NOW_MS)
    assert hand_over(resolver, now_ms=NOW_MS) == []
    later = accept(resolver, TO)
    resolver.put_powerpack(RESUMED)
    assert [each for _, each in run_lane(resolver, now_ms=NOW_MS, ms=2_000)] == [message, later]


def test_what_is_resumed_leaves_within_its_windows():
    resolver = build([ROW])
    messages = [accept(resolver, recipient(line=line)) for line in range(5)]
    resolver.put_powerpack(WAIT)
    assert run_lane(resolver, now_ms=NOW_MS, ms=60_000, every_ms=500) == []
    resolver.put_powerpack(RESUMED)
    gone = run_lane(resolver, now_ms=NOW_MS + 60_000, ms=6_000)
    assert [each for _, each in gone] == messages
    times = [at_ms for at_ms, _ in gone]
    assert all(later - earlier >= 1_020 for earlier, later in pairwise(times))


def test_messages_that_named_the_number_go_past_and_the_order_of_the_others_is_kept():
    resolver = build([ROW])
    asked = [request(), OWN, request(priority=Priority.URGENT), OWN, request(), OWN]
    messages = [accept(resolver, recipient(line=line), each) for line, each in enumerate(asked)]
    resolver.put_powerpack(WAIT)
    gone = run_lane(resolver, now_ms=NOW_MS, ms=10_000)
    assert [each for _, each in gone] == [messages[1], messages[3], messages[5]]
    resolver.put_powerpack(RESUMED)
    gone = run_lane(resolver, now_ms=NOW_MS + 20_000, ms=5_000)
    assert [each for _, each in gone] == [messages[2], messages[0], messages[4]]


def test_its_validity_ends_what_stays_and_nothing_of_it_is_kept():
    resolver = build([ROW])
    for line in range(4):
        accept(resolver, recipient(line=line), request(validity_ms=10_000))
    resolver.put_powerpack(WAIT)
    accept(resolver, TO, OWN)
    number = resolver.numbers[ROW.number]
    number.head()
    assert len(number.stayed or ()) == 4
    assert len(resolver.expire(now_ms=NOW_MS + 10_000, most=10)) == 4
    assert not number.stayed
    for line in range(4):
        accept(resolver, recipient(line=line), request(validity_ms=10_000), now_ms=NOW_MS + 11_000)
    hand_over(resolver, now_ms=NOW_MS + 11_000)
    assert len(resolver.expire(now_ms=NOW_MS + 21_000, most=10)) == 4
    assert not number.bulk


def test_nobody_waits_at_the_link_behind_what_is_paused():
    other = PowerpackId("other")
    resolver = build([ROW], segments_per_s=1)
    resolver.put_powerpack(replace(powerpack(), powerpack_id=other, pool_id=PoolId("other"), name="other"))
    resolver.put_number(long_code(LOS_ANGELES, powerpack_id=other), now_ms=NOW_MS)
    link = resolver.links[CARRIER]
    for line in range(50):
        accept(resolver, recipient(line=line), request(validity_ms=100_000))
    booked = link.booked_segments
    assert booked
    theirs = request(powerpack_id=other)
    behind_ms = decided(resolver, TO, theirs).forecast_ms
    assert behind_ms is not None
    assert behind_ms > NOW_MS
    resolver.put_powerpack(WAIT)
    assert link.booked_segments == 0
    assert decided(resolver, TO, theirs).forecast_ms == NOW_MS
    accept(resolver, TO, request(validity_ms=1_000_000))
    assert link.booked_segments == 0
    resolver.put_powerpack(RESUMED)
    assert link.booked_segments == booked + 1
    for message in list(resolver.open.values()):
        resolver.cancel(message, now_ms=NOW_MS)
    assert link.booked_segments == 0


def test_a_number_that_is_gone_is_decided_again_though_it_is_paused():
    resolver = build([ROW, long_code(LOS_ANGELES)])
    message = accept(resolver, TO)
    resolver.put_powerpack(REFUSE)  # new ones are refused; what waits stays
    resolver.put_number(replace(ROW, state=NumberState.DISABLED), now_ms=NOW_MS)
    ((moved, found),) = resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10)
    assert moved is message
    assert isinstance(found, Decision)
    assert (found.number, found.forecast_ms, found.window) == (long_code(LOS_ANGELES).number, None, "paused")
    assert hand_over(resolver, now_ms=NOW_MS) == []
    resolver.put_powerpack(RESUMED)
    assert hand_over(resolver, now_ms=NOW_MS) == [message]


def test_better_chances_are_taken_when_it_is_resumed_not_before():
    resolver = build([ROW], patience_ms=10_000_000)
    for line in range(200):
        accept(resolver, recipient(line=line), request(validity_ms=10_000_000))
    resolver.put_powerpack(WAIT)
    resolver.put_number(long_code(SAN_FRANCISCO, 1), now_ms=NOW_MS)
    assert resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10_000) == []
    assert not resolver.improving
    resolver.put_powerpack(powerpack(patience_ms=10_000_000))
    assert len(resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10_000)) > 50


def test_a_look_for_better_chances_stops_when_it_is_paused_and_begins_again():
    resolver = build([ROW], patience_ms=10_000_000)
    for line in range(200):
        accept(resolver, recipient(line=line), request(validity_ms=10_000_000))
    resolver.put_number(long_code(SAN_FRANCISCO, 1), now_ms=NOW_MS)
    moved = len(resolver.rebind(now_ms=NOW_MS, chance=0.5, most=80))
    resolver.put_powerpack(powerpack(patience_ms=10_000_000, pause=Pause.WAIT))
    assert resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10_000) == []
    resolver.put_powerpack(powerpack(patience_ms=10_000_000))
    assert moved + len(resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10_000)) > 50


@pytest.mark.parametrize("how", ["joins", "leaves", "dropped", "powerpack deleted"])
def test_a_number_is_paused_exactly_while_its_powerpack_is(how):
    resolver = build([] if how == "joins" else [ROW], pause=Pause.WAIT)
    if how == "joins":
        resolver.put_number(replace(ROW, powerpack_id=None), now_ms=NOW_MS)
        assert not resolver.numbers[ROW.number].is_paused
        resolver.put_number(ROW, now_ms=NOW_MS)
    number = resolver.numbers[ROW.number]
    assert number.is_paused
    if how == "leaves":
        resolver.put_number(replace(ROW, powerpack_id=None), now_ms=NOW_MS)
    elif how == "dropped":
        resolver.drop_number(ROW.number, now_ms=NOW_MS)
    elif how == "powerpack deleted":
        resolver.drop_powerpack(POWERPACK, now_ms=NOW_MS)
    assert number.is_paused is (how == "joins")


def test_another_link_does_not_take_over_bookings_of_what_is_paused():
    resolver = build([ROW], pause=Pause.WAIT)
    resolver.put_link(CarrierName("other"), segments_per_s=5, now_ms=NOW_MS)
    assert accept(resolver, TO).booked
    resolver.put_number(replace(ROW, carrier=CarrierName("other")), now_ms=NOW_MS)
    assert [link.booked_segments for link in resolver.links.values()] == [0, 0]
    resolver.put_powerpack(RESUMED)
    assert resolver.links[CarrierName("other")].booked_segments == 1


def test_what_is_retried_stays_too():
    resolver = build([ROW])
    message = accept(resolver, TO)
    hand_over(resolver, now_ms=NOW_MS)
    resolver.put_powerpack(WAIT)
    resolver.settle_returned(message, now_ms=NOW_MS, retry_at_ms=NOW_MS + 500, charged=False)
    assert hand_over(resolver, now_ms=NOW_MS + 2_000) == []
    assert message.phase is Phase.WAITING
    resolver.put_powerpack(RESUMED)
    assert hand_over(resolver, now_ms=NOW_MS + 2_000) == [message]


def test_it_can_be_cancelled_while_it_is_paused():
    resolver = build([ROW], pause=Pause.WAIT)
    message = accept(resolver, TO)
    assert resolver.cancel(message, now_ms=NOW_MS)
    assert not resolver.numbers[ROW.number].messages
