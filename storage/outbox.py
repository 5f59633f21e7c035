"""The outbox: callbacks owed, and what came of trying to tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from resolver.model import AccountId
from storage.database import Database
from storage.queries import QUERIES
from storage.records import CallbackResult, CallbackRow, CallbackState, OwedCallback

CALLBACK_FIELDS = len(CallbackRow._fields)
FIRST = (-1, "00000000-0000-0000-0000-000000000000")


class StoredCallback(NamedTuple):
    """A callback and how far it got."""

    row: CallbackRow
    state: CallbackState
    tries: int
    last_result: str


class Outbox:
    """Everything here raises DatabaseAway when there is no database to be had."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_owed(self, *, limit: int, until_ms: int, after: tuple[int, str] | None = None) -> list[OwedCallback]:
        """Those still owed with `next_ms` up to `until_ms`, by (next_ms, callback_id), those beyond `after`."""
        async with self._database.side() as connection:
            records = await connection.fetch(QUERIES["load_owed"], limit, until_ms, *(after or FIRST))
        return [OwedCallback(CallbackRow._make(tuple(record)[:CALLBACK_FIELDS]), record["tries"]) for record in records]

    async def record(self, results: Sequence[CallbackResult]) -> None:
        """Write all of them, or raise; writing one twice changes nothing. Of two for one callback the later wins."""
        if not results:
            return
        latest = {result.callback_id: result for result in results}
        columns = [list(column) for column in zip(*latest.values(), strict=True)]
        async with self._database.side() as connection:
            await connection.execute(QUERIES["record_callbacks"], *columns)

    async def list_page(self, account_id: AccountId, *, limit: int, offset: int) -> list[StoredCallback]:
        """An account's callbacks, newest first."""
        async with self._database.side() as connection:
            records = await connection.fetch(QUERIES["list_callbacks"], account_id, limit, offset)
        return [
            StoredCallback(
                CallbackRow._make(tuple(record)[:CALLBACK_FIELDS]),
                CallbackState(record["state"]),
                record["tries"],
                record["last_result"],
            )
            for record in records
        ]
