"""Bulks on a real server: what is stored of a stream's lines, and what is read of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from resolver.model import MessageId
from storage.bulks import PAGE_STRETCHES, BulkArchive
from storage.database import Database
from storage.journal import Journal
from storage.records import BulkId, Entry, Settled, StretchRow
from tests.fakes.entries import ACCOUNT, NOW_MS, OTHER_ACCOUNT, body_row, message_row, new_id, stretch_row


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    await database.take_over(owner="the test", now_ms=NOW_MS, force=True)
    yield database
    await database.close()


def stretch_entry(bulk_id: str, first_line: int) -> Entry:
    """Two lines: a message, a refusal."""
    request_id = new_id()
    message = message_row(request_id, line=first_line)
    return Entry(
        bodies=[body_row(request_id)],
        messages=[message],
        stretch=stretch_row(
            bulk_id, first_line=first_line, first_id=message.message_id, last_id=message.message_id
        ),
    )  # fmt: skip


async def store(journal: Journal, *entries: Entry) -> list[Settled]:
    return list(await asyncio.gather(*(journal.append(each) for each in entries)))


async def test_a_bulk_is_read_as_it_was_stored_in_the_order_of_its_lines(database: Database) -> None:
    bulk_id, count = BulkId(new_id()), 2 * PAGE_STRETCHES + 1
    entries = [stretch_entry(bulk_id, 1 + 2 * place) for place in range(count)]
    archive = BulkArchive(database)
    async with Journal(database, clock=lambda: NOW_MS) as journal:
        await store(journal, *entries, stretch_entry(new_id(), 1))
    read: list[StretchRow] = []
    while page := await archive.page(ACCOUNT, bulk_id, from_line=1 + 2 * len(read)):
        assert len(page) <= PAGE_STRETCHES
        read += page
    assert read == [entry.stretch for entry in entries]
    for entry, row in zip(entries, read, strict=True):
        (message,) = entry.messages
        (found,) = await archive.messages(row)
        assert found[:4] == (message.line, message.message_id, message.number, message.tier)
        assert found.forecast_ms == message.forecast_ms
    assert await archive.page(OTHER_ACCOUNT, bulk_id, from_line=1) == []
    assert await archive.page(ACCOUNT, BulkId(new_id()), from_line=1) == []


async def test_a_stretch_without_messages_has_none(database: Database) -> None:
    earlier, later = new_id(), new_id()
    async with Journal(database, clock=lambda: NOW_MS) as journal:
        await store(journal, Entry(messages=[message_row(message_id=MessageId(earlier))]))
    archive = BulkArchive(database)
    assert await archive.messages(stretch_row(later, accepted=0)) == []


async def test_the_same_lines_are_stored_once_whoever_tries(database: Database) -> None:
    bulk_id = new_id()
    async with Journal(database, clock=lambda: NOW_MS) as journal:
        first = await store(journal, stretch_entry(bulk_id, 1))
        again = await store(journal, stretch_entry(bulk_id, 1), stretch_entry(bulk_id, 3))
    assert first == [Settled.COMMITTED]
    assert again == [Settled.POISONED, Settled.COMMITTED]
    async with database.side() as connection:
        assert await connection.fetchval("SELECT count(*) FROM messages") == 2
