"""Powerpacks in the catalog."""

from __future__ import annotations

from resolver.model import E164, AccountId, PowerpackId, PowerpackRow
from storage.catalog_edits import Table, check_found
from storage.catalog_rows import powerpack_of, powerpack_settings
from storage.changes import Change
from storage.queries import QUERIES


class PowerpackTable(Table):
    """Each of one account, its name its own there."""

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
            check_found(
                await connection.execute(QUERIES["update_powerpack"], row.account_id, row.powerpack_id, *settings)
            )

    async def delete_powerpack(
        self, account_id: AccountId, powerpack_id: PowerpackId, *, with_numbers: bool = False
    ) -> list[E164]:
        """Its numbers are freed or, but for short codes, deleted too; answers which were deleted. Raises NotFound."""
        changes = [Change("powerpack", powerpack_id, account_id)]
        deleted: list[E164] = []
        async with self._edit(changes) as connection:
            check_found(await connection.execute(QUERIES["lock_powerpack"], account_id, powerpack_id))
            if with_numbers:
                records = await connection.fetch(QUERIES["delete_numbers_of_powerpack"], account_id, powerpack_id)
                deleted = [E164(record["number"]) for record in records]
            freed = await connection.fetch(QUERIES["free_numbers_of_powerpack"], account_id, powerpack_id)
            await connection.execute(QUERIES["delete_powerpack"], account_id, powerpack_id)
            changes += [Change("number", number, account_id) for number in deleted]
            changes += [Change("number", record["number"], account_id) for record in freed]
        return deleted
