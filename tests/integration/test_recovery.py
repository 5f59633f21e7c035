"""What a start makes of what is stored: memory as it was, and everything in doubt counted against us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from gateway.clock import SystemIds
from resolver.core import CLAIM_GOOD_MS, Resolver
from resolver.model import E164, Limits, Message, Phase, Refusal, RefusalCode, Tier
from storage.catalog import CatalogRows
from storage.database import Database
from storage.journal import Journal
from storage.records import Entry, EpochLost, FactKind, OutcomeRow, Settled, State
from storage.recovery import HOUR_MS, Quarantined, Recovered, recover
from storage.threads import ThreadKeeper
from tests.contract.journal_worlds import wall_ms
from tests.fakes.clock import START_MS, HandClock
from tests.fakes.entries import ACCOUNT, POWERPACK, SIMULATED, body_row, fact_row, handover_row, message_row
from tests.fakes.ids import CountingIds
from tests.integration.storage_process import LINKS, NUMBERS, RECIPIENTS, Process, catalog_rows, filled_resolver

NUMBER, OTHER_NUMBER = NUMBERS[0], NUMBERS[1]
DAY_MS = 86_400_000


@pytest.fixture
async def with_catalog(database: Database) -> Database:
    """The powerpack as the sticky table's statements want to see it."""
    async with database.side() as connection:
        await connection.execute("INSERT INTO accounts VALUES ($1, 'a', '', '', true, 0)", ACCOUNT)
        await connection.execute(
            "INSERT INTO powerpacks (powerpack_id, account_id, pool_id, name, sticky_sender, local_connect, priority,"
            " operator_types, sticky_at_limit, sticky_wait_ms, sticky_life_ms, patience_ms, on_unknown, created_ms)"
            " VALUES ($1, $2, $1, 'p', true, true, '{}', '{}', 'wait', 1, 1296000000, 1, 'resend', 0)",
            POWERPACK,
            ACCOUNT,
        )
    return database


@pytest.fixture
async def journal(with_catalog: Database) -> AsyncIterator[Journal]:
    async with Journal(with_catalog, clock=wall_ms) as running:
        yield running


Restart = Callable[..., Coroutine[None, None, tuple[Recovered, Resolver]]]


@pytest.fixture
async def restart(journal: Journal, database_url: str) -> AsyncIterator[Restart]:
    """Let the next process take over and recover; as often as it is called."""
    opened: list[Database] = []

    async def start(*, now_ms: int = START_MS + 1_000_000) -> tuple[Recovered, Resolver]:
        await journal.stop()
        database = await Database.open(database_url)
        opened.append(database)
        await database.take_over(owner="the next", now_ms=now_ms, force=True)
        resolver = Resolver()
        return await recover(database, catalog_rows(), resolver, now_ms=now_ms, links=LINKS), resolver

    yield start
    for database in opened:
        await database.close()


async def store(journal: Journal, *entries: Entry) -> None:
    for entry in entries:
        assert await journal.append(entry) is Settled.COMMITTED


IDS = CountingIds()


def entry_of(*, count: int = 1, accepted_ms: int = START_MS, **changes: Any) -> Entry:
    """A request of open messages, each with its own recipient."""
    request_id = IDS.new()
    rows = []
    for line in range(count):
        values: dict[str, Any] = {
            "message_id": IDS.new(),
            "line": line,
            "recipient": RECIPIENTS[line],
            "number": NUMBER,
        }
        times = {"accepted_ms": accepted_ms, "expires_ms": accepted_ms + 3 * DAY_MS}
        rows.append(message_row(request_id, **{**values, **times, **changes}))
    return Entry(bodies=[body_row(request_id)], messages=rows)


def claimed(entry: Entry, *, attempt: int = 1, claimed_ms: int = START_MS, number: E164 = NUMBER) -> Entry:
    row = handover_row([each.message_id for each in entry.messages], attempt=attempt, claimed_ms=claimed_ms)
    return Entry(handovers=[row._replace(numbers=[number] * len(entry.messages))])


def settled(entry: Entry, kind: FactKind, *, attempt: int = 1, at_ms: int = START_MS, **changes: Any) -> Entry:
    values: dict[str, Any] = {"attempt": attempt, "at_ms": at_ms, "handed_ms": at_ms, "number": NUMBER}
    return Entry(facts=[fact_row(each.message_id, kind, **(values | changes)) for each in entry.messages])


def times(resolver: Resolver, number: E164 = NUMBER) -> list[int]:
    day = resolver.numbers[number].day
    assert day is not None
    return day.times


