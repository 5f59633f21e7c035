"""The API's one door, over a real socket: credentials, bounds, bodies, and JSON whatever goes wrong."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.api.call import Call, Handler
from gateway.api.crowd import connections_max
from gateway.api.errors import ApiError, api_error
from gateway.api.middleware import Front, FrontCounts, RequestRates
from gateway.api.router import Access, Route, Router
from gateway.clock import SystemClock, SystemIds
from gateway.settings import LimitsSettings, ServerSettings
from storage.catalog import AccountRow
from storage.records import EpochLost, JournalFull, JournalUnavailable, OutcomeUnknown, StorageError
from storage.sealing import token_hash
from tests.fakes.accept_floor import Tally
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, TOKEN, Client, basic, serving
from tests.fakes.clock import HandClock

PATH = "/v1/Account/{auth_id}/"
ACCOUNTS = {account: AccountRow(account, "n", token_hash(TOKEN), TOKEN) for account in (ACCOUNT, OTHER_ACCOUNT)}
SMALL = ServerSettings(requests_max=4, body_bytes_max=1_000, body_ms_max=200, head_ms_max=100)


async def echo(call: Call) -> web.StreamResponse:
    return call.json({"account": call.account_id, "body": call.body.decode(), "query": call.query()})


def front(handler: Handler = echo, *, server: ServerSettings = SMALL, limits: LimitsSettings | None = None) -> Front:
    routes = [Route(method, PATH, Access.ACCOUNT, handler) for method in ("GET", "POST", "DELETE")]
    routes += [Route("POST", "/open", Access.OPEN, handler)]
    return Front(
        Router(routes), ACCOUNTS, clock=SystemClock(), ids=SystemIds(), server=server, limits=limits or LimitsSettings()
    )


@asynccontextmanager
async def client(
    handler: Handler = echo, *, server: ServerSettings = SMALL, limits: LimitsSettings | None = None
) -> AsyncIterator[Client]:
    async with serving(front(handler, server=server, limits=limits), server) as made:
        yield made


def raising(error: Exception) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        raise error

    return handler


# --- Credentials ------------------------------------------------------------------------------------------------------


async def test_the_account_is_let_in_and_its_request_reaches_the_handler() -> None:
    async with client() as api:
        got = await api.post("?a=1&a=2&%FF=x&?b=c", {"x": 1})
    assert got.status == 200
    assert got.body["account"] == ACCOUNT
    assert got.body["body"] == '{"x":1}'
    assert got.body["query"] == {"a": "2", "\ufffd": "x", "?b": "c"}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic ####",
        "Basic " + "A" * 5_000,
        "Bearer " + TOKEN,
        basic(token="wrong"),
        basic(token=""),
        basic(user="MA99999999999999999Z"),
        basic(user=""),
        basic(user="MÄ"),
        basic(token=TOKEN + "\0"),
    ],
)
async def test_everybody_else_gets_the_same_401(authorization: str) -> None:
    async with client() as api:
        got = await api.get("", authorization=authorization)
    assert (got.status, got.body["code"]) == (401, "unauthenticated")
    assert got.body["error"] == "authentication credentials were not provided"
    assert got.headers["WWW-Authenticate"] == 'Basic realm="Sendpool"'


async def test_the_scheme_may_be_written_in_any_case() -> None:
    async with client() as api:
        assert (await api.get("", authorization=basic().replace("Basic", "bAsIc"))).status == 200


async def test_an_account_that_was_shut_out_is_refused_from_the_next_request_on() -> None:
    accounts = dict(ACCOUNTS)
    made = Front(
        Router([Route("GET", PATH, Access.ACCOUNT, echo)]), accounts,
        clock=SystemClock(), ids=SystemIds(), server=SMALL, limits=LimitsSettings(),
    )  # fmt: skip
    async with serving(made) as api:
        assert (await api.get("")).status == 200
        accounts[ACCOUNT] = replace(accounts[ACCOUNT], enabled=False)
        assert (await api.get("")).status == 401


async def test_a_token_that_was_changed_is_refused_from_the_next_request_on() -> None:
    accounts = dict(ACCOUNTS)
    made = Front(
        Router([Route("GET", PATH, Access.ACCOUNT, echo)]), accounts,
        clock=SystemClock(), ids=SystemIds(), server=SMALL, limits=LimitsSettings(),
    )  # fmt: skip
    async with serving(made) as api:
        assert (await api.get("")).status == 200
        accounts[ACCOUNT] = replace(accounts[ACCOUNT], token_sha256=token_hash("another"), token="another")
        assert (await api.get("")).status == 401
        assert (await api.get("", authorization=basic(token="another"))).status == 200
        del accounts[ACCOUNT]
        assert (await api.get("", authorization=basic(token="another"))).status == 401


async def test_two_thousand_wrong_tokens_hear_the_same_later_and_later_and_the_right_one_gets_in_at_once() -> None:
    clock = HandClock()
    made = Front(
        Router([Route("GET", PATH, Access.ACCOUNT, echo)]), ACCOUNTS,
        clock=clock, ids=SystemIds(), server=SMALL, limits=LimitsSettings(),
    )  # fmt: skip
    bodies = set()
    async with serving(made) as api:
        for place in range(2_000):
            user = (ACCOUNT, "MA99999999999999999Z")[place % 2]
            got = await api.get("", authorization=basic(user, f"guess {place}"))
            bodies.add((got.status, got.body["code"], got.body["error"], got.headers["WWW-Authenticate"]))
            if place % 100 == 0:
                before_ms = clock.now
                assert (await api.get("")).status == 200
                assert clock.now == before_ms, "who knows the token never waits"
        begun_ms = clock.now
        await api.get("", authorization="")
        assert clock.now == begun_ms, "who sends no token guesses nothing"
    assert len(bodies) == 1
    assert clock.now > 1_900 * 2_000


async def test_another_accounts_path_is_as_absent_as_no_path() -> None:
    async with client() as api:
        foreign = await api.get(f"/v1/Account/{OTHER_ACCOUNT}/")
        absent = await api.get("/v1/Account/MA99999999999999999Z/")
        unknown = await api.get("/v1/Nothing/")
    for got in (foreign, absent, unknown):
        assert (got.status, got.body["error"], got.body["code"]) == (404, "not found", "not_found")


async def test_an_open_route_asks_for_no_credentials() -> None:
    async with client() as api:
        assert (await api.post("/open", {}, authorization="")).status == 200


# --- Routes and heads -------------------------------------------------------------------------------------------------


async def test_double_and_missing_slashes_are_answered_without_a_redirect() -> None:
    async with client() as api:
        for path in (f"/v1/Account/{ACCOUNT}//", f"/v1/Account/{ACCOUNT}", f"//v1/Account/{ACCOUNT}/"):
            assert (await api.post(path, {"x": 1})).status == 200


async def test_a_method_that_a_route_has_not_is_405() -> None:
    async with client() as api:
        got = await api.send("PUT", "")
    assert (got.status, got.body["code"], got.headers["Allow"]) == (405, "method_not_allowed", "DELETE, GET, POST")


async def test_head_is_get_without_its_body() -> None:
    async with client() as api:
        got = await api.send("HEAD", "")
        assert (await api.get("")).status == 200  # the connection is still in step
    assert got.status == 200
    assert int(got.headers["Content-Length"]) > 50


async def test_the_absolute_form_of_a_proxy_request_is_understood() -> None:
    async with client() as api:
        head = f"GET http://api.plivo.com/v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: api.plivo.com\r\n"
        answer = await api.raw(f"{head}Authorization: {basic()}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_client_of_http_1_0_gets_what_it_understands() -> None:
    async with client() as api:
        head = f"GET /v1/Account/{ACCOUNT}/ HTTP/1.0\r\nAuthorization: {basic()}\r\n"
        answer = await api.raw(f"{head}\r\n".encode())
        kept = await api.raw(f"{head}Connection: keep-alive\r\n\r\n{head}\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert kept.count(b"HTTP/1.0 200 OK\r\n") == 2
    assert b"Connection: keep-alive" in kept


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"BREW\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_answered_in_json_and_closed(request_bytes: bytes) -> None:
    async with client() as api:
        answer = await api.raw(request_bytes)
    assert answer.startswith((b"HTTP/1.1 400 Bad Request\r\n", b"HTTP/1.0 400 Bad Request\r\n"))
    assert b'"code":"bad_request"' in answer
    assert b"Server:" not in answer


# --- Bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_may_come_in_pieces_and_chunks_and_after_a_hundred_continue() -> None:
    async with client() as api:
        head = f"POST /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\nConnection: close\r\n"
        chunked = await api.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode())
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        pieces = await reader.read()
        writer.close()
    for answer in (chunked, pieces):
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'"body":"{}"' in answer


@pytest.mark.parametrize("declares", [True, False])
async def test_a_body_over_the_bound_is_refused_and_the_connection_closed(declares: bool) -> None:
    async with client() as api:
        head = f"POST /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\n"
        if declares:
            answer = await api.first(f"{head}Content-Length: 100000000\r\n\r\n".encode())
        else:
            chunk = f"1f4\r\n{'x' * 500}\r\n"
            answer = await api.first(f"{head}Transfer-Encoding: chunked\r\n\r\n{chunk * 3}".encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer
    assert b'"code":"body_too_large"' in answer


async def test_a_body_over_the_bound_that_came_at_once_is_refused_too() -> None:
    async with client() as api:
        got = await api.post("", raw=b" " * 1_001)
        assert (await api.post("", raw=b" " * 1_000)).status == 200
    assert (got.status, got.body["code"]) == (413, "body_too_large")


async def test_a_body_that_does_not_come_is_not_waited_for_long() -> None:
    async with client() as api:
        head = f"POST /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\n"
        answer = await api.first(f"{head}Content-Length: 10\r\n\r\nhalf".encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer


def weighing(proves: bool | ApiError) -> Front:
    """A route whose callers are known by their head, by their body, or not at all; two strangers may be waited for."""

    def weigh(_: Call) -> bool:
        if isinstance(proves, ApiError):
            raise proves
        return proves

    route = Route("POST", "/carriers/{carrier}", Access.OWN, echo, weigh=weigh)
    return Front(
        Router([route]), {},
        clock=SystemClock(), ids=SystemIds(), server=ServerSettings(requests_max=8), limits=LimitsSettings(),
    )  # fmt: skip


SLOW_WEBHOOK = b"POST /carriers/acme HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"


async def test_who_can_prove_nothing_is_answered_before_the_body_comes() -> None:
    async with serving(weighing(api_error("unauthenticated"))) as api:
        answer = await api.first(SLOW_WEBHOOK)
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_of_strangers_whose_body_does_not_come_the_one_that_waits_longest_gives_way() -> None:
    made = weighing(proves=False)
    async with serving(made) as api:
        slow = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(4)]
        for place, (_, writer) in enumerate(slow, 1):
            writer.write(SLOW_WEBHOOK)
            await until(lambda place=place: made.in_progress == min(place, 2))  # type: ignore[misc]
        for reader, _ in slow[:2]:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Connection: close" in head
        at_once = await api.first(SLOW_WEBHOOK + b"{}")
        for reader, writer in slow[2:]:
            writer.write(b"{}")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for _, writer in slow:
            writer.close()
    assert at_once.startswith(b"HTTP/1.1 200 ")
    assert made.in_progress == 0


async def test_who_has_proven_who_it_is_gives_way_to_nobody() -> None:
    made = weighing(proves=True)
    async with serving(made) as api:
        slow = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(5)]
        for _, writer in slow:
            writer.write(SLOW_WEBHOOK)
        await until(lambda: made.in_progress == 5)
        for reader, writer in slow:
            writer.write(b"{}")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_the_body_of_a_get_is_not_waited_for() -> None:
    route = Route("GET", "/open", Access.OPEN, echo)
    made = Front(
        Router([route]), {}, clock=SystemClock(), ids=SystemIds(), server=SMALL, limits=LimitsSettings()
    )  # fmt: skip
    async with serving(made) as api:
        answer = await api.first(b"GET /open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_client_that_goes_away_in_its_body_is_no_error_of_ours() -> None:
    head = f"POST /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\nContent-Length: 9\r\n\r\n{{"
    async with client() as api:
        with capture_logs() as logs:
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(head.encode())
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await asyncio.sleep(0.05)
            assert (await api.get("")).status == 200
    assert logs == []


async def test_a_body_that_is_not_framed_as_it_says_is_400() -> None:
    async with client() as api:
        head = f"POST /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\n"
        answer = await api.raw(f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\nxx".encode())
    assert b" 400 Bad Request\r\n" in answer
    assert b'"code":"bad_request"' in answer


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Encoding": "gzip"}, "unsupported_encoding"),
        ({"Content-Encoding": "deflate"}, "unsupported_encoding"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, "unsupported_media_type"),
        ({"Content-Type": "Multipart/Form-Data"}, "unsupported_media_type"),
    ],
)
async def test_multipart_and_compressed_bodies_are_415(headers: dict[str, str], code: str) -> None:
    async with client() as api:
        got = await api.post("", raw=b"dst=1&text=2", headers=headers)
    assert (got.status, got.body["code"]) == (415, code)


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "text/plain", "APPLICATION/JSON"])
async def test_other_media_types_are_read_as_json(media_type: str) -> None:
    async with client() as api:
        assert (await api.post("", {}, headers={"Content-Type": media_type})).status == 200


async def test_a_get_with_a_body_is_a_get() -> None:
    async with client() as api:
        got = await api.get("", body='""')
        assert (await api.get("", body='""')).status == 200
    assert got.body["body"] == ""


@pytest.mark.parametrize("query", ["a=%00", "&".join(f"a{place}=1" for place in range(101))])
async def test_a_query_with_a_nul_or_without_end_is_400(query: str) -> None:
    async with client() as api:
        got = await api.get(f"?{query}")
    assert (got.status, got.body["code"]) == (400, "invalid_parameter")


# --- Bounds -----------------------------------------------------------------------------------------------------------


def holding(release: asyncio.Event) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        await release.wait()
        return call.json({})

    return handler


async def test_one_account_gets_half_of_the_places_and_all_together_no_more_than_there_are() -> None:
    release = asyncio.Event()
    other = {"path": f"/v1/Account/{OTHER_ACCOUNT}/", "authorization": basic(OTHER_ACCOUNT)}
    async with client(holding(release)) as api:
        held = [asyncio.create_task(api.get("")) for _ in range(2)]
        await asyncio.sleep(0.05)
        third = await api.get("")
        held += [asyncio.create_task(api.get(**other)) for _ in range(2)]
        await asyncio.sleep(0.05)
        fifth = await api.get(**other)
        release.set()
        assert [got.status for got in await asyncio.gather(*held)] == [200] * 4
        assert (await api.get("")).status == 200
    for got in (third, fifth):
        assert (got.status, got.body["code"], got.headers["Retry-After"]) == (503, "overloaded", "1")


async def test_a_requests_place_is_free_again_whatever_became_of_it() -> None:
    async with client(raising(ValueError("no")), server=replace(SMALL, requests_max=2)) as api:
        assert [(await api.get("")).status for _ in range(3)] == [500] * 3


async def test_with_a_rate_set_the_next_request_is_429_and_says_when() -> None:
    async with client(limits=LimitsSettings(account_requests_per_5_s=2)) as api:
        statuses = [(await api.get("")).status for _ in range(3)]
        got = await api.get("")
        other = await api.get(f"/v1/Account/{OTHER_ACCOUNT}/", authorization=basic(OTHER_ACCOUNT))
    assert statuses == [200, 200, 429]
    assert got.body["code"] == "too_many_requests"
    assert (got.headers["Retry-After"], got.headers["RateLimit-Limit"], got.headers["RateLimit-Remaining"]) == (
        "5",
        "2",
        "0",
    )
    assert other.status == 200


def test_a_rate_is_counted_over_any_five_seconds() -> None:
    clock = HandClock()
    rates = RequestRates(2, clock)

    def refused() -> bool:
        try:
            rates.check(ACCOUNT)
        except Exception:
            return True
        return False

    taken: list[int] = []
    for _ in range(100):
        clock.now += 700
        if not refused():
            taken.append(clock.now)
    spans = [later - earlier for earlier, later in zip(taken, taken[2:], strict=False)]
    assert min(spans) >= 5_000
    assert max(spans) < 5_000 + 2 * 700


async def test_a_slow_head_is_cut_off_and_an_idle_connection_is_not() -> None:
    head = f"GET /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\n\r\n".encode()
    async with client(server=replace(SMALL, head_ms_max=10_000)) as api:
        ends = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(4)]
        silent, halfway, idle, halfway_again = ends
        halfway[1].write(b"GET / HT")
        for reader, writer in (idle, halfway_again):
            writer.write(head)
            await reader.readuntil(b"}}")
        halfway_again[1].write(b"GET /")
        await asyncio.sleep(0.05)
        now_s = asyncio.get_running_loop().time()
        assert api.server.close_slow(now_s + 9) == 0
        assert api.server.close_slow(now_s + 11) == 2
        for reader, _ in (silent, halfway):
            assert await reader.read() == b""
        for (reader, writer), rest in ((idle, head), (halfway_again, head.removeprefix(b"GET /"))):
            writer.write(rest)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in ends:
            writer.close()


async def test_one_address_has_a_bounded_number_of_connections() -> None:
    async with client(server=replace(SMALL, connections_per_ip_max=2)) as api:
        open_ones = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(3)]
        assert await open_ones[2][0].read() == b""
        open_ones[0][1].close()
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        for _, each in [*open_ones, (reader, writer)]:
            each.close()


async def test_all_addresses_together_have_a_bounded_number_too_and_it_is_said() -> None:
    with capture_logs() as logs:
        async with client(server=replace(SMALL, connections_max=2)) as api:
            ends = [
                await asyncio.open_connection("127.0.0.1", api.port, local_addr=(f"127.0.0.{n}", 0)) for n in (2, 3, 4)
            ]
            assert await ends[2][0].read() == b""
            assert (api.server.crowd.open, api.server.crowd.turned_away["connections"]) == (2, 1)
            for _, writer in ends:
                writer.close()
    assert [line["event"] for line in logs] == ["connections are turned away"]


def test_files_that_are_needed_for_other_things_are_left_to_them() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert connections_max(ServerSettings()) == 156
        assert connections_max(ServerSettings(connections_max=50)) == 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_who_reads_nothing_of_its_answers_is_cut_off_and_who_reads_slowly_is_not() -> None:
    async def long(call: Call) -> web.StreamResponse:
        return call.json({"much": "x" * 5_000_000})

    head = f"GET /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\n\r\n".encode()
    async with client(long, server=replace(SMALL, unread_ms_max=30_000)) as api:
        ends = [await asyncio.open_connection("127.0.0.1", api.port, limit=1_024) for _ in range(2)]
        for _, writer in ends:
            writer.write(head)
        await asyncio.sleep(0.1)
        deaf, slow = ends
        now_s = asyncio.get_running_loop().time()
        assert api.server.cut_unread(now_s) == 0
        for _ in range(60):
            await slow[0].read(50_000)
            await asyncio.sleep(0.001)
        assert api.server.cut_unread(now_s + 29) == 0
        assert api.server.cut_unread(now_s + 31) == 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await deaf[0].readexactly(5_000_000)
        await slow[0].readexactly(1_000_000)
        for _, writer in ends:
            writer.transport.abort()


async def test_while_there_is_too_much_of_it_work_is_refused_before_its_body_is_read_and_all_else_is_not() -> None:
    shortages = {ACCOUNT: "commit_wait"}
    counts = FrontCounts(Tally(), Tally(), Tally())
    made = Front(
        Router(
            [
                Route("POST", PATH, Access.ACCOUNT, echo, adds=True),
                Route("GET", PATH, Access.ACCOUNT, echo),
            ]
        ),
        ACCOUNTS, clock=SystemClock(), ids=SystemIds(), server=SMALL, limits=LimitsSettings(),
        counts=counts, find_shortage=lambda account_id: shortages.get(account_id, ""),
    )  # fmt: skip
    async with serving(made) as api:
        assert (await api.get("")).status == 200
        head = f"POST /v1/Account/{ACCOUNT}/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\nContent-Length: 500\r\n"
        refused = await api.raw(f"{head}\r\n{{".encode())
        other = await api.post(f"/v1/Account/{OTHER_ACCOUNT}/", {}, authorization=basic(OTHER_ACCOUNT))
        kept = await api.post("", {})
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in refused
    assert b"\r\nConnection: close\r\n" in refused
    assert len(refused) < 400
    assert (other.status, kept.status) == (200, 503)
    assert kept.headers.get("Connection") != "close", "its body has come: nothing is gained by closing"
    assert counts.rejections.counts == {("commit_wait",): 2}  # type: ignore[attr-defined]
    assert counts.requests.counts == {  # type: ignore[attr-defined]
        ("GET Account/", "200"): 1, ("POST Account/", "503"): 2, ("POST Account/", "200"): 1,
    }  # fmt: skip


# --- What goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (JournalUnavailable("away"), 503, "storage_unavailable"),
        (JournalFull("full"), 503, "overloaded"),
        (OutcomeUnknown("who knows"), 503, "outcome_unknown"),
        (EpochLost("gone"), 503, "storage_unavailable"),
        (StorageError("other"), 503, "storage_unavailable"),
        (TimeoutError(), 503, "storage_unavailable"),
        (ZeroDivisionError("secret inside"), 500, "internal"),
        (api_error("not_found", "no such thing"), 404, "not_found"),
    ],
)
async def test_whatever_a_handler_raises_is_answered_with_a_stable_code(
    error: Exception, status: int, code: str
) -> None:
    async with client(raising(error)) as api:
        got = await api.get("")
    assert (got.status, got.body["code"]) == (status, code)
    assert "secret" not in str(got.body)
    assert ("Retry-After" in got.headers) == (status == 503)


async def test_errors_are_counted_by_code_and_a_broken_promise_is_told() -> None:
    told: list[AssertionError] = []
    tally = Tally()

    async def handler(call: Call) -> web.StreamResponse:
        raise AssertionError("a promise of our own")

    made = Front(
        Router([Route("GET", PATH, Access.ACCOUNT, handler)]), ACCOUNTS,
        clock=SystemClock(), ids=SystemIds(), server=SMALL, limits=LimitsSettings(),
        counts=FrontCounts(Tally(), tally, Tally()), on_broken_promise=told.append,
    )  # fmt: skip
    async with serving(made) as api:
        assert (await api.get("")).status == 500
        assert (await api.get("nothing/")).status == 404
    assert tally.counts == {("internal",): 1, ("not_found",): 1}
    assert [str(error) for error in told] == ["a promise of our own"]


async def test_when_waiting_helps_the_instant_is_named_twice() -> None:
    clock = SystemClock()
    retry_at_ms = clock.now_ms() + 61_500

    async def handler(call: Call) -> web.StreamResponse:
        raise api_error("overloaded", retry_at_ms=retry_at_ms)

    async with client(handler) as api:
        got = await api.get("")
    assert got.headers["Retry-After"] in ("61", "62")
    assert got.body["retry_at"].endswith("Z")


async def test_while_closing_every_answer_ends_its_connection() -> None:
    made = front()
    async with serving(made) as api:
        assert "Connection" not in (await api.get("")).headers
        made.drain()
        assert (await api.get("")).headers["Connection"] == "close"


async def test_answers_carry_the_date() -> None:
    async with client() as api:
        got = await api.get("")
    assert got.headers["Date"].endswith(" GMT")
