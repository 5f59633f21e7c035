"""A thread set by hand is there after a restart, also one of a gateway that was cut off right after its answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson

from gateway.settings import ServerSettings, Settings
from tests.fakes.api_client import basic
from tests.integration.test_app import _collector, settings, started

__all__ = ["_collector", "settings"]

RECIPIENT = "12125550123"


async def test_set_and_forgotten_threads_outlive_the_gateway(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, server=ServerSettings(port=0, demo=True), carriers={})
    async with started(settings) as life:
        demo = orjson.loads((settings.storage.data / "demo.json").read_bytes())
        headers = {"Authorization": basic(demo["auth_id"], demo["auth_token"])}
        path = f"/v1/Account/{demo['auth_id']}/Powerpack/{demo['powerpack_uuid']}/"
        async with aiohttp.ClientSession(life.base_url, headers=headers) as client:
            for recipient in (RECIPIENT, "12125550124"):
                async with client.put(f"{path}Sticky/{recipient}/", json={"number": "14155550100"}) as answer:
                    assert answer.status == 200
            async with client.delete(f"{path}Sticky/12125550124/") as answer:
                assert answer.status == 204
        life.running.cancel()  # nothing is drained
    async with started(settings) as life, aiohttp.ClientSession(life.base_url, headers=headers) as client:
        async with client.get(f"{path}Sticky/{RECIPIENT}/") as answer:
            assert (await answer.json())["number"] == "14155550100"
        async with client.get(f"{path}Sticky/12125550124/") as answer:
            assert answer.status == 404
        async with client.post(f"{path}Resolve/", json={"dst": RECIPIENT, "text": "hello"}) as answer:
            found = await answer.json()
            assert (found["from"], found["tier"]) == ("14155550100", "sticky")
