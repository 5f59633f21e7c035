"""What an account does to its numbers outside of powerpacks, renting included: durable first, then in memory."""

from __future__ import annotations

from dataclasses import replace

from gateway.clock import Clock
from gateway.edits import EditRefused, refusals
from gateway.pools import Pools
from resolver.model import E164, AccountId, NumberRow, PowerpackRow
from storage.catalog import Catalog
from storage.catalog_inventory import Found, InventoryRow, Renter, Search


class Numbers:
    """Edits of numbers; what an account has is in `pools`. All raises EditRefused: not_found, and what is said."""

    def __init__(self, catalog: Catalog, pools: Pools, *, clock: Clock) -> None:
        self._catalog = catalog
        self._pools = pools
        self._clock = clock

    # -- numbers for rent -----------------------------------------------------------------------------------------

    async def search(self, account_id: AccountId, search: Search, *, limit: int, offset: int) -> Found:
        """A page of the numbers this account may rent."""
        return await self._catalog.search_inventory(self._renter(account_id), search, limit=limit, offset=offset)

    async def offered(self, account_id: AccountId, number: E164) -> InventoryRow:
        """A number this account may rent. not_for_rent: any other, whoever has it."""
        row = await self._catalog.find_stocked(self._renter(account_id), number)
        if row is None:
            raise EditRefused("not_for_rent")
        return row

    async def rent(
        self, account_id: AccountId, number: E164, *, powerpack: PowerpackRow | None = None, application_id: str = ""
    ) -> NumberRow:
        """Make a number of the inventory the account's, and in `powerpack` a member: both or neither.

        Without an application it gets the account's default one. not_for_rent, application_not_found, toll_free_limit.
        """
        async with self._pools.editing:
            if application_id and self._pools.find_application(account_id, application_id) is None:
                raise EditRefused("application_not_found")
            with refusals():
                row = await self._catalog.rent_number(
                    self._renter(account_id), number, powerpack_id=powerpack.powerpack_id if powerpack else None,
                    application_id=application_id or self._default_application(account_id), now_ms=self._clock.now_ms(),
                )  # fmt: skip
            if row is None:
                raise EditRefused("not_for_rent")
            self._pools.put_number(row)
        await self._pools.decide_again()
        return row

    def _renter(self, account_id: AccountId) -> Renter:
        account = self._pools.accounts.get(account_id)
        return Renter(account_id, (account.main_id if account is not None else None) or account_id)

    def _default_application(self, account_id: AccountId) -> str:
        applications = self._pools.shelved_applications.of(account_id)
        return next((each.application_id for each in applications if each.is_number_default), "")

    # -- numbers the account has ----------------------------------------------------------------------------------

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
        """It is the account's no more, nor in its powerpack and threads, and for rent again if it is in the inventory.

        What waits there is decided again.
        """
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
