"""A carrier reached over HTTP, described by a template: docs/carriers.md.

`send` takes a ready connection first, asks `go`, writes the whole request in the same loop turn and waits for the
answer. It never tries again: once written, no complete answer means an unknown outcome.
"""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, NamedTuple

from gateway.carriers.answers import Answers
from gateway.carriers.carrier import (
    GARBLED,
    SAMPLE,
    Go,
    NotSent,
    OnLink,
    OnReports,
    Outbound,
    SendFailed,
    WebhookReader,
)
from gateway.carriers.checks import make_check
from gateway.carriers.connection import Answer, ConnectionPool, Deadlines, Endpoint, LookUp
from gateway.carriers.readings import ReportReader
from gateway.carriers.submits import Origin, Rendered, Submit
from gateway.carriers.template import TABLES, join_preset, read_template
from gateway.carriers.webhooks import Webhooks
from gateway.clock import Clock
from gateway.fields import BadSetting, Given, checked, keys_of, refuse_unknown, setting
from gateway.settings import CarrierSettings

SECRET_BY_PASSWORD: Final = frozenset({"plivo", "plivo_v2", "twilio"})
"""Checks whose key is the token that messages are sent with, so it need not be written twice."""

SIGN_BODY_ALONE: Final = frozenset({"hmac_sha256", "telnyx"})
"""Checks that leave the URL open: what it says can be changed on the way."""

MASK: Final = "********"


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What an HTTP carrier needs beyond `segments_per_s` and `places`. The tables after it describe what is said."""

    preset: str = setting("json", "fills the tables below: json plivo twilio telnyx bandwidth, or own: nothing")
    submit_url: str = setting("", "where messages are sent: https://…; presets have it")
    account: str = setting("", "your account at the carrier, `{account}`; empty: username")
    application: str = setting("", "what messages belong to there, `{application}`: Bandwidth's application id")
    username: str = setting("", "of HTTP Basic, `{username}`")
    password: str = setting("", "of HTTP Basic, `{password}`", secret=True)
    authorization: str = setting("", "the Authorization header as it is, instead of HTTP Basic", secret=True)
    secret: str = setting("", "of what the carrier posts to us; empty: nothing is taken", secret=True)
    secret_user: str = setting("", "the name that goes with it where the carrier sends HTTP Basic")
    ca_file: str = setting("", "a certificate authority to trust instead of the system's")
    allow_plaintext: bool = setting(False, "http:// to other machines; texts and credentials can be read on the way")
    connect_ms_max: int = setting(3_000, "for a connection, TLS included", least=1)
    read_ms_max: int = setting(5_000, "without a byte of the answer; then the outcome is unknown", least=1)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?", self.authorization):
            raise BadSetting("authorization: has characters, or blanks around it, that no header takes")
        if ":" in self.username:
            raise BadSetting("username: HTTP Basic takes none with a colon")


class Compiled(NamedTuple):
    """A template ready for use."""

    submit: Submit
    answers: Answers
    reports: ReportReader
    webhooks: Webhooks
    options: HttpOptions
    check: str
    takes_webhooks: bool  # a secret is set


def compile_carrier(settings: CarrierSettings, *, public_url: str, mask: bool = False) -> Compiled:
    """Compile a carrier's template; with `mask` its secrets are not in it. Raises BadSetting naming the key."""
    place = f"carriers.{settings.name}"
    joined = join_preset(settings.options, place)
    flat = {key: Given(value, f"[{place}] {key}", is_text=isinstance(value, str)) for key, value in joined.items()}
    for name in (*TABLES, "errors"):
        flat.pop(name, None)
    refuse_unknown(flat, [*keys_of(HttpOptions), *TABLES, "errors"], f"[{place}]", "setting")
    try:
        options = checked(HttpOptions, flat, place)
    except BadSetting as error:
        raise BadSetting(str(error) if place in str(error) else f"[{place}] {error}") from error
    template = read_template(joined, place)
    named = {
        "account": options.account or options.username,
        "application": options.application,
        "username": options.username,
        "password": MASK if mask and options.password else options.password,
        "report_url": f"{public_url}/carriers/{settings.name}/reports" if public_url else "",
    }
    said = f"{options.submit_url} {template.submit.body} {template.submit.headers}"
    authorization = _authorization(options, uses_basic="{password}" not in said, mask=mask)
    submit = Submit(template.submit, options.submit_url, authorization, named, place=place)
    if submit.origin.scheme == "http" and not options.allow_plaintext and not is_this_machine(submit.origin.host):
        raise BadSetting(f"[{place}] submit_url: is not https; allow_plaintext allows it")
    webhooks = template.webhooks
    secret = options.secret
    if not secret and webhooks.check in SECRET_BY_PASSWORD and public_url:
        secret = options.password
    check = make_check(
        webhooks.check, secret=secret, user=options.secret_user, header=webhooks.header,
        encoding=webhooks.encoding, public_url=public_url, place=place,
    )  # fmt: skip
    signs_body_alone = webhooks.check in SIGN_BODY_ALONE
    reports = ReportReader(template.reports, template.errors, place=place, signs_body_alone=signs_body_alone)
    answers = Answers(template.answer, template.errors, place=place)
    return Compiled(submit, answers, reports, Webhooks(check, reports), options, webhooks.check, bool(secret))


