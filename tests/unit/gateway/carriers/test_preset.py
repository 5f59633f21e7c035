from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers import preset
from gateway.carriers.carrier import (
    BAD_ROUTE,
    BLOCKED,
    BUSY,
    FAILING,
    GARBLED,
    INVALID_NUMBER,
    OPTED_OUT,
    REFUSALS,
    REJECTED,
    SPAM,
    THROTTLED,
    TIMED_OUT,
    TOO_LONG,
    BadReport,
    Failure,
    Outbound,
    Report,
    SendFailed,
)
from resolver.model import E164, MessageId
from storage.records import FactKind

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MESSAGE = MessageId("019b76da-a800-7000-8000-000000000001")


def read(status: int, body: bytes = b"", retry_after: str = "") -> str:
    return preset.read_answer(status, retry_after, body, now_ms=NOW_MS)


def test_a_submit_says_all_the_carrier_needs_and_nothing_else() -> None:
    outbound = Outbound(MESSAGE, 2, E164("+14155550100"), E164("+14155550123"), "Héllo\n", 1, 10_799_999)
    assert orjson.loads(preset.render_submit(outbound)) == {
        "reference": MESSAGE,
        "attempt": 2,
        "from": "+14155550100",
        "to": "+14155550123",
        "text": "Héllo\n",
        "validity_s": 10_799,
    }


def test_a_message_about_to_expire_still_has_a_second_of_validity() -> None:
    outbound = Outbound(MESSAGE, 1, E164("+14155550100"), E164("+14155550123"), "Hello", 1, 20)
    assert orjson.loads(preset.render_submit(outbound))["validity_s"] == 1


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
        b'{"id": "a b"}', b'{"id": "a\\u0000b"}', b'{"id": "' + b"x" * 129 + b'"}', b'{"error": {"code": "spam"}}',
        b'{"id": NaN}',
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


# --- Reports ----------------------------------------------------------------------------------------------------------


def parse(value: object) -> list[Report]:
    return preset.parse_reports("application/json", orjson.dumps(value))


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
    with pytest.raises(BadReport, match=reason) as bad:
        parse([good, item, good])
    assert [report.carrier_ref for report in bad.value.good] == ["good", "good"]
    assert "report 1" in bad.value.reason


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{"), ("application/json", b'{"id":"a","status":NaN}'), ("text/plain", b"{}"), ("", b"{}")],
)
def test_a_body_that_is_no_json_is_refused_whole(content_type: str, body: bytes) -> None:
    with pytest.raises(BadReport) as bad:
        preset.parse_reports(content_type, body)
    assert bad.value.good == []


def test_the_content_type_may_name_its_charset() -> None:
    assert preset.parse_reports("Application/JSON; charset=utf-8", b"[]") == []


KEYS = st.sampled_from(["id", "status", "reference", "at", "error_code"])
INTEGERS = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.text() | st.sampled_from([*preset.STATUSES, MESSAGE]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner),
)


@given(st.binary(max_size=200) | JSON.map(orjson.dumps))
def test_whatever_is_posted_gives_reports_or_a_bad_report(body: bytes) -> None:
    try:
        reports = preset.parse_reports("application/json", body)
    except BadReport:
        return
    assert all(report.carrier_ref or report.reference for report in reports)


def test_every_refusal_a_carrier_may_name_ends_the_message() -> None:
    assert all(not failure.may_retry for failure in REFUSALS.values())
