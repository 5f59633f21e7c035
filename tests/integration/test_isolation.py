"""Nobody reaches what is another's: every route of the real gateway's router, with every other account's ids.

Each is asked twice, with ids of somebody else's and with ids of nobody's. The answers must be the same but for the id
that was asked for, and what the others have must be afterwards as it was before. A route with a kind of parameter that
KINDS does not know fails the test: whoever adds one says here what a foreign one of it is.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import orjson
import pytest
from yarl import URL

from gateway.api.router import Access, Route
from gateway.settings import CarrierSettings, LimitsSettings, ServerSettings, Settings, StorageSettings
from gateway.stores import Stores, open_stores
from resolver.model import E164, AccountId, CarrierName, NumberRow, NumberType, Pause, PoolId, PowerpackId, PowerpackRow
from storage.catalog import AccountRow, ApplicationRow
from tests.conftest import NOW_MS
from tests.fakes.api_client import basic
from tests.integration.test_app import started

EAST = CarrierName("east")
AROUND = {"/healthz", "/readyz", "/metrics", "/openapi.yaml", "/carriers/{carrier}/reports"}
"""Routes that no account has; a new one outside /v1/Account/ needs a line here, and a test of its own."""
PREFIX = "/v1/Account/{auth_id}/"


@dataclass
class Holding:
    """An account and what it has."""

    account: AccountRow
    place: int
    message_uuid: str = ""
    bulk_id: str = ""

    @property
    def powerpack_uuid(self) -> PowerpackId:
        return PowerpackId(f"0199c000-0000-7000-8000-0000000000a{self.place}")

    @property
    def pool_uuid(self) -> PoolId:
        return PoolId(f"0199c000-0000-7000-8000-0000000000b{self.place}")

    @property
    def app_id(self) -> str:
        return f"2046859913093938{self.place}"

    @property
    def numbers(self) -> Mapping[NumberType, E164]:
        return {
            NumberType.LONG_CODE: E164(f"+1415555{self.place:04d}"),
            NumberType.TOLL_FREE: E164(f"+1800555{self.place:04d}"),
            NumberType.SHORT_CODE: E164(f"2255{self.place}"),
        }


NOBODY = Holding(
    AccountRow(AccountId("MA99999999999999999Z"), "", b"", ""), 9, "019b76da-a800-7000-8000-000000000009", "9" * 32
)
"""Ids in the same shapes that nobody has."""


class Names(NamedTuple):
    """What stands in the place of a parameter: as somebody else has it, and as nobody has it."""

    foreign: str
    absent: str
    own: str


def names_of(name: str, route: Route, attacker: Holding, victim: Holding) -> Names:
    """What is asked for as the parameter `name`. KeyError: see the top of this file."""
    kinds: dict[str, Any] = {
        "message_uuid": lambda holding: holding.message_uuid,
        "bulk_id": lambda holding: holding.bulk_id,
        "powerpack_uuid": lambda holding: holding.powerpack_uuid,
        "pool_uuid": lambda holding: holding.pool_uuid,
        "app_id": lambda holding: holding.app_id,
        "subauth_id": lambda holding: holding.account.account_id,
        "media_id": lambda holding: "1",  # there is no media yet
        "recipient": lambda _: "14155550123",  # the same person for everybody
        "number": lambda holding: holding.numbers[number_type_of(route)].removeprefix("+"),
    }
    read = kinds[name]
    return Names(read(victim), read(NOBODY), read(attacker))


def number_type_of(route: Route) -> NumberType:
    for part, number_type in (("/Tollfree/", NumberType.TOLL_FREE), ("/Shortcode/", NumberType.SHORT_CODE)):
        if part in route.path:
            return number_type
    return NumberType.LONG_CODE


def requests_for(route: Route, attacker: Holding, victim: Holding) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Paths below the attacker's account, each with foreign ids and with absent ones instead, and what differs."""
    params = [each for each in re.findall(r"\{(\w+)\}", route.path) if each != "auth_id"]
    known = {name: names_of(name, route, attacker, victim) for name in params}
    for are_foreign in itertools.product((True, False), repeat=len(params)):
        if params and not any(are_foreign):
            continue  # only its own
        foreign, absent, replaced = dict[str, str](), dict[str, str](), dict[str, str]()
        for name, is_foreign in zip(params, are_foreign, strict=True):
            foreign[name] = known[name].foreign if is_foreign else known[name].own
            absent[name] = known[name].absent if is_foreign else known[name].own
            if is_foreign:
                replaced[known[name].foreign] = known[name].absent
        base = route.path.replace("{auth_id}", attacker.account.account_id)
        yield base.format(**foreign), base.format(**absent), replaced


