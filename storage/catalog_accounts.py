"""Accounts in the catalog: made, shut out, looked up."""

from __future__ import annotations

import secrets
import string

from resolver.model import AccountId
from storage.catalog_edits import Table, check_found
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
            check_found(await connection.execute(QUERIES["enable_account"], account_id, enabled))
