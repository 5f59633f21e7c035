from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.carrier import (
    BAD_ROUTE,
    BLOCKED,
    BUSY,
    FAILING,
    FAILURES,
    GARBLED,
    INVALID_NUMBER,
    INVALID_SOURCE,
    NO_ROUTE,
    OPTED_OUT,
    REJECTED,
    SPAM,
    THROTTLED,
    TIMED_OUT,
    TOO_LONG,
    Failure,
    SendFailed,
)
from gateway.fields import BadSetting
from tests.fakes.templates import PRESETS, compiled

ALL = {preset: compiled(preset) for preset in PRESETS}
JSON_KEYS = st.sampled_from(["id", "error", "code", "sid", "data", "message_uuid", "errors", "error_code"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_KEYS, inner, max_size=4),
)
NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
JSON = compiled("json")


def read(status: int, body: bytes = b"", retry_after: str = "") -> str:
    return JSON.answers.read(status, retry_after, body, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("body", "carrier_ref"),
    [
        (b'{"id": "abc-1"}', "abc-1"),
        (b'{"id": 4711, "more": true}', "4711"),
        (b'{"id": "' + b"x" * 128 + b'"}', "x" * 128),
    ],
)
def test_a_2xx_with_an_id_is_taken(body: bytes, carrier_ref: str) -> None:
    assert read(200, body) == carrier_ref
    assert read(202, body) == carrier_ref


@pytest.mark.parametrize(
    "body",
    [
        b"", b"OK", b"{}", b"[]", b'"abc"', b'{"id": ""}', b'{"id": null}', b'{"id": true}', b'{"id": ["x"]}',
        b'{"id": "a b"}', b'{"id": "a\\u0000b"}', b'{"id": "' + b"x" * 129 + b'"}', b'{"id": NaN}',
        b'{"error": {"code": "something_new"}}', b'{"id": "abc-1", "error": {"code": "something_new"}}',
    ],
)  # fmt: skip
def test_a_2xx_without_an_id_is_an_unknown_outcome(body: bytes) -> None:
    with pytest.raises(SendFailed) as failed:
        read(200, body)
    assert failed.value.failure is GARBLED


@given(st.binary(max_size=200))
def test_no_garbage_is_ever_taken_for_sent(body: bytes) -> None:
    try:
        carrier_ref = read(200, body)
    except SendFailed:
        return
    assert str(orjson.loads(body)["id"]) == carrier_ref


@given(
    preset=st.sampled_from(PRESETS),
    status=st.integers(100, 599),
    body=st.binary(max_size=200) | JSON_VALUES.map(orjson.dumps),
    retry_after=st.text(max_size=40),
)
def test_whatever_any_carrier_answers_is_an_id_or_a_failure_of_the_table(
    preset: str, status: int, body: bytes, retry_after: str
) -> None:
    carrier_ref, failed = "", None
    try:
        carrier_ref = ALL[preset].answers.read(status, retry_after, body, now_ms=NOW_MS)
    except SendFailed as error:
        failed = error
    if failed is not None:
        assert FAILURES[failed.failure.code] is failed.failure
        assert failed.retry_after_ms is None or 0 <= failed.retry_after_ms <= 86_400_000
        return
    assert 200 <= status < 300
    assert carrier_ref.lower() in body.decode().lower(), "an id is never made up"


