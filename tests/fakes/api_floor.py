"""The whole API of one account over what accepting stands on, without a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

from gateway.accounts import AccountEdits
from gateway.api.account import Accounts
from gateway.api.applications import ApplicationRoutes
from gateway.api.bulk import Bulk
from gateway.api.composition import Composition
from gateway.api.idempotency import Keys
from gateway.api.messages import Messages
from gateway.api.middleware import Front
from gateway.api.numberpool import NumberPool
from gateway.api.numbers import NumberRoutes
from gateway.api.phone_numbers import PhoneNumbers
from gateway.api.powerpacks import Powerpacks
from gateway.api.recommend import Recommend
from gateway.api.requests import RequestReader
from gateway.api.resolve import Resolve
from gateway.api.router import Router
from gateway.api.routes import account_routes
from gateway.api.sending import Sending
from gateway.api.simulate import Simulate
from gateway.api.sticky import Sticky
from gateway.api.subaccounts import SubaccountRoutes
from gateway.api.windows import Windows
from gateway.applications import Applications
from gateway.bulks import Bulks
from gateway.cancelling import Cancelling
from gateway.guard import GuardPolicy
from gateway.numbers import Numbers
from gateway.settings import LimitsSettings, ServerSettings
from gateway.threads import StickyThreads
from resolver.model import E164, AccountId, MessageId, PowerpackId
from storage.bulks import BulkMessage
from storage.history import StoredMessage
from storage.messages import MessageFilters, MessagePage
from storage.records import BulkId, StretchRow
from tests.fakes.accept_floor import AcceptFloor, AcceptJournal
from tests.fakes.api_client import Client, serving


class MemoryArchive:
    """What was committed, as `MessageArchive` gives it; `asked` are the filters of the latest list."""

    def __init__(self, journal: AcceptJournal) -> None:
        self._journal = journal
        self.asked: MessageFilters | None = None

    def stored(self) -> list[StoredMessage]:
        entries = self._journal.committed
        bodies = {body.request_id: body for entry in entries for body in entry.bodies}
        return [
            StoredMessage(
                row,
                bodies.get(row.request_id),
                tuple(self._journal.facts_of(row.message_id)),
                next((each for each in self._journal.outcomes() if each.message_id == row.message_id), None),
            )
            for entry in entries
            for row in entry.messages
        ]

    async def find(
        self, account_id: AccountId, message_id: MessageId, *, also: Sequence[AccountId] = ()
    ) -> StoredMessage | None:
        found = [each for each in self.stored() if each.row.message_id == message_id]
        return found[0] if found and found[0].row.account_id in (account_id, *also) else None

    async def destinations(
        self, account_id: AccountId, powerpack_id: PowerpackId | None, *, since_ms: int
    ) -> dict[str, int]:
        rows = [each.row for each in self.stored() if each.row.account_id == account_id]
        return Counter(
            row.recipient[:5]
            for row in rows
            if row.accepted_ms >= since_ms and powerpack_id in (None, row.powerpack_id)
        )

    async def list_page(
        self, account_id: AccountId, filters: MessageFilters, *, limit: int, offset: int
    ) -> MessagePage:
        self.asked = filters
        found = [each for each in reversed(self.stored()) if each.row.account_id == account_id]
        if filters.state is not None:
            found = [each for each in found if each.state == filters.state]
        return MessagePage(found[offset : offset + limit], len(found))


class MemoryBulks:
    """What was committed of bulks, as `BulkArchive` gives it."""

    def __init__(self, journal: AcceptJournal) -> None:
        self._journal = journal

    async def page(self, account_id: AccountId, bulk_id: BulkId, *, from_line: int) -> list[StretchRow]:
        rows = [entry.stretch for entry in self._journal.committed if entry.stretch is not None]
        found = [row for row in rows if row.bulk_id == bulk_id and row.account_id == account_id]
        return sorted(row for row in found if row.first_line >= from_line)[:2]

    async def messages(self, stretch: StretchRow) -> list[BulkMessage]:
        (entry,) = (entry for entry in self._journal.committed if entry.stretch is stretch)
        return [
            BulkMessage(
                row.line, row.message_id, row.number or E164(""), row.tier, row.segments, row.forecast_ms,
                row.binding_window,
            )
            for row in entry.messages
        ]  # fmt: skip


class ApiFloor(AcceptFloor):
    """`serve` it in a running loop; its journal commits at once."""

    def __init__(self, *, numbers: int = 2, places: int = 0, stream_idle_ms: int = 30_000) -> None:
        super().__init__(numbers=numbers, places=places, commit_ms=0)
        self._application_numbers = count(1)
        self.archive = MemoryArchive(self.journal)
        countries = frozenset({"US", "CA"})
        owned = Numbers(self.catalog, self.pools, clock=self.clock)
        keys, requests = Keys(self.journal.find_answer), RequestReader(GuardPolicy())
        self.bulks = Bulks(
            self.outbound, self.resolver, self.facts, self.journal, clock=self.clock, ids=self.ids, rows_max=10_000,
            commit_wait_ms_max=1_000,
        )  # fmt: skip
        self.flushed = 0
        sticky = Sticky(
            self.pools, StickyThreads(self.resolver, self._flush, clock=self.clock), allowed_countries=countries
        )
        self.routes = account_routes(
            sending=Sending(self.outbound.submit, keys, requests, clock=self.clock),
            bulk=Bulk(
                self.bulks, MemoryBulks(self.journal), keys, requests, clock=self.clock, ids=self.ids,
                wait_ms_max=500,
            ),
            messages=Messages(
                self.archive, self.resolver, self.facts,
                Cancelling(self.resolver, self.facts, clock=self.clock), clock=self.clock,
                subaccounts_of=self.pools.subaccounts_of,
            ),
            powerpacks=Powerpacks(self.pools, clock=self.clock, ids=self.ids),
            numbers=NumberPool(self.pools, owned),
            resolve=Resolve(
                self.resolver, self.pools, clock=self.clock, chance=self.chance, allowed_countries=countries,
                find_operator=lambda recipient: self.operators.get(recipient, ""), learn_operators=self.learn,
            ),
            accounts=Accounts(self.pools.accounts),
            resources=[
                NumberRoutes(self.pools, owned),
                PhoneNumbers(self.pools, owned),
                Composition(self.pools, owned),
                Recommend(self.pools, self.archive, clock=self.clock),
                Simulate(self.resolver, self.pools, clock=self.clock, allowed_countries=countries),
                sticky,
                SubaccountRoutes(
                    AccountEdits(self.catalog, self.pools.follow), self.pools.subaccounts_of, clock=self.clock
                ),
                Windows(self.resolver, self.pools, clock=self.clock),
            ApplicationRoutes(
                Applications(self.catalog, self.pools), GuardPolicy(), clock=self.clock,
                random_below=lambda most: next(self._application_numbers) % most,
            ),
            ],
            streams=sticky.streams(),
        )  # fmt: skip
        self.front = Front(
            Router(self.routes), self.pools.accounts,
            clock=self.clock, ids=self.ids, server=ServerSettings(stream_idle_ms=stream_idle_ms),
            limits=LimitsSettings(),
        )  # fmt: skip

    async def _flush(self) -> None:
        self.flushed += 1

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Client]:
        async with serving(self.front) as client:
            yield client
