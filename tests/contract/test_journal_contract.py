"""What every journal promises: one suite for the one on PostgreSQL and for its twin in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.backlog import JournalLimits
from storage.records import Entry, EpochLost, FactKind, JournalFull, JournalUnavailable, OutcomeUnknown, Settled
from storage.transaction import TABLES
from tests.contract.journal_worlds import HASTY, QUICK, JournalPort, World, memory_world, postgres_world, wall_ms
from tests.fakes.entries import (
    ACCOUNT,
    OTHER_ACCOUNT,
    entry_of_everything,
    fact_entry,
    message_row,
    new_id,
    request_entry,
)
from tests.fakes.proxy import LATE_S, Fate

SLOW_S = 5


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_of(request, QUICK) as made:
        yield made


@pytest.fixture(params=["memory", "postgres"])
async def hasty_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Answers are held for a moment only."""
    async with world_of(request, HASTY) as made:
        yield made


def world_of(request: pytest.FixtureRequest, limits: JournalLimits) -> AbstractAsyncContextManager[World]:
    if request.param == "memory":
        return memory_world(limits)
    return postgres_world(request.getfixturevalue("database_url"), limits)


async def settled(journal: JournalPort, entry: Entry) -> Settled:
    return await asyncio.wait_for(journal.append(entry), SLOW_S)


# --- Stored ----------------------------------------------------------------------------------------------------------


async def test_a_committed_entry_is_stored_whole_in_every_table_with_its_epoch_and_batch(world: World) -> None:
    entry = entry_of_everything()
    assert await settled(world.journal, entry) is Settled.COMMITTED
    for table in TABLES:
        stored = await world.rows(table.name)
        given_rows = [tuple(row) for row in table.rows(entry)]
        if table.is_numbered:
            assert {row[-2:] for row in stored} == {(1, 1)}
            stored = [row[:-2] for row in stored]
        assert [list(map(plain, row)) for row in stored] == [list(map(plain, row)) for row in given_rows], table.name
        assert stored, table.name
    assert await world.keys() == ["everything"]


