from __future__ import annotations

import asyncio

import pytest

from gateway.upkeep import EXPIRED_PER_PART_MAX, SWEEP_AGAIN_MS, SWEEP_EVERY_MS, Sweep, Upkeep
from resolver.core import Verdict
from resolver.model import (
    E164,
    CarrierName,
    Limits,
    NumberRow,
    NumberState,
    NumberType,
    OnUnknown,
    Phase,
    RefusalCode,
)
from storage.records import FactKind, JournalUnavailable
from tests.fakes.clock import START_MS, in_virtual_time
from tests.fakes.gateway_floor import ACCOUNT, CARRIER, POWERPACK, UNLIMITED, Floor
from tests.fakes.ids import chance_of

SLOW = Limits(1, 3_600_000, 1_000_000, None)


class Kept:
    """A floor whose lane does not run, and its upkeep."""

    def __init__(self, *, sweep: Sweep | None = None, limits: Limits = SLOW) -> None:
        self.floor = Floor(limits=limits, segments_per_s=100_000)
        self.woken: list[CarrierName] = []
        self.upkeep = Upkeep(
            self.floor.resolver,
            self.floor.journal,
            self.floor.facts,
            self.floor.attempts,
            clock=self.floor.clock,
            chance=chance_of(0.5),
            wake=self.woken.append,
            refusal_codes={RefusalCode.NO_NUMBER: "90", RefusalCode.NO_CAPACITY: "420"},
            sweep=sweep,
        )

    async def run_for(self, seconds: float) -> None:
        running = asyncio.create_task(self.upkeep.run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.wait([running])

    def put_number(self, number: str, *, state: NumberState = NumberState.ACTIVE, limits: Limits = SLOW) -> None:
        row = NumberRow(
            E164(number), ACCOUNT, NumberType.LONG_CODE, "US", CARRIER,
            powerpack_id=POWERPACK, campaign_approved=True, limits=limits, state=state,
        )  # fmt: skip
        self.floor.resolver.put_number(row, now_ms=self.floor.clock.now_ms())


@in_virtual_time
async def test_what_waited_too_long_expires_within_a_second() -> None:
    kept = Kept(limits=UNLIMITED)
    short, long = kept.floor.accept(validity_ms=5_000)[0], kept.floor.accept(validity_ms=60_000)[0]
    await kept.run_for(6.5)
    assert kept.floor.kinds(short) == ["expired"]
    assert kept.floor.journal.facts_of(short.message_id)[0].at_ms <= START_MS + 6_000
    assert kept.floor.kinds(long) == []
    assert kept.floor.resolver.waiting == 1


@in_virtual_time
async def test_what_an_outage_left_over_has_ended_durably_when_the_call_returns() -> None:
    kept = Kept(limits=Limits(10_000, 1_000, 1_000_000_000, None))
    count = 2 * EXPIRED_PER_PART_MAX + 10
    kept.floor.accept(count, validity_ms=500, recipient=lambda p: f"+1415{5_600_000 + p}")
    await asyncio.sleep(5)
    await kept.upkeep.end_overdue()
    assert len(kept.floor.journal.outcomes()) == count
    assert kept.floor.resolver.waiting == 0


@in_virtual_time
async def test_what_lost_its_request_is_ended_before_anything_is_accepted() -> None:
    kept = Kept()
    lost = Floor().accept(2)
    await kept.upkeep.end_overdue(lost)
    assert [(row.message_id, row.state, row.code) for row in kept.floor.journal.outcomes()] == [
        (message.message_id, "failed", "1000") for message in lost
    ]
    assert {fact.detail for message in lost for fact in kept.floor.journal.facts_of(message.message_id)} == {
        "request_lost"
    }


@in_virtual_time
async def test_many_that_expire_at_once_are_taken_in_parts() -> None:
    kept = Kept(limits=Limits(10_000, 1_000, 1_000_000_000, None))
    kept.floor.accept(2 * EXPIRED_PER_PART_MAX + 10, validity_ms=500, recipient=lambda p: f"+1415{5_600_000 + p}")
    await kept.run_for(1.5)
    assert len(kept.floor.journal.outcomes()) == 2 * EXPIRED_PER_PART_MAX + 10
    assert kept.floor.resolver.waiting == 0


@in_virtual_time
async def test_while_the_database_is_away_nothing_expires_and_then_everything_does() -> None:
    kept = Kept()
    (message,) = kept.floor.accept(validity_ms=5_000)
    kept.floor.journal.go_away()
    await kept.run_for(60)
    assert message.phase is Phase.WAITING
    kept.floor.journal.come_back()
    await kept.run_for(2)
    assert kept.floor.kinds(message) == ["expired"]


@in_virtual_time
async def test_a_better_chance_is_taken_and_told_and_the_lane_woken() -> None:
    kept = Kept()
    first, second = kept.floor.accept(2)
    kept.put_number("+14155550777")
    await kept.run_for(2)
    assert kept.floor.kinds(first) == []
    (fact,) = kept.floor.journal.facts_of(second.message_id)
    assert (fact.kind, fact.number) == (FactKind.REBOUND, "+14155550777")
    assert second.number == "+14155550777"
    assert kept.woken == [CARRIER]


@in_virtual_time
async def test_a_message_no_number_is_left_for_ends_with_the_refusal() -> None:
    kept = Kept()
    (message,) = kept.floor.accept()
    kept.put_number("+14155550000", state=NumberState.DISABLED)
    await kept.run_for(2)
    (fact,) = kept.floor.journal.facts_of(message.message_id)
    assert (fact.kind, fact.code, fact.detail) == (FactKind.REFUSED, "90", RefusalCode.NO_NUMBER)
    assert [row.state for row in kept.floor.journal.outcomes()] == ["failed"]
    assert kept.floor.resolver.waiting == 0


@in_virtual_time
async def test_unknown_outcomes_are_decided() -> None:
    kept = Kept()
    (message,) = kept.floor.accept(on_unknown=OnUnknown.FAIL)
    resolver = kept.floor.resolver
    resolver.release(CARRIER, now_ms=START_MS, until_ms=START_MS, places=1)
    assert resolver.depart(message, now_ms=START_MS).verdict is Verdict.GO
    resolver.settle_unknown(message, now_ms=START_MS)
    kept.floor.attempts.adopt_unknown([message])
    await kept.run_for(12)
    assert kept.floor.kinds(message) == ["given_up"]


@pytest.mark.parametrize(("fails", "wait_ms"), [(False, SWEEP_EVERY_MS), (True, SWEEP_AGAIN_MS)])
@in_virtual_time
async def test_the_sweep_comes_every_hour_and_sooner_after_it_failed(fails: bool, wait_ms: int) -> None:
    swept: list[int] = []

    async def sweep() -> None:
        swept.append(kept.floor.clock.now_ms() - START_MS)
        if fails:
            raise JournalUnavailable

    kept = Kept(sweep=sweep)
    await kept.run_for((SWEEP_AGAIN_MS + 3 * wait_ms) / 1_000 - 1)
    assert swept == [SWEEP_AGAIN_MS + turn * wait_ms for turn in range(3)]


@in_virtual_time
async def test_a_sweep_that_hangs_is_cut_off() -> None:
    calls = 0

    async def sweep() -> None:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()

    kept = Kept(sweep=sweep)
    await kept.run_for(3_600)
    assert calls > 1
