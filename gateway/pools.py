"""The catalog in memory, and every edit of it: durable first, then ruling the very next decision.

Invariants
* An edit goes to the database, then into the resolver, one edit at a time. What another process edits (a command) is
  heard of and read from the database: memory always follows the disk, also after an edit whose answer was lost.
* What an edit leaves without a number is decided again before the edit is answered (gateway/upkeep.py); what it ends
  is ended by endings.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final

from gateway.clock import Clock
from gateway.edits import EditRefused, refusals
from gateway.endings import Endings
from gateway.facts import Facts
from gateway.listings import Lists
from gateway.shelves import Shelf
from resolver.core import Resolver
from resolver.model import E164, AccountId, CarrierName, Message, NumberRow, Pause, PoolId, PowerpackId, PowerpackRow
from storage.catalog import AccountRow, ApplicationRow, CarrierRow, Catalog, CatalogRows, Change
from storage.changes import told

TICK_MS: Final = 250
NUMBERS_IN_A_ROW: Final = 1_000


class Pools:
    """Accounts, powerpacks and numbers as the database has them."""

    def __init__(
        self,
        catalog: Catalog,
        resolver: Resolver,
        facts: Facts,
        *,
        clock: Clock,
        wake: Callable[[CarrierName], None],
        decide_again: Callable[[], Awaitable[None]],
        follow_carrier: Callable[[CarrierRow], None] = lambda _: None,
        follow_operators: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._catalog = catalog
        self._resolver = resolver
        self._clock = clock
        self._wake = wake
        self._follow_carrier = follow_carrier
        self._follow_operators = follow_operators
        self.decide_again = decide_again  # what an edit left without a number, and better chances
        self.editing = asyncio.Lock()  # held for every edit, by whoever makes one
        self._endings = Endings(resolver, facts, clock=clock)
        self.accounts: dict[AccountId, AccountRow] = {}
        self.shelved_applications: Shelf[str, ApplicationRow] = Shelf()
        self._shelved_powerpacks: Shelf[PowerpackId, PowerpackRow] = Shelf()
        self.applications, self.powerpacks = self.shelved_applications.rows, self._shelved_powerpacks.rows
        self.numbers: dict[E164, NumberRow] = {}
        self.powerpack_of_pool: dict[PoolId, PowerpackId] = {}
        self.members: dict[PowerpackId, dict[E164, NumberRow]] = {}
        self.lists = Lists()

    # -- filling --------------------------------------------------------------------------------------------------

    def fill(self, rows: CatalogRows) -> None:
        """Take in the whole catalog at the start. The resolver has it by recovery."""
        self.accounts.update((row.account_id, row) for row in rows.accounts)
        for application in rows.applications:
            self.shelved_applications.put(application.application_id, application)
        for powerpack in rows.powerpacks:
            self._keep_powerpack(powerpack)
        for number in sorted(rows.numbers, key=lambda row: (row.added_ms, row.number)):  # as they joined
            self._keep_number(number)
        self.lists.settle()

    async def on_change(self, change: Change) -> None:
        """Read anew what was edited; for `Catalog.listen`. Our own edits come by here too, and change nothing then."""
        await self.follow([change])

    async def follow(self, changes: list[Change]) -> None:
        """Read anew what an edit of the catalog says it has changed; what is left without a number is decided again."""
        async with self.editing:
            for change in told(changes):
                if change.kind == "all":
                    await self._follow_all(await self._catalog.load_all())
                else:
                    await self._follow(change)
        if self._follow_operators is not None and any(change.kind in ("all", "operators") for change in changes):
            await self._follow_operators()
        self.tick()
        await self.decide_again()

    async def _follow(self, change: Change) -> None:
        account_id, changed_id = AccountId(change.account_id), change.id
        if change.kind == "account":
            account = await self._catalog.find_account(account_id)
            if account is not None:
                self.accounts[account_id] = account
        elif change.kind == "application":
            application = await self._catalog.find_application(account_id, changed_id)
            if application is not None:
                self.shelved_applications.put(changed_id, application)
            else:
                self.shelved_applications.drop(changed_id)
        elif change.kind == "powerpack":
            powerpack = await self._catalog.find_powerpack(account_id, PowerpackId(changed_id))
            if powerpack is not None:
                self.put_powerpack(powerpack)
            else:
                await self._drop_powerpack(PowerpackId(changed_id))
        elif change.kind == "number":
            number = await self._catalog.find_number(account_id, E164(changed_id))
            kept = self.numbers.get(E164(changed_id))
            if number is not None:
                self.put_number(number)
            elif kept is None or kept.account_id == account_id:  # else it is another account's since
                self.drop_number(E164(changed_id))
        elif change.kind == "carrier":
            self._follow_carrier(await self._catalog.find_carrier(CarrierName(changed_id)))

    async def _follow_all(self, rows: CatalogRows) -> None:
        accounts = {row.account_id: row for row in rows.accounts}
        for account_id in self.accounts.keys() - accounts.keys():
            del self.accounts[account_id]
        self.accounts.update(accounts)
        self.shelved_applications.keep_only(row.application_id for row in rows.applications)
        for application in rows.applications:
            self.shelved_applications.put(application.application_id, application)
        for powerpack_id in self.powerpacks.keys() - {row.powerpack_id for row in rows.powerpacks}:
            await self._drop_powerpack(powerpack_id)
        for powerpack in rows.powerpacks:
            self.put_powerpack(powerpack)
        for gone in self.numbers.keys() - {row.number for row in rows.numbers}:
            self.drop_number(gone)
        for place, number in enumerate(rows.numbers):
            self.put_number(number)
            if place % NUMBERS_IN_A_ROW == NUMBERS_IN_A_ROW - 1:
                await asyncio.sleep(0)  # a million would keep everything else waiting for seconds
        for carrier in rows.carriers:
            self._follow_carrier(carrier)

    def subaccounts_of(self, account_id: AccountId) -> list[AccountRow]:
        """An account's subaccounts, oldest first; costs a look at every account."""
        rows = (row for row in self.accounts.values() if row.main_id == account_id and not row.deleted_ms)
        return sorted(rows, key=lambda row: (row.created_ms, row.account_id))

    # -- edits by the API -----------------------------------------------------------------------------------------

    def find_application(self, account_id: AccountId, application_id: str) -> ApplicationRow | None:
        """An application of this account; another's is absent."""
        row = self.applications.get(application_id)
        return row if row is not None and row.account_id == account_id else None

    def application_of(self, number: NumberRow) -> ApplicationRow | None:
        """Where what a number receives goes: its powerpack's application, else its own; None where there is none."""
        powerpack = self.powerpacks.get(number.powerpack_id) if number.powerpack_id is not None else None
        application_id = (powerpack.application_id if powerpack is not None else "") or number.application_id
        return self.find_application(number.account_id, application_id)

    def powerpacks_of(self, account_id: AccountId) -> list[PowerpackRow]:
        """An account's powerpacks, oldest first."""
        return self._shelved_powerpacks.of(account_id)

    async def create_powerpack(self, row: PowerpackRow) -> None:
        """Raises EditRefused: name_taken, application_not_found."""
        async with self.editing:
            self._check_application(row)
            with refusals():
                await self._catalog.insert_powerpack(row)
            self.put_powerpack(row)

    async def change_powerpack(
        self, powerpack_id: PowerpackId, change: Callable[[PowerpackRow], PowerpackRow]
    ) -> PowerpackRow:
        """Apply `change` to the row as it is when its turn comes.

        Raises EditRefused: not_found, name_taken, application_not_found.
        """
        async with self.editing:
            row = self.powerpacks.get(powerpack_id)
            if row is None:
                raise EditRefused("not_found")
            row = change(row)
            self._check_application(row)
            with refusals():
                await self._catalog.update_powerpack(row)
            self.put_powerpack(row)
            return row

    def _check_application(self, row: PowerpackRow) -> None:
        if row.application_id and self.find_application(row.account_id, row.application_id) is None:
            raise EditRefused("application_not_found")

    async def delete_powerpack(self, row: PowerpackRow, *, with_numbers: bool) -> None:
        """What waits in it ends. Its numbers stay the account's, or go with it. Raises EditRefused: not_found."""
        async with self.editing:
            with refusals():
                numbers = await self._catalog.delete_powerpack(
                    row.account_id, row.powerpack_id, with_numbers=with_numbers
                )
            await self._drop_powerpack(row.powerpack_id)
            if with_numbers:
                for number in numbers:
                    self.drop_number(number)
        self.tick()

    async def add_number(self, powerpack: PowerpackRow, number: E164) -> NumberRow:
        """Put a number of the account into one of its powerpacks; adding it again is no error. Raises EditRefused."""
        async with self.editing:
            row = self.numbers.get(number)
            if row is None or row.account_id != powerpack.account_id:
                raise EditRefused("not_found", "the account has no such number")
            if row.powerpack_id == powerpack.powerpack_id:
                return row
            joined = replace(row, powerpack_id=powerpack.powerpack_id, added_ms=self._clock.now_ms())
            with refusals(joined.type):
                await self._catalog.add_to_powerpack(
                    row.account_id, number, powerpack.powerpack_id, now_ms=joined.added_ms
                )
            self.put_number(joined)
        await self.decide_again()
        return joined

    async def remove_number(self, powerpack: PowerpackRow, number: E164, *, gives_up: bool) -> None:
        """Take a number out, or give it up for good; what waits there is decided again. Raises EditRefused."""
        async with self.editing:
            row = self.numbers.get(number)
            if row is None or row.powerpack_id != powerpack.powerpack_id:
                raise EditRefused("not_found")
            with refusals():
                if gives_up:
                    await self._catalog.delete_number(row.account_id, number)
                else:
                    await self._catalog.remove_from_powerpack(row.account_id, number, powerpack.powerpack_id)
            if gives_up:
                self.drop_number(number)
            else:
                self.put_number(replace(row, powerpack_id=None))
        await self.decide_again()

    # -- memory follows -------------------------------------------------------------------------------------------

    def _keep_powerpack(self, row: PowerpackRow) -> None:
        self._shelved_powerpacks.put(row.powerpack_id, row)
        self.powerpack_of_pool[row.pool_id] = row.powerpack_id
        self.members.setdefault(row.powerpack_id, {})

    def _keep_number(self, row: NumberRow) -> None:
        old = self.numbers.get(row.number)
        if old is not None and old.powerpack_id is not None and old.powerpack_id != row.powerpack_id:
            self.members.get(old.powerpack_id, {}).pop(row.number, None)
        self.numbers[row.number] = row
        self.lists.put(old, row)
        if row.powerpack_id is not None:
            self.members.setdefault(row.powerpack_id, {})[row.number] = row

    def put_powerpack(self, row: PowerpackRow) -> None:
        was = self.powerpacks.get(row.powerpack_id)
        if was != row:
            self._keep_powerpack(row)
            self._resolver.put_powerpack(row)
            if was is not None and was.pause is not row.pause:
                for carrier in {member.carrier for member in self.members[row.powerpack_id].values()}:
                    self._wake(carrier)

    def put_number(self, row: NumberRow) -> None:
        was = self.numbers.get(row.number)
        if was == row:
            return
        if was is not None and was.account_id != row.account_id:
            self.drop_number(row.number)  # what waits there is the former account's; what it has sent stays counted
            was = None
        self._keep_number(row)
        if was is None or _in_law(was) != _in_law(row):
            self._resolver.put_number(row, now_ms=self._clock.now_ms())
            self._wake(row.carrier)

    def drop_number(self, number: E164) -> None:
        row = self.numbers.pop(number, None)
        if row is None:
            return
        if row.powerpack_id is not None:
            self.members.get(row.powerpack_id, {}).pop(number, None)
        self.lists.drop(row)
        self._resolver.drop_number(number, now_ms=self._clock.now_ms())

    async def _drop_powerpack(self, powerpack_id: PowerpackId) -> None:
        row = self._shelved_powerpacks.drop(powerpack_id)
        if row is None:
            return
        self.powerpack_of_pool.pop(row.pool_id, None)
        self._resolver.put_powerpack(replace(row, pause=Pause.REFUSE))  # nothing of it leaves any more
        await self._endings.take_out(powerpack_id)
        now_ms = self._clock.now_ms()
        ended = self._resolver.drop_powerpack(powerpack_id, now_ms=now_ms)
        for member in self.members.pop(powerpack_id, {}).values():
            alone = replace(member, powerpack_id=None)
            self.numbers[member.number] = alone
            self.lists.put(member, alone)
            self._resolver.put_number(alone, now_ms=now_ms)
        self._endings.end(ended)

    # -- messages of a powerpack that is gone: see endings.py -----------------------------------------------------

    def committed(self, messages: Iterable[Message]) -> None:
        """Their decisions are durable now: what a deletion took out meanwhile may end."""
        self._endings.committed(messages)

    def forgotten(self, messages: Iterable[Message]) -> None:
        """Their decisions were not stored: there is nothing to end."""
        self._endings.forgotten(messages)

    def tick(self) -> None:
        """Record a bounded part of the ends that deletions left to do, so that traffic goes on beside them."""
        self._endings.tick(self.powerpacks)

    async def run(self) -> None:
        """Go on with what deletions left to do; until cancelled."""
        while True:
            await self._clock.sleep_ms(TICK_MS)
            self.tick()


def _in_law(row: NumberRow) -> NumberRow:
    """What the resolver goes by: without what an account calls it."""
    return replace(row, alias="", application_id="")
