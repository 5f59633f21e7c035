"""The administrator's API on the real gateway: who is let in, and that what it does counts at once."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from structlog.testing import capture_logs

from gateway.api.administration import ROOT, Administration
from gateway.app import Gateway
from gateway.fields import BadSetting
from gateway.running import Stopping, Watchdog
from gateway.settings import AdminSettings, Settings
from gateway.stores import ADMIN_FILE, open_stores
from resolver.model import CarrierName
from tests.conftest import NOW_MS
from tests.fakes.api_client import basic
from tests.integration.test_isolation import EAST, settings

__all__ = ["settings"]


class Admin(NamedTuple):
    gateway: Gateway
    api_url: str
    admin_url: str
    token: str
    session: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: object = None, *, authorization: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.token}" if authorization is None else authorization}
        data = None if body is None else orjson.dumps(body)
        async with self.session.request(method, self.admin_url + ROOT + path, data=data, headers=headers) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def status_of(self, auth_id: str, token: str) -> int:
        url, headers = f"{self.api_url}/v1/Account/{auth_id}/", {"Authorization": basic(auth_id, token)}
        async with self.session.get(url, headers=headers) as answer:
            return answer.status


@asynccontextmanager
async def administered(settings: Settings) -> AsyncIterator[Admin]:
    settings = replace(settings, admin=AdminSettings(enabled=True, port=0))
    said: list[str] = []
    stopping = Stopping(end=said.append)
    gateway = Gateway(settings, announce=said.append, sink=None)
    running = asyncio.create_task(gateway.run(stopping, Watchdog(end=said.append)))
    async with asyncio.timeout(20):
        while not any("administrator" in line for line in said) and not running.done():
            await asyncio.sleep(0.01)
    api_url, admin_url = (re.findall(r"http://[0-9.]+:[0-9]+", line)[0] for line in (said[0], said[-1]))
    token = (settings.storage.data / ADMIN_FILE).read_text().strip()
    try:
        async with aiohttp.ClientSession() as session:
            yield Admin(gateway, api_url, admin_url, token, session)
    finally:
        stopping.ask("the test")
        await asyncio.wait_for(running, 20)


async def test_only_its_own_token_opens_it_and_nobodys_else(settings: Settings) -> None:
    async with open_stores(settings.storage) as stores:
        account = await stores.catalog.create_account("shop", now_ms=NOW_MS)
    async with administered(settings) as admin:
        path = settings.storage.data / ADMIN_FILE
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        routes = Administration("x", None, None, None, settings, clock=None).routes()  # type: ignore[arg-type]
        assert len(routes) == 12
        wrong = (
            "",
            "Bearer x",
            basic(account.account_id, account.token),
            f"Basic {admin.token}",
            f"Bearer {account.token}",
        )
        bodies = set()
        for route in routes:
            assert route.weigh is not None, "proved before the body is read"
            below = route.path.removeprefix(ROOT).format(auth_id=account.account_id, carrier=EAST)
            for authorization in wrong if route is routes[0] else wrong[:1]:
                status, body = await admin.ask(route.method, below, {"junk": 1}, authorization=authorization)
                bodies.add((status, body["code"], body["error"]))
            if route.method == "POST":
                status, body = await admin.ask(route.method, below, {"account_id": "MA1"})
                assert (status, body["code"]) == (400, "invalid_parameter"), "keys it does not know are refused"
        assert bodies == {(401, "unauthenticated", "authentication credentials were not provided")}
        async with admin.session.get(
            admin.api_url + ROOT + "Account/", headers={"Authorization": f"Bearer {admin.token}"}
        ) as answer:
            assert answer.status == 404, "the accounts' listener has no such route"


async def test_accounts_are_made_shut_out_and_given_tokens_at_once(settings: Settings) -> None:
    with capture_logs() as logs:
        async with administered(settings) as admin:
            status, made = await admin.ask("POST", "Account/", {"name": "shop"})
            assert status == 201
            auth_id, token = made["auth_id"], made["auth_token"]
            assert await admin.status_of(auth_id, token) == 200
            status, sub = await admin.ask("POST", "Account/", {"name": "till", "main": auth_id})
            assert (status, sub["auth_id"][:2]) == (201, "SA")
            listed = (await admin.ask("GET", "Account/"))[1]
            assert [each["auth_id"] for each in listed["objects"]] == [auth_id, sub["auth_id"]]
            assert token not in str(listed)
            status, rotated = await admin.ask("POST", f"Account/{auth_id}/Token/", {"overlap_hours": 1})
            assert (status, rotated["former_token_until"] is not None) == (201, True)
            for each in (token, rotated["auth_token"]):
                assert await admin.status_of(auth_id, each) == 200
            assert (await admin.ask("DELETE", f"Account/{auth_id}/Token/"))[1]["former_token_until"] is None
            assert await admin.status_of(auth_id, token) == 401
            assert (await admin.ask("POST", f"Account/{auth_id}/", {"enabled": False}))[1]["enabled"] is False
            assert await admin.status_of(auth_id, rotated["auth_token"]) == 401
            assert await admin.status_of(sub["auth_id"], sub["auth_token"]) == 401, "its subaccounts with it"
            assert (await admin.ask("POST", "Account/", {"name": "x", "main": "MA1"}))[0] == 404
            assert (await admin.ask("GET", "Account/MA1/"))[0] == 404
            async with admin.session.get(admin.admin_url + "/metrics") as answer:
                said = await answer.text() + str(logs)
            for secret in (token, rotated["auth_token"], sub["auth_token"], admin.token):
                assert secret not in said


async def test_carriers_are_paused_and_numbers_added_at_once(settings: Settings) -> None:
    async with administered(settings) as admin:
        parts = admin.gateway._parts
        assert parts is not None
        assert (await admin.ask("GET", "Carrier/"))[1]["objects"] == [
            {"carrier": "east", "kind": "simulated", "segments_per_s": 1_000, "paused": False}
        ]
        assert (await admin.ask("POST", "Carrier/east/Pause/"))[1]["paused"] is True
        assert parts.lanes[CarrierName("east")].free_places() == 0
        status, cancelled = await admin.ask("POST", "Carrier/east/Cancel/")
        assert (status, cancelled["cancelled"], cancelled["in_flight"]) == (200, 0, 0)
        assert (await admin.ask("POST", "Carrier/east/Resume/"))[1]["paused"] is False
        assert (await admin.ask("POST", "Carrier/west/Pause/"))[0] == 404
        auth_id = (await admin.ask("POST", "Account/", {"name": "shop"}))[1]["auth_id"]
        number = {"number": "+14155550100", "type": "longcode", "carrier": "east", "account": auth_id}
        status, added = await admin.ask("POST", "Number/", number)
        assert (status, added["number"], added["account"]) == (201, "+14155550100", auth_id)
        assert "+14155550100" in parts.pools.numbers
        assert (await admin.ask("POST", "Number/", number))[1]["code"] == "number_in_use"
        assert (await admin.ask("POST", "Number/", {**number, "carrier": "west"}))[0] == 400
        listed = (await admin.ask("GET", f"Number/?account={auth_id}"))[1]
        assert (listed["meta"]["total_count"], listed["objects"][0]["carrier"]) == (1, "east")


async def test_a_short_token_is_refused_before_anything_is_disturbed(settings: Settings) -> None:
    short = replace(settings, admin=AdminSettings(enabled=True, port=0, token="short"))
    with pytest.raises(BadSetting, match="at least 32"):
        await Gateway(short, announce=lambda _: None, sink=None).run(
            Stopping(end=lambda _: None), Watchdog(end=lambda _: None)
        )


async def test_a_token_that_others_can_read_is_not_used(settings: Settings) -> None:
    open_to_all = replace(settings, admin=AdminSettings(enabled=True, port=0))
    settings.storage.data.mkdir(parents=True)
    path = settings.storage.data / ADMIN_FILE
    path.write_text("AAAA")
    path.chmod(0o644)
    with pytest.raises(BadSetting, match="others cannot read"):
        await Gateway(open_to_all, announce=lambda _: None, sink=None).run(
            Stopping(end=lambda _: None), Watchdog(end=lambda _: None)
        )
