"""Around the API: alive, ready, counted; and metrics for this machine only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson
import pytest
from aiohttp import web
from multidict import CIMultiDict

from gateway.api.around import Around, Readiness, is_of_this_machine
from gateway.api.call import Call, Reply
from gateway.api.errors import ApiError
from gateway.api.router import Access


class Asked:
    """A request as far as these routes look at it."""

    def __init__(self, remote: str | None = "127.0.0.1", headers: Mapping[str, str] | None = None) -> None:
        self.remote = remote
        self.headers = CIMultiDict(headers or {})


def asked(remote: str | None = "127.0.0.1", headers: Mapping[str, str] | None = None) -> web.BaseRequest:
    return cast("web.BaseRequest", Asked(remote, headers))


NOT_READY = Readiness(accepting=False, sending=False)


def around(readiness: Readiness = NOT_READY, *, open_metrics: bool = False) -> Around:
    return Around(lambda: readiness, lambda: b"gateway_things 1\n", open_metrics=open_metrics)


async def answer(part: Around, path: str, request: web.BaseRequest | None = None) -> Reply:
    (route,) = [each for each in part.routes() if each.path == path]
    reply = await route.handler(Call(request or asked(), "an-id"))
    assert isinstance(reply, Reply)
    return reply


def body_of(reply: Reply) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(reply.payload)
    return body


def test_nobody_needs_credentials() -> None:
    assert {route.path: (route.method, route.access) for route in around().routes()} == {
        "/healthz": ("GET", Access.OPEN),
        "/readyz": ("GET", Access.OPEN),
        "/metrics": ("GET", Access.OPEN),
    }


async def test_a_process_that_answers_is_alive_whether_it_is_ready_or_not() -> None:
    reply = await answer(around(NOT_READY), "/healthz")
    assert reply.status == 200
    assert body_of(reply)["alive"] is True


@pytest.mark.parametrize(
    ("accepting", "sending", "status"), [(False, False, 503), (True, False, 200), (True, True, 200), (False, True, 503)]
)
async def test_readiness_is_two_flags_and_whoever_accepts_is_ready(accepting: bool, sending: bool, status: int) -> None:
    reply = await answer(around(Readiness(accepting, sending)), "/readyz")
    assert reply.status == status
    assert body_of(reply) == {"api_id": "an-id", "accepting": accepting, "sending": sending}


async def test_readiness_is_that_of_the_moment() -> None:
    moments = iter([NOT_READY, Readiness(accepting=True, sending=False)])
    part = Around(lambda: next(moments), bytes, open_metrics=False)
    assert (await answer(part, "/readyz")).status == 503
    assert (await answer(part, "/readyz")).status == 200


async def test_metrics_are_served_to_this_machine() -> None:
    reply = await answer(around(), "/metrics")
    assert reply.payload == b"gateway_things 1\n"


async def test_metrics_are_not_there_for_others() -> None:
    with pytest.raises(ApiError) as raised:
        await answer(around(), "/metrics", asked("192.0.2.7"))
    assert raised.value.status == 404


async def test_metrics_are_there_for_all_if_the_settings_say_so() -> None:
    assert (await answer(around(open_metrics=True), "/metrics", asked("192.0.2.7"))).status == 200


@pytest.mark.parametrize(
    ("remote", "headers", "is_local"),
    [
        ("127.0.0.1", {}, True),
        ("127.8.8.8", {}, True),
        ("::1", {}, True),
        ("::ffff:127.0.0.1", {}, True),
        ("192.0.2.7", {}, False),
        ("10.0.0.1", {}, False),
        ("::ffff:10.0.0.1", {}, False),
        ("0.0.0.0", {}, False),
        ("", {}, False),
        (None, {}, False),
        ("unix:", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, False),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, False),
        ("127.0.0.1", {"x-real-ip": "1.2.3.4"}, False),
    ],
)
def test_of_this_machine_is_who_comes_from_it_and_through_no_proxy(
    remote: str | None, headers: dict[str, str], is_local: bool
) -> None:
    assert is_of_this_machine(asked(remote, headers)) is is_local
