from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.carriers.carrier import BAD_ROUTE, GARBLED, SAMPLE, UNREACHABLE, NotSent, Outbound, SendFailed
from gateway.carriers.http import HttpCarrier, is_this_machine, sample_request
from gateway.fields import BadSetting
from gateway.settings import CarrierSettings
from resolver.model import E164, CarrierName, MessageId
from tests.fakes.clock import HandClock
from tests.fakes.templates import PRESETS, PUBLIC_URL, settings_of
from tests.fakes.wire import Peer, answering, on_a_wire, wire_loop

URL = "https://carrier.example:8443/v1/messages?account=7"
OUTBOUND = Outbound(
    MessageId("019b76da-a800-7000-8000-000000000001"), 1, E164("+14155550100"), E164("+14155550123"), "Hello", 1, 60_000
)


async def look_up(host: str, port: int) -> list[str]:
    return [f"{host}:{port}"]


def carrier(**options: object) -> HttpCarrier:
    given = {"submit_url": URL, "authorization": "Bearer abc", "secret": "s3cret", **options}
    settings = CarrierSettings(name=CarrierName("one"), kind="http", places=3, options=given)
    return HttpCarrier(settings, clock=HandClock(), answer_ms_max=10_000, look_up=look_up)


def answer_with(*answers: bytes) -> None:
    """Let the carrier on the wire give these answers, the last of them again and again."""
    left = list(answers)
    wire_loop().dial = lambda _: Peer(lambda peer, *_: peer.say(left.pop(0) if len(left) > 1 else left[0]))


def yes() -> bool:
    return True


@on_a_wire
async def test_a_submit_looks_as_documented() -> None:
    answer_with(answering(202))
    assert await carrier().send(OUTBOUND, yes) == "abc-1"
    (peer,) = wire_loop().peers
    head, _, body = peer.raw.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/messages?account=7 HTTP/1.1",
        b"host: carrier.example:8443",
        b"user-agent: sendpool",
        b"accept: application/json",
        b"accept-encoding: identity",
        b"content-type: application/json",
        b"authorization: Bearer abc",
        b"content-length: %d" % len(body),
        b"idempotency-key: 019b76da-a800-7000-8000-000000000001",
    ]
    assert orjson.loads(body)["reference"] == OUTBOUND.message_id
    assert wire_loop().dialled == ["carrier.example:8443"]


@on_a_wire
async def test_go_is_asked_in_the_loop_turn_of_the_write_to_a_connection_that_stands() -> None:
    loop = wire_loop()
    answer_with(answering(200))

    def go() -> bool:
        assert len(loop.peers) == 1
        loop.turns.append("go")
        loop.call_soon(loop.turns.append, "next turn")
        return True

    one = carrier()
    await one.send(OUTBOUND, go)
    await one.send(OUTBOUND, go)
    assert loop.turns == ["go", "write", "next turn", "go", "write", "next turn"]


@on_a_wire
async def test_a_connection_that_was_not_used_waits_for_the_next_message() -> None:
    answer_with(answering(200))
    one = carrier()
    with pytest.raises(NotSent):
        await one.send(OUTBOUND, lambda: False)
    await one.send(OUTBOUND, yes)
    assert len(wire_loop().peers) == 1
    assert len(wire_loop().peers[0].requests) == 1


@on_a_wire
async def test_messages_at_once_take_a_connection_each_and_share_them_afterwards() -> None:
    answer_with(answering(200))
    one = carrier()
    for _ in range(3):
        await asyncio.gather(*(one.send(OUTBOUND, yes) for _ in range(3)))
    assert [len(peer.requests) for peer in wire_loop().peers] == [3, 3, 3]


@on_a_wire
async def test_a_failure_that_was_answered_keeps_the_connection() -> None:
    answer_with(answering(429, b"", Retry_After="3"), answering(200))
    one = carrier()
    with pytest.raises(SendFailed) as failed:
        await one.send(OUTBOUND, yes)
    assert failed.value.retry_after_ms == 3_000
    await one.send(OUTBOUND, yes)
    assert len(wire_loop().peers) == 1


