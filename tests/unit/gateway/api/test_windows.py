"""Windows by HTTP: every number's, page by page, and the links'."""

from __future__ import annotations

from typing import Any

import pytest

from resolver.model import Pause
from tests.fakes.accept_floor import CARRIER, FIRST, POWERPACK
from tests.fakes.api_client import OTHER_ACCOUNT, basic
from tests.fakes.api_floor import ApiFloor

PATH = f"Powerpack/{POWERPACK}/Windows/"


def by_name(number: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["window"]: each for each in number["windows"]}


async def test_a_number_that_was_used_has_less_room() -> None:
    floor = ApiFloor(places=8)
    async with floor.serving() as api:
        await api.post("Message/", {"dst": "+14155550199", "text": "Hello", "powerpack_uuid": POWERPACK})
        (message,) = floor.lane.taken
        waiting = await api.get(PATH)
        now_ms = floor.clock.now_ms()
        floor.resolver.depart(message, now_ms=now_ms)
        got = await api.get(PATH)
    assert got.status == 200
    assert got.body["meta"]["total_count"] == len(got.body["objects"]) == 2
    before = next(each for each in waiting.body["objects"] if each["number"] == message.number[1:])
    after = next(each for each in got.body["objects"] if each["number"] == message.number[1:])
    assert (before["waiting_messages"], by_name(before)["number_rate"]["used"]) == (1, 0)
    assert (after["waiting_messages"], by_name(after)["number_rate"]["used"]) == (0, 1)
    assert after["next_at"] > before["windows"][0]["free_at"][:19]
    (link,) = got.body["links"]
    assert (link["carrier"], link["up"], by_name(link)["link_rate"]["used"]) == (CARRIER, True, 1)


async def test_one_number_or_a_page_of_them_may_be_asked_for() -> None:
    async with ApiFloor(numbers=3).serving() as api:
        one = await api.get(f"{PATH}?number=%2B{FIRST[1:]}")
        page = await api.get(f"{PATH}?limit=1&offset=2")
        none = await api.get(f"{PATH}?number=19995550100")
        wrong = await api.get(f"{PATH}?numbers=1")
    assert [each["number"] for each in one.body["objects"]] == [FIRST[1:]]
    assert (len(page.body["objects"]), page.body["meta"]["total_count"]) == (1, 3)
    assert (none.status, none.body["code"]) == (404, "not_found")
    assert (wrong.status, wrong.body["code"]) == (400, "invalid_parameter")


async def test_nothing_leaves_a_paused_powerpack_or_by_a_link_that_is_down() -> None:
    floor = ApiFloor()
    async with floor.serving() as api:
        await api.post(f"Powerpack/{POWERPACK}/Pause/")
        paused = await api.get(PATH)
        await api.post(f"Powerpack/{POWERPACK}/Resume/")
        floor.resolver.set_link_up(CARRIER, False, now_ms=floor.clock.now_ms())
        down = await api.get(PATH)
    assert floor.pools.powerpacks[POWERPACK].pause is Pause.NONE
    assert {each["next_at"] for each in paused.body["objects"]} == {None}
    assert {each["next_at"] for each in down.body["objects"]} == {None}
    assert not down.body["links"][0]["up"]


@pytest.mark.parametrize("path", [PATH, f"Powerpack/{'0' * 8}-0000-7000-8000-000000000000/Windows/"])
async def test_another_accounts_windows_are_absent(path: str) -> None:
    async with ApiFloor().serving() as api:
        got = await api.get(f"/v1/Account/{OTHER_ACCOUNT}/{path}", authorization=basic(OTHER_ACCOUNT))
    assert (got.status, got.body["code"]) == (404, "not_found")
