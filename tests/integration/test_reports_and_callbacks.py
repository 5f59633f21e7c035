"""From a carrier's report to the account's endpoint over a real PostgreSQL: journal, outbox and archive as they are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.callbacks import Callbacks
from gateway.carriers.carrier import Report
from gateway.facts import Facts
from gateway.guard import GuardPolicy, Reply
from gateway.inbound import Reports, Taken
from gateway.settings import CallbackSettings
from gateway.signatures import Tokens
from resolver.model import CarrierName, Message, MessageId, Tier
from storage.database import Database
from storage.history import request_of
from storage.journal import Journal
from storage.messages import MessageArchive
from storage.outbox import Outbox
from storage.records import Entry, FactKind, State
from tests.fakes.callbacks import FakeSender, HandClock
from tests.fakes.entries import ACCOUNT, SIMULATED, fact_row, new_id, request_entry
from tests.fakes.gateway_floor import Tally, render

DELIVERED = FactKind.DELIVERED


class Ids:
    def new(self) -> str:
        return new_id()


class Gateway:
    """One process's part of it. Nothing is in memory but what it is told."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self.database, self.journal = database, journal
        self.clock = HandClock(time.time_ns() // 1_000_000)
        self.sender = FakeSender(self.clock)
        self.callbacks = Callbacks(
            Outbox(database),
            self.sender,
            settings=CallbackSettings(in_flight_max=8, endpoint_in_flight_max=4),
            policy=GuardPolicy(),
            clock=self.clock,
            tokens_of={ACCOUNT: Tokens(("a-token",), ("a-token",))}.get,
            nonce=lambda: "1" * 20,
            counts=Tally(),
        )
        self.facts = Facts(
            journal, self.clock, Ids(), render_callback=render, on_callbacks_committed=self.callbacks.owe
        )
        self.archive = MessageArchive(database)
        self.reports = Reports(
            self.facts,
            self.archive,
            clock=self.clock,
            find=lambda message_id: None,
            carrier_of=lambda number: None,
            reported=self.nothing,
            flush=lambda: None,
            is_ready=lambda: journal.ready,
            counts=Tally(),
        )
        self.facts.on_carrier_ref(self.reports.carrier_ref_known)

    def nothing(self, message: Message) -> None:
        return None

    async def sent(self, ref: str) -> MessageId:
        """A message that an earlier process handed over: `queued` and `sent` are told already."""
        entry = request_entry(1, claims=True)
        (message,) = entry.messages
        await self.journal.append(entry)
        told = Entry()
        known = Message(
            message.message_id, request_of(message, entry.bodies[0]), message.recipient,
            message.number or message.recipient, Tier(message.tier), message.expires_ms,
        )  # fmt: skip
        known.attempt = known.sequence = 1
        self.facts.record(told, known, FactKind.SENT, attempt=1, handed_ms=1, carrier=SIMULATED, carrier_ref=ref)
        told.callbacks.clear()
        self.facts.awaiting.drop(message.message_id)
        await self.journal.append(told)
        return message.message_id

    async def until_quiet(self) -> None:
        """Until every callback in memory is told and written."""
        async with asyncio.timeout(20):
            while self.callbacks.held or self.callbacks.unrecorded:
                self.clock.jump(Callbacks.ROUND_MS)
                await asyncio.sleep(0.002)

    async def states(self) -> Counter[str]:
        return Counter(state for state, _, _ in await self.results())

    async def results(self) -> list[tuple[str, int, str]]:
        async with self.database.side() as connection:
            return [tuple(row) for row in await connection.fetch("SELECT state, tries, last_result FROM callbacks")]


@asynccontextmanager
async def running(database: Database) -> AsyncIterator[Gateway]:
    async with Journal(database, clock=lambda: time.time_ns() // 1_000_000) as journal:
        gateway = Gateway(database, journal)
        task = asyncio.create_task(gateway.callbacks.run())
        try:
            yield gateway
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def gateway(database: Database) -> AsyncIterator[Gateway]:
    async with running(database) as made:
        yield made


async def test_a_report_becomes_a_fact_an_end_and_a_callback_that_is_told(gateway: Gateway) -> None:
    message_id = await gateway.sent("ref-1")
    report = Report("ref-1", "", DELIVERED, "000", 0)
    assert await gateway.reports.take(SIMULATED, [report, report]) == Taken(2, 0)
    stored = await gateway.archive.find(ACCOUNT, message_id)
    assert stored is not None
    assert [fact.kind for fact in stored.facts] == ["sent", "delivered"]
    assert (stored.state, stored.code) == (State.DELIVERED, "000")
    await gateway.until_quiet()
    assert await gateway.states() == {"told": 1}
    (sent,) = gateway.sender.sent
    assert sent.params == {"Status": "delivered", "Sequence": "3", "ErrorCode": "000"}
    assert sent.headers["Sendpool-Sequence"] == "3", "after queued and sent"


async def test_a_repetition_after_a_restart_makes_nothing_new(database: Database) -> None:
    async with running(database) as gateway:
        message_id = await gateway.sent("ref-1")
        await gateway.reports.take(SIMULATED, [Report("ref-1", "", DELIVERED, "000", 0)])
    async with running(database) as gateway:
        by_both = [Report("ref-1", "", DELIVERED, "000", 0), Report("", message_id, DELIVERED, "000", 0)]
        assert await gateway.reports.take(SIMULATED, by_both) == Taken(2, 0)
        assert await gateway.reports.take(CarrierName("other"), by_both) == Taken(0, 2)
        stored = await gateway.archive.find(ACCOUNT, message_id)
        assert stored is not None
        assert [fact.kind for fact in stored.facts] == ["sent", "delivered"]
        while not gateway.sender.sent:
            await asyncio.sleep(0.002)
        await gateway.until_quiet()
        assert await gateway.states() == {"told": 1}, "owed by the process before"


async def test_a_report_nobody_knows_is_parked_and_applied_by_the_next_process(database: Database) -> None:
    async with running(database) as gateway:
        assert await gateway.reports.take(SIMULATED, [Report("ref-1", "", DELIVERED, "000", 0)]) == Taken(0, 1)
        gateway.facts.on_carrier_ref(lambda carrier, ref, message: None)  # and dies before it can be applied
        message_id = await gateway.sent("ref-1")
    async with running(database) as gateway:
        parked = await gateway.archive.unmatched_reports(since_ms=0)
        assert [row.carrier_ref for row in parked] == ["ref-1"]
        await gateway.reports.adopt(parked)
        stored = await gateway.archive.find(ACCOUNT, message_id)
        assert stored is not None
        assert stored.state is State.DELIVERED
        assert gateway.reports.parked == 0


async def test_a_bad_row_costs_its_own_message_only(gateway: Gateway) -> None:
    """A second end for a message: its outcome's key is taken."""
    first, second = await gateway.sent("ref-1"), await gateway.sent("ref-2")
    await gateway.reports.take(SIMULATED, [Report("ref-1", "", DELIVERED, "000", 0)])
    hidden = Entry(facts=[fact_row(first, FactKind.SENT)])
    await gateway.journal.append(hidden)
    gateway.facts.awaiting.drop(first)

    class Forgetful(MessageArchive):
        async def recall(self, message_ids):
            found = await super().recall(message_ids)
            return {key: each._replace(outcome=None, facts=each.facts[:1]) for key, each in found.items()}

    gateway.reports._archive = Forgetful(gateway.database)
    reports = [Report("ref-1", "", DELIVERED, "000", 0), Report("ref-2", "", DELIVERED, "000", 0)]
    assert await gateway.reports.take(SIMULATED, reports) == Taken(2, 0)
    stored = await gateway.archive.find(ACCOUNT, second)
    assert stored is not None
    assert stored.state is State.DELIVERED


async def test_callbacks_that_fail_come_again_from_the_outbox_and_keep_their_tries(gateway: Gateway) -> None:
    gateway.sender.answer = lambda sent: Reply(503, "")
    for number in range(30):
        await gateway.sent(f"ref-{number}")
    reports = [Report(f"ref-{number}", "", DELIVERED, "000", 0) for number in range(30)]
    await gateway.reports.take(SIMULATED, reports)
    await gateway.until_quiet()
    assert await gateway.states() == {"owed": 30}
    gateway.sender.answer = lambda sent: Reply(204, "")
    gateway.clock.jump(61_000)
    async with asyncio.timeout(20):
        while (await gateway.states())["told"] < 30:
            gateway.clock.jump(Callbacks.ROUND_MS)
            await asyncio.sleep(0.01)
    assert set(await gateway.results()) == {("told", 2, "204")}
