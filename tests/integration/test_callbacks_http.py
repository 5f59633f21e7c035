"""Callbacks over real sockets: what an endpoint receives, and what can never be connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from plivo.utils import validate_signature
from plivo.utils.signature_v3 import validate_v3_signature

from gateway.callbacks import Callbacks
from gateway.guard import CallbackUrl, GuardedClient, GuardPolicy, Reply, check_url, networks
from gateway.settings import CallbackSettings
from gateway.signatures import Tokens
from tests.fakes.callbacks import ACCOUNT, START_MS, TOKEN, FakeOutbox, HandClock, row
from tests.fakes.forbidden_urls import forbidden_urls
from tests.fakes.gateway_floor import Tally

DEMO = GuardPolicy(allow_http=True, allow_private=True)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# --- What stands at the other end -------------------------------------------------------------------------------------


class Sentinel:
    """Listens on addresses of this machine at one port, and notes every connection; `talk` answers it."""

    def __init__(self, talk: Connection | None = None) -> None:
        self.connects = 0
        self.port = 0
        self._talk = talk
        self._servers: list[asyncio.Server] = []

    async def listen(self, *hosts: str) -> None:
        for host in hosts:
            server = await asyncio.start_server(self._connected, host, self.port)
            self.port = self.port or server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        try:
            if self._talk is not None:
                await self._talk(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()


@asynccontextmanager
async def listening(talk: Connection | None = None, *hosts: str) -> AsyncIterator[Sentinel]:
    sentinel = Sentinel(talk)
    await sentinel.listen(*(hosts or ("127.0.0.1",)))
    try:
        yield sentinel
    finally:
        await sentinel.close()


class Received:
    """An endpoint as an account would write one; `respond` answers, `requests` are what came."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, dict[str, str]]] = []
        self.respond: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._ok
        self.came = asyncio.Event()
        self.in_progress = self.most_in_progress = 0

    async def _ok(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="thank you")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append((request, form))
        self.in_progress += 1
        self.most_in_progress = max(self.most_in_progress, self.in_progress)
        self.came.set()
        try:
            return await self.respond(request)
        finally:
            self.in_progress -= 1

    async def count(self, wanted: int) -> None:
        while len(self.requests) < wanted:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 10)


@asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[Received, int]]:
    received = Received()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", received.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield received, runner.addresses[0][1]
    finally:
        await runner.cleanup()


