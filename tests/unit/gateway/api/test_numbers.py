"""The numbers an account has, as Plivo's SDKs list, read, change and give them up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from resolver.model import E164, NumberType, Service
from storage.catalog import ApplicationRow
from tests.fakes.accept_floor import FIRST, POOL, POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, Client, basic
from tests.fakes.api_floor import ApiFloor

SECOND, SPARE, CANADIAN, TOLL_FREE = "+14155550101", "+12065550100", "+14165550100", "+18005550100"
SHORT_CODE, FOREIGN = "22555", "+13035550100"
MINE = ["12065550100", "14155550100", "14155550101", "14165550100", "18005550100", "22555"]
APP, OTHER_APP = "20342783288007824", "20342783288007825"


@asynccontextmanager
async def served() -> AsyncIterator[tuple[ApiFloor, Client]]:
    """Two long codes in a pool, one of each kind beside it, one of another account's, two applications."""
    floor = ApiFloor()
    floor.add_number(SPARE)
    floor.add_number(CANADIAN, country="CA", services=frozenset(Service))
    floor.add_number(TOLL_FREE, number_type=NumberType.TOLL_FREE)
    floor.add_number(SHORT_CODE, number_type=NumberType.SHORT_CODE)
    floor.add_number(FOREIGN, account_id=OTHER_ACCOUNT)
    for application_id, account_id in ((APP, ACCOUNT), (OTHER_APP, OTHER_ACCOUNT)):
        floor.catalog.applications[application_id] = ApplicationRow(application_id, account_id, "app")
    floor.fill()
    async with floor.serving() as client:
        yield floor, client


async def test_a_number_is_shown_with_every_key_plivo_has() -> None:
    async with served() as (_, api):
        shown = (await api.get(f"Number/{CANADIAN}/")).body
        toll_free = (await api.get(f"Number/{TOLL_FREE[1:]}/")).body
        member = (await api.get(f"Number/{FIRST}/")).body
        short_code = (await api.get(f"Number/{SHORT_CODE}/")).body
    shown.pop("api_id")
    assert shown == {
        "active": True, "added_on": "1970-01-01", "alias": None, "application": None, "carrier": "carrier",
        "city": "", "cnam_lookup": "disabled", "compliance_application_id": None, "compliance_status": None,
        "country": "Canada", "mms_enabled": True, "mms_rate": "0.00000", "monthly_rental_rate": "0.00000",
        "number": "14165550100", "number_type": "local", "region": "ON, Canada", "renewal_date": None,
        "resource_uri": f"/v1/Account/{ACCOUNT}/Number/14165550100/", "sms_enabled": True, "sms_rate": "0.00000",
        "sub_account": None, "tendlc_campaign_id": None, "tendlc_registration_status": None,
        "toll_free_sms_verification": None, "voice_enabled": False, "voice_rate": "0.00000", "country_iso2": "CA",
        "powerpack_uuid": None, "state": "active",
    }  # fmt: skip
    assert (toll_free["number_type"], toll_free["toll_free_sms_verification"]) == ("tollfree", "verified")
    assert (member["powerpack_uuid"], member["tendlc_registration_status"]) == (POWERPACK, "REGISTERED")
    assert (short_code["number_type"], short_code["number"]) == ("shortcode", SHORT_CODE)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", MINE),
        ("?search=hack&type=", MINE),
        ("type=local", ["12065550100", "14155550100", "14155550101", "14165550100"]),
        ("type=tollfree", ["18005550100"]),
        ("type=shortcode", ["22555"]),
        ("type=mobile", []),
        ("number_startswith=1415", ["14155550100", "14155550101"]),
        ("number_startswith=%2B1415&type=fixed", ["14155550100", "14155550101"]),
        ("number_startswith=2", ["22555"]),
        ("services=sms,mms", ["14165550100"]),
        ("services=sms,voice", []),
        ("tendlc_registration_status=registered&country_iso=junk", ["12065550100", "14155550100", "14155550101"]),
        ("tendlc_registration_status=UNREGISTERED", []),
        ("tendlc_campaign_id=CABC", []),
        ("toll_free_sms_verification=verified", ["18005550100"]),
        ("toll_free_sms_verification=pending", []),
        ("renewal_date__gte=2026-01-01", []),
        ("cnam_lookup=disabled", MINE),
        ("cnam_lookup=enabled", []),
        ("alias=office", ["12065550100", "14155550101"]),
        ("alias=office&number_startswith=1206", ["12065550100"]),
        ("alias=off", []),
        ("limit=2&offset=3", ["14165550100", "18005550100"]),
    ],
)
async def test_numbers_are_listed_as_filtered(query: str, expected: list[str]) -> None:
    async with served() as (_, api):
        for number in (SECOND, SPARE):
            assert (await api.post(f"Number/{number}/", {"alias": "office"})).status == 202
        got = await api.get(f"Number/?{query}")
    assert [each["number"] for each in got.body["objects"]] == expected
    assert got.body["meta"]["total_count"] == (6 if "limit" in query else len(expected))
    assert all("api_id" not in each for each in got.body["objects"])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("type=fax", "invalid_parameter"),
        ("services=fax", "invalid_parameter"),
        ("number_startswith=1a", "invalid_parameter"),
        ("tendlc_registration_status=x", "invalid_parameter"),
        ("toll_free_sms_verification=x", "invalid_parameter"),
        ("renewal_date=soon", "invalid_parameter"),
        ("cnam_lookup=x", "invalid_parameter"),
        ("subaccount=SA00000000000000000B", "invalid_parameter"),
        ("toll_free_sms_verification_order_status=x", "not_supported_yet"),
    ],
)
async def test_filters_that_mean_nothing_are_refused(query: str, code: str) -> None:
    async with served() as (_, api):
        got = await api.get(f"Number/?{query}")
    assert (got.status, got.body["code"]) == (400, code)


