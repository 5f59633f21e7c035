"""The door: bound before anything else, honest while the gateway starts, closed without cutting anybody off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple, cast

import aiohttp
import pytest
from aiohttp import web

from gateway.api.around import Around, Readiness
from gateway.api.call import Call
from gateway.api.middleware import Front
from gateway.api.router import Access, Route, Router
from gateway.clock import SystemClock, SystemIds
from gateway.door import CannotListen, Door, address_of, bind
from gateway.settings import LimitsSettings, ServerSettings

SERVER = ServerSettings(port=0)
LIMITS = LimitsSettings()


class World(NamedTuple):
    """A door that listens, and what passes through it once it is open."""

    door: Door
    front: Front
    url: str
    client: aiohttp.ClientSession
    begun: asyncio.Event
    finish: asyncio.Event


@asynccontextmanager
async def listening(drain_requests_ms_max: int = 5_000) -> AsyncIterator[World]:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> web.StreamResponse:
        begun.set()
        await finish.wait()
        return call.json({"slow": True}, 202)

    clock, ids = SystemClock(), SystemIds()
    around = Around(lambda: Readiness(False, False), bytes, open_metrics=False)
    server = replace(SERVER, drain_requests_ms_max=drain_requests_ms_max)
    door = Door(server, LIMITS, around=around, clock=clock, ids=ids)
    routes = [Route("GET", "/slow", Access.OPEN, slow), *around.routes()]
    front = Front(Router(routes), {}, clock=clock, ids=ids, server=SERVER, limits=LIMITS)
    bound = bind(SERVER)
    url = address_of(bound)
    async with door.listening(bound), aiohttp.ClientSession() as client:
        yield World(door, front, url, client, begun, finish)


async def answer_of(world: World, path: str, method: str = "GET", **more: object) -> tuple[int, dict[str, object]]:
    async with world.client.request(method, world.url + path, **more) as answer:  # type: ignore[arg-type]
        body: dict[str, object] = await answer.json()
        return answer.status, body


async def test_while_the_gateway_starts_it_is_alive_and_not_ready() -> None:
    async with listening() as world:
        assert (await answer_of(world, "/healthz"))[0] == 200
        status, body = await answer_of(world, "/readyz")
        assert (status, body["accepting"], body["sending"]) == (503, False, False)


async def test_while_the_gateway_starts_everything_else_is_to_be_tried_again() -> None:
    async with listening() as world, world.client.post(world.url + "/v1/Account/MA/Message/", json={"a": 1}) as answer:
        body = await answer.json()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert body["code"] == "storage_unavailable"
        assert "starting" in body["error"]


async def test_once_it_is_open_everything_passes() -> None:
    async with listening() as world, world.door.opened(world.front):
        world.finish.set()
        assert (await answer_of(world, "/slow"))[0] == 202
        assert (await answer_of(world, "/nothing"))[0] == 404


async def test_closing_lets_a_request_in_progress_end_and_takes_no_other() -> None:
    async with listening() as world:
        async with world.door.opened(world.front):
            asked = asyncio.create_task(answer_of(world, "/slow"))
            await asyncio.wait_for(world.begun.wait(), 5)
            closing = asyncio.create_task(world.door.close())
            await asyncio.sleep(0)
        assert not asked.done()
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as other, other.get(world.url + "/healthz"):
                pass
        world.finish.set()
        assert (await asyncio.wait_for(asked, 5))[0] == 202
        await asyncio.wait_for(closing, 5)


async def test_a_request_that_does_not_end_is_cut_after_its_time() -> None:
    async with listening(drain_requests_ms_max=100) as world, world.door.opened(world.front):
        asked = asyncio.create_task(answer_of(world, "/slow"))
        await asyncio.wait_for(world.begun.wait(), 5)
        await asyncio.wait_for(world.door.close(), 3)
        with pytest.raises(aiohttp.ClientError):
            await asked


async def test_idle_connections_hold_nobody_up() -> None:
    async with listening() as world, world.door.opened(world.front):
        assert (await answer_of(world, "/healthz"))[0] == 200  # its connection is kept by the client
        await asyncio.wait_for(world.door.close(), 1)


def test_a_port_in_use_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as raised:
            bind(ServerSettings(port=port))
    assert str(raised.value) == f"cannot listen on 127.0.0.1 port {port}: Address already in use"


def test_an_address_of_another_machine_is_said_in_one_line() -> None:
    with pytest.raises(CannotListen, match=r"^cannot listen on 192\.0\.2\.7 port 0: "):
        bind(ServerSettings(host="192.0.2.7", port=0))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_its_address_reaches_it_from_this_machine(host: str) -> None:
    with bind(ServerSettings(host=host, port=0)) as bound:
        assert address_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("host", ["::1", "::"])
def test_so_it_does_by_the_other_protocol(host: str) -> None:
    class Bound:
        """A socket as far as its name is asked for; not every machine has IPv6."""

        def getsockname(self) -> tuple[str, int, int, int]:
            return host, 8080, 0, 0

    assert address_of(cast("socket.socket", Bound())) == "http://[::1]:8080"
