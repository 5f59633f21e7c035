from __future__ import annotations

from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.carrier import REFUSALS, BadReports, Readings, Refused, Report
from gateway.carriers.template import WORDS
from gateway.fields import BadSetting
from resolver.model import MessageId
from storage.records import FactKind
from tests.fakes.templates import PRESETS, compiled

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MESSAGE = MessageId("019b76da-a800-7000-8000-000000000001")
ALL = {preset: compiled(preset).reports for preset in PRESETS}
JSON_TYPE, FORM_TYPE = "application/json", "application/x-www-form-urlencoded"


def read(content_type: str, body: bytes) -> Readings:
    return ALL["json"].read(content_type, {}, body)


def parse(value: object) -> list[Report]:
    readings = read(JSON_TYPE, orjson.dumps(value))
    assert readings.refused == []
    return readings.reports


def test_one_report_or_an_array_of_them_are_read() -> None:
    one = {"id": "abc-1", "reference": MESSAGE, "status": "delivered", "error_code": "", "at": NOW_MS}
    report = Report("abc-1", MESSAGE, FactKind.DELIVERED, "000", NOW_MS)
    assert parse(one) == [report]
    assert parse([one, {**one, "id": 7}]) == [report, report._replace(carrier_ref="7")]
    assert parse([]) == []


@pytest.mark.parametrize(
    ("status", "error_code", "kind", "code"),
    [
        ("sent", "", FactKind.REPORTED_SENT, ""),
        ("sent", "50", FactKind.REPORTED_SENT, ""),
        ("delivered", "30", FactKind.DELIVERED, "000"),
        ("undelivered", None, FactKind.UNDELIVERED, "1000"),
        ("undelivered", "80", FactKind.UNDELIVERED, "80"),
        ("undelivered", 80, FactKind.UNDELIVERED, "80"),
        ("undelivered", "000", FactKind.UNDELIVERED, "1000"),
        ("undelivered", "spam", FactKind.UNDELIVERED, "30"),
        ("undelivered", "their-own", FactKind.UNDELIVERED, "1000"),
        ("expired", "", FactKind.UNDELIVERED, "420"),
        ("failed", "invalid_number", FactKind.REPORTED_FAILED, "50"),
        ("rejected", "", FactKind.REPORTED_FAILED, "300"),
    ],
)
def test_statuses_and_codes_become_ours(status: str, error_code: object, kind: FactKind, code: str) -> None:
    assert parse({"id": "a", "status": status, "error_code": error_code}) == [Report("a", "", kind, code, 0)]


@pytest.mark.parametrize(
    ("at", "at_ms"),
    [
        (NOW_MS, NOW_MS),
        ("2026-01-01T00:00:00Z", NOW_MS),
        ("2026-01-01T01:00:00+01:00", NOW_MS),
        ("2026-01-01T00:00:00", 0),
        ("yesterday", 0), (-5, 0), (True, 0), (1 << 60, 0), (1.5, 0), (None, 0),
    ],
)  # fmt: skip
def test_a_carriers_time_is_taken_where_it_is_one(at: object, at_ms: int) -> None:
    assert parse({"id": "a", "status": "sent", "at": at})[0].at_ms == at_ms


def test_a_reference_that_is_not_one_of_our_ids_is_left_out() -> None:
    assert parse({"id": "a", "reference": "their own", "status": "sent"})[0].reference == ""
    assert parse({"reference": MESSAGE.upper(), "status": "sent"})[0] == Report(
        "", MESSAGE, FactKind.REPORTED_SENT, "", 0
    )


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"id": "a", "status": "queued"}, "status"),
        ({"id": "a"}, "status"),
        ({"id": "a", "status": ["delivered"]}, "status"),
        ({"status": "delivered"}, "names no message"),
        ({"id": "a\u0000", "status": "delivered"}, "names no message"),
        ("delivered", "not an object"),
        (None, "not an object"),
    ],
)
def test_a_report_that_cannot_be_understood_does_not_hide_its_neighbours(item: object, reason: str) -> None:
    good = {"id": "good", "status": "delivered"}
    readings = read(JSON_TYPE, orjson.dumps([good, item, good]))
    assert [report.carrier_ref for report in readings.reports] == ["good", "good"]
    ((place, why),) = readings.refused
    assert place == 1
    assert reason in why


@pytest.mark.parametrize(
    ("content_type", "body"),
    [(JSON_TYPE, b"{"), (JSON_TYPE, b'{"id":"a","status":NaN}'), ("text/plain", b"{}"), ("", b"{}"), (FORM_TYPE, b"")],
)
def test_a_body_that_is_no_json_is_refused_whole(content_type: str, body: bytes) -> None:
    with pytest.raises(BadReports):
        read(content_type, body)