def references(holding: Holding) -> dict[str, object]:
    """Every key by which a body or a query may name a thing, and what makes the body else acceptable."""
    long_code = holding.numbers[NumberType.LONG_CODE]
    return {
        "powerpack_uuid": holding.powerpack_uuid,
        "powerpack_id": holding.powerpack_uuid,
        "application_id": holding.app_id,
        "app_id": holding.app_id,
        "subaccount": holding.account.account_id,
        "account_id": holding.account.account_id,
        "auth_id": holding.account.account_id,
        "pool_uuid": holding.pool_uuid,
        "number": long_code,
        "numbers": long_code,
        "from_number": long_code.removeprefix("+"),
        "dst": "+14155550199",
        "text": "Hello",
    }


def normalised(body: bytes) -> object:
    """An answer without what is new in each."""
    lines = [orjson.loads(line) for line in body.splitlines() if line] if body else []
    for line in lines:
        for key in ("api_id", "retry_at"):
            line.pop(key, None)
    return lines


# --- The world --------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        server=ServerSettings(port=0),
        storage=StorageSettings(
            data=tmp_path / "data",
            database_url=database_url,
            master_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        ),
        limits=LimitsSettings(disk_free_mib_min=0),
        carriers={EAST: CarrierSettings(name=EAST)},
    )


async def fill(stores: Stores) -> list[Holding]:
    """A shop with two tills (subaccounts), and a stranger; each with one thing of every kind, its powerpack paused."""
    catalog = stores.catalog
    shop = await catalog.create_account("shop", now_ms=NOW_MS)
    tills = [await catalog.create_account("till", now_ms=NOW_MS, main_id=shop.account_id) for _ in range(2)]
    stranger = await catalog.create_account("stranger", now_ms=NOW_MS)
    holdings = [Holding(account, place) for place, account in enumerate((shop, *tills, stranger), 1)]
    for each in holdings:
        account_id = each.account.account_id
        await catalog.insert_application(ApplicationRow(each.app_id, account_id, "app"))
        await catalog.insert_powerpack(
            PowerpackRow(each.powerpack_uuid, account_id, each.pool_uuid, "pack", created_ms=NOW_MS, pause=Pause.WAIT)
        )
        await catalog.insert_numbers(
            [
                NumberRow(number, account_id, number_type, "US", EAST, powerpack_id=each.powerpack_uuid, verified=True)
                for number_type, number in each.numbers.items()
            ]
        )
    return holdings


