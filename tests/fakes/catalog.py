"""A catalog in memory: what `gateway.pools` needs, with the database's refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from resolver.model import E164, AccountId, NumberRow, NumberType, PowerpackId, PowerpackRow
from storage.catalog import (
    AccountRow,
    ApplicationRow,
    Catalog,
    CatalogRows,
    NameTaken,
    NotFound,
    NumberTaken,
    TypeTaken,
)
from storage.catalog_inventory import Found, InventoryRow, Renter, Search
from storage.records import StorageError


class MemoryCatalog(Catalog):
    """`away` makes every call fail; `edits` names those that were made."""

    def __init__(self) -> None:
        self.accounts: dict[AccountId, AccountRow] = {}
        self.applications: dict[str, ApplicationRow] = {}
        self.powerpacks: dict[PowerpackId, PowerpackRow] = {}
        self.numbers: dict[E164, NumberRow] = {}
        self.stock: dict[E164, InventoryRow] = {}  # numbers for rent
        self.away = False
        self.edits: list[str] = []

    def _note(self, name: str) -> None:
        if self.away:
            raise StorageError("the database is away")
        self.edits.append(name)

    async def load_all(self) -> CatalogRows:
        self._note("load_all")
        return self.rows()

    def rows(self) -> CatalogRows:
        """Everything."""
        return CatalogRows(
            list(self.accounts.values()),
            list(self.applications.values()),
            list(self.powerpacks.values()),
            list(self.numbers.values()),
        )

    async def find_account(self, account_id: AccountId) -> AccountRow | None:
        return self.accounts.get(account_id)

    async def create_account(
        self, name: str, *, now_ms: int, token: str = "", main_id: AccountId | None = None, enabled: bool = True
    ) -> AccountRow:
        self._note("create_account")
        account_id = AccountId(f"{'MA' if main_id is None else 'SA'}{len(self.accounts):018}")
        row = AccountRow(account_id, name, b"", token or "a-token", enabled, main_id, created_ms=now_ms)
        self.accounts[account_id] = row
        return row

    async def find_application(self, account_id: AccountId, application_id: str) -> ApplicationRow | None:
        return self.applications.get(application_id)

    async def find_powerpack(self, account_id: AccountId, powerpack_id: PowerpackId) -> PowerpackRow | None:
        return self.powerpacks.get(powerpack_id)

    async def find_number(self, account_id: AccountId, number: E164) -> NumberRow | None:
        return self.numbers.get(number)

    async def insert_application(self, row: ApplicationRow) -> None:
        self._note("insert_application")
        self._put_application(row)

    async def update_application(self, row: ApplicationRow) -> None:
        self._note("update_application")
        if row.application_id not in self.applications:
            raise NotFound
        self._put_application(row)

    def _put_application(self, row: ApplicationRow) -> None:
        for other in list(self.applications.values()):
            if other.account_id == row.account_id and other.application_id != row.application_id:
                if other.name == row.name:
                    raise NameTaken
                if row.is_number_default:
                    self.applications[other.application_id] = replace(other, is_number_default=False)
        self.applications[row.application_id] = row

    async def delete_application(self, account_id: AccountId, application_id: str) -> None:
        self._note("delete_application")
        row = self.applications.get(application_id)
        if row is None or row.account_id != account_id:
            raise NotFound
        del self.applications[application_id]
        for powerpack_id, powerpack in self.powerpacks.items():
            if powerpack.application_id == application_id:
                self.powerpacks[powerpack_id] = replace(powerpack, application_id="", application_type="")

    async def insert_powerpack(self, row: PowerpackRow) -> None:
        self._note("insert_powerpack")
        self._check_name(row)
        self.powerpacks[row.powerpack_id] = row

    async def update_powerpack(self, row: PowerpackRow) -> None:
        self._note("update_powerpack")
        if row.powerpack_id not in self.powerpacks:
            raise NotFound
        self._check_name(row)
        self.powerpacks[row.powerpack_id] = row

    def _check_name(self, row: PowerpackRow) -> None:
        for other in self.powerpacks.values():
            same = (other.account_id, other.name) == (row.account_id, row.name)
            if same and other.powerpack_id != row.powerpack_id:
                raise NameTaken

    async def delete_powerpack(
        self, account_id: AccountId, powerpack_id: PowerpackId, *, with_numbers: bool = False
    ) -> list[E164]:
        self._note("delete_powerpack")
        if self.powerpacks.pop(powerpack_id, None) is None:
            raise NotFound
        deleted = []
        for row in list(self.numbers.values()):
            if row.powerpack_id == powerpack_id:
                if with_numbers and row.type is not NumberType.SHORT_CODE:
                    del self.numbers[row.number]
                    deleted.append(row.number)
                else:
                    self.numbers[row.number] = replace(row, powerpack_id=None)
        return deleted

    async def insert_numbers(self, rows: Sequence[NumberRow]) -> None:
        self._note("insert_numbers")
        self.numbers.update((row.number, row) for row in rows)

    async def add_to_powerpack(
        self, account_id: AccountId, number: E164, powerpack_id: PowerpackId, *, now_ms: int
    ) -> None:
        self._note("add_to_powerpack")
        row = self.numbers.get(number)
        if row is None:
            raise NotFound
        if row.powerpack_id not in (None, powerpack_id):
            raise NumberTaken
        for other in self.numbers.values():
            if other.powerpack_id == powerpack_id and other.type is row.type and other is not row:
                if row.type is NumberType.TOLL_FREE:
                    raise TypeTaken
                if row.type is NumberType.SHORT_CODE and row.country == other.country:
                    raise TypeTaken
        self.numbers[number] = replace(row, powerpack_id=powerpack_id, added_ms=now_ms)

    async def remove_from_powerpack(self, account_id: AccountId, number: E164, powerpack_id: PowerpackId) -> None:
        self._note("remove_from_powerpack")
        row = self.numbers.get(number)
        if row is None or row.powerpack_id != powerpack_id:
            raise NotFound
        self.numbers[number] = replace(row, powerpack_id=None)

    async def delete_number(self, account_id: AccountId, number: E164) -> None:
        self._note("delete_number")
        if self.numbers.pop(number, None) is None:
            raise NotFound

    async def label_number(self, account_id: AccountId, number: E164, *, alias: str, application_id: str) -> None:
        self._note("label_number")
        self.numbers[number] = replace(self._owned(account_id, number), alias=alias, application_id=application_id)

    async def give_number(self, account_id: AccountId, number: E164, *, to: AccountId) -> None:
        self._note("give_number")
        row = self._owned(account_id, number)
        if row.powerpack_id is not None:
            raise NumberTaken
        self.numbers[number] = replace(row, account_id=to, application_id="")

    async def search_inventory(self, renter: Renter, search: Search, *, limit: int, offset: int) -> Found:
        found = [row for number, row in sorted(self.stock.items()) if self._fits(renter, search, row)]
        return Found(found[offset : offset + limit], len(found))

    def _fits(self, renter: Renter, search: Search, row: InventoryRow) -> bool:
        return (
            self._is_offered(renter, row)
            and row.country == search.country
            and row.type in search.types
            and row.number.startswith(search.begins)
            and set(search.services) <= set(row.services)
            and search.region in ("", row.region)
            and search.city in ("", row.city)
        )

    def _is_offered(self, renter: Renter, row: InventoryRow) -> bool:
        return row.number not in self.numbers and row.reserved_for in ("", *renter)

    async def find_stocked(self, renter: Renter, number: E164) -> InventoryRow | None:
        row = self.stock.get(number)
        return row if row is not None and self._is_offered(renter, row) else None

    async def rent_number(
        self, renter: Renter, number: E164, *, powerpack_id: PowerpackId | None, application_id: str, now_ms: int
    ) -> NumberRow | None:
        self._note("rent_number")
        offer = await self.find_stocked(renter, number)
        if offer is None:
            return None
        self.numbers[number] = NumberRow(
            number, renter.account_id, offer.type, offer.country, offer.carrier, None, frozenset(offer.services),
            campaign_approved=offer.campaign_approved, verified=offer.verified, added_ms=now_ms, rented_ms=now_ms,
            application_id=application_id,
        )  # fmt: skip
        if powerpack_id is not None:
            try:
                await self.add_to_powerpack(renter.account_id, number, powerpack_id, now_ms=now_ms)
            except StorageError:
                del self.numbers[number]
                raise
        return self.numbers[number]

    def _owned(self, account_id: AccountId, number: E164) -> NumberRow:
        row = self.numbers.get(number)
        if row is None or row.account_id != account_id:
            raise NotFound
        return row