async def test_a_change_names_what_it_changes_and_is_stored() -> None:
    async with served() as (floor, api):
        path = f"Number/{SPARE[1:]}/"
        got = await api.post(path, {"alias": "office", "app_id": APP, "verification_info": {}, "cnam_lookup": None})
        both = (await api.get(path)).body
        await api.post(path, {"app_id": "none"})
        no_application = (await api.get(path)).body
        await api.post(path, {"alias": ""})
        bare = (await api.get(path)).body
        assert floor.catalog.numbers[E164(SPARE)] == floor.pools.numbers[E164(SPARE)]
    assert (got.status, got.body["message"]) == (202, "changed")
    assert (both["alias"], both["application"]) == ("office", f"/v1/Account/{ACCOUNT}/Application/{APP}/")
    assert (no_application["alias"], no_application["application"]) == ("office", None)
    assert bare["alias"] is None


async def test_a_powerpack_s_application_counts_for_its_numbers_while_they_are_in_it() -> None:
    async with served() as (_, api):
        own, packs = [(await api.post("Application/", {"app_name": name})).body["app_id"] for name in ("own", "packs")]

        async def seen() -> str | None:
            path = (await api.get(f"Number/{FIRST}/")).body["application"]
            return path.split("/")[-2] if path is not None else None

        await api.post(f"Number/{FIRST}/", {"app_id": own})
        assert await seen() == own
        await api.post(f"Powerpack/{POWERPACK}/", {"application_id": packs})
        assert await seen() == packs
        await api.delete(f"NumberPool/{POOL}/Number/{FIRST}/")
        assert await seen() == own
        await api.post(f"NumberPool/{POOL}/Number/{FIRST}/")
        assert await seen() == packs
        await api.delete(f"Application/{packs}/")
        assert await seen() == own
        await api.delete(f"Application/{own}/")
        assert await seen() is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"app_id": OTHER_APP}, "application_not_found"),
        ({"app_id": "1"}, "application_not_found"),
        ({"alias": "x" * 256}, "invalid_parameter"),
        ({"alias": ["x"]}, "invalid_parameter"),
        ({"alias": "a\0"}, "invalid_character"),
        ({"cnam_lookup": "enabled"}, "invalid_parameter"),
        ({"subaccount": "SA00000000000000000B"}, "invalid_parameter"),
    ],
)
async def test_what_cannot_be_changed_is_refused_whole(values: dict[str, object], code: str) -> None:
    async with served() as (floor, api):
        got = await api.post(f"Number/{SPARE}/", {"alias": "office", **values})
        assert floor.pools.numbers[E164(SPARE)].alias == ""
    assert (got.status, got.body["code"]) == (400, code)


