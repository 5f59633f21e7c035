"""Better chances are taken, and only those: what no number holds, and what could leave a minute sooner elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resolver.core import Resolver
from resolver.model import CarrierName, Decision, Message, NumberState, Phase, Refusal, RefusalCode, Tier
from resolver.rebinding import IDLE_LOOKS, TOGETHER_MAX, WORTH_MS
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    NOW_MS,
    POWERPACK,
    URGENT,
    accept,
    build,
    hand_over,
    limits,
    long_code,
    recipient,
    request,
    toll_free,
)
from tests.unit.resolver.laws import check_counts

OTHER = CarrierName("other")
HOME, AWAY = long_code(), long_code(line=1)
LATER_MS = NOW_MS + 1_000

Moved = list[tuple[Message, Decision | Refusal]]


def rebind(resolver: Resolver, *, now_ms: int = LATER_MS, most: int = 10_000) -> Moved:
    moved = resolver.rebind(now_ms=now_ms, chance=0.5, most=most)
    check_counts(resolver)
    return moved


def crowded(count: int = 150, *, sticky_sender: bool = False, **fields: object) -> tuple[Resolver, list[Message]]:
    """One number with so many messages, a second each."""
    resolver = build([HOME], sticky_sender=sticky_sender, **fields)  # type: ignore[arg-type]
    messages = [accept(resolver, recipient(line=line)) for line in range(count)]
    rebind(resolver)
    return resolver, messages


def messages_of(moved: Moved) -> list[Message]:
    return [message for message, _ in moved]


@pytest.mark.parametrize("is_set", [True, False])
def test_what_waited_before_a_thread_was_set_or_forgotten_by_hand_moves_without_it(is_set):
    resolver, messages = crowded(sticky_sender=True)
    last, threads = messages[-1], resolver.pools[POWERPACK].threads
    if is_set:
        threads.point(last.recipient, HOME.number, now_ms=NOW_MS, life_ms=1_000_000)
    else:
        threads.forget(last.recipient)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    assert last in messages_of(rebind(resolver))
    assert last.number == AWAY.number
    thread = threads.find(last.recipient)
    assert (thread.number if thread is not None else None) == (HOME.number if is_set else None)


# --- numbers that go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [None, replace(HOME, state=NumberState.DISABLED), replace(HOME, powerpack_id=None)])
def test_what_waits_at_a_number_that_goes_is_decided_again_at_once_in_accept_order(row):
    resolver, messages = crowded(20, sticky_sender=True)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    if row is None:
        resolver.drop_number(HOME.number, now_ms=LATER_MS)
    else:
        resolver.put_number(row, now_ms=LATER_MS)
    moved = rebind(resolver)
    assert messages_of(moved) == messages
    assert {message.number for message in messages} == {AWAY.number}
    assert {message.rebound_ms for message in messages} == {LATER_MS}
    released = resolver.release(CARRIER, now_ms=LATER_MS, until_ms=LATER_MS + 60_000, places=100)
    assert released == messages
    disabled = row is not None and row.state is NumberState.DISABLED
    threads = [resolver.pools[POWERPACK].threads.find(message.recipient) for message in messages]
    assert {thread.number for thread in threads if thread is not None} == {HOME.number if disabled else AWAY.number}


def test_a_thread_moves_with_its_messages_when_its_number_is_gone_though_it_was_used():
    resolver = build([HOME])
    accept(resolver, recipient())
    waits = accept(resolver, recipient())
    hand_over(resolver, now_ms=NOW_MS)
    resolver.put_number(AWAY, now_ms=NOW_MS)
    resolver.drop_number(HOME.number, now_ms=NOW_MS)
    ((moved, decision),) = rebind(resolver)
    assert moved is waits
    assert isinstance(decision, Decision)
    thread = resolver.pools[POWERPACK].threads.find(recipient())
    assert thread is not None
    assert (thread.number, thread.used) == (AWAY.number, False)


def test_those_nobody_can_take_are_refused_and_taken_out():
    resolver, messages = crowded(5)
    resolver.drop_number(HOME.number, now_ms=LATER_MS)
    moved = rebind(resolver)
    assert messages_of(moved) == messages
    for _, outcome in moved:
        assert isinstance(outcome, Refusal)
        assert outcome.code is RefusalCode.NO_NUMBER
    assert resolver.waiting == 0


def test_one_whose_validity_is_over_is_left_to_expire():
    resolver = build([HOME], sticky_sender=False)
    message = accept(resolver, recipient(), request(validity_ms=500))
    resolver.drop_number(HOME.number, now_ms=NOW_MS)
    assert rebind(resolver) == []
    assert resolver.expire(now_ms=LATER_MS, most=9) == [message]


def test_what_is_left_of_its_validity_is_what_counts():
    resolver = build([HOME], sticky_sender=False)
    message = accept(resolver, recipient(), request(validity_ms=20_000))
    for line in range(1, 20):
        accept(resolver, recipient(line=line))
    late_ms = NOW_MS + 15_000
    resolver.put_number(replace(AWAY, limits=limits(1, 10_000)), now_ms=late_ms)
    accept(resolver, recipient(line=99), now_ms=late_ms)
    resolver.numbers[AWAY.number].charge(1, late_ms)
    resolver.drop_number(HOME.number, now_ms=late_ms)
    outcome = dict(rebind(resolver, now_ms=late_ms))[message]
    assert isinstance(outcome, Refusal)
    assert outcome.code is RefusalCode.NO_CAPACITY


def test_only_a_bounded_part_is_decided_again_in_a_call():
    resolver, messages = crowded(50)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    resolver.drop_number(HOME.number, now_ms=LATER_MS)
    found: list[Message] = []
    for _ in range(5):
        part = rebind(resolver, most=10)
        assert len(part) <= 10
        found += messages_of(part)
    assert found == messages


# --- numbers that come, limits that rise, a carrier that is back ------------------------------------------------------


def test_when_numbers_are_added_only_what_is_a_minute_ahead_and_gains_a_minute_moves():
    resolver, messages = crowded(150)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    moved = rebind(resolver)
    # The n-th left leaves at n spans, at the new number the k-th at k: it moves if that is a minute sooner.
    expected: list[Message] = []
    for place, message in enumerate(messages):
        at_ms, there_ms = LATER_MS + (place - len(expected)) * 1_020, LATER_MS + len(expected) * 1_020
        if at_ms > LATER_MS + WORTH_MS and there_ms + WORTH_MS <= at_ms:
            expected.append(message)
    assert messages_of(moved) == expected
    assert expected[:3] == [messages[59], messages[61], messages[63]]
    for message, decision in moved:
        assert isinstance(decision, Decision)
        assert (message.number, message.tier) == (AWAY.number, Tier.AREA)
    assert all(message.number == HOME.number for message in messages if message not in expected)


def test_it_is_looked_at_once_after_each_change():
    resolver, _ = crowded(150)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    assert rebind(resolver)
    assert rebind(resolver) == []
    assert not resolver.improving


def test_a_message_moves_at_most_once_in_a_minute():
    resolver, _ = crowded(400)
    resolver.put_number(replace(AWAY, limits=limits(1, 20_000)), now_ms=LATER_MS)
    first = messages_of(rebind(resolver))
    assert first
    resolver.put_number(long_code(line=2), now_ms=LATER_MS)
    again = messages_of(rebind(resolver, now_ms=LATER_MS + WORTH_MS - 1))
    assert not set(first) & set(again)
    resolver.put_number(long_code(line=3), now_ms=LATER_MS)
    assert set(first) & set(messages_of(rebind(resolver, now_ms=LATER_MS + WORTH_MS)))


@pytest.mark.parametrize("change", ["limits", "rate", "up"])
def test_raised_limits_and_a_carrier_that_is_back_are_better_chances(change):
    slow, fast = limits(1, 60_000), limits(100, 1_000)
    resolver = build(
        [HOME, replace(AWAY, carrier=OTHER, limits=slow if change == "limits" else fast)], sticky_sender=False
    )
    resolver.put_link(OTHER, segments_per_s=1, now_ms=NOW_MS)
    resolver.set_link_up(OTHER, change != "up", now_ms=NOW_MS - 10_000)
    for line in range(300):
        accept(resolver, recipient(line=line))
    rebind(resolver)
    assert rebind(resolver) == []
    if change == "limits":
        resolver.put_number(replace(AWAY, carrier=OTHER), now_ms=LATER_MS)
    elif change == "rate":
        resolver.set_link_rate(OTHER, 100, now_ms=LATER_MS)
    else:
        resolver.set_link_up(OTHER, True, now_ms=LATER_MS)
    moved = rebind(resolver)
    assert moved
    assert {message.number for message, _ in moved} == {AWAY.number}


def test_what_waits_for_a_link_that_binds_moves_to_another_link():
    resolver = build([long_code(line=line) for line in range(200)], segments_per_s=1, sticky_sender=False)
    messages = [accept(resolver, recipient(line=line)) for line in range(200)]
    rebind(resolver)
    resolver.put_link(OTHER, segments_per_s=1_000, now_ms=LATER_MS)
    resolver.put_number(long_code(line=999, carrier=OTHER, limits=limits(1_000, 1_000)), now_ms=LATER_MS)
    moved = messages_of(rebind(resolver))
    assert moved == messages[59:]  # each is a second of the link


def test_urgent_and_bulk_move_in_accept_order():
    resolver = build([HOME], sticky_sender=False)
    messages = [accept(resolver, recipient(line=line), URGENT if line % 3 else request()) for line in range(300)]
    rebind(resolver)
    resolver.put_number(replace(AWAY, limits=limits(100, 1_000)), now_ms=LATER_MS)
    moved = messages_of(rebind(resolver))
    assert len(moved) > 150
    assert moved == [message for message in messages if message in set(moved)]


def test_only_what_is_durable_and_holds_no_slot_moves():
    resolver, _ = crowded(100)
    late = accept(resolver, recipient(line=999), committed=False)
    resolver.put_number(replace(AWAY, limits=limits(100, 1_000)), now_ms=LATER_MS)
    moved = messages_of(rebind(resolver))
    assert moved
    assert late not in moved
    assert late.phase is Phase.WAITING


def test_what_others_left_meanwhile_is_not_moved_for_nothing():
    resolver, messages = crowded(150)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    assert rebind(resolver, most=1) == []  # the look has begun
    for message in messages[:140]:
        resolver.cancel(message, now_ms=LATER_MS)
    assert rebind(resolver) == []  # they leave within seconds now


def test_what_has_left_meanwhile_does_not_move():
    resolver, messages = crowded(150)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    assert rebind(resolver, most=1) == []
    for message in messages[100:]:
        resolver.cancel(message, now_ms=LATER_MS)
    moved = messages_of(rebind(resolver))
    assert moved
    assert not set(moved) & set(messages[100:])


# --- threads ----------------------------------------------------------------------------------------------------------


def long_thread(*, used: bool = False) -> tuple[Resolver, list[Message]]:
    """Three messages of one recipient, two of them more than a minute ahead."""
    resolver = build([HOME], sticky_wait_ms=600_000)
    if used:
        accept(resolver, recipient(line=500))
        hand_over(resolver, now_ms=NOW_MS)
    early = accept(resolver, recipient(line=500))
    for line in range(80):
        accept(resolver, recipient(line=line))
    late = [accept(resolver, recipient(line=500)) for _ in range(2)]
    rebind(resolver)
    resolver.put_number(replace(AWAY, limits=limits(100, 1_000)), now_ms=LATER_MS)
    return resolver, [early, *late]


def test_a_recipients_messages_move_together_and_take_the_thread_along():
    resolver, thread_messages = long_thread()
    moved = messages_of(rebind(resolver))
    assert [message for message in moved if message in thread_messages] == thread_messages
    assert {message.number for message in thread_messages} == {AWAY.number}
    thread = resolver.pools[POWERPACK].threads.find(recipient(line=500))
    assert thread is not None
    assert (thread.number, thread.waiting) == (AWAY.number, thread_messages)


def test_a_thread_that_was_used_stays_with_its_number():
    resolver, thread_messages = long_thread(used=True)
    assert not set(thread_messages) & set(messages_of(rebind(resolver)))
    thread = resolver.pools[POWERPACK].threads.find(recipient(line=500))
    assert thread is not None
    assert thread.number == HOME.number


@pytest.mark.parametrize("bar", ["slot", "not durable"])
def test_none_moves_where_one_of_them_cannot(bar):
    resolver, thread_messages = long_thread()
    if bar == "slot":
        (released,) = resolver.release(CARRIER, now_ms=LATER_MS, until_ms=LATER_MS, places=1)
        assert released is thread_messages[0]
    else:
        accept(resolver, recipient(line=500), committed=False)
    moved = messages_of(rebind(resolver))
    assert moved
    assert not set(thread_messages) & set(moved)


def test_a_detour_does_not_move():
    resolver = build([HOME])
    accept(resolver, recipient())
    for line in range(1, 250):
        accept(resolver, recipient(line=line))
    resolver.put_number(replace(AWAY, limits=limits(1, 60_000)), now_ms=NOW_MS)
    detours = [accept(resolver, recipient()) for _ in range(3)]
    assert {(message.number, message.tier) for message in detours} == {(AWAY.number, Tier.DETOUR)}
    rebind(resolver)
    resolver.put_number(long_code(line=3, limits=limits(100, 1_000)), now_ms=LATER_MS)
    moved = messages_of(rebind(resolver))
    assert moved
    assert not set(detours) & set(moved)


def test_more_of_one_recipient_than_may_move_together_stay():
    resolver = build([HOME], sticky_wait_ms=10_000_000, patience_ms=10_000_000)
    for _ in range(TOGETHER_MAX + 1):
        accept(resolver, recipient())
    rebind(resolver)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    assert rebind(resolver) == []


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_a_look_at_many_numbers_is_taken_in_parts():
    resolver = build([long_code(line=line) for line in range(3 * IDLE_LOOKS)], sticky_sender=False, local_connect=False)
    resolver.put_number(replace(HOME, limits=limits(1, 60_000)), now_ms=NOW_MS)
    for line in range(3 * IDLE_LOOKS):
        accept(resolver, recipient(line=line))
    calls = 0
    while resolver.improving:
        rebind(resolver, most=1)
        calls += 1
    assert calls >= 3


def test_an_edit_looks_at_none_of_the_numbers_that_nothing_waits_at():
    resolver = build([long_code(line=line) for line in range(50 * IDLE_LOOKS)], sticky_sender=False)
    accept(resolver, recipient(line=1))
    resolver.put_number(AWAY, now_ms=NOW_MS)
    rebind(resolver, most=3)
    assert not resolver.improving


def test_powerpacks_take_turns():
    resolver, _ = crowded(150)
    second = replace(resolver.pools[POWERPACK].row, powerpack_id=type(POWERPACK)("second"))
    resolver.put_powerpack(second)
    far = [long_code(LOS_ANGELES, line, powerpack_id=second.powerpack_id) for line in range(2)]
    resolver.put_number(far[0], now_ms=NOW_MS)
    for line in range(150):
        accept(resolver, recipient(line=line), request(powerpack_id=second.powerpack_id))
    rebind(resolver)
    resolver.put_number(far[1], now_ms=LATER_MS)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    packs = [message.request.powerpack_id for _ in range(40) for message in messages_of(rebind(resolver, most=4))]
    assert {POWERPACK, second.powerpack_id} <= set(packs[: len(packs) // 2])


def test_a_powerpack_that_was_deleted_meanwhile_is_forgotten():
    resolver, _ = crowded(150)
    resolver.put_number(AWAY, now_ms=LATER_MS)
    rebind(resolver, most=1)
    resolver.drop_powerpack(POWERPACK, now_ms=LATER_MS)
    assert rebind(resolver) == []
    assert not resolver.improving


def test_the_operator_is_remembered_so_that_no_excluded_network_gets_a_toll_free_number():
    for operator, expected in (("barred", HOME.number), ("", toll_free().number)):
        resolver = build([AWAY], sticky_sender=False)
        resolver.excluded_networks = frozenset({"barred"})
        asked = request()
        decision = resolver.decide(asked, recipient(), now_ms=NOW_MS, chance=0.5, operator=operator)
        assert isinstance(decision, Decision)
        message = accept(resolver, recipient(line=1))
        resolver.undo(message, now_ms=NOW_MS)
        message = resolver.apply(asked, recipient(), decision, message.message_id, now_ms=NOW_MS, operator=operator)
        resolver.commit([message])
        resolver.put_number(HOME, now_ms=NOW_MS)
        resolver.put_number(toll_free(), now_ms=NOW_MS)
        resolver.drop_number(AWAY.number, now_ms=NOW_MS)
        rebind(resolver)
        assert message.number == expected


def test_a_recipient_in_another_place_finds_its_own_best():
    resolver = build([HOME], sticky_sender=False)
    messages = [accept(resolver, recipient(LOS_ANGELES, line)) for line in range(100)]
    rebind(resolver)
    resolver.put_number(long_code(LOS_ANGELES), now_ms=LATER_MS)
    moved = rebind(resolver)
    assert moved
    assert {message.tier for message, _ in moved} == {Tier.AREA}
    assert {message.tier for message in messages if message not in dict(moved)} == {Tier.REGION}
