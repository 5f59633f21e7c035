"""A PostgreSQL that is slow, and one that others crowd: rows 15, 18 and 19 of the fault catalogue."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import asyncpg
import orjson
import pytest

from tests.acceptance.faults.surroundings import AWAY_CODES, OwnServer, plan
from tests.acceptance.faults.timeline import Timeline, timeline, wait_for_accepted
from tests.acceptance.kill.harness import Run, strike_and_check

COMMIT_S = 0.2
STEADY_S = 3.0
LISTS, RECIPIENTS_EACH = 60, 60  # of a flood: 3,600 rows and more at once, where 1,000 may wait
SLACK_MS = 150.0  # of two busy cores
LOCK_SIDE_TABLES = """
    LOCK TABLE accounts, applications, powerpacks, numbers, sticky, sticky_mark IN ACCESS EXCLUSIVE MODE
"""
LOCK_ROWS = "SELECT * FROM lease FOR UPDATE"
LOOK_AT_ALL = "SELECT count(*) FROM messages, facts WHERE false"
CROWDED_S = 4.0
HELD_S_MAX = 2.0
RESUMES_S_MAX = 2.0
ANSWER_S_MAX = 6.0
ACCEPT_MS_MAX = 500.0
CONNECTIONS_MAX = 16
TAKEN_S_MAX = 5.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


async def test_what_others_do_on_the_server_does_not_stop_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """They lock what they can and forget a transaction, then take all connections, then the journal's too."""
    server = OwnServer(max_connections=str(CONNECTIONS_MAX))
    found: list[Timeline] = []
    edits: list[tuple[int, float]] = []
    resumed: list[float] = []

    async def lock(run: Run) -> None:
        await asyncio.sleep(0.5)
        async with AsyncExitStack() as stack:
            for statements in ((LOCK_SIDE_TABLES,), (LOCK_ROWS, LOOK_AT_ALL)):
                connection = await run.wait_for_database()
                stack.callback(connection.terminate)
                await connection.execute("BEGIN")
                for statement in statements:
                    await connection.execute(statement)
            await watch(run)
        edits.append(await make_powerpack(run, "afterwards"))

    async def watch(run: Run) -> None:
        """Accepting, and an edit, while it lasts."""
        began_s = time.monotonic()
        edits.append(await make_powerpack(run, f"edit {len(edits)}"))
        await asyncio.sleep(max(0.0, began_s + CROWDED_S - time.monotonic()))
        found.append(timeline(run).begun(began_s, time.monotonic() - 0.5))

    async def take_all(run: Run) -> None:
        await asyncio.sleep(0.5)
        taken: list[asyncpg.Connection] = []
        try:
            await take_the_rest(server, taken)
            await watch(run)
            server.proxy.go_away()  # now the journal must come back, and others are quicker
            await take_the_rest(server, taken)
            server.proxy.come_back()
            began_s = time.monotonic()
            await asyncio.sleep(HELD_S_MAX + 1.5)
            found.append(timeline(run).begun(began_s + HELD_S_MAX + 0.7, time.monotonic()))
        finally:
            for connection in taken:
                connection.terminate()
        free_s = time.monotonic()
        resumed.append(await wait_for_accepted(run, free_s) - free_s)

    outcome = await strike_and_check(plan(18, server), [lock, take_all])
    locked, crowded, shut_out = found
    with capsys.disabled():
        print(
            f"\n{outcome.summary}\nedits: {edits}; shut out: {dict(shut_out.codes)}, resumed after {resumed[0]:.2f} s"
        )
        print(
            f"p99 with locks {locked.took_ms(0.99):.0f} ms, with all connections taken {crowded.took_ms(0.99):.0f} ms"
        )
    assert outcome.is_clean, str(outcome)
    for tries in (locked, crowded):
        assert set(tries.kinds) == {"accepted"}, "the way of a message touches nothing that can be locked or taken"
        assert tries.took_ms(0.99) < ACCEPT_MS_MAX
    assert [status for status, _ in edits][:2] == [503, 200], "an edit that finds its table locked is told so"
    assert edits[2][0] in (200, 503), "there may be a connection left for it"
    assert max(took_s for _, took_s in edits) < ANSWER_S_MAX, "and does not hang"
    assert shut_out.tries
    assert set(shut_out.codes) <= AWAY_CODES
    assert not timeline_of(found).without_retry_after()
    assert resumed[0] < RESUMES_S_MAX


