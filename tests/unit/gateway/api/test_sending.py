"""POST Message from end to end, over a socket: what is answered, with which status, and how often it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.api.sending import wants_refusal
from resolver.model import NumberType
from storage.records import Settled
from tests.fakes.accept_floor import FIRST, POWERPACK
from tests.fakes.api_client import OTHER_ACCOUNT, Client, basic
from tests.fakes.api_floor import ApiFloor

BODY = {"dst": "+14155550199", "text": "Hello", "powerpack_uuid": POWERPACK}


@asynccontextmanager
async def served(**more: Any) -> AsyncIterator[tuple[ApiFloor, Client]]:
    floor = ApiFloor(**more)
    async with floor.serving() as client:
        yield floor, client


async def test_a_message_is_answered_202_once_it_is_stored() -> None:
    async with served() as (floor, api):
        got = await api.post("Message/", BODY)
    assert got.status == 202
    assert got.body["message"] == "message(s) queued"
    (row,) = floor.journal.committed[0].messages
    assert got.body["message_uuid"] == [row.message_id]
    (decided,) = got.body["decisions"]
    assert (decided["to"], decided["from"], decided["tier"]) == ("14155550199", FIRST[1:], "area")
    assert "invalid_number" not in got.body


async def test_the_powerpacks_id_may_be_written_in_capitals() -> None:
    async with served() as (_, api):
        assert (await api.post("Message/", {**BODY, "powerpack_uuid": POWERPACK.upper()})).status == 202


async def test_many_recipients_are_answered_in_order_the_bad_ones_by_name() -> None:
    async with served() as (_, api):
        got = await api.post("Message/", {**BODY, "dst": "14155550199<1111<+1 415-555-0198<14155550199"})
    assert got.status == 202
    assert len(got.body["message_uuid"]) == 2
    assert got.body["invalid_number"] == ["1111"]
    assert [each["to"] for each in got.body["decisions"]] == ["14155550199", "14155550198"]
    assert got.body["duplicates"] == ["14155550199"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "text"),
    [
        ({"dst": "1111111"}, 400, "invalid_destination", "'1111111' is not a valid phone number"),
        ({"dst": "911"}, 400, "destination_barred", "emergency"),
        ({"dst": "1111<2222"}, 400, "invalid_destination", "none of the 2 recipients"),
        ({"dst": "['14155551111', '14155552222']"}, 400, "invalid_parameter", "join several recipients with '<'"),
        ({"dst": FIRST}, 400, "destination_is_source", "number of this powerpack"),
        ({"text": ""}, 400, "invalid_text", "empty"),
        ({"text": "x" * 1_601}, 400, "too_long", "1601"),
        ({"text": "a\0b"}, 400, "invalid_character", "NUL"),
        ({"powerpack_uuid": "nothing"}, 404, "not_found", "no such powerpack"),
        ({"url": "ftp://a.b/"}, 400, "invalid_url", "url: "),
        ({"url": "http://127.0.0.1/"}, 400, "invalid_url", "url: "),
        ({"url": "https://user@example.com/"}, 400, "invalid_url", "url: "),
        ({"url": "https://example.com/\r\nX: y"}, 400, "invalid_url", "url: "),
        ({"src": "14155559999", "powerpack_uuid": None}, 400, "src_not_allowed", "This caller ID is not allowed"),
        ({"src": FIRST}, 400, "src_or_powerpack", "Both powerpack_uuid and src cannot be specified."),
        ({"powerpack_uuid": None}, 400, "src_or_powerpack", "Specify either powerpack_uuid or src"),
        ({"src": "SENDPOOL", "powerpack_uuid": None}, 400, "invalid_src", "alphanumeric"),
        (
            {"src": FIRST, "powerpack_uuid": None, "dst": f"14155550199<+{FIRST[1:]}"},
            400,
            "destination_is_source",
            "destination number cannot be same as source number",
        ),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_stored_nowhere(
    changes: dict[str, object], status: int, code: str, text: str
) -> None:
    async with served() as (floor, api):
        got = await api.post("Message/", {**BODY, **changes})
    assert (got.status, got.body["code"]) == (status, code)
    assert text in got.body["error"]
    assert floor.journal.appended == 0


async def test_a_thousand_and_one_recipients_are_too_many() -> None:
    numbers = [f"1415556{place:04d}" for place in range(1_001)]
    async with served() as (_, api):
        assert (await api.post("Message/", {**BODY, "dst": "<".join(numbers)})).status == 413
        assert len((await api.post("Message/", {**BODY, "dst": "<".join(numbers[1:])})).body["message_uuid"]) == 1_000


async def test_another_accounts_powerpack_cannot_be_used() -> None:
    async with served() as (floor, api):
        got = await api.post(f"/v1/Account/{OTHER_ACCOUNT}/Message/", BODY, authorization=basic(OTHER_ACCOUNT))
    assert (got.status, got.body["code"]) == (404, "not_found")
    assert floor.journal.appended == 0


async def test_a_good_callback_url_is_stored_as_it_was_checked_and_told() -> None:
    async with served() as (floor, api):
        for _ in range(2):
            got = await api.post("Message/", {**BODY, "url": "HTTPS://Example.com:8443/a b?x=ü".replace(" ", "%20")})
            assert got.status == 202
    (body,) = floor.journal.committed[0].bodies
    assert body.callback_url == "https://example.com:8443/a%20b?x=%C3%BC"
    assert [callback.sequence for callback in floor.callbacks] == [1, 1]


async def test_who_asks_is_stored_with_the_request() -> None:
    async with served() as (floor, api):
        await api.post("Message/", BODY)
    (body,) = floor.journal.committed[0].bodies
    assert body.requester_ip == "127.0.0.1"


# --- State refusals ---------------------------------------------------------------------------------------------------


async def test_without_a_number_a_message_is_stored_as_failed_and_answered_202() -> None:
    async with served(numbers=0) as (_, api):
        got = await api.post("Message/", BODY)
    assert got.status == 202
    (decided,) = got.body["decisions"]
    assert (decided["state"], decided["code"]) == ("failed", "no_number")
    assert decided["message_uuid"] == got.body["message_uuid"][0]


async def test_with_refuse_now_and_nobody_left_it_is_422_and_nothing_is_stored() -> None:
    async with served(numbers=0) as (floor, api):
        got = await api.post("Message/", {**BODY, "dst": "1111<14155550199"}, headers={"Prefer": "refuse-now"})
    assert (got.status, got.body["code"]) == (422, "no_number")
    assert got.body["refused"][0]["to"] == "14155550199"
    assert got.body["invalid_number"] == ["1111"]
    assert floor.journal.appended == 0


async def test_with_refuse_now_and_no_room_it_is_429_and_says_when_there_is() -> None:
    numbers = [f"1415556{place:04d}" for place in range(20)]
    async with served(numbers=1) as (_, api):
        body = {**BODY, "dst": "<".join(numbers), "message_expiry": 5}
        part = await api.post("Message/", body, headers={"Prefer": "respond-async, Refuse-Now"})
        full = await api.post("Message/", {**body, "dst": "14155550198"}, headers={"Prefer": "refuse-now"})
    assert part.status == 202
    assert len(part.body["message_uuid"]) + len(part.body["refused"]) == 20
    assert (full.status, full.body["code"]) == (429, "no_capacity")
    assert int(full.headers["Retry-After"]) >= 1
    assert full.body["retry_at"].endswith("Z")


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [("refuse-now", True), ("wait=5, REFUSE-NOW; x=1", True), ("refuse-now-or-later", False), ("", False)],
)
def test_prefer_is_a_list(prefer: str, expected: bool) -> None:
    assert wants_refusal(prefer) is expected


# --- Idempotency-Key --------------------------------------------------------------------------------------------------

KEY = {"Idempotency-Key": "b5a1c9a2-0000-4000-8000-000000000001"}


async def test_a_repeated_request_is_answered_as_it_was_first_and_stored_once() -> None:
    async with served() as (floor, api):
        first = await api.post("Message/", BODY, headers=KEY)
        again = await api.post("Message/", BODY, headers=KEY)
    assert (first.status, again.status) == (202, 202)
    assert again.body == first.body
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(floor.journal.committed) == 1


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("Message/", {**BODY, "text": "Other"}, KEY),
        ("Message/?x=1", BODY, KEY),
        ("Message/", BODY, {**KEY, "Prefer": "refuse-now"}),
    ],
)
async def test_a_key_stands_for_one_body_query_and_prefer(
    path: str, body: dict[str, object], headers: dict[str, str]
) -> None:
    async with served() as (floor, api):
        await api.post("Message/", BODY, headers=KEY)
        got = await api.post(path, body, headers=headers)
    assert (got.status, got.body["code"]) == (409, "idempotency_key_reused")
    assert len(floor.journal.committed) == 1


async def test_keys_of_different_accounts_and_different_keys_do_not_meet() -> None:
    async with served() as (floor, api):
        await api.post("Message/", BODY, headers=KEY)
        got = await api.post("Message/", BODY, headers={"Idempotency-Key": "another"})
        other = await api.post(
            f"/v1/Account/{OTHER_ACCOUNT}/Message/", BODY, headers=KEY, authorization=basic(OTHER_ACCOUNT)
        )
    assert got.status == 202
    assert other.status == 404
    assert len(floor.journal.committed) == 2


async def test_while_the_first_request_runs_a_repeat_is_409_and_may_come_again() -> None:
    async with served() as (floor, api):
        floor.journal.commit_ms = 200
        first = asyncio.create_task(api.post("Message/", BODY, headers=KEY))
        await asyncio.sleep(0.05)
        same = await api.post("Message/", BODY, headers=KEY)
        other = await api.post("Message/", {**BODY, "text": "x"}, headers=KEY)
        assert (await first).status == 202
        assert (await api.post("Message/", BODY, headers=KEY)).headers["Idempotent-Replayed"] == "true"
    assert (same.status, same.body["code"], same.headers["Retry-After"]) == (409, "idempotency_key_running", "1")
    assert (other.status, other.body["code"]) == (409, "idempotency_key_reused")


async def test_fifty_requests_with_one_key_at_once_are_stored_once() -> None:
    async with served() as (floor, api):
        got = await asyncio.gather(*(api.post("Message/", BODY, headers=KEY) for _ in range(50)))
    assert len(floor.journal.committed) == 1
    assert {each.status for each in got} <= {202, 409}
    assert len({tuple(each.body["message_uuid"]) for each in got if each.status == 202}) == 1


async def test_who_loses_the_race_in_the_database_gets_the_winners_answer() -> None:
    async with served() as (floor, api):
        first = await api.post("Message/", BODY, headers=KEY)
        floor.journal.finds_nothing = 1
        again = await api.post("Message/", BODY, headers=KEY)
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    assert floor.resolver.waiting == 1


async def test_an_answer_that_is_no_202_leaves_no_key() -> None:
    async with served() as (floor, api):
        floor.journal.verdicts.append(Settled.FAILED)
        failed = await api.post("Message/", BODY, headers={"Idempotency-Key": "k"})
        floor.journal.keys.clear()  # as the transaction that failed
        refused = await api.post("Message/", {**BODY, "dst": "1"}, headers=KEY)
        got = await api.post("Message/", BODY, headers=KEY)
    assert failed.status == 503
    assert refused.status == 400
    assert got.status == 202


async def test_an_unknown_outcome_is_503_and_its_repeat_is_answered_by_what_became_of_it() -> None:
    async with served() as (floor, api):
        floor.journal.answers_late = True
        got = await api.post("Message/", BODY, headers=KEY)
        floor.journal.answers_late = False
        again = await api.post("Message/", BODY, headers=KEY)
        await asyncio.sleep(1.1)
    assert (got.status, got.body["code"]) == (503, "outcome_unknown")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(floor.journal.committed) == 1


async def test_a_key_that_cannot_be_looked_up_does_not_keep_a_message_from_being_stored() -> None:
    async with served() as (floor, api):
        floor.journal.look_ups_fail = 1
        got = await api.post("Message/", BODY, headers=KEY)
        again = await api.post("Message/", BODY, headers=KEY)
    assert (got.status, again.headers["Idempotent-Replayed"]) == (202, "true")


@pytest.mark.parametrize("key", ["", " ", "a b", "ü", "x" * 256])
async def test_a_key_is_visible_ascii_of_bounded_length(key: str) -> None:
    async with served() as (_, api):
        got = await api.post("Message/", BODY, headers={"Idempotency-Key": key})
        assert (await api.post("Message/", BODY, headers={"Idempotency-Key": "x" * 255})).status == 202
    assert (got.status, got.body["code"]) == (400, "invalid_idempotency_key")


# --- From a number that is named --------------------------------------------------------------------------------------


@pytest.mark.parametrize("src", [FIRST, FIRST[1:], "+1 (415) 555-0100", 14155550100])
async def test_a_number_of_the_account_is_sent_from_however_it_is_written(src: object) -> None:
    async with served() as (floor, api):
        got = await api.post("Message/", {"src": src, "dst": "12125550199", "text": "Hello", "powerpack_uuid": None})
    assert got.status == 202
    (decided,) = got.body["decisions"]
    assert (decided["from"], decided["tier"]) == (FIRST[1:], "source")
    (row,) = floor.journal.committed[0].messages
    assert (row.powerpack_id, row.number, row.rules) == (None, FIRST, "source")


async def test_a_short_code_and_a_number_outside_all_powerpacks_are_sent_from_too() -> None:
    async with served() as (floor, api):
        floor.add_number("44444", number_type=NumberType.SHORT_CODE)
        floor.add_number("77777777", number_type=NumberType.SHORT_CODE)
        floor.add_number("+18885550100", number_type=NumberType.TOLL_FREE)
        floor.fill()
        for src in ("44444", "77777777", "+18885550100"):
            got = await api.post("Message/", {"src": src, "dst": "12125550199", "text": "Hello"})
            assert (got.status, got.body["decisions"][0]["from"]) == (202, src.removeprefix("+"))


async def test_another_accounts_number_is_not_sent_from() -> None:
    async with served() as (floor, api):
        floor.add_number("+12125550100", account_id=OTHER_ACCOUNT)
        floor.fill()
        got = await api.post("Message/", {"src": "12125550100", "dst": "12125550199", "text": "Hello"})
    assert (got.status, got.body["code"]) == (400, "src_not_allowed")
    assert got.body["error"] == "This caller ID is not allowed for outbound message"
    assert not floor.journal.committed


async def test_what_a_named_number_cannot_send_is_stored_as_failed_with_that_number() -> None:
    async with served() as (floor, api):
        floor.add_number("44444", number_type=NumberType.SHORT_CODE)
        floor.fill()
        body = {"src": "44444", "dst": "14165550199", "text": "Hello", "url": "https://example.com/cb"}
        got = await api.post("Message/", body)
        shown = await api.get(f"Message/{got.body['message_uuid'][0]}/")
    assert (got.body["decisions"][0]["state"], got.body["decisions"][0]["code"]) == ("failed", "no_number")
    assert (shown.body["from_number"], shown.body["powerpack_id"], shown.body["error_code"]) == ("44444", None, "90")
    (told,) = floor.callbacks
    params = orjson.loads(told.params)
    assert (params["From"], params["PowerpackUUID"], params["ErrorCode"]) == ("44444", "", "90")