TAKEN = {
    "json": (200, {"id": "abc-1"}, "abc-1"),
    "plivo": (202, {"message": "message(s) queued", "message_uuid": ["DB3C-1"], "api_id": "a"}, "db3c-1"),
    "twilio": (201, {"sid": "SM1", "status": "queued", "error_code": None, "error_message": None}, "SM1"),
    "telnyx": (200, {"data": {"id": "40385F64-x", "to": [{"status": "queued"}], "errors": []}}, "40385f64-x"),
    "bandwidth": (202, {"id": "1476207046kw2", "direction": "out", "to": ["+14155550123"]}, "1476207046kw2"),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_each_vendors_answer_gives_its_id(preset: str) -> None:
    status, body, carrier_ref = TAKEN[preset]
    assert ALL[preset].answers.read(status, "", orjson.dumps(body), now_ms=NOW_MS) == carrier_ref


@pytest.mark.parametrize(
    ("preset", "status", "body", "failure"),
    [
        ("plivo", 400, {"api_id": "a", "error": "Insufficient Credit"}, BAD_ROUTE),
        ("plivo", 400, {"api_id": "a", "error": "This caller ID is not allowed for outbound message"}, INVALID_SOURCE),
        ("plivo", 400, {"api_id": "a", "error": "'1111' is not a valid phone number."}, REJECTED),
        ("plivo", 401, {"error": "authentication credentials were not provided"}, BAD_ROUTE),
        ("plivo", 202, {"message_uuid": [], "api_id": "a"}, GARBLED),
        ("twilio", 400, {"code": 21610, "message": "unsubscribed", "status": 400}, OPTED_OUT),
        ("twilio", 400, {"code": 21211, "status": 400}, INVALID_NUMBER),
        ("twilio", 400, {"code": 99999, "status": 400}, REJECTED),
        ("twilio", 401, {"code": 20003, "status": 401}, BAD_ROUTE),
        ("twilio", 429, {"code": 20429, "status": 429}, THROTTLED),
        ("twilio", 201, {"sid": "SM1", "error_code": 30007}, SPAM),
        ("twilio", 201, {"sid": "SM1", "error_code": 39999}, GARBLED),
        ("telnyx", 403, {"errors": [{"code": "40300", "title": "Blocked due to STOP message"}]}, OPTED_OUT),
        ("telnyx", 401, {"errors": [{"code": "10009"}]}, BAD_ROUTE),
        ("telnyx", 400, {"errors": [{"code": "40310"}]}, INVALID_NUMBER),
        ("telnyx", 200, {"data": {"id": "x", "errors": [{"code": "40001"}]}}, NO_ROUTE),
        ("bandwidth", 400, {"type": "request-validation", "description": "no"}, REJECTED),
        ("bandwidth", 403, {"type": "forbidden"}, BAD_ROUTE),
        ("bandwidth", 429, {"type": "max-message-queue-size-exceeded"}, THROTTLED),
        ("json", 200, {"error": {"code": "spam"}}, SPAM),
    ],
)
def test_each_vendors_errors_become_ours(preset: str, status: int, body: object, failure: Failure) -> None:
    with pytest.raises(SendFailed) as failed:
        ALL[preset].answers.read(status, "", orjson.dumps(body), now_ms=NOW_MS)
    assert failed.value.failure is failure


OWN: dict[str, object] = {
    "submit_url": "https://carrier.example/",
    "answer": {
        "id": "message.number",
        "id_form": "hex",
        "error": ["code"],
        "taken": "state",
        "taken_values": ["queued", "OK"],
        "statuses": {"402": "bad_route", "207": "garbled"},
    },
    "errors": {"0": "taken", "1013": "spam", "88": "throttled", "7": "80"},
}


def own(status: int, body: object) -> str:
    return compiled("own", **OWN).answers.read(status, "3", orjson.dumps(body), now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("body", "carrier_ref"),
    [
        ({"code": "0", "state": "queued", "message": {"number": "00fF"}}, "255"),
        ({"state": "ok", "message": {"number": "0x10"}}, "16"),
        ({"state": "ok", "message": {"number": 10}}, "16"),
        ({"state": "ok", "message": {"number": "Not-Hex"}}, "not-hex"),
    ],
)
def test_a_carrier_of_ones_own_says_in_its_own_words_that_it_took_a_message(body: object, carrier_ref: str) -> None:
    assert own(200, body) == carrier_ref


@pytest.mark.parametrize(
    ("status", "body", "failure", "wait_ms"),
    [
        (200, {"state": "lost", "message": {"number": "1"}}, GARBLED, None),
        (200, {"message": {"number": "1"}}, GARBLED, None),
        (200, {"code": 1013}, SPAM, 3_000),
        (200, {"code": "88"}, THROTTLED, 3_000),
        (400, {"code": 7}, REJECTED, 3_000),
        (400, {"code": "0"}, REJECTED, None),
        (402, {}, BAD_ROUTE, 3_000),
        (207, {"state": "ok", "message": {"number": "1"}}, GARBLED, 3_000),
    ],
)
def test_and_what_it_did_not(status: int, body: object, failure: Failure, wait_ms: int | None) -> None:
    with pytest.raises(SendFailed) as failed:
        own(status, body)
    assert (failed.value.failure, failed.value.retry_after_ms) == (failure, wait_ms)


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"answer": {"id": "a..b"}}, r"\[carriers.one.answer\] id: 'a..b' is no path"),
        ({"answer": {"error": ["?"]}}, r"\[carriers.one.answer\] error"),
        ({"answer": {"id": ""}}, r"\[carriers.one.answer\] id: must say where"),
        ({"answer": {"idd": "x"}}, "is it 'id'"),
        ({"answer": {"statuses": {"200x": "spam"}}}, "no HTTP status"),
        ({"answer": {"statuses": {"402": "spamm"}}}, r"statuses.402"),
        ({"answer": {"id_form": "octal"}}, "exact, lower, decimal, hex"),
        ({"answer": "id"}, r"\[carriers.one.answer\]: must be a table"),
        ({"errors": {"88": "throtled"}}, r"\[carriers.one.errors\] 88: .*is it 'throttled'"),
        ({"errors": {"88": 7}}, "table of texts"),
    ],
)
def test_wrong_tables_are_named_at_start(tables: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        compiled("json", **tables)


@dataclass(frozen=True)
class Case:
    status: int
    failure: Failure
    body: bytes = b""
    retry_after: str = ""
    wait_ms: int | None = None


@pytest.mark.parametrize(
    "case",
    [
        Case(429, THROTTLED),
        Case(429, THROTTLED, retry_after="7", wait_ms=7_000),
        Case(429, THROTTLED, retry_after="Thu, 01 Jan 2026 00:00:30 GMT", wait_ms=30_000),
        Case(429, THROTTLED, retry_after="Wed, 31 Dec 2025 00:00:30 GMT", wait_ms=0),
        Case(429, THROTTLED, retry_after="soon"),
        Case(429, THROTTLED, retry_after="-1"),
        Case(429, THROTTLED, b'{"error": {"code": "spam"}}'),
        Case(503, BUSY, retry_after="2", wait_ms=2_000),
        Case(408, BUSY),
        Case(500, FAILING),
        Case(501, FAILING, b'{"id": "abc-1"}'),
        Case(502, TIMED_OUT),
        Case(504, TIMED_OUT),
        Case(400, REJECTED),
        Case(400, REJECTED, b'{"error": "spam"}'),
        Case(422, REJECTED, b'{"error": {"code": "something_new"}}'),
        Case(422, INVALID_NUMBER, b'{"error": {"code": "invalid_number"}}'),
        Case(400, SPAM, b'{"error": {"code": "spam", "message": "no"}}'),
        Case(403, BLOCKED, b'{"error": {"code": "blocked"}}'),
        Case(403, OPTED_OUT, b'{"error": {"code": "opted_out"}}'),
        Case(413, TOO_LONG),
        Case(401, BAD_ROUTE),
        Case(403, BAD_ROUTE, b"<html>"),
        Case(404, BAD_ROUTE),
        Case(302, BAD_ROUTE),
    ],
    ids=lambda case: f"{case.status} {case.failure.code}",
)
def test_every_other_status_is_a_failure_of_the_table(case: Case) -> None:
    with pytest.raises(SendFailed) as failed:
        read(case.status, case.body, case.retry_after)
    assert (failed.value.failure, failed.value.retry_after_ms) == (case.failure, case.wait_ms)
    assert failed.value.carrier_code.startswith(str(case.status))
