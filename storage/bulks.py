"""Bulks as they are stored: which lines were taken, and what became of each.

A bulk is its stretches, one after another; each was stored in the transaction of its messages. So what is read here is
what was answered, or would have been, and a stream that was cut can be repeated from its start.
"""

from __future__ import annotations

from typing import NamedTuple

from resolver.model import E164, AccountId, MessageId
from storage.database import Database
from storage.queries import QUERIES
from storage.records import BulkId, StretchRow

PAGE_STRETCHES = 8


class BulkMessage(NamedTuple):
    """A message of a bulk as it was decided when it was accepted."""

    line: int
    message_id: MessageId
    number: E164
    tier: str
    segments: int
    forecast_ms: int | None
    binding_window: str


class BulkArchive:
    """Raises DatabaseAway when there is no database to be had."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, account_id: AccountId, bulk_id: BulkId, *, from_line: int) -> list[StretchRow]:
        """Some stretches in order, from line `from_line` on; none at the end, and none of another account's bulk."""
        async with self._database.side() as connection:
            records = await connection.fetch(QUERIES["list_stretches"], bulk_id, account_id, from_line, PAGE_STRETCHES)
        return [StretchRow._make(record) for record in records]

    async def messages(self, stretch: StretchRow) -> list[BulkMessage]:
        """The accepted lines of a stretch, in order."""
        if stretch.first_id is None or stretch.last_id is None:
            return []
        async with self._database.side() as connection:
            records = await connection.fetch(
                QUERIES["list_stretch_messages"], stretch.account_id, stretch.first_id, stretch.last_id
            )
        return [BulkMessage._make(record) for record in records]
