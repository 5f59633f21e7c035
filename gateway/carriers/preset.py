"""The JSON preset: what stands on the wire between us and an HTTP carrier. Pure: bytes in, values out.

We send

    POST {submit_url}
    Authorization: <as set>
    Content-Type: application/json
    Idempotency-Key: 0193a1b2-...

    {"reference": "0193a1b2-...", "attempt": 1, "from": "+14155550100", "to": "+14155550123", "text": "Hello",
     "validity_s": 10800}

and the carrier answers `200 {"id": "abc-1"}`, or says why not: `422 {"error": {"code": "invalid_number"}}`.
Later it posts one report, or an array of them:

    {"id": "abc-1", "reference": "0193a1b2-...", "status": "delivered", "error_code": "", "at": 1767225600000}
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from gateway.carriers.carrier import (
    BAD_ROUTE,
    BUSY,
    FAILING,
    GARBLED,
    REFUSALS,
    REJECTED,
    THROTTLED,
    TIMED_OUT,
    TOO_LONG,
    BadReport,
    Outbound,
    Report,
    SendFailed,
)
from storage.records import FactKind

STATUSES: dict[str, tuple[FactKind, str]] = {
    "sent": (FactKind.REPORTED_SENT, ""),
    "delivered": (FactKind.DELIVERED, "000"),
    "undelivered": (FactKind.UNDELIVERED, "1000"),
    "expired": (FactKind.UNDELIVERED, "420"),
    "failed": (FactKind.REPORTED_FAILED, "1000"),
    "rejected": (FactKind.REPORTED_FAILED, "300"),
}
"""A report's status: what it means, and Plivo's code where the report names no better one."""

ENDED_BY_THE_WAY = frozenset({502, 504})
"""A gateway between us answers for a carrier that may have taken the message all the same."""

_REF = re.compile(r"[\x21-\x7e]{1,128}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLIVO_CODE = re.compile(r"[0-9]{1,4}")


def render_submit(outbound: Outbound) -> bytes:
    """The body of a submit."""
    return orjson.dumps(
        {
            "reference": outbound.message_id,
            "attempt": outbound.attempt,
            "from": outbound.number,
            "to": outbound.recipient,
            "text": outbound.text,
            "validity_s": max(1, outbound.remaining_ms // 1_000),
        }
    )


def read_answer(status: int, retry_after: str, body: bytes, *, now_ms: int) -> str:
    """The carrier's id for the message; raises SendFailed. Never taken for sent by default."""
    if 200 <= status < 300:
        reference = read_ref(_read_object(body).get("id"))
        if not reference:
            raise SendFailed(GARBLED, f"{status} without an id")
        return reference
    wait_ms = read_retry_after(retry_after, now_ms=now_ms)
    if status == 429:
        raise SendFailed(THROTTLED, "429", retry_after_ms=wait_ms)
    if status in ENDED_BY_THE_WAY:
        raise SendFailed(TIMED_OUT, str(status))
    if status in (408, 503):
        raise SendFailed(BUSY, str(status), retry_after_ms=wait_ms)
    if status >= 500:
        raise SendFailed(FAILING, str(status), retry_after_ms=wait_ms)
    raise _refusal(status, body)


def _refusal(status: int, body: bytes) -> SendFailed:
    error = _read_object(body).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code in REFUSALS:
        return SendFailed(REFUSALS[code], f"{status} {code}")
    if status in (400, 409, 410, 422):
        return SendFailed(REJECTED, str(status))
    if status in (413, 414):
        return SendFailed(TOO_LONG, str(status))
    return SendFailed(BAD_ROUTE, str(status))  # 401, 403, 404, a redirect: our settings, not the message


def read_retry_after(value: str, *, now_ms: int) -> int | None:
    """Retry-After in either of its forms, as milliseconds from now; None where it says nothing."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(int(value[:9]), 86_400) * 1_000
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1_000) - now_ms)


def read_ref(value: object) -> str:
    """A carrier's id as text; "" where it is none. Numbers are taken too, since many carriers count."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _REF.fullmatch(value) else ""


def parse_reports(content_type: str, body: bytes) -> list[Report]:
    """Read one report or an array of them; raises BadReport with those that could be read."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadReport("the content type is not application/json")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadReport("the body is not JSON") from error
    good: list[Report] = []
    reasons: list[str] = []
    for place, item in enumerate(value if isinstance(value, list) else [value]):
        report = _read_report(item)
        if isinstance(report, Report):
            good.append(report)
        else:
            reasons.append(f"report {place}: {report}")
    if reasons:
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise BadReport(reasons[0] + more, good=good)
    return good


def _read_report(item: object) -> Report | str:
    """The report, or why it is none."""
    if not isinstance(item, dict):
        return "it is not an object"
    status = item.get("status")
    meaning = STATUSES.get(status) if isinstance(status, str) else None
    if meaning is None:
        return "its status is unknown"
    reference = item.get("reference")
    reference = reference.lower() if isinstance(reference, str) else ""
    if not _UUID.fullmatch(reference):
        reference = ""  # not one of ours
    carrier_ref = read_ref(item.get("id"))
    if not carrier_ref and not reference:
        return "it names no message"
    kind, code = meaning
    if code and kind is not FactKind.DELIVERED:
        code = _read_code(item.get("error_code")) or code
    return Report(carrier_ref, reference, kind, code, _read_instant(item.get("at")))


def _read_code(value: object) -> str:
    """Plivo's code for what the carrier names: one of our codes, or one of Plivo's."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return ""
    if value in REFUSALS:
        return REFUSALS[value].plivo_code
    return value if _PLIVO_CODE.fullmatch(value) and int(value) else ""


def _read_instant(value: object) -> int:
    """Milliseconds since the epoch, or a time as RFC 3339 text; 0 for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 < value < 1 << 53 else 0
    if isinstance(value, str) and len(value) <= 40:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return 0
        if moment.tzinfo is not None:
            return int(moment.timestamp() * 1_000)
    return 0


def _read_object(body: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
