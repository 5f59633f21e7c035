from __future__ import annotations

import asyncio

import pytest

from gateway.attempts import AGAIN_MS, LINGER_MS, RETRY_AFTER_MS_MAX
from gateway.carriers.carrier import (
    BAD_ROUTE,
    BUSY,
    DISCONNECTED,
    FAILING,
    FAILURES,
    GARBLED,
    INVALID_NUMBER,
    SPAM,
    THROTTLED,
    TIMED_OUT,
    UNREACHABLE,
    Failure,
    SendFailed,
    Taken,
)
from gateway.settings import LaneSettings
from resolver.core import Verdict
from resolver.model import E164, Limits, Message, OnUnknown, Phase
from storage.records import SETTLES, Entry, FactKind, Settled, State
from tests.fakes.clock import START_MS, in_virtual_time
from tests.fakes.gateway_floor import CARRIER, POWERPACK, Floor

ONE_A_MINUTE = Limits(1, 60_000, 1_000_000, None)


async def departed(floor: Floor, *, validity_ms: int = 10_800_000, callback_url: str = "") -> Message:
    """A message that was claimed and written; nobody answered yet."""
    (message,) = floor.accept(validity_ms=validity_ms, callback_url=callback_url)
    return await depart(floor, message)


async def depart(floor: Floor, message: Message) -> Message:
    now_ms = floor.clock.now_ms()
    assert floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=10) == [message]
    await asyncio.sleep(0.01)
    assert floor.resolver.depart(message, now_ms=floor.clock.now_ms()).verdict is Verdict.GO
    return message


def phase_of(message: Message) -> Phase:
    return message.phase


def fail(floor: Floor, message: Message, failure: Failure, *, retry_after_ms: int | None = None) -> None:
    floor.attempts.failed(message, CARRIER, SendFailed(failure, "code", retry_after_ms=retry_after_ms))


async def stored(floor: Floor) -> None:
    await asyncio.sleep((LINGER_MS + 10) / 1_000)


# --- Settling ---------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_message_that_was_taken_is_sent_with_its_actual_hand_over() -> None:
    floor = Floor()
    message = await departed(floor)
    await asyncio.sleep(0.05)
    floor.attempts.sent(message, CARRIER, "ref", now_ms=floor.clock.now_ms())
    await stored(floor)
    (fact,) = floor.journal.facts()
    assert (fact.kind, fact.attempt, fact.handed_ms, fact.carrier_ref) == (FactKind.SENT, 1, START_MS + 10, "ref")
    assert fact.charged
    assert (message.phase, floor.resolver.waiting) == (Phase.DONE, 0)
    sent = floor.facts.awaiting.find(CARRIER, "ref")
    assert sent is not None
    assert sent.message is message


@pytest.mark.parametrize("failure", FAILURES.values(), ids=lambda failure: failure.code)
@in_virtual_time
async def test_every_failure_settles_its_attempt_with_one_fact_that_says_whether_it_counts(failure: Failure) -> None:
    floor = Floor()
    message = await departed(floor)
    fail(floor, message, failure)
    await stored(floor)
    (fact,) = [each for each in floor.journal.facts() if each.kind in SETTLES]
    wanted = FactKind.RETURNED if failure.may_retry else FactKind.REJECTED
    assert fact.kind is (FactKind.UNKNOWN if failure.taken is Taken.MAYBE else wanted)
    assert (fact.attempt, fact.handed_ms, fact.detail) == (1, START_MS + 10, failure.code)
    assert fact.charged is failure.keeps_charge
    assert message.retries == int(failure.may_retry and failure.spends_attempt)
    assert floor.settled.counts == {(CARRIER, failure.code): 1}


@pytest.mark.parametrize("failure", [UNREACHABLE, FAILING], ids=lambda failure: failure.code)
@in_virtual_time
async def test_memory_counts_a_hand_over_exactly_when_its_fact_does(failure: Failure) -> None:
    floor = Floor(limits=ONE_A_MINUTE)
    message = await departed(floor)
    fail(floor, message, failure)
    next_ms = START_MS + 10 + AGAIN_MS
    released = floor.resolver.release(CARRIER, now_ms=next_ms, until_ms=next_ms, places=10)
    assert bool(released) is not failure.keeps_charge


