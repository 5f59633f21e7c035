"""Applications, and every edit of them: durable first, then ruling the very next message that comes in.

Which application a number has is looked up each time, nothing is written down at the numbers of a powerpack: so a
change of one application or one powerpack costs the same, however many numbers stand behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.edits import EditRefused, refusals
from gateway.pools import Pools
from resolver.model import AccountId
from storage.catalog import ApplicationRow, Catalog


class Applications:
    """Edits of applications; what there are is in `pools`."""

    def __init__(self, catalog: Catalog, pools: Pools) -> None:
        self._catalog = catalog
        self._pools = pools

    def find(self, account_id: AccountId, application_id: str) -> ApplicationRow | None:
        """An application of this account; another's is absent."""
        return self._pools.find_application(account_id, application_id)

    def of(self, account_id: AccountId) -> list[ApplicationRow]:
        """An account's applications, oldest first."""
        return self._pools.shelved_applications.of(account_id)

    async def create(self, row: ApplicationRow) -> None:
        """Raises EditRefused: name_taken."""
        async with self._pools.editing:
            with refusals():
                await self._catalog.insert_application(row)
            self._put(row)

    async def change(
        self, account_id: AccountId, application_id: str, change: Callable[[ApplicationRow], ApplicationRow]
    ) -> ApplicationRow:
        """Apply `change` to the row as it is when its turn comes. Raises EditRefused: not_found, name_taken."""
        async with self._pools.editing:
            row = self.find(account_id, application_id)
            if row is None:
                raise EditRefused("not_found")
            row = change(row)
            with refusals():
                await self._catalog.update_application(row)
            self._put(row)
            return row

    async def delete(self, account_id: AccountId, application_id: str) -> None:
        """Powerpacks and numbers that had it have none then. Raises EditRefused: not_found."""
        async with self._pools.editing:
            with refusals():
                await self._catalog.delete_application(account_id, application_id)
            self._pools.shelved_applications.drop(application_id)
            for powerpack in self._pools.powerpacks_of(account_id):
                if powerpack.application_id == application_id:
                    self._pools.put_powerpack(replace(powerpack, application_id="", application_type=""))

    def _put(self, row: ApplicationRow) -> None:
        shelf = self._pools.shelved_applications
        if row.is_number_default:
            for other in self.of(row.account_id):
                if other.is_number_default and other.application_id != row.application_id:
                    shelf.put(other.application_id, replace(other, is_number_default=False))
        shelf.put(row.application_id, row)
