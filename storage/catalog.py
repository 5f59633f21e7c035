"""Accounts, applications, powerpacks, numbers: what people edit. Every edit is told to who listens (changes.py).

Whatever an account asks for names the account in its SQL, so nobody reads or changes another's by knowing an id.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

from resolver.model import E164, AccountId, CarrierName, NumberRow, PowerpackId, PowerpackRow
from storage.catalog_rows import (
    AccountRow,
    ApplicationRow,
    CarrierRow,
    account_of,
    application_of,
    carrier_of,
    limits_object,
    number_object,
    number_of,
    powerpack_of,
    powerpack_settings,
)
from storage.changes import Change, listen, tell
from storage.database import Database, Session
from storage.queries import QUERIES
from storage.records import StorageError
from storage.sealing import Vault, token_hash

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

ACCOUNT_ID_CHARACTERS = string.ascii_uppercase + string.digits
TOKEN_BYTES = 30  # 40 characters


class NameTaken(StorageError):
    """The account has another of this kind with this name."""


class NumberTaken(StorageError):
    """The number exists already, or belongs to another powerpack."""


class TypeTaken(StorageError):
    """A powerpack has one toll-free number, and one short code per country."""


class NotFound(StorageError):
    """There is no such thing in this account."""


_TAKEN: Mapping[str | None, tuple[type[StorageError], str]] = {
    "applications_account_id_name_key": (NameTaken, "There is an application of this name."),
    "powerpacks_account_id_name_key": (NameTaken, "There is a powerpack of this name."),
    "numbers_pkey": (NumberTaken, "The number exists already."),
    "numbers_one_toll_free": (TypeTaken, "The powerpack has a toll-free number."),
    "numbers_one_short_code": (TypeTaken, "The powerpack has a short code of this country."),
}
"""What a unique constraint's violation means."""


class CatalogRows(NamedTuple):
    """All of it."""

    accounts: list[AccountRow]
    applications: list[ApplicationRow]
    powerpacks: list[PowerpackRow]
    numbers: list[NumberRow]
    carriers: Sequence[CarrierRow] = ()


