"""A carrier reached over HTTP, with the JSON preset.

`send` takes a ready connection first, asks `go`, writes the whole request in the same loop turn and waits for the
answer. It never tries again: once written, no complete answer means an unknown outcome.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from gateway.carriers import preset
from gateway.carriers.carrier import (
    GARBLED,
    Go,
    NotSent,
    OnLink,
    OnReports,
    Outbound,
    Report,
    SendFailed,
    matches_secret,
    read_options,
)
from gateway.carriers.connection import Answer, ConnectionPool, Deadlines, Endpoint, Header, LookUp
from gateway.clock import Clock
from gateway.fields import BadSetting, setting
from gateway.settings import CarrierSettings


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What an HTTP carrier needs beyond `segments_per_s` and `places`."""

    submit_url: str = setting("", "where messages are posted: https://…")
    authorization: str = setting("", "the Authorization header sent with each message", secret=True)
    secret: str = setting("", "of the carrier's webhooks; empty: none are taken", secret=True)
    preset: str = setting("json", "what the bodies look like; docs/carriers.md", one_of="json")
    ca_file: str = setting("", "a certificate authority to trust instead of the system's")
    allow_plaintext: bool = setting(False, "http:// to other machines; texts and credentials can be read on the way")
    connect_ms_max: int = setting(3_000, "for a connection, TLS included", least=1)
    read_ms_max: int = setting(5_000, "without a byte of the answer; then the outcome is unknown", least=1)

    def __post_init__(self) -> None:
        url = urlsplit(self.submit_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.fragment:
            raise BadSetting("submit_url: must be https://name[:port]/path, without credentials")
        if not re.fullmatch(r"[\x21-\x7e]*", self.submit_url) or not 0 < _port_of(url) < 65_536:
            raise BadSetting("submit_url: has a character or a port that no URL has")
        if url.scheme == "http" and not self.allow_plaintext and not is_this_machine(url.hostname):
            raise BadSetting("submit_url: is not https; allow_plaintext allows it")
        if not re.fullmatch(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?", self.authorization):
            raise BadSetting("authorization: has characters, or blanks around it, that no header takes")


class HttpCarrier:
    """The carrier; keeps up to `places` connections."""

    def __init__(
        self, settings: CarrierSettings, *, clock: Clock, answer_ms_max: int, look_up: LookUp | None = None
    ) -> None:
        options = read_options(settings, HttpOptions)
        url = urlsplit(options.submit_url)
        self.name = settings.name
        self.places = settings.places
        self._secret = options.secret
        self._clock = clock
        self._target = ((url.path or "/") + (f"?{url.query}" if url.query else "")).encode()
        self._headers = _fixed_headers(url, options.authorization)
        endpoint = Endpoint(url.hostname or "", _port_of(url), _tls_of(url, options.ca_file))
        deadlines = Deadlines(options.connect_ms_max, answer_ms_max, options.read_ms_max)
        self._pool = ConnectionPool(endpoint, deadlines, look_up=look_up)

    @property
    def prompt(self) -> None:
        """Connections are waited for."""
        return None

    async def start(self, on_reports: OnReports, on_link: OnLink) -> None:
        """Nothing to begin: reports come as webhooks, and the lane sees by its hand-overs whether the link stands."""

    async def stop(self) -> None:
        self._pool.close()

    async def send(self, outbound: Outbound, go: Go) -> str:
        body = preset.render_submit(outbound)
        headers = [
            *self._headers,
            (b"content-length", b"%d" % len(body)),
            (b"idempotency-key", outbound.message_id.encode()),
        ]
        connection = await self._pool.get()
        if not go():  # no await between here and the write
            self._pool.put_back(connection)
            raise NotSent
        try:
            answer = await connection.write(self._target, headers, body)
        except BaseException:
            connection.close()
            raise
        self._pool.put_back(connection)
        return self._read(answer)

    def _read(self, answer: Answer) -> str:
        if answer.headers.get(b"content-encoding", b"identity") != b"identity":
            raise SendFailed(GARBLED, "compressed unasked")
        retry_after = answer.headers.get(b"retry-after", b"").decode("latin-1")
        return preset.read_answer(answer.status, retry_after, answer.body, now_ms=self._clock.now_ms())

    def parse_reports(self, content_type: str, body: bytes) -> list[Report]:
        return preset.parse_reports(content_type, body)

    def check_secret(self, headers: Mapping[str, str]) -> bool:
        return matches_secret(self._secret, headers)


def _fixed_headers(url: SplitResult, authorization: str) -> list[Header]:
    headers = [
        (b"host", url.netloc.encode()),
        (b"user-agent", b"sendpool"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"content-type", b"application/json"),
    ]
    if authorization:
        headers.append((b"authorization", authorization.encode()))
    return headers


def _port_of(url: SplitResult) -> int:
    try:
        return url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        return 0


def _tls_of(url: SplitResult, ca_file: str) -> ssl.SSLContext | None:
    """Verifying, always: there is no setting that trusts everybody."""
    if url.scheme == "http":
        return None
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(f"ca_file: {ca_file!r} is no file of certificates") from error


def is_this_machine(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
