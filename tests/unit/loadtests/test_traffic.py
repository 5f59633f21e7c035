"""What is sent, and which answers are good."""

from __future__ import annotations

import random
from itertools import islice

import orjson
import pytest

from loadtests.traffic import bulk_body, find_fault, last_to_leave, message_body, recipients, report, reports_body
from resolver.compliance import check_recipient
from resolver.model import Refusal


def test_recipients_are_numbers_the_gateway_writes_to_and_the_same_for_a_seed() -> None:
    found = list(islice(recipients(random.Random(1)), 2_000))
    assert found == list(islice(recipients(random.Random(1)), 2_000))
    assert len(set(found)) > 1_990
    checked = [check_recipient(each, frozenset({"US", "CA"})) for each in found]
    assert [each for each in checked if isinstance(each, Refusal)] == []


def test_no_recipient_is_one_of_the_demos_numbers() -> None:
    class Fictional(random.Random):
        """Draws 555-0100 first, which one in a thousand runs would."""

        drawn = 0

        def randrange(self, *bounds: int) -> int:  # type: ignore[override]
            self.drawn += 1
            return 5_550_100 if self.drawn == 1 else 5_550_200

    assert next(recipients(Fictional(1))).endswith("5550200")


def test_bodies_hold_what_they_should() -> None:
    to = ["+12125550123", "+14155550123"]
    assert orjson.loads(message_body("p", to))["dst"] == "+12125550123<+14155550123"
    assert [orjson.loads(line)["dst"] for line in bulk_body(to).splitlines()] == to
    reports = [report("a", "sent"), report("b", "delivered")]
    assert orjson.loads(reports_body(reports, as_lines=False)) == reports
    assert [orjson.loads(line) for line in reports_body(reports, as_lines=True).splitlines()] == reports


def test_the_message_that_leaves_last_is_found_by_its_forecast() -> None:
    decisions = [
        {"message_uuid": "a", "send_at": "2026-01-01T00:00:01.000Z"},
        {"message_uuid": "b", "send_at": "2026-01-01T00:00:09.000Z"},
        {"message_uuid": "c", "state": "failed"},
        {"message_uuid": "d", "send_at": None},
    ]
    assert last_to_leave({"decisions": decisions}) == "b"
    assert last_to_leave({"decisions": decisions[2:]}) == ""


@pytest.mark.parametrize(
    ("mode", "status", "body", "fault"),
    [
        ("single", 202, b"{}", ""),
        ("single", 200, b"{}", "200"),
        ("hundred", 202, b"{}", ""),
        ("single", 503, b'{"code": "overloaded"}', "503 overloaded"),
        ("single", 502, b"<html>", "502"),
        ("reports", 200, b'{"accepted": 2, "unknown": 0, "refused": []}', ""),
        ("reports", 200, b'{"accepted": 1, "unknown": 1, "refused": []}', "reports that were not taken"),
        ("reports", 200, b'{"accepted": 1, "unknown": 0, "refused": [{"index": 1}]}', "reports that were not taken"),
        ("reports", 200, b'{"line":1,"ok":true}\n{"complete":true,"accepted":1,"unknown":0,"refused":0}\n', ""),
        ("reports", 200, b'{"line":1,"ok":false,"error":"x"}\n{"complete":true}\n', "reports that were not taken"),
        ("reports", 200, b'{"line":1,"ok":true}\n{"complete":false}\n', "an incomplete stream"),
        ("bulk", 200, b'{"complete": true, "refused": 0}', ""),
        ("bulk", 200, b'{"complete": false, "refused": 0}', "an incomplete stream"),
        (
            "bulk",
            200,
            b'{"complete": true, "refused": 3, "refused_by_code": {"no_number": 3}}',
            "refused lines: {'no_number': 3}",
        ),
    ],
)
def test_what_is_not_the_answer_hoped_for_is_named(mode: str, status: int, body: bytes, fault: str) -> None:
    assert find_fault(mode, status, body) == fault
