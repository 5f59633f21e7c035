"""The numbers of a powerpack, under Plivo's three names for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from resolver.model import NumberType, Service
from storage.records import FactKind
from tests.fakes.accept_floor import FIRST, POOL, POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, Client, basic
from tests.fakes.api_floor import ApiFloor

ROOT = f"NumberPool/{POOL}/"
SPARE, SPARE_TOLL_FREE, OTHER_TOLL_FREE, SHORT_CODE = "+12065550100", "+18005550100", "+18005550101", "22555"


@asynccontextmanager
async def served() -> AsyncIterator[tuple[ApiFloor, Client]]:
    """Two long codes in the pool; beside it a long code, two toll-free numbers, three short codes, one of another's."""
    floor = ApiFloor()
    floor.add_number(SPARE)
    floor.add_number("+14165550100", country="CA", services=frozenset({Service.SMS, Service.MMS}))
    for number in (SPARE_TOLL_FREE, OTHER_TOLL_FREE):
        floor.add_number(number, number_type=NumberType.TOLL_FREE)
    for number, country in ((SHORT_CODE, "US"), ("22556", "US"), ("22557", "CA")):
        floor.add_number(number, number_type=NumberType.SHORT_CODE, country=country)
    floor.add_number("+13035550100", account_id=OTHER_ACCOUNT)
    floor.fill()
    async with floor.serving() as client:
        yield floor, client


async def test_the_root_names_the_lists() -> None:
    async with served() as (_, api):
        got = await api.get(ROOT)
    base = f"/v1/Account/{ACCOUNT}/{ROOT}"
    assert got.body["uuid"] == POOL
    assert (got.body["numbers"], got.body["shortcodes"]) == (f"{base}Number/", f"{base}Shortcode/")


# --- Adding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "number", "body"),
    [
        ("Number", SPARE, {"service": "sms"}),
        ("Number", SPARE, {"rent": "false"}),
        ("Number", SPARE[1:], None),
        ("Number", SPARE_TOLL_FREE, {}),
        ("Number", "14165550100", {"service": "mms"}),
        ("Tollfree", SPARE_TOLL_FREE, None),
        ("Shortcode", SHORT_CODE, None),
    ],
)
async def test_a_number_of_the_account_is_added_and_serves_at_once(kind: str, number: str, body: object) -> None:
    async with served() as (floor, api):
        path = f"{ROOT}{kind}/{number}/"
        got = await api.post(path, body, raw=None if body is not None else b"")
        read = await api.get(path)
        row = next(row for row in floor.catalog.numbers.values() if row.number.endswith(number[1:]))
        assert row.powerpack_id == POWERPACK
        assert row.number in floor.resolver.pools[POWERPACK].numbers
    assert (got.status, read.status) == (200, 200)
    assert {**read.body, "api_id": 0} == {**got.body, "api_id": 0}
    assert got.body["number"] == number.removeprefix("+")
    assert (got.body["number_pool_uuid"], got.body["added_on"][-1]) == (POOL, "Z")


async def test_numbers_are_shown_as_each_of_plivos_kinds() -> None:
    async with served() as (_, api):
        await api.post(f"{ROOT}Tollfree/{SPARE_TOLL_FREE}/")
        await api.post(f"{ROOT}Shortcode/{SHORT_CODE}/")
        long_code = (await api.get(f"{ROOT}Number/{FIRST}/")).body
        toll_free = (await api.get(f"{ROOT}Tollfree/{SPARE_TOLL_FREE}/&service=sms")).body
        short_code = (await api.get(f"{ROOT}Shortcode/{SHORT_CODE}/")).body
    assert (long_code["type"], long_code["service"], long_code["country_iso2"]) == ("fixed", "sms", "US")
    assert long_code["account_phone_number_resource"] == f"/v1/Account/{ACCOUNT}/Number/{FIRST[1:]}/"
    assert toll_free["number"] == toll_free["tollfree"] == SPARE_TOLL_FREE[1:]
    assert toll_free["type"] == "tollfree"
    assert short_code["number"] == short_code["shortcode"] == SHORT_CODE


