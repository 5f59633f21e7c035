"""Looking messages up in a real database: whose they are, what lists show, what carriers ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from resolver.model import E164, AccountId, MessageId, PowerpackId
from storage.database import Database
from storage.journal import Journal
from storage.messages import COUNT_MAX, MessageArchive, MessageFilters, first_id
from storage.records import CarrierRefRow, Entry, FactKind, OutcomeRow, Settled, State, UnmatchedReportRow
from tests.contract.journal_worlds import wall_ms
from tests.fakes.entries import (
    ACCOUNT,
    NOW_MS,
    NUMBER,
    OTHER_ACCOUNT,
    POWERPACK,
    RECIPIENT,
    SIMULATED,
    body_row,
    fact_row,
    key_row,
    message_row,
    new_id,
    request_entry,
)

HOUR_MS = 3_600_000
EVERYTHING = MessageFilters()


@pytest.fixture
async def journal(database: Database) -> AsyncIterator[Journal]:
    async with Journal(database, clock=wall_ms) as running:
        yield running


@pytest.fixture
def archive(database: Database) -> MessageArchive:
    return MessageArchive(database)


async def store(journal: Journal, *entries: Entry) -> None:
    for entry in entries:
        assert await journal.append(entry) is Settled.COMMITTED


async def sent(journal: Journal, message_id: str, *, at_ms: int = NOW_MS, **changes: Any) -> None:
    fact = fact_row(message_id, FactKind.SENT, attempt=1, handed_ms=at_ms, at_ms=at_ms, charged=True, **changes)
    await store(journal, Entry(facts=[fact]))


async def ended(journal: Journal, message_id: str, kind: FactKind, state: State, code: str = "") -> None:
    fact = fact_row(message_id, kind, code=code)
    outcome = OutcomeRow(MessageId(message_id), ACCOUNT, state, code, NOW_MS)
    await store(journal, Entry(facts=[fact], outcomes=[outcome]))


async def ids(
    archive: MessageArchive, filters: MessageFilters = EVERYTHING, account_id: AccountId = ACCOUNT
) -> set[str]:
    page = await archive.list_page(account_id, filters, limit=20, offset=0)
    assert page.total == len(page.messages)
    return {each.row.message_id for each in page.messages}


# --- One message ------------------------------------------------------------------------------------------------------


async def test_a_message_is_found_with_its_request_facts_and_end(journal: Journal, archive: MessageArchive) -> None:
    entry = request_entry(2)
    row = entry.messages[0]
    await store(journal, entry)
    await sent(journal, row.message_id, carrier_ref="ref-1")
    await ended(journal, row.message_id, FactKind.DELIVERED, State.DELIVERED, "000")
    stored = await archive.find(ACCOUNT, row.message_id)
    assert stored is not None
    assert stored.row == row
    assert stored.body == entry.bodies[0]
    assert [fact.kind for fact in stored.facts] == [FactKind.SENT, FactKind.DELIVERED]
    assert stored.facts[0].carrier_ref == "ref-1"
    assert stored.outcome == OutcomeRow(row.message_id, ACCOUNT, State.DELIVERED, "000", NOW_MS)
    assert stored.state is State.DELIVERED


async def test_another_accounts_message_is_not_there(journal: Journal, archive: MessageArchive) -> None:
    entry = request_entry(account_id=OTHER_ACCOUNT)
    await store(journal, entry)
    assert await archive.find(ACCOUNT, entry.messages[0].message_id) is None
    assert await archive.find(ACCOUNT, MessageId(new_id())) is None
    assert await ids(archive) == set()


async def test_facts_come_in_the_order_of_their_batches(
    journal: Journal, archive: MessageArchive, database: Database
) -> None:
    entry = request_entry()
    message_id = entry.messages[0].message_id
    await store(journal, entry)
    await sent(journal, message_id)
    await ended(journal, message_id, FactKind.DELIVERED, State.DELIVERED)
    async with database.side() as connection:  # as if the later batch had been stored first
        await connection.execute("UPDATE facts SET batch = batch + 10 WHERE kind = 'sent'")
    stored = await archive.find(ACCOUNT, message_id)
    assert stored is not None
    assert [fact.kind for fact in stored.facts] == [FactKind.DELIVERED, FactKind.SENT]
    assert stored.state is State.DELIVERED


# --- Lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_shows_the_newest_first_page_by_page(journal: Journal, archive: MessageArchive) -> None:
    entry = request_entry(5)
    await store(journal, entry)
    newest_first = [row.message_id for row in reversed(entry.messages)]
    pages = [await archive.list_page(ACCOUNT, EVERYTHING, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[each.row.message_id for each in page.messages] for page in pages] == [
        newest_first[:2], newest_first[2:4], newest_first[4:], [],
    ]  # fmt: skip
    assert [page.total for page in pages] == [5, 5, 5, 5]
    assert pages[0].messages[0].body == entry.bodies[0]


async def test_destinations_are_counted_by_area_code_per_account_and_powerpack(
    journal: Journal, archive: MessageArchive
) -> None:
    other_pack = PowerpackId(new_id())
    for changes in (
        {"recipient": E164("+12125550777")},
        {"recipient": E164("+12125550778")},
        {"recipient": E164("+12125550778"), "powerpack_id": other_pack},
        {"recipient": E164("+496912345678")},
    ):
        request_id = new_id()
        await store(journal, Entry(bodies=[body_row(request_id)], messages=[message_row(request_id, **changes)]))
    await store(journal, request_entry(1, account_id=OTHER_ACCOUNT))
    assert await archive.destinations(ACCOUNT, None, since_ms=NOW_MS - HOUR_MS) == {"+1212": 3}
    assert await archive.destinations(ACCOUNT, other_pack, since_ms=NOW_MS - HOUR_MS) == {"+1212": 1}
    assert await archive.destinations(ACCOUNT, None, since_ms=wall_ms() + HOUR_MS) == {}
    assert await archive.destinations(AccountId("MA99999999999999999Z"), None, since_ms=0) == {}


FILTERS: dict[str, tuple[dict[str, Any], MessageFilters]] = {
    "powerpack": ({"powerpack_id": PowerpackId(new_id())}, MessageFilters(powerpack_id=POWERPACK)),
    "recipient": ({"recipient": E164("+14155550777")}, MessageFilters(recipient=RECIPIENT)),
    "number": ({"number": E164("+14155550888")}, MessageFilters(number=NUMBER)),
    "service": ({"service": "mms"}, MessageFilters(service="sms")),
    "reference": ({"reference": "other"}, MessageFilters(reference="mine")),
    "from": ({"accepted_ms": NOW_MS - 1}, MessageFilters(from_ms=NOW_MS)),
    "until": ({"accepted_ms": NOW_MS + 1}, MessageFilters(until_ms=NOW_MS + 1)),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_a_filter_passes_what_matches_and_nothing_else(
    journal: Journal, archive: MessageArchive, name: str
) -> None:
    change, filters = FILTERS[name]
    request_id = new_id()
    wanted = message_row(request_id, reference="mine", message_id=at_id(NOW_MS))
    other = message_row(request_id, **{"reference": "mine", "message_id": at_id(NOW_MS), **change})
    await store(journal, Entry(bodies=[body_row(request_id)], messages=[wanted, other]))
    assert await ids(archive) == {wanted.message_id, other.message_id}
    assert await ids(archive, filters) == {wanted.message_id}


def at_id(at_ms: int) -> str:
    """A new id of that instant."""
    return first_id(at_ms)[:14] + new_id()[14:]


async def test_states_are_those_of_the_outcomes_else_of_the_facts(journal: Journal, archive: MessageArchive) -> None:
    entry = request_entry(5)
    queued, on_its_way, taken, delivered, silent = [row.message_id for row in entry.messages]
    await store(journal, entry)
    await sent(journal, on_its_way)
    await store(journal, Entry(facts=[fact_row(taken, FactKind.REPORTED_SENT)]))
    for message_id in (delivered, silent):
        await sent(journal, message_id)
    await ended(journal, delivered, FactKind.DELIVERED, State.DELIVERED, "000")
    await ended(journal, silent, FactKind.UNREPORTED, State.SENT)
    by_state = {state: await ids(archive, MessageFilters(state=state)) for state in ("queued", "sent", "delivered")}
    assert by_state == {"queued": {queued}, "sent": {on_its_way, taken, silent}, "delivered": {delivered}}
    assert await ids(archive, MessageFilters(state="rejected")) == set()
    assert await ids(archive, MessageFilters(code="000")) == {delivered}
    page = await archive.list_page(ACCOUNT, EVERYTHING, limit=20, offset=0)
    for each in page.messages:
        assert each.row.message_id in by_state[each.state]


async def test_the_time_asked_for_finds_messages_whose_ids_are_of_another_hour(
    journal: Journal, archive: MessageArchive
) -> None:
    """Ids follow the wall clock, messages a clock that may be ahead of it."""
    row = message_row(message_id=at_id(NOW_MS - 5 * HOUR_MS))
    await store(journal, Entry(messages=[row]))
    assert await ids(archive, MessageFilters(from_ms=NOW_MS, until_ms=NOW_MS + 1)) == {row.message_id}


async def test_counting_ends_where_it_would_get_slow(journal: Journal, archive: MessageArchive) -> None:
    request_id = new_id()
    for _ in range(COUNT_MAX // 2_000 + 1):
        await store(journal, Entry(messages=[message_row(request_id, line=line) for line in range(2_000)]))
    page = await archive.list_page(ACCOUNT, EVERYTHING, limit=20, offset=0)
    assert (len(page.messages), page.total) == (20, COUNT_MAX)


# --- What carriers and repeated requests ask --------------------------------------------------------------------------


async def test_a_carriers_reference_leads_to_its_newest_message(journal: Journal, archive: MessageArchive) -> None:
    old, new, other = MessageId(new_id()), MessageId(new_id()), MessageId(new_id())
    refs = [
        CarrierRefRow(SIMULATED, "1", new, NOW_MS + 5),
        CarrierRefRow(SIMULATED, "1", old, NOW_MS),
        CarrierRefRow(SIMULATED, "2", other, NOW_MS),
    ]
    await store(journal, Entry(carrier_refs=refs))
    assert await archive.find_refs(SIMULATED, ["1", "2", "3"]) == {"1": new, "2": other}


async def test_messages_are_recalled_whosever_they_are(journal: Journal, archive: MessageArchive) -> None:
    mine, theirs = request_entry(), request_entry(account_id=OTHER_ACCOUNT)
    await store(journal, mine, theirs)
    wanted = [mine.messages[0].message_id, theirs.messages[0].message_id]
    await sent(journal, wanted[1])
    recalled = await archive.recall([*wanted, MessageId(new_id())])
    assert set(recalled) == set(wanted)
    message = recalled[wanted[1]].message()
    assert (message.state, message.sequence, message.attempt) == (State.SENT, 2, 1)
    assert recalled[wanted[1]].carriers == {SIMULATED}


async def test_the_answer_of_a_key_is_found_for_its_account_alone(journal: Journal, archive: MessageArchive) -> None:
    row = key_row("k", answer=b'{"message":"queued"}')
    await store(journal, Entry(idempotency=row))
    assert await archive.find_answer(ACCOUNT, "k") == row
    assert await archive.find_answer(OTHER_ACCOUNT, "k") is None
    assert await archive.find_answer(ACCOUNT, "other") is None


async def test_reports_nobody_knows_are_kept_in_order(journal: Journal, archive: MessageArchive) -> None:
    rows = [UnmatchedReportRow(SIMULATED, f"ref-{at}", FactKind.DELIVERED, "000", NOW_MS + at) for at in (2, 0, 1)]
    await store(journal, Entry(unmatched=rows))
    found = await archive.unmatched_reports(since_ms=NOW_MS + 1)
    assert [row.carrier_ref for row in found] == ["ref-1", "ref-2"]
    assert found[0].kind is FactKind.DELIVERED


# --- What was never reported ------------------------------------------------------------------------------------------


async def test_what_was_sent_long_ago_and_has_not_ended_is_swept(journal: Journal, archive: MessageArchive) -> None:
    entry = request_entry(1_205)
    messages = [row.message_id for row in entry.messages]
    await store(journal, entry)
    facts = [fact_row(each, FactKind.SENT, attempt=1, at_ms=NOW_MS + place) for place, each in enumerate(messages)]
    await store(journal, Entry(facts=facts))
    await ended(journal, messages[3], FactKind.DELIVERED, State.DELIVERED)
    await store(journal, Entry(facts=[fact_row(messages[4], FactKind.REPORTED_SENT, at_ms=NOW_MS + 4)]))
    pages = [page async for page in archive.unreported(since_ms=NOW_MS + 2, until_ms=NOW_MS + 1_200)]
    swept = [message.message_id for page in pages for message in page]
    assert len(pages) > 1
    assert sorted(swept) == sorted({*messages[2:1_200]} - {messages[3]})
    assert {message.state for page in pages for message in page} == {State.SENT}


@pytest.mark.parametrize(("at_ms", "least"), [(0, "00000000-0000-0000-0000-000000000000"), (-5, first_id(0))])
def test_the_least_id_of_an_instant(at_ms: int, least: str) -> None:
    assert first_id(at_ms) == least
    assert first_id(NOW_MS) < at_id(NOW_MS) < first_id(NOW_MS + 1)
