"""The table of routes: every one asks for credentials, hides other accounts, and survives whatever is sent to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.api.router import Access, Route
from gateway.api.routes import LATER
from tests.fakes.accept_floor import FIRST, POOL, POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, TOKEN, Client, basic
from tests.fakes.api_floor import ApiFloor

NAMES = {
    "auth_id": ACCOUNT,
    "message_uuid": "019b76da-a800-7000-8000-000000000001",
    "powerpack_uuid": POWERPACK,
    "pool_uuid": POOL,
    "number": FIRST,
    "recipient": "+12125550123",
    "bulk_id": "1",
    "media_id": "1",
    "app_id": "1",
    "subauth_id": "SA00000000000000000A",
}
JUNK = (
    b"", b'""', b"{}", b"[]", b"null", b"{", b"\xff\xfe", b"\0", b'{"a":NaN}', b'{"name":"\\ud800"}',
    b'{"name":"\\u0000"}', b'{"a":' + b"[" * 5_000, b'{"name":1e999}', b'{"limit":' + b"9" * 400 + b"}",
    b'{"name":{"name":{}}}',
    b'{"dst":[],"text":{},"powerpack_uuid":5,"service":[],"unrent":[],"rent":{},"number_priority":{"a":1},"messages":7}',
)  # fmt: skip


def path_of(route: Route, account_id: str = ACCOUNT) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: {**NAMES, "auth_id": account_id}[name[1]], route.path)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[ApiFloor, Client]]:
    floor = ApiFloor()
    async with floor.serving() as client:
        yield floor, client


async def test_every_route_asks_for_credentials() -> None:
    async with served() as (floor, api):
        for route in floor.routes:
            assert route.access is Access.ACCOUNT
            got = await api.send(route.method, path_of(route), {}, authorization="")
            assert (got.status, got.body["code"]) == (401, "unauthenticated"), route


async def test_no_route_shows_one_account_to_another() -> None:
    async with served() as (floor, api):
        for route in floor.routes:
            foreign = await api.send(route.method, path_of(route), {}, authorization=basic(OTHER_ACCOUNT))
            absent = await api.send(route.method, path_of(route, "MA99999999999999999Z"), {})
            for got in (foreign, absent):
                assert (got.status, got.body["error"], got.body["code"]) == (404, "not found", "not_found"), route
        assert floor.journal.appended == 0
        assert floor.catalog.edits == []


async def test_no_junk_is_ever_a_trouble_of_ours() -> None:
    async with served() as (floor, api):
        for route in floor.routes:
            for junk in JUNK:
                got = await api.send(route.method, path_of(route), raw=junk)
                assert got.status < 500, (route, junk, got)


async def test_no_junk_in_a_query_or_a_path_is_ever_a_trouble_of_ours() -> None:
    junk = ("?limit=x&offset=%00", "?offset=99999999999999999999", "?&?search=hack", "?%FF=%FF", "?limit=" + "9" * 400)
    parts = ("%00", "%FF", "..", "%2e%2e%2f", "%27%3B--", "a" * 300, "%F0%9F%98%80", "ü")
    async with served() as (floor, api):
        for route in floor.routes:
            if route.method != "GET":
                continue
            for query in junk:
                assert (await api.get(path_of(route) + query)).status < 500, (route, query)
            for part in parts:
                path = re.sub(r"\{(?!auth_id)\w+\}", part, route.path).replace("{auth_id}", ACCOUNT)
                assert (await api.get(path)).status < 500, path


@pytest.mark.parametrize(("method", "path", "what"), LATER)
async def test_what_is_not_built_yet_says_so(method: str, path: str, what: str) -> None:
    async with served() as (_, api):
        got = await api.send(method, path_of(Route(method, path, Access.ACCOUNT, api.get)), {})  # type: ignore[arg-type]
    assert (got.status, got.body["code"]) == (400, "not_supported_yet")
    assert what in got.body["error"]


async def test_the_account_is_shown_as_plivo_shows_it() -> None:
    async with served() as (_, api):
        got = await api.get("")
    assert got.status == 200
    assert (got.body["auth_id"], got.body["name"], got.body["account_type"]) == (ACCOUNT, "test", "standard")
    assert got.body["resource_uri"] == f"/v1/Account/{ACCOUNT}/"
    assert got.body["cash_credits"] == "0.00000"
    assert TOKEN not in str(got)