async def test_adding_a_number_again_changes_nothing() -> None:
    async with served() as (floor, api):
        first = await api.post(f"{ROOT}Number/{SPARE}/")
        again = await api.post(f"{ROOT}Number/{SPARE}/")
        assert floor.catalog.edits.count("add_to_powerpack") == 1
    assert first.body["added_on"] == again.body["added_on"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (f"Number/{SPARE}/", {"service": "mms"}, 400, "invalid_parameter"),
        (f"Number/{SPARE}/", {"service": "fax"}, 400, "invalid_parameter"),
        ("Number/+12065550199/", {}, 404, "not_found"),
        ("Number/%2B13035550100/", {}, 404, "not_found"),
        ("Tollfree/13035550100/", {}, 404, "not_found"),
        ("Number/nothing/", {}, 404, "not_found"),
        ("Number/%00/", {}, 404, "not_found"),
        (f"Number/{SHORT_CODE}/", {}, 400, "wrong_number_type"),
        (f"Tollfree/{SPARE}/", {}, 400, "wrong_number_type"),
        (f"Shortcode/{SPARE}/", {}, 400, "wrong_number_type"),
    ],
)
async def test_what_cannot_be_added_is_refused(path: str, body: object, status: int, code: str) -> None:
    async with served() as (floor, api):
        got = await api.post(ROOT + path, body)
        assert "add_to_powerpack" not in floor.catalog.edits
    assert (got.status, got.body["code"]) == (status, code)


async def test_a_powerpack_has_one_toll_free_number_and_one_short_code_per_country() -> None:
    async with served() as (_, api):
        answers = [
            await api.post(f"{ROOT}{path}/")
            for path in (
                f"Tollfree/{SPARE_TOLL_FREE}", f"Tollfree/{OTHER_TOLL_FREE}", f"Number/{OTHER_TOLL_FREE}",
                f"Shortcode/{SHORT_CODE}", "Shortcode/22556", "Shortcode/22557",
            )
        ]  # fmt: skip
    assert [got.body.get("code", got.status) for got in answers] == [
        200, "toll_free_limit", "toll_free_limit", 200, "short_code_limit", 200
    ]  # fmt: skip


async def test_a_number_is_in_one_powerpack() -> None:
    async with served() as (_, api):
        other = (await api.post("Powerpack/", {"name": "other"})).body["number_pool"]
        got = await api.post(f"{other}Number/{FIRST}/")
    assert (got.status, got.body["code"]) == (409, "number_in_use")


# --- Removing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["", {}, {"unrent": "false"}])
async def test_a_removed_number_stays_the_accounts_and_serves_no_more(body: object) -> None:
    async with served() as (floor, api):
        path = f"{ROOT}Number/{FIRST}/"
        got = await api.delete(path, body)
        gone = await api.get(path)
        again = await api.delete(path, body)
        assert FIRST not in floor.resolver.pools[POWERPACK].numbers
        assert floor.catalog.numbers[FIRST].powerpack_id is None
    assert (got.status, got.body["response"]) == (200, "success")
    assert (gone.status, again.status) == (404, 404)


@pytest.mark.parametrize("body", [{"unrent": True}, {"unrent": {"unrent": "true"}}])
async def test_a_number_may_be_given_up_for_good(body: object) -> None:
    async with served() as (floor, api):
        assert (await api.delete(f"{ROOT}Number/{FIRST}/", body)).status == 200
        assert FIRST not in floor.catalog.numbers
        assert FIRST not in floor.pools.numbers


async def test_a_short_code_is_only_taken_out() -> None:
    async with served() as (floor, api):
        await api.post(f"{ROOT}Shortcode/{SHORT_CODE}/")
        assert (await api.delete(f"{ROOT}Shortcode/{SHORT_CODE}/", {"unrent": True})).status == 200
        assert floor.catalog.numbers[floor.pools.numbers[type(FIRST)(SHORT_CODE)].number].powerpack_id is None


