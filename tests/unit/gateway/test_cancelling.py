"""Cancelling many: all that waits and matches ends, a bounded part at a time, and leaves no hole behind."""

from __future__ import annotations

import asyncio

import pytest

from gateway.cancelling import CANCELLED_IN_A_ROW, Cancelled, Cancelling
from resolver.model import Limits, Message, Phase
from storage.records import JournalUnavailable, Settled
from tests.fakes.clock import in_virtual_time
from tests.fakes.gateway_floor import CARRIER, Floor

ONE_A_SECOND = Limits(1, 1_000, 1_000_000_000, None)


def everything(_: Message) -> bool:
    return True


def cancelling(floor: Floor) -> Cancelling:
    return Cancelling(floor.resolver, floor.facts, clock=floor.clock)


@in_virtual_time
async def test_what_waits_is_ended_and_stored_before_it_is_answered_and_told() -> None:
    floor = Floor()
    messages = floor.accept(3, callback_url="https://example.com/cb")
    done = await cancelling(floor).cancel(lambda each: each is not messages[1], ms_max=1_000, detail="by_test")
    assert done == Cancelled(2, 0, 0, True)
    assert list(floor.resolver.open.values()) == [messages[1]]
    for message in (messages[0], messages[2]):
        (fact,) = floor.journal.facts_of(message.message_id)
        assert (fact.kind, fact.code, fact.detail) == ("cancelled", "300", "by_test")
    assert sorted(row.message_id for row in floor.callbacks) == [messages[0].message_id, messages[2].message_id]
    assert [row.state for row in floor.journal.outcomes()] == ["failed", "failed"]


@in_virtual_time
async def test_a_claimed_one_is_stopped_at_the_door_and_one_in_flight_is_not_tried_again() -> None:
    floor = Floor()
    claimed, flying, unknown, uncommitted = floor.accept(4)
    now_ms = floor.clock.now_ms()
    assert floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=3) == [claimed, flying, unknown]
    for message in (flying, unknown):
        floor.resolver.depart(message, now_ms=now_ms)
    floor.resolver.settle_unknown(unknown, now_ms=now_ms)
    uncommitted.committed = False
    done = await cancelling(floor).cancel(everything, ms_max=1_000)
    assert done == Cancelled(0, 1, 2, True)
    assert floor.resolver.depart(claimed, now_ms=now_ms).reason == "cancelled"
    floor.resolver.settle_returned(flying, now_ms=now_ms, retry_at_ms=now_ms, charged=False)
    floor.resolver.resend(unknown, now_ms=now_ms, retry_at_ms=now_ms)
    for message in floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=9):
        assert floor.resolver.depart(message, now_ms=now_ms).reason == "cancelled"
    assert uncommitted.phase is Phase.WAITING
    for message in (claimed, flying, unknown):
        assert floor.kinds(message) == ["cancel_asked"], "so that a restart knows of it"
    assert floor.kinds(uncommitted) == []


@in_virtual_time
async def test_what_was_being_cancelled_before_a_restart_ends_and_nothing_else() -> None:
    floor = Floor()
    asked, other = floor.accept(2)
    asked.cancelled = True  # as recovery brings it back
    await cancelling(floor).end_asked()
    assert floor.kinds(asked) == ["cancelled"]
    assert list(floor.resolver.open.values()) == [other]


@in_virtual_time
async def test_a_start_goes_on_where_nothing_can_be_stored() -> None:
    floor = Floor()
    floor.accept(1)[0].cancelled = True
    floor.journal.verdicts.append(Settled.FAILED)
    await cancelling(floor).end_asked()
    assert not floor.resolver.open


@in_virtual_time
async def test_others_get_their_turn_while_many_are_cancelled_and_newcomers_stay() -> None:
    floor = Floor(numbers=10, commit_ms=1)
    floor.accept(5_000)
    task = asyncio.create_task(cancelling(floor).cancel(everything, ms_max=60_000))
    turns, newcomers = 0, []
    while not task.done():
        turns += 1
        if turns == 2:
            newcomers = floor.accept(2)
        await asyncio.sleep(0.001)
    assert task.result() == Cancelled(5_000, 0, 0, True)
    assert turns >= 5
    assert list(floor.resolver.open.values()) == newcomers
    assert max(len(entry.facts) for entry in floor.journal.committed) <= CANCELLED_IN_A_ROW


@in_virtual_time
async def test_what_is_left_leaves_no_later_for_what_was_cancelled_before_it() -> None:
    floor = Floor(limits=ONE_A_SECOND)
    messages = floor.accept(100)
    begun_ms = floor.clock.now_ms()
    async with floor.running():
        await cancelling(floor).cancel(lambda each: each not in messages[50:52], ms_max=1_000)
        await asyncio.sleep(4)
    assert all(message.slot_ms - begun_ms < 2_500 for message in messages[50:52])
    assert {message.phase for message in messages} == {Phase.DONE}


@in_virtual_time
async def test_it_says_so_when_time_was_up_and_goes_on_when_called_again() -> None:
    floor = Floor(numbers=10, commit_ms=100)
    floor.accept(10_000)
    part = await cancelling(floor).cancel(everything, ms_max=300)
    assert not part.complete
    assert 0 < part.cancelled < 10_000
    rest = await cancelling(floor).cancel(everything, ms_max=60_000)
    assert (part.cancelled + rest.cancelled, rest.complete) == (10_000, True)


@in_virtual_time
async def test_what_cannot_be_stored_is_not_answered_as_done_and_is_stored_later() -> None:
    floor = Floor()
    (message,) = floor.accept()
    floor.journal.verdicts.append(Settled.FAILED)
    with pytest.raises(JournalUnavailable):
        await cancelling(floor).cancel(everything, ms_max=1_000)
    assert message.phase is Phase.DONE
    (other,) = floor.accept()
    with pytest.raises(JournalUnavailable):  # facts wait: nothing more is begun
        await cancelling(floor).cancel(everything, ms_max=1_000)
    assert other.phase is Phase.WAITING
    await asyncio.sleep(1)
    assert floor.kinds(message) == ["cancelled"]
    floor.journal.go_away()
    with pytest.raises(JournalUnavailable):
        await cancelling(floor).cancel(everything, ms_max=1_000)
    floor.journal.come_back()
    await asyncio.sleep(1)
    assert floor.kinds(other) == ["cancelled"]