def test_the_content_type_may_name_its_charset() -> None:
    assert read("Application/JSON; charset=utf-8", b"[]").reports == []


KEYS = st.sampled_from(["id", "status", "reference", "at", "error_code"])
INTEGERS = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.text() | st.sampled_from([*WORDS, MESSAGE]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner),
)


@given(st.sampled_from(PRESETS), st.binary(max_size=200) | JSON.map(orjson.dumps))
def test_whatever_is_posted_gives_reports_or_is_refused(preset: str, body: bytes) -> None:
    for content_type in (JSON_TYPE, FORM_TYPE):
        try:
            readings = ALL[preset].read(content_type, {"reference": MESSAGE}, body)
        except BadReports:
            continue
        assert all(report.carrier_ref or report.reference for report in readings.reports)


@given(st.lists(st.binary(max_size=60) | JSON.map(orjson.dumps), max_size=6))
def test_every_line_of_a_stream_is_accounted_for(lines: list[bytes]) -> None:
    readings = ALL["json"].read_lines(lines)
    assert len(readings.reports) + readings.ignored + len(readings.refused) == len(lines)


def test_a_line_that_cannot_be_read_is_named_and_does_not_stop_the_rest() -> None:
    lines = [b'{"id":"a","status":"sent"}', b"{", b"7", b'{"id":"b","status":"delivered"}', b""]
    readings = ALL["json"].read_lines(lines)
    assert [report.carrier_ref for report in readings.reports] == ["a", "b"]
    assert readings.refused == [
        Refused(1, "it is no JSON"),
        Refused(2, "it is not an object"),
        Refused(4, "it is no JSON"),
    ]


def test_every_refusal_a_carrier_may_name_ends_the_message() -> None:
    assert all(not failure.may_retry for failure in REFUSALS.values())


# --- The vendors' -----------------------------------------------------------------------------------------------------


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


def telnyx(status: str, *codes: str, kind: str = "message.finalized") -> bytes:
    payload = {"id": "40385F64-x", "to": [{"status": status}], "errors": [{"code": code} for code in codes]}
    event = {"event_type": kind, "id": "event", "occurred_at": "2026-01-01T00:00:00.000+00:00", "payload": payload}
    return orjson.dumps({"data": event, "meta": {"attempt": 1}})


def bandwidth(kind: str, **more: object) -> bytes:
    message = {"id": "14762kw2", "to": ["+14155550123"], "direction": "out", "tag": MESSAGE}
    return orjson.dumps([{"type": kind, "time": "2026-01-01T00:00:00Z", "to": "+1", "message": message, **more}])


@pytest.mark.parametrize(
    ("preset", "body", "report"),
    [
        ("plivo", form(MessageUUID="DB3C-1", Status="sent"), Report("db3c-1", MESSAGE, FactKind.REPORTED_SENT, "", 0)),
        (
            "plivo",
            form(MessageUUID="db3c-1", Status="delivered", ErrorCode="000"),
            Report("db3c-1", MESSAGE, FactKind.DELIVERED, "000", 0),
        ),
        (
            "plivo",
            form(MessageUUID="db3c-1", Status="undelivered", ErrorCode="80"),
            Report("db3c-1", MESSAGE, FactKind.UNDELIVERED, "80", 0),
        ),
        (
            "plivo",
            form(MessageUUID="db3c-1", Status="failed", ErrorCode="200"),
            Report("db3c-1", MESSAGE, FactKind.REPORTED_FAILED, "200", 0),
        ),
        (
            "twilio",
            form(MessageSid="SM1", MessageStatus="delivered", To="+1", From="+1"),
            Report("SM1", MESSAGE, FactKind.DELIVERED, "000", 0),
        ),
        (
            "twilio",
            form(MessageSid="SM1", MessageStatus="undelivered", ErrorCode="30003"),
            Report("SM1", MESSAGE, FactKind.UNDELIVERED, "80", 0),
        ),
        (
            "twilio",
            form(MessageSid="SM1", MessageStatus="failed", ErrorCode="21610"),
            Report("SM1", MESSAGE, FactKind.REPORTED_FAILED, "200", 0),
        ),
        (
            "telnyx",
            telnyx("sent", kind="message.sent"),
            Report("40385f64-x", MESSAGE, FactKind.REPORTED_SENT, "", NOW_MS, False),
        ),
        ("telnyx", telnyx("delivered"), Report("40385f64-x", MESSAGE, FactKind.DELIVERED, "000", NOW_MS, False)),
        (
            "telnyx",
            telnyx("delivery_failed", "40001"),
            Report("40385f64-x", MESSAGE, FactKind.UNDELIVERED, "90", NOW_MS, False),
        ),
        (
            "telnyx",
            telnyx("sending_failed"),
            Report("40385f64-x", MESSAGE, FactKind.REPORTED_FAILED, "1000", NOW_MS, False),
        ),
        ("bandwidth", bandwidth("message-delivered"), Report("14762kw2", MESSAGE, FactKind.DELIVERED, "000", NOW_MS)),
        (
            "bandwidth",
            bandwidth("message-failed", errorCode=4775),
            Report("14762kw2", MESSAGE, FactKind.UNDELIVERED, "200", NOW_MS),
        ),
        (
            "bandwidth",
            bandwidth("message-failed", errorCode=9902),
            Report("14762kw2", MESSAGE, FactKind.UNDELIVERED, "1000", NOW_MS),
        ),
    ],
)
def test_each_vendors_reports_become_ours(preset: str, body: bytes, report: Report) -> None:
    content_type = FORM_TYPE if preset in ("plivo", "twilio") else JSON_TYPE
    readings = ALL[preset].read(content_type, {"reference": MESSAGE}, body)
    assert readings == Readings([report], 0, [])


