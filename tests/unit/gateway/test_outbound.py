"""Accepting: what is checked, decided, stored and given back, over a journal that does what the test says."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.submissions import KeyTaken, NotAccepted, Submission
from resolver.model import (
    E164,
    AccountId,
    Decision,
    Limits,
    NumberType,
    OnUnknown,
    Phase,
    PowerpackId,
    Priority,
    Refusal,
    RefusalCode,
    StickyAtLimit,
    Tier,
)
from storage.records import (
    EpochLost,
    FactKind,
    IdempotencyRow,
    JournalFull,
    JournalUnavailable,
    OutcomeUnknown,
    Settled,
    State,
)
from tests.fakes.accept_floor import CARRIER, FIRST, POWERPACK, AcceptFloor
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT
from tests.fakes.clock import in_virtual_time

SLOW = Limits(1, 60_000, 1_000_000, None)
"""One segment a minute, and 2 % on top: three hours hold 177."""
RECIPIENT = "+14155550199"
URL = "https://example.com/cb"
OTHERS = tuple(f"+1415555{place:04d}" for place in range(1_000, 2_000))


def with_callback(submission: Submission) -> Submission:
    return submission._replace(request=replace(submission.request, callback_url=URL))


# --- What is accepted -------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_accepted_message_is_stored_with_its_decision_before_it_is_answered() -> None:
    floor = AcceptFloor()
    answer = await floor.outbound.submit(floor.submission(RECIPIENT))
    (entry,) = floor.journal.committed
    (row,) = entry.messages
    (outcome,) = answer.stored
    decision = outcome.result
    assert isinstance(decision, Decision)
    assert (row.message_id, row.recipient, row.number) == (outcome.message_id, RECIPIENT, decision.number)
    assert (row.tier, row.rules, row.forecast_ms) == (Tier.AREA, "priority,longcode", decision.forecast_ms)
    assert (row.refusal, row.line, row.segments, row.expires_ms) == ("", 0, 1, row.accepted_ms + 10_800_000)
    (body,) = entry.bodies
    assert (body.text, body.request_id) == ("Hello", row.request_id)
    assert floor.accepted.counts == {("area",): 1}


@in_virtual_time
async def test_nothing_is_answered_and_nothing_may_leave_before_the_commit() -> None:
    floor = AcceptFloor(commit_ms=50)
    task = asyncio.create_task(floor.outbound.submit(floor.submission(RECIPIENT)))
    await asyncio.sleep(0.04)
    (message,) = floor.resolver.open.values()
    assert not task.done()
    assert not message.committed
    await task
    assert message.committed
    assert floor.lane.woken == 1


@in_virtual_time
async def test_what_a_request_says_reaches_its_messages_and_its_stored_body() -> None:
    floor = AcceptFloor()
    submission = floor.submission(RECIPIENT)
    asked = replace(
        submission.request,
        priority=Priority.URGENT,
        patience_ms=5_000,
        validity_ms=60_000,
        on_unknown=OnUnknown.FAIL,
        reference="order 7",
        callback_url=URL,
        callback_method="GET",
        log="false",
        requester_ip="192.0.2.1",
    )
    await floor.outbound.submit(submission._replace(request=asked))
    (message,) = floor.resolver.open.values()
    request, (body,) = message.request, floor.journal.committed[0].bodies
    assert (request.priority, request.patience_ms, request.on_unknown) == (Priority.URGENT, 5_000, OnUnknown.FAIL)
    assert message.expires_ms == request.accepted_ms + 60_000
    assert body[3:] == (URL, "GET", 5_000, 60_000, "fail", "false", "192.0.2.1")
    assert floor.journal.committed[0].messages[0].reference == "order 7"


@in_virtual_time
async def test_a_hundred_recipients_share_one_entry_and_one_body_and_know_of_each_other() -> None:
    floor = AcceptFloor()
    answer = await floor.outbound.submit(floor.submission(*OTHERS[:100]))
    (entry,) = floor.journal.committed
    assert [row.line for row in entry.messages] == list(range(100))
    assert [outcome.recipient for outcome in answer.stored] == list(OTHERS[:100])
    assert {row.request_id for row in entry.messages} == {entry.bodies[0].request_id}
    per_number = {row.number: 0 for row in entry.messages}
    for row in entry.messages:
        per_number[row.number] += 1
    assert list(per_number.values()) == [50, 50]
    latest_ms = max(row.forecast_ms or 0 for row in entry.messages)
    assert latest_ms >= entry.messages[0].accepted_ms + 49 * 1_000


@in_virtual_time
async def test_a_callback_url_makes_the_queued_callback_part_of_the_entry() -> None:
    floor = AcceptFloor()
    await floor.outbound.submit(with_callback(floor.submission(RECIPIENT)))
    (callback,) = floor.callbacks
    assert (callback.sequence, callback.url) == (1, URL)
    assert b'"Status":"queued"' in callback.params


@in_virtual_time
async def test_the_operator_port_is_asked_for_each_recipient() -> None:
    floor = AcceptFloor(numbers=1)
    toll_free = floor.add_number("+18005550100", number_type=NumberType.TOLL_FREE, powerpack_id=POWERPACK)
    floor.fill()
    rules = {"Verizon": NumberType.LONG_CODE, "AT&T": NumberType.TOLL_FREE}
    await floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, operator_types=rules))
    floor.operators = {E164(OTHERS[0]): "Verizon", E164(OTHERS[1]): "AT&T"}
    answer = await floor.outbound.submit(floor.submission(*OTHERS[:2]))
    numbers = [outcome.result.number for outcome in answer.stored if isinstance(outcome.result, Decision)]
    assert numbers == [FIRST, toll_free.number]
    assert floor.learnt == []  # the table knew


@in_virtual_time
async def test_a_service_is_asked_for_whom_the_table_does_not_know_where_there_are_rules() -> None:
    floor = AcceptFloor(numbers=1)
    toll_free = floor.add_number("+18005550100", number_type=NumberType.TOLL_FREE, powerpack_id=POWERPACK)
    floor.fill()
    floor.operators, floor.learnable = {E164(OTHERS[0]): "Verizon"}, {E164(OTHERS[1]): "Verizon"}
    await floor.outbound.submit(floor.submission(*OTHERS[:3]))
    assert floor.learnt == []
    rules = {"Verizon": NumberType.LONG_CODE}
    await floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, operator_types=rules, sticky_sender=False))
    answer = await floor.outbound.submit(floor.submission(*OTHERS[:3]))
    assert floor.learnt == [E164(each) for each in OTHERS[1:3]]
    numbers = [outcome.result.number for outcome in answer.stored if isinstance(outcome.result, Decision)]
    assert numbers == [FIRST, FIRST, toll_free.number]
    assert floor.resolver.open[answer.stored[1].message_id].operator == "Verizon"  # kept, should it be decided again


@in_virtual_time
async def test_a_powerpack_deleted_while_a_service_is_asked_takes_no_message() -> None:
    floor = AcceptFloor(numbers=1)
    rules = {"Verizon": NumberType.LONG_CODE}
    row = await floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, operator_types=rules))
    asked = floor.outbound.submit(floor.submission(OTHERS[0]))
    deleted = floor.pools.delete_powerpack(row, with_numbers=False)
    sent, _ = await asyncio.gather(asked, deleted, return_exceptions=True)
    assert isinstance(sent, NotAccepted)
    assert not floor.resolver.open


# --- Recipients -------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_recipient_named_twice_gets_one_message_and_is_named_as_a_duplicate() -> None:
    floor = AcceptFloor()
    answer = await floor.outbound.submit(floor.submission(RECIPIENT, "1 (415) 555-0199", OTHERS[0], OTHERS[0]))
    assert [outcome.recipient for outcome in answer.stored] == [RECIPIENT, OTHERS[0]]
    assert answer.duplicates == [RECIPIENT, OTHERS[0]]


@in_virtual_time
async def test_the_same_recipient_a_thousand_times_and_more_is_one() -> None:
    floor = AcceptFloor()
    answer = await floor.outbound.submit(floor.submission(*[RECIPIENT] * 1_500))
    assert len(answer.stored) == 1


@in_virtual_time
async def test_invalid_recipients_are_named_as_written_and_the_others_accepted() -> None:
    floor = AcceptFloor()
    answer = await floor.outbound.submit(floor.submission("1111", RECIPIENT, "+4915112345678", FIRST))
    assert [(each.written, each.refusal.code) for each in answer.invalid] == [
        ("1111", RefusalCode.INVALID_DESTINATION),
        ("+4915112345678", RefusalCode.DESTINATION_BARRED),
        (FIRST, RefusalCode.DESTINATION_IS_SOURCE),
    ]
    assert len(answer.stored) == 1
    assert floor.refused.counts == {
        ("invalid_destination",): 1, ("destination_barred",): 1, ("destination_is_source",): 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("destinations", "text", "code"),
    [
        (("1111",), "Hello", "invalid_destination"),
        ((FIRST,), "Hello", "destination_is_source"),
        (("1111", "+19005550100"), "Hello", "invalid_destination"),
        ((RECIPIENT,), "", "invalid_text"),
        ((RECIPIENT,), "a\0b", "invalid_character"),
        ((RECIPIENT,), "a\ud800b", "invalid_character"),
        ((RECIPIENT,), "x" * 1_601, "too_long"),
        ((*OTHERS, RECIPIENT), "Hello", "too_many_recipients"),
    ],
)
def test_what_is_refused_for_its_shape_is_stored_nowhere(destinations: tuple[str, ...], text: str, code: str) -> None:
    @in_virtual_time
    async def run() -> None:
        floor = AcceptFloor()
        with pytest.raises(NotAccepted) as refused:
            await floor.outbound.submit(floor.submission(*destinations, text=text))
        assert refused.value.code == code
        assert refused.value.detail
        assert floor.journal.appended == 0
        assert floor.resolver.waiting == 0

    run()


@in_virtual_time
async def test_a_thousand_recipients_are_not_too_many() -> None:
    floor = AcceptFloor(limits=Limits(1_000, 1_000, 1_000_000, None))
    assert len((await floor.outbound.submit(floor.submission(*OTHERS))).stored) == 1_000


@pytest.mark.parametrize(
    ("account", "powerpack"),
    [(OTHER_ACCOUNT, POWERPACK), (ACCOUNT, PowerpackId("0193a1b2-0000-7000-8000-0000000000ff"))],
)
def test_another_accounts_powerpack_is_as_absent_as_one_that_is_not_there(
    account: AccountId, powerpack: PowerpackId
) -> None:
    @in_virtual_time
    async def run() -> None:
        floor = AcceptFloor()
        with pytest.raises(NotAccepted) as refused:
            await floor.outbound.submit(floor.submission(RECIPIENT, account_id=account, powerpack_id=powerpack))
        assert (refused.value.code, refused.value.detail) == ("not_found", "there is no such powerpack")

    run()


# --- State refusals ---------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_what_the_pool_cannot_send_in_time_is_stored_as_failed_with_its_callback() -> None:
    floor = AcceptFloor(numbers=1, limits=SLOW)
    await floor.outbound.submit(floor.submission(*OTHERS[:177]))
    answer = await floor.outbound.submit(with_callback(floor.submission(*OTHERS[200:202])))
    refusals = [outcome.result for outcome in answer.stored if isinstance(outcome.result, Refusal)]
    assert [refusal.code for refusal in refusals] == [RefusalCode.NO_CAPACITY] * 2
    entry = floor.journal.committed[-1]
    assert [(row.number, row.tier, row.refusal) for row in entry.messages] == [(None, "none", "no_capacity")] * 2
    assert [(fact.kind, fact.code, fact.detail) for fact in entry.facts] == [
        (FactKind.REFUSED, "420", "no_capacity")
    ] * 2
    assert [(outcome.state, outcome.code) for outcome in entry.outcomes] == [(State.FAILED, "420")] * 2
    assert [callback.sequence for callback in floor.callbacks] == [1, 1]
    assert b'"ErrorCode":"420"' in floor.callbacks[0].params
    assert floor.resolver.waiting == 177
    assert floor.refused.counts == {("no_capacity",): 2}


@in_virtual_time
async def test_an_empty_powerpack_fails_with_plivos_code_for_no_route() -> None:
    floor = AcceptFloor(numbers=0)
    await floor.outbound.submit(floor.submission(RECIPIENT))
    assert [fact.code for fact in floor.journal.committed[0].facts] == ["90"]


@in_virtual_time
async def test_with_refuse_now_state_refusals_are_answered_and_not_stored() -> None:
    floor = AcceptFloor(numbers=1, limits=SLOW)
    await floor.outbound.submit(floor.submission(*OTHERS[:172]))
    appended = floor.journal.appended
    answer = await floor.outbound.submit(floor.submission(*OTHERS[200:210])._replace(refuse_now=True))
    assert (len(answer.stored), len(answer.refused)) == (5, 5)
    assert all(outcome.message_id == "" for outcome in answer.refused)
    answer = await floor.outbound.submit(floor.submission(*OTHERS[300:302])._replace(refuse_now=True))
    assert (len(answer.stored), len(answer.refused)) == (0, 2)
    assert floor.journal.appended == appended + 1
    assert floor.resolver.waiting == 177


@in_virtual_time
async def test_a_thread_at_its_limit_is_refused_where_the_powerpack_says_so() -> None:
    floor = AcceptFloor(limits=SLOW)
    await floor.pools.change_powerpack(POWERPACK, lambda row: replace(row, sticky_at_limit=StickyAtLimit.REFUSE))
    await floor.outbound.submit(floor.submission(RECIPIENT))
    answer = await floor.outbound.submit(floor.submission(RECIPIENT))
    assert isinstance(answer.stored[0].result, Refusal)
    assert answer.stored[0].result.code == "sticky_at_limit"
    assert [fact.code for fact in floor.journal.committed[-1].facts] == ["420"]


# --- First claims -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_what_may_leave_at_once_is_claimed_in_its_own_transaction() -> None:
    floor = AcceptFloor(places=8)
    await floor.outbound.submit(floor.submission(*OTHERS[:5]))
    (entry,) = floor.journal.committed
    (claim,) = entry.handovers
    assert claim.carrier == CARRIER
    assert [message.message_id for message in floor.lane.taken] == claim.message_ids
    assert len(claim.message_ids) == 2  # two numbers, each free now
    assert [message.phase for message in floor.lane.taken] == [Phase.RELEASED] * 2
    assert claim.attempts == [1, 1]


@in_virtual_time
async def test_no_more_is_claimed_than_the_lane_has_places_counting_claims_being_committed() -> None:
    floor = AcceptFloor(numbers=10, places=3)
    await asyncio.gather(*(floor.outbound.submit(floor.submission(each)) for each in OTHERS[:8]))
    assert len(floor.lane.taken) == 3
    floor.lane.places = 1
    await floor.outbound.submit(floor.submission(OTHERS[9]))
    assert len(floor.lane.taken) == 4


@in_virtual_time
async def test_a_lane_without_places_gets_no_claims_but_is_woken() -> None:
    floor = AcceptFloor(places=0)
    await floor.outbound.submit(floor.submission(RECIPIENT))
    assert floor.journal.committed[0].handovers == []
    assert (floor.lane.taken, floor.lane.woken) == ([], 1)


@in_virtual_time
async def test_a_number_whose_carrier_is_not_set_up_keeps_what_it_accepts_waiting() -> None:
    floor = AcceptFloor(places=8)
    floor.outbound._lanes = {}
    await floor.outbound.submit(floor.submission(RECIPIENT))
    assert floor.resolver.waiting == 1


# --- What fails -------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_entry_that_fails_leaves_no_trace_in_memory() -> None:
    floor = AcceptFloor(places=8)
    floor.journal.verdicts.append(Settled.FAILED)
    with pytest.raises(JournalUnavailable):
        await floor.outbound.submit(floor.submission(*OTHERS[:5]))
    assert floor.resolver.waiting == 0
    assert floor.lane.taken == []
    assert floor.resolver.pools[POWERPACK].threads.find(E164(OTHERS[0])) is None
    answer = await floor.outbound.submit(floor.submission(*OTHERS[:2]))
    soonest = [outcome.result.forecast_ms or 0 for outcome in answer.stored if isinstance(outcome.result, Decision)]
    assert max(soonest) <= floor.clock.now_ms()  # both numbers are free: their slots were given back
    assert len(floor.lane.taken) == 2


@in_virtual_time
async def test_another_messages_claim_in_a_failed_entry_goes_back_to_its_place_and_leaves_later() -> None:
    floor = AcceptFloor(numbers=1, places=0)
    await floor.outbound.submit(floor.submission(OTHERS[0]))
    floor.lane.places = 8
    floor.journal.verdicts.append(Settled.FAILED)
    with pytest.raises(JournalUnavailable):
        await floor.outbound.submit(floor.submission(OTHERS[1]))
    (first,) = floor.resolver.open.values()
    assert (first.recipient, first.phase) == (OTHERS[0], Phase.WAITING)
    assert floor.lane.woken == 2
    await floor.outbound.submit(floor.submission(OTHERS[2]))
    assert floor.lane.taken == [first]
    assert floor.journal.committed[-1].handovers[0].message_ids == [first.message_id]


@in_virtual_time
async def test_a_poisoned_entry_is_the_callers_fault_and_nothing_is_kept() -> None:
    floor = AcceptFloor()
    floor.journal.verdicts.append(Settled.POISONED)
    with pytest.raises(NotAccepted) as refused:
        await floor.outbound.submit(floor.submission(RECIPIENT))
    assert refused.value.code == "invalid_data"
    assert floor.resolver.waiting == 0


@pytest.mark.parametrize("late", [Settled.COMMITTED, Settled.FAILED])
def test_an_unknown_outcome_is_told_at_once_and_memory_follows_the_truth_when_it_is_known(late: Settled) -> None:
    @in_virtual_time
    async def run() -> None:
        floor = AcceptFloor(places=8)
        floor.journal.answers_late = True
        floor.journal.verdicts.append(late)
        with pytest.raises(OutcomeUnknown):
            await floor.outbound.submit(floor.submission(RECIPIENT))
        (message,) = floor.resolver.open.values()
        assert not message.committed
        assert floor.lane.taken == []
        await asyncio.sleep(2)
        assert floor.lane.taken == ([message] if late is Settled.COMMITTED else [])
        assert floor.resolver.waiting == (1 if late is Settled.COMMITTED else 0)

    run()


@in_virtual_time
async def test_a_caller_that_goes_away_changes_nothing_of_what_is_stored() -> None:
    floor = AcceptFloor(places=8, commit_ms=50)
    task = asyncio.create_task(floor.outbound.submit(floor.submission(RECIPIENT)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    (message,) = floor.resolver.open.values()
    assert message.committed
    assert floor.lane.taken == [message]


@pytest.mark.parametrize(
    ("attribute", "value", "error"),
    [("full", True, JournalFull), ("owns_epoch", False, EpochLost)],
)
def test_what_the_journal_does_not_take_is_given_back(attribute: str, value: bool, error: type[Exception]) -> None:
    @in_virtual_time
    async def run() -> None:
        floor = AcceptFloor(places=8)
        setattr(floor.journal, attribute, value)
        with pytest.raises(error):
            await floor.outbound.submit(floor.submission(*OTHERS[:5]))
        assert floor.resolver.waiting == 0
        setattr(floor.journal, attribute, not value)
        await floor.outbound.submit(floor.submission(*OTHERS[:5]))
        assert len(floor.lane.taken) == 2

    run()


@in_virtual_time
async def test_with_the_database_away_a_request_is_held_and_then_refused_before_deciding() -> None:
    floor = AcceptFloor()
    floor.journal.go_away()
    began_ms = floor.clock.now_ms()
    with pytest.raises(JournalUnavailable):
        await floor.outbound.submit(floor.submission(RECIPIENT))
    assert floor.clock.now_ms() - began_ms == 2_000
    assert floor.accepted.counts == {}


@in_virtual_time
async def test_a_request_held_while_the_database_is_away_is_accepted_when_it_comes_back() -> None:
    floor = AcceptFloor()
    floor.journal.go_away()
    task = asyncio.create_task(floor.outbound.submit(floor.submission(RECIPIENT)))
    await asyncio.sleep(1)
    floor.journal.come_back()
    answer = await task
    assert floor.journal.committed[0].messages[0].accepted_ms >= floor.clock.now_ms() - 20
    assert len(answer.stored) == 1


@in_virtual_time
async def test_a_powerpack_deleted_while_a_request_is_held_is_not_found() -> None:
    floor = AcceptFloor()
    floor.journal.go_away()
    task = asyncio.create_task(floor.outbound.submit(floor.submission(RECIPIENT)))
    await asyncio.sleep(0.5)
    await floor.pools.delete_powerpack(floor.pools.powerpacks[POWERPACK], with_numbers=False)
    floor.journal.come_back()
    with pytest.raises(NotAccepted, match="no such powerpack"):
        await task


@in_virtual_time
async def test_under_pressure_nothing_more_is_accepted() -> None:
    floor = AcceptFloor(is_overloaded=lambda: True)
    with pytest.raises(NotAccepted) as refused:
        await floor.outbound.submit(floor.submission(RECIPIENT))
    assert refused.value.code == "overloaded"


@in_virtual_time
async def test_no_more_waits_than_the_bound_allows() -> None:
    floor = AcceptFloor()
    floor.resolver.waiting_max = 3
    await floor.outbound.submit(floor.submission(*OTHERS[:2]))
    with pytest.raises(NotAccepted) as refused:
        await floor.outbound.submit(floor.submission(*OTHERS[2:4]))
    assert refused.value.code == "overloaded"
    await floor.outbound.submit(floor.submission(OTHERS[2]))
    assert floor.resolver.waiting == 3


@in_virtual_time
async def test_an_answer_that_cannot_be_kept_leaves_nothing_behind() -> None:
    floor = AcceptFloor(places=8)

    def keep(answer: object) -> IdempotencyRow:
        raise ValueError("cannot be written")

    with pytest.raises(ValueError, match="cannot be written"):
        await floor.outbound.submit(floor.submission(RECIPIENT)._replace(keep=keep))
    assert floor.resolver.waiting == 0
    assert floor.journal.appended == 0


@in_virtual_time
async def test_the_second_request_with_a_key_is_told_so_and_gives_back_what_it_took() -> None:
    floor = AcceptFloor(places=8)

    def keep(answer: object) -> IdempotencyRow:
        return IdempotencyRow(ACCOUNT, "key", b"hash", b"{}", 0)

    await floor.outbound.submit(floor.submission(RECIPIENT)._replace(keep=keep))
    with pytest.raises(KeyTaken):
        await floor.outbound.submit(floor.submission(OTHERS[0])._replace(keep=keep))
    assert floor.resolver.waiting == 1
    assert floor.journal.committed[0].idempotency is not None
