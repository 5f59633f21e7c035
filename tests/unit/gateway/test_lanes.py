from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.carriers.carrier import (
    BAD_ROUTE,
    FAILING,
    THROTTLED,
    TIMED_OUT,
    UNREACHABLE,
    Outbound,
    SendFailed,
)
from gateway.pace import PROBE_MS_MAX
from gateway.settings import LaneSettings
from resolver.model import Limits, Message, Pause, Phase
from storage.records import Entry, FactKind, HandoverRow, Settled
from tests.fakes.carrier import take_all
from tests.fakes.clock import START_MS, in_virtual_time
from tests.fakes.gateway_floor import CARRIER, POWERPACK, Floor

both_ways = pytest.mark.parametrize("prompt", [False, True], ids=["workers", "relay"])
ONE_A_SECOND = Limits(1, 1_000, 1_000_000_000, None)
SPAN_MS = 1_020  # with the 2 % against clock skew


def written(floor: Floor) -> list[tuple[str, int]]:
    """Which messages were written, and when."""
    return [(write.outbound.message_id, write.at_ms - START_MS) for write in floor.scripted.writes]


def written_ids(floor: Floor) -> list[str]:
    return [message_id for message_id, _ in written(floor)]


def phase_of(message: Message) -> Phase:
    return message.phase


def ids(messages: list[Message]) -> list[str]:
    return [message.message_id for message in messages]


# --- One message ------------------------------------------------------------------------------------------------------


@both_ways
@in_virtual_time
async def test_a_message_is_claimed_durably_before_it_is_written_and_settled_after_its_answer(prompt: bool) -> None:
    floor = Floor(prompt=prompt, commit_ms=30)
    (message,) = floor.accept()
    async with floor.running():
        await asyncio.sleep(0.025)
        assert floor.scripted.writes == []
        await asyncio.sleep(0.3)
    (write,) = floor.scripted.writes
    assert write.at_ms == START_MS + 30
    assert list(floor.journal.handovers()) == [
        HandoverRow(CARRIER, START_MS, [message.message_id], [1], [message.number], [1])
    ]
    (fact,) = floor.journal.facts()
    assert (fact.kind, fact.attempt, fact.handed_ms) == (FactKind.SENT, 1, START_MS + 30)
    assert floor.handed_over.counts == {(CARRIER,): 1}
    assert floor.settled.counts == {(CARRIER, FactKind.SENT): 1}