@on_a_wire
async def test_redirects_are_not_followed() -> None:
    answer_with(answering(307, b"", Location="https://elsewhere.example/"))
    with pytest.raises(SendFailed) as failed:
        await carrier().send(OUTBOUND, yes)
    assert failed.value.failure is BAD_ROUTE
    assert wire_loop().dialled == ["carrier.example:8443"]


@on_a_wire
async def test_an_answer_compressed_unasked_is_not_read() -> None:
    answer_with(answering(200, Content_Encoding="gzip"))
    with pytest.raises(SendFailed) as failed:
        await carrier().send(OUTBOUND, yes)
    assert failed.value.failure is GARBLED


@on_a_wire
async def test_a_message_given_up_by_its_sender_closes_its_connection() -> None:
    wire_loop().dial = lambda _: Peer(lambda *_: None)
    one = carrier()
    sending = asyncio.create_task(one.send(OUTBOUND, yes))
    await asyncio.sleep(1)
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    await asyncio.sleep(0)
    assert wire_loop().peers[0].wire.is_over


@on_a_wire
async def test_stopping_closes_what_is_idle_and_may_be_done_twice() -> None:
    answer_with(answering(200))
    one = carrier()
    await one.send(OUTBOUND, yes)
    await one.stop()
    await one.stop()
    await asyncio.sleep(0)
    assert wire_loop().peers[0].wire.is_over


@on_a_wire
async def test_a_carrier_of_ones_own_may_be_asked_with_get() -> None:
    answer_with(answering(200, b'{"ref": 7}'))
    url = "https://carrier.example/send?to={to}"
    one = carrier(preset="own", submit_url=url, submit={"method": "GET"}, answer={"id": "ref"})
    assert await one.send(OUTBOUND, yes) == "7"
    (peer,) = wire_loop().peers
    assert peer.raw.startswith(b"GET /send?to=%2B14155550123 HTTP/1.1\r\n")
    assert peer.raw.endswith(b"\r\n\r\n")
    assert b"content-" not in peer.raw


@on_a_wire
@pytest.mark.parametrize("preset", PRESETS)
async def test_no_text_breaks_out_of_its_request(preset: str) -> None:
    answer_with(answering(400))
    one = HttpCarrier(
        settings_of(preset), clock=HandClock(), answer_ms_max=10_000, public_url=PUBLIC_URL, look_up=look_up
    )
    text = '\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n&to=+1900", "to": "+1900'
    with pytest.raises(SendFailed):
        await one.send(OUTBOUND._replace(text=text), yes)
    (peer,) = wire_loop().peers
    assert len(peer.requests) == 1
    assert b"HTTP/1.1\r\nHost: x" not in peer.raw


def test_a_sample_request_shows_everything_but_secrets() -> None:
    for preset in PRESETS:
        settings = settings_of(preset)
        origin, request = sample_request(settings, public_url=PUBLIC_URL, now_ms=0)
        shown = repr((origin, request))
        assert origin.host
        assert SAMPLE.message_id in shown
        for name in ("password", "authorization", "secret"):
            given = str(settings.options.get(name, "none"))
            assert given.removeprefix("Bearer ") not in shown.replace(preset, "")
            assert b64encode(f"{settings.options.get('username')}:{given}".encode()).decode() not in shown


