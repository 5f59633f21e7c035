"""Who takes which batch when, and when waiting for company pays."""

from __future__ import annotations

import asyncio

from storage.backlog import JournalLimits, Ticket
from storage.feed import PAUSE_BATCHES, Feed, Linger
from storage.records import Entry
from tests.fakes.clock import in_virtual_time
from tests.fakes.entries import fact_entry, new_id

LIMITS = JournalLimits(batch_rows_max=10, linger_ms=2)


class Taker:
    def __init__(self) -> None:
        self.is_connected = True
        self.is_leaving = False


def put(feed: Feed, entry: Entry | None = None) -> Ticket:
    ticket = feed.backlog.admit(entry or fact_entry(new_id()), None, asyncio.get_running_loop().create_future())
    feed.put(ticket)
    return ticket


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- Lingering --------------------------------------------------------------------------------------------------------


def busy(*, per_s: float) -> Linger:
    """After a while of so many entries a second, one a batch."""
    linger = Linger(linger_ms=2)
    for turn in range(200):
        linger.took(1, now_s=turn / per_s)
    return linger


def test_nobody_lingers_before_anything_was_taken() -> None:
    assert not Linger(linger_ms=2).pays()


def test_lingering_pays_when_two_more_are_to_be_expected_meanwhile() -> None:
    assert busy(per_s=1_100).pays()
    assert not busy(per_s=900).pays()


def test_lingering_stops_for_a_while_when_it_brings_too_little() -> None:
    linger = busy(per_s=5_000)
    linger.lingered(before=10, after=14)
    assert [linger.pays() for _ in range(PAUSE_BATCHES + 1)] == [False] * PAUSE_BATCHES + [True]


def test_lingering_goes_on_while_it_brings_half_as_many_again() -> None:
    linger = busy(per_s=5_000)
    linger.lingered(before=10, after=15)
    assert linger.pays()


def test_a_pause_in_the_traffic_ends_lingering() -> None:
    linger = busy(per_s=5_000)
    linger.took(1, now_s=60.0)
    assert not linger.pays()


def test_no_time_to_linger_never_lingers() -> None:
    linger = Linger(linger_ms=0)
    for turn in range(50):
        linger.took(1_000, now_s=turn / 1_000)
    assert not linger.pays()


# --- Taking -----------------------------------------------------------------------------------------------------------


async def test_a_taker_waits_for_work_and_gets_all_of_it() -> None:
    feed = Feed(LIMITS)
    taking = asyncio.create_task(feed.take(Taker()))
    await turns()
    tickets = [put(feed) for _ in range(3)]
    assert await taking == tickets


async def test_one_taker_is_woken_for_one_batch() -> None:
    feed = Feed(LIMITS)
    first, second = (asyncio.create_task(feed.take(Taker())) for _ in range(2))
    await turns()
    put(feed)
    put(feed)
    await turns()
    assert first.done()
    assert not second.done()
    third = put(feed)
    assert await second == [third]


async def test_what_a_batch_leaves_wakes_the_next_taker() -> None:
    feed = Feed(LIMITS)
    takings = [asyncio.create_task(feed.take(Taker())) for _ in range(2)]
    await turns()
    for _ in range(15):
        put(feed)
    first, second = await asyncio.gather(*takings)
    assert first is not None
    assert second is not None
    assert [len(first), len(second)] == [10, 5]


async def test_a_taker_whose_connection_is_lost_leaves_the_work_to_another() -> None:
    feed = Feed(LIMITS)
    lost, other = Taker(), Taker()
    first = asyncio.create_task(feed.take(lost))
    await turns()
    second = asyncio.create_task(feed.take(other))
    await turns()
    ticket = put(feed)  # wakes the first
    lost.is_connected = False
    assert await first is None
    assert await second == [ticket]


async def test_a_released_taker_goes_without_work() -> None:
    feed = Feed(LIMITS)
    taker = Taker()
    taking = asyncio.create_task(feed.take(taker))
    await turns()
    taker.is_connected = False
    feed.release(taker)
    assert await taking is None


async def test_a_leaving_taker_takes_what_still_waits_and_then_goes() -> None:
    feed = Feed(LIMITS)
    taker = Taker()
    taker.is_leaving = True
    ticket = put(feed)
    assert await feed.take(taker) == [ticket]
    assert await feed.take(taker) is None


async def under_load(feed: Feed, taker: Taker) -> None:
    """5,000 entries a second for a while."""

    async def come() -> None:
        for _ in range(500):
            await asyncio.sleep(0.0002)
            put(feed)

    coming = asyncio.create_task(come())
    while not coming.done() or feed.backlog:
        await feed.take(taker)


@in_virtual_time
async def test_under_load_a_batch_waits_for_company_but_not_longer_than_it_may() -> None:
    loop, feed, taker = asyncio.get_running_loop(), Feed(LIMITS), Taker()
    await under_load(feed, taker)
    began_s = loop.time()
    put(feed)
    taking = asyncio.create_task(feed.take(taker))
    await asyncio.sleep(0.001)
    put(feed)
    tickets = await taking
    assert tickets is not None
    assert len(tickets) == 2
    assert 0.0019 < loop.time() - began_s < 0.0025


@in_virtual_time
async def test_a_full_batch_waits_no_longer() -> None:
    loop, feed, taker = asyncio.get_running_loop(), Feed(LIMITS), Taker()
    await under_load(feed, taker)
    began_s = loop.time()
    put(feed)
    taking = asyncio.create_task(feed.take(taker))
    await asyncio.sleep(0.0005)
    for _ in range(9):
        put(feed)
    tickets = await taking
    assert tickets is not None
    assert len(tickets) == 10
    assert loop.time() - began_s < 0.001
    assert not feed.backlog


@in_virtual_time
async def test_while_one_waits_for_company_nobody_else_takes_it_away() -> None:
    feed, taker, other = Feed(LIMITS), Taker(), Taker()
    await under_load(feed, taker)
    put(feed)
    lingering = asyncio.create_task(feed.take(taker))
    await asyncio.sleep(0.0005)
    late = asyncio.create_task(feed.take(other))
    await asyncio.sleep(0.0005)
    put(feed)
    tickets = await lingering
    assert tickets is not None
    assert len(tickets) == 2
    third = put(feed)
    assert await late == [third]
