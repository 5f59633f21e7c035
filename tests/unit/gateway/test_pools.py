"""The catalog in memory: edits durable first, other processes' edits heard of, nobody's message forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.edits import EditRefused
from gateway.endings import ENDED_IN_AN_ENTRY, ENTRIES_IN_A_TICK, TAKEN_OUT_IN_A_ROW
from resolver.model import E164, NO_POWERPACK, Limits, NumberState, Phase
from storage.catalog import Change
from storage.records import FactKind, Settled, StorageError
from tests.fakes.accept_floor import CARRIER, FIRST, POWERPACK, AcceptFloor
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT
from tests.fakes.clock import in_virtual_time

RECIPIENT = "+14155550199"
OTHERS = tuple(f"+1415556{place:04d}" for place in range(1_000))


@in_virtual_time
async def test_an_edit_the_database_does_not_take_changes_nothing_in_memory() -> None:
    floor = AcceptFloor()
    row = floor.pools.powerpacks[POWERPACK]
    floor.catalog.away = True
    for edit in (
        floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, name="x")),
        floor.pools.delete_powerpack(row, with_numbers=True),
        floor.pools.remove_number(row, FIRST, gives_up=True),
    ):
        with pytest.raises(StorageError):
            await edit
    assert floor.pools.powerpacks[POWERPACK] is row
    assert floor.pools.numbers[FIRST].powerpack_id == POWERPACK
    assert FIRST in floor.resolver.pools[POWERPACK].numbers


@in_virtual_time
async def test_an_edit_rules_the_very_next_decision() -> None:
    floor = AcceptFloor(numbers=1)
    added = floor.add_number("+12065550100")
    floor.fill()
    row = floor.pools.powerpacks[POWERPACK]
    await floor.pools.remove_number(row, FIRST, gives_up=False)
    await floor.pools.add_number(row, added.number)
    await floor.outbound.submit(floor.submission(RECIPIENT))
    assert [message.number for message in floor.resolver.open.values()] == [added.number]


@in_virtual_time
async def test_edits_come_one_after_another_each_seeing_the_one_before() -> None:
    floor = AcceptFloor()

    async def rename(suffix: str) -> None:
        await floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, name=row.name + suffix))

    await asyncio.gather(*(rename(each) for each in "abc"))
    assert floor.catalog.powerpacks[POWERPACK].name == "packabc"


@in_virtual_time
async def test_what_is_not_there_any_more_cannot_be_edited() -> None:
    floor = AcceptFloor()
    row = floor.pools.powerpacks[POWERPACK]
    await floor.pools.delete_powerpack(row, with_numbers=False)
    for edit in (
        floor.pools.change_powerpack(POWERPACK, lambda row: row),
        floor.pools.delete_powerpack(row, with_numbers=False),
        floor.pools.remove_number(row, FIRST, gives_up=False),
        floor.pools.add_number(row, E164("+12065550199")),
    ):
        with pytest.raises(EditRefused) as refused:
            await edit
        assert refused.value.code == "not_found"


# --- Other processes' edits -------------------------------------------------------------------------------------------


@in_virtual_time
async def test_what_another_process_edits_is_read_and_rules() -> None:
    floor = AcceptFloor()
    number = floor.add_number("+12065550100", powerpack_id=POWERPACK)
    floor.catalog.powerpacks[POWERPACK] = replace(floor.catalog.powerpacks[POWERPACK], local_connect=False)
    floor.catalog.accounts[ACCOUNT] = replace(floor.catalog.accounts[ACCOUNT], enabled=False)
    for change in (
        Change("number", number.number, ACCOUNT),
        Change("powerpack", POWERPACK, ACCOUNT),
        Change("account", ACCOUNT, ACCOUNT),
    ):
        await floor.pools.on_change(change)
    assert number.number in floor.resolver.pools[POWERPACK].numbers
    assert number.number in floor.pools.members[POWERPACK]
    assert not floor.resolver.pools[POWERPACK].row.local_connect
    assert not floor.pools.accounts[ACCOUNT].enabled


@in_virtual_time
async def test_what_another_process_deletes_is_forgotten() -> None:
    floor = AcceptFloor()
    del floor.catalog.numbers[FIRST]
    await floor.pools.on_change(Change("number", FIRST, ACCOUNT))
    assert FIRST not in floor.pools.numbers
    assert FIRST not in floor.resolver.pools[POWERPACK].numbers
    await floor.catalog.delete_powerpack(ACCOUNT, POWERPACK)
    await floor.pools.on_change(Change("powerpack", POWERPACK, ACCOUNT))
    assert POWERPACK not in floor.pools.powerpacks
    assert POWERPACK not in floor.resolver.pools


@in_virtual_time
async def test_after_a_gap_everything_is_compared() -> None:
    floor = AcceptFloor(numbers=3)
    numbers = list(floor.catalog.numbers)
    gone, changed = numbers[0], numbers[1]
    del floor.catalog.numbers[gone]
    floor.catalog.numbers[changed] = replace(floor.catalog.numbers[changed], state=NumberState.DRAINING)
    new = floor.add_number("+12065550100", powerpack_id=POWERPACK)
    await floor.pools.on_change(Change("all"))
    assert set(floor.pools.numbers) == {changed, numbers[2], new.number}
    assert (
        set(floor.resolver.pools[POWERPACK].numbers) == set(floor.pools.members[POWERPACK]) == set(floor.pools.numbers)
    )
    assert floor.resolver.numbers[changed].row.state is NumberState.DRAINING


@in_virtual_time
async def test_the_news_of_ones_own_edit_changes_nothing() -> None:
    floor = AcceptFloor()
    row = await floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, name="x"))
    await floor.pools.on_change(Change("powerpack", POWERPACK, ACCOUNT))
    assert floor.pools.powerpacks[POWERPACK] is row


@in_virtual_time
async def test_old_news_of_a_number_does_not_take_it_from_who_was_given_it_since() -> None:
    floor = AcceptFloor()
    given = replace(floor.pools.numbers[FIRST], account_id=OTHER_ACCOUNT, powerpack_id=None)
    floor.catalog.numbers[FIRST] = given
    await floor.pools.on_change(Change("number", FIRST, OTHER_ACCOUNT))
    await floor.pools.on_change(Change("number", FIRST, ACCOUNT))
    assert floor.pools.numbers[FIRST] == given
    del floor.catalog.numbers[FIRST]
    await floor.pools.on_change(Change("number", FIRST, OTHER_ACCOUNT))
    assert FIRST not in floor.pools.numbers


# --- Messages of a powerpack that is gone -----------------------------------------------------------------------------


@in_virtual_time
async def test_what_waits_in_a_deleted_powerpack_is_ended_by_a_fact() -> None:
    floor = AcceptFloor()
    await floor.outbound.submit(floor.submission(*OTHERS[:3]))
    await floor.pools.delete_powerpack(floor.pools.powerpacks[POWERPACK], with_numbers=False)
    await asyncio.sleep(0.1)
    assert [fact.kind for fact in floor.journal.facts()] == [FactKind.POWERPACK_DELETED] * 3
    assert {(outcome.state, outcome.code) for outcome in floor.journal.outcomes()} == {("failed", "90")}
    assert floor.resolver.waiting == 0


@pytest.mark.parametrize("settled", [Settled.COMMITTED, Settled.FAILED])
def test_a_message_whose_decision_was_not_durable_yet_ends_only_once_it_is(settled: Settled) -> None:
    @in_virtual_time
    async def run() -> None:
        floor = AcceptFloor(commit_ms=100)
        floor.journal.verdicts.append(settled)
        submitting = asyncio.create_task(floor.outbound.submit(floor.submission(RECIPIENT)))
        await asyncio.sleep(0.05)
        await floor.pools.delete_powerpack(floor.pools.powerpacks[POWERPACK], with_numbers=False)
        floor.pools.tick()
        assert floor.journal.appended == 1
        await asyncio.wait([submitting])
        floor.pools.tick()
        await asyncio.sleep(0.2)
        expected = [FactKind.POWERPACK_DELETED] if settled is Settled.COMMITTED else []
        assert [fact.kind for fact in floor.journal.facts()] == expected
        assert (submitting.exception() is None) == (settled is Settled.COMMITTED)
        assert floor.resolver.waiting == 0

    run()


@in_virtual_time
async def test_a_message_that_comes_back_to_a_deleted_powerpack_ends_too() -> None:
    floor = AcceptFloor(places=8)
    await floor.outbound.submit(floor.submission(RECIPIENT))
    (message,) = floor.lane.taken
    await floor.pools.delete_powerpack(floor.pools.powerpacks[POWERPACK], with_numbers=False)
    assert message.phase is Phase.RELEASED
    floor.resolver.take_back(message, now_ms=floor.clock.now_ms())
    floor.pools.tick()
    await asyncio.sleep(0.1)
    assert [fact.kind for fact in floor.journal.facts()] == [FactKind.POWERPACK_DELETED]


@in_virtual_time
async def test_a_large_backlog_is_ended_a_bounded_part_at_a_time() -> None:
    floor = AcceptFloor(limits=Limits(1_000, 1_000, 1_000_000, None))
    part = ENDED_IN_AN_ENTRY * ENTRIES_IN_A_TICK
    for area_code in ("212", "303", "206"):
        recipients = [f"+1{area_code}556{place:04d}" for place in range(1_000)]
        await floor.outbound.submit(floor.submission(*recipients))
    assert floor.resolver.waiting == 3_000 > part
    running = asyncio.create_task(floor.pools.run())
    await floor.pools.delete_powerpack(floor.pools.powerpacks[POWERPACK], with_numbers=False)
    await asyncio.sleep(0.01)
    assert len(list(floor.journal.facts())) == part
    await asyncio.sleep(1)
    assert len(list(floor.journal.facts())) == 3_000
    running.cancel()


@in_virtual_time
async def test_others_get_their_turn_while_a_backlog_is_taken_out_and_nothing_of_it_leaves() -> None:
    floor = AcceptFloor(limits=Limits(1_000, 1_000, 1_000_000, None))
    for area_code in ("212", "303", "206"):
        recipients = [f"+1{area_code}556{place:04d}" for place in range(1_000)]
        await floor.outbound.submit(floor.submission(*recipients))
    deleting = asyncio.create_task(
        floor.pools.delete_powerpack(floor.pools.powerpacks[POWERPACK], with_numbers=False)
    )  # fmt: skip
    left = [floor.resolver.waiting]
    while not deleting.done():
        await asyncio.sleep(0)
        left.append(floor.resolver.waiting)
        now_ms = floor.clock.now_ms()
        if 0 < left[-1] < 3_000:
            assert not floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=10)
    assert max(before - after for before, after in pairwise(left)) == TAKEN_OUT_IN_A_ROW
    assert left[-1] == 0


@in_virtual_time
async def test_nothing_is_ended_while_facts_cannot_be_stored() -> None:
    floor = AcceptFloor()
    await floor.outbound.submit(floor.submission(RECIPIENT))
    floor.journal.go_away()
    await floor.pools.delete_powerpack(floor.pools.powerpacks[POWERPACK], with_numbers=False)
    assert floor.facts.is_behind
    floor.journal.come_back()
    await asyncio.sleep(1)
    assert [fact.kind for fact in floor.journal.facts()] == [FactKind.POWERPACK_DELETED]


@in_virtual_time
async def test_what_named_its_number_ends_with_it_and_not_for_want_of_a_powerpack() -> None:
    floor = AcceptFloor(numbers=1)
    row = floor.pools.powerpacks[POWERPACK]
    submission = floor.submission(RECIPIENT, powerpack_id=NO_POWERPACK)
    submission.request.source = FIRST
    await floor.outbound.submit(submission)
    (message,) = floor.resolver.open.values()
    await floor.pools.delete_powerpack(row, with_numbers=False)
    floor.pools.tick()
    assert (message.phase, message.number) == (Phase.WAITING, FIRST)
    disabled = replace(floor.pools.numbers[FIRST], state=NumberState.DISABLED)
    floor.resolver.put_number(disabled, now_ms=floor.clock.now_ms())
    floor.pools.tick()
    assert message in floor.resolver.orphans  # to be decided again, which says what became of it