class Door:
    """Asks the gateway as somebody."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url, self._session = base_url, session

    async def ask(
        self, holding: Holding, method: str, path: str, body: bytes | None = None, media_type: str = "application/json"
    ) -> tuple[int, bytes]:
        account = holding.account
        headers = {"Content-Type": media_type, "Authorization": basic(account.account_id, account.token)}
        url = URL(self._base_url + path, encoded=True)
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def send(self, holding: Holding) -> None:
        """Have one message wait, alone and in a bulk."""
        path = f"/v1/Account/{holding.account.account_id}/Message/"
        line = orjson.dumps({"powerpack_uuid": holding.powerpack_uuid, "dst": "+14155550177", "text": "x"})
        status, answered = await self.ask(holding, "POST", path, line)
        assert status == 202, answered
        holding.message_uuid = orjson.loads(answered)["message_uuid"][0]
        status, answered = await self.ask(holding, "POST", f"{path}Bulk/", line + b"\n", "application/x-ndjson")
        assert status < 300, answered
        holding.bulk_id = orjson.loads(answered)["bulk_id"]


class World(NamedTuple):
    door: Door
    holdings: list[Holding]
    routes: list[Route]


@asynccontextmanager
async def world(settings: Settings) -> AsyncIterator[World]:
    async with open_stores(settings.storage) as stores:
        holdings = await fill(stores)
    async with started(settings) as life, aiohttp.ClientSession() as session:
        door = Door(life.base_url, session)
        for each in holdings:
            await door.send(each)
        assert life.gateway._parts is not None
        yield World(door, holdings, list(life.gateway._parts.front._router.routes))


async def had_by(database_url: str, account_ids: Sequence[str]) -> dict[str, list[object]]:
    """Everything that is stored of accounts, but their sticky threads, which are written when there is time."""
    tables = (
        "accounts", "applications", "powerpacks", "numbers", "messages", "facts", "outcomes", "callbacks",
    )  # fmt: skip
    found = {}
    connection = await asyncpg.connect(database_url)
    try:
        for table in tables:
            rows = await connection.fetch(f"SELECT * FROM {table} WHERE account_id = ANY ($1)", account_ids)
            found[table] = sorted(str(dict(row)) for row in rows)
    finally:
        await connection.close()
    return found  # type: ignore[return-value]


PAIRS = ((3, 0), (3, 1), (0, 3), (1, 0), (1, 2))
"""Who asks, and whose things: stranger and shop, stranger and till, shop and stranger, till and shop, till and till.
What a shop sees of its tills is no secret: test_subaccounts.py."""


# --- The laws ---------------------------------------------------------------------------------------------------------


async def test_every_route_has_a_policy_and_is_an_accounts_or_known(settings: Settings) -> None:
    async with world(settings) as (_, _, routes):
        assert len(routes) > 40
        for route in routes:
            if route.path.startswith("/v1/Account/"):
                assert route.path.startswith(PREFIX), route
                assert route.access is Access.ACCOUNT, route
            else:
                assert route.path in AROUND, route


async def test_what_is_anothers_is_as_absent_as_what_is_nobodys_and_stays_as_it_is(
    settings: Settings, database_url: str
) -> None:
    async with world(settings) as (door, holdings, routes):
        await asyncio.sleep(0.5)  # until nothing moves by itself
        for asking, asked in PAIRS:
            attacker, victim = holdings[asking], holdings[asked]
            others = [each.account.account_id for each in holdings if each is not attacker]
            before = await had_by(database_url, others)
            for route in routes:
                if route.access is Access.ACCOUNT:
                    await check(door, route, attacker, victim)
            after = await had_by(database_url, others)
            for table, rows in before.items():
                assert after[table] == rows, (table, attacker.account.account_id, victim.account.account_id)


async def check(door: Door, route: Route, attacker: Holding, victim: Holding) -> None:
    media_type = "application/x-ndjson" if route.path.endswith("/Bulk/") else "application/json"
    body = orjson.dumps(references(attacker)) if route.method in ("POST", "PUT") else None
    for foreign, absent, replaced in requests_for(route, attacker, victim):
        if not replaced:
            continue
        got = await door.ask(attacker, route.method, foreign, body, media_type)
        nothing = await door.ask(attacker, route.method, absent, body, media_type)
        for name, other in replaced.items():
            got = got[0], got[1].replace(name.encode(), other.encode())
        assert got[0] == nothing[0], (route, foreign, got, nothing)
        assert normalised(got[1]) == normalised(nothing[1]), (route, foreign, got, nothing)
        assert got[0] in (404, 400), (route, got)


async def test_no_body_and_no_query_reaches_what_is_anothers(settings: Settings, database_url: str) -> None:
    async with world(settings) as (door, holdings, routes):
        await asyncio.sleep(0.5)
        for asking, asked in PAIRS:
            attacker, victim = holdings[asking], holdings[asked]
            others = [each.account.account_id for each in holdings if each is not attacker]
            before = await had_by(database_url, others)
            for route in routes:
                if route.access is Access.ACCOUNT and route.path.count("{") == 1:
                    await check_references(door, route, attacker, victim)
            assert await had_by(database_url, others) == before


async def check_references(door: Door, route: Route, attacker: Holding, victim: Holding) -> None:
    """Name each thing alone, since the first wrong one hides the others."""
    media_type = "application/x-ndjson" if route.path.endswith("/Bulk/") else "application/json"
    path = route.path.replace("{auth_id}", attacker.account.account_id)
    foreign, absent, own = (references(each) for each in (victim, NOBODY, attacker))
    for key in own:
        if key in ("dst", "text"):
            continue
        answers = []
        for value in (foreign[key], absent[key]):
            values = {"dst": own["dst"], "text": own["text"], key: value}
            query = f"?{key}={str(value).replace('+', '%2B')}"
            if route.method in ("POST", "PUT"):
                body = {**values, "name": secrets.token_hex(8), "app_name": secrets.token_hex(8)}
                answers.append(await door.ask(attacker, route.method, path, orjson.dumps(body), media_type))
            else:
                answers.append(await door.ask(attacker, route.method, path + query))
        (status, answered), (absent_status, absent_answered) = answers
        assert status == absent_status, (route, key, answers)
        if status >= 400:
            swapped = answered.replace(str(foreign[key]).encode(), str(absent[key]).encode())
            assert normalised(swapped) == normalised(absent_answered), (route, key, answers)
        for told in (victim.message_uuid, victim.pool_uuid, victim.account.token):
            if told not in str(foreign[key]):
                assert told.encode() not in answered, (route, key, answered)


async def test_another_accounts_path_is_as_absent_as_nobodys(settings: Settings) -> None:
    async with world(settings) as (door, holdings, routes):
        for asking, asked in (*PAIRS, (0, 1)):
            attacker, victim = holdings[asking], holdings[asked]
            for route in routes:
                if route.access is not Access.ACCOUNT:
                    continue
                answers = []
                for account_id in (victim.account.account_id, NOBODY.account.account_id):
                    path = re.sub(r"\{\w+\}", "x", route.path.replace("{auth_id}", account_id))
                    status, answered = await door.ask(attacker, route.method, path)
                    answers.append((status, normalised(answered)))
                assert answers[0] == answers[1] == (404, [{"error": "not found", "code": "not_found"}]), route


def test_a_new_kind_of_parameter_is_not_overlooked() -> None:
    async def nothing(_: object) -> Any:
        raise AssertionError("nobody calls it")

    route = Route("GET", PREFIX + "Secret/{secret_id}/", Access.ACCOUNT, nothing)
    with pytest.raises(KeyError, match="secret_id"):
        list(requests_for(route, NOBODY, NOBODY))
