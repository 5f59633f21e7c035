"""What waits to be committed: bounds, turns, what is never split."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.model import AccountId
from storage.backlog import OURS, Backlog, JournalLimits, Ticket, account_of
from storage.records import Entry, JournalFull, OutcomeUnknown, Settled
from tests.fakes.entries import (
    ACCOUNT,
    OTHER_ACCOUNT,
    callback_row,
    fact_entry,
    handover_row,
    key_row,
    new_id,
    request_entry,
)

SMALL = JournalLimits(batch_rows_max=10, waiting_rows_max=100)


def facts(count: int) -> Entry:
    """An entry of ours with so many rows."""
    entry = fact_entry(new_id())
    entry.facts *= count
    return entry


def request(rows: int, account_id: AccountId = ACCOUNT) -> Entry:
    """An account's entry with so many rows, its body among them."""
    return request_entry(rows - 1, account_id=account_id)


def pushed(backlog: Backlog, entry: Entry) -> Ticket:
    ticket = backlog.admit(entry, None, asyncio.get_running_loop().create_future())
    backlog.push(ticket)
    return ticket


def rows_of(tickets: list[Ticket]) -> list[int]:
    return [ticket.rows for ticket in tickets]


# --- What a batch takes -----------------------------------------------------------------------------------------------


async def test_what_fits_goes_at_once_in_append_order() -> None:
    backlog = Backlog(SMALL)
    tickets = [pushed(backlog, each) for each in (request(2), facts(3), request(2, OTHER_ACCOUNT), facts(1))]
    assert backlog.take() == tickets
    assert not backlog
    assert backlog.waiting_rows == 0


async def test_accounts_take_turns_when_more_waits_than_fits() -> None:
    backlog = Backlog(SMALL)
    flood = [pushed(backlog, request(3)) for _ in range(20)]
    other = [pushed(backlog, request(3, OTHER_ACCOUNT)) for _ in range(2)]
    assert backlog.take() == [flood[0], flood[1], other[0]]
    assert backlog.take() == [flood[2], flood[3], other[1]], "the turn goes on where it ended"
    assert backlog.take() == flood[4:7]


async def test_each_account_keeps_its_order() -> None:
    backlog = Backlog(SMALL)
    tickets = [pushed(backlog, request(4)) for _ in range(6)]
    taken: list[Ticket] = []
    while backlog:
        taken += backlog.take()
    assert taken == tickets


async def test_claims_and_facts_go_first_but_leave_half_to_accounts_that_wait() -> None:
    backlog = Backlog(SMALL)
    requests = [pushed(backlog, request(2)) for _ in range(5)]
    ours = [pushed(backlog, facts(1)) for _ in range(20)]
    taken = backlog.take()
    assert [ticket for ticket in taken if ticket.account_id == OURS] == ours[:5]
    assert [ticket for ticket in taken if ticket.account_id != OURS] == requests[:2]


async def test_facts_fill_a_batch_that_no_account_wants() -> None:
    backlog = Backlog(SMALL)
    ours = [pushed(backlog, facts(1)) for _ in range(25)]
    assert backlog.take() == ours[:10]


async def test_facts_take_what_accounts_leave() -> None:
    backlog = Backlog(SMALL)
    pushed(backlog, request(2))
    for _ in range(20):
        pushed(backlog, facts(1))
    assert sum(rows_of(backlog.take())) == 10


async def test_an_entry_larger_than_a_batch_goes_whole_though_facts_keep_coming() -> None:
    backlog = Backlog(SMALL)
    large = pushed(backlog, request(30))
    for _ in range(20):
        pushed(backlog, facts(1))
    assert large in backlog.take()


async def test_large_facts_go_whole_though_accounts_wait() -> None:
    backlog = Backlog(SMALL)
    large = pushed(backlog, facts(30))
    for _ in range(20):
        pushed(backlog, request(2))
    taken = backlog.take()
    assert large in taken
    assert len(taken) == 2, "and one entry of an account"


async def test_bytes_end_a_batch_too() -> None:
    backlog = Backlog(replace(SMALL, batch_bytes_max=10_000))
    entries = [pushed(backlog, request_entry(text="x" * 2_000)) for _ in range(5)]
    assert backlog.fills_a_batch
    assert backlog.take() == entries[:2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "A", "B", "C"]), st.integers(1, 25)), max_size=60))
async def test_everything_is_taken_once_and_every_batch_lets_everybody_in(waiting: list[tuple[str, int]]) -> None:
    backlog = Backlog(replace(SMALL, waiting_rows_max=10_000))
    tickets = [
        pushed(backlog, request(rows + 1, AccountId(account)) if account else facts(rows)) for account, rows in waiting
    ]
    taken: list[Ticket] = []
    while backlog:
        kinds = {bool(ticket.account_id) for ticket in tickets if ticket not in taken}
        batch = backlog.take()
        assert {bool(ticket.account_id) for ticket in batch} == kinds
        assert batch == sorted(batch, key=lambda ticket: ticket.order)
        if sum(rows_of(batch)) > SMALL.batch_rows_max:
            assert len(batch) == 1 or max(rows_of(batch)) > SMALL.batch_rows_max / 2
        taken += batch
    assert sorted(taken, key=lambda ticket: ticket.order) == tickets
    assert backlog.waiting_rows == backlog.waiting_bytes == 0