# --- Memory as it was -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_after_a_restart_memory_is_what_it_was(
    journal: Journal, restart: Restart, with_catalog: Database, seed: int
) -> None:
    clock = HandClock()
    before = filled_resolver(clock)
    process = Process(journal, before, clock, CountingIds(), seed)
    keeper = ThreadKeeper(with_catalog, before.threads_changed, clock=clock.now_ms)
    await process.live(40)
    await keeper.flush()
    await process.live(40)
    assert process.counts["accepted"] > 50
    recovered, after = await restart(now_ms=clock.now_ms())
    now_ms = clock.now_ms()

    assert {each.message_id: seen(each) for each in after.open.values()} == {
        each.message_id: seen(each) for each in before.open.values()
    }
    unknown = {each.message_id for each in after.open.values() if each.phase is Phase.UNKNOWN}
    assert {each.message_id for each in recovered.unknown} == unknown
    assert process.unsettled.keys() <= unknown
    for name, number in before.numbers.items():
        unsettled = [each for each in process.unsettled.values() if each.number == name]
        handed = list(times(before, name))
        for message in unsettled:
            handed.remove(message.slot_ms)
            handed.append(max(now_ms, message.claimed_ms + CLAIM_GOOD_MS))
        assert times(after, name) == sorted(handed)
        if not unsettled:
            assert max(now_ms, after.numbers[name].lawful_ms(1)) == max(now_ms, number.lawful_ms(1))
    threads = before.pools[POWERPACK].threads
    for recipient in RECIPIENTS:
        assert thread_of(after, recipient) == thread_of(before, recipient), recipient
    assert len(threads) == len(after.pools[POWERPACK].threads)


def seen(message: Message) -> tuple[object, ...]:
    """What must be the same of an open message. One that waits to be sent again is unknown again after a restart."""
    waits = message.phase in (Phase.WAITING, Phase.ASIDE) and not message.possible_duplicate
    return (
        message.request.source, message.request.powerpack_id, message.recipient, message.number, message.tier,
        message.request.text, message.request.segments,
        message.expires_ms, message.attempt, message.state, message.sequence, message.possible_duplicate or not waits,
    )  # fmt: skip


def thread_of(resolver: Resolver, recipient: E164) -> tuple[object, ...] | None:
    thread = resolver.pools[POWERPACK].threads.find(recipient)
    return (thread.number, thread.detour, thread.last_ms, thread.used) if thread is not None else None


async def test_an_empty_database_recovers_to_an_empty_resolver(restart: Restart) -> None:
    recovered, resolver = await restart()
    assert recovered == Recovered(0, 0, [], [], [], [])
    assert resolver.waiting == 0
    assert set(resolver.numbers) == set(NUMBERS)


async def test_messages_come_back_in_the_order_they_were_accepted(journal: Journal, restart: Restart) -> None:
    entries = [entry_of(count=3) for _ in range(4)]
    await store(journal, *entries[::-1])  # the first accepted was stored last
    _, resolver = await restart()
    queue = resolver.numbers[NUMBER].bulk
    assert queue is not None
    assert [each.message_id for each in queue] == [
        row.message_id for entry in reversed(entries) for row in entry.messages
    ]


ENDED: dict[str, list[tuple[FactKind, State | None]]] = {
    "sent": [(FactKind.SENT, None)],
    "reported sent": [(FactKind.REPORTED_SENT, None)],
    "delivered": [(FactKind.SENT, None), (FactKind.DELIVERED, State.DELIVERED)],
    "cancelled": [(FactKind.CANCELLED, State.FAILED)],
}


@pytest.mark.parametrize("name", ENDED)
async def test_what_was_sent_or_has_ended_does_not_come_back(journal: Journal, restart: Restart, name: str) -> None:
    open_, gone = entry_of(), entry_of()
    await store(journal, open_, gone, claimed(gone))
    for kind, state in ENDED[name]:
        entry = settled(gone, kind)
        if state is not None:
            entry.outcomes = [OutcomeRow(gone.messages[0].message_id, ACCOUNT, state, "", START_MS)]
        await store(journal, entry)
    _, resolver = await restart()
    assert set(resolver.open) == {open_.messages[0].message_id}


async def test_the_newest_instant_is_that_of_any_row(journal: Journal, restart: Restart) -> None:
    await store(journal, entry_of(accepted_ms=START_MS + 50))
    assert (await restart())[0].newest_ms == START_MS + 50


