"""The rules of choosing, one by one: the recipient's thread, types and tiers, links, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resolver.choosing import NO_THREAD
from resolver.core import Resolver
from resolver.model import (
    E164,
    CarrierName,
    Decision,
    Message,
    NumberState,
    NumberType,
    Priority,
    Refusal,
    RefusalCode,
    Service,
    StickyAtLimit,
    Tier,
)
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    MARITIMES,
    NEW_YORK,
    NOW_MS,
    PLENTY,
    POWERPACK,
    SAN_FRANCISCO,
    TORONTO,
    accept,
    build,
    decide,
    decided,
    hand_over,
    limits,
    long_code,
    new_id,
    powerpack,
    recipient,
    refused,
    request,
    run_lane,
    short_code,
    toll_free,
)

OTHER = CarrierName("other")

# --- the recipient's thread -------------------------------------------------------------------------------------------

HOME, AWAY = long_code(), long_code(line=1)
TO = recipient()


def threaded(**fields: Any) -> Resolver:
    """A powerpack of two numbers in which TO hears from HOME, which is at its limit for some seconds from NOW_MS on."""
    resolver = build([HOME], **fields)
    message = accept(resolver, TO)
    hand_over(resolver, now_ms=NOW_MS)
    resolver.settle_sent(message, now_ms=NOW_MS)
    resolver.put_number(AWAY, now_ms=NOW_MS)
    return resolver


def fill(resolver: Resolver, *, seconds: int, now_ms: int = NOW_MS) -> list[Message]:
    """Let HOME's forecast be so far ahead."""
    waits: list[Message] = []
    for _ in range(seconds - 1):
        pinned = Decision(HOME.number, Tier.AREA, now_ms, (), "")
        waits.append(resolver.apply(request(), recipient(line=9_000 + len(waits)), pinned, new_id(), now_ms=now_ms))
    resolver.commit(waits)
    return waits


def test_a_recipient_hears_from_the_same_number_again_and_again():
    resolver = threaded()
    for second in range(1, 200):
        now_ms = NOW_MS + 2_000 * second
        message = accept(resolver, TO, now_ms=now_ms, chance=(second * 0.37) % 1)
        assert (message.number, message.tier) == (HOME.number, Tier.STICKY)
        assert hand_over(resolver, now_ms=now_ms) == [message]
        resolver.settle_sent(message, now_ms=now_ms)


def test_two_first_messages_at_once_use_one_number():
    resolver = build([long_code(line=line) for line in range(50)])
    numbers = {accept(resolver, TO, chance=chance / 10, committed=False).number for chance in range(10)}
    assert len(numbers) == 1


def test_at_its_limit_it_waits_as_long_as_it_may_then_takes_a_detour_which_ends_when_it_has_room():
    resolver = threaded(sticky_wait_ms=10_000)
    fill(resolver, seconds=10)
    assert decided(resolver, TO).tier is Tier.DETOUR  # 10.2 seconds ahead
    waits = decided(resolver, TO, now_ms=NOW_MS + 300)
    assert (waits.number, waits.tier, waits.window) == (HOME.number, Tier.STICKY, "number_rate")
    fill(resolver, seconds=30)
    first = accept(resolver, TO, now_ms=NOW_MS)
    assert (first.number, first.tier) == (AWAY.number, Tier.DETOUR)
    second = accept(resolver, TO, now_ms=NOW_MS + 2_000)  # the detour goes on though others are as good
    assert (second.number, second.tier) == (AWAY.number, Tier.DETOUR)
    thread = resolver.pools[POWERPACK].threads.find(TO)
    assert thread is not None
    assert (thread.number, thread.detour) == (HOME.number, AWAY.number)
    for message in list(resolver.open.values()):
        resolver.cancel(message, now_ms=NOW_MS + 3_000)
    third = accept(resolver, TO, now_ms=NOW_MS + 3_000)
    assert (third.number, third.tier) == (HOME.number, Tier.STICKY)
    assert thread.detour is None


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (request(patience_ms=5_000), {}),  # the message's patience is shorter than the powerpack's wait
        (request(validity_ms=5_000), {}),  # it would not live so long
        (request(), {"patience_ms": 5_000}),
    ],
)
def test_it_waits_no_longer_than_patience_and_validity(asked, fields):
    resolver = threaded(**fields)
    fill(resolver, seconds=10)
    assert decided(resolver, TO, asked).tier is Tier.DETOUR


