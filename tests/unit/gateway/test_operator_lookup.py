"""The look-up over HTTP: in time or not at all, once for all who wait, remembered within bounds, resting at need."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from gateway.clock import SystemClock
from gateway.fields import BadSetting
from gateway.operator_lookup import FAILURES_MAX, OperatorLookup
from gateway.settings import OperatorLookupSettings
from resolver.model import E164
from tests.fakes.accept_floor import Tally

ADA, BEN = E164("+14155550123"), E164("+12125550123")
SETTINGS = OperatorLookupSettings(
    url="http://127.0.0.1:9/v1/{number}?type=carrier", authorization="Bearer key", operator="carrier.name",
    wait_ms_max=2_000, cache_max=2,
)  # fmt: skip


class Service:
    """Who knows: answers by number, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.status, self.delay_s = 200, 0.0
        self.body: object = {"carrier": {"name": "Verizon"}}

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer key"
        assert request.query_string == "type=carrier"
        self.asked[request.match_info["number"]] += 1
        await asyncio.sleep(self.delay_s)
        if isinstance(self.body, bytes):
            return web.Response(body=self.body, status=self.status)
        return web.json_response(self.body, status=self.status)


@asynccontextmanager
async def looking_up(
    service: Service, settings: OperatorLookupSettings = SETTINGS
) -> AsyncIterator[tuple[OperatorLookup, Tally]]:
    app = web.Application()
    app.router.add_get("/v1/{number}", service.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    counts = Tally()
    settings = replace(settings, url=settings.url.replace(":9/", f":{port}/"))
    lookup = OperatorLookup(settings, clock=SystemClock(), counts=counts)
    running = asyncio.create_task(lookup.run())
    await asyncio.sleep(0.01)
    try:
        yield lookup, counts
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await runner.cleanup()


async def test_what_was_answered_is_known_and_not_asked_again() -> None:
    service = Service()
    async with looking_up(service) as (lookup, counts):
        assert await lookup.learn([ADA, ADA]) == {ADA: "Verizon"}
        assert await lookup.learn([ADA]) == {ADA: "Verizon"}
    assert service.asked == {"14155550123": 1}
    assert counts.counts == {("found",): 1, ("cached",): 1}


async def test_many_who_wait_for_one_number_ask_once() -> None:
    service = Service()
    service.delay_s = 0.05
    async with looking_up(service) as (lookup, _):
        assert await asyncio.gather(*[lookup.learn([ADA]) for _ in range(20)]) == [{ADA: "Verizon"}] * 20
    assert service.asked == {"14155550123": 1}


@pytest.mark.parametrize(
    ("status", "body", "kept"),
    [
        (404, {}, True),  # nobody knows the number
        (200, {"carrier": {}}, True),
        (200, {"carrier": None}, True),
        (500, {"carrier": {"name": "Verizon"}}, False),
        (302, {"carrier": {"name": "Verizon"}}, False),
        (200, b"no json", False),
        (200, {"carrier": {"name": 7}}, False),
        (200, {"carrier": {"name": "x" * 65}}, False),
        (200, {"carrier": {"name": "a\nb"}}, False),
        (200, b'{"carrier": {"name": "Verizon"}, "more": "' + b"x" * 100_000 + b'"}', False),
    ],
)
async def test_an_answer_without_a_name_is_no_operator(status: int, body: object, kept: bool) -> None:
    service = Service()
    service.status, service.body = status, body
    async with looking_up(service) as (lookup, counts):
        assert await lookup.learn([ADA]) == {ADA: ""}
        assert await lookup.learn([ADA]) == {ADA: ""}
    assert service.asked["14155550123"] == (1 if kept else 2)
    assert counts.counts["unknown" if kept else "failed",] == (1 if kept else 2)


async def test_who_is_answered_too_late_waits_no_longer_and_the_next_one_has_it() -> None:
    service = Service()
    service.delay_s = 0.2
    async with looking_up(service, replace(SETTINGS, wait_ms_max=20)) as (lookup, counts):
        assert await lookup.learn([ADA]) == {}
        assert counts.counts == {("late",): 1}
        await asyncio.sleep(0.4)
        assert await lookup.learn([ADA]) == {ADA: "Verizon"}


async def test_while_it_fails_again_and_again_nobody_asks_nor_waits() -> None:
    service = Service()
    service.status = 503
    async with looking_up(service) as (lookup, counts):
        for line in range(FAILURES_MAX):
            await lookup.learn([E164(f"+1415556{line:04d}")])
        assert await lookup.learn([ADA]) == {}
    assert service.asked.total() == FAILURES_MAX
    assert counts.counts["not_asked",] == 1


async def test_the_oldest_answers_make_room() -> None:
    service = Service()
    async with looking_up(service) as (lookup, _):
        for line in (1, 2, 3):
            await lookup.learn([E164(f"+1415556000{line}")])
        await lookup.learn([E164("+14155560003"), E164("+14155560001")])
    assert service.asked == {"14155560001": 2, "14155560002": 1, "14155560003": 1}


async def test_before_it_runs_nothing_is_known() -> None:
    lookup = OperatorLookup(SETTINGS, clock=SystemClock(), counts=Tally())
    assert await lookup.learn([ADA, BEN]) == {}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("url", "http://127.0.0.1/v1/", "must have {number}"),
        ("url", "http://{number}.example/", "must have {number}"),
        ("url", "ftp://a/{number}", "must be http"),
        ("url", "http://user:word@a/{number}", "without credentials"),
        ("url", "http://a/ {number}", "must be http"),
        ("operator", "", "must say where"),
        ("operator", "a..b", "is no path"),
    ],
)
def test_bad_settings_are_said_at_the_start(field: str, value: str, said: str) -> None:
    with pytest.raises(BadSetting, match=said.replace("{", "\\{")):
        OperatorLookup(replace(SETTINGS, **{field: value}), clock=SystemClock(), counts=Tally())  # type: ignore[arg-type]
