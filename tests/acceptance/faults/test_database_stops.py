"""PostgreSQL stopped, restarted, cut off and away for long under load: what clients, carriers and memory see of it.

Rows 11 to 14 of the fault catalogue in docs/testing-faults.md. `SENDPOOL_TEST_AWAY_S=60` makes the outages longer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import NamedTuple

import pytest

from tests.acceptance.faults.surroundings import AWAY_CODES, OwnServer, plan
from tests.acceptance.faults.timeline import Timeline, hand_overs, resident_mib, timeline, wait_for_accepted
from tests.acceptance.kill.harness import Run, strike_and_check
from tests.fakes.proxy import Fate

AWAY_S = float(os.environ.get("SENDPOOL_TEST_AWAY_S", "8"))
STEADY_S = 2.0
HELD_S_MAX = 2.0
UNKNOWN_S_MAX = 4.0
RESUMES_S_MAX = 1.0
REFUSED_MS_MAX = 50.0
FULL_SPEED_S_MAX = 3.0  # and then it is measured, so within five
AWAY_LEAVES_S_MAX = 5.0
GROWN_MIB_MAX = 32.0
SLACK_S = 0.7  # of two busy cores

pytestmark = [pytest.mark.faults, pytest.mark.alone, pytest.mark.timeout(180 + 4 * AWAY_S)]


class Stop(NamedTuple):
    """One absence; instants are monotonic seconds."""

    began_s: float
    ready_s: float  # it could be connected to again
    accepted_s: float  # the first 202 to who asked after `ready_s`


def say(capsys: pytest.CaptureFixture[str], *lines: object) -> None:
    with capsys.disabled():
        print("", *lines, sep="\n")


async def test_a_server_that_stops_or_cuts_is_waited_for_then_refused_and_resumed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An immediate stop (SIGQUIT) and a fast restart (SIGINT), soon over and after a while; then cuts around COMMIT.

    The kill test cuts at random (points.py, `cuts`); here each way of it in turn, with the server away or not.
    """
    server, stops = OwnServer(), list[Stop]()
    seen: list[Timeline] = []

    async def stop(run: Run, sign: signal.Signals, away_s: float) -> None:
        await asyncio.sleep(1.0)
        began_s = time.monotonic()
        await server.stop(sign)
        await asyncio.sleep(away_s)
        ready_s = await server.start()
        stops.append(Stop(began_s, ready_s, await wait_for_accepted(run, ready_s)))
        seen.append(timeline(run).begun(began_s - 0.2, ready_s))

    async def stop_at_once(run: Run) -> None:
        await stop(run, signal.SIGQUIT, 0.0)

    async def restart_fast(run: Run) -> None:
        await stop(run, signal.SIGINT, 0.0)

    async def stay_away(run: Run) -> None:
        await stop(run, signal.SIGQUIT, UNKNOWN_S_MAX)

    async def cut_commits(run: Run) -> None:
        proxy, fates = server.proxy, (Fate.NOT_SENT, Fate.ANSWER_LOST, Fate.SERVER_HELD, Fate.LATE)
        for turn, fate in enumerate(fates * 3):
            proxy.leaves_with_fate = turn // 4 == 1  # the second time the server is away from then on
            proxy.fates.append(fate)
            async with asyncio.timeout(10):
                while proxy.fates:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.25)
            proxy.come_back()
            await asyncio.sleep(0.1)
        proxy.fates.append(Fate.SILENT)
        await asyncio.sleep(0.5)
        await wait_for_accepted(run, time.monotonic())

    strikes = [stop_at_once, restart_fast, stop_at_once, restart_fast, stay_away, cut_commits]
    outcome = await strike_and_check(plan(11, server), strikes)
    say(capsys, outcome.summary, *stops, [dict(each.kinds) for each in seen])
    assert outcome.is_clean, str(outcome)
    for each, tries in zip(stops, seen, strict=True):
        assert each.accepted_s - each.ready_s < RESUMES_S_MAX + SLACK_S, "it resumes by itself"
        assert not tries.without_retry_after()
        held = tries.begun(each.began_s - 0.2, each.began_s)
        assert held.took_ms(1.0) < (UNKNOWN_S_MAX + SLACK_S) * 1_000, "nobody waits longer for an unknown commit"
    away, tries = stops[-1], seen[-1]
    first = tries.begun(away.began_s - 0.1, away.began_s + HELD_S_MAX - 0.5).of_kind("refused")
    assert first.tries
    assert first.took_ms(1.0) < (UNKNOWN_S_MAX + SLACK_S) * 1_000, "those whose commit is unknown for four seconds"
    assert 200 < first.took_ms(0.5) < (HELD_S_MAX + SLACK_S) * 1_000, "others are held for two, not refused at once"
    later = tries.begun(away.began_s + HELD_S_MAX + SLACK_S, away.ready_s - 0.1)
    assert later.tries
    assert set(later.codes) <= AWAY_CODES


