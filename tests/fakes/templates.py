"""Carriers of each preset as an administrator would write them, compiled."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.carriers.http import Compiled, compile_carrier
from gateway.settings import CarrierSettings
from resolver.model import CarrierName

PUBLIC_URL = "https://sms.example.com"
TELNYX_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TELNYX_PUBLIC = b64encode(TELNYX_KEY.public_key().public_bytes_raw()).decode()

MINIMAL: Mapping[str, Mapping[str, object]] = {
    "json": {"submit_url": "https://carrier.example/", "secret": "s3cret"},
    "plivo": {"username": "MAXXXXXXXXXXXXXXXXXX", "password": "plivo-token"},
    "twilio": {"username": "AC00000000000000000000000000000001", "password": "twilio-token"},
    "telnyx": {"authorization": "Bearer telnyx-key", "secret": TELNYX_PUBLIC},
    "bandwidth": {
        "account": "5500000", "application": "93de2206-9669-4e07-948d-329f4b722ee2", "username": "api",
        "password": "bandwidth-password", "secret_user": "sendpool", "secret": "s3cret",
    },
}  # fmt: skip
"""The least each preset needs to send and to take reports."""

PRESETS = tuple(MINIMAL)


def settings_of(preset: str, **options: object) -> CarrierSettings:
    given = {"preset": preset, **MINIMAL.get(preset, {}), **options}
    return CarrierSettings(name=CarrierName("one"), kind="http", places=5, options=given)


def compiled(preset: str = "json", **options: object) -> Compiled:
    """The carrier of a preset with these options; `public_url` is the server's."""
    public_url = str(options.pop("public_url", PUBLIC_URL))
    return compile_carrier(settings_of(str(options.pop("preset", preset)), **options), public_url=public_url)