# --- Bounds -----------------------------------------------------------------------------------------------------------


async def test_what_is_not_settled_counts_until_it_is() -> None:
    backlog = Backlog(SMALL)
    tickets = [pushed(backlog, request(10)) for _ in range(10)]
    with pytest.raises(JournalFull):
        pushed(backlog, facts(1))
    backlog.take()
    with pytest.raises(JournalFull):
        pushed(backlog, facts(1))
    backlog.free(tickets[0])
    pushed(backlog, facts(10))
    assert backlog.rows == 100


async def test_one_entry_alone_finds_room_however_large() -> None:
    backlog = Backlog(SMALL)
    assert pushed(backlog, request(500)).rows == 500
    with pytest.raises(JournalFull):
        pushed(backlog, facts(1))


async def test_long_texts_and_callbacks_count_as_bytes() -> None:
    backlog = Backlog(JournalLimits(waiting_bytes_max=20_000))
    pushed(backlog, request_entry(text="x" * 8_000))
    with pytest.raises(JournalFull):
        pushed(backlog, Entry(callbacks=[callback_row(new_id(), params=b"x" * 8_000)]))
    with pytest.raises(JournalFull):
        pushed(backlog, Entry(handovers=[handover_row([new_id()] * 200)]))
    with pytest.raises(JournalFull):
        pushed(backlog, Entry(idempotency=key_row("k", answer=b"x" * 8_000)))


async def test_an_entry_without_rows_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        pushed(Backlog(SMALL), Entry())


@pytest.mark.parametrize(
    ("entry", "account_id"),
    [
        (request_entry(account_id=OTHER_ACCOUNT), OTHER_ACCOUNT),
        (Entry(idempotency=key_row("k")), ACCOUNT),
        (fact_entry(new_id()), OURS),
    ],
)
def test_the_turn_is_that_of_the_account_whose_messages_it_decides(entry: Entry, account_id: str) -> None:
    assert account_of(entry) == account_id


# --- Tickets ----------------------------------------------------------------------------------------------------------


async def test_a_ticket_tells_the_truth_also_when_its_waiter_has_gone() -> None:
    heard: list[Settled] = []
    future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
    ticket = Ticket(facts(1), heard.append, future, 0)
    future.cancel()
    ticket.settle(Settled.COMMITTED)
    assert heard == [Settled.COMMITTED]


async def test_a_ticket_is_settled_once() -> None:
    ticket = Ticket(facts(1), None, asyncio.get_running_loop().create_future(), 0)
    ticket.settle(Settled.FAILED)
    with pytest.raises(AssertionError):
        ticket.settle(Settled.COMMITTED)


async def test_what_is_not_known_in_time_can_still_come_true() -> None:
    heard: list[Settled] = []
    ticket = Ticket(facts(1), heard.append, asyncio.get_running_loop().create_future(), 0)
    ticket.answer(OutcomeUnknown())
    assert not heard
    ticket.settle(Settled.COMMITTED)
    assert heard == [Settled.COMMITTED]
    with pytest.raises(OutcomeUnknown):
        await ticket.future


# --- What goes before -------------------------------------------------------------------------------------------------


async def test_nothing_goes_before_where_one_batch_holds_all() -> None:
    backlog = Backlog(SMALL)
    pushed(backlog, request(10))
    assert backlog.batches_ahead(ACCOUNT) == backlog.batches_ahead(OTHER_ACCOUNT) == 0


async def test_a_flood_waits_for_itself_and_others_for_their_turn_alone() -> None:
    backlog = Backlog(SMALL)
    for _ in range(10):
        pushed(backlog, request(5))
    assert backlog.batches_ahead(ACCOUNT) == 5
    assert backlog.batches_ahead(OTHER_ACCOUNT) == 0.5
    pushed(backlog, facts(3))
    assert backlog.batches_ahead(OTHER_ACCOUNT) == 1, "half of a batch is ours"


@given(st.lists(st.tuples(st.sampled_from([ACCOUNT, OTHER_ACCOUNT]), st.integers(2, 9)), max_size=10))
async def test_so_many_batches_are_really_taken_before(entries: list[tuple[AccountId, int]]) -> None:
    backlog = Backlog(SMALL)
    for account_id, rows in entries:
        pushed(backlog, request(rows, account_id))
    told = backlog.batches_ahead(ACCOUNT)
    mine = pushed(backlog, request(2))
    taken = 0
    while mine not in backlog.take():
        taken += 1
    assert told / 2 - 1 <= taken <= 2 * told + 1, "batches are seldom quite full"
