from __future__ import annotations

import dataclasses

import pytest

from gateway import rehearsals
from gateway.fields import BadSetting
from gateway.settings import CarrierSettings, ServerSettings, Settings
from resolver.model import CarrierName
from tests.fakes.templates import PRESETS, PUBLIC_URL, settings_of

CARRIERS = {
    CarrierName(preset): dataclasses.replace(settings_of(preset), name=CarrierName(preset)) for preset in PRESETS
}
SETTINGS = Settings(
    server=ServerSettings(public_url=PUBLIC_URL),
    carriers={**CARRIERS, CarrierName("sim"): CarrierSettings(name=CarrierName("sim"))},
)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_request_is_shown_without_secrets(preset: str) -> None:
    shown = "\n".join(rehearsals.show_submit(SETTINGS, preset, now_ms=0))
    assert shown.startswith("POST https://")
    assert "Hello" in shown
    assert f"reports: taken at {PUBLIC_URL}/carriers/{preset}/reports" in shown
    for secret in ("s3cret", "plivo-token", "twilio-token", "telnyx-key", "bandwidth-password"):
        assert secret not in shown


def test_what_is_missing_is_said() -> None:
    bare = dataclasses.replace(settings_of("json", secret=""), name=CarrierName("bare"))
    shown = "\n".join(rehearsals.show_submit(Settings(carriers={CarrierName("bare"): bare}), "bare", now_ms=0))
    assert "public_url is not set" in shown
    assert "no secret is set" in shown


def test_an_answer_is_explained() -> None:
    def said(status: int, body: bytes) -> str:
        return rehearsals.read_sample_answer(SETTINGS, "twilio", status, body, now_ms=0)

    assert said(201, b'{"sid": "SM1"}') == "sent; the carrier's id is SM1"
    assert said(400, b'{"code": 21610}').startswith("opted_out (400 21610): The recipient has opted out.")
    assert "outcome is unknown" in said(200, b"<html>")
    assert said(503, b"").endswith("Tried again.")


def test_reports_are_explained() -> None:
    def said(preset: str, body: bytes) -> list[str]:
        return list(rehearsals.read_sample_reports(SETTINGS, preset, body))

    (line,) = said("twilio", b"MessageSid=SM1&MessageStatus=delivered")
    assert '"carrier_ref":"SM1"' in line
    assert '"kind":"delivered"' in line
    lines = said("bandwidth", b'[{"type":"message-received"},{"type":"?"}]')
    assert lines == [
        "report 1: refused: its status is unknown",
        "1 passed over: they say nothing about a message's end",
    ]
    assert said("json", b"{") == ["the body is no JSON"]


@pytest.mark.parametrize(
    ("name", "complaint"), [("twillio", "is it 'twilio'"), ("sim", "of kind 'simulated'"), ("x", "no carrier 'x'")]
)
def test_who_is_no_http_carrier_is_named(name: str, complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        list(rehearsals.show_submit(SETTINGS, name, now_ms=0))
