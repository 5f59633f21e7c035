"""The page of settings is the one the fields give."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gateway.carriers.kinds import OPTIONS
from gateway.manual import settings_page
from gateway.settings import SECTIONS

PAGE = Path(__file__).resolve().parents[3] / "docs/settings.md"


def test_the_page_in_the_repository_is_current() -> None:
    assert PAGE.read_text("utf-8") == settings_page(), "write it again: sendpool settings > docs/settings.md"


def test_every_setting_and_every_option_of_a_carrier_stands_on_it() -> None:
    page = settings_page()
    for part in [*SECTIONS.values(), *OPTIONS.values()]:
        for field in dataclasses.fields(part):
            assert f"| `{field.name}` | " in page
            assert field.metadata["why"] in page
