"""The journal against a server that is killed, cut off, silent, locked, unsafe or taken over, under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from storage.backlog import JournalLimits
from storage.database import Database
from storage.embedded import embedded_server
from storage.journal import Journal
from storage.records import EpochLost, FactKind, JournalFull, JournalUnavailable, OutcomeUnknown, Settled
from tests.contract.journal_worlds import QUICK, wall_ms
from tests.fakes.entries import NOW_MS, fact_entry, new_id, request_entry
from tests.fakes.proxy import Fate, Proxy, proxied

SLOW_S = 10


class Ledger:
    """Appends facts, one per message, and keeps what it was told about each: the truth, and what its waiter heard."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.truth: dict[str, Settled] = {}
        self.told: dict[str, str] = {}
        self.appended = 0
        self.refused = 0

    async def append(self) -> None:
        message_id = new_id()

        def hear(settled: Settled) -> None:
            assert message_id not in self.truth, "told twice"
            self.truth[message_id] = settled

        try:
            future = self.journal.append(fact_entry(message_id), hear)
        except (JournalUnavailable, JournalFull):
            self.refused += 1
            await asyncio.sleep(0.005)
            return
        self.appended += 1
        try:
            self.told[message_id] = await future
        except (OutcomeUnknown, EpochLost) as error:
            self.told[message_id] = type(error).__name__

    async def load(self, stop: asyncio.Event, clients: int = 8) -> None:
        async def client() -> None:
            while not stop.is_set():
                await self.append()

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())

    async def check(self, database: Database) -> None:
        """What was told is what is stored, and nothing is stored twice."""
        async with asyncio.timeout(SLOW_S):
            while len(self.truth) < self.appended:
                await asyncio.sleep(0.01)
        async with database.side() as connection:
            stored = Counter(str(row[0]) for row in await connection.fetch("SELECT message_id FROM facts"))
        assert max(stored.values()) == 1
        assert {each for each, settled in self.truth.items() if settled is Settled.COMMITTED} == set(stored)
        for message_id, told in self.told.items():
            assert told == self.truth[message_id] or told in ("OutcomeUnknown", "EpochLost"), told


async def running_journal(stack: AsyncExitStack, url: str, limits: JournalLimits = QUICK) -> tuple[Journal, Database]:
    database = await Database.open(url)
    stack.push_async_callback(database.close)
    await database.take_over(owner="the test", now_ms=NOW_MS, force=True)
    journal = Journal(database, clock=wall_ms, limits=limits)
    await stack.enter_async_context(journal)
    return journal, database


async def run_until(work: asyncio.Task[None], stop: asyncio.Event) -> None:
    stop.set()
    await asyncio.wait_for(work, SLOW_S)


# --- Killed ----------------------------------------------------------------------------------------------------------


async def test_a_killed_server_loses_nothing_that_was_answered() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp")))
        server = await stack.enter_async_context(embedded_server(folder))
        first = await Database.open(server.url)
        await first.migrate()
        await first.close()
        journal, database = await running_journal(stack, server.url, replace(QUICK, unknown_ms_max=4_000))
        ledger, stop = Ledger(journal), asyncio.Event()
        work = asyncio.create_task(ledger.load(stop))
        chance = random.Random(7)
        for _ in range(3):
            await asyncio.sleep(chance.uniform(0.05, 0.3))
            os.kill(postmaster_pid(folder), signal.SIGKILL)
            async with asyncio.timeout(SLOW_S):
                while journal.ready:
                    await asyncio.sleep(0.005)
            assert await journal.wait_ready(SLOW_S * 1_000)
        await asyncio.sleep(0.1)
        await run_until(work, stop)
        await ledger.check(database)
        assert Counter(ledger.truth.values())[Settled.COMMITTED] > 100


def postmaster_pid(folder: Path) -> int:
    (pid_file,) = folder.rglob("postmaster.pid")
    return int(pid_file.read_text().split("\n", 1)[0])


