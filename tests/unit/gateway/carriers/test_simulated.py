from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from multidict import CIMultiDict

from gateway.carriers.carrier import (
    FAILING,
    REFUSALS,
    THROTTLED,
    TIMED_OUT,
    UNREACHABLE,
    NotSent,
    Outbound,
    Report,
    SendFailed,
    Webhook,
)
from gateway.carriers.simulated import REPORTS_RETRY_MS, SimulatedCarrier
from gateway.settings import CarrierSettings
from resolver.model import E164, CarrierName, MessageId
from storage.records import FactKind, JournalUnavailable
from tests.fakes.clock import START_MS, VirtualClock, in_virtual_time

ANSWER_MS = 10_000


def carrier(**options: object) -> SimulatedCarrier:
    settings = CarrierSettings(name=CarrierName("sim"), places=100, options=options)
    return SimulatedCarrier(settings, clock=VirtualClock(), answer_ms_max=ANSWER_MS)


def outbound(place: int = 0) -> Outbound:
    message_id = MessageId(f"019b76da-a800-7000-8000-{place:012x}")
    return Outbound(message_id, 1, E164("+14155550100"), E164("+14155550123"), "Hello", 1, 60_000)


def yes() -> bool:
    return True


async def outcome(one: SimulatedCarrier, place: int = 0) -> tuple[str, int]:
    """What came of one message, and after how many milliseconds."""
    clock = VirtualClock()
    began_ms = clock.now_ms()
    try:
        said = await one.send(outbound(place), yes)
    except SendFailed as failed:
        said = failed.failure.code
    return said, clock.now_ms() - began_ms


async def outcomes(one: SimulatedCarrier, count: int) -> Counter[str]:
    found = await asyncio.gather(*(outcome(one, place) for place in range(count)))
    return Counter("sent" if said.startswith("sim-") else said for said, _ in found)


@in_virtual_time
async def test_a_message_is_answered_within_the_latency_with_an_id_of_its_own() -> None:
    one = carrier(latency_ms_min=20, latency_ms_max=60)
    found = await asyncio.gather(*(outcome(one, place) for place in range(500)))
    assert {ms for _, ms in found} == set(range(20, 61))
    assert len({said for said, _ in found}) == 500


@in_virtual_time
async def test_ids_differ_between_processes() -> None:
    first, _ = await outcome(carrier())
    await asyncio.sleep(0.001)
    second, _ = await outcome(carrier())
    assert first != second


@in_virtual_time
async def test_it_writes_nothing_unless_told_to_go() -> None:
    one = carrier()
    with pytest.raises(NotSent):
        await one.send(outbound(), lambda: False)


@in_virtual_time
async def test_the_same_seed_gives_the_same_fates() -> None:
    wild = {
        "throttle_per_mille": 100, "reject_per_mille": 100, "fail_per_mille": 100, "loss_per_mille": 100,
    }  # fmt: skip

    async def play(seed: int) -> list[tuple[str, int]]:
        one = carrier(seed=seed, **wild)
        found = [await outcome(one, place) for place in range(200)]
        return [("sent" if said.startswith("sim-") else said, ms) for said, ms in found]

    assert await play(7) == await play(7)
    assert await play(7) != await play(8)


@pytest.mark.parametrize(
    ("option", "codes"),
    [
        ("throttle_per_mille", {THROTTLED.code}),
        ("reject_per_mille", {code for code in REFUSALS if code in ("spam", "rejected")}),
        ("fail_per_mille", {FAILING.code}),
        ("loss_per_mille", {TIMED_OUT.code}),
    ],
)
@in_virtual_time
async def test_its_shares_are_kept(option: str, codes: set[str]) -> None:
    found = await outcomes(carrier(**{option: 250}), 2_000)
    assert set(found) == {"sent", *codes}
    assert 400 < found.total() - found["sent"] < 600
    assert set(await outcomes(carrier(**{option: 1_000}), 50)) <= codes


@in_virtual_time
async def test_a_lost_answer_is_given_up_after_the_deadline() -> None:
    assert await outcome(carrier(loss_per_mille=1_000)) == ("timed_out", ANSWER_MS)


@in_virtual_time
async def test_above_its_limit_in_any_second_it_throttles_and_says_for_how_long() -> None:
    one = carrier(limit_per_s=10, retry_after_ms=2_500, latency_ms_min=0, latency_ms_max=0)
    assert await outcomes(one, 12) == {"sent": 10, "throttled": 2}
    await asyncio.sleep(0.999)
    with pytest.raises(SendFailed) as failed:
        await one.send(outbound(), yes)
    assert failed.value.retry_after_ms == 2_500
    await asyncio.sleep(0.001)
    assert await outcomes(one, 12) == {"sent": 10, "throttled": 2}


@in_virtual_time
async def test_while_it_stalls_it_cannot_be_reached() -> None:
    one = carrier(stalls_s=["5-10", "20-30"])
    seen = []
    for _ in range(40):
        said, _ms = await outcome(one)
        seen.append(said == UNREACHABLE.code)
        await asyncio.sleep(1 - _ms / 1_000)
    assert seen == [5 <= second < 10 or 20 <= second < 30 for second in range(40)]


