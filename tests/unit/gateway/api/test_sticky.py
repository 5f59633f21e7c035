"""The sticky table over HTTP: threads read, set, forgotten, exported, imported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from resolver.model import E164
from tests.fakes.accept_floor import FIRST, POWERPACK
from tests.fakes.api_client import Client
from tests.fakes.api_floor import ApiFloor

ROOT = f"Powerpack/{POWERPACK}/Sticky/"
SECOND, SPARE = "+14155550101", "+12065550100"
RECIPIENT = "+12125550123"


@asynccontextmanager
async def served() -> AsyncIterator[tuple[ApiFloor, Client]]:
    """Two long codes in the powerpack, one beside it."""
    floor = ApiFloor()
    floor.add_number(SPARE)
    floor.fill()
    async with floor.serving() as client:
        yield floor, client


async def source_of(api: Client, recipient: str = RECIPIENT) -> tuple[str, str]:
    asked = {"dst": recipient, "text": "hello"}
    answer = (await api.post(f"Powerpack/{POWERPACK}/Resolve/", asked)).body
    return answer["from"], answer["tier"]


async def lines(api: Client) -> list[dict[str, Any]]:
    """An export's lines."""
    return list((await api.get(ROOT)).body["lines"])


async def bring(api: Client, body: bytes) -> Any:
    return await api.post(ROOT, raw=body, headers={"Content-Type": "application/x-ndjson"})


async def test_a_thread_that_is_set_rules_the_next_decision_and_is_stored_first() -> None:
    async with served() as (floor, api):
        for place, number in enumerate((SECOND, FIRST, SECOND), 1):
            answer = await api.send("PUT", f"{ROOT}{RECIPIENT}/", {"number": number})
            assert (answer.status, answer.body["number"]) == (200, number[1:])
            assert floor.flushed == place
            assert await source_of(api) == (number[1:], "sticky")
        shown = (await api.get(f"{ROOT}{RECIPIENT}/")).body
    assert (shown["recipient"], shown["number"], shown["detour"], shown["used"]) == (
        RECIPIENT[1:],
        SECOND[1:],
        None,
        True,
    )
    assert shown["expires_at"] > shown["last_at"]


async def test_a_thread_that_is_forgotten_is_gone() -> None:
    async with served() as (floor, api):
        await api.send("PUT", f"{ROOT}{RECIPIENT}/", {"number": SECOND})
        assert (await api.delete(f"{ROOT}{RECIPIENT}/")).status == 204
        assert floor.flushed == 2
        assert (await api.get(f"{ROOT}{RECIPIENT}/")).status == 404
        assert (await api.delete(f"{ROOT}{RECIPIENT}/")).status == 404
        assert (await source_of(api))[1] != "sticky"


@pytest.mark.parametrize(
    ("recipient", "body", "status", "code"),
    [
        (RECIPIENT, {}, 400, "missing_parameter"),
        (RECIPIENT, {"number": SPARE}, 404, "not_found"),
        (RECIPIENT, {"number": "nothing"}, 404, "not_found"),
        (RECIPIENT, {"number": SECOND, "colour": "red"}, 400, "invalid_parameter"),
        ("nobody", {"number": SECOND}, 400, "invalid_destination"),
        ("+4930123456", {"number": SECOND}, 400, "destination_barred"),
    ],
)
async def test_a_thread_that_cannot_be_is_refused(recipient: str, body: object, status: int, code: str) -> None:
    async with served() as (floor, api):
        answer = await api.send("PUT", f"{ROOT}{recipient}/", body)
        assert floor.flushed == 0
    assert (answer.status, answer.body["code"]) == (status, code)


async def test_what_was_imported_is_exported_and_a_bad_line_is_named() -> None:
    recipients = [f"+1212555{place:04d}" for place in range(2_500)]
    good = [
        orjson.dumps({"recipient": each, "number": (FIRST, SECOND)[place % 2]}) for place, each in enumerate(recipients)
    ]
    bad = [b'{"recipient": "x"}', b"{", b"[]", b'{"recipient":"+12125550123","number":"+12065550100"}', b"  ", b""]
    async with served() as (floor, api):
        answer = await bring(api, b"\n".join([*good[:1_000], *bad, *good[1_000:]]) + b"\n")
        exported = await lines(api)
        again = await bring(api, b"\n".join(orjson.dumps(each) for each in exported))
        assert floor.flushed == 6
    assert (answer.status, answer.body["complete"]) == (200, True)
    assert (answer.body["lines"], answer.body["stored"], answer.body["refused"]) == (2_506, 2_500, 4)
    assert [each["line"] for each in answer.body["errors"]] == [1_001, 1_002, 1_003, 1_004]
    assert [each["recipient"] for each in exported] == [each[1:] for each in recipients]
    assert {each["number"] for each in exported} == {FIRST[1:], SECOND[1:]}
    assert (again.body["stored"], again.body["refused"]) == (2_500, 0)


async def test_an_empty_table_is_an_empty_export_and_an_empty_stream_is_refused() -> None:
    async with served() as (_, api):
        assert await lines(api) == []
        answer = await bring(api, b"")
    assert (answer.status, answer.body["code"]) == (400, "empty_stream")


async def test_a_set_thread_outlives_the_decision_of_before_that_was_not_stored() -> None:
    async with served() as (floor, api):
        await api.post("Message/", {"powerpack_uuid": POWERPACK, "dst": RECIPIENT, "text": "hello"})
        threads = floor.resolver.pools[POWERPACK].threads
        message = next(iter(floor.resolver.open.values()))
        await api.send("PUT", f"{ROOT}{RECIPIENT}/", {"number": SECOND})
        floor.resolver.undo(message, now_ms=floor.clock.now_ms())
        thread = threads.find(E164(RECIPIENT))
    assert thread is not None
    assert thread.number == SECOND