@pytest.mark.parametrize(
    ("preset", "body"),
    [
        ("plivo", form(MessageUUID="a", Status="queued")),
        ("twilio", form(MessageSid="SM1", MessageStatus="sending")),
        ("telnyx", telnyx("webhook_delivered", kind="message.received")),
        ("bandwidth", bandwidth("message-received")),
    ],
)
def test_what_says_nothing_of_a_messages_end_is_taken_and_passed_over(preset: str, body: bytes) -> None:
    content_type = FORM_TYPE if preset in ("plivo", "twilio") else JSON_TYPE
    assert ALL[preset].read(content_type, {}, body) == Readings([], 1, [])


@pytest.mark.parametrize("preset", ["plivo", "twilio"])
@pytest.mark.parametrize("body", [b"a=\xff", b"%ff=1", b"&".join([b"a=1"] * 300)])
def test_a_form_that_cannot_be_read_is_refused_whole(preset: str, body: bytes) -> None:
    with pytest.raises(BadReports):
        ALL[preset].read(FORM_TYPE, {}, body)


# --- A carrier of one's own -------------------------------------------------------------------------------------------


OWN = {
    "items": "batch.results",
    "id": "sms.number",
    "id_form": "decimal",
    "reference": "sms.ours",
    "status": "state",
    "error": "why.0",
    "statuses": {"2": "delivered", "Gone": "undelivered", "LATE": "expired", "wait": "ignored"},
}


def own(value: object, **tables: object) -> Readings:
    made = compiled("json", reports={**OWN, **tables}, errors={"X1": "unavailable", "x2": "80"}).reports
    return made.read(JSON_TYPE, {}, orjson.dumps(value))


def test_reports_may_lie_deep_and_words_and_codes_be_ones_own() -> None:
    items = [
        {"state": 2, "sms": {"number": "000123"}},
        {"state": "gone", "sms": {"number": 124, "ours": MESSAGE}, "why": ["x1"]},
        {"state": "late", "sms": {"number": "0x7f"}, "why": ["x2"]},
        {"state": "wait"},
        {"state": 3},
    ]
    assert own({"batch": {"results": items}}) == Readings(
        [
            Report("123", "", FactKind.DELIVERED, "000", 0),
            Report("124", MESSAGE, FactKind.UNDELIVERED, "70", 0),
            Report("0x7f", "", FactKind.UNDELIVERED, "80", 0),
        ],
        1,
        [Refused(4, "its status is unknown")],
    )


@pytest.mark.parametrize("value", [{}, [], {"batch": {}}, {"batch": {"results": {}}}, None])
def test_a_body_without_the_array_of_reports_is_refused_whole(value: object) -> None:
    with pytest.raises(BadReports, match="items"):
        own(value)


@pytest.mark.parametrize(("answered", "reported"), [("0A2F", "2607"), ("0x0a2f", "0002607"), ("a2f", "2607")])
def test_hexadecimal_ids_in_the_answer_match_decimal_ones_in_the_report(answered: str, reported: str) -> None:
    made = compiled("json", answer={"id_form": "hex"}, reports={"id_form": "decimal"})
    taken = made.answers.read(200, "", orjson.dumps({"id": answered}), now_ms=NOW_MS)
    (report,) = made.reports.read(JSON_TYPE, {}, orjson.dumps({"id": reported, "status": "sent"})).reports
    assert taken == report.carrier_ref == "2607"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"statuses": {"OK": "done"}}, r"\[carriers.one.reports\] statuses.OK: must be one of sent"),
        ({"status": "a b"}, r"\[carriers.one.reports\] status"),
        ({"format": "xml"}, "json, form"),
        ({"plivo_codes": "yes"}, "true or false"),
    ],
)
def test_wrong_tables_are_named_at_start(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        compiled("json", reports=table)