def plain(value: object) -> object:
    """uuids as text."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, int | bytes) else str(value)


async def test_what_waits_while_a_commit_runs_shares_the_next_one(world: World) -> None:
    entries = [request_entry() for _ in range(100)]
    futures = [world.journal.append(entry) for entry in entries]
    assert set(await asyncio.gather(*futures)) == {Settled.COMMITTED}
    batches = {row[-1] for row in await world.rows("messages")}
    assert len(batches) < 10


async def test_batches_are_numbered_in_append_order(world: World) -> None:
    message_id = new_id()
    kinds = [FactKind.SENT, FactKind.REPORTED_SENT, FactKind.DELIVERED]
    for kind in kinds:
        _ = world.journal.append(fact_entry(message_id, kind))
        await asyncio.sleep(0)
    assert await settled(world.journal, fact_entry(message_id, FactKind.UNREPORTED)) is Settled.COMMITTED
    await until_quiet(world.journal)
    assert [row[2] for row in await world.rows("facts")] == [*kinds, FactKind.UNREPORTED]


async def test_on_settled_is_called_in_append_order_before_the_waiters_go_on(world: World) -> None:
    heard: list[object] = []
    entries = [request_entry(account_id=account) for account in (ACCOUNT, OTHER_ACCOUNT, ACCOUNT)]
    futures = []
    for place, entry in enumerate(entries):
        future = world.journal.append(entry, partial(note, heard, place))
        future.add_done_callback(partial(note, heard, f"waiter {place}"))
        futures.append(future)
    await asyncio.gather(*futures)
    assert [each for each in heard if isinstance(each, int)] == [0, 1, 2]
    for place in range(3):
        assert heard.index(place) < heard.index(f"waiter {place}")


def note(heard: list[object], what: object, _result: object) -> None:
    heard.append(what)


async def test_on_settled_is_called_before_the_future_is_done(world: World) -> None:
    """Whoever looks at a future that is done finds memory changed already."""
    seen: list[bool] = []
    future = world.journal.append(request_entry(), lambda _: seen.append(future.done()))
    await future
    assert seen == [False]


async def test_a_waiter_that_gives_up_changes_nothing(world: World) -> None:
    heard: list[Settled] = []
    entry = request_entry()
    waiting = asyncio.create_task(_wait(world.journal.append(entry, heard.append)))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await settled(world.journal, request_entry()) is Settled.COMMITTED
    await until_quiet(world.journal)
    assert heard == [Settled.COMMITTED]
    assert len(await world.rows("messages")) == 2


async def _wait(future: asyncio.Future[Settled]) -> Settled:
    return await future


async def test_stopping_commits_what_waits_and_takes_no_more(world: World) -> None:
    futures = [world.journal.append(request_entry()) for _ in range(20)]
    await world.journal.stop()
    assert {future.result() for future in futures} == {Settled.COMMITTED}
    assert len(await world.rows("messages")) == 20
    with pytest.raises(JournalUnavailable):
        _ = world.journal.append(request_entry())


# --- Idempotency keys ------------------------------------------------------------------------------------------------


async def test_a_key_is_stored_once_and_the_second_entry_is_not_stored(world: World) -> None:
    first, second = request_entry(key="k"), request_entry(key="k")
    assert await settled(world.journal, first) is Settled.COMMITTED
    neighbour = world.journal.append(request_entry())
    assert await settled(world.journal, second) is Settled.REPLAYED
    assert await neighbour is Settled.COMMITTED
    stored = {str(row[0]) for row in await world.rows("messages")}
    assert first.messages[0].message_id in stored
    assert second.messages[0].message_id not in stored
    assert len(stored) == 2


async def test_of_two_entries_at_once_with_one_key_the_first_is_stored(world: World) -> None:
    entries = [request_entry(key="k") for _ in range(5)]
    futures = [world.journal.append(entry) for entry in entries]
    assert await asyncio.gather(*futures) == [Settled.COMMITTED] + [Settled.REPLAYED] * 4
    assert [str(row[0]) for row in await world.rows("messages")] == [entries[0].messages[0].message_id]


async def test_the_same_key_of_another_account_is_another_key(world: World) -> None:
    futures = [world.journal.append(request_entry(key="k", account_id=each)) for each in (ACCOUNT, OTHER_ACCOUNT)]
    assert await asyncio.gather(*futures) == [Settled.COMMITTED] * 2


async def test_a_key_whose_entry_was_not_stored_is_free_for_the_next_one(world: World) -> None:
    poisoned = request_entry(key="k", text="\0")
    futures = [world.journal.append(each) for each in (poisoned, request_entry(key="k"), request_entry(key="k"))]
    assert await asyncio.gather(*futures) == [Settled.POISONED, Settled.COMMITTED, Settled.REPLAYED]


# --- Poison ----------------------------------------------------------------------------------------------------------

POISONS = {
    "a NUL": lambda: request_entry(text="a\0b"),
    "a lone surrogate": lambda: request_entry(text="\ud800"),
    "a number too large": lambda: Entry(messages=[message_row(accepted_ms=2**63)]),
}


@pytest.mark.parametrize("poison", POISONS)
async def test_an_entry_the_database_refuses_fails_alone(world: World, poison: str) -> None:
    good = [request_entry() for _ in range(10)]
    futures = [world.journal.append(entry) for entry in (*good[:7], POISONS[poison](), *good[7:])]
    assert await asyncio.gather(*futures) == [Settled.COMMITTED] * 7 + [Settled.POISONED] + [Settled.COMMITTED] * 3
    stored = {str(row[0]) for row in await world.rows("messages")}
    assert stored == {entry.messages[0].message_id for entry in good}


async def test_an_id_that_is_stored_already_is_poison(world: World) -> None:
    entry = request_entry()
    assert await settled(world.journal, entry) is Settled.COMMITTED
    futures = [world.journal.append(entry), world.journal.append(request_entry())]
    assert await asyncio.gather(*futures) == [Settled.POISONED, Settled.COMMITTED]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bad=st.lists(st.booleans(), min_size=1, max_size=24))
async def test_of_any_entries_exactly_the_poisoned_ones_fail(world: World, bad: list[bool]) -> None:
    entries = [request_entry(text="\0" if each else "good", claims=True) for each in bad]
    results = await asyncio.gather(*[world.journal.append(entry) for entry in entries])
    assert results == [Settled.POISONED if each else Settled.COMMITTED for each in bad]
    stored = {str(row[0]) for row in await world.rows("messages")}
    for entry, is_bad in zip(entries, bad, strict=True):
        assert (entry.messages[0].message_id in stored) is not is_bad


# --- Bounds and turns ------------------------------------------------------------------------------------------------


async def test_more_than_may_wait_is_refused_at_once(world: World) -> None:
    rows_max = QUICK.waiting_rows_max
    first = [world.journal.append(request_entry(999)) for _ in range(rows_max // 1_000)]
    with pytest.raises(JournalFull):
        _ = world.journal.append(request_entry(1))
    await asyncio.gather(*first)
    assert world.journal.waiting_rows == 0
    assert await settled(world.journal, request_entry()) is Settled.COMMITTED


async def test_an_entry_larger_than_a_batch_is_stored_whole(world: World) -> None:
    entry = request_entry(1_500, claims=True)
    small = world.journal.append(request_entry())
    assert await settled(world.journal, entry) is Settled.COMMITTED
    assert await small is Settled.COMMITTED
    stored = [row for row in await world.rows("messages") if str(row[1]) == entry.messages[0].request_id]
    assert len(stored) == 1_500
    assert len({row[-1] for row in stored}) == 1


async def test_a_flood_of_one_account_does_not_make_another_wait_for_all_of_it(world: World) -> None:
    order: list[str] = []
    flood = [world.journal.append(request_entry(100), lambda _: order.append("flood")) for _ in range(100)]
    other = world.journal.append(request_entry(1, account_id=OTHER_ACCOUNT), lambda _: order.append("other"))
    await asyncio.gather(*flood, other)
    assert order.index("other") < 40


# --- The database goes away ------------------------------------------------------------------------------------------


async def test_nothing_is_taken_while_the_database_is_away_and_again_when_it_is_back(world: World) -> None:
    assert await settled(world.journal, request_entry()) is Settled.COMMITTED
    world.go_away()
    await until_not_ready(world.journal)
    with pytest.raises(JournalUnavailable):
        _ = world.journal.append(request_entry())
    assert not await world.journal.wait_ready(30)
    assert world.journal.away_ms(wall_ms() + 1) > 0
    waiting = asyncio.create_task(world.journal.wait_ready(20))
    for _ in range(10):
        await asyncio.sleep(0)
    assert waiting.done(), "it has been away for as long already"
    world.come_back()
    assert await world.journal.wait_ready(5_000)
    assert await settled(world.journal, request_entry()) is Settled.COMMITTED
    assert world.journal.away_ms(wall_ms()) < 1_000


async def test_a_batch_cut_before_its_commit_is_stored_once_the_database_is_back(world: World) -> None:
    world.next_commit(Fate.NOT_SENT)
    entry = request_entry()
    assert await settled(world.journal, entry) is Settled.COMMITTED
    assert [str(row[0]) for row in await world.rows("messages")] == [entry.messages[0].message_id]


async def test_a_commit_whose_answer_is_lost_is_found_and_not_repeated(world: World) -> None:
    world.next_commit(Fate.ANSWER_LOST)
    heard: list[Settled] = []
    entry = fact_entry(new_id())
    assert await asyncio.wait_for(world.journal.append(entry, heard.append), SLOW_S) is Settled.COMMITTED
    assert len(await world.rows("facts")) == 1
    assert heard == [Settled.COMMITTED]


async def test_a_commit_that_did_not_happen_is_repeated_under_the_same_number(world: World) -> None:
    world.next_commit(Fate.SERVER_HELD)
    entry = fact_entry(new_id())
    assert await settled(world.journal, entry) is Settled.COMMITTED
    assert [row[-1] for row in await world.rows("facts")] == [1]


EVERYTHING = entry_of_everything()
ALONE: dict[str, Entry] = {
    "messages": Entry(messages=EVERYTHING.messages),
    "handovers": Entry(handovers=EVERYTHING.handovers),
    "facts": Entry(facts=EVERYTHING.facts),
    "outcomes": Entry(outcomes=EVERYTHING.outcomes),
    "callbacks": Entry(callbacks=EVERYTHING.callbacks),
    "bodies": Entry(bodies=EVERYTHING.bodies),
    "carrier_refs": Entry(carrier_refs=EVERYTHING.carrier_refs),
    "unmatched_reports": Entry(unmatched=EVERYTHING.unmatched),
    "bulk_stretches": Entry(stretch=EVERYTHING.stretch),
    "idempotency": Entry(idempotency=EVERYTHING.idempotency),
}


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.SERVER_HELD])
@pytest.mark.parametrize("table", ALONE)
async def test_whatever_an_entry_holds_it_is_stored_once(world: World, table: str, fate: Fate) -> None:
    entry = ALONE[table]
    world.next_commit(fate)
    assert await settled(world.journal, entry) is Settled.COMMITTED
    stored = await world.keys() if table == "idempotency" else await world.rows(table)
    assert len(stored) == entry.rows()


async def test_a_commit_that_comes_late_and_its_repetition_store_it_once(world: World) -> None:
    world.next_commit(Fate.LATE)
    entry = fact_entry(new_id())
    assert await settled(world.journal, entry) is Settled.COMMITTED
    await asyncio.sleep(2 * LATE_S)
    assert len(await world.rows("facts")) == 1


async def test_an_older_row_alike_is_not_taken_for_the_one_that_was_lost(world: World) -> None:
    entry = fact_entry(new_id())
    assert await settled(world.journal, entry) is Settled.COMMITTED
    world.next_commit(Fate.SERVER_HELD)
    assert await settled(world.journal, entry) is Settled.COMMITTED
    assert [row[-1] for row in await world.rows("facts")] == [1, 2]


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.SERVER_HELD])
async def test_an_unknown_outcome_is_told_in_time_and_its_truth_later(hasty_world: World, fate: Fate) -> None:
    world = hasty_world
    heard: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
    world.next_commit(fate, and_leave=True)
    future = world.journal.append(request_entry(key="k"), heard.set_result)
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(future, SLOW_S)
    assert not heard.done()
    world.come_back()
    truth = await asyncio.wait_for(heard, SLOW_S)
    assert await world.journal.wait_ready(5_000)
    assert truth is (Settled.COMMITTED if fate is Fate.ANSWER_LOST else Settled.FAILED)
    assert len(await world.rows("messages")) == (1 if truth is Settled.COMMITTED else 0)
    assert await settled(world.journal, request_entry(key="k")) is (
        Settled.REPLAYED if truth is Settled.COMMITTED else Settled.COMMITTED
    )


async def test_what_waits_for_an_absent_database_fails_in_time(hasty_world: World) -> None:
    world = hasty_world
    futures = [world.journal.append(request_entry(600)) for _ in range(12)]
    world.go_away()
    results = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), SLOW_S)
    assert Settled.FAILED in results
    assert set(map(str, results)) <= {"failed", "committed", str(OutcomeUnknown("the connection was lost in COMMIT"))}
    world.come_back()
    assert await world.journal.wait_ready(5_000)
    await until_quiet(world.journal)
    stored = len(await world.rows("messages"))
    assert stored == 600 * results.count(Settled.COMMITTED)


# --- Another owner ---------------------------------------------------------------------------------------------------


async def test_whoever_lost_the_epoch_stores_nothing_more(world: World) -> None:
    assert await settled(world.journal, request_entry()) is Settled.COMMITTED
    await world.take_over()
    heard: list[Settled] = []
    future = world.journal.append(request_entry(), heard.append)
    with pytest.raises(EpochLost):
        await asyncio.wait_for(future, SLOW_S)
    assert heard == [Settled.FAILED]
    assert not world.journal.owns_epoch
    assert not world.journal.ready
    await asyncio.wait_for(world.journal.lost.wait(), SLOW_S)
    with pytest.raises(EpochLost):
        _ = world.journal.append(request_entry())
    assert len(await world.rows("messages")) == 1


# --- Waiting ---------------------------------------------------------------------------------------------------------


async def until_quiet(journal: JournalPort) -> None:
    async with asyncio.timeout(SLOW_S):
        while journal.waiting_rows:
            await asyncio.sleep(0.001)


async def until_not_ready(journal: JournalPort) -> None:
    async with asyncio.timeout(SLOW_S):
        while journal.ready:
            await asyncio.sleep(0.001)
