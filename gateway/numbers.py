"""What an account does to its numbers outside of powerpacks: durable first, then in memory."""

from __future__ import annotations

from dataclasses import replace

from gateway.edits import EditRefused, refusals
from gateway.pools import Pools
from resolver.model import E164, AccountId, NumberRow
from storage.catalog import Catalog


class Numbers:
    """Edits of numbers; what there are is in `pools`. Everything raises EditRefused: not_found, and what is said."""

    def __init__(self, catalog: Catalog, pools: Pools) -> None:
        self._catalog = catalog
        self._pools = pools

    async def label(
        self, account_id: AccountId, number: E164, *, alias: str | None, application_id: str | None
    ) -> NumberRow:
        """Say what the account calls it and where what it receives goes; None leaves either as it is.

        application_not_found.
        """
        async with self._pools.editing:
            row = self._own(account_id, number)
            if application_id and self._pools.find_application(account_id, application_id) is None:
                raise EditRefused("application_not_found")
            row = replace(
                row,
                alias=row.alias if alias is None else alias,
                application_id=row.application_id if application_id is None else application_id,
            )
            with refusals():
                await self._catalog.label_number(account_id, number, alias=row.alias, application_id=row.application_id)
            self._pools.put_number(row)
        return row

    async def give(self, account_id: AccountId, number: E164, *, to: AccountId) -> NumberRow:
        """Make it another account's. Its application stays behind, what waits there without a powerpack ends.

        number_in_use: it is in a powerpack.
        """
        async with self._pools.editing:
            row = self._own(account_id, number)
            with refusals():
                await self._catalog.give_number(account_id, number, to=to)
            row = replace(row, account_id=to, application_id="")
            self._pools.put_number(row)
        await self._pools.decide_again()
        return row

    async def give_up(self, account_id: AccountId, number: E164) -> None:
        """It is the account's no more, nor in its powerpack and threads; what waits there is decided again."""
        async with self._pools.editing:
            with refusals():
                await self._catalog.delete_number(account_id, number)
            self._pools.drop_number(number)
        await self._pools.decide_again()

    def _own(self, account_id: AccountId, number: E164) -> NumberRow:
        row = self._pools.numbers.get(number)
        if row is None or row.account_id != account_id:
            raise EditRefused("not_found")
        return row