@in_virtual_time
async def test_a_refused_message_ends_with_plivos_code() -> None:
    floor = Floor()
    message = await departed(floor)
    fail(floor, message, INVALID_NUMBER)
    await stored(floor)
    assert [(row.state, row.code) for row in floor.journal.outcomes()] == [(State.FAILED, "50")]
    assert floor.resolver.waiting == 0


@in_virtual_time
async def test_what_was_never_written_loses_nothing_but_time() -> None:
    floor = Floor(limits=ONE_A_MINUTE)
    (message,) = floor.accept()
    now_ms = floor.clock.now_ms()
    floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=1)
    fail(floor, message, UNREACHABLE)
    await stored(floor)
    (fact,) = floor.journal.facts()
    assert (fact.kind, fact.handed_ms, fact.charged) == (FactKind.RETURNED, None, False)
    assert (message.phase, message.retries) == (Phase.WAITING, 0)
    assert floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=1) == [message]


@pytest.mark.parametrize("reason", ["expired", "cancelled"])
@in_virtual_time
async def test_what_ends_at_the_door_settles_its_attempt_and_the_message(reason: str) -> None:
    floor = Floor()
    (message,) = floor.accept()
    now_ms = floor.clock.now_ms()
    floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=1)
    floor.attempts.ended(message, CARRIER, reason)
    await stored(floor)
    assert floor.kinds(message) == ["returned 1", reason]
    assert len(floor.journal.outcomes()) == 1
    assert floor.resolver.waiting == 0


@in_virtual_time
async def test_what_was_cancelled_ends_also_when_its_claim_is_given_up() -> None:
    floor = Floor()
    (message,) = floor.accept()
    now_ms = floor.clock.now_ms()
    floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=1)
    assert floor.resolver.cancel(message, now_ms=now_ms)
    floor.attempts.given_up(message, CARRIER, "not_open")
    await stored(floor)
    assert floor.kinds(message) == ["returned 1", "cancelled"]
    assert [(row.state, row.code) for row in floor.journal.outcomes()] == [(State.FAILED, "300")]
    assert (phase_of(message), floor.resolver.waiting) == (Phase.DONE, 0)


# --- Trying again -----------------------------------------------------------------------------------------------------


async def retries_of(floor: Floor, message: Message, failure: Failure, most: int = 20) -> list[int]:
    """Let every attempt fail; the delays until each next one."""
    delays = []
    for _ in range(most):
        fail(floor, message, failure)
        if message.phase is Phase.DONE:
            break
        delays.append(message.retry_at_ms - floor.clock.now_ms())
        await asyncio.sleep(delays[-1] / 1_000)
        await depart(floor, message)
    await stored(floor)
    return delays


@in_virtual_time
async def test_delays_double_and_attempts_are_bounded() -> None:
    floor = Floor(settings=LaneSettings(retries_max=7, retry_ms_most=20_000))
    message = await departed(floor)
    assert await retries_of(floor, message, FAILING) == [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]
    assert floor.kinds(message) == [f"returned {n}" for n in range(1, 8)] + ["rejected 8"]
    assert [(row.state, row.code) for row in floor.journal.outcomes()] == [(State.FAILED, FAILING.plivo_code)]


@in_virtual_time
async def test_no_retries_may_be_set() -> None:
    floor = Floor(settings=LaneSettings(retries_max=0))
    message = await departed(floor)
    assert await retries_of(floor, message, FAILING) == []
    assert floor.kinds(message) == ["rejected 1"]


@pytest.mark.parametrize("failure", [THROTTLED, BUSY, BAD_ROUTE], ids=lambda failure: failure.code)
@in_virtual_time
async def test_trouble_of_the_link_spends_no_attempts(failure: Failure) -> None:
    floor = Floor()
    message = await departed(floor)
    assert await retries_of(floor, message, failure, most=30) == [AGAIN_MS] * 30
    assert message.retries == 0


