"""Which operator a recipient's number belongs to, by its prefix: a table the administrator imports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

from storage.catalog_edits import Table, rows_of
from storage.changes import Change
from storage.queries import QUERIES

PAGE_ROWS: Final = 10_000
OPERATORS_CHANGED: Final = Change("operators")


class OperatorsStamp(NamedTuple):
    """How many prefixes there are, and when the latest was imported."""

    prefixes: int
    imported_ms: int


class OperatorTable(Table):
    """Prefixes: digits with the country code."""

    async def put_operators(self, prefixes: Mapping[str, str], *, now_ms: int) -> None:
        """Add prefixes with their operators, or change them. Nobody hears of it before `operators_imported`."""
        async with self._database.side() as connection:
            await connection.execute(QUERIES["put_operator_prefixes"], list(prefixes), list(prefixes.values()), now_ms)

    async def operators_imported(self, *, drop_before_ms: int | None) -> int:
        """Tell whoever listens; drops those no import since then has named, and says how many. None drops nothing."""
        async with self._edit([OPERATORS_CHANGED]) as connection:
            if drop_before_ms is None:
                return 0
            return rows_of(await connection.execute(QUERIES["drop_older_prefixes"], drop_before_ms))

    async def operators_stamp(self) -> OperatorsStamp:
        """What differs after each import that changed anything."""
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["stamp_operator_prefixes"])
        assert record is not None, "an aggregate has a row"
        return OperatorsStamp(record["prefixes"], record["imported_ms"])

    async def operator_pages(self) -> AsyncIterator[dict[str, str]]:
        """All of it, page by page in the order of the prefixes."""
        after = ""
        while True:
            async with self._database.side() as connection:
                records = await connection.fetch(QUERIES["list_operator_prefixes"], after, PAGE_ROWS)
            if not records:
                return
            after = records[-1]["prefix"]
            yield {record["prefix"]: record["operator"] for record in records}
