"""Applications in the catalog: where accounts want what is written to them."""

from __future__ import annotations

from resolver.model import AccountId
from storage.catalog_edits import Table, check_found
from storage.catalog_rows import ApplicationRow, application_of, application_settings
from storage.changes import Change
from storage.database import Session
from storage.queries import QUERIES


class ApplicationTable(Table):
    """Each of one account, its name its own there."""

    async def find_application(self, account_id: AccountId, application_id: str) -> ApplicationRow | None:
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_application"], account_id, application_id)
        return None if record is None else application_of(record)

    async def insert_application(self, row: ApplicationRow) -> None:
        """Raises NameTaken, NotFound (no such account)."""
        changes = [Change("application", row.application_id, row.account_id)]
        async with self._edit(changes) as connection:
            changes += await _end_other_default(connection, row)
            settings = application_settings(row)
            await connection.execute(
                QUERIES["insert_application"], row.account_id, row.application_id, *settings, row.created_ms
            )

    async def update_application(self, row: ApplicationRow) -> None:
        """All but its birthday. Raises NameTaken, NotFound."""
        changes = [Change("application", row.application_id, row.account_id)]
        async with self._edit(changes) as connection:
            changes += await _end_other_default(connection, row)
            settings = application_settings(row)
            check_found(
                await connection.execute(QUERIES["update_application"], row.account_id, row.application_id, *settings)
            )

    async def delete_application(self, account_id: AccountId, application_id: str) -> None:
        """Its powerpacks have none then. Raises NotFound."""
        changes = [Change("application", application_id, account_id)]
        async with self._edit(changes) as connection:
            check_found(await connection.execute(QUERIES["delete_application"], account_id, application_id))
            detached = await connection.fetch(QUERIES["detach_application"], account_id, application_id)
            changes += [Change("powerpack", str(record["powerpack_id"]), account_id) for record in detached]


async def _end_other_default(connection: Session, row: ApplicationRow) -> list[Change]:
    """At most one application of an account is what its new numbers get: the latest that was made so."""
    if not row.is_number_default:
        return []
    ended = await connection.fetch(QUERIES["end_number_default"], row.account_id, row.application_id)
    return [Change("application", record["application_id"], row.account_id) for record in ended]