@in_virtual_time
async def test_a_silent_stall_takes_and_does_not_answer() -> None:
    one = carrier(stall_silent=True)
    one.stall(until_ms=START_MS + 60_000)
    assert (await outcome(one))[0] == "timed_out"
    await asyncio.sleep(60)
    assert (await outcome(one))[0].startswith("sim-")


# --- Reports ----------------------------------------------------------------------------------------------------------


class Listener:
    """Takes reports, or refuses them as long as it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Report]] = []
        self.calls = 0
        self.refuses = False

    async def take(self, reports: list[Report]) -> None:
        self.calls += 1
        if self.refuses:
            raise JournalUnavailable
        self.heard += [(VirtualClock().now_ms(), report) for report in reports]


async def listen(count: int, **options: object) -> tuple[list[str], Listener]:
    """Send messages, and hear what is reported about them."""
    one, listener = carrier(**options), Listener()
    await one.start(listener.take, lambda up: None)
    found = await asyncio.gather(*(outcome(one, place) for place in range(count)))
    await asyncio.sleep(20)
    await one.stop()
    return [said for said, _ in found], listener


@in_virtual_time
async def test_each_message_is_reported_once_with_both_ids_after_the_answer() -> None:
    refs, listener = await listen(100, report_ms_min=500, report_ms_max=3_000, latency_ms_min=50, latency_ms_max=50)
    assert sorted(report.carrier_ref for _, report in listener.heard) == sorted(refs)
    assert {report.reference for _, report in listener.heard} == {outbound(place).message_id for place in range(100)}
    times = [at_ms - START_MS - 50 for at_ms, _ in listener.heard]
    assert min(times) >= 500
    assert max(times) <= 3_010
    assert times == sorted(times)
    assert all(at_ms - 10 <= report.at_ms <= at_ms for at_ms, report in listener.heard)
    assert listener.calls < 100, "they come in batches"


@in_virtual_time
async def test_some_are_undelivered() -> None:
    _, listener = await listen(1_000, undelivered_per_mille=100)
    found = Counter((report.kind, report.code) for _, report in listener.heard)
    assert set(found) == {(FactKind.DELIVERED, "000"), (FactKind.UNDELIVERED, "80")}
    assert 60 < found[FactKind.UNDELIVERED, "80"] < 140


@in_virtual_time
async def test_reports_may_come_twice_and_before_the_answer() -> None:
    _, listener = await listen(10, report_twice_per_mille=1_000)
    assert set(Counter(report for _, report in listener.heard).values()) == {2}
    _, listener = await listen(10, report_early_per_mille=1_000, latency_ms_min=5_000, latency_ms_max=5_000)
    first_ms = listener.heard[0][0]
    assert {at_ms - first_ms for at_ms, _ in listener.heard} == {0}
    assert VirtualClock().now_ms() - first_ms >= 5_000


@in_virtual_time
async def test_what_was_not_taken_is_not_reported() -> None:
    for trouble in ("throttle_per_mille", "reject_per_mille", "fail_per_mille"):
        _, listener = await listen(20, **{trouble: 1_000})
        assert listener.heard == []
    _, listener = await listen(20, loss_per_mille=1_000, loss_taken_per_mille=0)
    assert listener.heard == []
    _, listener = await listen(20, loss_per_mille=1_000, loss_taken_per_mille=1_000)
    assert len(listener.heard) == 20
    _, listener = await listen(20, reports=False)
    assert listener.heard == []


@in_virtual_time
async def test_reports_that_cannot_be_stored_are_repeated_until_they_are() -> None:
    one, listener = carrier(report_ms_min=0, report_ms_max=0), Listener()
    listener.refuses = True
    await one.start(listener.take, lambda up: None)
    await outcome(one)
    await asyncio.sleep(10)
    assert 8 <= listener.calls <= 11
    listener.refuses = False
    await asyncio.sleep(REPORTS_RETRY_MS / 1_000)
    assert len(listener.heard) == 1
    await one.stop()
    await one.stop()


@in_virtual_time
async def test_a_report_due_sooner_than_those_known_is_not_held_up() -> None:
    one, listener = carrier(report_ms_min=60_000, report_ms_max=60_000, report_early_per_mille=500), Listener()
    await one.start(listener.take, lambda up: None)
    for place in range(30):
        await outcome(one, place)
        await asyncio.sleep(1)
    early = [at_ms for at_ms, _ in listener.heard if at_ms < START_MS + 30_000]
    assert len(early) > 5
    assert all(at_ms - report.at_ms < 20 for at_ms, report in listener.heard)
    assert all(a <= b for a, b in pairwise(early))
    await one.stop()


@in_virtual_time
async def test_reports_by_hand_are_read_like_an_http_carriers() -> None:
    one = carrier(secret="s3cret")
    posted = Webhook("/", CIMultiDict({"X-Sendpool-Secret": "s3cret"}), b'{"id":"a","status":"sent"}')
    assert one.webhooks.authenticate(posted, now_ms=START_MS) == ""
    assert one.webhooks.read(posted).reports[0].carrier_ref == "a"
    assert carrier().webhooks.authenticate(posted, now_ms=START_MS) is None