@pytest.mark.parametrize(
    ("policy", "number", "tier", "thread_after"),
    [
        (StickyAtLimit.WAIT, HOME.number, Tier.STICKY, (HOME.number, None)),
        (StickyAtLimit.DETOUR, AWAY.number, Tier.DETOUR, (HOME.number, AWAY.number)),
        (StickyAtLimit.REMAP, AWAY.number, Tier.AREA, (AWAY.number, None)),
    ],
)
def test_the_policy_says_what_happens_at_the_limit(policy, number, tier, thread_after):
    resolver = threaded(sticky_at_limit=policy)
    fill(resolver, seconds=5)
    message = accept(resolver, TO)
    assert (message.number, message.tier) == (number, tier)
    thread = resolver.pools[POWERPACK].threads.find(TO)
    assert thread is not None
    assert (thread.number, thread.detour) == thread_after


def test_it_can_refuse_at_the_limit_and_says_when_there_is_room():
    resolver = threaded(sticky_at_limit=StickyAtLimit.REFUSE)
    fill(resolver, seconds=5)
    refusal = refused(resolver, TO)
    assert (refusal.code, refusal.window) == (RefusalCode.STICKY_AT_LIMIT, "number_rate")
    assert refusal.retry_at_ms == NOW_MS + 5 * 1_020
    assert decided(resolver, recipient(line=1)).number == AWAY.number  # others are not concerned


@pytest.mark.parametrize("policy", [StickyAtLimit.WAIT, StickyAtLimit.DETOUR, StickyAtLimit.REMAP])
def test_where_no_other_number_is_sooner_it_stays_with_its_own(policy):
    resolver = threaded(sticky_at_limit=policy, sticky_wait_ms=1_000)
    resolver.drop_number(AWAY.number, now_ms=NOW_MS)
    fill(resolver, seconds=100)
    found = decided(resolver, TO)
    assert (found.number, found.tier, found.rules) == (HOME.number, Tier.STICKY, ("sticky", "sticky_at_limit"))


@pytest.mark.parametrize("state", [NumberState.DISABLED, NumberState.DRAINING])
def test_a_thread_whose_number_may_not_serve_is_ignored_and_not_deleted(state):
    resolver = threaded()
    resolver.put_number(replace(HOME, state=state), now_ms=NOW_MS)
    message = accept(resolver, TO, now_ms=NOW_MS + 5_000)
    assert (message.number, message.tier) == (AWAY.number, Tier.DETOUR)
    resolver.put_number(HOME, now_ms=NOW_MS + 10_000)
    assert decided(resolver, TO, now_ms=NOW_MS + 10_000).number == HOME.number


def test_a_thread_does_not_bind_a_service_its_number_has_not():
    resolver = threaded()
    resolver.put_number(replace(AWAY, services=frozenset(Service)), now_ms=NOW_MS)
    found = decided(resolver, TO, request(service=Service.MMS), now_ms=NOW_MS + 5_000)
    assert (found.number, found.tier) == (AWAY.number, Tier.DETOUR)
    assert decided(resolver, TO, now_ms=NOW_MS + 5_000).tier is Tier.STICKY


