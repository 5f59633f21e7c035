"""What accepting stands on: a real resolver, facts and pools over a journal, a catalog and a lane we own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gateway.api.shapes_message import render_callback
from gateway.facts import Facts
from gateway.outbound import Outbound
from gateway.pools import Pools
from gateway.submissions import Submission
from resolver.core import Resolver
from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Limits,
    Message,
    NumberRow,
    NumberType,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Request,
    RequestId,
    Service,
)
from storage.catalog import AccountRow
from storage.records import CallbackRow, Entry, FactKind, IdempotencyRow, Settled, StorageError
from storage.sealing import token_hash
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, TOKEN
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.clock import VirtualClock
from tests.fakes.ids import CountingIds, chance_of
from tests.fakes.lane_journal import LaneJournal, OnSettled

POWERPACK = PowerpackId("0193a1b2-0000-7000-8000-00000000000a")
POOL = PoolId("0193a1b2-0000-7000-8000-00000000000b")
CARRIER = CarrierName("carrier")
FIRST = E164("+14155550100")
ONE_A_SECOND = Limits(1, 1_000, 1_000_000, None)


class Tally:
    """Counts, as a metric does."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def add(self, *labels: str, by: int = 1) -> None:
        self.counts[labels] += by


class AcceptJournal(LaneJournal):
    """Also keeps idempotency keys: the second of two is REPLAYED."""

    def __init__(self, clock: VirtualClock, *, commit_ms: int) -> None:
        super().__init__(clock, commit_ms=commit_ms)
        self.keys: dict[tuple[AccountId, str], IdempotencyRow] = {}
        self.finds_nothing = 0  # so many look-ups come before the key is there
        self.look_ups_fail = 0

    async def wait_ready(self, ms_max: int) -> bool:
        try:
            async with asyncio.timeout(ms_max / 1_000):
                while not self.ready:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        key = entry.idempotency
        if key is not None:
            if (key.account_id, key.key) in self.keys:
                self.verdicts.appendleft(Settled.REPLAYED)
            else:
                self.keys[key.account_id, key.key] = key
        return super().append(entry, on_settled)

    async def find_answer(self, account_id: AccountId, key: str) -> IdempotencyRow | None:
        if self.look_ups_fail:
            self.look_ups_fail -= 1
            raise StorageError("the database is away")
        if self.finds_nothing:
            self.finds_nothing -= 1
            return None
        return self.keys.get((account_id, key))


class PlainLane:
    """A lane that only remembers what it was given."""

    def __init__(self, *, places: int = 0) -> None:
        self.places = places
        self.taken: list[Message] = []
        self.woken = 0

    def free_places(self) -> int:
        return self.places

    def take(self, messages: Sequence[Message]) -> None:
        self.taken.extend(messages)

    def wake(self) -> None:
        self.woken += 1


class AcceptFloor:
    """Made inside a running loop. One account with one powerpack of long codes in 415, and another account."""

    def __init__(
        self,
        *,
        numbers: int = 2,
        limits: Limits | None = ONE_A_SECOND,
        places: int = 0,
        commit_ms: int = 3,
        sticky: bool = True,
        is_overloaded: Callable[[], bool] = lambda: False,
    ) -> None:
        self.clock = VirtualClock()
        self.ids = CountingIds()
        self.chance = chance_of(0.0)
        self.journal = AcceptJournal(self.clock, commit_ms=commit_ms)
        self.resolver = Resolver()
        self.resolver.put_link(CARRIER, segments_per_s=1_000, now_ms=self.clock.now_ms())
        self.callbacks: list[CallbackRow] = []
        self.facts = Facts(
            self.journal,
            self.clock,
            self.ids,
            render_callback=render_callback,
            on_callbacks_committed=self.callbacks.extend,
        )
        self.lane = PlainLane(places=places)
        self.catalog = MemoryCatalog()
        for account_id in (ACCOUNT, OTHER_ACCOUNT):
            self.catalog.accounts[account_id] = AccountRow(account_id, "test", token_hash(TOKEN), TOKEN)
        self.catalog.powerpacks[POWERPACK] = PowerpackRow(
            POWERPACK, ACCOUNT, POOL, "pack", sticky_sender=sticky, created_ms=1_600_000_000_000
        )
        for place in range(numbers):
            self.add_number(f"+1415555{100 + place:04d}", powerpack_id=POWERPACK, limits=limits)
        self.pools = Pools(
            self.catalog,
            self.resolver,
            self.facts,
            clock=self.clock,
            wake=lambda carrier: self.lane.wake(),
            decide_again=self._decide_again,
        )
        self.accepted, self.refused = Tally(), Tally()
        self.operators: dict[E164, str] = {}
        self.learnable: dict[E164, str] = {}  # what a service would say
        self.learnt: list[E164] = []  # whom it was asked for
        self.outbound = Outbound(
            self.resolver,
            self.facts,
            self.journal,
            self.pools,
            {CARRIER: self.lane},
            clock=self.clock,
            ids=self.ids,
            chance=self.chance,
            allowed_countries=frozenset({"US", "CA"}),
            claim_lead_ms=100,
            hold_ms_max=2_000,
            find_operator=lambda recipient: self.operators.get(recipient, ""),
            learn_operators=self.learn,
            accepted=self.accepted,
            refused=self.refused,
            is_overloaded=is_overloaded,
        )
        self.fill()

    def add_number(
        self,
        number: str,
        *,
        number_type: NumberType = NumberType.LONG_CODE,
        country: str = "US",
        account_id: AccountId = ACCOUNT,
        powerpack_id: PowerpackId | None = None,
        limits: Limits | None = None,
        services: frozenset[Service] = frozenset({Service.SMS}),
    ) -> NumberRow:
        """A number of the catalog; `fill` takes it in."""
        row = NumberRow(
            E164(number), account_id, number_type, country, CARRIER, powerpack_id=powerpack_id,
            campaign_approved=True, verified=True, limits=limits, services=services,
        )  # fmt: skip
        self.catalog.numbers[row.number] = row
        return row

    def fill(self) -> None:
        """What recovery does at the start, as far as the catalog goes."""
        for powerpack in self.catalog.powerpacks.values():
            self.resolver.put_powerpack(powerpack)
        for number in self.catalog.numbers.values():
            self.resolver.put_number(number, now_ms=self.clock.now_ms())
        self.pools.fill(self.catalog.rows())

    async def learn(self, recipients: Sequence[E164]) -> Mapping[E164, str]:
        """As gateway/operator_lookup.py does."""
        self.learnt.extend(recipients)
        await asyncio.sleep(0)
        return {each: self.learnable[each] for each in recipients if each in self.learnable}

    async def _decide_again(self) -> None:
        """As upkeep does."""
        moved = self.resolver.rebind(now_ms=self.clock.now_ms(), chance=0.5, most=1_000)
        if moved:
            entry = Entry()
            for message, _ in moved:
                self.facts.record(entry, message, FactKind.REBOUND)
            self.facts.keep(entry)

    def submission(
        self,
        *destinations: str,
        text: str = "Hello",
        account_id: AccountId = ACCOUNT,
        powerpack_id: PowerpackId = POWERPACK,
    ) -> Submission:
        request = Request(RequestId(self.ids.new()), account_id, powerpack_id, text, 0)
        return Submission(request, list(destinations or ("+14155550199",)))
