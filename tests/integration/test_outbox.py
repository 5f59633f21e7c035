"""Callbacks owed, in a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from storage.database import Database
from storage.journal import Journal
from storage.outbox import Outbox
from storage.records import CallbackResult, CallbackRow, CallbackState, Entry, Settled
from tests.contract.journal_worlds import wall_ms
from tests.fakes.entries import ACCOUNT, NOW_MS, OTHER_ACCOUNT, callback_row, new_id


@pytest.fixture
async def journal(database: Database) -> AsyncIterator[Journal]:
    async with Journal(database, clock=wall_ms) as running:
        yield running


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


async def owe(journal: Journal, *due_ms: int, **changes: Any) -> list[CallbackRow]:
    rows = [callback_row(new_id(), next_ms=due, **changes) for due in due_ms]
    assert await journal.append(Entry(callbacks=rows)) is Settled.COMMITTED
    return rows


async def test_what_is_due_is_loaded_in_order_page_by_page(journal: Journal, outbox: Outbox) -> None:
    late, first, second, third, future = await owe(journal, NOW_MS + 3, NOW_MS, NOW_MS + 1, NOW_MS + 1, NOW_MS + 100)
    page = await outbox.load_owed(limit=2, until_ms=NOW_MS + 50)
    assert [owed.row for owed in page] == [first, min(second, third, key=lambda row: row.callback_id)]
    assert [owed.tries for owed in page] == [0, 0]
    last = page[-1].row
    rest = await outbox.load_owed(limit=9, until_ms=NOW_MS + 50, after=(last.next_ms, last.callback_id))
    assert [owed.row for owed in rest] == [max(second, third, key=lambda row: row.callback_id), late]
    assert future not in [owed.row for owed in rest]


async def test_what_was_told_or_given_up_is_owed_no_more(journal: Journal, outbox: Outbox) -> None:
    told, given_up, again = await owe(journal, NOW_MS, NOW_MS, NOW_MS)
    results = [
        CallbackResult(told.callback_id, CallbackState.TOLD, 1, NOW_MS, "200"),
        CallbackResult(given_up.callback_id, CallbackState.GIVEN_UP, 9, NOW_MS, "410"),
        CallbackResult(again.callback_id, CallbackState.OWED, 2, NOW_MS + 60_000, "timed_out"),
    ]
    await outbox.record(results)
    await outbox.record(results)
    assert await outbox.load_owed(limit=9, until_ms=NOW_MS) == []
    (owed,) = await outbox.load_owed(limit=9, until_ms=NOW_MS + 60_000)
    assert owed.row == again._replace(next_ms=NOW_MS + 60_000)
    assert owed.tries == 2


async def test_the_later_of_two_results_of_one_batch_wins(journal: Journal, outbox: Outbox) -> None:
    (row,) = await owe(journal, NOW_MS)
    await outbox.record(
        [
            CallbackResult(row.callback_id, CallbackState.OWED, 1, NOW_MS, "500"),
            CallbackResult(row.callback_id, CallbackState.TOLD, 2, NOW_MS, "200"),
        ]
    )
    assert await outbox.load_owed(limit=9, until_ms=NOW_MS) == []


async def test_nothing_to_record_is_nothing_to_do(outbox: Outbox) -> None:
    await outbox.record([])


async def test_an_account_sees_its_own_callbacks_and_how_far_they_got(journal: Journal, outbox: Outbox) -> None:
    first, second = await owe(journal, NOW_MS, NOW_MS)
    await owe(journal, NOW_MS, account_id=OTHER_ACCOUNT)
    await outbox.record([CallbackResult(second.callback_id, CallbackState.TOLD, 3, NOW_MS, "204")])
    page = await outbox.list_page(ACCOUNT, limit=20, offset=0)
    assert [each.row for each in page] == [second, first]
    assert (page[0].state, page[0].tries, page[0].last_result) == (CallbackState.TOLD, 3, "204")
    assert (page[1].state, page[1].tries, page[1].last_result) == (CallbackState.OWED, 0, "")
    assert [each.row for each in await outbox.list_page(ACCOUNT, limit=1, offset=1)] == [first]