def test_a_thread_goes_when_its_number_leaves_the_pool():
    resolver = threaded()
    resolver.put_number(replace(HOME, powerpack_id=None), now_ms=NOW_MS)
    message = accept(resolver, TO, now_ms=NOW_MS + 5_000)
    assert (message.number, message.tier) == (AWAY.number, Tier.AREA)
    resolver.put_number(HOME, now_ms=NOW_MS)
    assert decided(resolver, TO, now_ms=NOW_MS + 9_000).number == AWAY.number


def test_a_number_that_comes_back_has_none_of_its_threads_of_before():
    resolver = threaded()
    resolver.put_number(replace(HOME, powerpack_id=None), now_ms=NOW_MS)
    resolver.put_number(replace(HOME, added_ms=NOW_MS + 5_000), now_ms=NOW_MS + 5_000)
    assert resolver.pools[POWERPACK].thread_of(TO, NOW_MS + 5_000) is None
    assert decided(resolver, TO, now_ms=NOW_MS + 5_000).number == AWAY.number
    accept(resolver, TO, now_ms=NOW_MS + 5_000)
    assert resolver.pools[POWERPACK].thread_of(TO, NOW_MS + 5_000) is not None


def test_switching_sticky_sender_rules_the_very_next_decision():
    resolver = threaded()
    later_ms = NOW_MS + 5_000
    resolver.put_powerpack(powerpack(sticky_sender=False))
    found = decided(resolver, TO, now_ms=later_ms)
    assert (found.number, found.tier) == (AWAY.number, Tier.AREA)  # never used goes first
    assert NO_THREAD in found.rules
    resolver.apply(request(), TO, found, new_id(), now_ms=later_ms)
    resolver.put_powerpack(powerpack())
    assert decided(resolver, TO, now_ms=later_ms).number == HOME.number  # ignored, not deleted


def test_a_thread_ends_with_its_life_after_the_last_message():
    resolver = threaded(sticky_life_ms=60_000)
    assert decided(resolver, TO, now_ms=NOW_MS + 59_999).tier is Tier.STICKY
    assert decided(resolver, TO, now_ms=NOW_MS + 60_000).number == AWAY.number


def test_an_undone_decision_leaves_the_thread_as_it_was():
    resolver = build([HOME, AWAY], sticky_at_limit=StickyAtLimit.REMAP)
    threads = resolver.pools[POWERPACK].threads
    first = accept(resolver, TO, committed=False)
    second = accept(resolver, TO, committed=False, now_ms=NOW_MS)
    resolver.undo(first, now_ms=NOW_MS)  # in any order: the thread goes with the last that was decided by it
    assert threads.find(TO) is not None
    resolver.undo(second, now_ms=NOW_MS)
    assert threads.find(TO) is None
    kept = accept(resolver, TO)
    remapped = accept(resolver, TO, committed=False)
    assert remapped.number != kept.number
    resolver.undo(remapped, now_ms=NOW_MS)
    thread = threads.find(TO)
    assert thread is not None
    assert thread.number == kept.number


def test_an_undone_decision_does_not_take_the_thread_from_one_that_was_stored():
    resolver = build([HOME, AWAY])
    first = accept(resolver, TO, committed=False)
    second = accept(resolver, TO, committed=False)
    resolver.commit([second])
    resolver.undo(first, now_ms=NOW_MS)
    thread = resolver.pools[POWERPACK].threads.find(TO)
    assert thread is not None
    assert thread.number == second.number


def test_while_its_link_is_down_a_second_number_stands_in_and_if_there_is_none_it_waits_at_its_own():
    resolver = threaded()
    resolver.put_link(OTHER, segments_per_s=10, now_ms=NOW_MS)
    resolver.put_number(replace(AWAY, carrier=OTHER), now_ms=NOW_MS)
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS + 5_000)
    assert decided(resolver, TO, now_ms=NOW_MS + 9_999).number == HOME.number
    detour = decided(resolver, TO, now_ms=NOW_MS + 10_000)
    assert (detour.number, detour.tier) == (AWAY.number, Tier.DETOUR)
    resolver.set_link_up(OTHER, False, now_ms=NOW_MS + 5_000)
    waits = decided(resolver, TO, now_ms=NOW_MS + 10_000)
    assert (waits.number, waits.tier, waits.forecast_ms, waits.window) == (HOME.number, Tier.STICKY, None, "link_down")