async def test_a_label_is_no_matter_of_law() -> None:
    async with served() as (floor, api):
        woken = floor.lane.woken
        await api.post(f"Number/{FIRST}/", {"alias": "office"})
        assert floor.lane.woken == woken
        assert floor.pools.members[POWERPACK][FIRST].alias == "office"


# --- Giving up --------------------------------------------------------------------------------------------------------


async def test_a_number_that_is_given_up_leaves_its_powerpack_and_threads_and_what_waits_is_decided_again() -> None:
    async with served() as (floor, api):
        body = {"dst": "14155550199", "text": "x", "powerpack_uuid": POWERPACK}
        decided = (await api.post("Message/", body)).body["decisions"][0]
        got = await api.delete(f"Number/{decided['from']}/")
        gone = [await api.get(f"{path}{decided['from']}/") for path in ("Number/", f"NumberPool/{POOL}/Number/")]
        seen = (await api.get(f"Message/{decided['message_uuid']}/")).body
        again = (await api.post("Message/", body)).body["decisions"][0]
        assert E164(f"+{decided['from']}") not in floor.catalog.numbers
        listed = (await api.get("Number/")).body["meta"]["total_count"]
    assert got.status == 204
    assert [each.status for each in gone] == [404, 404]
    assert (seen["message_state"], seen["from_number"] != decided["from"]) == ("queued", True)
    assert (again["from"], again["tier"]) == (seen["from_number"], "sticky")
    assert listed == len(MINE) - 1


async def test_a_short_code_is_not_given_up() -> None:
    async with served() as (floor, api):
        got = await api.delete(f"Number/{SHORT_CODE}/")
        assert E164(SHORT_CODE) in floor.catalog.numbers
    assert (got.status, got.body["code"]) == (403, "administrator_only")


async def test_numbers_are_brought_once_the_administrator_has_set_them_up() -> None:
    async with served() as (floor, api):
        got = await api.post(
            "Number/", {"numbers": f"{SPARE[1:]}, {TOLL_FREE}", "carrier": "mine", "region": "US", "app_id": APP}
        )
        assert floor.catalog.numbers[E164(SPARE)].application_id == APP
        assert floor.catalog.numbers[E164(TOLL_FREE)].application_id == APP
    assert (got.status, got.body["message"]) == (202, "changed")


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"numbers": [SPARE[1:], "14155550123"]}, 403, "administrator_only"),
        ({"numbers": FOREIGN}, 403, "administrator_only"),
        ({"numbers": SPARE, "app_id": OTHER_APP}, 400, "application_not_found"),
        ({}, 400, "missing_parameter"),
        ({"numbers": ""}, 400, "invalid_parameter"),
        ({"numbers": 5}, 400, "invalid_parameter"),
        ({"numbers": ",".join(f"1415555{place:04d}" for place in range(101))}, 400, "invalid_parameter"),
    ],
)
async def test_what_cannot_be_brought_is_refused(values: dict[str, object], status: int, code: str) -> None:
    async with served() as (floor, api):
        got = await api.post("Number/", {"app_id": APP, "carrier": "mine", "region": "US", **values})
        assert [row for row in floor.catalog.numbers.values() if row.application_id] == []
    assert (got.status, got.body["code"]) == (status, code)


async def test_a_powerpack_deleted_with_its_numbers_leaves_its_short_code_to_the_account() -> None:
    async with served() as (floor, api):
        await api.post(f"NumberPool/{POOL}/Shortcode/{SHORT_CODE}/")
        await api.delete(f"Powerpack/{POWERPACK}/", {"unrent_numbers": True})
        left = [each["number"] for each in (await api.get("Number/")).body["objects"]]
        assert floor.pools.numbers.keys() == floor.catalog.numbers.keys()
    assert left == ["12065550100", "14165550100", "18005550100", "22555"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_number_of_another_account_is_absent(method: str) -> None:
    async with served() as (floor, api):
        got = await api.send(method, f"Number/{FOREIGN}/", {"alias": "mine"})
        theirs = await api.get(f"/v1/Account/{OTHER_ACCOUNT}/Number/", authorization=basic(OTHER_ACCOUNT))
        assert floor.catalog.numbers[E164(FOREIGN)].alias == ""
    assert (got.status, got.body["code"]) == (404, "not_found")
    assert [each["number"] for each in theirs.body["objects"]] == [FOREIGN[1:]]