class FakeResolver(AbstractResolver):
    """Answers for names; odd ways to write an IPv4 address as libc reads them, and loopback for any other name."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [self._result(host, address, port) for address in self.names.get(host) or self._libc(host)]

    def _libc(self, host: str) -> list[str]:
        try:
            return [str(IPv4Address(socket.inet_aton(host)))]
        except OSError:
            return ["127.0.0.1"]

    def _result(self, host: str, address: str, port: int) -> ResolveResult:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)

    async def close(self) -> None:
        return None


async def post(client: GuardedClient, url: str, body: bytes = b"a=1") -> Reply:
    return await client.send("POST", url, FORM, body)


# --- What an endpoint receives ----------------------------------------------------------------------------------------


@asynccontextmanager
async def telling(policy: GuardPolicy = DEMO) -> AsyncIterator[tuple[Callbacks, FakeOutbox, HandClock]]:
    """Callbacks over a real client and an outbox in memory."""
    clock, outbox = HandClock(), FakeOutbox()
    async with GuardedClient(policy, timeout_ms=5_000) as client:
        callbacks = Callbacks(
            outbox,
            client,
            settings=CallbackSettings(in_flight_max=8, endpoint_in_flight_max=4),
            policy=policy,
            clock=clock,
            tokens_of={ACCOUNT: Tokens((TOKEN,), (TOKEN,))}.get,
            nonce=lambda: "05429567804466091622",
            counts=Tally(),
        )
        running = asyncio.create_task(callbacks.run())
        try:
            yield callbacks, outbox, clock
        finally:
            running.cancel()
            await asyncio.wait([running])


PARAMS = {"MessageUUID": "5b40a428", "Status": "sent", "From": "+14155550100", "Note": "Grüße & 100 %", "ErrorCode": ""}


async def test_a_post_arrives_as_a_form_that_the_sdk_validates() -> None:
    async with endpoint() as (received, port), telling() as (callbacks, outbox, _):
        url = f"http://127.0.0.1:{port}/hook?x=1"
        callbacks.owe(outbox.insert(row(1, url=url, params=PARAMS, sequence=1)))
        await received.count(1)
        ((request, form),) = received.requests
        assert (request.method, request.path_qs) == ("POST", "/hook?x=1")
        assert form == PARAMS
        assert request.headers["Webhook-Id"] == row(1).callback_id
        assert request.headers["Webhook-Timestamp"] == str(START_MS // 1_000)
        assert request.headers["Sendpool-Sequence"] == "1"
        assert request.headers["User-Agent"] == "Sendpool"
        nonce = request.headers["X-Plivo-Signature-V3-Nonce"]
        signature = request.headers["X-Plivo-Signature-V3"]
        assert validate_v3_signature("POST", str(request.url), nonce, TOKEN, signature, dict(form))
        assert not validate_v3_signature(
            "POST", str(request.url), nonce, TOKEN, signature, {**form, "Status": "failed"}
        )
        assert validate_signature(
            str(request.url),
            request.headers["X-Plivo-Signature-V2-Nonce"],
            request.headers["X-Plivo-Signature-V2"],
            TOKEN,
        )


async def test_a_get_arrives_as_a_query_that_the_sdk_validates() -> None:
    async with endpoint() as (received, port), telling() as (callbacks, outbox, _):
        params = {**PARAMS, "Note": "plain & simple"}  # the SDK reads a query as ASCII only
        url = f"http://127.0.0.1:{port}/hook?x=1&Status=mine"
        callbacks.owe(outbox.insert(row(1, url=url, method="GET", params=params, sequence=1)))
        await received.count(1)
        ((request, _),) = received.requests
        assert request.method == "GET"
        assert dict(request.query) == {"x": "1", **params}
        nonce, signature = request.headers["X-Plivo-Signature-V3-Nonce"], request.headers["X-Plivo-Signature-V3"]
        raw = f"http://127.0.0.1:{port}{request.raw_path}"
        assert validate_v3_signature("GET", raw, nonce, TOKEN, signature, {})
        assert validate_v3_signature("GET", raw.partition("?")[0], nonce, TOKEN, signature, dict(request.query))


async def test_a_path_arrives_as_it_was_written() -> None:
    async with endpoint() as (received, port), GuardedClient(DEMO) as client:
        for path in ("/a%2Fb/../c%20d", "/%C3%A9;v=1", "/a//b", "/"):
            assert await post(client, f"http://127.0.0.1:{port}{path}") == Reply(200, "")
            assert received.requests[-1][0].raw_path == path


async def test_many_are_told_and_recorded() -> None:
    async with endpoint() as (received, port), telling() as (callbacks, outbox, clock):
        url = f"http://127.0.0.1:{port}/"
        callbacks.owe(
            outbox.insert(*(row(number, url=url, message=number // 3, sequence=number % 3 + 1) for number in range(90)))
        )
        await received.count(90)
        while callbacks.unrecorded or callbacks.held:
            clock.jump(Callbacks.ROUND_MS)
            await asyncio.sleep(0)
        assert outbox.states() == {"told": 90}
        assert received.most_in_progress <= 4
        first = [
            int(request.headers["Sendpool-Sequence"])
            for request, form in received.requests
            if form["MessageUUID"][-3:] == "007"
        ]
        assert first == [1, 2, 3]


async def test_a_refused_address_is_not_connected_to() -> None:
    async with listening() as sentinel, telling(GuardPolicy(allow_http=True)) as (callbacks, outbox, clock):
        callbacks.owe(outbox.insert(row(1, url=f"http://127.0.0.1:{sentinel.port}/")))
        while callbacks.held:
            clock.jump(Callbacks.ROUND_MS)
            await asyncio.sleep(0)
        assert outbox.results[row(1).callback_id].last_result == "refused_url"
        assert sentinel.connects == 0


# --- What an endpoint may do ------------------------------------------------------------------------------------------


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with listening() as sentinel, endpoint() as (received, port), GuardedClient(DEMO) as client:
        for status in (301, 302, 303, 307, 308):

            async def redirect(request: web.Request, status: int = status) -> web.StreamResponse:
                return web.Response(status=status, headers={"Location": f"http://127.0.0.1:{sentinel.port}/"})

            received.respond = redirect
            assert await post(client, f"http://127.0.0.1:{port}/") == Reply(status, "")
        assert sentinel.connects == 0
        assert len(received.requests) == 5


async def test_cookies_are_not_kept() -> None:
    async with endpoint() as (received, port), GuardedClient(DEMO) as client:

        async def bake(request: web.Request) -> web.StreamResponse:
            return web.Response(headers={"Set-Cookie": "a=b; Path=/"})

        received.respond = bake
        for _ in range(2):
            await post(client, f"http://127.0.0.1:{port}/")
        assert [request.headers.get("Cookie") for request, _ in received.requests] == [None, None]


async def test_the_machines_proxies_and_passwords_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with listening() as sentinel, endpoint() as (received, port), AsyncExitStack() as stack:
        proxy = f"http://127.0.0.1:{sentinel.port}"
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        netrc = tmp_path / "netrc"
        netrc.write_text("default login me password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        client = await stack.enter_async_context(GuardedClient(DEMO))
        assert await post(client, f"http://127.0.0.1:{port}/") == Reply(200, "")
        assert sentinel.connects == 0
        assert "Authorization" not in received.requests[0][0].headers


async def read_head(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def test_an_endless_body_is_cut_off_and_the_status_counts() -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            written += 65_536

    async with listening(flood) as sentinel, GuardedClient(DEMO, read_bytes_max=65_536) as client:
        assert await post(client, f"http://127.0.0.1:{sentinel.port}/") == Reply(200, "")
        assert written < 64 * 1024 * 1024


async def test_a_body_that_drips_does_not_hold_the_place() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 202 Yes\r\nContent-Length: 5\r\n\r\nx")
        await asyncio.Event().wait()

    async with listening(drip) as sentinel, GuardedClient(DEMO, timeout_ms=100) as client:
        assert await post(client, f"http://127.0.0.1:{sentinel.port}/") == Reply(202, "")


async def test_a_compressed_body_is_not_unpacked() -> None:
    async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
        await writer.drain()

    async with listening(bomb) as sentinel, GuardedClient(DEMO) as client:
        assert await post(client, f"http://127.0.0.1:{sentinel.port}/") == Reply(200, "")


async def no_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    writer.write(b"220 smtp.example ESMTP\r\n\r\n")
    await writer.drain()


async def long_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n")
    await writer.drain()
    await reader.read()


@pytest.mark.parametrize(
    ("talk", "problem"),
    [(no_answer, "timeout"), (hang_up, "unreachable"), (babble, "garbled"), (long_head, "garbled")],
)
async def test_what_goes_wrong_has_a_name(talk: Connection, problem: str) -> None:
    async with listening(talk) as sentinel, GuardedClient(DEMO, timeout_ms=300) as client:
        assert await post(client, f"http://127.0.0.1:{sentinel.port}/") == Reply(0, problem)


async def test_nobody_listening_is_unreachable() -> None:
    async with listening() as sentinel:
        port = sentinel.port
    async with GuardedClient(DEMO) as client:
        assert await post(client, f"http://127.0.0.1:{port}/") == Reply(0, "unreachable")


class NoNames(FakeResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError(None, "no such name")


async def test_a_name_that_does_not_exist_has_a_name() -> None:
    async with GuardedClient(DEMO, resolver=NoNames()) as client:
        assert await post(client, "http://nowhere.example/") == Reply(0, "no_such_host")


@asynccontextmanager
async def self_signed(tmp_path: Path) -> AsyncIterator[Sentinel]:
    """A server whose certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (tmp_path / "certificate").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    sentinel = Sentinel()
    server = await asyncio.start_server(sentinel._connected, "127.0.0.1", 0, ssl=context)
    sentinel.port = server.sockets[0].getsockname()[1]
    try:
        yield sentinel
    finally:
        server.close()
        await server.wait_closed()


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with self_signed(tmp_path) as sentinel, GuardedClient(DEMO, resolver=FakeResolver()) as client:
        assert await post(client, f"https://localhost:{sentinel.port}/") == Reply(0, "tls")