# --- types, tiers, links ----------------------------------------------------------------------------------------------

LONG, FREE, SHORT = NumberType.LONG_CODE, NumberType.TOLL_FREE, NumberType.SHORT_CODE
CA_LONG, CA_SHORT = long_code(TORONTO), short_code("CA", 1)


@pytest.mark.parametrize(
    ("rows", "area_code", "operator", "fields", "expected"),
    [
        # country priority
        ((HOME, toll_free(), short_code()), SAN_FRANCISCO, "", {}, (SHORT, Tier.COUNTRY)),
        ((HOME, toll_free()), SAN_FRANCISCO, "", {}, (FREE, Tier.COUNTRY)),
        ((CA_LONG, toll_free(), CA_SHORT), TORONTO, "", {}, (SHORT, Tier.COUNTRY)),
        ((CA_LONG, toll_free()), TORONTO, "", {}, (LONG, Tier.AREA)),
        ((HOME, toll_free()), SAN_FRANCISCO, "", {"priority": {("US", Service.SMS): (LONG, FREE)}}, (LONG, Tier.AREA)),
        # a type is first in all its tiers: a neighbour's long code before one's own toll-free number
        ((HOME, toll_free()), TORONTO, "", {}, (LONG, Tier.NEIGHBOR)),
        # the operator's type first
        ((HOME, toll_free()), SAN_FRANCISCO, "verizon", {"operator_types": {"verizon": LONG}}, (LONG, Tier.AREA)),
        ((HOME, toll_free()), SAN_FRANCISCO, "unknown", {"operator_types": {"verizon": LONG}}, (FREE, Tier.COUNTRY)),
        # toll-free: only when verified, and not to networks on the exclusion list
        ((HOME, toll_free(verified=False)), SAN_FRANCISCO, "", {}, (LONG, Tier.AREA)),
        ((HOME, toll_free()), SAN_FRANCISCO, "barred", {}, (LONG, Tier.AREA)),
        ((HOME, toll_free()), SAN_FRANCISCO, "barred", {"operator_types": {"barred": FREE}}, (LONG, Tier.AREA)),
        # short codes only in their own country
        ((HOME, short_code("CA")), SAN_FRANCISCO, "", {}, (LONG, Tier.AREA)),
        ((CA_LONG, short_code()), TORONTO, "", {}, (LONG, Tier.AREA)),
        # Local Connect
        ((HOME, long_code(LOS_ANGELES)), SAN_FRANCISCO, "", {}, (LONG, Tier.AREA)),
        ((long_code(LOS_ANGELES), long_code(NEW_YORK)), SAN_FRANCISCO, "", {}, (LONG, Tier.REGION)),
        ((long_code(NEW_YORK), CA_LONG), SAN_FRANCISCO, "", {}, (LONG, Tier.COUNTRY)),
        ((CA_LONG,), SAN_FRANCISCO, "", {}, (LONG, Tier.NEIGHBOR)),
        ((HOME,), TORONTO, "", {}, (LONG, Tier.NEIGHBOR)),
        ((HOME, long_code(LOS_ANGELES)), SAN_FRANCISCO, "", {"local_connect": False}, (LONG, Tier.COUNTRY)),
        # an overlay code is in all its provinces
        ((long_code(MARITIMES),), "782", "", {}, (LONG, Tier.REGION)),
    ],
)
def test_the_ladder_finds(rows, area_code, operator, fields, expected):
    resolver = build(rows, **fields)
    resolver.excluded_networks = frozenset({"barred"})
    found = decided(resolver, recipient(area_code), operator=operator)
    assert (resolver.numbers[found.number].row.type, found.tier) == expected


