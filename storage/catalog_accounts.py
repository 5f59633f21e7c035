"""Accounts and subaccounts in the catalog: made, shut out, given new tokens, deleted.

Every edit answers what it told (changes.py), for whoever keeps the catalog in memory.
"""

from __future__ import annotations

import secrets
import string

from resolver.model import AccountId
from storage.catalog_edits import NotFound, Table, check_found, rows_of
from storage.catalog_rows import AccountRow, account_of
from storage.changes import Change
from storage.queries import QUERIES
from storage.sealing import token_hash

ACCOUNT_ID_CHARACTERS = string.ascii_uppercase + string.digits
TOKEN_BYTES = 30  # 40 characters


class AccountTable(Table):
    """Who uses the API."""

    async def find_account(self, account_id: AccountId) -> AccountRow | None:
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_account"], account_id)
        return None if record is None else account_of(record, self._vault)

    async def create_account(
        self, name: str, *, now_ms: int, token: str = "", main_id: AccountId | None = None, enabled: bool = True
    ) -> AccountRow:
        """A new account with an id of Plivo's shape, and a random token unless one is given; `main_id`'s subaccount.

        Names of accounts need not differ. Raises NotFound (no such main account).
        """
        prefix = "MA" if main_id is None else "SA"
        account_id = AccountId(prefix + "".join(secrets.choice(ACCOUNT_ID_CHARACTERS) for _ in range(18)))
        token = token or secrets.token_urlsafe(TOKEN_BYTES)
        sha256, sealed = self._kept(account_id, token)
        async with self._edit([_change(account_id)]) as connection:
            inserted = await connection.execute(
                QUERIES["insert_account"], account_id, name, sha256, sealed, now_ms, main_id, enabled
            )
            if not rows_of(inserted):
                raise NotFound("There is no such main account.")
        return AccountRow(account_id, name, sha256, token, enabled, main_id, created_ms=now_ms)

    async def update_account(
        self, account_id: AccountId, *, now_ms: int, name: str | None = None, enabled: bool | None = None
    ) -> list[Change]:
        """Rename it, shut it out or let it in: its subaccounts with it. Raises NotFound."""
        changes = [_change(account_id)]
        async with self._edit(changes) as connection:
            check_found(await connection.execute(QUERIES["update_account"], account_id, name, enabled, now_ms))
            if enabled is not None:
                subaccounts = await connection.fetch(QUERIES["list_subaccount_ids"], account_id)
                changes += [_change(record["account_id"]) for record in subaccounts]
        return changes

    async def rotate_token(self, account_id: AccountId, *, now_ms: int, former_until_ms: int) -> list[Change]:
        """Give it a new token; the one before stays good until an instant, none before that one. Raises NotFound."""
        sha256, sealed = self._kept(account_id, secrets.token_urlsafe(TOKEN_BYTES))
        changes = [_change(account_id)]
        async with self._edit(changes) as connection:
            arguments = (account_id, sha256, sealed, former_until_ms, now_ms)
            check_found(await connection.execute(QUERIES["rotate_token"], *arguments))
        return changes

    async def end_former_token(self, account_id: AccountId, *, now_ms: int) -> list[Change]:
        """Let only its newest token be good. Raises NotFound."""
        changes = [_change(account_id)]
        async with self._edit(changes) as connection:
            check_found(await connection.execute(QUERIES["end_former_token"], account_id, now_ms))
        return changes

    async def delete_subaccount(
        self, main_id: AccountId, account_id: AccountId, *, cascade: bool, now_ms: int
    ) -> list[Change]:
        """Its powerpacks go; numbers and applications go too (`cascade`), or to the main account. Raises NotFound."""
        changes = [_change(account_id)]
        owner = account_id if cascade else main_id
        async with self._edit(changes) as connection:
            check_found(await connection.execute(QUERIES["delete_subaccount"], main_id, account_id, now_ms))
            if cascade:
                numbers = await connection.fetch(QUERIES["delete_numbers_of_account"], account_id)
                applications = await connection.fetch(QUERIES["delete_applications_of_account"], account_id)
            else:
                numbers = await connection.fetch(QUERIES["give_numbers_of_account"], account_id, main_id)
                applications = await connection.fetch(QUERIES["give_applications_of_account"], account_id, main_id)
            powerpacks = await connection.fetch(QUERIES["delete_powerpacks_of_account"], account_id)
            changes += [Change("powerpack", str(record["powerpack_id"]), account_id) for record in powerpacks]
            changes += [Change("application", record["application_id"], owner) for record in applications]
            changes += [Change("number", record["number"], owner) for record in numbers]
        return changes

    def _kept(self, account_id: AccountId, token: str) -> tuple[bytes, bytes]:
        """What is stored of a token: what it is checked by, and what opens to sign with."""
        return token_hash(token), self._vault.seal(token.encode(), context=account_id.encode())


def _change(account_id: str) -> Change:
    return Change("account", account_id, account_id)