def sample_request(settings: CarrierSettings, *, public_url: str, now_ms: int) -> tuple[Origin, Rendered]:
    """Make the request a sample message would be handed over with, its secrets masked. Raises BadSetting."""
    submit = compile_carrier(settings, public_url=public_url, mask=True).submit
    return submit.origin, submit.render(SAMPLE, now_ms)


def _authorization(options: HttpOptions, *, uses_basic: bool, mask: bool) -> str:
    """The header, "" for none: as set, else HTTP Basic, unless the template says the password itself."""
    if options.authorization:
        scheme, blank, _ = options.authorization.partition(" ")
        return f"{scheme} {MASK}" if mask and blank else MASK if mask else options.authorization
    if not uses_basic or not (options.username or options.password):
        return ""
    if mask:
        return f"Basic {MASK}"
    return "Basic " + b64encode(f"{options.username}:{options.password}".encode()).decode()


class HttpCarrier:
    """The carrier; keeps up to `places` connections."""

    def __init__(
        self,
        settings: CarrierSettings,
        *,
        clock: Clock,
        answer_ms_max: int,
        public_url: str = "",
        look_up: LookUp | None = None,
    ) -> None:
        compiled = compile_carrier(settings, public_url=public_url)
        options, origin = compiled.options, compiled.submit.origin
        self.name = settings.name
        self.places = settings.places
        self.webhooks: WebhookReader = compiled.webhooks
        self._submit, self._answers = compiled.submit, compiled.answers
        self._clock = clock
        endpoint = Endpoint(origin.host, origin.port, _tls_of(origin, options.ca_file))
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
        request = self._submit.render(outbound, self._clock.now_ms())
        connection = await self._pool.get()
        if not go():  # no await between here and the write
            self._pool.put_back(connection)
            raise NotSent
        try:
            answer = await connection.write(request.target, request.headers, request.body, method=request.method)
        except BaseException:
            connection.close()
            raise
        self._pool.put_back(connection)
        return self._read(answer)

    def _read(self, answer: Answer) -> str:
        if answer.headers.get(b"content-encoding", b"identity") != b"identity":
            raise SendFailed(GARBLED, "compressed unasked")
        retry_after = answer.headers.get(b"retry-after", b"").decode("latin-1")
        return self._answers.read(answer.status, retry_after, answer.body, now_ms=self._clock.now_ms())


def _tls_of(origin: Origin, ca_file: str) -> ssl.SSLContext | None:
    """Verifying, always: there is no setting that trusts everybody."""
    if origin.scheme == "http":
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