@pytest.mark.parametrize(
    ("failure", "retry_after_ms", "delay_ms"),
    [
        (THROTTLED, 30_000, 30_000),
        (THROTTLED, 100, AGAIN_MS),
        (THROTTLED, 86_400_000, RETRY_AFTER_MS_MAX),
        (FAILING, 30_000, 30_000),
    ],
)
@in_virtual_time
async def test_a_carriers_retry_after_is_kept_within_bounds(
    failure: Failure, retry_after_ms: int, delay_ms: int
) -> None:
    floor = Floor()
    message = await departed(floor)
    fail(floor, message, failure, retry_after_ms=retry_after_ms)
    assert message.retry_at_ms - floor.clock.now_ms() == delay_ms


@pytest.mark.parametrize("failure", [THROTTLED, FAILING], ids=lambda failure: failure.code)
@in_virtual_time
async def test_a_retry_that_would_come_too_late_ends_the_message_now(failure: Failure) -> None:
    floor = Floor()
    message = await departed(floor, validity_ms=900)
    fail(floor, message, failure)
    await stored(floor)
    assert floor.kinds(message) == ["returned 1", "expired"]
    assert [(row.state, row.code) for row in floor.journal.outcomes()] == [(State.FAILED, "420")]
    assert floor.resolver.waiting == 0


# --- Unknown outcomes -------------------------------------------------------------------------------------------------


async def unknown(floor: Floor, *, validity_ms: int = 10_800_000, failure: Failure = TIMED_OUT) -> Message:
    message = await departed(floor, validity_ms=validity_ms)
    fail(floor, message, failure)
    return message


async def tick_for(floor: Floor, seconds: int) -> None:
    for _ in range(seconds):
        await asyncio.sleep(1)
        floor.attempts.tick()


@pytest.mark.parametrize("failure", [TIMED_OUT, DISCONNECTED, GARBLED], ids=lambda failure: failure.code)
@in_virtual_time
async def test_an_unknown_outcome_is_flagged_and_waits_for_a_late_report(failure: Failure) -> None:
    floor = Floor()
    message = await unknown(floor, failure=failure)
    assert (message.phase, message.possible_duplicate) == (Phase.UNKNOWN, True)
    await tick_for(floor, 9)
    assert phase_of(message) is Phase.UNKNOWN
    await tick_for(floor, 2)
    assert message.phase is not Phase.UNKNOWN


@in_virtual_time
async def test_it_is_sent_again_by_default_as_a_new_attempt() -> None:
    floor = Floor()
    message = await unknown(floor)
    await tick_for(floor, 11)
    await depart(floor, message)
    floor.attempts.sent(message, CARRIER, "ref", now_ms=floor.clock.now_ms())
    await stored(floor)
    assert floor.kinds(message) == ["unknown 1", "sent 2"]
    assert all(fact.charged for fact in floor.journal.facts())


@in_virtual_time
async def test_sending_again_is_bounded_by_attempts_and_validity() -> None:
    floor = Floor(settings=LaneSettings(retries_max=2))
    message = await unknown(floor)
    for _ in range(2):
        await tick_for(floor, 11)
        await depart(floor, message)
        fail(floor, message, TIMED_OUT)
    await tick_for(floor, 11)
    await stored(floor)
    assert floor.kinds(message) == ["unknown 1", "unknown 2", "unknown 3", "given_up"]
    late = await unknown(floor, validity_ms=5_000)
    await tick_for(floor, 11)
    await stored(floor)
    assert floor.kinds(late) == ["unknown 1", "given_up"]
    assert [row.code for row in floor.journal.outcomes()] == ["1000", "1000"]


