"""The table of codes, and the page that lists it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.api.errors import ERRORS, REFUSED_STATUS, api_error, invalid, missing
from resolver.model import STATE_REFUSALS, RefusalCode

PAGE = Path(__file__).resolve().parents[4] / "docs" / "refusals.md"


def listed() -> dict[str, int]:
    """The codes of the page's last table, with their statuses."""
    _, _, section = PAGE.read_text("utf-8").partition("## Codes of the API")
    return {code: int(status) for code, status in re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", section, re.MULTILINE)}


def test_the_page_lists_every_code_of_the_api_with_its_status_and_no_other() -> None:
    assert listed() == {code: kind.status for code, kind in ERRORS.items()}


def test_a_code_of_the_api_is_never_a_refusals_code() -> None:
    assert not set(ERRORS) & {code.value for code in RefusalCode}


def test_every_state_refusal_has_a_status() -> None:
    assert set(REFUSED_STATUS) == STATE_REFUSALS


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_has_a_text_and_our_trouble_says_when_to_try_again(code: str) -> None:
    kind = ERRORS[code]
    assert kind.text
    assert 400 <= kind.status < 600
    if kind.status in (429, 503):
        assert kind.retry_after_s > 0


def test_an_error_has_its_tables_text_unless_told_otherwise() -> None:
    assert api_error("not_found").message == "not found"
    assert api_error("not_found", "gone").message == "gone"
    assert api_error("overloaded").headers == {"Retry-After": "1"}
    assert api_error("overloaded", retry_at_ms=5).headers == {}


def test_parameters_are_named_in_the_text() -> None:
    assert missing("dst").message == "dst parameter is missing"
    assert invalid("limit", "must be 1").message == "limit must be 1"