async def test_what_waits_at_a_removed_number_is_decided_again_before_the_answer() -> None:
    async with served() as (floor, api):
        body = {"dst": "14155550199", "text": "x", "powerpack_uuid": POWERPACK}
        decided = (await api.post("Message/", body)).body["decisions"][0]
        await api.delete(f"{ROOT}Number/{decided['from']}/")
        seen = (await api.get(f"Message/{decided['message_uuid']}/")).body
    assert seen["message_state"] == "queued"
    assert seen["from_number"] != decided["from"]
    assert [fact.kind for fact in floor.journal.facts()] == [FactKind.REBOUND]


# --- Lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["12065550100", "14155550100", "14155550101", "14165550100", "18005550100"]),
        ("type=fixed", ["12065550100", "14155550100", "14155550101", "14165550100"]),
        ("type=tollfree", ["18005550100"]),
        ("type=toll-free", ["18005550100"]),
        ("type=mobile", []),
        ("country_iso2=CA", ["14165550100"]),
        ("country_iso=ca", ["14165550100"]),
        ("service=mms", ["14165550100"]),
        ("starts_with=206,416&country_iso2=US", ["12065550100"]),
        ("starts_with=41,206,415&country_iso2=US", ["12065550100", "14155550100", "14155550101"]),
        ("starts_with=41&country_iso2=CA&type=fixed", ["14165550100"]),
        ("pattern=206&country_iso=US&id=junk", ["12065550100"]),
        ("limit=2&offset=1", ["14155550100", "14155550101"]),
        ("limit=100&?search=hack", ["12065550100", "14155550100", "14155550101", "14165550100", "18005550100"]),
    ],
)
async def test_numbers_are_listed_as_filtered_in_their_own_order(query: str, expected: list[str]) -> None:
    async with served() as (_, api):
        for number in (SPARE, "14165550100", SPARE_TOLL_FREE):
            await api.post(f"{ROOT}Number/{number}/")
        got = await api.get(f"{ROOT}Number/?{query}")
    assert [each["number"] for each in got.body["objects"]] == expected
    assert got.body["meta"]["total_count"] == (5 if "limit" in query else len(expected))


async def test_toll_free_numbers_and_short_codes_have_lists_of_their_own() -> None:
    async with served() as (_, api):
        await api.post(f"{ROOT}Tollfree/{SPARE_TOLL_FREE}/")
        await api.post(f"{ROOT}Shortcode/{SHORT_CODE}/")
        lists = [(await api.get(f"{ROOT}{kind}/?type=fixed")).body["objects"] for kind in ("Tollfree", "Shortcode")]
    assert [[each["number"] for each in found] for found in lists] == [["18005550100"], [SHORT_CODE]]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("type=fax", "invalid_parameter"),
        ("service=fax", "invalid_parameter"),
        ("limit=0", "invalid_parameter"),
        ("country_iso2=US&starts_with=" + ",".join(map(str, range(20, 31))), "invalid_parameter"),
        ("country_iso2=US&starts_with=4a", "invalid_parameter"),
        ("country_iso2=XX&starts_with=4", "invalid_parameter"),
        ("starts_with=415", "missing_parameter"),
    ],
)
async def test_filters_that_mean_nothing_are_refused(query: str, code: str) -> None:
    async with served() as (_, api):
        got = await api.get(f"{ROOT}Number/?{query}")
    assert (got.status, got.body["code"]) == (400, code)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("suffix", ["Number/14155550100/", "Tollfree/18005550100/", "Shortcode/22555/"])
async def test_another_accounts_pool_looks_absent(method: str, suffix: str) -> None:
    async with served() as (floor, api):
        foreign = await api.send(
            method, f"/v1/Account/{OTHER_ACCOUNT}/{ROOT}{suffix}", {}, authorization=basic(OTHER_ACCOUNT)
        )
        absent = await api.send(method, f"NumberPool/0193a1b2-0000-7000-8000-0000000000ff/{suffix}", {})
    for got in (foreign, absent):
        assert (got.status, got.body["error"], got.body["code"]) == (404, "not found", "not_found")
    assert floor.pools.numbers[FIRST].powerpack_id == POWERPACK
