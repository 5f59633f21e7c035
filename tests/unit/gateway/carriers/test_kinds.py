"""Which carriers take each other's webhooks, by every way in which one is proved."""

from __future__ import annotations

import pytest

from gateway.carriers.kinds import find_shared
from resolver.model import CarrierName
from tests.fakes.templates import compiled

ONE, TWO, THREE = (CarrierName(name) for name in ("one", "two", "three"))
HMAC = {"check": "hmac_sha256"}


def shared(*carriers: dict[str, object]) -> list[str]:
    readers = {name: compiled(**each).webhooks for name, each in zip((ONE, TWO, THREE), carriers, strict=False)}  # type: ignore[arg-type]
    return list(find_shared(readers))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"preset": "json"}, {"preset": "json"}),
        ({"preset": "bandwidth"}, {"preset": "bandwidth"}),
        ({"preset": "telnyx"}, {"preset": "telnyx"}),
        # whoever sees a signature may put it into the other header
        ({"webhooks": HMAC}, {"webhooks": {**HMAC, "header": "X-Other", "encoding": "base64"}}),
    ],
)
def test_carriers_with_one_credential_are_named(first: dict[str, object], second: dict[str, object]) -> None:
    (said,) = shared(first, second)
    assert said.startswith("one and two take each other's webhooks")


def test_all_that_share_are_named_together() -> None:
    (said,) = shared({}, {}, {})
    assert said.startswith("one, two and three take")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"preset": "json"}, {"preset": "json", "secret": "another"}),
        ({"preset": "json"}, {"webhooks": HMAC}),
        ({"preset": "json", "secret": ""}, {"preset": "json", "secret": ""}),
        ({"preset": "twilio"}, {"preset": "twilio"}),  # what is signed names the carrier
        ({"preset": "plivo"}, {"preset": "plivo"}),
        ({"preset": "telnyx", "secret": ""}, {"preset": "telnyx", "secret": ""}),
    ],
)
def test_others_are_not(first: dict[str, object], second: dict[str, object]) -> None:
    assert shared(first, second) == []