class Catalog:
    """The tables that people edit. Everything here raises DatabaseAway when there is no database to be had."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database, self._vault = database, vault

    async def load_all(self) -> CatalogRows:
        """Everything, as of one instant. Raises WrongKey when the master key does not open the tokens."""
        async with self._database.side() as connection, connection.transaction(isolation="repeatable_read"):
            return CatalogRows(
                [account_of(record, self._vault) for record in await connection.fetch(QUERIES["list_accounts"])],
                [application_of(record) for record in await connection.fetch(QUERIES["list_applications"])],
                [powerpack_of(record) for record in await connection.fetch(QUERIES["list_powerpacks"])],
                [number_of(record) for record in await connection.fetch(QUERIES["list_numbers"])],
                [carrier_of(record) for record in await connection.fetch(QUERIES["list_carriers"])],
            )

    async def listen(self, on_change: Callable[[Change], Awaitable[None]]) -> None:
        """Hear of edits until cancelled: see changes.py. Begins with `all`."""
        await listen(self._database, on_change)

    # --- Accounts -----------------------------------------------------------------------------------------------------

    async def find_account(self, account_id: AccountId) -> AccountRow | None:
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_account"], account_id)
        return None if record is None else account_of(record, self._vault)

    async def create_account(self, name: str, *, now_ms: int, token: str = "") -> AccountRow:
        """A new account with an id of Plivo's shape, and a random token unless one is given.

        The only time its token is to be shown. Names of accounts need not differ.
        """
        account_id = AccountId("MA" + "".join(secrets.choice(ACCOUNT_ID_CHARACTERS) for _ in range(18)))
        token = token or secrets.token_urlsafe(TOKEN_BYTES)
        row = AccountRow(account_id, name, token_hash(token), token)
        sealed = self._vault.seal(token.encode(), context=account_id.encode())
        async with self._edit([Change("account", account_id, account_id)]) as connection:
            await connection.execute(QUERIES["insert_account"], account_id, name, row.token_sha256, sealed, now_ms)
        return row

    async def enable_account(self, account_id: AccountId, enabled: bool) -> None:
        """Let an account in, or shut it out. Raises NotFound."""
        async with self._edit([Change("account", account_id, account_id)]) as connection:
            _found(await connection.execute(QUERIES["enable_account"], account_id, enabled))

    # --- Applications -------------------------------------------------------------------------------------------------

    async def find_application(self, account_id: AccountId, application_id: str) -> ApplicationRow | None:
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_application"], account_id, application_id)
        return None if record is None else application_of(record)

    async def insert_application(self, row: ApplicationRow) -> None:
        """Raises NameTaken, NotFound (no such account)."""
        async with self._edit([Change("application", row.application_id, row.account_id)]) as connection:
            arguments = (row.account_id, row.application_id, row.name, row.message_url, row.message_method)
            await connection.execute(QUERIES["insert_application"], *arguments, row.created_ms)

    async def update_application(self, row: ApplicationRow) -> None:
        """Raises NameTaken, NotFound."""
        async with self._edit([Change("application", row.application_id, row.account_id)]) as connection:
            arguments = (row.name, row.message_url, row.message_method)
            _found(
                await connection.execute(QUERIES["update_application"], row.account_id, row.application_id, *arguments)
            )

    async def delete_application(self, account_id: AccountId, application_id: str) -> None:
        """Raises NotFound."""
        async with self._edit([Change("application", application_id, account_id)]) as connection:
            _found(await connection.execute(QUERIES["delete_application"], account_id, application_id))

    # --- Powerpacks ---------------------------------------------------------------------------------------------------

    async def find_powerpack(self, account_id: AccountId, powerpack_id: PowerpackId) -> PowerpackRow | None:
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_powerpack"], account_id, powerpack_id)
        return None if record is None else powerpack_of(record)

    async def insert_powerpack(self, row: PowerpackRow) -> None:
        """Raises NameTaken, NotFound (no such account)."""
        async with self._edit([Change("powerpack", row.powerpack_id, row.account_id)]) as connection:
            name, *settings = powerpack_settings(row)
            await connection.execute(
                QUERIES["insert_powerpack"],
                row.account_id,
                row.powerpack_id,
                row.pool_id,
                name,
                *settings,
                row.created_ms,
            )

    async def update_powerpack(self, row: PowerpackRow) -> None:
        """All but its pool and its birthday. Raises NameTaken, NotFound."""
        async with self._edit([Change("powerpack", row.powerpack_id, row.account_id)]) as connection:
            settings = powerpack_settings(row)
            _found(await connection.execute(QUERIES["update_powerpack"], row.account_id, row.powerpack_id, *settings))

    async def delete_powerpack(
        self, account_id: AccountId, powerpack_id: PowerpackId, *, with_numbers: bool = False
    ) -> list[E164]:
        """Its numbers are freed, or deleted too; answers which. Raises NotFound."""
        changes = [Change("powerpack", powerpack_id, account_id)]
        numbers = QUERIES["delete_numbers_of_powerpack" if with_numbers else "free_numbers_of_powerpack"]
        async with self._edit(changes) as connection:
            _found(await connection.execute(QUERIES["lock_powerpack"], account_id, powerpack_id))
            freed = [E164(record["number"]) for record in await connection.fetch(numbers, account_id, powerpack_id)]
            await connection.execute(QUERIES["delete_powerpack"], account_id, powerpack_id)
            changes += [Change("number", number, account_id) for number in freed]
        return freed

    # --- Numbers ------------------------------------------------------------------------------------------------------

    async def find_number(self, account_id: AccountId, number: E164) -> NumberRow | None:
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_number"], account_id, number)
        return None if record is None else number_of(record)

    async def insert_numbers(self, rows: Sequence[NumberRow]) -> None:
        """All or none, in one statement: 9,000 take an eighth of a second.

        Raises NumberTaken, TypeTaken, NotFound (no such account, or no such powerpack of it).
        """
        async with self._edit([Change("number", row.number, row.account_id) for row in rows]) as connection:
            await connection.execute(QUERIES["insert_numbers"], [number_object(row) for row in rows])

    async def update_number(self, row: NumberRow) -> None:
        """All but its powerpack and when it joined that. Raises TypeTaken, NotFound."""
        async with self._edit([Change("number", row.number, row.account_id)]) as connection:
            _found(
                await connection.execute(
                    QUERIES["update_number"],
                    row.account_id,
                    row.number,
                    row.type,
                    row.country,
                    row.carrier,
                    sorted(row.services),
                    row.campaign_approved,
                    row.verified,
                    row.state,
                    limits_object(row.limits),
                )
            )

    async def add_to_powerpack(
        self, account_id: AccountId, number: E164, powerpack_id: PowerpackId, *, now_ms: int
    ) -> None:
        """Raises NotFound (no such number or powerpack), NumberTaken (it is in another one), TypeTaken."""
        async with self._edit([Change("number", number, account_id)]) as connection:
            added = await connection.execute(
                QUERIES["add_number_to_powerpack"], account_id, number, powerpack_id, now_ms
            )
            if not _count(added):
                if await connection.fetchrow(QUERIES["find_number"], account_id, number) is None:
                    raise NotFound("There is no such number in this account.")
                raise NumberTaken("The number belongs to another powerpack.")

    async def remove_from_powerpack(self, account_id: AccountId, number: E164, powerpack_id: PowerpackId) -> None:
        """It stays with the account. Raises NotFound."""
        async with self._edit([Change("number", number, account_id)]) as connection:
            _found(await connection.execute(QUERIES["remove_number_from_powerpack"], account_id, number, powerpack_id))

    async def delete_number(self, account_id: AccountId, number: E164) -> None:
        """Raises NotFound."""
        async with self._edit([Change("number", number, account_id)]) as connection:
            _found(await connection.execute(QUERIES["delete_number"], account_id, number))

    # --- Carriers -----------------------------------------------------------------------------------------------------

    async def find_carrier(self, carrier: CarrierName) -> CarrierRow:
        """What was told of a carrier; the settings alone know whether there is one."""
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_carrier"], carrier)
        return CarrierRow(carrier) if record is None else carrier_of(record)

    async def pause_carrier(self, carrier: CarrierName, paused: bool) -> None:
        """Let what waits for it stay, or leave again."""
        async with self._edit([Change("carrier", carrier)]) as connection:
            await connection.execute(QUERIES["pause_carrier"], carrier, paused)

    async def order_cancel(self, carrier: CarrierName, *, now_ms: int) -> int:
        """Have what waits for it cancelled; the order is done once its `cancelled_ms` is no less than the answer."""
        async with self._edit([Change("carrier", carrier)]) as connection:
            return int(await connection.fetchval(QUERIES["order_cancel"], carrier, now_ms))

    async def note_cancelled(self, carrier: CarrierName, *, cancel_ms: int, cancelled: int, in_flight: int) -> None:
        """Say that an order was carried out."""
        async with self._database.side() as connection:
            await connection.execute(QUERIES["note_cancelled"], carrier, cancel_ms, cancelled, in_flight)

    @asynccontextmanager
    async def _edit(self, changes: list[Change]) -> AsyncIterator[Session]:
        """One transaction, told as `changes` when it commits (the list may grow until then)."""
        try:
            async with self._database.side() as connection, connection.transaction():
                yield connection
                await tell(connection, changes)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name not in _TAKEN:
                raise
            kind, text = _TAKEN[error.constraint_name]
            raise kind(text) from error
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFound("There is no such account, or no such powerpack in it.") from error


def _count(status: str) -> int:
    """Rows changed, out of a command's status: `UPDATE 1`."""
    return int(status.rpartition(" ")[2])


def _found(status: str) -> None:
    if not _count(status):
        raise NotFound("There is no such thing in this account.")