async def test_ids_go_on_behind_those_that_are_stored(journal: Journal, restart: Restart) -> None:
    """Ids of a long stretch are younger than its instant; none made by the next process may fall between them."""
    ids = SystemIds(lambda: START_MS + 7)
    await store(journal, entry_of(accepted_ms=START_MS, message_id=ids.new()))
    last = ids.new()
    await store(journal, entry_of(accepted_ms=START_MS, message_id=last))
    recovered, _ = await restart()
    assert SystemIds(lambda: recovered.newest_ms).new() > last


async def test_an_outage_of_weeks_hides_nothing_from_the_start_after_the_next(
    journal: Journal, restart: Restart
) -> None:
    """The first start stores facts of today and is killed before it has ended all that was left over."""
    ended, left = entry_of(), entry_of()
    await store(journal, ended, left)
    today_ms = START_MS + 20 * DAY_MS
    expired = settled(ended, FactKind.EXPIRED, attempt=0, at_ms=today_ms)
    expired.outcomes = [OutcomeRow(ended.messages[0].message_id, ACCOUNT, State.FAILED, "420", today_ms)]
    await store(journal, expired)
    recovered, resolver = await restart(now_ms=today_ms + 1)
    assert recovered.newest_ms == today_ms
    assert set(resolver.open) == {left.messages[0].message_id}


async def test_hand_overs_too_old_to_be_charged_again_still_count_for_a_limit_raised_later(
    journal: Journal, restart: Restart
) -> None:
    entry = entry_of()
    await store(journal, entry)
    facts = [
        settled(entry, FactKind.RETURNED, attempt=each, at_ms=START_MS + each * 120_000, charged=True).facts[0]
        for each in range(1, 401)
    ]
    await store(journal, Entry(facts=facts))
    newest_ms = START_MS + 400 * 120_000
    _, resolver = await restart(now_ms=newest_ms)
    number = resolver.numbers[NUMBER]
    assert len(times(resolver)) < 400
    resolver.put_number(replace(number.row, limits=Limits(1, 1_000, 150, 1_000)), now_ms=newest_ms)
    assert number.day_law is not None
    assert number.day_law.lawful_ms(1) > newest_ms  # how many there were is not known: in doubt, none may leave


