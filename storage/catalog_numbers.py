"""Numbers in the catalog, each of one account and in at most one powerpack of it."""

from __future__ import annotations

from collections.abc import Sequence

from resolver.model import E164, AccountId, NumberRow, PowerpackId
from storage.catalog_edits import NotFound, NumberTaken, Table, check_found, rows_of
from storage.catalog_rows import limits_object, number_object, number_of
from storage.changes import Change
from storage.queries import QUERIES


class NumberTable(Table):
    """Our numbers."""

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
        """All but its powerpack, when it joined that, and its labels. Raises TypeTaken, NotFound."""
        async with self._edit([Change("number", row.number, row.account_id)]) as connection:
            check_found(
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

    async def label_number(self, account_id: AccountId, number: E164, *, alias: str, application_id: str) -> None:
        """Say what the account calls it, and where what it receives goes. Raises NotFound."""
        async with self._edit([Change("number", number, account_id)]) as connection:
            check_found(await connection.execute(QUERIES["label_number"], account_id, number, alias, application_id))

    async def give_number(self, account_id: AccountId, number: E164, *, to: AccountId) -> None:
        """Make it another account's; its application stays behind.

        Raises NotFound (no such number or account), NumberTaken (it is in a powerpack).
        """
        async with self._edit([Change("number", number, to)]) as connection:
            if not rows_of(await connection.execute(QUERIES["give_number"], account_id, number, to)):
                if await connection.fetchrow(QUERIES["find_number"], account_id, number) is None:
                    raise NotFound("There is no such number in this account.")
                raise NumberTaken("The number is in a powerpack.")

    async def add_to_powerpack(
        self, account_id: AccountId, number: E164, powerpack_id: PowerpackId, *, now_ms: int
    ) -> None:
        """Raises NotFound (no such number or powerpack), NumberTaken (it is in another one), TypeTaken."""
        async with self._edit([Change("number", number, account_id)]) as connection:
            added = await connection.execute(
                QUERIES["add_number_to_powerpack"], account_id, number, powerpack_id, now_ms
            )
            if not rows_of(added):
                if await connection.fetchrow(QUERIES["find_number"], account_id, number) is None:
                    raise NotFound("There is no such number in this account.")
                raise NumberTaken("The number belongs to another powerpack.")

    async def remove_from_powerpack(self, account_id: AccountId, number: E164, powerpack_id: PowerpackId) -> None:
        """It stays with the account. Raises NotFound."""
        async with self._edit([Change("number", number, account_id)]) as connection:
            check_found(
                await connection.execute(QUERIES["remove_number_from_powerpack"], account_id, number, powerpack_id)
            )

    async def delete_number(self, account_id: AccountId, number: E164) -> None:
        """Raises NotFound."""
        async with self._edit([Change("number", number, account_id)]) as connection:
            check_found(await connection.execute(QUERIES["delete_number"], account_id, number))