def timeline_of(found: list[Timeline]) -> Timeline:
    return Timeline([each for timeline in found for each in timeline.tries])


async def make_powerpack(run: Run, name: str) -> tuple[int, float]:
    """An edit of the catalog: its status, and how long it took in seconds."""
    began_s, url = time.monotonic(), run.world.account.url.replace("/Message/", "/Powerpack/")
    async with run.ledger.session() as session, session.post(url, data=orjson.dumps({"name": name})) as answer:
        await answer.read()
        return answer.status, time.monotonic() - began_s


async def take_the_rest(server: OwnServer, taken: list[asyncpg.Connection]) -> None:
    """Connect until the server lets nobody in."""
    until_s = time.monotonic() + TAKEN_S_MAX
    while time.monotonic() < until_s:
        try:
            taken.append(await asyncpg.connect(server.cluster.url()))
        except asyncpg.TooManyConnectionsError:
            if len(taken) >= CONNECTIONS_MAX // 2:
                return
            await asyncio.sleep(0.01)  # those that were cut are still ending
    raise AssertionError("somebody is always let in")


async def test_slow_commits_make_larger_batches_and_a_flood_is_shed(capsys: pytest.CaptureFixture[str]) -> None:
    server = OwnServer()
    found: dict[str, tuple[Timeline, float]] = {}

    async def measure(run: Run, name: str) -> None:
        began_s, commits = time.monotonic(), server.proxy.commits
        await asyncio.sleep(STEADY_S)
        tries = timeline(run).begun(began_s, time.monotonic() - 2 * COMMIT_S - 0.2)
        accepted = len(tries.of_kind("accepted").tries)
        found[name] = tries, accepted / max(1, server.proxy.commits - commits)

    async def slow_down(run: Run) -> None:
        await asyncio.sleep(0.5)
        await measure(run, "quick")
        server.proxy.commit_s = COMMIT_S
        await asyncio.sleep(1.0)
        await measure(run, "slow")
        began_s = time.monotonic()
        await run.ledger.flood(LISTS, RECIPIENTS_EACH)
        found["flood"] = timeline(run).begun(began_s, time.monotonic()), 0.0
        server.proxy.commit_s = 0.0
        await asyncio.sleep(1.0)
        began_s = time.monotonic()
        await asyncio.sleep(1.0)
        found["after"] = timeline(run).begun(began_s, time.monotonic()), 0.0

    extra = {"SENDPOOL_JOURNAL_WAITING_ROWS_MAX": "1000"}
    outcome = await strike_and_check(plan(15, server, extra=extra), [slow_down])
    quick, slow, flood, after = (found[name] for name in ("quick", "slow", "flood", "after"))
    with capsys.disabled():
        print(f"\n{outcome.summary}")
        for name, (tries, each) in found.items():
            accepted = tries.of_kind("accepted")
            print(
                f"{name}: {len(accepted.tries)} accepted, p50 {accepted.took_ms(0.5):.0f} p99 "
                f"{accepted.took_ms(0.99):.0f} ms, {each:.2f} a commit; {dict(tries.codes)}"
            )
    assert outcome.is_clean, str(outcome)
    assert slow[1] > 1.5 * quick[1], "batches grow"
    usual_ms = quick[0].of_kind("accepted").took_ms(0.99)
    assert slow[0].of_kind("accepted").took_ms(0.99) < usual_ms + 2 * COMMIT_S * 1_000 + SLACK_MS, "about two commits"
    assert set(slow[0].kinds) == {"accepted"}, "nothing is refused as long as it fits"
    shed = Timeline([each for each in flood[0].tries if each.code == "overloaded"])
    assert shed.tries, "what does not fit is refused"
    assert set(flood[0].codes) <= {"503 overloaded"}
    assert not flood[0].without_retry_after()
    assert set(after[0].kinds) == {"accepted"}