@in_virtual_time
async def test_awaiting_a_report_lasts_until_validity_ends() -> None:
    floor = Floor()
    (message,) = floor.accept(validity_ms=60_000, on_unknown=OnUnknown.AWAIT_REPORT)
    await depart(floor, message)
    fail(floor, message, TIMED_OUT)
    await tick_for(floor, 59)
    assert phase_of(message) is Phase.UNKNOWN
    await tick_for(floor, 2)
    await stored(floor)
    assert floor.kinds(message) == ["unknown 1", "given_up"]


@in_virtual_time
async def test_failing_gives_up_after_the_wait() -> None:
    floor = Floor()
    (message,) = floor.accept(on_unknown=OnUnknown.FAIL)
    await depart(floor, message)
    fail(floor, message, TIMED_OUT)
    await tick_for(floor, 11)
    await stored(floor)
    assert floor.kinds(message) == ["unknown 1", "given_up"]
    assert floor.resolver.waiting == 0


@pytest.mark.parametrize(("own", "kinds"), [(None, ["unknown 1", "given_up"]), (OnUnknown.RESEND, ["unknown 1"])])
@in_virtual_time
async def test_the_messages_own_policy_wins_over_the_powerpacks(own: OnUnknown | None, kinds: list[str]) -> None:
    floor = Floor(on_unknown=OnUnknown.FAIL)
    (message,) = floor.accept(on_unknown=own)
    await depart(floor, message)
    fail(floor, message, TIMED_OUT)
    await tick_for(floor, 11)
    await stored(floor)
    assert floor.kinds(message) == kinds


@pytest.mark.parametrize(("own", "kinds"), [(None, ["unknown 1"]), (OnUnknown.FAIL, ["unknown 1", "given_up"])])
@in_virtual_time
async def test_what_named_its_number_is_sent_again_unless_it_says_otherwise(
    own: OnUnknown | None, kinds: list[str]
) -> None:
    floor = Floor(on_unknown=OnUnknown.FAIL)  # its powerpack's, which is not asked
    (message,) = floor.accept(on_unknown=own, source=E164("+14155550000"))
    await depart(floor, message)
    fail(floor, message, TIMED_OUT)
    await tick_for(floor, 11)
    await stored(floor)
    assert floor.kinds(message) == kinds
    assert phase_of(message) is (Phase.ASIDE if own is None else Phase.DONE)


@in_virtual_time
async def test_nothing_of_a_deleted_powerpack_is_sent_again() -> None:
    floor = Floor()
    message = await unknown(floor)
    floor.resolver.drop_powerpack(POWERPACK, now_ms=floor.clock.now_ms())
    await tick_for(floor, 11)
    await stored(floor)
    assert floor.kinds(message) == ["unknown 1", "given_up"]


@in_virtual_time
async def test_while_its_link_is_down_nothing_unknown_is_sent_again() -> None:
    floor = Floor()
    message = await unknown(floor)
    floor.attempts.set_link_up(CARRIER, False)
    await tick_for(floor, 60)
    assert phase_of(message) is Phase.UNKNOWN
    floor.attempts.set_link_up(CARRIER, True)
    await tick_for(floor, 2)
    assert phase_of(message) is Phase.ASIDE


@in_virtual_time
async def test_messages_that_recovery_brings_back_as_unknown_are_treated_alike() -> None:
    floor = Floor()
    message = await departed(floor)
    floor.resolver.settle_unknown(message, now_ms=floor.clock.now_ms())
    floor.attempts.adopt_unknown([message])
    await tick_for(floor, 9)
    assert phase_of(message) is Phase.UNKNOWN
    await tick_for(floor, 2)
    assert phase_of(message) is Phase.ASIDE


# --- Reports ----------------------------------------------------------------------------------------------------------


def report(floor: Floor, message: Message, kind: FactKind) -> None:
    """As inbound does: what has gathered goes first."""
    floor.attempts.flush()
    entry = Entry()
    floor.facts.record(entry, message, kind, carrier=CARRIER, carrier_ref="ref")
    floor.facts.keep(entry)
    floor.attempts.reported(message)


