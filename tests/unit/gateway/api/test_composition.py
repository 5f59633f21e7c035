"""Composition over HTTP: counted, priced, bought once it is confirmed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resolver.model import E164, CarrierName, NumberType, Service
from storage.catalog_inventory import InventoryRow
from tests.fakes.accept_floor import POWERPACK
from tests.fakes.api_client import Client
from tests.fakes.api_floor import ApiFloor

PATH = f"Powerpack/{POWERPACK}/Composition/"


@asynccontextmanager
async def served() -> AsyncIterator[tuple[ApiFloor, Client]]:
    """Two long codes of 415 in the pool; for rent are three of 415, two of 213 and one of 212."""
    floor = ApiFloor()
    floor.add_number("+18005550100", number_type=NumberType.TOLL_FREE)
    for code, region, lines in (("415", "CA", 3), ("213", "CA", 2), ("212", "NY", 1)):
        for line in range(lines):
            number = E164(f"+1{code}555019{line}")
            floor.catalog.stock[number] = InventoryRow(
                number, NumberType.LONG_CODE, "US", region, "", CarrierName("carrier"), (Service.SMS,),
                setup_rate="1.00000", monthly_rate="0.80000",
            )  # fmt: skip
    floor.fill()
    async with floor.serving() as client:
        yield floor, client


async def test_long_codes_are_counted_by_place() -> None:
    async with served() as (_, api):
        shown = (await api.get(PATH)).body
    assert (shown["long_codes"], shown["area_codes"]) == (2, [{"name": "415", "count": 2}])
    assert (shown["regions"], shown["countries"]) == ([{"name": "CA", "count": 2}], [{"name": "US", "count": 2}])


async def test_what_is_wanted_is_priced_first_and_bought_when_confirmed() -> None:
    wanted: dict[str, Any] = {"area_codes": {"415": 4}, "regions": {"ca": 5}, "countries": {"US": 6}}
    async with served() as (floor, api):
        offered = (await api.post(PATH, wanted)).body
        assert set(floor.catalog.numbers) == {"+14155550100", "+14155550101", "+18005550100"}
        bought = (await api.post(PATH, {**wanted, "confirm": True, "monthly_rate": offered["monthly_rate"]})).body
        again = (await api.post(PATH, {**wanted, "confirm": True})).body
        shown = (await api.get(PATH)).body
    assert (offered["setup_rate"], offered["monthly_rate"], offered["confirmed"]) == ("4.00000", "3.20000", False)
    assert {each["status"] for each in offered["numbers"]} == {"offered"}
    assert [each["number"] for each in bought["numbers"]] == [each["number"] for each in offered["numbers"]]
    assert {each["status"] for each in bought["numbers"]} == {"Success"}
    assert (again["numbers"], again["monthly_rate"], again["short"]) == ([], "0.00000", [])
    assert shown["long_codes"] == 6
    assert {"name": "415", "count": 4} in shown["area_codes"]


async def test_what_nobody_offers_is_told() -> None:
    async with served() as (_, api):
        answer = (await api.post(PATH, {"area_codes": {"212": 3, "415": 1}})).body
    assert [each["number"] for each in answer["numbers"]] == ["12125550190"]
    assert answer["short"] == [{"scope": "area_code", "name": "212", "count": 2}]


async def test_what_somebody_else_takes_meanwhile_is_told_number_by_number() -> None:
    async with served() as (floor, api):
        taken = E164("+12125550190")
        rent = floor.catalog.rent_number

        async def late(renter: Any, number: E164, **more: Any) -> Any:
            return None if number == taken else await rent(renter, number, **more)

        floor.catalog.rent_number = late  # type: ignore[method-assign]
        answer = (await api.post(PATH, {"area_codes": {"212": 1, "213": 1}, "confirm": True})).body
    statuses = {each["number"]: each["status"] for each in answer["numbers"]}
    assert statuses == {"12125550190": "not_for_rent", "12135550190": "Success"}


@pytest.mark.parametrize("told", [{"monthly_rate": "0.7"}, {"monthly_rate": "0.8", "setup_rate": "0"}])
async def test_at_another_price_nothing_is_bought(told: dict[str, str]) -> None:
    async with served() as (floor, api):
        answer = await api.post(PATH, {"area_codes": {"212": 1}, "confirm": True, **told})
        assert "rent_number" not in floor.catalog.edits
    assert (answer.status, answer.body["code"]) == (409, "price_changed")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_parameter"),
        ({"area_codes": {"800": 1}}, "invalid_parameter"),
        ({"area_codes": {"415": -1}}, "invalid_parameter"),
        ({"area_codes": {"415": True}}, "invalid_parameter"),
        ({"area_codes": {"415": "3"}}, "invalid_parameter"),
        ({"area_codes": ["415"]}, "invalid_parameter"),
        ({"regions": {"XX": 1}}, "invalid_parameter"),
        ({"countries": {"ZZ": 1}}, "invalid_parameter"),
        ({"countries": {"US": 103}}, "invalid_parameter"),
        ({"area_codes": {"415": 1}, "colour": "red"}, "invalid_parameter"),
        ({"area_codes": {"212": 1}, "confirm": True, "monthly_rate": "cheap"}, "invalid_parameter"),
        ({"area_codes": {"212": 1}, "confirm": True, "monthly_rate": "sNaN"}, "invalid_parameter"),
    ],
)
async def test_what_cannot_be_wanted_is_refused(body: dict[str, Any], code: str) -> None:
    async with served() as (floor, api):
        answer = await api.post(PATH, body)
        assert "rent_number" not in floor.catalog.edits
    assert (answer.status, answer.body["code"]) == (400, code)
