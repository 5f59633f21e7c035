"""Powerpacks as Plivo's clients make, read, change, list and delete them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resolver.model import NumberType, Pause, Service
from storage.catalog import ApplicationRow
from storage.records import FactKind
from tests.fakes.accept_floor import CARRIER, FIRST, POOL, POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, Client, basic
from tests.fakes.api_floor import ApiFloor

ONE = f"Powerpack/{POWERPACK}/"
PYTHON_CREATE = {
    "name": "pp1", "sticky_sender": True, "local_connect": True, "application_type": "", "application_id": "",
    "number_priority": [],
}  # fmt: skip
DEFAULT_ORDERS = {"US": ["shortcode", "tollfree", "longcode"], "CA": ["shortcode", "longcode", "tollfree"]}


@asynccontextmanager
async def served(**more: Any) -> AsyncIterator[tuple[ApiFloor, Client]]:
    floor = ApiFloor(**more)
    floor.pools.applications["20342783288007824"] = ApplicationRow("20342783288007824", ACCOUNT, "app")
    floor.pools.applications["99"] = ApplicationRow("99", OTHER_ACCOUNT, "app")
    async with floor.serving() as client:
        yield floor, client


# --- Creating ---------------------------------------------------------------------------------------------------------


async def test_what_pythons_sdk_sends_makes_a_powerpack_with_plivos_defaults() -> None:
    async with served() as (floor, api):
        got = await api.post("Powerpack/", PYTHON_CREATE)
        read = await api.get(f"Powerpack/{got.body['uuid']}/")
    assert (got.status, read.status) == (200, 200)
    assert {**read.body, "api_id": 0} == {**got.body, "api_id": 0}
    assert (got.body["sticky_sender"], got.body["local_connect"]) == (True, True)
    assert (got.body["application_type"], got.body["application_id"]) == ("", "")
    assert got.body["number_pool"].split("/")[5] == floor.pools.powerpacks[got.body["uuid"]].pool_id
    assert got.body["number_pool"].startswith(f"/v1/Account/{ACCOUNT}/NumberPool/")
    assert len(got.body["created_on"]) == len("2020-09-23T09:31:25.924044Z")
    assert [
        (each["country_iso"], each["service_type"], list(each["priority"].values()))
        for each in got.body["number_priority"]
    ] == [(country, service, DEFAULT_ORDERS[country]) for country in ("US", "CA") for service in ("SMS", "MMS")]


async def test_a_new_powerpack_is_durable_and_rules_the_next_decision() -> None:
    async with served() as (floor, api):
        uuid = (await api.post("Powerpack/", {"name": "new"})).body["uuid"]
        assert uuid in floor.catalog.powerpacks
        got = await api.post("Message/", {"dst": "14155550199", "text": "x", "powerpack_uuid": uuid})
    assert got.body["decisions"][0]["code"] == "no_number"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "missing_parameter"),
        ({"name": ""}, 400, "missing_parameter"),
        ({"name": None}, 400, "missing_parameter"),
        ({"name": "x" * 256}, 400, "invalid_parameter"),
        ({"name": "a\0b"}, 400, "invalid_character"),
        ({"name": ["a"]}, 400, "invalid_parameter"),
        ({"name": "pack"}, 409, "name_taken"),
        ({"name": "a", "sticky_sender": "perhaps"}, 400, "invalid_parameter"),
        ({"name": "a", "application_id": "1"}, 400, "application_not_found"),
        ({"name": "a", "application_id": "99"}, 400, "application_not_found"),
        ({"name": "a", "application_type": "fax"}, 400, "invalid_parameter"),
        ({"name": "a", "patience_ms": -1}, 400, "invalid_parameter"),
        ({"name": "a", "on_unknown": "pray"}, 400, "invalid_parameter"),
        ({"name": "a", "operator_types": {"Verizon": "fax"}}, 400, "invalid_parameter"),
        ({"name": "a", "operator_types": ["Verizon"]}, 400, "invalid_parameter"),
        ({"name": "a", "operator_types": {"": "longcode"}}, 400, "invalid_parameter"),
        ({"name": "a", "number_priority": "US"}, 400, "invalid_parameter"),
        ({"name": "a", "number_priority": [{}]}, 400, "invalid_parameter"),
        ({"name": "a", "number_priority": [{"country_iso": "US", "service_type": "SMS"}]}, 400, "invalid_parameter"),
    ],
)
async def test_what_makes_no_powerpack_is_refused(body: dict[str, object], status: int, code: str) -> None:
    async with served() as (floor, api):
        got = await api.post("Powerpack/", body)
    assert (got.status, got.body["code"]) == (status, code)
    assert list(floor.catalog.powerpacks) == [POWERPACK]


async def test_keys_that_are_not_a_clients_to_set_are_ignored() -> None:
    async with served() as (floor, api):
        got = await api.post(
            "Powerpack/",
            {"name": "a", "uuid": POWERPACK, "account_id": OTHER_ACCOUNT, "pool_id": POOL, "created_on": "never"},
        )
    row = floor.catalog.powerpacks[got.body["uuid"]]
    assert (row.account_id, row.powerpack_id != POWERPACK, row.pool_id != POOL) == (ACCOUNT, True, True)


async def test_an_application_is_kept_with_its_type_and_taken_away_by_none() -> None:
    async with served() as (_, api):
        application = {"application_type": "xml", "application_id": "20342783288007824"}
        made = await api.post("Powerpack/", {"name": "a", **application})
        path = f"Powerpack/{made.body['uuid']}/"
        unchanged = await api.post(path, {"application_id": "", "application_type": ""})
        gone = await api.post(path, {"application_id": "none"})
    for got in (made, unchanged):
        assert (got.body["application_type"], got.body["application_id"]) == ("XML", "20342783288007824")
    assert (gone.body["application_type"], gone.body["application_id"]) == ("", "")


# --- Changing ---------------------------------------------------------------------------------------------------------


async def test_a_change_leaves_alone_what_it_does_not_name_and_rules_at_once() -> None:
    async with served() as (floor, api):
        got = await api.post(ONE, {"sticky_sender": "False", "patience_ms": "5000", "sticky_at_limit": "refuse"})
        assert floor.resolver.pools[POWERPACK].row is floor.pools.powerpacks[POWERPACK]
        assert floor.catalog.powerpacks[POWERPACK] == floor.pools.powerpacks[POWERPACK]
    assert got.status == 200
    assert (got.body["sticky_sender"], got.body["local_connect"], got.body["name"]) == (False, True, "pack")
    assert (got.body["patience_ms"], got.body["sticky_at_limit"]) == (5_000, "refuse")


async def test_an_empty_change_is_none() -> None:
    async with served() as (_, api):
        before = (await api.get(ONE)).body
        after = (await api.post(ONE, raw=b"")).body
    assert {**before, "api_id": 0} == {**after, "api_id": 0}


async def test_an_order_of_types_is_merged_by_country_and_service() -> None:
    def order(country: str, service: str, *types: str | None) -> dict[str, object]:
        places = {f"priority{place}": each for place, each in enumerate(types, 1)}
        return {"country_iso": country, "service_type": service, "priority": places}

    async with served() as (floor, api):
        await api.post(ONE, {"number_priority": [order("us", "sms", "longcode", "tollfree", "shortcode")]})
        got = await api.post(ONE, {"number_priority": [order("CA", "SMS", "tollfree", None, None)]})
    priority = floor.pools.powerpacks[POWERPACK].priority
    assert priority["US", Service.SMS] == (NumberType.LONG_CODE, NumberType.TOLL_FREE, NumberType.SHORT_CODE)
    assert priority["CA", Service.SMS] == (NumberType.TOLL_FREE,)
    shown = {(each["country_iso"], each["service_type"]): each["priority"] for each in got.body["number_priority"]}
    assert shown["US", "SMS"] == {"priority1": "longcode", "priority2": "tollfree", "priority3": "shortcode"}
    assert shown["CA", "SMS"] == {"priority1": "tollfree", "priority2": None, "priority3": None}
    assert list(shown["US", "MMS"].values()) == DEFAULT_ORDERS["US"]


@pytest.mark.parametrize(
    "entry",
    [
        {"country_iso": "DE", "service_type": "SMS", "priority": {"priority1": "longcode"}},
        {"country_iso": "US", "service_type": "FAX", "priority": {"priority1": "longcode"}},
        {"country_iso": "US", "service_type": "SMS", "priority": {"priority1": "mobile"}},
        {"country_iso": "US", "service_type": "SMS", "priority": {"priority1": ["longcode"]}},
        {"country_iso": "US", "service_type": "SMS", "priority": {"priority1": "longcode", "priority2": "longcode"}},
        {"country_iso": "US", "service_type": "SMS", "priority": {}},
        {"country_iso": None, "service_type": None, "priority": None},
        "US",
    ],
)
async def test_an_order_that_cannot_be_is_refused(entry: object) -> None:
    async with served() as (_, api):
        got = await api.post(ONE, {"number_priority": [entry]})
    assert (got.status, got.body["code"]) == (400, "invalid_parameter")
    assert "number_priority" in got.body["error"]


async def test_a_name_may_be_kept_but_not_taken() -> None:
    async with served() as (_, api):
        other = (await api.post("Powerpack/", {"name": "other"})).body["uuid"]
        assert (await api.post(f"Powerpack/{other}/", {"name": "other"})).status == 200
        assert (await api.post(f"Powerpack/{other}/", {"name": "pack"})).body["code"] == "name_taken"
        assert (await api.get(f"Powerpack/{other}/")).body["name"] == "other"


async def test_an_edit_the_database_does_not_take_changes_nothing() -> None:
    async with served() as (floor, api):
        floor.catalog.away = True
        got = await api.post(ONE, {"sticky_sender": False})
    assert (got.status, got.body["code"]) == (503, "storage_unavailable")
    assert floor.pools.powerpacks[POWERPACK].sticky_sender


# --- Lists ------------------------------------------------------------------------------------------------------------


async def test_powerpacks_are_listed_oldest_first_page_by_page() -> None:
    async with served() as (_, api):
        for place in range(3):
            await api.post("Powerpack/", {"name": f"p{place}"})
        first = await api.get("Powerpack//?limit=3&service=sms")
        second = await api.get(first.body["meta"]["next"])
    assert [each["name"] for each in first.body["objects"]] == ["pack", "p0", "p1"]
    assert [each["name"] for each in second.body["objects"]] == ["p2"]
    assert first.body["meta"]["total_count"] == 4
    assert "api_id" not in first.body["objects"][0]


# --- Deleting, and who may --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, "", {}, {"unrent_numbers": False}, {"unrent_numbers": "false"}])
async def test_a_deleted_powerpack_leaves_its_numbers_with_the_account(body: object) -> None:
    async with served() as (floor, api):
        got = await api.delete(ONE, body)
        again = await api.delete(ONE, body)
    assert (got.status, got.body["response"]) == (200, "success")
    assert again.status == 404
    assert floor.catalog.powerpacks == {}
    assert [row.powerpack_id for row in floor.catalog.numbers.values()] == [None, None]
    assert floor.pools.numbers[FIRST].powerpack_id is None


@pytest.mark.parametrize(("path", "body"), [(ONE, {"unrent_numbers": True}), (f"{ONE}?unrent_numbers=true", "")])
async def test_a_powerpack_may_be_deleted_with_its_numbers(path: str, body: object) -> None:
    async with served() as (floor, api):
        assert (await api.delete(path, body)).status == 200
    assert floor.catalog.numbers == {}
    assert floor.pools.numbers == {}
    assert floor.resolver.carrier_of(FIRST) is None


async def test_what_waits_in_a_deleted_powerpack_ends_and_is_told() -> None:
    async with served() as (floor, api):
        body = {
            "dst": "14155550199<14155550198",
            "text": "x",
            "powerpack_uuid": POWERPACK,
            "url": "https://example.com/",
        }
        ids = (await api.post("Message/", body)).body["message_uuid"]
        await api.delete(ONE)
        seen = [(await api.get(f"Message/{each}/")).body for each in ids]
        refused = await api.post("Message/", body)
    assert [(each["message_state"], each["error_code"]) for each in seen] == [("failed", "90")] * 2
    assert [fact.kind for fact in floor.journal.facts()] == [FactKind.POWERPACK_DELETED] * 2
    assert [callback.sequence for callback in floor.callbacks] == [1, 1, 2, 2]
    assert (refused.status, refused.body["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [("GET", "", None), ("POST", "", {"name": "x"}), ("DELETE", "", {}), ("POST", "Resolve/", {})],
)
async def test_another_accounts_powerpack_looks_absent(method: str, suffix: str, body: object) -> None:
    async with served() as (floor, api):
        foreign = await api.send(
            method, f"/v1/Account/{OTHER_ACCOUNT}/{ONE}{suffix}", body, authorization=basic(OTHER_ACCOUNT)
        )
        absent = await api.send(method, f"Powerpack/0193a1b2-0000-7000-8000-0000000000ff/{suffix}", body)
    for got in (foreign, absent):
        assert (got.status, got.body["error"], got.body["code"]) == (404, "not found", "not_found")
    assert floor.catalog.powerpacks[POWERPACK].name == "pack"


# --- Pausing ----------------------------------------------------------------------------------------------------------

SEND = {"dst": "14155550199", "text": "Hello", "powerpack_uuid": POWERPACK}


async def test_a_paused_powerpack_lets_messages_wait_and_says_so_everywhere() -> None:
    async with served() as (floor, api):
        paused = await api.post(ONE + "Pause/")
        assert (paused.status, paused.body["paused"], paused.body["refuses_while_paused"]) == (200, True, False)
        assert floor.catalog.powerpacks[POWERPACK].pause is Pause.WAIT
        assert (await api.get(ONE)).body["paused"] is True
        (decided,) = (await api.post("Message/", SEND)).body["decisions"]
        assert (decided["send_at"], decided["reason"], decided["from"]) == (None, "paused", FIRST[1:])
        resolved = await api.post(ONE + "Resolve/", {"dst": "14155550199"})
        assert (resolved.body["send_at"], resolved.body["window"]) == (None, "paused")
        listed = await api.post(ONE + "Resolve/", {"messages": [{"dst": "14155550199"}]})
        assert listed.body["decisions"][0]["window"] == "paused"
        assert floor.resolver.release(CARRIER, now_ms=floor.clock.now_ms(), until_ms=1 << 60, places=9) == []


async def test_with_refuse_messages_are_stored_as_failed_or_refused_at_once() -> None:
    async with served() as (_, api):
        paused = await api.post(ONE + "Pause/", {"refuse": "true"})
        assert (paused.body["paused"], paused.body["refuses_while_paused"]) == (True, True)
        got = await api.post("Message/", SEND)
        assert (got.body["decisions"][0]["state"], got.body["decisions"][0]["code"]) == ("failed", "paused")
        shown = await api.get(f"Message/{got.body['message_uuid'][0]}/")
        assert (shown.body["message_state"], shown.body["error_code"]) == ("failed", "90")
        refused = await api.post("Message/", SEND, headers={"Prefer": "refuse-now"})
        assert (refused.status, refused.body["code"]) == (422, "paused")
        assert (await api.post(ONE + "Resolve/", {"dst": "14155550199"})).body["code"] == "paused"


async def test_a_resumed_powerpack_wakes_its_lanes_and_other_changes_keep_the_pause() -> None:
    async with served() as (floor, api):
        await api.post(ONE + "Pause/?refuse=1")
        assert (await api.post(ONE, {"name": "other", "paused": False})).body["paused"] is True
        await api.post("Message/", SEND)
        woken = floor.lane.woken
        resumed = await api.post(ONE + "Resume/", {})
        assert (resumed.status, resumed.body["paused"], floor.catalog.powerpacks[POWERPACK].pause) == (200, False, "")
        assert floor.lane.woken == woken + 1
        assert (await api.post("Message/", SEND)).body["decisions"][0]["send_at"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("Pause/", {"refuse": "perhaps"}, 400, "invalid_parameter"),
        ("Pause/", {"refuze": True}, 400, "invalid_parameter"),
        ("Resume/", {"refuse": True}, 400, "invalid_parameter"),
        ("Pause/?%0Aq=1", {}, 400, "invalid_parameter"),
    ],
)
async def test_what_pausing_does_not_know_is_named(path: str, body: object, status: int, code: str) -> None:
    async with served() as (floor, api):
        got = await api.post(ONE + path, body)
    assert (got.status, got.body["code"]) == (status, code)
    assert floor.catalog.powerpacks[POWERPACK].pause is Pause.NONE


async def test_another_accounts_powerpack_cannot_be_paused() -> None:
    async with served() as (floor, api):
        got = await api.post(f"/v1/Account/{OTHER_ACCOUNT}/{ONE}Pause/", {}, authorization=basic(OTHER_ACCOUNT))
    assert got.status == 404
    assert floor.catalog.powerpacks[POWERPACK].pause is Pause.NONE
