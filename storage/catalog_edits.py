"""One edit of the catalog: a transaction that is told to who listens, and what the database may have against it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg

from storage.changes import Change, tell
from storage.database import Database, Session
from storage.records import StorageError
from storage.sealing import Vault


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


class Table:
    """What the parts of the catalog share. Everything here raises DatabaseAway when there is no database to be had."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database, self._vault = database, vault

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


def rows_of(status: str) -> int:
    """Rows changed, out of a command's status: `UPDATE 1`."""
    return int(status.rpartition(" ")[2])


def check_found(status: str) -> None:
    """Raises NotFound when a command changed nothing."""
    if not rows_of(status):
        raise NotFound("There is no such thing in this account.")