@pytest.mark.parametrize(
    ("rows", "area_code", "operator"),
    [
        ((), SAN_FRANCISCO, ""),
        ((toll_free(verified=False),), SAN_FRANCISCO, ""),
        ((toll_free(),), SAN_FRANCISCO, "barred"),
        ((short_code("CA"),), SAN_FRANCISCO, ""),
        ((replace(HOME, state=NumberState.DISABLED),), SAN_FRANCISCO, ""),
        ((replace(HOME, state=NumberState.DRAINING),), SAN_FRANCISCO, ""),
        ((replace(HOME, services=frozenset({Service.MMS})),), SAN_FRANCISCO, ""),
        ((replace(HOME, powerpack_id=None),), SAN_FRANCISCO, ""),
    ],
)
def test_where_no_number_may_send_there_is_none(rows, area_code, operator):
    resolver = build(rows)
    resolver.excluded_networks = frozenset({"barred"})
    assert refused(resolver, recipient(area_code), operator=operator).code is RefusalCode.NO_NUMBER


def test_a_tier_is_passed_over_once_all_its_numbers_are_at_the_days_recommendation():
    rows = [replace(HOME, limits=limits(recommended=3)), replace(AWAY, limits=limits(recommended=3))]
    resolver = build([*rows, long_code(LOS_ANGELES)], sticky_sender=False)
    tiers = []
    for second in range(8):
        now_ms = NOW_MS + 2_000 * second
        tiers.append(accept(resolver, recipient(line=second), now_ms=now_ms).tier)
        hand_over(resolver, now_ms=now_ms)
    assert tiers == [Tier.AREA] * 6 + [Tier.REGION] * 2
    day_ms = NOW_MS + 86_400_000
    assert decided(resolver, recipient(line=99), now_ms=day_ms - 1).tier is Tier.REGION
    assert decided(resolver, recipient(line=99), now_ms=day_ms).tier is Tier.AREA  # the first of the day has left it


def test_what_waits_counts_towards_the_days_recommendation():
    resolver = build([replace(HOME, limits=limits(recommended=3)), long_code(LOS_ANGELES)], sticky_sender=False)
    messages = [accept(resolver, recipient(line=line)) for line in range(4)]
    assert [each.tier for each in messages] == [Tier.AREA] * 3 + [Tier.REGION]
    resolver.cancel(messages[0], now_ms=NOW_MS)
    assert decided(resolver, recipient(line=9)).tier is Tier.AREA


def test_a_message_that_asks_for_five_seconds_finds_an_idle_number_at_once():
    resolver = build([HOME, long_code(LOS_ANGELES)], sticky_sender=False)
    for line in range(60):
        assert accept(resolver, recipient(line=line)).tier is Tier.AREA  # a burst queues on the local number first
    code = request(patience_ms=5_000, priority=Priority.URGENT)
    found = decided(resolver, recipient(line=99), replace(code, priority=Priority.BULK))
    assert (found.tier, found.forecast_ms) == (Tier.REGION, NOW_MS)
    found = decided(resolver, recipient(line=99), code)
    assert (found.tier, found.forecast_ms) == (Tier.AREA, NOW_MS)  # urgent goes before the burst


def test_numbers_never_used_are_drawn_by_chance_and_all_of_them_are_used_before_any_is_again():
    resolver = build([long_code(line=line) for line in range(20)], sticky_sender=False)
    drawn = [accept(resolver, recipient(line=line), chance=(line * 0.618) % 1).number for line in range(20)]
    assert len(set(drawn)) == 20
    assert drawn != sorted(drawn)
    hand_over(resolver, now_ms=NOW_MS)
    later_ms = NOW_MS + 9_000
    assert (
        decided(resolver, recipient(line=99), now_ms=later_ms, chance=0.1).number
        == decided(resolver, recipient(line=99), now_ms=later_ms, chance=0.9).number
    )  # chance is for those never used


