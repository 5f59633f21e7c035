"""docs/carriers.md says what is so: its settings can be used as they stand, its example talks as it is written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway.carriers.carrier import SAMPLE, SPAM, THROTTLED, Report, SendFailed
from gateway.carriers.checks import make_check
from gateway.carriers.http import Compiled, compile_carrier
from gateway.carriers.kinds import make_carrier
from gateway.carriers.placeholders import fills_of_messages
from gateway.carriers.presets import PRESETS
from gateway.carriers.template import TABLES, WORDS
from gateway.settings import CarrierSettings, Settings, read_settings
from resolver.model import CarrierName
from storage.records import FactKind
from tests.fakes.clock import HandClock
from tests.fakes.templates import PUBLIC_URL

PAGE = (Path(__file__).parents[4] / "docs" / "carriers.md").read_text("utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def settings_of(block: str, folder: Path) -> Settings:
    file = folder / "sendpool.toml"
    file.write_text(block, "utf-8")
    return read_settings(config=file, environ={})


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.findall(r"\[carriers\.(\w+)", block)[0])
def test_every_example_can_be_used_as_it_stands(block: str, tmp_path: Path) -> None:
    for carrier in settings_of(block, tmp_path).carriers.values():
        make_carrier(carrier, clock=HandClock(), answer_ms_max=10_000, public_url=PUBLIC_URL)


def example(name: str) -> Compiled:
    (block,) = [block for block in BLOCKS if f"[carriers.{name}]" in block and "preset" in block]
    tables: dict[str, Any] = tomllib.loads(block)["carriers"][name]
    options = {key: value for key, value in tables.items() if key not in ("kind", "segments_per_s")}
    settings = CarrierSettings(name=CarrierName(name), kind="http", options=options)
    return compile_carrier(settings, public_url=PUBLIC_URL)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_documented(preset: str) -> None:
    assert f'preset = "{preset}"' in PAGE
    assert preset == "own" or f'### `preset = "{preset}"`' in PAGE


def test_the_example_sends_as_it_is_written() -> None:
    made = example("acme")
    (head, body) = re.findall(r"```http\nPOST (/sms) HTTP/1.1\n.*?\n\n(user=.*?)\n", PAGE, re.DOTALL)[0]
    request = made.submit.render(SAMPLE._replace(text="Hello", remaining_ms=180_000), 0)
    assert request.target == head.encode()
    assert parse_qsl(request.body.decode()) == [
        (name, "the-key" if name == "key" else value) for name, value in parse_qsl(body, keep_blank_values=True)
    ]


def test_the_example_understands_what_it_is_answered() -> None:
    made = example("acme")
    taken, refused = re.findall(r'\{"result": \{.*?\}\}', PAGE)
    assert made.answers.read(200, "", taken.encode(), now_ms=0) == "2607"
    with pytest.raises(SendFailed) as failed:
        made.answers.read(200, "", refused.encode(), now_ms=0)
    assert failed.value.failure is SPAM
    with pytest.raises(SendFailed) as failed:
        made.answers.read(200, "", b'{"result": {"code": "1088"}}', now_ms=0)
    assert failed.value.failure is THROTTLED


def test_the_example_understands_what_it_is_told() -> None:
    (report,) = re.findall(r'\{"batch": \[.*?\]\}', PAGE)
    readings = example("acme").reports.read("application/json", {}, report.encode())
    assert readings.reports == [Report("2607", "", FactKind.DELIVERED, "000", 0)]


def test_every_table_placeholder_check_and_word_is_documented() -> None:
    for name in (*TABLES, "errors"):
        assert f"| `[carriers.acme.{name}]` |" in PAGE
    for name in (*fills_of_messages(1, 1), "account", "application", "username", "password", "report_url"):
        assert f"{{{name}}}" in PAGE
    for scheme in ("secret", "basic", "hmac_sha256", "plivo", "plivo_v2", "twilio", "telnyx"):
        assert f"`{scheme}`" in PAGE
        make_check(scheme, secret="", user="", header="X", encoding="hex", public_url="", place="carriers.one")
    assert all(f"`{word}`" in PAGE or f'"{word}"' in PAGE for word in WORDS)
