"""Numbers for rent, as Plivo's SDKs search for them and buy them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resolver.model import E164, CarrierName, NumberType, Service
from storage.catalog import ApplicationRow
from storage.catalog_inventory import InventoryRow
from tests.fakes.accept_floor import FIRST, POOL, POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, Client
from tests.fakes.api_floor import ApiFloor

LOCAL, SECOND, WITH_MMS, CANADIAN, TOLL_FREE, RESERVED = (
    "+14155550190", "+14155550191", "+12065550190", "+14165550190", "+18005550190", "+14155550192",
)  # fmt: skip
APP, DEFAULT_APP = "20342783288007824", "20342783288007825"


def offer(number: str, *, region: str = "CA", city: str = "", **more: Any) -> InventoryRow:
    row = InventoryRow(
        E164(number), NumberType.LONG_CODE, "US", region, city, CarrierName("carrier"), (Service.SMS,), True,
        monthly_rate="0.80000",
    )  # fmt: skip
    return row._replace(**more)


OFFERS = (
    offer(LOCAL, city="SAN FRANCISCO"),
    offer(SECOND),
    offer(WITH_MMS, region="WA", services=(Service.SMS, Service.MMS)),
    offer(CANADIAN, region="ON", country="CA"),
    offer(TOLL_FREE, region="", type=NumberType.TOLL_FREE, verified=True),
    offer(RESERVED, reserved_for=OTHER_ACCOUNT),
)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[ApiFloor, Client]]:
    floor = ApiFloor()
    for row in OFFERS:
        floor.catalog.stock[row.number] = row
    floor.catalog.applications[APP] = ApplicationRow(APP, ACCOUNT, "app")
    floor.fill()
    async with floor.serving() as client:
        yield floor, client


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("country_iso=US", [WITH_MMS, LOCAL, SECOND, TOLL_FREE]),
        ("country_iso2=us&type=local&pattern=415&service=sms&country_iso=US", [LOCAL, SECOND]),  # Node
        ("pattern=415&type=local&country_iso=US&region=California&service=sms", [LOCAL, SECOND]),  # Python
        ("country_iso=US&pattern=415&services=sms&type=local", [LOCAL, SECOND]),  # Go
        ("country_iso=US&rent=true&starts_with=415&type=local", [LOCAL, SECOND]),  # Ruby
        ("country_iso2=US&type=local&pattern=415&service=sms", [LOCAL, SECOND]),  # PHP
        ("country_iso=US&npanxx=206555", [WITH_MMS]),
        ("country_iso=US&pattern=4155&npanxx=415555", [LOCAL, SECOND]),
        ("country_iso=US&pattern=206&npanxx=415555", []),
        ("country_iso=US&type=tollfree", [TOLL_FREE]),
        ("country_iso=US&services=sms,mms", [WITH_MMS]),
        ("country_iso=US&services=voice", []),
        ("country_iso=US&region=wa", [WITH_MMS]),
        ("country_iso=US&region=Nowhere", []),
        ("country_iso=US&city=San%20Francisco", [LOCAL]),
        ("country_iso=CA", [CANADIAN]),
        ("country_iso=US&type=mobile", []),
        ("country_iso=US&lata=722", []),
    ],
)
async def test_a_search_finds_what_every_sdk_asks_for(query: str, found: list[str]) -> None:
    async with served() as (_, api):
        answer = await api.get(f"PhoneNumber/?{query}")
    assert answer.status == 200
    assert [each["number"] for each in answer.body["objects"]] == [number[1:] for number in found]
    assert answer.body["meta"]["total_count"] == len(found)


async def test_pages_follow_each_other() -> None:
    async with served() as (_, api):
        first = await api.get("PhoneNumber/?country_iso=US&limit=3")
        last = await api.get("PhoneNumber/?country_iso=US&limit=3&offset=3")
    assert first.body["meta"]["next"] == f"/v1/Account/{ACCOUNT}/PhoneNumber/?country_iso=US&limit=3&offset=3"
    assert [each["number"] for each in last.body["objects"]] == [TOLL_FREE[1:]]


async def test_an_offer_has_every_key_plivo_has() -> None:
    async with served() as (_, api):
        (shown,) = (await api.get("PhoneNumber/?country_iso=US&city=SAN+FRANCISCO")).body["objects"]
    assert shown == {
        "number": "14155550190", "prefix": "415", "city": "SAN FRANCISCO", "country": "UNITED STATES",
        "region": "California, United States", "rate_center": "", "lata": None, "type": "fixed", "sub_type": "local",
        "setup_rate": "0.00000", "monthly_rental_rate": "0.80000", "sms_enabled": True, "sms_rate": "0.00000",
        "mms_enabled": False, "mms_rate": "0.00000", "voice_enabled": False, "voice_rate": "0.00000",
        "restriction": None, "restriction_text": None,
        "resource_uri": f"/v1/Account/{ACCOUNT}/PhoneNumber/14155550190/", "country_iso2": "US",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "missing_parameter"),
        ("country_iso=XX", "invalid_parameter"),
        ("country_iso=US&pattern=4x5", "invalid_parameter"),
        ("country_iso=US&type=satellite", "invalid_parameter"),
        ("country_iso=US&services=fax", "invalid_parameter"),
        ("country_iso=US&city=" + "x" * 61, "invalid_parameter"),
    ],
)
async def test_a_search_that_cannot_be_read_says_why(query: str, code: str) -> None:
    async with served() as (_, api):
        answer = await api.get(f"PhoneNumber/?{query}")
    assert (answer.status, answer.body["code"]) == (400, code)


async def test_a_number_is_bought_once_and_buying_it_again_is_no_error() -> None:
    async with served() as (floor, api):
        for _ in range(2):
            answer = await api.post(f"PhoneNumber/{LOCAL[1:]}/", {"app_id": APP})
            assert answer.status == 201
            assert answer.body["numbers"] == [{"number": LOCAL[1:], "status": "Success"}]
            assert (answer.body["message"], answer.body["status"]) == ("created", "fulfilled")
        shown = (await api.get(f"Number/{LOCAL}/")).body
        left = (await api.get("PhoneNumber/?country_iso=US&pattern=415")).body
    assert shown["application"].endswith(f"/Application/{APP}/")
    assert shown["tendlc_registration_status"] == "REGISTERED"
    assert [each["number"] for each in left["objects"]] == [SECOND[1:]]
    assert floor.catalog.edits.count("rent_number") == 1


async def test_a_bought_number_gets_the_default_application() -> None:
    async with served() as (floor, api):
        row = ApplicationRow(DEFAULT_APP, ACCOUNT, "default", is_number_default=True)
        floor.pools.shelved_applications.put(DEFAULT_APP, row)
        await api.post(f"PhoneNumber/{LOCAL}/", {})
        shown = (await api.get(f"Number/{LOCAL}/")).body
    assert shown["application"].endswith(f"/Application/{DEFAULT_APP}/")


@pytest.mark.parametrize("number", [RESERVED, "+14155559999", "22555", "nonsense"])
async def test_what_is_not_for_rent_is_absent_whoever_has_it(number: str) -> None:
    async with served() as (floor, api):
        floor.add_number("+14155559999", account_id=OTHER_ACCOUNT)
        answer = await api.post(f"PhoneNumber/{number}/", {})
    assert (answer.status, answer.body["code"]) == (404, "not_for_rent")


async def test_an_unknown_application_buys_nothing() -> None:
    async with served() as (floor, api):
        answer = await api.post(f"PhoneNumber/{LOCAL}/", {"app_id": "1"})
    assert answer.body["code"] == "application_not_found"
    assert LOCAL not in floor.pools.numbers


# --- Into a powerpack at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"rent": "true"}, {"rent": True, "service": "sms", "country_iso": "US"}])
async def test_a_number_is_rented_into_a_pool(body: dict[str, object]) -> None:
    async with served() as (floor, api):
        answer = await api.post(f"NumberPool/{POOL}/Number/{LOCAL[1:]}/", body)
        again = await api.post(f"NumberPool/{POOL}/Number/{LOCAL[1:]}/", body)
    assert (answer.status, again.status) == (200, 200)
    assert floor.pools.numbers[E164(LOCAL)].powerpack_id == POWERPACK
    assert floor.resolver.carrier_of(E164(LOCAL)) == "carrier"


async def test_a_number_of_the_accounts_is_added_also_with_rent() -> None:
    async with served() as (floor, api):
        answer = await api.post(f"NumberPool/{POOL}/Number/{FIRST}/", {"rent": True})
    assert answer.status == 200
    assert "rent_number" not in floor.catalog.edits


async def test_what_cannot_be_added_is_not_rented_either() -> None:
    async with served() as (floor, api):
        assert (await api.post(f"NumberPool/{POOL}/Tollfree/{TOLL_FREE}/", {"rent": True})).status == 200
        second = E164("+18885550190")
        floor.catalog.stock[second] = offer(second, region="", type=NumberType.TOLL_FREE)
        refused = [
            await api.post(f"NumberPool/{POOL}/Tollfree/{second}/", {"rent": True}),
            await api.post(f"NumberPool/{POOL}/Tollfree/{LOCAL}/", {"rent": True}),
            await api.post(f"NumberPool/{POOL}/Number/{LOCAL}/", {"rent": True, "service": "mms"}),
            await api.post(f"NumberPool/{POOL}/Number/{RESERVED}/", {"rent": True}),
            await api.post(f"NumberPool/{POOL}/Number/{LOCAL}/", {}),
        ]
    codes = [each.body["code"] for each in refused]
    assert codes == ["toll_free_limit", "wrong_number_type", "invalid_parameter", "not_for_rent", "not_found"]
    assert set(floor.catalog.numbers) == {*floor.pools.numbers}
    assert {second, LOCAL, RESERVED}.isdisjoint(floor.pools.numbers)


async def test_a_number_that_is_given_up_is_for_rent_again() -> None:
    async with served() as (_, api):
        await api.post(f"NumberPool/{POOL}/Number/{LOCAL}/", {"rent": True})
        await api.delete(f"NumberPool/{POOL}/Number/{LOCAL}/?unrent=true")
        assert (await api.post(f"PhoneNumber/{LOCAL}/", {})).status == 201
        assert (await api.delete(f"Number/{LOCAL}/")).status == 204
        found = (await api.get("PhoneNumber/?country_iso=US&pattern=4155550190")).body
    assert found["meta"]["total_count"] == 1