def test_a_password_is_masked_wherever_a_template_says_it() -> None:
    settings = settings_of(
        "json",
        username="us",
        password="p4ss",
        submit={"body": {"pw": "{password}"}, "headers": {"X-Key": "{password}"}},
    )
    _, request = sample_request(settings, public_url="", now_ms=0)
    assert "p4ss" not in repr(request)
    assert repr(request).count("********") == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"submit_url": ""}, "submit_url"),
        ({"submit_url": "ftp://carrier.example/"}, "submit_url"),
        ({"submit_url": "https://"}, "submit_url"),
        ({"submit_url": "https://me:secret@carrier.example/"}, "without credentials"),
        ({"submit_url": "https://carrier.example/#there"}, "submit_url"),
        ({"submit_url": "https://carrier.example/a b"}, "character"),
        ({"submit_url": "https://carrier.example:99999/"}, "port"),
        ({"submit_url": "http://carrier.example/"}, "allow_plaintext"),
        ({"authorization": "Bearer a\r\nX-Other: 1"}, "authorization"),
        ({"authorization": " Bearer a"}, "authorization"),
        ({"authorization": "Bearer é"}, "authorization"),
        ({"preset": "xml"}, "json"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file"),
        ({"verify": False}, "verify"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        carrier(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"submit_url": "http://127.0.0.1:9000/submit"},
        {"submit_url": "http://localhost/submit"},
        {"submit_url": "http://[::1]:9000/submit"},
        {"submit_url": "http://carrier.example/", "allow_plaintext": True},
        {"authorization": ""},
    ],
)
def test_plain_http_is_for_this_machine_or_by_permission(options: dict[str, object]) -> None:
    carrier(**options)


def test_only_loopback_is_this_machine() -> None:
    assert [is_this_machine(host) for host in ("localhost", "127.0.0.2", "::1")] == [True] * 3
    assert not any(map(is_this_machine, ("10.0.0.1", "0.0.0.0", "localhost.example", "128.0.0.1")))


def test_credentials_are_not_shown() -> None:
    settings = CarrierSettings(name=CarrierName("one"), kind="http", options={"authorization": "Bearer abc"})
    assert "abc" not in repr(settings)


# --- TLS, with real sockets: what no wire of ours can show ------------------------------------------------------------


def certificate(folder: Path, *, host: str, days: int = 1) -> Path:
    """A key and a certificate, its own authority, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    alternative = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}-{days}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@asynccontextmanager
async def serving(pem: Path | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A carrier on a real socket: its port, and what it heard."""
    heard: list[bytes] = []
    talks: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        try:
            heard.append(await (reader.read(65_536) if pem is None else reader.readuntil(b"}")))
            writer.write(answering(200, Connection="close"))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    context = None
    if pem is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], heard
        await asyncio.gather(*filter(None, talks))
        await asyncio.sleep(0)  # their transports end


async def send_to(port: int, **options: object) -> tuple[str | SendFailed, int]:
    asked = 0

    def go() -> bool:
        nonlocal asked
        asked += 1
        return True

    settings = CarrierSettings(
        name=CarrierName("one"), kind="http", options={"submit_url": f"https://127.0.0.1:{port}/", **options}
    )
    one = HttpCarrier(settings, clock=HandClock(), answer_ms_max=10_000)
    try:
        return await one.send(OUTBOUND, go), asked
    except SendFailed as failed:
        return failed, asked
    finally:
        await one.stop()


async def test_a_carrier_whose_certificate_is_trusted_is_talked_to(tmp_path: Path) -> None:
    pem = certificate(tmp_path, host="127.0.0.1")
    async with serving(pem) as (port, heard):
        assert await send_to(port, ca_file=str(pem)) == ("abc-1", 1)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("host", "days", "trusted"), [("127.0.0.1", 1, False), ("127.0.0.1", -1, True), ("carrier.example", 1, True)]
)
async def test_a_carrier_whose_certificate_is_not_trusted_gets_nothing(
    tmp_path: Path, host: str, days: int, trusted: bool
) -> None:
    pem = certificate(tmp_path, host=host, days=days)
    async with serving(pem) as (port, heard):
        failed, asked = await send_to(port, **({"ca_file": str(pem)} if trusted else {}))
    assert isinstance(failed, SendFailed)
    assert failed.failure is BAD_ROUTE
    assert (asked, heard) == (0, [])


async def test_a_carrier_that_speaks_no_tls_gets_nothing() -> None:
    async with serving(None) as (port, heard):
        failed, asked = await send_to(port)
    assert isinstance(failed, SendFailed)
    assert failed.failure is UNREACHABLE
    assert asked == 0
    assert OUTBOUND.text.encode() not in heard[0]
