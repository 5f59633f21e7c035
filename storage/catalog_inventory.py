"""The inventory: numbers the administrator owns, for accounts to rent. Searched in the database, never loaded.

A number is in the inventory whether an account has it or not; `rented` says which, and follows the table of rented
numbers by itself (see schema.sql). So a number that is given up, wherever that is done, is for rent again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from resolver.model import E164, AccountId, CarrierName, NumberRow, NumberType, PowerpackId, Service
from storage.catalog_edits import Table, rows_of
from storage.catalog_rows import number_of
from storage.changes import Change
from storage.queries import QUERIES

if TYPE_CHECKING:
    from asyncpg import Record

COUNT_MAX: Final = 10_000
PAGE_ROWS: Final = 5_000
AFTER_DIGITS: Final = ":"  # comes after 9, so whatever goes on after a prefix comes before the prefix and this


class InventoryRow(NamedTuple):
    """A number as it is offered; the columns of `inventory` in order, less `rented`. Rates are decimal texts."""

    number: E164
    type: NumberType
    country: str
    region: str  # state or province, "" where it is in none
    city: str  # in capitals, "" where nobody said
    carrier: CarrierName
    services: tuple[Service, ...]
    campaign_approved: bool = False
    verified: bool = False
    setup_rate: str = "0.00000"
    monthly_rate: str = "0.00000"
    sms_rate: str = "0.00000"
    mms_rate: str = "0.00000"
    reserved_for: str = ""  # the one account, with its subaccounts, that may rent it


class Renter(NamedTuple):
    """Who rents: an account and its main account, which may be itself."""

    account_id: AccountId
    main_id: AccountId


class Search(NamedTuple):
    """What is looked for: numbers that begin with `begins`, the plus included; "" of a place is anywhere."""

    country: str
    types: tuple[NumberType, ...]
    begins: str
    services: tuple[Service, ...] = ()
    region: str = ""
    city: str = ""


class Found(NamedTuple):
    """A page, in the order of the numbers; `total` counts up to COUNT_MAX."""

    rows: list[InventoryRow]
    total: int


class InventoryTable(Table):
    """Numbers for rent, a part of the catalog."""

    async def search_inventory(self, renter: Renter, search: Search, *, limit: int, offset: int) -> Found:
        """Numbers this account may rent: one walk over an index that begins with the narrowest place asked for."""
        name, places = "search_inventory_by_type", [""]
        if search.city:
            name, places = "search_inventory_by_city", [search.city, search.region]
        elif search.region:
            name, places = "search_inventory_by_region", [search.region]
        elif Service.MMS in search.services:
            name = "search_inventory_with_mms"
        async with self._database.side() as connection:
            records = await connection.fetch(
                QUERIES[name], renter.account_id, renter.main_id, search.country, list(search.types), search.begins,
                search.begins + AFTER_DIGITS, list(search.services), places[0], COUNT_MAX, limit, offset, *places[1:],
            )  # fmt: skip
        rows = [_row_of(record) for record in records if record["number"] is not None]
        return Found(rows, records[0]["total"])

    async def find_stocked(self, renter: Renter, number: E164) -> InventoryRow | None:
        """The number, if this account may rent it now."""
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_stocked"], renter.account_id, renter.main_id, number)
        return None if record is None else _row_of(record)

    async def rent_number(
        self, renter: Renter, number: E164, *, powerpack_id: PowerpackId | None, application_id: str, now_ms: int
    ) -> NumberRow | None:
        """Make it the account's, in the powerpack at once if one is given: both or neither. None: it is not for rent.

        Raises NumberTaken, TypeTaken, NotFound (no such powerpack of this account).
        """
        async with self._edit([Change("number", number, renter.account_id)]) as connection:
            record = await connection.fetchrow(
                QUERIES["rent_number"], renter.account_id, renter.main_id, number, powerpack_id, now_ms, application_id
            )
        return None if record is None else number_of(record)

    async def rent_numbers(self, renter: Renter, numbers: Sequence[E164], *, now_ms: int) -> list[E164]:
        """Make those of them that are for rent the account's; gives which. Raises NotFound (no such account)."""
        changes: list[Change] = []
        async with self._edit(changes) as connection:
            records = await connection.fetch(
                QUERIES["rent_numbers"], renter.account_id, renter.main_id, list(numbers), now_ms
            )
            rented = [E164(record["number"]) for record in records]
            changes += [Change("number", number, renter.account_id) for number in rented]
        return rented

    async def stock_numbers(self, rows: Sequence[InventoryRow]) -> int:
        """Put numbers into the inventory, each once; gives how many are new there or described otherwise than before.

        What an account has already stays as it is with the account. About 15 µs each.
        """
        objects = [row._asdict() for row in rows]
        async with self._database.side() as connection:
            return rows_of(await connection.execute(QUERIES["stock_numbers"], objects))

    async def inventory(self) -> AsyncIterator[list[InventoryRow]]:
        """All of it, rented or not, page by page in the order of the numbers."""
        after = ""
        while True:
            async with self._database.side() as connection:
                records = await connection.fetch(QUERIES["list_inventory"], after, PAGE_ROWS)
            if not records:
                return
            after = records[-1]["number"]
            yield [_row_of(record) for record in records]


def _row_of(record: Record) -> InventoryRow:
    row = InventoryRow._make(record[name] for name in InventoryRow._fields)
    return row._replace(type=NumberType(row.type), services=tuple(map(Service, row.services)))
