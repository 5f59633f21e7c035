"""How a webhook proves that it comes from its carrier: one small class per scheme, all compared in constant time.

Schemes that sign the address use the configured `public_url`: the Host header is whatever somebody sends. Those that
sign a form look at a form only, so that nothing else can be slipped in beside a valid signature. Facts are cited where
they are used.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.carriers.carrier import BadReports, Proof, Webhook
from gateway.carriers.readings import read_form
from gateway.fields import BadSetting
from gateway.signatures import sign_v2, sign_v3

AGE_MS_MAX: Final = 300_000
"""How old a signed time may be, or ahead of ours: Telnyx's own SDKs allow five minutes."""

FORM: Final = "application/x-www-form-urlencoded"


class Check(Protocol):
    """One way to prove it; without a secret nothing is ever authentic."""

    def nonce_of(self, webhook: Webhook, *, now_ms: int) -> str | None:
        """None: not from the carrier. Else what makes this webhook single, "" where nothing does."""

    def weigh(self, headers: Mapping[str, str]) -> Proof:
        """What the head alone proves."""

    @property
    def credential(self) -> str:
        """What proves it, in a form that can be compared with another check's; "": what it proves names the carrier."""


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


class SecretCheck:
    """`Authorization: Bearer <secret>` or `X-Sendpool-Secret: <secret>`."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def nonce_of(self, webhook: Webhook, *, now_ms: int) -> str | None:
        return "" if self.weigh(webhook.headers) is Proof.GIVEN else None

    def weigh(self, headers: Mapping[str, str]) -> Proof:
        given = headers.get("X-Sendpool-Secret", "")
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = given or token.strip()
        return Proof.GIVEN if _equal(given, self._secret) and self._secret else Proof.NONE

    @property
    def credential(self) -> str:
        return f"secret {self._secret}" if self._secret else ""


class BasicCheck:
    """HTTP Basic with a name and a password of ours, set at the carrier."""

    def __init__(self, user: str, secret: str) -> None:
        self._expected = b64encode(f"{user}:{secret}".encode()).decode()
        self._is_set = bool(secret)

    def nonce_of(self, webhook: Webhook, *, now_ms: int) -> str | None:
        return "" if self.weigh(webhook.headers) is Proof.GIVEN else None

    def weigh(self, headers: Mapping[str, str]) -> Proof:
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        matches = _equal(given.strip(), self._expected)
        return Proof.GIVEN if matches and scheme.lower() == "basic" and self._is_set else Proof.NONE

    @property
    def credential(self) -> str:
        return f"basic {self._expected}" if self._is_set else ""


class _OfBody:
    """What the schemes that sign a body share: their signature stands in a header, and there is no proof without."""

    _signature: str  # that header
    credential = ""

    def weigh(self, headers: Mapping[str, str]) -> Proof:
        return Proof.LATER if headers.get(self._signature) else Proof.NONE


class HmacCheck(_OfBody):
    """HMAC-SHA256 of the body in a header, as many carriers do it; a prefix such as `sha256=` is passed over."""

    def __init__(self, secret: str, *, header: str, encoding: str) -> None:
        self._secret, self._signature, self._is_hex = secret, header, encoding == "hex"
        self.credential = f"hmac {secret}" if secret else ""

    def nonce_of(self, webhook: Webhook, *, now_ms: int) -> str | None:
        digest = hmac.digest(self._secret.encode(), webhook.body, "sha256")
        expected = digest.hex() if self._is_hex else b64encode(digest).decode()
        given = webhook.headers.get(self._signature, "").strip().removeprefix("sha256=")
        matches = _equal(given.lower() if self._is_hex else given, expected)
        return expected if matches and self._secret else None


class PlivoCheck(_OfBody):
    """Plivo's V3: HMAC-SHA256 over the address, the form and a nonce. The header may hold several, by comma.

    V2, which signs neither query nor form, is `plivo_v2`: whoever sees one nonce could send another form with it, so a
    nonce is bound to its form as long as gateway/api/replays.py remembers it, and V3 is to be preferred.
    """

    def __init__(self, secret: str, public_url: str, *, version: int) -> None:
        self._secret, self._public_url, self._is_v3 = secret, public_url, version == 3
        self._signature = f"X-Plivo-Signature-V{version}"

    def nonce_of(self, webhook: Webhook, *, now_ms: int) -> str | None:
        nonce = webhook.headers.get(f"{self._signature}-Nonce", "")
        url = self._public_url + webhook.target
        params = _form_of(webhook)
        try:
            if self._is_v3:
                expected = sign_v3("POST", url, nonce, self._secret, params or [])
            else:
                expected = sign_v2(url, nonce, self._secret)
        except ValueError:  # half an IPv6 address: nobody signed that
            return None
        matches = False
        for given in webhook.headers.get(self._signature, "").split(",")[:8]:
            matches |= _equal(given.strip(), expected)
        if not matches or not self._secret or not nonce or params is None:
            return None
        return f"{nonce}.{expected}" if self._is_v3 else nonce


class TwilioCheck(_OfBody):
    """X-Twilio-Signature: HMAC-SHA1, base64, over the whole URL and then each name and value of the form, sorted.

    https://www.twilio.com/docs/usage/security. Their own validators accept the URL with its port and without.
    """

    def __init__(self, secret: str, public_url: str) -> None:
        self._secret, self._signature = secret, "X-Twilio-Signature"
        self._ways = [public_url, *_other_port(public_url)]

    def nonce_of(self, webhook: Webhook, *, now_ms: int) -> str | None:
        given = webhook.headers.get(self._signature, "").strip()
        params = _form_of(webhook)
        said = "".join(f"{name}{value}" for name, value in sorted(set(params or [])))
        matches = False
        for way in self._ways:
            text = f"{way}{webhook.target}{said}"
            digest = hmac.digest(self._secret.encode(), text.encode("utf-8", "replace"), "sha1")
            matches |= _equal(given, b64encode(digest).decode())
        return given if matches and self._secret and params is not None else None


class TelnyxCheck(_OfBody):
    """telnyx-signature-ed25519 over `timestamp|body`, by the public key of the account.

    https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks. The time is in seconds, and may be five
    minutes off.
    """

    def __init__(self, public_key: str, place: str) -> None:
        self._signature = "telnyx-signature-ed25519"
        self.credential = f"ed25519 {public_key}" if public_key else ""
        self._key: Ed25519PublicKey | None = None
        if public_key:
            try:
                self._key = Ed25519PublicKey.from_public_bytes(b64decode(public_key, validate=True))
            except ValueError as error:
                raise BadSetting(f"[{place}] secret: must be the public key of the account, in base64") from error

    def nonce_of(self, webhook: Webhook, *, now_ms: int) -> str | None:
        timestamp = webhook.headers.get("telnyx-timestamp", "")
        given = webhook.headers.get(self._signature, "")
        if self._key is None or not re.fullmatch(r"[0-9]{1,12}", timestamp):
            return None
        try:
            signature = b64decode(given, validate=True)
            self._key.verify(signature, f"{timestamp}|".encode() + webhook.body)
        except (InvalidSignature, Base64Error, ValueError):
            return None
        # Not as it was written: base64 knows several spellings of the same bytes.
        return signature.hex() if abs(now_ms - int(timestamp) * 1_000) <= AGE_MS_MAX else None


def make_check(
    scheme: str, *, secret: str, user: str, header: str, encoding: str, public_url: str, place: str
) -> Check:
    """Make the check a template names. Raises BadSetting where it lacks something."""
    signs_address = scheme in ("plivo", "plivo_v2", "twilio")
    if signs_address and secret and not public_url:
        raise BadSetting(
            f"[{place}.webhooks] check: {scheme!r} signs the address it posts to; set public_url in [server]"
        )
    if scheme == "basic" and secret and not user:
        raise BadSetting(f"[{place}] secret_user: must be set for webhooks with check = 'basic'")
    if scheme == "basic":
        return BasicCheck(user, secret)
    if scheme == "hmac_sha256":
        return HmacCheck(secret, header=header, encoding=encoding)
    if scheme == "telnyx":
        return TelnyxCheck(secret, place)
    if scheme == "twilio":
        return TwilioCheck(secret, public_url)
    if signs_address:
        return PlivoCheck(secret, public_url, version=3 if scheme == "plivo" else 2)
    return SecretCheck(secret)


def _form_of(webhook: Webhook) -> list[tuple[str, str]] | None:
    """The form that is signed; None where the body is none."""
    if webhook.headers.get("Content-Type", "").partition(";")[0].strip().lower() != FORM:
        return None
    try:
        return read_form(webhook.body)
    except BadReports:
        return None


def _other_port(url: str) -> list[str]:
    split = urlsplit(url)
    if split.port is not None:
        return [f"{split.scheme}://{split.netloc.rpartition(':')[0]}"]
    return [f"{url}:{443 if split.scheme == 'https' else 80}"]
