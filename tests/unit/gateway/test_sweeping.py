"""Messages that were sent and never reported end after their time, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gateway.clock import SystemIds
from gateway.facts import Facts, OnSettled
from gateway.sweeping import LOOK_BACK_MS, OVERLAP_MS, Sweeping
from resolver.model import E164, AccountId, CarrierName, Message, MessageId, PowerpackId, Request, RequestId, Tier
from storage.records import Entry, FactKind, JournalUnavailable, Settled, State
from tests.fakes.clock import HandClock

WAIT_MS = 72 * 3_600_000
NOW_MS = 1_800_000_000_000


class StoredMessages:
    """What is stored: pages of messages, and between which instants they were asked for."""

    def __init__(self, *pages: list[Message]) -> None:
        self.pages = pages
        self.asked: list[tuple[int, int]] = []

    async def unreported(self, *, since_ms: int, until_ms: int) -> AsyncIterator[list[Message]]:
        self.asked.append((since_ms, until_ms))
        for page in self.pages:
            yield page


class Journal:
    """Takes entries, or is away."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.is_away = False

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        if self.is_away:
            raise JournalUnavailable("away")
        self.entries.append(entry)
        if on_settled is not None:
            on_settled(Settled.COMMITTED)
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        future.set_result(Settled.COMMITTED)
        return future


def message(number: int, state: State = State.SENT) -> Message:
    request = Request(RequestId("r"), AccountId("MA"), PowerpackId("p"), "Hello", 1)
    one = Message(MessageId(f"m{number}"), request, E164("+14155550123"), E164("+14155550100"), Tier.AREA, 0)
    one.state = state
    return one


class World:
    def __init__(self, *pages: list[Message]) -> None:
        self.clock = HandClock(NOW_MS)
        self.journal = Journal()
        self.archive = StoredMessages(*pages)
        self.facts = Facts(
            self.journal, self.clock, SystemIds(), render_callback=lambda *_: [], on_callbacks_committed=lambda _: None
        )
        self.sweeping = Sweeping(self.archive, self.facts, clock=self.clock, report_wait_ms=WAIT_MS)

    def ended(self) -> list[str]:
        return [fact.message_id for entry in self.journal.entries for fact in entry.facts]


async def test_what_no_report_came_for_ends_in_sent() -> None:
    world = World([message(1), message(2)], [message(3)])
    with capture_logs() as logs:
        await world.sweeping.sweep()
    assert world.ended() == ["m1", "m2", "m3"]
    assert {fact.kind for entry in world.journal.entries for fact in entry.facts} == {FactKind.UNREPORTED}
    assert [outcome.state for entry in world.journal.entries for outcome in entry.outcomes] == [State.SENT] * 3
    assert [(line["event"], line["messages"]) for line in logs] == [("messages ended unreported", 3)]


async def test_only_what_was_sent_before_the_wait_is_looked_for() -> None:
    world = World()
    await world.sweeping.sweep()
    assert world.archive.asked == [(NOW_MS - WAIT_MS - LOOK_BACK_MS, NOW_MS - WAIT_MS)]


async def test_the_next_sweep_goes_on_where_the_last_one_ended() -> None:
    world = World()
    await world.sweeping.sweep()
    world.clock.now += 7_200_000
    await world.sweeping.sweep()
    assert world.archive.asked[1] == (NOW_MS - WAIT_MS - OVERLAP_MS, NOW_MS - WAIT_MS + 7_200_000)


async def test_the_message_in_memory_is_the_one_that_ends() -> None:
    known = message(1)
    world = World([message(1)])
    world.facts.awaiting.add(known, CarrierName("c"), "ref")
    await world.sweeping.sweep()
    assert world.ended() == ["m1"]
    assert world.facts.awaiting.find_message(known.message_id) is None


async def test_a_message_a_report_has_ended_meanwhile_is_left_alone() -> None:
    world = World([message(1)])
    world.facts.awaiting.add(message(1, State.DELIVERED), CarrierName("c"), "ref")
    await world.sweeping.sweep()
    assert world.ended() == []


async def test_a_sweep_that_cannot_store_is_done_again_from_where_it_began() -> None:
    world = World([message(1)], [message(2)])
    world.journal.is_away = True
    with pytest.raises(JournalUnavailable):
        await world.sweeping.sweep()
    world.clock.now += 60_000
    world.journal.is_away = False
    with pytest.raises(JournalUnavailable):  # what was owed is stored first
        await world.sweeping.sweep()
    assert world.archive.asked[1][0] == NOW_MS + 60_000 - WAIT_MS - LOOK_BACK_MS
