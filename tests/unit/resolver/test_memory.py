"""The catalog's edits; and that a resolver made from what is stored is the one that lived through it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core import Resolver, Verdict
from resolver.model import (
    CarrierName,
    Decision,
    Message,
    MessageId,
    NumberState,
    Phase,
    PowerpackId,
    Priority,
    Refusal,
    RefusalCode,
    Tier,
)
from resolver.sticky import ThreadRow
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
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
    toll_free,
)
from tests.unit.resolver.laws import check_counts
from tests.unit.resolver.twins import DAY_MS, EFFORT
from tests.unit.resolver.worlds import World

OTHER = CarrierName("other")

# --- restore(stored) equals fold(apply) -------------------------------------------------------------------------------

ROWS = (
    long_code(SAN_FRANCISCO),
    long_code(SAN_FRANCISCO, 1, limits=limits(3, 5_000, recommended=4)),
    long_code(LOS_ANGELES, limits=limits(1, 1_000, recommended=3, day=6), carrier=OTHER),
    long_code(TORONTO, limits=limits(5, 20_000, recommended=10)),
    toll_free(carrier=OTHER),
)
RECIPIENTS = [recipient(code, line) for code in (SAN_FRANCISCO, TORONTO) for line in range(4)]
ASKED = [
    request(segments, priority=priority, patience_ms=patience_ms)
    for segments in (1, 2, 7)
    for priority in Priority
    for patience_ms in (None, 0)
]


def live(random: Random, steps: int) -> World:
    """A random life without crashes, at whose end nothing is under way."""
    world = World(
        random.sample(ROWS, random.randint(2, len(ROWS))),
        random=random,
        rates={CARRIER: PLENTY, OTHER: PLENTY},
        powerpack=powerpack(sticky_life_ms=random.choice([60_000, DAY_MS]), sticky_wait_ms=random.choice([0, 3_000])),
    )
    for _ in range(steps):
        for _ in range(random.choice([0, 1, 1, 3])):
            world.accept(random.choice(ASKED), random.choice(RECIPIENTS))
        world.commit()
        for carrier in world.rates:
            world.release(carrier, claim=random.random() < 0.9)
        world.now_ms += random.choice([0, 100, 1_020, 5_100, 40_000, 43_200_000])
        world.depart()
        for message in list(world.away):
            world.answer(
                message, random.choice(["sent", "sent", "returned", "returned charged", "rejected"]), retry_ms=9_000
            )
        if random.random() < 0.1:
            world.cancel(random.choice(list(world.resolver.open.values()) or [world_message()]))
        if random.random() < 0.1:
            number = random.choice(ROWS)
            if number.number in world.rows:
                world.drop_number(number.number)
            else:
                world.put_number(number)
        if random.random() < 0.1:
            world.set_sticky(random.random() < 0.7)
        world.rebind()
        world.expire()
    for message in world.claimed:
        world.resolver.take_back(message, now_ms=world.now_ms)
        world.attempts[message.message_id, message.attempt].settled = True
    return world


def world_message() -> Message:
    return Message(new_id(), request(), recipient(), ROWS[0].number, Tier.AREA, 0)


@settings(max_examples=60 * EFFORT, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60))
def test_what_is_restored_from_the_journal_is_what_lived_through_it(seed, steps):
    world = live(Random(seed), steps)
    lived, restored, now_ms = world.resolver, world.restored(), world.now_ms
    check_counts(restored)
    for one in lived.numbers.values():
        if one.number in restored.numbers:
            other = restored.numbers[one.number]
            for units in (1, 2, 7):
                assert max(now_ms, one.lawful_ms(units)) == max(now_ms, other.lawful_ms(units))
            assert one.rested_ms(now_ms) == other.rested_ms(now_ms)
    for carrier, link in lived.links.items():
        assert max(now_ms, link.window.lawful_ms(1)) == max(now_ms, restored.links[carrier].window.lawful_ms(1))
    # What was tried or moved before goes first, or behind another, in life; restored it stands in accept order.
    out_of_order = world.went_back | world.moved
    for number in lived.numbers.values():
        out_of_order.update(each.message_id for behind in (number.aside or {}).values() for each in behind)
    assert waiting_by_number(lived, out_of_order) == waiting_by_number(restored, out_of_order)
    assert threads_of(lived, now_ms) == threads_of(restored, now_ms)
    for to in RECIPIENTS:
        for asked in ASKED:
            assert answer(lived, to, asked, now_ms) == answer(restored, to, asked, now_ms)


def waiting_by_number(
    resolver: Resolver, out_of_order: set[MessageId]
) -> dict[str, tuple[list[MessageId], list[MessageId]]]:
    """What waits where: in the order of its queues, and what may stand anywhere."""
    found: dict[str, tuple[list[MessageId], list[MessageId]]] = {}
    for number in resolver.numbers.values():
        waiting = {message.message_id for message in number.waiting_messages()}
        queues = (number.front, number.urgent, number.bulk, *(number.aside or {}).values())
        ids = [message.message_id for queue in queues for message in queue or () if message.message_id in waiting]
        if ids:
            ordered = [each for each in dict.fromkeys(ids) if each not in out_of_order]
            found[number.number] = ordered, sorted(waiting & out_of_order)
    return found


def threads_of(resolver: Resolver, now_ms: int) -> dict[str, tuple[object, ...]]:
    pool = resolver.pools[POWERPACK]
    found: dict[str, tuple[object, ...]] = {}
    for to in RECIPIENTS:
        thread = pool.threads.find(to)
        if thread is not None and thread.last_ms + pool.row.sticky_life_ms > now_ms:
            found[to] = (thread.number, thread.detour, thread.used)
    return found


def answer(resolver: Resolver, to: str, asked: object, now_ms: int) -> tuple[object, ...]:
    found = decide(resolver, to, asked, now_ms=now_ms)  # type: ignore[arg-type]
    if isinstance(found, Refusal):
        return found.code, found.retry_at_ms
    return found.tier, found.forecast_ms


def test_what_waits_for_the_link_waits_for_it_again_after_a_restart():
    world = World(
        [long_code(line=line) for line in range(40)], random=Random(1), rates={CARRIER: 5}, powerpack=powerpack()
    )
    for line in range(100):
        world.accept(request(), recipient(line=line))
    world.commit()
    for _ in range(30):
        world.release(CARRIER)
        world.now_ms += 100
        world.depart()
        for message in list(world.away):
            world.answer(message, "sent")
    for message in world.claimed:
        world.resolver.take_back(message, now_ms=world.now_ms)
        world.attempts[message.message_id, message.attempt].settled = True
    restored = world.restored()
    asked = decided(world.resolver, recipient(line=500), now_ms=world.now_ms)
    assert asked.window == "link_rate"
    assert decided(restored, recipient(line=500), now_ms=world.now_ms).forecast_ms == asked.forecast_ms


def test_a_message_without_an_outcome_comes_back_as_one_that_waits_for_a_report():
    resolver = build([long_code()])
    message = Message(new_id(), request(), recipient(), long_code().number, Tier.AREA, NOW_MS + 9_999, committed=True)
    message.phase = Phase.UNKNOWN
    resolver.restore_message(message)
    assert resolver.find(message.message_id) is message
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) is None
    resolver.resend(message, now_ms=NOW_MS, retry_at_ms=NOW_MS)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1) == [message]
    check_counts(resolver)


def test_a_restored_message_whose_number_is_gone_is_decided_again():
    resolver = build([long_code(line=1)])
    message = Message(new_id(), request(), recipient(), long_code().number, Tier.AREA, NOW_MS + 9_999, committed=True)
    resolver.restore_message(message, now_ms=NOW_MS)
    assert list(resolver.orphans) == [message]
    ((moved, outcome),) = resolver.rebind(now_ms=NOW_MS, chance=0.5, most=9)
    assert moved is message
    assert isinstance(outcome, Decision)
    assert message.number == long_code(line=1).number
    check_counts(resolver)


def test_stored_threads_come_back_and_changes_are_handed_out_once():
    resolver = build([long_code(), long_code(line=1)])
    row = ThreadRow(POWERPACK, recipient(), long_code(line=1).number, None, True, NOW_MS - 5_000, False)
    resolver.restore_thread(row)
    resolver.restore_thread(row._replace(powerpack_id=PowerpackId("gone")))
    assert resolver.threads_changed(10) == []
    assert accept(resolver, recipient()).number == long_code(line=1).number
    assert resolver.threads_changed(10) == [row._replace(last_ms=NOW_MS)]
    assert resolver.threads_changed(10) == []


def test_changed_threads_of_all_powerpacks_are_handed_out_a_bounded_part_at_a_time():
    resolver = build([long_code()])
    other = PowerpackId("other")
    resolver.put_powerpack(powerpack(powerpack_id=other))
    resolver.put_number(long_code(line=1, powerpack_id=other), now_ms=NOW_MS)
    for line in range(3):
        accept(resolver, recipient(line=line))
        accept(resolver, recipient(line=line), request(powerpack_id=other))
    rows = [*resolver.threads_changed(2), *resolver.threads_changed(2), *resolver.threads_changed(9)]
    assert len({(row.powerpack_id, row.recipient) for row in rows}) == len(rows) == 6


# --- the catalog ------------------------------------------------------------------------------------------------------

HOME, AWAY = long_code(), long_code(line=1)


def queued(resolver: Resolver, count: int = 3, *, committed: bool = True) -> list[Message]:
    return [accept(resolver, recipient(line=line), committed=committed) for line in range(count)]


@pytest.mark.parametrize(
    "row", [replace(HOME, state=NumberState.DISABLED), replace(HOME, powerpack_id=None), None], ids=str
)
def test_what_waits_at_a_number_that_goes_is_given_back_in_accept_order_and_leaves_no_more_from_it(row):
    resolver = build([HOME])
    first, *others = queued(resolver)
    late = accept(resolver, recipient(line=9), committed=False)
    resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1)
    moved = resolver.drop_number(HOME.number, now_ms=NOW_MS) if row is None else resolver.put_number(row, now_ms=NOW_MS)
    assert moved == others  # not what holds a slot, nor what is not durable yet
    check_counts(resolver)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 9_000, places=9) == []
    assert resolver.wake_ms(CARRIER, now_ms=NOW_MS) is None
    resolver.take_back(first, now_ms=NOW_MS)
    assert set(resolver.orphans) == {first, *others, late}
    check_counts(resolver)
    assert [message for message, _ in resolver.rebind(now_ms=NOW_MS, chance=0.5, most=9)] == [first, *others]
    assert resolver.commit([late]) == set()
    assert [message for message, _ in resolver.rebind(now_ms=NOW_MS, chance=0.5, most=9)] == [late]
    assert resolver.waiting == 0  # nobody could take them


def test_what_was_not_durable_and_is_undone_is_no_orphan():
    resolver = build([HOME])
    (message,) = queued(resolver, 1, committed=False)
    resolver.drop_number(HOME.number, now_ms=NOW_MS)
    resolver.undo(message, now_ms=NOW_MS)
    assert not resolver.orphans
    check_counts(resolver)


def test_a_draining_number_lets_what_waits_leave_and_takes_nothing_new():
    resolver = build([HOME])
    messages = queued(resolver)
    assert resolver.put_number(replace(HOME, state=NumberState.DRAINING), now_ms=NOW_MS) == []
    assert refused(resolver, recipient(line=9)).code is RefusalCode.NO_NUMBER
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 9_000, places=9) == messages


def test_other_limits_hold_at_once_for_what_waits():
    resolver = build([HOME])
    messages = queued(resolver, 6)
    hand_over(resolver, now_ms=NOW_MS)
    resolver.put_number(replace(HOME, limits=limits(5, 1_000)), now_ms=NOW_MS)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=9) == messages[1:5]
    assert decided(resolver, recipient(line=99)).forecast_ms == NOW_MS + 1_020
    for message in messages[1:5]:
        resolver.take_back(message, now_ms=NOW_MS)
    resolver.put_number(replace(HOME, limits=limits(1, 60_000)), now_ms=NOW_MS)
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 61_199, places=9) == []
    assert resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 61_200, places=9) == [messages[1]]


def test_another_carrier_takes_over_what_waits_what_is_aside_and_what_is_booked():
    resolver = build([HOME])
    resolver.put_link(OTHER, segments_per_s=10, now_ms=NOW_MS)
    messages = queued(resolver)
    first = resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1)[0]
    resolver.depart(first, now_ms=NOW_MS)
    resolver.settle_returned(first, now_ms=NOW_MS, retry_at_ms=NOW_MS + 2_000, charged=True)
    resolver.put_number(replace(HOME, carrier=OTHER), now_ms=NOW_MS)
    check_counts(resolver)
    assert resolver.carrier_of(HOME.number) == OTHER
    late_ms = NOW_MS + 9_000
    assert resolver.release(CARRIER, now_ms=late_ms, until_ms=late_ms, places=9) == []
    assert resolver.release(OTHER, now_ms=late_ms, until_ms=late_ms + 3_000, places=9) == messages


def test_a_charge_is_not_given_back_to_a_link_it_was_never_made_on():
    resolver = build([HOME])
    resolver.put_link(OTHER, segments_per_s=1, now_ms=NOW_MS)
    (message,) = queued(resolver, 1)
    hand_over(resolver, now_ms=NOW_MS)
    resolver.restore_charge(AWAY.number, OTHER, handed_ms=NOW_MS, segments=1)  # somebody else's, at the same instant
    resolver.put_number(replace(HOME, carrier=OTHER), now_ms=NOW_MS + 10)
    resolver.settle_returned(message, now_ms=NOW_MS + 20, retry_at_ms=NOW_MS + 20, charged=False)
    assert resolver.links[OTHER].window.lawful_ms(1) == NOW_MS + 1_020


def test_a_number_that_was_dropped_and_comes_back_still_counts_what_it_was_handed():
    resolver = build([replace(HOME, limits=limits(day=1))])
    queued(resolver, 1)
    hand_over(resolver, now_ms=NOW_MS)
    resolver.drop_number(HOME.number, now_ms=NOW_MS + 10)
    assert resolver.drop_number(HOME.number, now_ms=NOW_MS + 10) == []
    assert resolver.drop_number(AWAY.number, now_ms=NOW_MS + 10) == []
    resolver.put_number(replace(HOME, limits=limits(day=1)), now_ms=NOW_MS + 20)
    assert decided(resolver, recipient(line=9), request(validity_ms=2 * DAY_MS)).forecast_ms == NOW_MS + DAY_MS


def test_hand_overs_restored_while_a_number_is_not_ours_count_when_it_comes_back():
    resolver = build([AWAY])
    resolver.restore_charge(HOME.number, CARRIER, handed_ms=NOW_MS - 100, segments=2)
    resolver.put_number(HOME, now_ms=NOW_MS)
    assert resolver.numbers[HOME.number].lawful_ms(1) == NOW_MS - 100 + 2 * 1_020


def test_a_link_that_numbers_name_before_it_is_set_up_is_down_until_then():
    resolver = Resolver()
    resolver.put_powerpack(powerpack())
    resolver.put_number(HOME, now_ms=NOW_MS)
    assert decided(resolver, recipient()).window == "link_down"
    resolver.put_link(CARRIER, segments_per_s=10, now_ms=NOW_MS)
    assert decided(resolver, recipient()).forecast_ms == NOW_MS


def test_a_links_rate_is_lowered_and_raised_at_once_and_never_below_one():
    resolver = build([HOME, AWAY], segments_per_s=100, sticky_sender=False)
    queued(resolver, 4)
    resolver.set_link_rate(CARRIER, 0, now_ms=NOW_MS)
    assert len(resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_000, places=9)) == 1
    resolver.put_link(CARRIER, segments_per_s=100, now_ms=NOW_MS)
    assert len(resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_000, places=9)) == 1
    assert len(resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS + 1_020, places=9)) == 2


def test_the_grace_of_a_link_is_counted_from_the_first_word():
    resolver = build([HOME])
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS)
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS + 4_000)
    assert decided(resolver, recipient(), now_ms=NOW_MS + 5_000).forecast_ms is None
    resolver.set_link_up(CARRIER, True, now_ms=NOW_MS + 6_000)
    resolver.set_link_up(CARRIER, False, now_ms=NOW_MS + 7_000)
    assert decided(resolver, recipient(), now_ms=NOW_MS + 11_000).forecast_ms == NOW_MS + 11_000


def test_a_deleted_powerpack_gives_back_what_waits_and_its_numbers_stay():
    resolver = build([HOME, AWAY])
    messages = queued(resolver, 5)
    late = accept(resolver, recipient(line=9), committed=False)
    (first,) = resolver.release(CARRIER, now_ms=NOW_MS, until_ms=NOW_MS, places=1)
    others = [each for each in messages if each is not first]
    assert resolver.drop_powerpack(POWERPACK, now_ms=NOW_MS) == [*others, late]
    check_counts(resolver)
    assert resolver.powerpack(POWERPACK) is None
    assert refused(resolver, recipient()).code is RefusalCode.NO_NUMBER
    assert set(resolver.open.values()) == {first}
    assert resolver.depart(first, now_ms=NOW_MS).verdict is Verdict.GIVEN_UP
    resolver.take_back(first, now_ms=NOW_MS)
    assert resolver.rebind(now_ms=NOW_MS, chance=0.5, most=9) == []
    assert resolver.drop_powerpack(POWERPACK, now_ms=NOW_MS) == [first]
    resolver.put_powerpack(powerpack())
    resolver.put_number(HOME, now_ms=NOW_MS)
    assert decided(resolver, recipient()).number == HOME.number


def test_settings_rule_the_very_next_decision():
    resolver = build([HOME, long_code(LOS_ANGELES)])
    assert decided(resolver, recipient()).tier is Tier.AREA
    resolver.put_powerpack(powerpack(local_connect=False))
    assert decided(resolver, recipient()).tier is Tier.COUNTRY
    assert resolver.powerpack(POWERPACK) == powerpack(local_connect=False)


def test_whose_carrier_a_number_has_is_known_for_ours_alone():
    resolver = build([HOME])
    assert resolver.carrier_of(HOME.number) == CARRIER
    assert resolver.carrier_of(AWAY.number) is None
