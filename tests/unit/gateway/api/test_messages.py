"""Messages that exist: read, listed, followed, cancelled; another account's are absent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.api.errors import ApiError
from gateway.api.shapes_stored import read_filters, read_message_id
from gateway.api.times import read_filter
from resolver.model import MessageId
from storage.messages import MessageFilters
from storage.records import Entry, FactKind, Settled
from tests.fakes.accept_floor import FIRST, POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, Client, basic
from tests.fakes.api_floor import ApiFloor

BODY = {"dst": "+14155550199", "text": "Hello", "powerpack_uuid": POWERPACK, "reference": "order 7"}
PLIVO_KEYS = frozenset(
    """
    api_id message_uuid from_number to_number message_direction message_state message_type message_time units total_rate
    total_amount error_code error_message resource_uri powerpack_id requester_ip is_domestic replaced_sender
    destination_country_iso2 destination_network carrier_fees carrier_fees_rate tendlc_campaign_id
    tendlc_registration_status dlt_entity_id dlt_template_id dlt_template_category conversation_id
    conversation_origin conversation_expiration_timestamp log message_sent_time message_updated_time
    """.split()
)


@asynccontextmanager
async def served(**more: Any) -> AsyncIterator[tuple[ApiFloor, Client]]:
    floor = ApiFloor(**more)
    async with floor.serving() as client:
        yield floor, client


async def send(api: Client, **changes: object) -> str:
    got = await api.post("Message/", {**BODY, **changes})
    assert got.status == 202, got
    return str(got.body["message_uuid"][0])


def happened(floor: ApiFloor, message_id: str, kind: FactKind, **more: Any) -> None:
    """Let something happen to a message, and store it."""
    message = floor.resolver.find(MessageId(message_id))
    assert message is not None
    entry = Entry()
    floor.facts.record(entry, message, kind, **more)
    floor.journal.committed.append(entry)


# --- One message ------------------------------------------------------------------------------------------------------


async def test_a_message_has_all_of_plivos_keys_with_plivos_types() -> None:
    async with served() as (_, api):
        message_id = await send(api)
        got = await api.get(f"Message/{message_id}/")
    assert got.status == 200
    assert got.body.keys() >= PLIVO_KEYS
    assert {
        name: got.body[name]
        for name in ("message_uuid", "from_number", "to_number", "message_state", "units", "total_rate", "error_code")
    } == {
        "message_uuid": message_id,
        "from_number": FIRST[1:],
        "to_number": "14155550199",
        "message_state": "queued",
        "units": 1,
        "total_rate": "0.00000",
        "error_code": None,
    }
    assert got.body["resource_uri"] == f"/v1/Account/{ACCOUNT}/Message/{message_id}/"
    assert got.body["message_time"].endswith("+00:00")
    assert got.body["message_sent_time"] is None
    assert (got.body["is_domestic"], got.body["destination_country_iso2"], got.body["log"]) == (True, "US", "true")
    assert (got.body["reference"], got.body["tier"]) == ("order 7", "area")


async def test_a_message_follows_its_facts() -> None:
    async with served() as (floor, api):
        message_id = await send(api)
        happened(floor, message_id, FactKind.SENT, attempt=1, handed_ms=1_712_300_005_000, carrier="c", carrier_ref="r")
        sent = (await api.get(f"Message/{message_id}/")).body
        happened(floor, message_id, FactKind.DELIVERED, carrier="c")
        delivered = (await api.get(f"Message/{message_id}/")).body
    assert (sent["message_state"], sent["message_sent_time"]) == ("sent", "2024-04-05 06:53:25.000000+00:00")
    assert (delivered["message_state"], delivered["error_code"]) == ("delivered", "000")


async def test_a_message_that_failed_names_plivos_code_and_what_it_means() -> None:
    async with served(numbers=0) as (_, api):
        got = await api.get(f"Message/{await send(api)}/")
    assert (got.body["message_state"], got.body["error_code"]) == ("failed", "90")
    assert got.body["error_message"] == "No route available"
    assert (got.body["from_number"], got.body["refusal"], got.body["is_domestic"]) == ("", "no_number", False)


async def test_what_was_not_to_be_logged_is_not_shown() -> None:
    async with served() as (_, api):
        got = await api.get(f"Message/{await send(api, log=False)}/")
    assert (got.body["to_number"], got.body["log"]) == ("14155550***", "false")


@pytest.mark.parametrize("path", ["Message/{}/", "Message/{}/Timeline/"])
async def test_what_is_not_there_and_what_is_anothers_look_the_same(path: str) -> None:
    async with served() as (_, api):
        message_id = await send(api)
        foreign = await api.get(
            f"/v1/Account/{OTHER_ACCOUNT}/{path.format(message_id)}", authorization=basic(OTHER_ACCOUNT)
        )
        absent = await api.get(path.format("019b76da-a800-7000-8000-ffffffffffff"))
        nonsense = [await api.get(path.format(each)) for each in ("x", "%00", message_id[:-1], "%27%20OR%201=1")]
        assert (await api.get(path.format(message_id.upper()))).status == 200
    for got in (foreign, absent, *nonsense):
        assert (got.status, got.body["error"], got.body["code"]) == (404, "not found", "not_found")


async def test_the_timeline_tells_the_decision_and_each_fact_in_order() -> None:
    async with served() as (floor, api):
        message_id = await send(api)
        happened(
            floor, message_id, FactKind.SENT,
            attempt=1, handed_ms=1_712_300_005_000, carrier="c", carrier_ref="r", charged=True,
        )  # fmt: skip
        got = await api.get(f"Message/{message_id}/Timeline/")
    accepted, sent = got.body["facts"]
    assert (accepted["sequence"], accepted["fact"], accepted["from"]) == (1, "accepted", FIRST[1:])
    assert accepted["rules"] == ["priority", "longcode"]
    assert (sent["sequence"], sent["fact"], sent["attempt"]) == (2, "sent", 1)
    assert (sent["handed_at"], sent["charged_segments"]) == ("2024-04-05T06:53:25.000000Z", 1)
    assert (sent["carrier"], sent["carrier_ref"]) == ("c", "r")


# --- Lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_is_paged_and_its_limit_clamped() -> None:
    async with served() as (_, api):
        ids = [await send(api) for _ in range(22)]
        first = await api.get("Message/?limit=50")
        second = await api.get(first.body["meta"]["next"])
    assert [each["message_uuid"] for each in first.body["objects"]] == ids[:1:-1]
    assert [each["message_uuid"] for each in second.body["objects"]] == [ids[1], ids[0]]
    assert first.body["meta"]["total_count"] == 22
    assert second.body["meta"]["next"] is None
    assert second.body["meta"]["previous"] == f"/v1/Account/{ACCOUNT}/Message/?limit=20&offset=0"
    assert "api_id" not in first.body["objects"][0]


async def test_filters_reach_the_archive() -> None:
    async with served() as (floor, api):
        await send(api)
        got = await api.get(
            "Message/?message_state=queued&message_time__gte=2024-04-05%2006:53&message_time__lt=2024-04-05%2006:54:10.5"
            f"&powerpack_id={POWERPACK}&to_number=14155550199&from_number=22555&message_type=sms&reference=order+7"
            "&error_code=420&?search=hack"
        )
    assert got.status == 200
    assert floor.archive.asked == MessageFilters(
        from_ms=1_712_299_980_000,
        until_ms=1_712_300_050_500,
        powerpack_id=POWERPACK,
        recipient="+14155550199",
        number="22555",
        service="sms",
        reference="order 7",
        code="420",
        state="queued",
    )


@pytest.mark.parametrize(
    "query",
    [
        "message_direction=inbound", "message_state=received", "message_state=read", "powerpack_id=x", "to_number=abc",
        "from_number=%2B", "to_number=1415555019900000",
    ],
)  # fmt: skip
async def test_a_filter_nothing_can_match_gives_an_empty_list(query: str) -> None:
    async with served() as (floor, api):
        await send(api)
        got = await api.get(f"Message/?{query}")
    assert (got.status, got.body["objects"], got.body["meta"]["total_count"]) == (200, [], 0)
    assert floor.archive.asked is None


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"message_state": "lost"}, "invalid_parameter"),
        ({"message_direction": "sideways"}, "invalid_parameter"),
        ({"message_type": "fax"}, "invalid_parameter"),
        ({"message_time__gt": "yesterday"}, "invalid_parameter"),
        ({"message_time": "2024-13-01 00:00"}, "invalid_parameter"),
        ({"destination_country_iso2": "US"}, "not_supported_yet"),
    ],
)
def test_a_filter_that_cannot_be_applied_is_refused(query: Mapping[str, str], code: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_filters(query)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("query", "span"),
    [
        ({"message_time": "2024-04-05 06:53:20"}, (1_712_300_000_000, 1_712_300_000_001)),
        ({"message_time__gt": "2024-04-05 06:53:20"}, (1_712_300_000_001, None)),
        ({"message_time__lte": "2024-04-05 06:53:20"}, (None, 1_712_300_000_001)),
        (
            {"message_time__gte": "2024-04-05 06:53:20", "message_time__gt": "2024-04-05 06:53:30"},
            (1_712_300_010_001, None),
        ),
    ],
)
def test_times_make_the_narrowest_span(query: Mapping[str, str], span: tuple[int | None, int | None]) -> None:
    filters = read_filters(query)
    assert filters is not None
    assert (filters.from_ms, filters.until_ms) == span


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2024-04-05 06:53", 1_712_299_980_000),
        ("2024-04-05 06:53:20.123456", 1_712_300_000_123),
        ("2024-04-05 06:53:20.5", 1_712_300_000_500),
        ("2024-04-05", None),
        ("2024-04-05T06:53:20", None),
        ("2024-02-30 06:53", None),
        ("２０２４-04-05 06:53", None),
    ],
)
def test_times_are_read_as_plivo_writes_them(text: str, at_ms: int | None) -> None:
    assert read_filter(text) == at_ms


def test_an_id_is_a_uuid_and_nothing_else() -> None:
    assert read_message_id("019B76DA-a800-7000-8000-000000000001") == "019b76da-a800-7000-8000-000000000001"
    for nonsense in ("", "019b76daa80070008000000000000001", "{019b76da-a800-7000-8000-000000000001}", "x" * 36):
        assert read_message_id(nonsense) is None


# --- Cancelling -------------------------------------------------------------------------------------------------------


async def test_a_waiting_message_is_cancelled_before_it_is_answered() -> None:
    async with served() as (floor, api):
        message_id = await send(api, url="https://example.com/cb")
        got = await api.delete(f"Message/{message_id}/", "")
        seen = await api.get(f"Message/{message_id}/")
        again = await api.delete(f"Message/{message_id}/")
    assert (got.status, got.body["message"]) == (200, "cancelled")
    assert (seen.body["message_state"], seen.body["error_code"]) == ("failed", "300")
    assert (again.status, again.body["code"]) == (409, "already_left")
    assert floor.resolver.waiting == 0
    assert [callback.sequence for callback in floor.callbacks] == [1, 2]


async def test_a_claimed_message_is_stopped_at_the_door() -> None:
    async with served(places=8) as (floor, api):
        message_id = await send(api)
        got = await api.delete(f"Message/{message_id}/")
    assert (got.status, got.body["message"]) == (202, "cancelling")
    assert [message.cancelled for message in floor.lane.taken] == [True]
    assert [fact.kind for fact in floor.journal.facts_of(MessageId(message_id))] == ["cancel_asked"]


async def test_a_claimed_message_is_not_answered_before_its_cancelling_is_stored() -> None:
    async with served(places=8) as (floor, api):
        message_id = await send(api)
        floor.journal.verdicts.append(Settled.FAILED)
        got = await api.delete(f"Message/{message_id}/")
    assert (got.status, got.body["code"]) == (503, "storage_unavailable")
    assert [message.cancelled for message in floor.lane.taken] == [True], "it never leaves all the same"


async def test_a_message_that_has_left_cannot_be_cancelled() -> None:
    async with served(places=8) as (floor, api):
        message_id = await send(api)
        (message,) = floor.lane.taken
        floor.resolver.depart(message, now_ms=floor.clock.now_ms())
        got = await api.delete(f"Message/{message_id}/")
    assert (got.status, got.body["code"]) == (409, "already_left")


async def test_another_accounts_message_cannot_be_cancelled_and_looks_absent() -> None:
    async with served() as (floor, api):
        message_id = await send(api)
        got = await api.delete(f"/v1/Account/{OTHER_ACCOUNT}/Message/{message_id}/", authorization=basic(OTHER_ACCOUNT))
        absent = await api.delete("Message/019b76da-a800-7000-8000-ffffffffffff/")
    assert (got.status, got.body["error"]) == (absent.status, absent.body["error"]) == (404, "not found")
    assert floor.resolver.waiting == 1


async def test_a_cancellation_that_is_not_stored_is_not_answered_as_done() -> None:
    async with served() as (floor, api):
        message_id = await send(api)
        floor.journal.verdicts.append(Settled.FAILED)
        got = await api.delete(f"Message/{message_id}/")
    assert (got.status, got.body["code"]) == (503, "storage_unavailable")


# --- Cancelling many --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "body", "left"),
    [
        (f"?powerpack_uuid={POWERPACK.upper()}", None, {"c"}),
        ("?reference=order%207", "", {"b"}),
        (f"?reference=order+7&powerpack_uuid={POWERPACK}", None, {"b", "c"}),
        ("", {"reference": "order 7"}, {"b"}),
        ("?reference=nobody", {"reference": "order 8"}, {"a", "c"}),
        ("?reference=order", None, {"a", "b", "c"}),
    ],
)
async def test_all_that_waits_and_matches_is_cancelled(query: str, body: object, left: set[str]) -> None:
    async with served() as (floor, api):
        ids = {
            "a": await send(api, url="https://example.com/cb"),
            "b": await send(api, reference="order 8"),
            "c": await send(api, powerpack_uuid=None, src=FIRST),
        }
        got = await api.delete(f"Message/{query}", body)
        assert (got.status, got.body["message"]) == (200, "cancelled")
        assert {name for name, each in ids.items() if floor.resolver.find(MessageId(each))} == left
        counts = {name: got.body[name] for name in ("cancelled", "cancelling", "in_flight", "complete")}
        assert counts == {"cancelled": 3 - len(left), "cancelling": 0, "in_flight": 0, "complete": True}
        states = {(await api.get(f"Message/{ids[name]}/")).body["error_code"] for name in ids.keys() - left}
        assert states <= {"300"}
        assert len(floor.callbacks) == 1 + ("a" not in left)


async def test_what_is_claimed_or_handed_over_is_counted_apart() -> None:
    async with served(places=8) as (floor, api):
        for recipient in ("14155550199", "14155550198"):
            await send(api, dst=recipient)
        flying, claimed = floor.lane.taken
        floor.resolver.depart(flying, now_ms=floor.clock.now_ms())
        got = await api.delete(f"Message/?powerpack_uuid={POWERPACK}")
    assert (got.body["cancelled"], got.body["cancelling"], got.body["in_flight"]) == (0, 1, 1)
    assert claimed.cancelled


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("", None, 400, "missing_parameter"),
        ("?reference=", {"powerpack_uuid": None}, 400, "missing_parameter"),
        ("?powerpack=x", None, 400, "invalid_parameter"),
        ("?reference=order+7", {"powerpack_uid": POWERPACK}, 400, "invalid_parameter"),
        ("?reference=" + "x" * 256, None, 400, "invalid_parameter"),
        ("?powerpack_uuid=none", None, 404, "not_found"),
    ],
)
async def test_cancelling_many_says_what_is_wrong_and_cancels_nothing(
    query: str, body: object, status: int, code: str
) -> None:
    async with served() as (floor, api):
        await send(api)
        got = await api.delete(f"Message/{query}", body)
    assert (got.status, got.body["code"]) == (status, code)
    assert floor.resolver.waiting == 1


async def test_nobody_cancels_what_is_another_accounts() -> None:
    async with served() as (floor, api):
        await send(api)
        path = f"/v1/Account/{OTHER_ACCOUNT}/Message/"
        theirs = await api.delete(f"{path}?powerpack_uuid={POWERPACK}", authorization=basic(OTHER_ACCOUNT))
        same_word = await api.delete(f"{path}?reference=order+7", authorization=basic(OTHER_ACCOUNT))
    assert (theirs.status, same_word.body["cancelled"], floor.resolver.waiting) == (404, 0, 1)
