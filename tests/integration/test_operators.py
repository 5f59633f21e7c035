"""The operator table in a real database: imported, replaced, exported, and heard of by a running gateway."""

from __future__ import annotations

import asyncio
import io
import secrets
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.csv_lines import BadLine
from gateway.operators import ImportedPrefixes, Operators, export_operators, import_operators
from gateway.settings import ServerSettings, Settings
from gateway.stores import open_stores
from resolver.model import E164
from storage.catalog import Catalog
from storage.database import Database
from storage.sealing import Vault
from tests.fakes.api_client import basic
from tests.integration.test_app import _collector, settings, started

__all__ = ["_collector", "settings"]

FILE = "prefix,operator\n1415,Verizon\n1206,AT&T\n"


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database, Vault(secrets.token_bytes(32)))


async def imported(
    catalog: Catalog, file: str, *, now_ms: int = 1, **more: Any
) -> tuple[ImportedPrefixes, list[BadLine]]:
    bad: list[BadLine] = []
    return await import_operators(catalog, io.StringIO(file), now_ms=now_ms, on_bad=bad.append, **more), bad


async def exported(catalog: Catalog) -> str:
    file = io.StringIO()
    await export_operators(catalog, file)
    return file.getvalue()


async def test_a_file_is_imported_exported_and_replaced(catalog: Catalog) -> None:
    assert await imported(catalog, FILE, is_rehearsal=True) == (ImportedPrefixes(2, 0, 0), [])
    assert await exported(catalog) == "prefix,operator\n"
    assert await imported(catalog, FILE) == (ImportedPrefixes(2, 0, 0), [])
    assert await exported(catalog) == "prefix,operator\n1206,AT&T\n1415,Verizon\n"
    assert (await imported(catalog, "prefix,operator\n1206,Verizon\n", now_ms=2))[0].dropped == 0
    assert await exported(catalog) == "prefix,operator\n1206,Verizon\n1415,Verizon\n"
    done, _ = await imported(catalog, "prefix,operator\n1303,AT&T\nx,y\n", now_ms=3, replaces=True)
    assert (done.bad, done.dropped) == (1, 0), "half a table is worse than an old one"
    done, _ = await imported(catalog, "prefix,operator\n1303,AT&T\n", now_ms=4, replaces=True)
    assert done.dropped == 2
    operators = Operators(catalog)
    await operators.load()
    assert (operators.find(E164("+13035550123")), operators.find(E164("+12065550123"))) == ("AT&T", "")


async def test_a_running_gateway_hears_of_an_import_and_the_rule_rules(settings: Settings) -> None:
    settings = replace(settings, server=ServerSettings(port=0, demo=True), carriers={})
    async with started(settings) as life:
        demo = orjson.loads((settings.storage.data / "demo.json").read_bytes())
        powerpack = f"/v1/Account/{demo['auth_id']}/Powerpack/{demo['powerpack_uuid']}/"
        headers = {"Authorization": basic(demo["auth_id"], demo["auth_token"])}
        async with aiohttp.ClientSession(life.base_url, headers=headers) as client:

            async def source() -> str:
                async with client.post(f"{powerpack}Resolve/", json={"dst": "14155550123", "text": "hello"}) as answer:
                    return str((await answer.json())["from"])

            pool = (await (await client.get(powerpack)).json())["number_pool"]
            await client.post(f"{pool}Tollfree/18005550100/")
            await client.post(powerpack, json={"operator_types": {"Verizon": "longcode"}})
            assert await source() == "18005550100"
            async with open_stores(settings.storage) as stores:
                await imported(stores.catalog, FILE)
            for _ in range(100):
                if (await source()).startswith("1415"):
                    break
                await asyncio.sleep(0.05)
            assert (await source()).startswith("1415")
    async with started(settings) as life, aiohttp.ClientSession(life.base_url, headers=headers) as client:
        assert (await source()).startswith("1415")