def test_idle_numbers_are_used_in_turn_the_least_recently_used_first():
    resolver = build([long_code(line=line) for line in range(5)], sticky_sender=False)
    used = []
    for second in range(25):
        now_ms = NOW_MS + 2_000 * second
        used.append(accept(resolver, recipient(line=second), now_ms=now_ms).number)
        hand_over(resolver, now_ms=now_ms)
    assert used[5:] == used[:-5]


def test_nobody_within_recommendation_and_patience_leaves_the_soonest_of_all():
    resolver = build(
        [replace(HOME, limits=limits(recommended=1)), long_code(NEW_YORK)], patience_ms=2_000, sticky_sender=False
    )
    for line in range(10):
        accept(resolver, recipient(line=line))
    found = decided(resolver, recipient(line=99))
    assert (found.tier, found.rules[0]) == (Tier.SOONEST, "soonest")


def test_a_link_that_is_down_is_passed_over_after_five_seconds_while_another_fits():
    resolver = build([HOME])
    resolver.put_link(OTHER, segments_per_s=10, now_ms=NOW_MS)
    resolver.put_number(long_code(NEW_YORK, carrier=OTHER), now_ms=NOW_MS)
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS)
    assert decided(resolver, TO, now_ms=NOW_MS + 4_999).number == HOME.number
    assert decided(resolver, TO, now_ms=NOW_MS + 5_000).tier is Tier.COUNTRY
    resolver.set_link_up(OTHER, False, now_ms=NOW_MS)
    waits = decided(resolver, TO, now_ms=NOW_MS + 5_000)
    assert (waits.number, waits.tier, waits.forecast_ms) == (HOME.number, Tier.AREA, None)
    assert (waits.rules[-1], waits.window) == ("link_down", "link_down")
    resolver.set_link_up(CARRIER, True, now_ms=NOW_MS + 6_000)
    assert decided(resolver, TO, now_ms=NOW_MS + 6_000).forecast_ms == NOW_MS + 6_000


def test_what_waits_for_a_link_that_is_down_is_spread_over_its_numbers():
    resolver = build([long_code(line=line) for line in range(40)], sticky_sender=False)
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS)
    later_ms = NOW_MS + 9_000
    numbers = [accept(resolver, recipient(line=line), now_ms=later_ms).number for line in range(80)]
    assert {numbers.count(each) for each in numbers} == {2}


def test_a_link_that_is_behind_counts_like_a_number_that_is():
    resolver = build([HOME, long_code(line=2)], segments_per_s=2, sticky_sender=False, local_connect=False)
    resolver.put_link(OTHER, segments_per_s=100, now_ms=NOW_MS)
    for line in range(4):
        accept(resolver, recipient(line=line), request(2))
    behind = decided(resolver, recipient(line=99))
    assert (behind.window, behind.forecast_ms) == ("link_rate", NOW_MS + 4 * 1_020)
    resolver.put_number(replace(AWAY, carrier=OTHER), now_ms=NOW_MS)
    assert decided(resolver, recipient(line=99)).number == AWAY.number


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_number_of_the_pool_is_not_written_to():
    resolver = build([HOME, AWAY])
    assert refused(resolver, AWAY.number).code is RefusalCode.DESTINATION_IS_SOURCE
    resolver.put_number(replace(AWAY, powerpack_id=None), now_ms=NOW_MS)
    assert decided(resolver, AWAY.number).number == HOME.number


def test_without_its_powerpack_a_message_has_no_number():
    resolver = Resolver()
    assert refused(resolver, TO).code is RefusalCode.NO_NUMBER


def test_a_recipient_of_no_known_country_is_refused():
    assert refused(build([HOME]), E164("+19995550100")).code is RefusalCode.INVALID_DESTINATION