@pytest.mark.parametrize("policy", OnUnknown)
@pytest.mark.parametrize("kind", [FactKind.DELIVERED, FactKind.UNDELIVERED, FactKind.REPORTED_FAILED])
@in_virtual_time
async def test_a_late_report_settles_an_unknown_message(kind: FactKind, policy: OnUnknown) -> None:
    floor = Floor(on_unknown=policy)
    message = await unknown(floor)
    report(floor, message, kind)
    assert (message.phase, floor.resolver.waiting) == (Phase.DONE, 0)
    await tick_for(floor, 20)
    await stored(floor)
    assert floor.kinds(message) == ["unknown 1", kind]


@in_virtual_time
async def test_a_report_of_being_on_its_way_settles_it_too_and_waits_for_the_last_one() -> None:
    floor = Floor()
    message = await unknown(floor)
    report(floor, message, FactKind.REPORTED_SENT)
    assert (message.phase, floor.resolver.waiting) == (Phase.DONE, 0)
    sent = floor.facts.awaiting.find(CARRIER, "ref")
    assert sent is not None
    assert sent.message is message


@in_virtual_time
async def test_a_message_reported_while_it_waits_to_be_sent_again_is_not() -> None:
    floor = Floor()
    for step in ("aside", "waiting", "released"):
        message = await departed(floor)
        fail(floor, message, FAILING)
        now_ms = floor.clock.now_ms() + 60_000
        if step == "waiting":
            floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=0)
        if step == "released":
            floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=1)
        assert message.phase == step
        report(floor, message, FactKind.DELIVERED)
        assert floor.resolver.depart(message, now_ms=now_ms).verdict is Verdict.GONE
        assert floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=10) == []
        assert floor.resolver.waiting == 0


@pytest.mark.parametrize("failure", [TIMED_OUT, THROTTLED, SPAM], ids=lambda failure: failure.code)
@in_virtual_time
async def test_a_report_that_is_quicker_than_the_answer_wins(failure: Failure) -> None:
    floor = Floor()
    message = await departed(floor)
    report(floor, message, FactKind.DELIVERED)
    assert message.phase is Phase.DEPARTED
    fail(floor, message, failure)
    await stored(floor)
    assert floor.kinds(message) == ["delivered", "sent 1"]
    assert (message.phase, message.state) == (Phase.DONE, State.DELIVERED)
    assert not message.possible_duplicate
    await tick_for(floor, 20)
    assert floor.resolver.waiting == 0


@in_virtual_time
async def test_a_message_whose_claim_failed_after_its_report_leaves_its_attempt_settled() -> None:
    floor = Floor()
    message = await departed(floor)
    fail(floor, message, FAILING)
    now_ms = floor.clock.now_ms() + 60_000
    floor.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms, places=1)
    report(floor, message, FactKind.DELIVERED)
    floor.attempts.gone(message, CARRIER, 2)
    await stored(floor)
    assert floor.kinds(message) == ["returned 1", "delivered", "returned 2"]


# --- Facts gather -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_facts_of_a_few_milliseconds_share_an_entry() -> None:
    floor = Floor()
    messages = [await departed(floor) for _ in range(5)]
    appended = floor.journal.appended
    for message in messages[:4]:
        floor.attempts.sent(message, CARRIER, message.message_id, now_ms=floor.clock.now_ms())
        await asyncio.sleep(0.001)
    floor.attempts.flush()
    floor.attempts.sent(messages[4], CARRIER, "last", now_ms=floor.clock.now_ms())
    await stored(floor)
    assert floor.journal.appended == appended + 2
    assert len(list(floor.journal.facts())) == 5


@in_virtual_time
async def test_facts_that_could_not_be_stored_are_kept() -> None:
    floor = Floor()
    message = await departed(floor)
    floor.journal.verdicts.append(Settled.FAILED)
    floor.attempts.sent(message, CARRIER, "ref", now_ms=floor.clock.now_ms())
    await asyncio.sleep(1)
    assert floor.kinds(message) == ["sent 1"]


@in_virtual_time
async def test_flushing_nothing_appends_nothing() -> None:
    floor = Floor()
    floor.attempts.flush()
    assert floor.journal.appended == 0
