"""Plivo's JSON for messages: every body an SDK sends is read, everything else is refused in Plivo's words."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.errors import ApiError
from gateway.api.shapes_accepted import render_accepted
from gateway.api.shapes_message import (
    SendBody,
    read_destinations,
    read_log,
    read_method,
    read_on_unknown,
    read_patience_ms,
    read_priority,
    read_reference,
    read_send,
    read_validity_ms,
    render_callback,
    shown_recipient,
)
from gateway.api.times import stamp, utc
from gateway.submissions import Answer, Invalid, Outcome
from resolver.model import (
    E164,
    AccountId,
    Decision,
    Message,
    MessageId,
    OnUnknown,
    PowerpackId,
    Priority,
    Refusal,
    RefusalCode,
    Request,
    RequestId,
    Tier,
)
from storage.records import FactKind, FactRow, State

UUID = "86bbb125-97bb-4d72-89fd-81d5c515b015"
LEAST = {"dst": "+14155551111", "text": "Hello", "powerpack_uuid": UUID}


def read(**changes: object) -> SendBody:
    return read_send(json.dumps({**LEAST, **changes}).encode())


def refusal_of(**changes: object) -> tuple[int, str, str]:
    with pytest.raises(ApiError) as refused:
        read(**changes)
    return refused.value.status, refused.value.code, refused.value.message


# --- Bodies on the wire -----------------------------------------------------------------------------------------------

BODIES = {
    "python": b'{"dst":"+14155551111","text":"Test Message","type":"sms","method":"POST","log":"true",'
    b'"trackable":false,"powerpack_uuid":"%b"}',
    "node": b'{"dst":"+14155551111","text":"Test Message","powerpack_uuid":"%b"}',
    "go": b'{"dst":"14155551111\\u003c14155552222","text":"Test Message","log":true,"powerpack_uuid":"%b"}\n',
    "ruby": b'{"src":null,"text":"Test Message","powerpack_uuid":"%b","dst":"+14155551111","url":"https://a.b/c",'
    b'"method":"POST","media_urls":null}',
    "php": b'{"dst":"+14155551111","powerpackUUID":"%b","text":"Test Message","url":"https:\\/\\/a.b\\/c"}',
    ".net": b'{"dst":"+14155551111","text":"Test Message","powerpack_uuid":"%b","log":"","type":"","src":"",'
    b'"media_urls":[],"message_expiry":"600","unheard_of":{"a":[1,2,{}]}}',
}


@pytest.mark.parametrize("sdk", BODIES)
def test_what_an_sdk_sends_is_read(sdk: str) -> None:
    send = read_send(BODIES[sdk] % UUID.encode())
    assert (send.powerpack_uuid, send.text) == (UUID, "Test Message")
    assert read_destinations(send.dst)[0].endswith("14155551111")
    assert len(read_destinations(send.dst)) == (2 if sdk == "go" else 1)
    assert read_log(send) == "true"
    assert read_method(send) == "POST"
    assert read_validity_ms(send) == (600_000 if sdk == ".net" else 10_800_000)


@pytest.mark.parametrize(
    ("changes", "status", "code", "text"),
    [
        (
            {"powerpack_uuid": None}, 400, "src_or_powerpack",
            "Specify either powerpack_uuid or src in request params to send a message",
        ),
        (
            {"src": "+14155550100"}, 400, "src_or_powerpack",
            "Both powerpack_uuid and src cannot be specified. "
            "Specify either powerpack_uuid or src in request params to send a message.",
        ),
        ({"dst": None}, 400, "missing_parameter", "dst parameter is missing"),
        ({"dst": ""}, 400, "missing_parameter", "dst parameter is missing"),
        ({"text": None}, 400, "missing_parameter", "text parameter is missing"),
        ({"type": "mms"}, 400, "not_supported_yet", "messages of type mms"),
        ({"type": "WhatsApp"}, 400, "not_supported_yet", "messages of type whatsapp"),
        ({"type": "fax"}, 400, "invalid_parameter", "type must be one of sms, mms, whatsapp"),
        ({"media_urls": ["https://a.b/c.png"]}, 400, "not_supported_yet", "messages with media"),
        ({"media_ids": ["1"]}, 400, "not_supported_yet", "messages with media"),
        ({"template": {"name": "x"}}, 400, "not_supported_yet", "WhatsApp"),
        ({"text": 5}, 400, "invalid_parameter", "Expected `str | null`, got `int` - at `$.text`"),
        ({"text": ["a"]}, 400, "invalid_parameter", "at `$.text`"),
        ({"dst": ["+14155551111"]}, 400, "invalid_parameter", "at `$.dst`"),
        ({"dst": True}, 400, "invalid_parameter", "at `$.dst`"),
        ({"url": 1}, 400, "invalid_parameter", "at `$.url`"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused_with_its_reason(
    changes: dict[str, object], status: int, code: str, text: str
) -> None:
    got = refusal_of(**changes)
    assert got[:2] == (status, code)
    assert text in got[2]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "src_or_powerpack"),
        (b"dst=1", "invalid_json"),
        (b'{"dst": NaN}', "invalid_json"),
        (b'{"text": "\xff"}', "invalid_json"),
        (b'{"x": ' + b"[" * 100_000, "invalid_json"),
        (b'{"text": "\\ud800"}', "invalid_character"),
        (b'{"dst": 1e999}', "invalid_parameter"),
        (b'{"dst": ' + b"9" * 5_000 + b"}", "invalid_parameter"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'""', "src_or_powerpack"),
    ],
)
def test_what_is_no_body_is_400(body: bytes, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_send(body)
    assert (refused.value.status, refused.value.code) == (400, code)


KEYS = [
    *LEAST,
    "src",
    "type",
    "url",
    "method",
    "log",
    "message_expiry",
    "media_urls",
    "priority",
    "patience_ms",
    "reference",
]
VALUES = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=4)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_no_values_whatever_end_in_anything_but_a_submission_or_a_400(changes: dict[str, Any]) -> None:
    body = json.dumps({**LEAST, **changes}).encode()
    try:
        send = read_send(body)
        read_destinations(send.dst)
        for reader in (read_log, read_method, read_validity_ms, read_patience_ms, read_priority, read_reference):
            reader(send)
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 - that it is read is as good


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        ("14155551111", ["14155551111"]),
        (14155551111, ["14155551111"]),
        ("1<2<3", ["1", "2", "3"]),
        ("1<<2< <", ["1", "2"]),
        ("+1 (415) 555-1111<+1 415 555 2222", ["+1 (415) 555-1111", "+1 415 555 2222"]),
    ],
)
def test_recipients_are_cut_at_the_less_than_sign(dst: str | int, expected: list[str]) -> None:
    assert read_destinations(dst) == expected


@pytest.mark.parametrize("dst", ["['14155551111', '14155552222']", '["14155551111"]', "('14155551111',)", "<", "< <"])
def test_a_list_written_as_a_text_and_nothing_at_all_are_refused(dst: str) -> None:
    with pytest.raises(ApiError, match="dst"):
        read_destinations(dst)


@pytest.mark.parametrize("expiry", [4, 10_800, -1, "soon", "4", 10**30])
def test_message_expiry_has_plivos_bounds(expiry: object) -> None:
    with pytest.raises(ApiError, match=r"message_expiry must be an integer from 5 to 10799|out of range"):
        read_validity_ms(read(message_expiry=expiry))


@pytest.mark.parametrize(
    ("expiry", "validity_ms"), [(5, 5_000), ("10799", 10_799_000), (None, 10_800_000), ("", 10_800_000)]
)
def test_message_expiry_is_read_in_seconds(expiry: object, validity_ms: int) -> None:
    assert read_validity_ms(read(message_expiry=expiry)) == validity_ms


def test_our_own_keys_are_read_and_bounded() -> None:
    send = read(priority="Urgent", patience_ms="5000", on_unknown="await_report", reference="order 7")
    assert read_priority(send) is Priority.URGENT
    assert read_patience_ms(send) == 5_000
    assert read_on_unknown(send) is OnUnknown.AWAIT_REPORT
    assert read_reference(send) == "order 7"
    assert (read_priority(read()), read_patience_ms(read()), read_on_unknown(read())) == (Priority.BULK, None, None)
    for reader, changes in (
        (read_priority, {"priority": "high"}),
        (read_patience_ms, {"patience_ms": -1}),
        (read_on_unknown, {"on_unknown": "retry"}),
        (read_reference, {"reference": "x" * 256}),
        (read_reference, {"reference": "a\0b"}),
        (read_log, {"log": "maybe"}),
        (read_method, {"method": "PUT"}),
    ):
        with pytest.raises(ApiError) as refused:
            reader(read(**changes))
        assert refused.value.status == 400


@pytest.mark.parametrize(
    ("log", "expected"),
    [(True, "true"), (False, "false"), ("False", "false"), ("content_only", "content_only"), ("", "true")],
)
def test_log_is_read_in_all_its_spellings(log: object, expected: str) -> None:
    assert read_log(read(log=log)) == expected


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("true", "14155550199"),
        ("number_only", "14155550199"),
        ("false", "14155550***"),
        ("content_only", "14155550***"),
    ],
)
def test_a_recipient_is_shown_as_far_as_its_request_allows(log: str, shown: str) -> None:
    assert shown_recipient(E164("+14155550199"), log) == shown


# --- The 202 ----------------------------------------------------------------------------------------------------------

TAKEN = Outcome(
    MessageId("id-1"), E164("+14155550199"),
    Decision(E164("+14155550100"), Tier.AREA, 1_712_300_000_123, ("priority", "longcode"), ""),
)  # fmt: skip
FULL = Refusal(RefusalCode.NO_CAPACITY, "No number could send this.", "rate", 1_712_300_000_000, 3)


def rendered(answer: Answer) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(orjson.dumps(render_accepted(answer), option=orjson.OPT_UTC_Z))
    return body


@given(st.integers(0, 4_000_000_000_000), st.integers(0, 5_000))
def test_an_instant_is_written_as_orjson_writes_it(at_ms: int, later_ms: int) -> None:
    for each in (at_ms, at_ms + later_ms, at_ms // 1_000 * 1_000):
        assert orjson.dumps(stamp(each)) == orjson.dumps(utc(each), option=orjson.OPT_UTC_Z)


def test_an_accepted_message_is_answered_with_its_source_and_its_forecast() -> None:
    assert rendered(Answer(1, [TAKEN], [], [], [])) == {
        "message": "message(s) queued",
        "message_uuid": ["id-1"],
        "decisions": [
            {
                "message_uuid": "id-1",
                "to": "14155550199",
                "from": "14155550100",
                "tier": "area",
                "segments": 1,
                "send_at": "2024-04-05T06:53:20.123000Z",
            }
        ],
    }


def test_what_was_stored_as_failed_has_its_id_its_code_and_when_there_is_room_again() -> None:
    failed = Outcome(MessageId("id-2"), E164("+14155550198"), FULL)
    body = rendered(Answer(1, [TAKEN, failed], [], [], []))
    assert body["message_uuid"] == ["id-1", "id-2"]
    assert body["decisions"][1] == {
        "message_uuid": "id-2",
        "state": "failed",
        "to": "14155550198",
        "code": "no_capacity",
        "error": "No number could send this.",
        "window": "rate",
        "retry_at": "2024-04-05T06:53:20.000000Z",
        "numbers_enough": 3,
    }


def test_what_waits_for_a_link_that_is_down_has_no_forecast_and_says_why() -> None:
    decision = Decision(E164("22555"), Tier.SOONEST, None, ("link_down",), "link_down")
    waiting = Outcome(TAKEN.message_id, TAKEN.recipient, decision)
    (decided,) = rendered(Answer(1, [waiting], [], [], []))["decisions"]
    assert (decided["from"], decided["send_at"], decided["reason"]) == ("22555", None, "link_down")


def test_everybody_who_gets_no_message_is_named() -> None:
    refused = Outcome(MessageId(""), E164("+14155550197"), Refusal(RefusalCode.NO_NUMBER, "None."))
    invalid = Invalid("1111", Refusal(RefusalCode.INVALID_DESTINATION, "No."))
    body = rendered(Answer(1, [TAKEN], [refused], [invalid], [E164("+14155550196")]))
    assert body["invalid_number"] == ["1111"]
    assert body["duplicates"] == ["14155550196"]
    assert body["refused"] == [{"to": "14155550197", "code": "no_number", "error": "None."}]


# --- Status callbacks -------------------------------------------------------------------------------------------------

REQUEST = Request(
    RequestId("r"), AccountId("MA1"), PowerpackId(UUID), "Hello", 2,
    reference="order 7", requester_ip="192.0.2.1", accepted_ms=1_712_300_000_000,
)  # fmt: skip


def message(**changes: object) -> Message:
    made = Message(MessageId("id-1"), REQUEST, E164("+14155550199"), E164("+14155550100"), Tier.AREA, 0)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def fact(kind: FactKind, *, code: str = "", handed_ms: int | None = None) -> FactRow:
    at_ms = 1_712_300_009_000
    return FactRow(
        MessageId("id-1"),
        AccountId("MA1"),
        kind,
        1,
        at_ms,
        handed_ms,
        E164("+14155550100"),
        "c",
        "ref",
        code,
        "",
        2,
        True,
    )


def test_a_queued_callback_names_the_message_and_when_it_was_taken() -> None:
    assert dict(render_callback(message(sequence=1), State.QUEUED, None)) == {
        "MessageUUID": "id-1",
        "From": "14155550100",
        "To": "14155550199",
        "Type": "sms",
        "Status": "queued",
        "Units": "2",
        "TotalRate": "0.00000",
        "TotalAmount": "0.00000",
        "MCC": "",
        "MNC": "",
        "ParentMessageUUID": "id-1",
        "PartInfo": "1 of 1",
        "Sequence": "1",
        "MessageTime": "2024-04-05 06:53:20.000000",
        "QueuedTime": "2024-04-05 06:53:20.000000",
        "requester_ip": "192.0.2.1",
        "PowerpackUUID": UUID,
        "Reference": "order 7",
    }


def test_a_sent_callback_says_when_it_was_handed_over() -> None:
    params = dict(render_callback(message(sequence=2), State.SENT, fact(FactKind.SENT, handed_ms=1_712_300_005_000)))
    assert (params["Status"], params["SentTime"]) == ("sent", "2024-04-05 06:53:25.000000")
    assert "ErrorCode" not in params
    assert "DeliveryReportTime" not in params


def test_a_delivered_callback_says_when_it_was_sent_and_reported() -> None:
    sent = message(sequence=3, attempt=1, slot_ms=1_712_300_005_000)
    params = dict(render_callback(sent, State.DELIVERED, fact(FactKind.DELIVERED, code="000")))
    assert params["SentTime"] == "2024-04-05 06:53:25.000000"
    assert params["DeliveryReportTime"] == "2024-04-05 06:53:29.000000"
    assert "ErrorCode" not in params


@pytest.mark.parametrize(
    ("state", "kind", "code", "expected"),
    [
        (State.FAILED, FactKind.EXPIRED, "420", "420"),
        (State.FAILED, FactKind.REJECTED, "30", "30"),
        (State.UNDELIVERED, FactKind.UNDELIVERED, "", "1000"),
    ],
)
def test_a_message_that_failed_has_an_error_code(state: State, kind: FactKind, code: str, expected: str) -> None:
    assert dict(render_callback(message(), state, fact(kind, code=code)))["ErrorCode"] == expected


def test_a_message_that_may_have_been_sent_twice_says_so() -> None:
    params = dict(render_callback(message(possible_duplicate=True), State.SENT, fact(FactKind.SENT)))
    assert params["PossibleDuplicate"] == "true"


def test_a_message_without_a_number_names_none() -> None:
    assert dict(render_callback(message(number=""), State.FAILED, fact(FactKind.REFUSED, code="90")))["From"] == ""
