"""How webhooks prove who sent them: the right one passes, and not one bit may be another."""

from __future__ import annotations

import hmac
import string
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.carriers.carrier import Proof, Webhook
from gateway.carriers.checks import AGE_MS_MAX, BasicCheck, SecretCheck, TwilioCheck
from gateway.fields import BadSetting
from gateway.signatures import sign_v2, sign_v3
from tests.fakes.templates import PRESETS, PUBLIC_URL, TELNYX_KEY, compiled

NOW_MS = 1_767_225_600_000
TARGET = "/carriers/one/reports?reference=019b76da-a800-7000-8000-000000000001"
FORM_TYPE = "application/x-www-form-urlencoded"
FIELDS = [("MessageUUID", "db3c-1"), ("Status", "delivered"), ("Note", "a b+c é")]
FORM = urlencode(FIELDS).encode()
JSON = b'{"id": "abc-1", "status": "delivered"}'
NONCE = "05429567804466091622"


def webhook(body: bytes, headers: Mapping[str, str], *, target: str = TARGET, kind: str = FORM_TYPE) -> Webhook:
    return Webhook(target, CIMultiDict({"Content-Type": kind, **headers}), body)


def twilio_signature(target: str, fields: list[tuple[str, str]], *, token: str = "twilio-token") -> str:
    text = PUBLIC_URL + target + "".join(name + value for name, value in sorted(fields))
    return b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


def test_another_spelling_of_telnyxs_signature_is_the_same_signature() -> None:
    headers = telnyx_headers(JSON)
    written = headers["telnyx-signature-ed25519"]
    place = ALPHABET.index(written[-3])  # of its six bits the last four say nothing
    other = written[:-3] + ALPHABET[place ^ 1] + "=="
    nonces = {
        nonce_of("telnyx", webhook(JSON, {**headers, "telnyx-signature-ed25519": each}, kind="application/json"))
        for each in (written, other)
    }
    assert len(nonces) == 1
    assert None not in nonces


