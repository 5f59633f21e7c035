"""As much waits as may wait: more is refused aloud, what waits leaves, and then more is taken. Row 73."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.acceptance.faults.surroundings import plan
from tests.acceptance.faults.timeline import Timeline, timeline, wait_for_accepted
from tests.acceptance.kill.harness import Run, strike_and_check
from tests.acceptance.kill.ledger import Manner

WAITING_MAX = 150
MANNER = Manner(clients=10, pause_s=0.05, lists=0.3, urgent=0.0, expiry_s=(5, 8))
FULL_S = 3.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


async def test_a_full_queue_refuses_aloud_and_takes_more_when_it_has_drained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: list[Timeline] = []
    waiting: list[float] = []

    async def fill(run: Run) -> None:
        began_s = time.monotonic()
        while time.monotonic() < began_s + FULL_S:
            waiting.append(await read_waiting(run))
            await asyncio.sleep(0.05)
        found.append(timeline(run).begun(began_s, time.monotonic()))
        await wait_for_accepted(run, time.monotonic())

    extra = {"SENDPOOL_LIMITS_WAITING_MAX": str(WAITING_MAX)}
    outcome = await strike_and_check(plan(73, manner=MANNER, extra=extra), [fill])
    (tries,) = found
    refused = Timeline([each for each in tries.tries if each.code == "overloaded"])
    with capsys.disabled():
        print(f"\n{outcome.summary}\nup to {max(waiting):.0f} waited; {dict(tries.kinds)} {dict(tries.codes)}")
    assert outcome.is_clean, str(outcome)
    assert max(waiting) <= WAITING_MAX, "the bound is kept"
    assert max(waiting) > 0.8 * WAITING_MAX, "and reached"
    assert refused.tries
    assert set(tries.codes) <= {"503 overloaded"}, "nothing is dropped without a word"
    assert not tries.without_retry_after()
    assert tries.kinds["accepted"] > 0


async def read_waiting(run: Run) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{run.world.base_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    (line,) = (each for each in lines if each.startswith("gateway_waiting_messages "))
    return float(line.split()[1])