@pytest.mark.parametrize(
    ("rows", "segments_per_s", "asked", "waiting", "window"),
    [
        ([HOME], PLENTY, request(validity_ms=60_000), 100, "number_rate"),
        ([HOME, AWAY], PLENTY, request(validity_ms=60_000), 200, "number_rate"),
        ([replace(HOME, limits=limits(day=5))], PLENTY, request(validity_ms=60_000), 5, "number_day"),
        ([long_code(line=line) for line in range(300)], 2, request(validity_ms=60_000), 200, "link_rate"),
    ],
)
def test_no_capacity_names_the_window_that_binds_and_when_it_would_fit(rows, segments_per_s, asked, waiting, window):
    resolver = build(rows, segments_per_s=segments_per_s, sticky_sender=False)
    for line in range(waiting):
        accept(resolver, recipient(line=line), replace(asked, validity_ms=72 * 3_600_000))
    refusal = refused(resolver, recipient(line=9_999), asked)
    assert (refusal.code, refusal.window) == (RefusalCode.NO_CAPACITY, window)
    assert refusal.retry_at_ms is not None
    assert refusal.retry_at_ms > NOW_MS
    # Just before it would not have fitted, and then it does, if what waits leaves meanwhile.
    busy_ms = min(200_000, refusal.retry_at_ms - NOW_MS)
    run_lane(resolver, now_ms=NOW_MS, ms=busy_ms, lead_ms=0)
    run_lane(resolver, now_ms=NOW_MS + busy_ms, ms=refusal.retry_at_ms - NOW_MS - busy_ms, every_ms=60_000)
    assert isinstance(decide(resolver, recipient(line=9_999), asked, now_ms=refusal.retry_at_ms - 1), Refusal)
    assert isinstance(decide(resolver, recipient(line=9_999), asked, now_ms=refusal.retry_at_ms), Decision)


@pytest.mark.parametrize(("waiting", "enough"), [(100, 2), (295, 6), (500, 9), (2_000, 34)])
def test_no_capacity_says_how_many_numbers_would_have_been_enough(waiting, enough):
    asked = request(validity_ms=60_000)  # in which a number hands over 59
    resolver = build([HOME], sticky_sender=False)
    for line in range(waiting):
        accept(resolver, recipient(line=line), replace(asked, validity_ms=72 * 3_600_000))
    assert refused(resolver, recipient(line=9_999), asked).numbers_enough == enough
    resolver = build([long_code(line=line) for line in range(enough)], sticky_sender=False)
    for line in range(waiting + 1):
        accept(resolver, recipient(line=line), asked)  # none is refused
    fewer = build([long_code(line=line) for line in range(enough - 1)], sticky_sender=False)
    for line in range(59 * (enough - 1)):
        accept(fewer, recipient(line=line), asked)
    assert refused(fewer, recipient(line=9_999), asked).code is RefusalCode.NO_CAPACITY


def test_no_numbers_are_enough_when_the_link_is_what_binds():
    resolver = build([long_code(line=line) for line in range(50)], segments_per_s=1, sticky_sender=False)
    asked = request(validity_ms=20_000)
    for line in range(20):
        accept(resolver, recipient(line=line), asked)
    refusal = refused(resolver, recipient(line=99), asked)
    assert (refusal.window, refusal.numbers_enough) == ("link_rate", None)


def test_a_pool_of_thousands_is_not_walked_for_a_refusal():
    resolver = build([long_code(line=line, limits=limits(day=1)) for line in range(1_001)], sticky_sender=False)
    for line in range(1_001):
        accept(resolver, recipient(line=line))
    assert refused(resolver, recipient(line=9_999)).numbers_enough == 1_002


def test_a_message_that_could_only_wait_too_long_behind_a_link_that_is_down_has_no_capacity():
    resolver = build([HOME], sticky_sender=False)
    for line in range(100):
        accept(resolver, recipient(line=line))
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS)
    refusal = refused(resolver, recipient(line=999), request(validity_ms=10_000), now_ms=NOW_MS + 6_000)
    assert refusal.code is RefusalCode.NO_CAPACITY
