"""Resolve: what would be chosen and why, leaving no trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resolver.model import E164, NumberType
from tests.fakes.accept_floor import FIRST, POWERPACK
from tests.fakes.api_client import Client
from tests.fakes.api_floor import ApiFloor

PATH = f"Powerpack/{POWERPACK}/Resolve/"
RECIPIENT = "+14155550199"


@asynccontextmanager
async def served(**more: Any) -> AsyncIterator[tuple[ApiFloor, Client]]:
    floor = ApiFloor(**more)
    async with floor.serving() as client:
        yield floor, client


async def test_one_message_is_resolved_with_the_count_before_and_after_each_filter() -> None:
    async with served() as (_, api):
        got = await api.post(PATH, {"dst": RECIPIENT, "text": "x" * 161})
    assert got.status == 200
    assert (got.body["to"], got.body["from"], got.body["tier"]) == (RECIPIENT[1:], FIRST[1:], "area")
    assert (got.body["segments"], got.body["rules"], got.body["window"]) == (2, ["priority", "longcode"], "")
    assert got.body["send_at"].endswith("Z")
    steps = {step["rule"]: (step["before"], step["after"]) for step in got.body["steps"]}
    assert steps["active"] == (2, 2)
    assert steps["longcode_area"] == (2, 2)


async def test_the_same_question_has_the_same_answer_as_sending() -> None:
    async with served() as (_, api):
        resolved = await api.post(PATH, {"dst": RECIPIENT})
        sent = await api.post("Message/", {"dst": RECIPIENT, "text": "x", "powerpack_uuid": POWERPACK})
    assert resolved.body["from"] == sent.body["decisions"][0]["from"]
    assert resolved.body["tier"] == sent.body["decisions"][0]["tier"]


async def test_what_would_be_refused_is_said_with_its_reason() -> None:
    async with served(numbers=0) as (_, api):
        got = await api.post(PATH, {"dst": RECIPIENT})
    assert (got.status, got.body["code"]) == (200, "no_number")


async def test_a_recipient_that_is_none_is_said_to_be_none() -> None:
    async with served() as (_, api):
        got = await api.post(PATH, {"dst": "1111"})
    assert (got.status, got.body["code"], got.body["to"]) == (200, "invalid_destination", "1111")


async def test_an_operator_may_be_supposed() -> None:
    async with served() as (floor, api):
        floor.add_number("+18005550100", number_type=NumberType.TOLL_FREE, powerpack_id=POWERPACK)
        floor.fill()
        await api.post(f"Powerpack/{POWERPACK}/", {"operator_types": {"Verizon": "longcode"}})
        plain = await api.post(PATH, {"dst": RECIPIENT})
        supposed = await api.post(PATH, {"dst": RECIPIENT, "operator": "Verizon"})
        floor.operators[E164(RECIPIENT)] = "Verizon"
        known = await api.post(PATH, {"dst": RECIPIENT})
        del floor.operators[E164(RECIPIENT)]
        floor.learnable[E164(RECIPIENT)] = "Verizon"
        learnt = await api.post(PATH, {"messages": [{"dst": RECIPIENT}, {"dst": "1111"}]})
    assert learnt.body["decisions"][0]["from"][:4] == "1415"
    assert plain.body["from"] == "18005550100"
    assert supposed.body["from"][:4] == known.body["from"][:4] == "1415"


async def test_a_list_is_resolved_as_if_each_had_been_accepted_and_leaves_no_trace() -> None:
    recipients = [f"+1415556{place:04d}" for place in range(20)]
    async with served() as (floor, api):
        body = {"messages": [*({"dst": each} for each in recipients), {"dst": "1111"}]}
        first = await api.post(PATH, body)
        again = await api.post(PATH, body)
        assert floor.resolver.waiting == 0
        assert floor.journal.appended == 0
        threads = floor.resolver.pools[POWERPACK].threads
        assert [threads.find(E164(each)) for each in recipients] == [None] * 20
        sent = await api.post("Message/", {"dst": "<".join(recipients), "text": "x", "powerpack_uuid": POWERPACK})
    decided = first.body["decisions"]
    assert [each["from"] for each in decided[:20]] == [each["from"] for each in sent.body["decisions"]]
    assert {each["from"] for each in decided[:4]} == {FIRST[1:], "14155550101"}
    assert decided[20]["code"] == "invalid_destination"
    assert [each.get("from") for each in again.body["decisions"]] == [each.get("from") for each in decided]


async def test_resolving_does_not_disturb_the_thread_of_a_recipient() -> None:
    async with served() as (floor, api):
        await api.post("Message/", {"dst": RECIPIENT, "text": "x", "powerpack_uuid": POWERPACK})
        threads = floor.resolver.pools[POWERPACK].threads
        thread = threads.find(E164(RECIPIENT))
        assert thread is not None
        before = (thread.number, thread.detour, thread.used, thread.last_ms)
        for body in ({"dst": RECIPIENT}, {"messages": [{"dst": RECIPIENT}] * 3}):
            assert (await api.post(PATH, body)).status == 200
        after = threads.find(E164(RECIPIENT))
        assert after is not None
        assert (after.number, after.detour, after.used, after.last_ms) == before


async def test_the_steps_may_be_left_out() -> None:
    async with served() as (_, api):
        assert "steps" not in (await api.post(PATH, {"dst": RECIPIENT, "steps": False})).body


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "missing_parameter"),
        ({"dst": RECIPIENT, "account_id": "MA1"}, 400, "invalid_parameter"),
        ({"dst": RECIPIENT, "text": "x" * 1_601}, 400, "too_long"),
        ({"dst": RECIPIENT, "text": "a\0"}, 400, "invalid_character"),
        ({"dst": RECIPIENT, "priority": "high"}, 400, "invalid_parameter"),
        ({"dst": RECIPIENT, "message_expiry": 4}, 400, "invalid_parameter"),
        ({"dst": [RECIPIENT]}, 400, "invalid_parameter"),
        ({"messages": {}}, 400, "invalid_parameter"),
        ({"messages": ["x"]}, 400, "invalid_parameter"),
        ({"messages": [], "dst": RECIPIENT}, 400, "invalid_parameter"),
        ({"messages": [{"dst": RECIPIENT}] * 101}, 413, "too_many_recipients"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(body: object, status: int, code: str) -> None:
    async with served() as (_, api):
        got = await api.post(PATH, body)
    assert (got.status, got.body["code"]) == (status, code)
