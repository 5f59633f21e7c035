"""A main account and its subaccounts, over the real gateway: who sees what, and what a deletion leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.settings import Settings
from gateway.stores import open_stores
from resolver.model import AccountId
from storage.catalog import AccountRow
from tests.integration.test_app import started
from tests.integration.test_isolation import Door, Holding, fill, settings

__all__ = ["settings"]


class Shop:
    """Asks as a main account, or as somebody else."""

    def __init__(self, door: Door, main: Holding) -> None:
        self._door, self._main = door, main

    async def __call__(
        self, method: str, path: str, body: object = None, *, holding: Holding | None = None
    ) -> tuple[int, dict[str, Any]]:
        holding = holding or self._main
        data = None if body is None else orjson.dumps(body)
        whole = f"/v1/Account/{holding.account.account_id}/{path}"
        status, answered = await self._door.ask(holding, method, whole, data)
        return status, orjson.loads(answered) if answered else {}


async def test_a_subaccount_lives_as_at_plivo(settings: Settings) -> None:
    async with open_stores(settings.storage) as stores:
        main = Holding(await stores.catalog.create_account("shop", now_ms=1), 1)
    async with started(settings) as life, aiohttp.ClientSession() as session:
        ask = Shop(Door(life.base_url, session), main)
        assert (await ask("POST", "Subaccount/", {"enabled": True}))[1]["code"] == "missing_parameter"
        status, made = await ask(
            "POST", "Subaccount/", {"name": "till", "enabled": True, "account_id": "MA1", "main_id": None, "token": "x"}
        )
        assert (status, made["message"], len(made["auth_id"]), made["auth_id"][:2]) == (201, "created", 20, "SA")
        assert len(made["auth_token"]) == 40
        path = f"Subaccount/{made['auth_id']}/"
        till = Holding(AccountRow(AccountId(made["auth_id"]), "", b"", made["auth_token"]), 2)
        status, shown = await ask("GET", path)
        assert status == 200
        assert shown["account"] == f"/v1/Account/{main.account.account_id}/"
        assert shown["resource_uri"] == f"/v1/Account/{main.account.account_id}/{path}"
        assert (shown["name"], shown["enabled"], shown["modified"]) == ("till", True, None)
        assert shown["auth_token"] == made["auth_token"]
        assert [each["auth_id"] for each in (await ask("GET", "Subaccount/"))[1]["objects"]] == [made["auth_id"]]

        assert (await ask("GET", "", holding=till))[0] == 200
        assert (await ask("GET", "Subaccount/", holding=till))[1]["meta"]["total_count"] == 0
        assert (await ask("POST", "Subaccount/", {"name": "x"}, holding=till))[1]["code"] == "main_account_only"

        assert (await ask("POST", path, {"name": "Till", "enabled": False}))[0] == 202
        assert (await ask("GET", "", holding=till))[0] == 401, "from the next request on"
        assert (await ask("POST", path, {"enabled": "true"}))[0] == 202
        assert (await ask("GET", "", holding=till))[1]["name"] == "Till"

        assert (await ask("DELETE", path))[0] == 204
        assert (await ask("GET", "", holding=till))[0] == 401
        assert (await ask("GET", path))[0] == 404
        assert (await ask("DELETE", path, {"cascade": True}))[0] == 404
        assert (await ask("GET", "Subaccount/"))[1]["objects"] == []


async def test_a_main_account_reads_its_subaccounts_messages_and_does_nothing_to_them(settings: Settings) -> None:
    async with open_stores(settings.storage) as stores:
        shop, till, other_till, _ = await fill(stores)
    async with started(settings) as life, aiohttp.ClientSession() as session:
        door = Door(life.base_url, session)
        for each in (shop, till):
            await door.send(each)
        ask = Shop(door, shop)
        status, listed = await ask("GET", f"Message/?subaccount={till.account.account_id}")
        assert status == 200
        assert till.message_uuid in {each["message_uuid"] for each in listed["objects"]}
        assert shop.message_uuid not in {each["message_uuid"] for each in listed["objects"]}
        own = {each["message_uuid"] for each in (await ask("GET", "Message/"))[1]["objects"]}
        assert shop.message_uuid in own
        assert till.message_uuid not in own
        one = f"Message/{till.message_uuid}/"
        assert (await ask("GET", one))[1]["resource_uri"].startswith(f"/v1/Account/{till.account.account_id}/")
        assert (await ask("GET", f"{one}Timeline/"))[0] == 200
        assert (await ask("DELETE", one))[0] == 404
        assert (await ask("GET", one, holding=other_till))[0] == 404
        assert (await ask("GET", f"Message/{shop.message_uuid}/", holding=till))[0] == 404
        status, refused = await ask("GET", f"Message/?subaccount={shop.account.account_id}", holding=till)
        assert (status, refused["code"]) == (400, "invalid_parameter")


async def test_what_waits_in_a_deleted_subaccount_ends_and_its_numbers_are_the_main_accounts(
    settings: Settings,
) -> None:
    async with open_stores(settings.storage) as stores:
        shop, till, _, _ = await fill(stores)
    async with started(settings) as life, aiohttp.ClientSession() as session:
        door = Door(life.base_url, session)
        await door.send(till)
        ask = Shop(door, shop)
        assert (await ask("DELETE", f"Subaccount/{till.account.account_id}/"))[0] == 204
        parts = life.gateway._parts
        assert parts is not None
        assert till.powerpack_uuid not in parts.pools.powerpacks
        for number in till.numbers.values():
            row = parts.pools.numbers[number]
            assert (row.account_id, row.powerpack_id) == (shop.account.account_id, None)
        async with asyncio.timeout(5):
            while (stored := await parts.archive.find(till.account.account_id, till.message_uuid)) is None or (  # type: ignore[arg-type]
                stored.outcome is None
            ):
                await asyncio.sleep(0.05)
        assert (stored.state, stored.code) == ("failed", "90")


async def test_a_number_is_given_to_a_subaccount(settings: Settings) -> None:
    async with open_stores(settings.storage) as stores:
        shop, till, _, stranger = await fill(stores)
    async with started(settings) as life, aiohttp.ClientSession() as session:
        ask = Shop(Door(life.base_url, session), shop)
        (number, *_) = shop.numbers.values()
        pool = f"NumberPool/{shop.pool_uuid}/Number/{number[1:]}/"
        assert (await ask("DELETE", pool))[0] == 200
        for nobody in (stranger, shop):
            status, _ = await ask("POST", f"Number/{number[1:]}/", {"subaccount": nobody.account.account_id})
            assert status == 400
        assert (await ask("POST", f"Number/{number[1:]}/", {"subaccount": till.account.account_id}))[0] == 202
        assert (await ask("GET", f"Number/{number[1:]}/"))[0] == 404
        assert (await ask("GET", f"Number/{number[1:]}/", holding=till))[0] == 200
        listed = (await ask("GET", f"Number/?subaccount={till.account.account_id}"))[1]["objects"]
        assert number[1:] in {each["number"] for each in listed}


@pytest.mark.parametrize("hours", [0, 1])
async def test_a_token_rotated_by_command_is_known_within_a_second(settings: Settings, hours: int) -> None:
    async with open_stores(settings.storage) as stores:
        main = Holding(await stores.catalog.create_account("shop", now_ms=1), 1)
    async with started(settings) as life, aiohttp.ClientSession() as session:
        ask = Shop(Door(life.base_url, session), main)
        assert (await ask("GET", ""))[0] == 200
        async with open_stores(settings.storage) as stores:
            now_ms = life.gateway._clock.now_ms()
            await stores.catalog.rotate_token(
                main.account.account_id, now_ms=now_ms, former_until_ms=now_ms + hours * 3_600_000
            )
            row = await stores.catalog.find_account(main.account.account_id)
        assert row is not None
        async with asyncio.timeout(1):
            while (await ask("GET", "", holding=Holding(row, 1)))[0] != 200:
                await asyncio.sleep(0.01)
        assert (await ask("GET", ""))[0] == (200 if hours else 401)