# --- What can never be connected to -----------------------------------------------------------------------------------


NEVER_TRIED = {"forbidden_address", "garbled", "no_such_host"}


@asynccontextmanager
async def sentinels() -> AsyncIterator[Sentinel]:
    """On every way to reach this machine by loopback, at one port."""
    hosts = ["127.0.0.1", "127.0.0.53", "127.255.255.254"]
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
            hosts.append("::1")
        except OSError:  # a machine without IPv6
            pass
    async with listening(None, *hosts) as sentinel:
        yield sentinel


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_form_of_a_forbidden_address_is_connected_to_even_unchecked(scheme: str) -> None:
    """The second check alone: nothing was refused when the address was given, and any name leads to loopback."""
    async with (
        sentinels() as sentinel,
        GuardedClient(GuardPolicy(), timeout_ms=2_000, resolver=FakeResolver()) as client,
    ):
        urls = forbidden_urls(sentinel.port, scheme)
        assert len(urls) >= 200
        replies = {url: await post(client, url) for url in urls}
        assert {url: reply for url, reply in replies.items() if reply.problem not in NEVER_TRIED} == {}
        assert sum(reply.problem == "forbidden_address" for reply in replies.values()) >= 200
        assert sentinel.connects == 0


async def test_the_same_client_connects_where_it_is_allowed() -> None:
    """So the test above can fail."""
    async with sentinels() as sentinel, GuardedClient(DEMO, timeout_ms=2_000, resolver=FakeResolver()) as client:
        port = sentinel.port
        hosts = ["127.0.0.1", "name.example", "[::ffff:127.0.0.1]", "2130706433.example"]
        for host in hosts:
            assert (await post(client, f"http://{host}:{port}/")).problem == "unreachable", host
        assert sentinel.connects >= len(hosts)


