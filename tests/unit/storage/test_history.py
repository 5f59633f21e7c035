"""What a message's facts come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.model import E164, OnUnknown, Phase, Priority, Tier
from storage.history import Course, StoredMessage, course_of, fact_row_of, message_of, request_of
from storage.records import FactKind, FactRow, MessageRow, OutcomeRow, State
from tests.fakes.entries import ACCOUNT, NOW_MS, NUMBER, body_row, fact_row, message_row

OTHER_NUMBER = E164("+14155550199")


def row(**changes: Any) -> MessageRow:
    return message_row(**changes)


ROW = row()
BODY = body_row(ROW.request_id)


def fact(kind: FactKind, **changes: Any) -> FactRow:
    return fact_row(ROW.message_id, kind, **changes)


def attempt(which: int, kind: FactKind, **changes: Any) -> FactRow:
    return fact(kind, attempt=which, handed_ms=NOW_MS + which, **changes)


def restored(*facts: FactRow, row: MessageRow = ROW):
    return message_of(row, request_of(row, BODY), course_of(facts))


# --- Messages as memory has them --------------------------------------------------------------------------------------


def test_a_message_without_facts_waits_as_it_was_decided() -> None:
    message = restored()
    assert message.phase is Phase.WAITING
    assert (message.number, message.tier, message.attempt, message.state) == (NUMBER, Tier.AREA, 0, State.QUEUED)
    assert message.committed
    assert message.request.text == BODY.text
    assert message.expires_ms == ROW.expires_ms


def test_a_returned_attempt_keeps_its_number_and_the_message_waits() -> None:
    message = restored(attempt(1, FactKind.RETURNED), attempt(2, FactKind.RETURNED))
    assert message.phase is Phase.WAITING
    assert message.attempt == 2
    assert not message.possible_duplicate


def test_that_somebody_wants_it_stopped_outlives_the_process() -> None:
    assert not restored(attempt(1, FactKind.RETURNED)).cancelled
    for facts in ([fact(FactKind.CANCEL_ASKED)], [attempt(1, FactKind.UNKNOWN), fact(FactKind.CANCEL_ASKED)]):
        message = restored(*facts)
        assert (message.cancelled, message.state) == (True, State.QUEUED)


def test_retries_are_what_the_carrier_worked_on_or_may_have_taken() -> None:
    throttled, failing = attempt(1, FactKind.RETURNED), attempt(2, FactKind.RETURNED, charged=True)
    assert restored(throttled).retries == 0
    assert restored(throttled, failing, attempt(3, FactKind.UNKNOWN)).retries == 2


def test_an_unknown_attempt_waits_apart_and_is_flagged() -> None:
    message = restored(attempt(1, FactKind.UNKNOWN))
    assert message.phase is Phase.UNKNOWN
    assert message.possible_duplicate
    assert message.slot_ms == NOW_MS + 1


def test_once_tried_again_an_unknown_attempt_leaves_only_its_flag() -> None:
    message = restored(attempt(1, FactKind.UNKNOWN), attempt(2, FactKind.RETURNED))
    assert message.phase is Phase.WAITING
    assert message.possible_duplicate


def test_the_latest_attempt_counts_whatever_order_they_were_stored_in() -> None:
    first, second = attempt(1, FactKind.UNKNOWN), attempt(2, FactKind.RETURNED)
    assert course_of([first, second])._replace(number=None) == course_of([second, first])._replace(number=None)


def test_a_rebound_message_waits_at_its_new_number() -> None:
    rebound = fact(FactKind.REBOUND, number=OTHER_NUMBER, detail=Tier.COUNTRY, at_ms=NOW_MS + 5)
    message = restored(rebound)
    assert (message.number, message.tier, message.rebound_ms) == (OTHER_NUMBER, Tier.COUNTRY, NOW_MS + 5)


def test_the_number_of_an_attempt_is_the_truth_where_the_rebinding_was_lost() -> None:
    assert restored(attempt(1, FactKind.UNKNOWN, number=OTHER_NUMBER)).number == OTHER_NUMBER


def test_callbacks_are_counted_as_they_were_made() -> None:
    sent, delivered = attempt(1, FactKind.SENT), fact(FactKind.DELIVERED)
    assert restored().sequence == 1
    assert restored(sent).sequence == 2
    assert restored(sent, fact(FactKind.REPORTED_SENT), delivered).sequence == 3
    refused = row(refusal="no_capacity", number=None, tier="none")
    assert restored(fact(FactKind.REFUSED), row=refused).sequence == 1
    silent = message_of(ROW, request_of(ROW, BODY._replace(callback_url="")), Course())
    assert silent.sequence == 0


def test_the_request_is_what_was_asked_for() -> None:
    asked = row(priority="urgent", reference="r-1")
    request = request_of(asked, BODY._replace(on_unknown="fail", patience_ms=5_000))
    assert (request.priority, request.on_unknown, request.patience_ms) == (Priority.URGENT, OnUnknown.FAIL, 5_000)
    assert (request.reference, request.accepted_ms, request.segments) == ("r-1", NOW_MS, 1)
    assert request_of(asked, BODY).on_unknown is None


@pytest.mark.parametrize("change", [{"tier": "nowhere"}, {"service": "fax"}, {"priority": "soon"}])
def test_a_word_nobody_knows_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(change.values()))):
        restored(row=row(**change))


def test_a_kind_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="vanished"):
        fact_row_of(tuple(fact(FactKind.SENT)._replace(kind="vanished")))  # type: ignore[arg-type]


# --- Messages as they are shown ---------------------------------------------------------------------------------------

DELIVERED = [
    attempt(1, FactKind.RETURNED), attempt(2, FactKind.SENT), fact(FactKind.DELIVERED), fact(FactKind.UNDELIVERED),
]  # fmt: skip
"""The carrier said one thing first and another later: the first word was the end."""


@given(st.permutations(DELIVERED))
def test_the_end_is_the_outcomes_whatever_order_its_facts_were_stored_in(facts: list[FactRow]) -> None:
    outcome = OutcomeRow(ROW.message_id, ACCOUNT, State.DELIVERED, "000", NOW_MS)
    stored = StoredMessage(ROW, BODY, tuple(facts), outcome)
    assert (stored.state, stored.code) == (State.DELIVERED, "000")
    assert stored.message().state == State.DELIVERED
    assert stored.message().attempt == 2


def test_without_an_outcome_the_state_is_what_the_facts_say() -> None:
    stored = StoredMessage(ROW, BODY, (attempt(1, FactKind.SENT),), None)
    assert (stored.state, stored.code) == (State.SENT, "")


def test_whom_it_was_handed_to_and_what_happened_can_be_asked() -> None:
    stored = StoredMessage(ROW, BODY, (*DELIVERED, fact(FactKind.REPORTED_SENT, carrier="somebody")), None)
    assert stored.carriers == {"simulated"}
    assert stored.kinds == {fact.kind for fact in DELIVERED} | {FactKind.REPORTED_SENT}


def test_the_number_shown_is_the_one_it_was_decided_for_last() -> None:
    assert StoredMessage(ROW, BODY, (), None).number == NUMBER
    rebound = fact(FactKind.REBOUND, number=OTHER_NUMBER)
    assert StoredMessage(ROW, BODY, (rebound,), None).number == OTHER_NUMBER


def test_a_message_whose_text_has_been_forgotten_can_still_be_reported() -> None:
    message = StoredMessage(ROW, None, (attempt(1, FactKind.SENT),), None).message()
    assert (message.state, message.request.text, message.request.callback_url) == (State.SENT, "", "")
