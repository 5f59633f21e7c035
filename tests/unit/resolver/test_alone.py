"""A message that names its source number: the same windows and queue, and nothing of a powerpack."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from resolver.core import Verdict
from resolver.model import (
    E164,
    NO_POWERPACK,
    AccountId,
    CarrierName,
    Decision,
    NumberRow,
    NumberState,
    OnUnknown,
    Pause,
    Phase,
    Priority,
    Refusal,
    RefusalCode,
    Service,
    Tier,
)
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    NOW_MS,
    POWERPACK,
    SAN_FRANCISCO,
    TORONTO,
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
    short_code,
    toll_free,
)

ROW = long_code(limits=limits(1, 1_000))
APART = replace(ROW, powerpack_id=None)
TO = recipient()


def own(segments: int = 1, row: NumberRow = ROW, **fields: object):
    return request(segments, **{"powerpack_id": NO_POWERPACK, "source": row.number, **fields})


def code_of(found: Decision | Refusal) -> RefusalCode | None:
    return found.code if isinstance(found, Refusal) else None


@pytest.mark.parametrize("row", [ROW, APART])
def test_the_number_named_is_the_one_it_leaves_from(row):
    resolver = build([row, long_code(LOS_ANGELES)])
    found = decided(resolver, recipient(LOS_ANGELES), own())
    assert found == (row.number, Tier.SOURCE, NOW_MS, ("source",), "")
    message = accept(resolver, TO, own())
    assert hand_over(resolver, now_ms=NOW_MS) == [message]
    resolver.settle_sent(message, now_ms=NOW_MS)
    assert not resolver.open


def test_it_shares_queue_and_windows_with_what_the_powerpack_sends():
    resolver = build([ROW])
    first, own_one, last = accept(resolver, TO), accept(resolver, TO, own()), accept(resolver, TO)
    assert decided(resolver, TO).forecast_ms == NOW_MS + 3 * 1_020
    found = decided(resolver, TO, own())
    assert (found.forecast_ms, found.window) == (NOW_MS + 3 * 1_020, "number_rate")
    gone = run_lane(resolver, now_ms=NOW_MS, ms=4_000)
    assert [message for _, message in gone] == [first, own_one, last]
    times = [at_ms for at_ms, _ in gone]
    assert all(later - earlier >= 1_020 for earlier, later in pairwise(times))


def test_it_makes_no_thread_and_changes_none():
    resolver = build([ROW, long_code(LOS_ANGELES)])
    accept(resolver, recipient(LOS_ANGELES), own())
    threads = resolver.pools[POWERPACK].threads
    assert threads.find(recipient(LOS_ANGELES)) is None
    kept = accept(resolver, TO)
    accept(resolver, TO, own(row=long_code(LOS_ANGELES)), now_ms=NOW_MS + 5_000)
    hand_over(resolver, now_ms=NOW_MS + 9_000)
    thread = threads.find(TO)
    assert thread is not None
    assert (thread.number, thread.detour, thread.last_ms) == (kept.number, None, NOW_MS)


@pytest.mark.parametrize(
    ("row", "to"),
    [
        (replace(ROW, state=NumberState.DISABLED), TO),
        (replace(ROW, state=NumberState.DRAINING), TO),
        (replace(ROW, services=frozenset({Service.MMS})), TO),
        (replace(ROW, account_id=AccountId("MA00000000000000OTHER")), TO),
        (toll_free(verified=False), TO),
        (short_code(), recipient(TORONTO)),
    ],
)
def test_a_number_that_may_not_send_it_is_no_number(row, to):
    found = refused(build([replace(row, powerpack_id=None)]), to, own(row=row))
    assert found.code is RefusalCode.NO_NUMBER


def test_a_number_of_nobody_or_dropped_is_no_number():
    resolver = build([ROW])
    assert refused(resolver, TO, own(row=long_code(TORONTO))).code is RefusalCode.NO_NUMBER
    resolver.drop_number(ROW.number, now_ms=NOW_MS)
    assert refused(resolver, TO, own()).code is RefusalCode.NO_NUMBER


def test_it_does_not_write_to_itself_but_to_other_numbers_of_ours():
    resolver = build([ROW, long_code(LOS_ANGELES)])
    assert refused(resolver, ROW.number, own()).code is RefusalCode.DESTINATION_IS_SOURCE
    assert decided(resolver, long_code(LOS_ANGELES).number, own()).number == ROW.number
    assert refused(resolver, E164("+99912345678"), own()).code is RefusalCode.INVALID_DESTINATION


def test_what_cannot_leave_within_its_validity_is_refused_with_the_window_that_binds():
    resolver = build([ROW])
    for _ in range(10):
        accept(resolver, TO, own())
    found = refused(resolver, TO, own(validity_ms=10_000))
    assert (found.code, found.window, found.numbers_enough) == (RefusalCode.NO_CAPACITY, "number_rate", None)
    assert found.retry_at_ms == NOW_MS + 10 * 1_020 - 10_000
    assert decided(resolver, TO, own(validity_ms=11_000)).forecast_ms == NOW_MS + 10_200
    urgent = decided(resolver, TO, own(validity_ms=10_000, priority=Priority.URGENT))
    assert urgent.forecast_ms == NOW_MS


def test_its_link_counts_and_while_that_is_down_it_waits():
    resolver = build([ROW], segments_per_s=1)
    accept(resolver, TO, own())
    assert decided(resolver, TO, own()).forecast_ms == NOW_MS + 1_020
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS - 60_000)
    found = decided(resolver, TO, own())
    assert (found.forecast_ms, found.window, found.rules) == (None, "link_down", ("source", "link_down"))
    assert refused(resolver, TO, own(validity_ms=500)).code is RefusalCode.NO_CAPACITY


def test_it_stays_with_its_number_when_that_changes_powerpacks():
    resolver = build([ROW])
    messages = [accept(resolver, recipient(line=line), asked) for line, asked in enumerate([own(), request(), own()])]
    assert resolver.put_number(APART, now_ms=NOW_MS) == [messages[1]]
    moved = resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10)
    assert [(message, code_of(found)) for message, found in moved] == [(messages[1], RefusalCode.NO_NUMBER)]
    assert [each for _, each in run_lane(resolver, now_ms=NOW_MS, ms=3_000)] == [messages[0], messages[2]]


def test_it_stays_when_the_powerpack_is_deleted():
    resolver = build([ROW])
    mine, others = accept(resolver, TO, own()), accept(resolver, TO)
    assert resolver.drop_powerpack(POWERPACK, now_ms=NOW_MS) == [others]
    assert hand_over(resolver, now_ms=NOW_MS) == [mine]


@pytest.mark.parametrize("how", ["dropped", "disabled", "another account's"])
def test_it_ends_when_its_number_is_gone_for_nothing_else_was_asked_for(how):
    resolver = build([ROW, long_code(LOS_ANGELES)])
    message = accept(resolver, TO, own())
    if how == "dropped":
        resolver.drop_number(ROW.number, now_ms=NOW_MS)
    elif how == "disabled":
        resolver.put_number(replace(ROW, state=NumberState.DISABLED), now_ms=NOW_MS)
    else:
        other = replace(APART, account_id=AccountId("MA00000000000000OTHER"))
        resolver.put_number(other, now_ms=NOW_MS)
    moved = resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10)
    assert [(each, code_of(found)) for each, found in moved] == [(message, RefusalCode.NO_NUMBER)]
    assert not resolver.open


def test_a_number_that_is_back_in_time_sends_what_waited():
    resolver = build([ROW])
    message = accept(resolver, TO, own())
    resolver.put_number(replace(ROW, state=NumberState.DISABLED), now_ms=NOW_MS)
    resolver.put_number(ROW, now_ms=NOW_MS)
    moved = resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10)
    ((moved_one, found),) = moved
    assert isinstance(found, Decision)
    assert (moved_one, found.number) == (message, ROW.number)
    assert hand_over(resolver, now_ms=NOW_MS) == [message]


def test_it_is_never_moved_for_a_better_chance():
    resolver = build([ROW])
    for _ in range(200):
        accept(resolver, TO, own())
    resolver.put_number(long_code(SAN_FRANCISCO, 1), now_ms=NOW_MS)
    assert resolver.rebind(now_ms=NOW_MS, chance=0.5, most=10_000) == []


def test_retries_wait_at_its_number_and_unknown_ones_are_resent_there():
    resolver = build([APART])
    message = accept(resolver, TO, own(on_unknown=OnUnknown.RESEND))
    assert hand_over(resolver, now_ms=NOW_MS) == [message]
    resolver.settle_returned(message, now_ms=NOW_MS, retry_at_ms=NOW_MS + 5_000, charged=False)
    assert message.phase is Phase.ASIDE
    resolver.put_number(ROW, now_ms=NOW_MS)  # it joins a powerpack meanwhile
    assert message.phase is Phase.ASIDE
    assert hand_over(resolver, now_ms=NOW_MS + 4_000) == []
    assert hand_over(resolver, now_ms=NOW_MS + 5_000) == [message]


def test_a_claim_of_it_departs_although_its_number_left_the_powerpack():
    resolver = build([ROW])
    message = accept(resolver, TO, own())
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1) == [message]
    resolver.put_number(APART, now_ms=NOW_MS)
    assert resolver.depart(message, now_ms=NOW_MS).verdict is Verdict.GO


def test_another_link_takes_its_bookings_along():
    resolver = build([ROW])
    resolver.put_link(CarrierName("other"), segments_per_s=5, now_ms=NOW_MS)
    message = accept(resolver, TO, own())
    assert message.booked
    resolver.put_number(replace(APART, carrier=CarrierName("other")), now_ms=NOW_MS)
    assert resolver.links[CarrierName("other")].booked_segments == 1
    assert resolver.links[CARRIER].booked_segments == 0
    assert hand_over(resolver, now_ms=NOW_MS + 1, carrier=CarrierName("other")) == [message]


def test_a_paused_powerpack_does_not_hold_it_up():
    resolver = build([ROW])
    for _ in range(100):
        accept(resolver, TO)
    resolver.put_powerpack(powerpack(pause=Pause.WAIT))
    assert decided(resolver, TO, own()).forecast_ms == NOW_MS
    mine = [accept(resolver, TO, own()) for _ in range(2)]
    assert decided(resolver, TO, own()).forecast_ms == NOW_MS + 2 * 1_020
    assert [each for _, each in run_lane(resolver, now_ms=NOW_MS, ms=5_000)] == mine


def test_a_paused_powerpack_s_number_keeps_its_day_s_law_for_it():
    resolver = build([long_code(limits=limits(10, 1_000, day=2))], pause=Pause.WAIT)
    for _ in range(2):
        accept(resolver, TO, own())
    found = refused(resolver, TO, own())
    assert (found.code, found.window) == (RefusalCode.NO_CAPACITY, "number_day")