@both_ways
@in_virtual_time
async def test_the_carrier_learns_what_it_needs(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    (message,) = floor.accept(validity_ms=60_000)
    async with floor.running():
        await asyncio.sleep(0.1)
    assert floor.scripted.writes[0].outbound == Outbound(
        message.message_id, 1, message.number, message.recipient, "Hello", 1, 60_000 - 3
    )


@both_ways
@in_virtual_time
async def test_a_lane_that_idles_wakes_for_a_new_message(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    async with floor.running():
        await asyncio.sleep(60)
        (message,) = floor.accept()
        await asyncio.sleep(0.1)
        assert written_ids(floor) == [message.message_id]
        floor.accept(wake=False)
        await asyncio.sleep(1.1)
        assert len(floor.scripted.writes) == 2, "and looks by itself, should nobody wake it"


@both_ways
@in_virtual_time
async def test_what_accept_has_claimed_itself_leaves_at_once(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    async with floor.running():
        await asyncio.sleep(0.5)
        (message,) = floor.accept(wake=False)
        now_ms = floor.clock.now_ms()
        claims = floor.resolver.release_own([message], now_ms=now_ms, lead_ms=100, places={CARRIER: 1})
        assert claims == [message]
        floor.lane.take(claims)
        await asyncio.sleep(0.001)
        assert written(floor) == [(message.message_id, 500)]
        await asyncio.sleep(1)
    assert floor.kinds(message) == ["sent 1"]
    assert list(floor.journal.handovers()) == [], "its claim went with its decision"


# --- Pace -------------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("span_ms", [200, 1_000, 4_000])
@in_virtual_time
async def test_a_numbers_messages_leave_exactly_a_span_apart_although_commits_are_slow(
    span_ms: int, prompt: bool
) -> None:
    floor = Floor(prompt=prompt, limits=Limits(1, span_ms, 1_000_000_000, None), commit_ms=60)
    messages = floor.accept(20)
    async with floor.running():
        await asyncio.sleep(22 * span_ms / 1_000)
    assert written_ids(floor) == ids(messages)
    assert {b - a for (_, a), (_, b) in pairwise(written(floor))} == {span_ms * SPAN_MS // 1_000}


@both_ways
@in_virtual_time
async def test_texts_of_several_segments_leave_as_soon_as_the_one_before_has_made_room(prompt: bool) -> None:
    floor = Floor(prompt=prompt, limits=Limits(3, 200, 1_000_000_000, None), commit_ms=30)
    floor.accept(20, segments=2)
    async with floor.running():
        await asyncio.sleep(5)
    assert {b - a for (_, a), (_, b) in pairwise(written(floor))} == {204}


@both_ways
@in_virtual_time
async def test_many_numbers_use_at_least_97_percent_of_what_their_limits_allow_and_never_more(prompt: bool) -> None:
    floor = Floor(prompt=prompt, numbers=12, limits=Limits(3, 1_000, 1_000_000_000, None), places=64)
    floor.accept(12 * 3 * 40)
    async with floor.running():
        await asyncio.sleep(30)
    by_number = defaultdict(list)
    for write in floor.scripted.writes:
        by_number[write.outbound.number].append(write.at_ms)
    assert len(by_number) == 12
    for times in by_number.values():
        assert len(times) >= 0.97 * 3 * 30
        assert all(later - earlier >= SPAN_MS for earlier, later in zip(times, times[3:], strict=False))


@both_ways
@pytest.mark.parametrize("rate", [10, 97, 500])
@in_virtual_time
async def test_the_links_rate_is_kept_evenly_and_used(rate: int, prompt: bool) -> None:
    floor = Floor(prompt=prompt, segments_per_s=rate, places=256)
    floor.accept(rate * 25)
    async with floor.running():
        await asyncio.sleep(20)
    times = [at_ms for _, at_ms in written(floor)]
    assert len(times) >= 0.97 * rate * 20
    assert all(later - earlier >= SPAN_MS for earlier, later in zip(times, times[rate:], strict=False))
    in_100_ms = Counter(at_ms // 100 for at_ms in times)
    assert max(in_100_ms.values()) <= 2 * max(2, rate // 10) + 1, "no bursts within the second"


@both_ways
@in_virtual_time
async def test_no_more_messages_fly_than_the_carrier_has_places(prompt: bool) -> None:
    floor = Floor(prompt=prompt, places=5)
    floor.scripted.latency_ms = 100
    floor.accept(500)
    async with floor.running():
        for _ in range(100):
            await asyncio.sleep(0.05)
            assert floor.lane.held <= 5
    assert floor.scripted.flying_max == 5
    assert 5 * 43 <= len(floor.scripted.writes) <= 5 * 50, "and a place that becomes free is used at once"


@in_virtual_time
async def test_free_places_count_what_is_held_and_what_is_being_claimed() -> None:
    floor = Floor(places=5, commit_ms=200)
    floor.scripted.latency_ms = 400
    floor.accept(3)
    async with floor.running():
        assert floor.lane.free_places() == 5
        await asyncio.sleep(0.1)
        assert floor.lane.free_places() == 2, "being claimed"
        await asyncio.sleep(0.2)
        assert (floor.lane.free_places(), floor.lane.held) == (2, 3)
        await asyncio.sleep(0.5)
        assert (floor.lane.free_places(), floor.lane.held) == (5, 0)


@in_virtual_time
async def test_one_claim_does_not_wait_for_another_but_only_a_few_are_open() -> None:
    floor = Floor(places=100, commit_ms=1_000)
    async with floor.running():
        for _ in range(20):
            floor.accept()
            await asyncio.sleep(0.02)
        assert floor.journal.appended == 4
        await asyncio.sleep(3)
    assert len(floor.scripted.writes) == 20


@both_ways
@in_virtual_time
async def test_what_settled_earlier_attempts_is_handed_to_the_journal_before_each_claim(prompt: bool) -> None:
    floor = Floor(prompt=prompt, places=1)
    floor.scripted.latency_ms = 1
    floor.accept(50)
    async with floor.running():
        await asyncio.sleep(2)
    claimed: set[str] = set()
    settled = 0
    for entry in floor.journal.committed:
        settled += len(entry.facts)
        for row in entry.handovers:
            assert settled == len(claimed)
            claimed.update(row.message_ids)
    assert len(claimed) == 50


# --- The journal ------------------------------------------------------------------------------------------------------


@both_ways
@in_virtual_time
async def test_a_claim_that_failed_goes_back_to_its_place_and_is_made_again_as_a_new_attempt(prompt: bool) -> None:
    floor = Floor(prompt=prompt, limits=ONE_A_SECOND)
    messages = floor.accept(3)
    floor.journal.verdicts.extend([Settled.FAILED, Settled.FAILED])
    async with floor.running():
        await asyncio.sleep(4)
    assert written_ids(floor) == ids(messages)
    assert floor.kinds(messages[0]) == ["sent 3"], "attempts 1 and 2 were never durable"
    assert floor.scripted.writes[0].outbound.attempt == 3


@in_virtual_time
async def test_a_claim_whose_commit_is_not_known_waits_for_the_truth() -> None:
    floor = Floor()
    (message,) = floor.accept()
    floor.journal.answers_late = True
    async with floor.running():
        await asyncio.sleep(0.9)
        assert floor.scripted.writes == []
        await asyncio.sleep(3)
    assert written_ids(floor) == [message.message_id]
    assert floor.kinds(message) == ["sent 1"]


@in_virtual_time
async def test_while_the_database_is_away_nothing_is_released_and_afterwards_everything() -> None:
    floor = Floor()
    floor.journal.go_away()
    messages = floor.accept(3)
    async with floor.running():
        await asyncio.sleep(60)
        assert floor.lane.free_places() == 0
        assert {message.phase for message in messages} == {Phase.WAITING}
        floor.journal.come_back()
        await asyncio.sleep(0.2)
    assert written_ids(floor) == ids(messages)


@in_virtual_time
async def test_a_full_journal_takes_no_claim_and_nothing_is_lost() -> None:
    floor = Floor()
    floor.journal.full = True
    messages = floor.accept(3)
    async with floor.running():
        await asyncio.sleep(1)
        assert floor.scripted.writes == []
        floor.journal.full = False
        await asyncio.sleep(0.2)
    assert written_ids(floor) == ids(messages)


@both_ways
@pytest.mark.parametrize(("away_ms", "leaves"), [(4_000, True), (6_000, False)])
@in_virtual_time
async def test_committed_claims_may_leave_for_five_seconds_without_the_database(
    away_ms: int, leaves: bool, prompt: bool
) -> None:
    floor = Floor(prompt=prompt)
    (message,) = floor.accept(wake=False)
    claims = floor.resolver.release_own([message], now_ms=START_MS, lead_ms=100, places={CARRIER: 1})
    message.slot_ms = START_MS + away_ms
    message.claimed_ms = START_MS + away_ms - 1_000  # by the other connection, just before
    floor.journal.go_away()
    async with floor.running():
        floor.lane.take(claims)
        await asyncio.sleep(away_ms / 1_000 + 1)
        assert bool(floor.scripted.writes) is leaves
        floor.journal.come_back()
        await asyncio.sleep(1)
    assert floor.kinds(message) == (["sent 1"] if leaves else ["returned 1", "sent 2"])


@both_ways
@pytest.mark.parametrize(("slot_ms", "leaves"), [(2_900, True), (3_100, False)])
@in_virtual_time
async def test_a_claim_is_good_for_some_seconds_only(slot_ms: int, leaves: bool, prompt: bool) -> None:
    floor = Floor(prompt=prompt, settings=LaneSettings(claim_good_ms=3_000))
    (message,) = floor.accept(wake=False)
    claims = floor.resolver.release_own([message], now_ms=START_MS, lead_ms=100, places={CARRIER: 1})
    message.slot_ms = START_MS + slot_ms
    async with floor.running():
        floor.lane.take(claims)
        await asyncio.sleep(7)
    assert floor.kinds(message) == (["sent 1"] if leaves else ["returned 1", "sent 2"])
    first = floor.journal.facts_of(message.message_id)[0]
    if not leaves:
        assert (first.charged, first.handed_ms, first.detail) == (False, None, "stale")


@both_ways
@in_virtual_time
async def test_who_lost_the_epoch_hands_nothing_over_and_writes_nothing(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    floor.accept(3)
    async with floor.running():
        await asyncio.sleep(0.002)
        floor.journal.owns_epoch = False
        await asyncio.sleep(10)
        assert floor.scripted.writes == []
        assert floor.lane.held == 0
    assert list(floor.journal.facts()) == []


@both_ways
@in_virtual_time
async def test_while_facts_cannot_be_stored_nothing_new_is_begun(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    floor.journal.full = True
    (blocker,) = floor.accept()
    entry = Entry()
    floor.facts.record(entry, blocker, FactKind.RETURNED)
    floor.facts.keep(entry)
    assert floor.facts.is_behind
    async with floor.running():
        await asyncio.sleep(1)
        assert floor.journal.appended == 0
        assert floor.lane.free_places() == 0
        floor.journal.full = False
        await asyncio.sleep(1)
    assert written_ids(floor) == [blocker.message_id]


# --- At the door ------------------------------------------------------------------------------------------------------


@both_ways
@in_virtual_time
async def test_a_message_cancelled_after_its_claim_is_stopped_at_the_door(prompt: bool) -> None:
    floor = Floor(prompt=prompt, commit_ms=50)
    message, other = floor.accept(2)
    async with floor.running():
        await asyncio.sleep(0.02)
        assert message.phase is Phase.RELEASED
        assert floor.resolver.cancel(message, now_ms=floor.clock.now_ms())
        await asyncio.sleep(0.5)
    assert written_ids(floor) == [other.message_id]
    assert floor.kinds(message) == ["returned 1", "cancelled"]
    assert [row.code for row in floor.journal.outcomes()] == ["300"]


@in_virtual_time
async def test_a_message_whose_powerpack_is_paused_after_its_claim_goes_back_and_leaves_when_it_is_resumed() -> None:
    floor = Floor(commit_ms=50)
    (message,) = floor.accept()
    row = floor.resolver.powerpack(POWERPACK)
    assert row is not None
    async with floor.running():
        await asyncio.sleep(0.02)
        assert message.phase is Phase.RELEASED
        floor.resolver.put_powerpack(replace(row, pause=Pause.WAIT))
        await asyncio.sleep(5)
        assert written(floor) == []
        assert floor.settled.counts == {(CARRIER, "paused"): 1}
        floor.resolver.put_powerpack(row)
        await asyncio.sleep(2)
    assert written_ids(floor) == [message.message_id]
    assert floor.kinds(message) == ["returned 1", "sent 2"]


@both_ways
@in_virtual_time
async def test_a_message_that_expires_between_claim_and_slot_is_not_written(prompt: bool) -> None:
    floor = Floor(prompt=prompt, commit_ms=50)
    (message,) = floor.accept(validity_ms=30)
    async with floor.running():
        await asyncio.sleep(0.5)
    assert floor.scripted.writes == []
    assert floor.kinds(message) == ["returned 1", "expired"]
    assert floor.resolver.waiting == 0


@both_ways
@in_virtual_time
async def test_a_message_reported_after_its_claim_is_not_written_again(prompt: bool) -> None:
    floor = Floor(prompt=prompt, commit_ms=50)
    (message,) = floor.accept()
    async with floor.running():
        await asyncio.sleep(0.02)
        entry = Entry()
        floor.facts.record(entry, message, FactKind.DELIVERED)
        floor.facts.keep(entry)
        floor.attempts.reported(message)
        await asyncio.sleep(0.5)
        assert floor.lane.held == 0
    assert floor.scripted.writes == []
    assert sorted(floor.kinds(message)) == ["delivered", "returned 1"]


@in_virtual_time
async def test_a_message_that_is_early_at_the_door_comes_again_in_time() -> None:
    floor = Floor(limits=ONE_A_SECOND)
    first, second = floor.accept(2, wake=False)
    async with floor.running():
        await asyncio.sleep(0.05)
        assert written_ids(floor) == [first.message_id]
        floor.journal.go_away()  # so that only we release
        now_ms = floor.clock.now_ms()
        claims = floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms + 2_000, places=1)
        assert claims == [second]
        second.slot_ms = now_ms  # a plan that comes to nothing
        floor.lane.take(claims)
        await asyncio.sleep(2)
        assert floor.lane.held == 0
    assert written(floor) == [(first.message_id, 3), (second.message_id, 3 + SPAN_MS)]
    assert floor.scripted.refused == 1


@pytest.mark.parametrize("event", ["drain", "link down", "throttled"])
@in_virtual_time
async def test_what_is_on_its_way_to_the_door_when_the_lane_closes_is_given_up(event: str) -> None:
    floor = Floor()
    floor.scripted.connect_ms = 500
    message, other = floor.accept(2)
    if event == "throttled":
        floor.scripted.before = lambda outbound: (
            SendFailed(THROTTLED, retry_after_ms=60_000) if outbound.message_id == other.message_id else None
        )
    async with floor.running():
        await asyncio.sleep(0.1)
        assert phase_of(message) is Phase.RELEASED
        if event == "drain":
            await floor.lane.drain(ms_max=1_000)
        elif event == "link down":
            floor.lane.on_link(False)
        await asyncio.sleep(1)
    await floor.facts.drain(ms_max=1_000)
    assert floor.scripted.writes == []
    assert floor.kinds(message) == ["returned 1"]
    assert message.phase is Phase.WAITING


# --- Trouble ----------------------------------------------------------------------------------------------------------


@both_ways
@in_virtual_time
async def test_throttling_slows_the_whole_lane_and_costs_no_attempt(prompt: bool) -> None:
    floor = Floor(prompt=prompt, numbers=4)
    messages = floor.accept(40)
    throttled: list[str] = []

    def answers(outbound: Outbound) -> str | Exception:
        if len(throttled) < 6:
            throttled.append(outbound.message_id)
            return SendFailed(THROTTLED, "429", retry_after_ms=2_000)
        return take_all(outbound)

    floor.scripted.answers = answers
    async with floor.running():
        await asyncio.sleep(10)
    times = [at_ms for _, at_ms in written(floor)]
    assert max(b - a for a, b in pairwise(times)) >= 2_000
    assert all(message.retries == 0 for message in messages)
    assert sorted(set(written_ids(floor))) == sorted(ids(messages))
    assert all(floor.kinds(message)[-1].startswith("sent") for message in messages)
    facts = [fact for fact in floor.journal.facts() if fact.detail == "throttled"]
    assert len(facts) == 6
    assert not any(fact.charged for fact in facts)


@both_ways
@in_virtual_time
async def test_a_throttled_links_rate_is_lowered_for_decisions_too_and_grows_back(prompt: bool) -> None:
    floor = Floor(prompt=prompt, segments_per_s=100)
    floor.accept(1)
    floor.scripted.answers = lambda outbound: SendFailed(THROTTLED) if outbound.attempt == 1 else take_all(outbound)
    window = floor.resolver.links[CARRIER].window
    async with floor.running():
        await asyncio.sleep(0.1)
        assert window.limit == 50
        await asyncio.sleep(10)
        assert window.limit == 100


@in_virtual_time
async def test_what_accept_releases_counts_against_the_rate() -> None:
    floor = Floor(segments_per_s=10)
    messages = floor.accept(2, wake=False)
    claims = floor.resolver.release_own(messages, now_ms=START_MS, lead_ms=100, places={CARRIER: 2})
    assert floor.lane.free_places() == 2
    floor.lane.take(claims)
    assert floor.lane.free_places() == 0


@both_ways
@in_virtual_time
async def test_messages_to_one_recipient_keep_their_order_through_throttling(prompt: bool) -> None:
    floor = Floor(prompt=prompt, sticky=True)
    messages = floor.accept(10, recipient=lambda place: "+14155560001")
    count = 0

    def answers(outbound: Outbound) -> str | Exception:
        nonlocal count
        count += 1
        return SendFailed(THROTTLED, "429") if count % 4 == 1 else take_all(outbound)

    floor.scripted.answers = answers
    floor.scripted.places = 1
    async with floor.running():
        await asyncio.sleep(60)
    taken = [
        fact.message_id
        for fact in sorted(floor.journal.facts(), key=lambda fact: fact.handed_ms or 0)
        if fact.kind is FactKind.SENT
    ]
    assert taken == ids(messages)


@both_ways
@in_virtual_time
async def test_a_carrier_that_fails_on_one_message_does_not_hold_up_the_others(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    messages = floor.accept(10)
    bad = messages[0].message_id
    floor.scripted.answers = lambda outbound: (
        SendFailed(FAILING, "500") if outbound.message_id == bad else take_all(outbound)
    )
    async with floor.running():
        await asyncio.sleep(0.5)
        assert set(written_ids(floor)) == set(ids(messages))
        await asyncio.sleep(120)
    attempts = [at_ms for message_id, at_ms in written(floor) if message_id == bad]
    assert [round((b - a) / 1_000) for a, b in pairwise(attempts)] == [1, 2, 4, 8, 16]
    assert floor.kinds(messages[0])[-1] == "rejected 6"


@in_virtual_time
async def test_a_carrier_that_breaks_is_not_the_end_of_its_lane() -> None:
    floor = Floor()
    before, after, fine = floor.accept(3)
    broken = {before.message_id}
    floor.scripted.before = lambda outbound: (
        ZeroDivisionError() if broken and outbound.message_id == broken.pop() else None
    )
    floor.scripted.answers = lambda outbound: (
        KeyError("oops") if outbound.message_id == after.message_id and outbound.attempt == 1 else take_all(outbound)
    )
    async with floor.running():
        await asyncio.sleep(30)
    assert floor.kinds(before) == ["returned 1", "sent 2"], "nothing was written"
    assert floor.kinds(after) == ["unknown 1", "sent 2"], "it may have been taken"
    assert floor.kinds(fine) == ["sent 1"]


@in_virtual_time
async def test_a_broken_promise_of_our_own_ends_the_lane() -> None:
    floor = Floor()
    floor.accept()
    floor.scripted.answers = lambda outbound: AssertionError("two and two are five")
    running = asyncio.create_task(floor.lane.run())
    await asyncio.wait([running])
    assert isinstance(running.exception(), ExceptionGroup)


# --- A link that is down ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_carrier_that_cannot_be_reached_is_tried_seldom_and_loses_nothing() -> None:
    floor = Floor(numbers=10)
    messages = floor.accept(50)
    floor.scripted.before = lambda outbound: SendFailed(UNREACHABLE, "refused")
    async with floor.running():
        await asyncio.sleep(120)
        assert floor.scripted.writes == []
        tries = len(floor.scripted.tried_ms)
        assert tries <= 8 + 5 + 120_000 / PROBE_MS_MAX
        assert {message.phase for message in messages} == {Phase.WAITING}
        floor.scripted.before = lambda outbound: None
        await asyncio.sleep(10)
    assert sorted(written_ids(floor)) == sorted(ids(messages))
    assert all(message.retries == 0 and not message.possible_duplicate for message in messages)


@in_virtual_time
async def test_while_the_link_is_down_accept_gets_no_places_and_numbers_learn_of_it() -> None:
    floor = Floor()
    floor.scripted.before = lambda outbound: SendFailed(UNREACHABLE, "refused")
    floor.accept(5)
    async with floor.running():
        await asyncio.sleep(2)
        assert floor.resolver.links[CARRIER].down_since_ms is not None
        assert floor.lane.free_places() == 0
        floor.scripted.before = lambda outbound: None
        await asyncio.sleep(6)
        assert floor.resolver.links[CARRIER].down_since_ms is None
        assert floor.lane.free_places() > 1


@in_virtual_time
async def test_a_wrong_route_stops_the_lane_at_the_first_message_and_is_tried_again() -> None:
    floor = Floor()
    messages = floor.accept(50)
    floor.scripted.answers = lambda outbound: SendFailed(BAD_ROUTE, "401")
    async with floor.running():
        await asyncio.sleep(60)
        assert len(floor.scripted.writes) <= 8 + 5 + 60_000 / PROBE_MS_MAX
        floor.scripted.answers = take_all
        await asyncio.sleep(10)
    assert {floor.kinds(message)[-1].split()[0] for message in messages} == {"sent"}


@in_virtual_time
async def test_a_link_that_nothing_waits_for_comes_back_with_the_next_message() -> None:
    floor = Floor()
    floor.scripted.before = lambda outbound: SendFailed(UNREACHABLE, "refused")
    (message,) = floor.accept(validity_ms=10_000)
    async with floor.running():
        await asyncio.sleep(60)
        assert floor.kinds(message)[-1] == "expired"
        assert floor.resolver.links[CARRIER].down_since_ms is None, "or nothing would ever be decided for it again"
        assert floor.lane.free_places() == 1
        floor.scripted.before = lambda outbound: None
        (later,) = floor.accept()
        await asyncio.sleep(1)
    assert written_ids(floor) == [later.message_id]


@both_ways
@in_virtual_time
async def test_a_carriers_own_word_stops_and_starts_the_lane(prompt: bool) -> None:
    floor = Floor(prompt=prompt, limits=ONE_A_SECOND)
    messages = floor.accept(5)
    async with floor.running():
        await asyncio.sleep(0.95)  # the second message is claimed
        floor.lane.on_link(False)
        await asyncio.sleep(60)
        assert written_ids(floor) == ids(messages[:1])
        assert floor.lane.held == 0
        floor.lane.on_link(True)
        await asyncio.sleep(0.05)
        assert written_ids(floor) == ids(messages[:2])
        await asyncio.sleep(5)
    assert written_ids(floor) == ids(messages)
    assert floor.kinds(messages[1]) == ["returned 1", "sent 2"]


@in_virtual_time
async def test_a_paused_carrier_is_handed_nothing_and_numbers_learn_of_it_until_it_is_resumed() -> None:
    floor = Floor(commit_ms=50)
    messages = floor.accept(3)
    async with floor.running():
        await asyncio.sleep(0.02)
        floor.lane.set_paused(True)  # what is being claimed goes back
        floor.lane.on_link(True)  # the carrier's own word changes nothing
        assert not floor.resolver.links[CARRIER].fits(floor.clock.now_ms())  # from the very next decision on
        await asyncio.sleep(10)
        assert written(floor) == []
        assert floor.lane.free_places() == 0
        assert not floor.resolver.links[CARRIER].fits(floor.clock.now_ms())
        floor.lane.set_paused(False)
        assert floor.resolver.links[CARRIER].fits(floor.clock.now_ms())
        await asyncio.sleep(1)
    assert sorted(written_ids(floor)) == ids(messages)
    assert {tuple(floor.kinds(message)) for message in messages} == {("returned 1", "sent 2")}


@in_virtual_time
async def test_a_carrier_that_is_down_when_it_is_resumed_is_still_down() -> None:
    floor = Floor()
    async with floor.running():
        floor.lane.on_link(False)
        floor.lane.set_paused(True)
        floor.lane.set_paused(False)
        await asyncio.sleep(6)
        assert not floor.resolver.links[CARRIER].fits(floor.clock.now_ms())
        floor.lane.on_link(True)
        assert floor.resolver.links[CARRIER].fits(floor.clock.now_ms())


@in_virtual_time
async def test_what_is_claimed_and_waits_for_its_slot_goes_back_when_its_carrier_is_paused() -> None:
    floor = Floor(limits=ONE_A_SECOND)
    first, second = floor.accept(2)
    async with floor.running():
        await asyncio.sleep(0.96)  # the second one is claimed ahead of its slot
        assert phase_of(second) is Phase.RELEASED
        floor.lane.set_paused(True)
        assert phase_of(second) is Phase.WAITING
        await asyncio.sleep(1)
    assert written_ids(floor) == [first.message_id]
    assert floor.kinds(second) == ["returned 1"]


@in_virtual_time
async def test_while_the_link_is_down_unknown_messages_wait_and_others_try_it() -> None:
    floor = Floor(places=3)
    messages = floor.accept(30)
    floor.scripted.answers = lambda outbound: SendFailed(TIMED_OUT)
    async with floor.running():
        await asyncio.sleep(60)
        assert [message.attempt for message in messages[:3]] == [1, 1, 1]
        assert len(floor.scripted.writes) == len(set(written_ids(floor))) > 10
        floor.scripted.answers = take_all
        await asyncio.sleep(30)
    assert [floor.kinds(message)[-1] for message in messages[:3]] == ["sent 2"] * 3


def violations(floor: Floor, *, per_number: int, per_link: int) -> list[str]:
    """Sliding seconds with more hand-overs than the law allows."""
    found = []
    by_number = defaultdict(list)
    for write in floor.scripted.writes:
        by_number[str(write.outbound.number)].append(write.at_ms)
        by_number["link"].append(write.at_ms)
    for name, times in by_number.items():
        limit = per_link if name == "link" else per_number
        for earlier, later in zip(times, times[limit:], strict=False):
            if later - earlier < 1_000:
                found.append(f"{name} {earlier - START_MS}..{later - START_MS}")
    return found


@both_ways
@pytest.mark.parametrize("silent", [False, True], ids=["unreachable", "silent"])
@in_virtual_time
async def test_a_carrier_that_stalls_ten_minutes_and_comes_back_is_not_flooded(silent: bool, prompt: bool) -> None:
    rate = 40
    floor = Floor(prompt=prompt, numbers=60, limits=ONE_A_SECOND, segments_per_s=rate, places=32)
    stalled_s, back_s = 30, 630

    def stalls() -> bool:
        return stalled_s * 1_000 <= floor.clock.now_ms() - START_MS < back_s * 1_000

    if silent:
        floor.scripted.latency_ms = 0
        floor.scripted.hangs = lambda: 10_000 if stalls() else 20
        floor.scripted.answers = lambda outbound: SendFailed(TIMED_OUT) if stalls() else take_all(outbound)
    else:
        floor.scripted.before = lambda outbound: SendFailed(UNREACHABLE, "refused") if stalls() else None
    messages = []
    async with floor.running():
        for _ in range(700):  # 20 a second arrive all the while, half of what the link takes
            messages += floor.accept(20)
            await asyncio.sleep(1)
        await asyncio.sleep(700)
    assert violations(floor, per_number=1, per_link=rate) == []
    during = [at_ms for _, at_ms in written(floor) if stalled_s * 1_000 + 10_000 <= at_ms < back_s * 1_000]
    assert len(during) <= (600_000 / PROBE_MS_MAX + 5 if silent else 0)
    first_second = [at_ms for _, at_ms in written(floor) if back_s * 1_000 <= at_ms < back_s * 1_000 + 6_000]
    assert len(first_second) <= 6 * rate * 0.75, "it starts slowly"
    assert {message.phase for message in messages} == {Phase.DONE}
    sent = {fact.message_id for fact in floor.journal.facts() if fact.kind is FactKind.SENT}
    assert len(sent) == len(messages)
    copies = Counter(written_ids(floor))
    twice = {message.message_id for message in messages if copies[message.message_id] > 1}
    assert twice <= {message.message_id for message in messages if message.possible_duplicate}
    catching_up = [at_ms for _, at_ms in written(floor) if 700_000 <= at_ms < 800_000]
    assert len(catching_up) >= 0.95 * rate * 100, "and then it goes as fast as agreed"


# --- Draining ---------------------------------------------------------------------------------------------------------


@both_ways
@in_virtual_time
async def test_draining_waits_for_answers_and_returns_what_was_claimed_and_not_used(prompt: bool) -> None:
    floor = Floor(prompt=prompt, limits=ONE_A_SECOND)
    floor.scripted.latency_ms = 3_000
    messages = floor.accept(4)
    running = asyncio.create_task(floor.lane.run())
    await asyncio.sleep(1.0)
    assert [message.phase for message in messages[:2]] == [Phase.DEPARTED, Phase.RELEASED]
    began_ms = floor.clock.now_ms()
    draining = asyncio.create_task(floor.lane.drain(ms_max=10_000))
    await asyncio.sleep(0)
    assert messages[1].phase is Phase.WAITING, "at once, not at its slot"
    await draining
    await running
    assert floor.clock.now_ms() - began_ms <= 2_010
    assert await floor.facts.drain(ms_max=1_000)
    assert floor.kinds(messages[0]) == ["sent 1"]
    assert floor.kinds(messages[1]) == ["returned 1"]
    assert [floor.kinds(message) for message in messages[2:]] == [[], []]
    assert len(floor.scripted.writes) == 1


@pytest.mark.parametrize(("verdict", "kinds"), [(Settled.COMMITTED, ["returned 1"]), (Settled.FAILED, [])])
@in_virtual_time
async def test_a_claim_that_is_settled_while_draining_is_not_used(verdict: Settled, kinds: list[str]) -> None:
    floor = Floor(commit_ms=500)
    floor.journal.verdicts.append(verdict)
    (message,) = floor.accept()
    running = asyncio.create_task(floor.lane.run())
    await asyncio.sleep(0.1)
    await floor.lane.drain(ms_max=10_000)
    await running
    assert floor.clock.now_ms() == START_MS + 500
    assert await floor.facts.drain(ms_max=1_000)
    assert floor.scripted.writes == []
    assert floor.kinds(message) == kinds
    assert message.phase is Phase.WAITING


@both_ways
@in_virtual_time
async def test_what_is_not_answered_in_time_stays_unsettled(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    floor.scripted.latency_ms = 60_000
    (message,) = floor.accept()
    running = asyncio.create_task(floor.lane.run())
    await asyncio.sleep(0.1)
    began_ms = floor.clock.now_ms()
    await floor.lane.drain(ms_max=10_000)
    await running
    assert floor.clock.now_ms() - began_ms == 10_000
    assert await floor.facts.drain(ms_max=1_000)
    assert floor.kinds(message) == []
    assert len(list(floor.journal.handovers())) == 1


@both_ways
@in_virtual_time
async def test_an_idle_lane_drains_at_once_and_takes_nothing_more(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    running = asyncio.create_task(floor.lane.run())
    await asyncio.sleep(1)
    await floor.lane.drain(ms_max=10_000)
    await running
    assert floor.clock.now_ms() == START_MS + 1_000
    assert floor.lane.free_places() == 0


@both_ways
@in_virtual_time
async def test_cancelling_a_lane_in_flight_leaves_its_attempts_to_recovery(prompt: bool) -> None:
    floor = Floor(prompt=prompt)
    floor.scripted.latency_ms = 60_000
    (message,) = floor.accept()
    async with floor.running():
        await asyncio.sleep(1)
    await asyncio.sleep(120)
    assert floor.kinds(message) == []
    assert message.phase is Phase.DEPARTED
