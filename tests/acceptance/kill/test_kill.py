"""The kill test: kill -9 under load, again and again, and then the check of everything that was promised.

`make kill-test CYCLES=1000` runs more of it; docs/testing-kill.md says what it does and how to read a failure.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.acceptance.kill.checker import Law
from tests.acceptance.kill.harness import Outcome, Plan, Strike, strike_and_check
from tests.acceptance.kill.ledger import Manner
from tests.acceptance.kill.strikes import (
    drain_gateway,
    drain_in_vain,
    freeze_sessions,
    kill_at_point,
    kill_backend,
    kill_both,
    kill_gateway,
    kill_postmaster,
    pause_gateway,
    take_over,
)
from tests.acceptance.kill.witness import CALM

CYCLES = int(os.environ.get("SENDPOOL_TEST_CYCLES", "30"))
DRAINS = int(os.environ.get("SENDPOOL_TEST_DRAINS", "3"))
SEED = int(os.environ.get("SENDPOOL_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
CYCLE_S_MAX = 60
ROUND_CYCLES = 50
BRIEF = Manner(expiry_s=(5, 8))
"""Messages that do not wait long, for runs that need not show what a long queue does."""

pytestmark = pytest.mark.kill


def mutant(name: str) -> Sequence[str]:
    return (sys.executable, "-m", "tests.acceptance.kill.mutants", name)


async def strike(plan: Plan, strikes: Sequence[Strike], capsys: pytest.CaptureFixture[str]) -> Outcome:
    outcome = await strike_and_check(plan, strikes)
    with capsys.disabled():
        print(f"\n{outcome.summary}\nviolations: {outcome.counts or 'none'}")
    return outcome


def rounds(cycles: int) -> Iterator[tuple[int, range]]:
    """Seeds and cycles of the worlds to make: one world for all would grow old and slow."""
    for first in range(0, cycles, ROUND_CYCLES):
        yield SEED + first, range(min(ROUND_CYCLES, cycles - first))


@pytest.mark.timeout(300 + CYCLES * CYCLE_S_MAX)
async def test_nothing_is_lost_when_the_gateway_is_killed(capsys: pytest.CaptureFixture[str]):
    for seed, cycles in rounds(max(1, CYCLES * 2 // 3)):
        strikes = [kill_at_point if number % 3 == 2 else kill_gateway for number in cycles]
        outcome = await strike(Plan(seed), strikes, capsys)
        assert outcome.is_clean, str(outcome)


@pytest.mark.timeout(300 + CYCLES * CYCLE_S_MAX)
async def test_nothing_is_lost_when_postgresql_is_killed(capsys: pytest.CaptureFixture[str]):
    for seed, cycles in rounds(max(1, CYCLES - CYCLES * 2 // 3)):
        strikes = [(kill_postmaster, kill_backend, kill_both, freeze_sessions)[number % 4] for number in cycles]
        outcome = await strike(Plan(seed), strikes, capsys)
        assert outcome.is_clean, str(outcome)


@pytest.mark.timeout(300 + DRAINS * CYCLE_S_MAX)
async def test_a_drain_under_load_leaves_nothing_open(capsys: pytest.CaptureFixture[str]):
    for seed, cycles in rounds(DRAINS):
        outcome = await strike(Plan(seed, behaviour=CALM, manner=BRIEF), [drain_gateway] * len(cycles), capsys)
        assert outcome.is_clean, str(outcome)
        assert outcome.unknown == 0, str(outcome)


@pytest.mark.timeout(300 + DRAINS * CYCLE_S_MAX)
async def test_a_drain_that_is_cut_short_and_a_pause_lose_nothing_and_send_nothing_too_fast(
    capsys: pytest.CaptureFixture[str],
):
    for seed, cycles in rounds(DRAINS):
        strikes = [(drain_in_vain, pause_gateway, drain_in_vain)[number % 3] for number in cycles]
        outcome = await strike(Plan(seed, behaviour=CALM, manner=BRIEF), strikes, capsys)
        assert outcome.is_clean, str(outcome)


@pytest.mark.timeout(300)
async def test_a_second_gateway_takes_over_cleanly(capsys: pytest.CaptureFixture[str]):
    outcome = await strike(Plan(SEED, manner=BRIEF), [take_over] * 2, capsys)
    assert outcome.is_clean, str(outcome)


# --- Teeth: the same run must fail when the gateway is broken ---------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "law"), [("hasty", Law.KEPT), ("claimless", Law.CLAIMED), ("forgetful", Law.ARRIVALS)]
)
async def test_a_broken_gateway_is_found_out(name: str, law: Law, capsys: pytest.CaptureFixture[str]):
    plan = Plan(SEED, program=mutant(name), manner=BRIEF, settle_s_max=15)
    outcome = await strike(plan, [kill_gateway] * 4, capsys)
    assert law in outcome.broken, str(outcome)