class Away(NamedTuple):
    """What an outage looked like."""

    how: str
    began_s: float
    back_s: float
    accepted_s: float
    memory_mib: tuple[float, float]
    acknowledged: tuple[float, float]  # reports, from where the breaker is open to the end


async def test_a_long_absence_is_refused_quickly_and_nothing_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    """Once the server is gone, once its network swallows everything."""
    server, found, lines = OwnServer(), list[Away](), list[str]()

    async def go_away(run: Run, how: str) -> None:
        await asyncio.sleep(STEADY_S + 0.5)
        memory_mib, began_s = resident_mib(run.gateway.process.pid), time.monotonic()
        if how == "stopped":
            await server.stop(signal.SIGQUIT)
        else:
            server.proxy.flows.clear()
        await asyncio.sleep(HELD_S_MAX + SLACK_S)
        acknowledged = (await run.witness.status())["acknowledged"]
        await asyncio.sleep(max(0.0, began_s + AWAY_S - time.monotonic()))
        acknowledged_after = (await run.witness.status())["acknowledged"]
        memory_after_mib = resident_mib(run.gateway.process.pid)
        if how == "stopped":
            back_s = await server.start()
        else:
            back_s = time.monotonic()
            server.proxy.flows.set()
        accepted_s = await wait_for_accepted(run, back_s)
        await asyncio.sleep(max(0.0, back_s + FULL_SPEED_S_MAX + STEADY_S - time.monotonic()))
        marks = (memory_mib, memory_after_mib), (acknowledged, acknowledged_after)
        found.append(Away(how, began_s, back_s, accepted_s, *marks))

    async def stop(run: Run) -> None:
        await go_away(run, "stopped")
        lines.append(judge_absence(run, found[-1]))

    async def swallow(run: Run) -> None:
        await go_away(run, "black hole")
        lines.append(judge_absence(run, found[-1]))

    outcome = await strike_and_check(plan(13, server), [stop, swallow])
    say(capsys, outcome.summary, *lines)
    assert outcome.is_clean, str(outcome)


def judge_absence(run: Run, away: Away) -> str:
    """Hold an absence to what is promised of it; what is to be said of it."""
    tries, since_s = timeline(run), away.back_s + FULL_SPEED_S_MAX
    refused = tries.begun(away.began_s + HELD_S_MAX + SLACK_S, away.back_s - 0.1)
    before = tries.accepted_per_s(away.began_s - STEADY_S, away.began_s)
    after = tries.accepted_per_s(since_s, since_s + STEADY_S)
    left_before = hand_overs(run, away.began_s - STEADY_S, away.began_s)
    left_late = hand_overs(run, away.began_s + AWAY_LEAVES_S_MAX + SLACK_S, away.back_s)
    left_after = hand_overs(run, since_s, since_s + STEADY_S)
    said = (
        f"{away.how}: {len(refused.tries)} refused, {dict(refused.codes)}, p50 {refused.took_ms(0.5):.1f} p99 "
        f"{refused.took_ms(0.99):.1f} max {refused.took_ms(1.0):.1f} ms; memory {away.memory_mib} MiB; accepted again "
        f"after {away.accepted_s - away.back_s:.2f} s, {before:.0f}/s before, {after:.0f}/s after; hand-overs in "
        f"{STEADY_S:g} s: {left_before} before, {left_late} late in it, {left_after} after"
    )
    assert set(refused.codes) <= AWAY_CODES, said
    assert refused.codes["503 storage_unavailable"] > 50, said
    assert "accepted" not in refused.kinds, said
    assert refused.took_ms(0.99) < REFUSED_MS_MAX, said
    assert not tries.without_retry_after(), said
    assert away.memory_mib[1] - away.memory_mib[0] < GROWN_MIB_MAX, said
    assert away.acknowledged[0] == away.acknowledged[1], f"a report was acknowledged and not stored; {said}"
    assert left_before > 0, said
    assert left_late == 0, f"what was claimed may leave for five seconds, and nothing else; {said}"
    assert away.accepted_s - away.back_s < FULL_SPEED_S_MAX, said
    assert after > 0.75 * before, said
    assert left_after > 0.5 * left_before, said
    return said
