"""What is sent: recipients all over the area codes, bodies of every kind, reports, and what a good answer is.

Recipients are NPA-NXX-XXXX numbers drawn from a seed; they are as likely to be somebody's as any, so only a simulated
carrier may be behind what this is sent to. Plain values: nothing here sends anything.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from resolver.geography import AREA_CODES

TEXT = "Your table for two is ready at 19:30."
CODES = tuple(AREA_CODES)
FICTIONAL = 55_501  # exchange and the line's first two digits
JSON, NDJSON = "application/json", "application/x-ndjson"


def recipients(chance: random.Random) -> Iterator[str]:
    """One after another, without end; none of 555-01xx, where the demo's own numbers are."""
    while True:
        line = chance.randrange(2_000_000, 10_000_000)
        if line // 100 != FICTIONAL:
            yield f"+1{chance.choice(CODES)}{line}"


def message_body(powerpack_uuid: str, to: Sequence[str]) -> bytes:
    """A request for one message to each."""
    return orjson.dumps({"powerpack_uuid": powerpack_uuid, "dst": "<".join(to), "text": TEXT})


def last_to_leave(answer: Mapping[str, Any]) -> str:
    """Of a request's messages the one that is forecast to leave last; "" where none will."""
    leaving = [each for each in answer["decisions"] if each.get("send_at")]
    return str(max(leaving, key=lambda each: each["send_at"])["message_uuid"]) if leaving else ""


def bulk_body(to: Sequence[str]) -> bytes:
    """NDJSON, a message a line; the powerpack stands in the query."""
    return b"".join(orjson.dumps({"dst": each, "text": TEXT}) + b"\n" for each in to)


def report(message_id: str, status: str) -> dict[str, object]:
    """A delivery report that names the message by our id, as the JSON preset has it."""
    return {"reference": message_id, "status": status}


def reports_body(reports: Sequence[Mapping[str, object]], *, as_lines: bool) -> bytes:
    """An array, or NDJSON."""
    if as_lines:
        return b"".join(orjson.dumps(each) + b"\n" for each in reports)
    return orjson.dumps(list(reports))


def inbound_body(numbers: Sequence[str], chance: random.Random) -> bytes:
    """Messages from recipients to numbers of ours, an array."""
    sender = recipients(chance)
    return orjson.dumps([{"from": next(sender), "to": number, "text": "Yes please."} for number in numbers])


def find_fault(mode: str, status: int, body: bytes) -> str:
    """Why an answer is not the one hoped for; "" when it is."""
    if not 200 <= status < 300:
        return f"{status} {_code_of(body)}".rstrip()
    if mode in ("single", "hundred"):
        return "" if status == 202 else str(status)
    if mode == "reports":
        return _fault_of_reports(body)
    return _fault_of_bulk(body)


def _fault_of_reports(body: bytes) -> str:
    """An array is answered by one object, a stream by a line for each and one at the end; all must be facts."""
    for line in body.splitlines():
        answer = orjson.loads(line)
        if answer.get("unknown") or answer.get("refused") or answer.get("error"):
            return "reports that were not taken"
        if not answer.get("complete", True):
            return "an incomplete stream"
    return ""


def _fault_of_bulk(body: bytes) -> str:
    answer = orjson.loads(body)
    if not answer.get("complete", True):
        return "an incomplete stream"
    return f"refused lines: {answer.get('refused_by_code')}" if answer.get("refused") else ""


def _code_of(body: bytes) -> str:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(answer.get("code", "")) if isinstance(answer, dict) else ""