async def test_a_name_that_is_bound_to_another_address_meanwhile_gains_nothing() -> None:
    async with listening(None, "127.0.0.1", "127.0.0.2") as sentinel:
        policy = GuardPolicy(allow_http=True, allow_networks=networks("127.0.0.2/32"))
        resolver = FakeResolver(rebind_example=["127.0.0.2"])
        url = f"http://rebind.example:{sentinel.port}/"
        assert isinstance(check_url(url, policy), CallbackUrl)
        async with GuardedClient(policy, resolver=resolver) as client:
            await post(client, url)
            seen = sentinel.connects
            assert seen >= 1
        for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"):
            resolver.names["rebind.example"] = [address]
            async with GuardedClient(policy, resolver=resolver) as client:  # a new one, since answers are remembered
                assert await post(client, url) == Reply(0, "forbidden_address"), address
        assert sentinel.connects == seen
        assert len(resolver.asked) == 7


async def test_of_several_addresses_only_the_allowed_ones_are_tried() -> None:
    async with listening(None, "127.0.0.1") as forbidden:
        allowed = Sentinel()
        allowed.port = forbidden.port
        await allowed.listen("127.0.0.2")
        try:
            policy = GuardPolicy(allow_http=True, allow_networks=networks("127.0.0.2/32"))
            resolver = FakeResolver(two_example=["127.0.0.1", "10.0.0.1", "127.0.0.2"])
            async with GuardedClient(policy, resolver=resolver) as client:
                await post(client, f"http://two.example:{forbidden.port}/")
            assert (forbidden.connects, allowed.connects > 0) == (0, True)
        finally:
            await allowed.close()


async def test_connections_to_one_endpoint_are_bounded() -> None:
    async with endpoint() as (received, port), GuardedClient(DEMO, per_endpoint_max=3) as client:
        held = asyncio.Event()

        async def hold(request: web.Request) -> web.StreamResponse:
            await held.wait()
            return web.Response()

        received.respond = hold
        posts = [asyncio.create_task(post(client, f"http://127.0.0.1:{port}/")) for _ in range(10)]
        await received.count(3)
        held.set()
        assert await asyncio.gather(*posts) == [Reply(200, "")] * 10
        assert received.most_in_progress == 3
