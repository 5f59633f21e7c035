"""Applications in the catalog: where accounts want what is written to them."""

from __future__ import annotations

from resolver.model import AccountId
from storage.catalog_edits import Table, check_found
from storage.catalog_rows import ApplicationRow, application_of
from storage.changes import Change
from storage.queries import QUERIES


class ApplicationTable(Table):
    """Each of one account, its name its own there."""

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
            check_found(
                await connection.execute(QUERIES["update_application"], row.account_id, row.application_id, *arguments)
            )

    async def delete_application(self, account_id: AccountId, application_id: str) -> None:
        """Raises NotFound."""
        async with self._edit([Change("application", application_id, account_id)]) as connection:
            check_found(await connection.execute(QUERIES["delete_application"], account_id, application_id))