# --- Cut -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_becomes_of_commits_everybody_hears_the_truth(database_url: str, seed: int) -> None:
    """Cuts before COMMIT, after it, processes left behind and whole outages, in any order, under load."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(database_url))
        journal, _ = await running_journal(stack, proxy.url, replace(QUICK, unknown_ms_max=200))
        direct = await Database.open(database_url)
        stack.push_async_callback(direct.close)
        ledger, stop = Ledger(journal), asyncio.Event()
        work = asyncio.create_task(ledger.load(stop))
        for turn in range(25):
            await next_commits(proxy, chance.randint(1, 6))
            proxy.leaves_with_fate = turn % 3 == 0
            proxy.fates.append(chance.choice([Fate.NOT_SENT, Fate.ANSWER_LOST, Fate.SERVER_HELD]))
            await next_commits(proxy, 1)
            if turn % 3 == 0:
                await asyncio.sleep(0.02 if turn % 2 else 0.3)
                proxy.come_back()
            elif turn % 3 == 1:
                proxy.cut()
        await run_until(work, stop)
        await ledger.check(direct)
        truths = Counter(ledger.truth.values())
        assert truths[Settled.COMMITTED] > 100
        assert truths[Settled.FAILED] or "OutcomeUnknown" in ledger.told.values(), "no outage was long enough"


async def next_commits(proxy: Proxy, count: int) -> None:
    until = proxy.commits + count
    async with asyncio.timeout(SLOW_S):
        while proxy.commits < until:
            await asyncio.sleep(0.001)


async def test_terminated_sessions_are_made_again(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        journal, database = await running_journal(stack, database_url)
        ledger, stop = Ledger(journal), asyncio.Event()
        work = asyncio.create_task(ledger.load(stop))
        for _ in range(10):
            await asyncio.sleep(0.02)
            async with database.side() as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'sendpool:1' AND pid <> pg_backend_pid() AND query ~ 'COPY|COMMIT|BEGIN'"
                )
        await run_until(work, stop)
        await ledger.check(database)


# --- Silent ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_never_answers_is_left_and_asked_again(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(database_url))
        limits = replace(QUICK, unknown_ms_max=100, statement_ms_max=300)
        journal, _ = await running_journal(stack, proxy.url, limits)
        heard: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        proxy.fates.append(Fate.SILENT)
        future = journal.append(request_entry(), heard.set_result)
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(future, SLOW_S)
        assert await asyncio.wait_for(heard, SLOW_S) is Settled.COMMITTED


async def test_a_black_hole_is_noticed_and_refused_until_it_ends(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(database_url))
        journal, _ = await running_journal(stack, proxy.url, replace(QUICK, unknown_ms_max=400, stall_ms_max=100))
        direct = await Database.open(database_url)
        stack.push_async_callback(direct.close)
        ledger = Ledger(journal)
        await ledger.append()
        proxy.flows.clear()
        began_ms = wall_ms()
        waiting = []
        async with asyncio.timeout(SLOW_S):
            while journal.ready:
                waiting.append(asyncio.create_task(ledger.append()))
                await asyncio.sleep(0.005)
        with pytest.raises(JournalUnavailable):
            _ = journal.append(request_entry())
        assert journal.away_ms(wall_ms()) >= 90
        await asyncio.wait_for(asyncio.gather(*waiting), SLOW_S)
        assert wall_ms() - began_ms < 5_000, "answers are held no longer than they may be"
        proxy.flows.set()
        assert await journal.wait_ready(SLOW_S * 1_000)
        await ledger.append()
        await ledger.check(direct)


async def test_a_locked_table_fails_its_batch_and_nothing_else(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        journal, _ = await running_journal(
            stack, database_url, replace(QUICK, unknown_ms_max=9_000, statement_ms_max=9_000)
        )
        blocker = await asyncpg.connect(database_url)
        stack.push_async_callback(blocker.close)
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("LOCK TABLE bodies IN ACCESS EXCLUSIVE MODE")
        blocked = journal.append(request_entry())
        while await sessions_waiting_for_locks(database_url) == 0:
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(journal.append(fact_entry(new_id())), SLOW_S) is Settled.COMMITTED
        assert await asyncio.wait_for(blocked, SLOW_S) is Settled.FAILED
        await transaction.rollback()
        assert await journal.append(request_entry()) is Settled.COMMITTED
        assert await blocker.fetchval("SELECT count(*) FROM messages") == 1


async def test_what_was_told_to_have_failed_is_not_stored_when_the_server_goes_on(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        journal, _ = await running_journal(stack, database_url, replace(QUICK, unknown_ms_max=200))
        blocker = await asyncpg.connect(database_url)
        stack.push_async_callback(blocker.close)
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        assert await asyncio.wait_for(journal.append(request_entry()), SLOW_S) is Settled.FAILED
        await transaction.rollback()
        assert await journal.append(fact_entry(new_id())) is Settled.COMMITTED
        assert await journal.append(fact_entry(new_id())) is Settled.COMMITTED
        assert await blocker.fetchval("SELECT count(*) FROM messages") == 0


async def sessions_waiting_for_locks(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
    finally:
        await connection.close()


async def test_a_server_that_became_unsafe_is_not_used_again(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(database_url))
        journal, _ = await running_journal(stack, proxy.url)
        plain = await asyncpg.connect(database_url)
        stack.push_async_callback(plain.close)
        name = await plain.fetchval("SELECT current_database()")
        await plain.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        proxy.cut()
        async with asyncio.timeout(SLOW_S):
            while journal.ready:
                await asyncio.sleep(0.005)
        assert not await journal.wait_ready(300)
        await plain.execute(f'ALTER DATABASE "{name}" RESET synchronous_commit')
        assert await journal.wait_ready(SLOW_S * 1_000)


async def test_a_mistake_of_ours_ends_the_journal_loudly(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        journal, _ = await running_journal(stack, database_url)

        def fail(_: Settled) -> None:
            raise ZeroDivisionError

        _ = journal.append(fact_entry(new_id()), fail)
        await asyncio.wait_for(journal.lost.wait(), SLOW_S)
        assert isinstance(journal.lost_reason, ZeroDivisionError)
        assert journal.owns_epoch
        with pytest.raises(JournalUnavailable):
            _ = journal.append(fact_entry(new_id()))


async def test_stopping_while_the_database_is_away_leaves_nobody_waiting(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(database_url))
        journal, _ = await running_journal(stack, proxy.url)
        proxy.fates.append(Fate.SERVER_HELD)
        proxy.leaves_with_fate = True
        unknown = journal.append(request_entry(key="k"))
        same_key = journal.append(request_entry(key="k"))
        await next_commits(proxy, 1)
        await asyncio.wait_for(journal.stop(), SLOW_S)
        with pytest.raises(OutcomeUnknown):
            await unknown
        assert await same_key is Settled.FAILED


# --- Taken over ------------------------------------------------------------------------------------------------------


async def test_a_new_owner_ends_the_old_one_under_load(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        old, _ = await running_journal(stack, database_url)
        ledger, stop = Ledger(old), asyncio.Event()

        async def load() -> None:
            try:
                await ledger.load(stop)
            except* EpochLost:
                stop.set()

        work = asyncio.create_task(load())
        await asyncio.sleep(0.1)
        database = await Database.open(database_url)
        stack.push_async_callback(database.close)
        await database.take_over(owner="the next", now_ms=NOW_MS, force=True)
        async with database.side() as connection:
            stored = await connection.fetchval("SELECT count(*) FROM facts")
        await asyncio.wait_for(old.lost.wait(), SLOW_S)
        await asyncio.wait_for(work, SLOW_S)
        async with database.side() as connection:
            assert await connection.fetchval("SELECT count(*) FROM facts") == stored, "an old epoch wrote"
            ids = {str(row[0]) for row in await connection.fetch("SELECT message_id FROM facts")}
        assert {each for each, told in ledger.told.items() if told == Settled.COMMITTED} <= ids
        assert not {each for each, truth in ledger.truth.items() if truth is Settled.FAILED} & ids
        async with Journal(database, clock=wall_ms) as journal:
            assert await journal.append(fact_entry(new_id(), FactKind.SENT)) is Settled.COMMITTED
