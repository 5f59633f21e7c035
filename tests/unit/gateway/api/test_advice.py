"""Recommend and Simulate over HTTP: what is answered, what is refused, and that nothing is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resolver.model import E164, Limits
from tests.fakes.accept_floor import FIRST, POWERPACK
from tests.fakes.api_floor import ApiFloor

RECOMMEND = "Powerpack/Recommend/"
SIMULATE = f"Powerpack/{POWERPACK}/Simulate/"


# --- Recommend --------------------------------------------------------------------------------------------------------


async def test_the_larger_of_day_and_peak_is_recommended_with_its_reason() -> None:
    async with ApiFloor().serving() as api:
        got = await api.get(f"{RECOMMEND}?daily_us=3000&daily_ca=1000&peak_per_second=8")
    us, ca = got.body["countries"]
    assert (us["numbers"], us["by_day"], us["by_peak"], us["peak_per_second"]) == (20, 20, 6, 6)
    assert (ca["numbers"], ca["by_day"], ca["by_peak"]) == (8, 7, 8)
    assert us["reason"] == (
        "3000 messages a day at 150 a number take 20; "
        "6 a second at 1 segment every 1 s a number take 6; the larger counts"
    )
    assert (got.body["numbers"], got.body["mix"]) == (28, "none")
    assert got.body["composition"] == {"area_codes": {}, "regions": {}, "countries": {"US": 20, "CA": 8}}


async def test_numbers_are_shared_out_by_a_given_mix_and_compared_with_what_is_there() -> None:
    async with ApiFloor().serving() as api:
        query = f"daily_us=1500&regions=CA:3,NY:1,ON:5&powerpack_uuid={POWERPACK}"
        got = await api.get(f"{RECOMMEND}?{query}")
        filled = await api.post(f"Powerpack/{POWERPACK}/Composition/", got.body["composition"])
    assert (got.body["mix"], got.body["composition"]["regions"]) == ("given", {"CA": 8, "NY": 2})
    assert got.body["lacks"]["regions"] == {"CA": 6, "NY": 2}  # there are two of 415
    assert filled.status == 200


async def test_the_mix_may_be_that_of_what_was_sent() -> None:
    async with ApiFloor().serving() as api:
        for recipient in ("12125550198", "12125550199", "12125550197", "14155550199"):
            await api.post("Message/", {"powerpack_uuid": POWERPACK, "dst": recipient, "text": "Hello"})
        got = await api.get(f"{RECOMMEND}?daily_us=600&observed_days=7")
    assert (got.body["mix"], got.body["composition"]["regions"]) == ("observed", {"CA": 1, "NY": 3})


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "missing_parameter"),
        ("daily_us=0", 400, "missing_parameter"),
        ("daily_us=x", 400, "invalid_parameter"),
        ("daily_us=1&peak_per_second=0", 400, "invalid_parameter"),
        ("daily_us=1&peak_per_second=1/0", 400, "invalid_parameter"),
        ("daily_us=1&peak_per_second=nan", 400, "invalid_parameter"),
        ("daily_us=1&peak_per_second=1e9999999", 400, "invalid_parameter"),
        ("daily_us=1&segments=11", 400, "invalid_parameter"),
        ("daily_us=1&regions=CA", 400, "invalid_parameter"),
        ("daily_us=1&regions=XX:1", 400, "invalid_parameter"),
        ("daily_us=1&regions=CA:-1", 400, "invalid_parameter"),
        ("daily_us=1&regions=CA:1&area_codes=212:1", 400, "invalid_parameter"),
        ("daily_us=1&regions=CA:1&observed_days=7", 400, "invalid_parameter"),
        ("daily_us=1&observed_days=31", 400, "invalid_parameter"),
        ("daily_us=1&powerpack_uuid=nobody", 404, "not_found"),
        ("daily_us=1&country=US", 400, "invalid_parameter"),
    ],
)
async def test_what_makes_no_sense_is_refused(query: str, status: int, code: str) -> None:
    async with ApiFloor().serving() as api:
        got = await api.get(f"{RECOMMEND}?{query}")
    assert (got.status, got.body["code"]) == (status, code)


# --- Simulate ---------------------------------------------------------------------------------------------------------


async def test_a_plan_is_tried_on_a_copy() -> None:
    floor = ApiFloor(numbers=0)
    for line in (100, 101):
        floor.add_number(f"+1415555{line:04}", powerpack_id=POWERPACK, limits=Limits(1, 1_000, 3, None))
    floor.fill()
    async with floor.serving() as api:
        body = {"area_codes": {"415": 6, "212": 4}, "start_at": "2026-01-02 00:00"}
        got, again = [await api.post(SIMULATE, body) for _ in range(2)]
    shown = {**got.body, "api_id": ""}
    assert (shown["messages"], shown["handed_over"], shown["refused"]) == (10, 10, 0)
    assert shown["tiers"] == {"area": 4, "country": 2, "soonest": 4}
    assert (shown["numbers_used"], shown["numbers_over_recommended"]) == (2, 2)
    assert [each["messages"] for each in shown["numbers"]] == [5, 5]
    assert shown["wait_ms"] == {"median": 2 * 1_020, "p95": 4 * 1_020, "longest": 4 * 1_020}
    assert {**again.body, "api_id": ""} == shown
    assert floor.journal.appended == 0
    assert (floor.resolver.waiting, floor.resolver.pools[POWERPACK].threads.recipients()) == (0, [])


async def test_a_steady_plan_does_not_wait_and_starts_when_it_is_told() -> None:
    floor = ApiFloor()
    async with floor.serving() as api:
        body = {"recipients": ["+14155550199", "+14155550198"], "per_second": 0.1, "start_at": "2026-01-06 00:00"}
        got = await api.post(SIMULATE, body)
    assert (got.body["wait_ms"]["longest"], got.body["starts_at"]) == (0, "2026-01-06T00:00:00Z")
    assert (got.body["first_at"], got.body["last_at"]) == ("2026-01-06T00:00:00Z", "2026-01-06T00:00:10Z")


async def test_what_waits_already_goes_first() -> None:
    floor = ApiFloor(numbers=1)
    async with floor.serving() as api:
        await api.post("Message/", {"powerpack_uuid": POWERPACK, "dst": "14155550188<14155550189", "text": "Hello"})
        got = await api.post(SIMULATE, {"recipients": ["14155550199"]})
    assert (got.body["waiting_before"], got.body["wait_ms"]["longest"]) == (2, 2 * 1_020)


async def test_one_plan_at_a_time() -> None:
    async with ApiFloor().serving() as api:
        body = {"area_codes": {"415": 2_000}, "message_expiry": 10_000}
        both = await asyncio.gather(api.post(SIMULATE, body), api.post(SIMULATE, body))
    assert sorted(each.status for each in both) == [200, 503]


async def test_made_up_recipients_are_never_the_powerpacks_own() -> None:
    floor = ApiFloor()
    floor.add_number("+14152000001", powerpack_id=POWERPACK)
    floor.fill()
    async with floor.serving() as api:
        got = await api.post(SIMULATE, {"area_codes": {"415": 3}, "regions": {"NY": 2}, "countries": {"CA": 2}})
    assert (got.body["messages"], got.body["refused"]) == (7, 0)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "missing_parameter"),
        ({"area_codes": {}}, 400, "missing_parameter"),
        ({"area_codes": {"415": 1}, "recipients": ["14155550199"]}, 400, "missing_parameter"),
        ({"area_codes": {"415": 50_000, "212": 1}}, 413, "too_many_recipients"),
        ({"area_codes": {"000": 1}}, 400, "invalid_parameter"),
        ({"countries": {"DE": 1}}, 400, "invalid_parameter"),
        ({"recipients": "14155550199"}, 400, "invalid_parameter"),
        ({"recipients": [1]}, 400, "invalid_parameter"),
        ({"recipients": ["1"]}, 400, "invalid_destination"),
        ({"area_codes": {"415": 1}, "per_second": -1}, 400, "invalid_parameter"),
        ({"area_codes": {"415": 1}, "per_second": True}, 400, "invalid_parameter"),
        ({"area_codes": {"415": 1_000}, "per_second": "0.001"}, 400, "invalid_parameter"),
        ({"area_codes": {"415": 1}, "start_at": "tomorrow"}, 400, "invalid_parameter"),
        ({"area_codes": {"415": 1}, "start_at": "2036-01-01 00:00"}, 400, "invalid_parameter"),
        ({"area_codes": {"415": 1}, "segments": 0}, 400, "invalid_parameter"),
        ({"area_codes": {"415": 1}, "text": "Hello"}, 400, "invalid_parameter"),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused(body: dict[str, Any], status: int, code: str) -> None:
    async with ApiFloor().serving() as api:
        got = await api.post(SIMULATE, body)
    assert (got.status, got.body["code"]) == (status, code), got.body


async def test_too_large_a_powerpack_is_not_copied() -> None:
    floor = ApiFloor(numbers=0)
    for line in range(20_001):
        floor.add_number(f"+1415{2_000_000 + line}", powerpack_id=POWERPACK)
    floor.fill()
    async with floor.serving() as api:
        got = await api.post(SIMULATE, {"recipients": [str(E164("+14155550199"))]})
    assert (got.status, got.body["code"]) == (400, "invalid_parameter")
    assert FIRST not in floor.catalog.numbers
