"""Whatever body comes to a route that takes one, the answer is a 2xx or a 4xx in JSON, and the next one is served."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.api.router import Route
from tests.fakes.accept_floor import POOL, POWERPACK
from tests.fakes.api_client import ACCOUNT, basic
from tests.fakes.api_floor import ApiFloor
from tests.fuzz.requests import KEYS, NUMBERS, SCALARS, TEXTS, URLS

PARAMETERS = {
    "{auth_id}": ACCOUNT, "{powerpack_uuid}": POWERPACK, "{pool_uuid}": POOL, "{number}": "14155550100",
    "{message_uuid}": "0193a1b2-0000-7000-8000-00000000000c",
}  # fmt: skip


async def routes_with_bodies() -> list[Route]:
    return [route for route in ApiFloor().routes if route.method in ("POST", "DELETE")]


ROUTES = asyncio.run(routes_with_bodies())

odd_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([POWERPACK, *NUMBERS, *TEXTS[:12], *URLS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
objects = st.dictionaries(st.sampled_from(KEYS), odd_json, max_size=8).map(lambda value: {**GOOD, **value})
GOOD: dict[str, Any] = {"powerpack_uuid": POWERPACK, "dst": "+14155550199", "text": "Hello"}


def written(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, half a surrogate pair
        return repr(value).encode("utf-8", "surrogatepass")


bodies = (
    st.binary(max_size=100)
    | st.sampled_from([each.encode("utf-8", "surrogatepass") for each in SCALARS])
    | (objects | odd_json).map(written)
)


@pytest.mark.parametrize("route", ROUTES, ids=[f"{route.method} {route.path}" for route in ROUTES])
@given(st.lists(bodies, min_size=20, max_size=20))
@example([b'{"name":"a subaccount","number":"+14155550101"}'])
@example([b"", b'""', b"{}", b"[]", b"null", b"\0", b"{", b"\xff", b'{"dst":1e999}', b"[" * 100_000])
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_body_is_answered(route: Route, bodies: list[bytes]) -> None:
    asyncio.run(send_all(route, bodies))


async def send_all(route: Route, bodies: list[bytes]) -> None:
    """Send all of them, one after another, to a gateway of their own."""
    floor = ApiFloor()
    path = route.path
    for name, value in PARAMETERS.items():
        path = path.replace(name, value)
    path = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
    async with floor.serving() as api:
        for body in bodies:
            got = await api.send(route.method, path, raw=body, authorization=basic())
            assert got.status < 500, (body, got)
            assert got.status < 300 or got.body["code"], (body, got)
        assert floor.front.in_progress == 0
        assert (await api.get("")).status == 200