def telnyx_headers(body: bytes, *, at_ms: int = NOW_MS, key: Ed25519PrivateKey = TELNYX_KEY) -> dict[str, str]:
    timestamp = str(at_ms // 1_000)
    signature = b64encode(key.sign(f"{timestamp}|".encode() + body)).decode()
    return {"telnyx-timestamp": timestamp, "telnyx-signature-ed25519": signature}


def right(preset: str) -> Webhook:
    """What this carrier itself would post."""
    if preset == "plivo":
        signature = sign_v3("POST", PUBLIC_URL + TARGET, NONCE, "plivo-token", FIELDS)
        return webhook(FORM, {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": NONCE})
    if preset == "twilio":
        return webhook(FORM, {"X-Twilio-Signature": twilio_signature(TARGET, FIELDS)})
    if preset == "telnyx":
        return webhook(JSON, telnyx_headers(JSON), kind="application/json")
    if preset == "bandwidth":
        given = b64encode(b"sendpool:s3cret").decode()
        return webhook(JSON, {"Authorization": f"Basic {given}"}, kind="application/json")
    return webhook(JSON, {"Authorization": "Bearer s3cret"}, kind="application/json")


def nonce_of(preset: str, posted: Webhook, **options: object) -> str | None:
    return compiled(preset, **options).webhooks.authenticate(posted, now_ms=NOW_MS)


ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
SIGNING = ("plivo", "twilio", "telnyx")


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_carrier_posts_is_taken(preset: str) -> None:
    nonce = nonce_of(preset, right(preset))
    assert nonce is not None
    assert bool(nonce) is (preset in SIGNING), "what is signed is single"


@pytest.mark.parametrize("preset", PRESETS)
def test_without_proof_nothing_is_taken(preset: str) -> None:
    posted = right(preset)
    bare = CIMultiDict({"Content-Type": posted.headers["Content-Type"]})
    assert nonce_of(preset, posted._replace(headers=bare)) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_another_carriers_proof_opens_nothing(preset: str) -> None:
    for other in PRESETS:
        if other != preset:
            assert nonce_of(preset, right(other)) is None


@pytest.mark.parametrize("preset", SIGNING)
def test_one_changed_byte_of_the_body_is_forged(preset: str) -> None:
    posted = right(preset)
    for place in range(len(posted.body)):
        body = bytearray(posted.body)
        body[place] ^= 1
        changed = bytes(body)
        if changed.replace(b"+", b"%20") != posted.body.replace(b"+", b"%20"):
            assert nonce_of(preset, posted._replace(body=changed)) is None, changed
    assert nonce_of(preset, posted._replace(body=b"")) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_one_changed_character_of_the_proof_is_forged(preset: str) -> None:
    posted = right(preset)
    for name, value in posted.headers.items():
        if name == "Content-Type":
            continue
        for place in range(len(value)):
            changed = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
            headers = CIMultiDict({**posted.headers, name: changed})
            if name == "Authorization" and place < 7:
                continue  # the scheme is compared without regard to case
            assert nonce_of(preset, posted._replace(headers=headers)) is None, (name, place)


@pytest.mark.parametrize("preset", ["plivo", "twilio"])
def test_the_address_is_signed_as_configured_whatever_the_host_header_says(preset: str) -> None:
    posted = right(preset)
    lying = CIMultiDict({**posted.headers, "Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert nonce_of(preset, posted._replace(headers=lying)) is not None
    for target in (TARGET + "x", TARGET.replace("one", "two"), TARGET.partition("?")[0]):
        assert nonce_of(preset, posted._replace(target=target)) is None


@pytest.mark.parametrize("preset", ["plivo", "twilio"])
def test_a_signed_form_cannot_be_swapped_for_what_is_not_signed(preset: str) -> None:
    """A body of another kind holds no parameters, so a signature over none would cover it."""
    if preset == "plivo":
        signature = sign_v3("POST", PUBLIC_URL + TARGET, NONCE, "plivo-token", [])
        headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": NONCE}
    else:
        headers = {"X-Twilio-Signature": twilio_signature(TARGET, [])}
    assert nonce_of(preset, webhook(b"", headers)) is not None
    for kind in ("application/json", "", "text/plain"):
        assert nonce_of(preset, webhook(JSON, headers, kind=kind)) is None


def test_plivos_documented_example_of_v3() -> None:
    """The vector was made with Plivo's own Python SDK."""
    fields = {
        "From": "14155551111", "To": "14155550000", "Text": "Hello world & co = 100%", "Type": "sms",
        "MessageUUID": "5b40a428-bfc7-4daf-9d06-726c558bf3b8", "Units": "1",
        "PowerpackUUID": "86bbb125-97bb-4d72-89fd-81d5c515b015", "MessageIntent": "",
    }  # fmt: skip
    signature = "IUDG1pn0xPBNFtPAu37h5PkTfV7vX0LnardnXmbdwn8="
    headers = {"X-Plivo-Signature-V3": f"other, {signature}", "X-Plivo-Signature-V3-Nonce": NONCE}
    posted = webhook(urlencode(fields).encode(), headers, target="/sms/?b=2&a=1")
    given = {"public_url": "https://example.com", "password": "my_auth_token"}
    assert nonce_of("plivo", posted, **given) is not None


def test_twilios_documented_example() -> None:
    fields = {
        "CallSid": "CA1234567890ABCDE", "Caller": "+14158675309", "Digits": "1234", "From": "+14158675309",
        "To": "+18005551212",
    }  # fmt: skip
    headers = {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}
    posted = webhook(urlencode(fields).encode(), headers, target="/myapp.php?foo=1&bar=2")
    for url in ("https://mycompany.com", "https://mycompany.com:443", "https://mycompany.com:8443"):
        assert TwilioCheck("12345", url).nonce_of(posted, now_ms=NOW_MS) is not None, url
    assert TwilioCheck("12345", "http://mycompany.com").nonce_of(posted, now_ms=NOW_MS) is None


@pytest.mark.parametrize(("off_ms", "is_taken"), [(0, True), (AGE_MS_MAX, True), (AGE_MS_MAX + 1_000, False)])
def test_telnyxs_time_must_be_about_ours(off_ms: int, is_taken: bool) -> None:
    for at_ms in (NOW_MS - off_ms, NOW_MS + off_ms):
        posted = webhook(JSON, telnyx_headers(JSON, at_ms=at_ms), kind="application/json")
        assert (nonce_of("telnyx", posted) is not None) is is_taken


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1e9", "１７６７", "9" * 13])
def test_a_time_that_is_none_is_no_proof(timestamp: str) -> None:
    signature = b64encode(TELNYX_KEY.sign(f"{timestamp}|".encode() + JSON)).decode()
    headers = {"telnyx-timestamp": timestamp, "telnyx-signature-ed25519": signature}
    assert nonce_of("telnyx", webhook(JSON, headers, kind="application/json")) is None


def test_another_key_is_no_proof() -> None:
    headers = telnyx_headers(JSON, key=Ed25519PrivateKey.generate())
    assert nonce_of("telnyx", webhook(JSON, headers, kind="application/json")) is None


def test_plivos_v2_signs_the_address_alone_so_its_nonce_is_single() -> None:
    signature = sign_v2(PUBLIC_URL + TARGET, NONCE, "plivo-token")
    headers = {"X-Plivo-Signature-V2": signature, "X-Plivo-Signature-V2-Nonce": NONCE}
    assert nonce_of("plivo", webhook(FORM, headers)) is None, "only where it is asked for"
    given = {"webhooks": {"check": "plivo_v2"}}
    assert nonce_of("plivo", webhook(FORM, headers), **given) == NONCE
    assert nonce_of("plivo", webhook(FORM, {**headers, "X-Plivo-Signature-V2-Nonce": "1"}), **given) is None


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_a_carrier_of_ones_own_may_sign_the_body(encoding: str, prefix: str) -> None:
    digest = hmac.digest(b"s3cret", JSON, "sha256")
    signature = prefix + (digest.hex() if encoding == "hex" else b64encode(digest).decode())
    given = {"webhooks": {"check": "hmac_sha256", "header": "X-Signed", "encoding": encoding}}
    assert nonce_of("json", webhook(JSON, {"X-Signed": signature}), **given)
    assert nonce_of("json", webhook(JSON + b" ", {"X-Signed": signature}), **given) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_without_a_secret_nothing_is_taken_not_even_what_is_signed_with_none(preset: str) -> None:
    made = compiled(preset, public_url="", secret="", secret_user="").webhooks
    empty = {
        "Authorization": "Bearer ",
        "X-Sendpool-Secret": "",
        "X-Twilio-Signature": b64encode(hmac.digest(b"", TARGET.encode(), "sha1")).decode(),
        "X-Plivo-Signature-V3": sign_v3("POST", TARGET, NONCE, "", []),
        "X-Plivo-Signature-V3-Nonce": NONCE,
    }
    assert made.authenticate(webhook(b"", empty), now_ms=NOW_MS) is None
    assert made.authenticate(right(preset), now_ms=NOW_MS) is None
    assert made.authenticate(webhook(b"", {"Authorization": "Basic Og=="}), now_ms=NOW_MS) is None


@given(
    preset=st.sampled_from(PRESETS),
    headers=st.dictionaries(
        st.sampled_from([
            "Authorization", "X-Sendpool-Secret", "X-Twilio-Signature", "X-Plivo-Signature-V3", "telnyx-timestamp",
            "X-Plivo-Signature-V3-Nonce", "telnyx-signature-ed25519", "Content-Type",
        ]),
        st.text(max_size=20),
    ),
    body=st.binary(max_size=30),
    target=st.text(max_size=20),
)  # fmt: skip
def test_whatever_strangers_post_is_refused_quietly(
    preset: str, headers: dict[str, str], body: bytes, target: str
) -> None:
    assert ALL[preset].authenticate(Webhook(target, CIMultiDict(headers), body), now_ms=NOW_MS) is None


ALL = {preset: compiled(preset).webhooks for preset in PRESETS}
ODD = ("[", "/[", "//[", "http://[::1", "\udce9", "/\udce9?a=\udce9", "*", "", "/%00", "/?a[=1&a]=2")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("odd", ODD)
def test_odd_addresses_and_headers_prove_nothing_and_raise_nothing(preset: str, odd: str) -> None:
    headers = {name: odd for name in right(preset).headers if name != "Content-Type"}
    for posted in (right(preset)._replace(target=odd), webhook(FORM, {**headers, "X-Other": odd}, target=odd)):
        taken = ALL[preset].authenticate(posted, now_ms=NOW_MS)
        assert (taken is not None) is (posted.headers == right(preset).headers and preset not in ("plivo", "twilio"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_stream_is_admitted_by_its_head_or_not_at_all(preset: str) -> None:
    assert (ALL[preset].weigh(right(preset).headers) is Proof.GIVEN) is (preset not in SIGNING)
    assert ALL[preset].weigh(CIMultiDict({"Authorization": "Bearer s3cre"})) is Proof.NONE


@pytest.mark.parametrize(
    ("headers", "matches"),
    [
        ({"Authorization": "Bearer s3cret"}, True),
        ({"Authorization": "bearer  s3cret "}, True),
        ({"X-Sendpool-Secret": "s3cret"}, True),
        ({"X-Sendpool-Secret": "s3cret", "Authorization": "Bearer other"}, True),
        ({"X-Sendpool-Secret": "other", "Authorization": "Bearer s3cret"}, False),
        ({"Authorization": "Basic s3cret"}, False),
        ({"Authorization": "s3cret"}, False),
        ({"X-Sendpool-Secret": "s3cre"}, False),
        ({"X-Sendpool-Secret": "s3cret\u00e9\udce9"}, False),
        ({}, False),
    ],
)
def test_a_webhooks_secret_must_be_the_carriers(headers: dict[str, str], matches: bool) -> None:
    assert SecretCheck("s3cret").weigh(CIMultiDict(headers)) is (Proof.GIVEN if matches else Proof.NONE)


@pytest.mark.parametrize("headers", [{}, {"X-Sendpool-Secret": ""}, {"Authorization": "Bearer "}])
def test_without_a_secret_no_webhook_is_taken(headers: dict[str, str]) -> None:
    assert SecretCheck("").weigh(CIMultiDict(headers)) is Proof.NONE


def test_basic_proves_it_in_the_head() -> None:
    check = BasicCheck("us", "s3cret")
    assert check.weigh(CIMultiDict({"Authorization": "Basic dXM6czNjcmV0"})) is Proof.GIVEN
    assert check.weigh(CIMultiDict({"Authorization": "Basic dXM6czNjcmU="})) is Proof.NONE


@pytest.mark.parametrize(
    ("preset", "options", "complaint"),
    [
        ("twilio", {"public_url": "", "secret": "token"}, "set public_url"),
        ("plivo", {"public_url": "", "secret": "token"}, "set public_url"),
        ("telnyx", {"secret": "no key"}, r"\[carriers.one\] secret: must be the public key"),
        ("telnyx", {"secret": "AAAA"}, r"secret: must be the public key"),
        ("bandwidth", {"secret_user": ""}, "secret_user: must be set"),
        ("json", {"webhooks": {"check": "trust"}}, "hmac_sha256"),
    ],
)
def test_what_a_check_lacks_is_named_at_start(preset: str, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        compiled(preset, **options)
