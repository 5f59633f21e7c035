"""Accounts, applications, powerpacks, numbers: what people edit. Every edit is told to who listens (changes.py).

Whatever an account asks for names the account in its SQL, so nobody reads or changes another's by knowing an id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from resolver.model import NumberRow, PowerpackRow
from storage.catalog_accounts import AccountTable
from storage.catalog_applications import ApplicationTable
from storage.catalog_carriers import CarrierTable
from storage.catalog_edits import NameTaken, NotFound, NumberTaken, TypeTaken
from storage.catalog_inventory import InventoryTable
from storage.catalog_numbers import NumberTable
from storage.catalog_operators import OperatorTable
from storage.catalog_powerpacks import PowerpackTable
from storage.catalog_rows import (
    AccountRow,
    ApplicationRow,
    CarrierRow,
    account_of,
    application_of,
    carrier_of,
    number_of,
    powerpack_of,
)
from storage.changes import Change, listen
from storage.database import Session
from storage.queries import QUERIES

__all__ = [
    "AccountRow",
    "ApplicationRow",
    "CarrierRow",
    "Catalog",
    "CatalogRows",
    "Change",
    "NameTaken",
    "NotFound",
    "NumberTaken",
    "TypeTaken",
]


NUMBERS_IN_A_ROW: Final = 1_000


class CatalogRows(NamedTuple):
    """All of it."""

    accounts: list[AccountRow]
    applications: list[ApplicationRow]
    powerpacks: list[PowerpackRow]
    numbers: list[NumberRow]
    carriers: Sequence[CarrierRow] = ()


class Catalog(AccountTable, ApplicationTable, PowerpackTable, NumberTable, InventoryTable, CarrierTable, OperatorTable):
    """The tables that people edit. Everything here raises DatabaseAway when there is no database to be had."""

    async def load_all(self) -> CatalogRows:
        """Everything, as of one instant. Raises WrongKey when the master key does not open the tokens."""
        async with self._database.side() as connection, connection.transaction(isolation="repeatable_read"):
            return CatalogRows(
                [account_of(record, self._vault) for record in await connection.fetch(QUERIES["list_accounts"])],
                [application_of(record) for record in await connection.fetch(QUERIES["list_applications"])],
                [powerpack_of(record) for record in await connection.fetch(QUERIES["list_powerpacks"])],
                await _numbers(connection),
                [carrier_of(record) for record in await connection.fetch(QUERIES["list_carriers"])],
            )

    async def listen(self, on_change: Callable[[Change], Awaitable[None]]) -> None:
        """Hear of edits until cancelled: see changes.py. Begins with `all`."""
        await listen(self._database, on_change)


async def _numbers(connection: Session) -> list[NumberRow]:
    """All numbers, with a turn of the loop now and then: a running gateway reads them, too."""
    rows: list[NumberRow] = []
    cursor = await connection.cursor(QUERIES["list_numbers"])
    while page := await cursor.fetch(NUMBERS_IN_A_ROW):
        rows.extend(map(number_of, page))
    return rows