@pytest.mark.parametrize("newer", ["another", SIMULATED])
async def test_a_number_that_changed_its_carrier_counts_what_it_was_last_handed(
    journal: Journal, restart: Restart, newer: str
) -> None:
    """One carrier's part of the hour alone fills what the windows remember, whichever of the two is read first."""
    entry, hour_ms = entry_of(), (START_MS // HOUR_MS + 1) * HOUR_MS
    await store(journal, entry)
    older = SIMULATED if newer != SIMULATED else "another"
    facts = [
        settled(entry, FactKind.RETURNED, attempt=each, at_ms=hour_ms + each * 2_000, charged=True).facts[0]
        for each in range(1, 801)
    ]
    facts = [fact._replace(carrier=older if place < 400 else newer) for place, fact in enumerate(facts)]
    await store(journal, Entry(facts=facts))
    newest_ms = hour_ms + 800 * 2_000
    _, resolver = await restart(now_ms=newest_ms)
    assert times(resolver)[-1] == newest_ms
    assert resolver.numbers[NUMBER].lawful_ms(1) > newest_ms


async def test_a_fact_can_be_the_newest(journal: Journal, restart: Restart) -> None:
    entry = entry_of()
    await store(journal, entry, settled(entry, FactKind.REBOUND, at_ms=START_MS + 77))
    recovered, resolver = await restart(now_ms=START_MS)
    assert recovered.newest_ms == START_MS + 77
    assert next(iter(resolver.open.values())).rebound_ms == START_MS + 77


async def test_a_thread_follows_what_was_decided_since_the_mark(
    journal: Journal, restart: Restart, with_catalog: Database
) -> None:
    """Older decisions are in the table, if they are anywhere."""
    async with with_catalog.side() as connection:
        await connection.execute("INSERT INTO sticky_mark (replay_from_ms) VALUES ($1)", START_MS)
    old = entry_of(recipient=RECIPIENTS[1], accepted_ms=START_MS - 1)
    decided, moved = entry_of(recipient=RECIPIENTS[2]), entry_of(recipient=RECIPIENTS[3])
    used = entry_of(recipient=RECIPIENTS[4])
    own = entry_of(recipient=RECIPIENTS[5], powerpack_id=None, tier=Tier.SOURCE)
    await store(journal, old, decided, moved, used, own, settled(own, FactKind.SENT))
    await store(
        journal,
        settled(moved, FactKind.REBOUND, attempt=0, handed_ms=None, number=OTHER_NUMBER, detail=Tier.AREA),
        settled(used, FactKind.RETURNED),
    )
    _, resolver = await restart()
    assert thread_of(resolver, RECIPIENTS[1]) is None
    assert thread_of(resolver, RECIPIENTS[2]) == (NUMBER, None, START_MS, False)
    assert thread_of(resolver, RECIPIENTS[3]) == (OTHER_NUMBER, None, START_MS, False)
    assert thread_of(resolver, RECIPIENTS[4]) == (NUMBER, None, START_MS, True)
    assert thread_of(resolver, RECIPIENTS[5]) is None  # it named its number


# --- In doubt ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("claimed_before_ms", "handed_ms"), [(60_000, 0), (2_000, CLAIM_GOOD_MS - 2_000)])
async def test_an_attempt_without_an_end_is_unknown_and_charged_as_late_as_it_can_have_been(
    journal: Journal, restart: Restart, with_catalog: Database, claimed_before_ms: int, handed_ms: int
) -> None:
    entry, now_ms = entry_of(count=2), START_MS + 100_000
    await store(journal, entry, claimed(entry, claimed_ms=now_ms - claimed_before_ms))
    recovered, resolver = await restart(now_ms=now_ms)
    assert [each.message_id for each in recovered.unknown] == [row.message_id for row in entry.messages]
    for message in recovered.unknown:
        assert message.phase is Phase.UNKNOWN
        assert message.possible_duplicate
        assert (message.attempt, message.retries, message.state) == (1, 1, State.QUEUED)
    assert times(resolver) == [now_ms + handed_ms] * 2
    assert resolver.links[SIMULATED].window.times == [now_ms + handed_ms] * 2


async def test_its_end_is_stored_so_that_the_next_start_finds_it(journal: Journal, restart: Restart) -> None:
    entry = entry_of()
    await store(journal, entry, claimed(entry))
    first, _ = await restart(now_ms=START_MS + 10_000)
    second, resolver = await restart(now_ms=START_MS + 500_000)
    assert [each.message_id for each in second.unknown] == [each.message_id for each in first.unknown]
    assert times(resolver) == [START_MS + 10_000]
    assert second.unknown[0].attempt == 1


async def test_settled_attempts_stay_as_they_are(journal: Journal, restart: Restart, with_catalog: Database) -> None:
    entry = entry_of(count=3)
    await store(journal, entry, claimed(entry), settled(entry, FactKind.RETURNED), claimed(entry, attempt=2))
    await store(journal, settled(entry, FactKind.SENT, attempt=2, charged=True))
    recovered, resolver = await restart()
    assert recovered.unknown == []
    assert times(resolver) == [START_MS] * 3


async def test_of_two_attempts_only_the_one_without_an_end_is_unknown(journal: Journal, restart: Restart) -> None:
    entry = entry_of()
    await store(journal, entry, claimed(entry), settled(entry, FactKind.RETURNED), claimed(entry, attempt=2))
    recovered, _ = await restart()
    assert [(each.attempt, each.phase) for each in recovered.unknown] == [(2, Phase.UNKNOWN)]


async def test_the_claims_number_is_the_truth_where_the_rebinding_was_lost(journal: Journal, restart: Restart) -> None:
    entry = entry_of()
    await store(journal, entry, claimed(entry, number=OTHER_NUMBER))
    recovered, resolver = await restart(now_ms=START_MS + 10_000)
    assert recovered.unknown[0].number == OTHER_NUMBER
    assert times(resolver, OTHER_NUMBER) == [START_MS + 10_000]
    assert times(resolver) == []


async def test_a_message_that_was_decided_again_waits_at_its_new_number(journal: Journal, restart: Restart) -> None:
    entry = entry_of()
    await store(journal, entry)
    await store(
        journal, settled(entry, FactKind.REBOUND, attempt=0, handed_ms=None, number=OTHER_NUMBER, detail=Tier.COUNTRY)
    )
    _, resolver = await restart()
    (message,) = resolver.open.values()
    assert (message.number, message.tier) == (OTHER_NUMBER, Tier.COUNTRY)


async def test_hand_overs_of_more_than_a_day_ago_count_no_more(journal: Journal, restart: Restart) -> None:
    old, new = entry_of(), entry_of()
    await store(journal, old, settled(old, FactKind.SENT, charged=True, at_ms=START_MS - 2 * DAY_MS))
    await store(journal, new, settled(new, FactKind.SENT, charged=True), entry_of())
    _, resolver = await restart()
    assert times(resolver) == [START_MS]


async def test_what_was_given_back_is_not_charged(journal: Journal, restart: Restart) -> None:
    entry = entry_of(count=2)
    await store(journal, entry, claimed(entry), settled(entry, FactKind.RETURNED, charged=False))
    _, resolver = await restart()
    assert times(resolver) == []
    assert {each.attempt for each in resolver.open.values()} == {1}


async def test_only_the_latest_hand_overs_of_a_number_are_brought_back(journal: Journal, restart: Restart) -> None:
    entries = [entry_of() for _ in range(400)]
    rows = Entry(messages=[row for entry in entries for row in entry.messages])
    facts = [
        fact_row(row.message_id, FactKind.SENT, attempt=1, handed_ms=START_MS - place * 300_000, number=NUMBER,
                 at_ms=START_MS, charged=True)
        for place, row in enumerate(rows.messages)
    ]  # fmt: skip
    await store(journal, rows, Entry(facts=facts))
    _, resolver = await restart()
    keep = resolver.numbers[NUMBER].day.keep  # type: ignore[union-attr]
    assert times(resolver)[-keep:] == [START_MS - place * 300_000 for place in range(keep)][::-1]
    assert len(times(resolver)) < keep + 12, "and the rest of their hour"


# --- Rows that cannot be taken back -----------------------------------------------------------------------------------


async def test_a_row_that_cannot_be_a_message_is_set_aside(
    journal: Journal, restart: Restart, with_catalog: Database
) -> None:
    good, bad_tier, no_body = entry_of(), entry_of(tier="nowhere"), entry_of()
    no_body.bodies = []
    await store(journal, good, bad_tier, no_body)
    recovered, resolver = await restart()
    assert set(resolver.open) == {good.messages[0].message_id}
    assert recovered.quarantined == [Quarantined(bad_tier.messages[0].message_id, "'nowhere' is not a valid Tier")]
    assert [each.message_id for each in recovered.lost] == [no_body.messages[0].message_id], "it is to be ended"
    assert recovered.restored == 1


async def test_what_somebody_wants_stopped_is_known_to_the_next_process(journal: Journal, restart: Restart) -> None:
    asked, other = entry_of(), entry_of()
    await store(journal, asked, claimed(asked), settled(asked, FactKind.CANCEL_ASKED, attempt=0, handed_ms=None), other)
    recovered, resolver = await restart()
    (message,) = recovered.unknown
    assert (message.message_id, message.cancelled) == (asked.messages[0].message_id, True)
    assert not resolver.open[other.messages[0].message_id].cancelled


async def test_messages_of_a_powerpack_that_is_gone_are_named(journal: Journal, restart: Restart) -> None:
    entry = entry_of(powerpack_id=IDS.new())
    await store(journal, entry)
    recovered, resolver = await restart()
    assert [each.message_id for each in recovered.powerpack_gone] == [entry.messages[0].message_id]
    assert resolver.waiting == 1


async def test_a_message_that_named_its_number_waits_there_again_or_has_nobody_left(
    journal: Journal, restart: Restart
) -> None:
    own, lost = (entry_of(powerpack_id=None, tier=Tier.SOURCE, number=each) for each in (NUMBER, E164("+19995550100")))
    await store(journal, own, lost)
    recovered, resolver = await restart()
    assert recovered.powerpack_gone == []
    message = resolver.open[own.messages[0].message_id]
    assert (message.request.source, message.request.powerpack_id, message.number) == (NUMBER, "", NUMBER)
    assert resolver.numbers[NUMBER].own_messages == 1
    now_ms = recovered.newest_ms
    ((moved, found),) = resolver.rebind(now_ms=now_ms, chance=0.5, most=10)
    assert isinstance(found, Refusal)
    assert (moved.message_id, found.code) == (lost.messages[0].message_id, RefusalCode.NO_NUMBER)
    assert resolver.release(SIMULATED, now_ms=now_ms, until_ms=now_ms + 100, places=5) == [message]


async def test_a_process_without_the_epoch_changes_nothing(
    journal: Journal, with_catalog: Database, database_url: str
) -> None:
    entry = entry_of()
    await store(journal, entry, claimed(entry))
    async with with_catalog.side() as connection:
        await connection.execute("UPDATE lease SET epoch = epoch + 1")
        with pytest.raises(EpochLost):
            await recover(with_catalog, catalog_rows(), Resolver(), now_ms=START_MS, links=LINKS)
        assert await connection.fetchval("SELECT count(*) FROM facts") == 0


async def test_a_catalog_without_numbers_still_recovers(journal: Journal, with_catalog: Database) -> None:
    entry = entry_of()
    await store(journal, entry, claimed(entry))
    resolver = Resolver()
    rows = CatalogRows([], [], [], [])
    recovered = await recover(with_catalog, rows, resolver, now_ms=START_MS, links={})
    assert len(recovered.unknown) == 1
