from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.carrier import SAMPLE
from gateway.carriers.placeholders import Fill, Placeholders, fills_of_messages
from gateway.fields import BadSetting

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
FILLS = fills_of_messages(5, 10_000)
PARTS = Placeholders({"account": "AC1", "application": "", "report_url": "https://us.example"}, FILLS)


def fill(value: object, text: str = "Hello") -> object:
    made = PARTS.compile(value, "here")
    assert made is not None
    return made(SAMPLE._replace(text=text), NOW_MS)


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{to}", "+14155550123"),
        ("{from_digits}>{to_digits}", "14155550100>14155550123"),
        ("{attempt}", 1),
        ("{validity_s}", 10_000),
        ("{validity_s} s", "10000 s"),
        ("{expires_at}", "2026-01-01T02:46:40Z"),
        ("{account}/{reference}", f"AC1/{SAMPLE.message_id}"),
        ("{{to}}", "{to}"),
        ("}}{{{to}}}", "}{+14155550123}"),
        (["{to}", 1, True, {"n": ["{segments}"]}], ["+14155550123", 1, True, {"n": [1]}]),
        ({"a": "{application}", "b": "x{application}", "c": "{account}"}, {"c": "AC1"}),
        (["{application}", "{account}"], ["AC1"]),
    ],
)
def test_a_template_is_filled_in(template: object, filled: object) -> None:
    assert fill(template) == filled


@given(st.text())
def test_what_a_message_holds_is_never_taken_for_a_template(text: str) -> None:
    assert fill({"text": "{text}", "more": "<{text}>"}, text) == {"text": text, "more": f"<{text}>"}


@given(st.text(alphabet="{}abot_ to"))
def test_any_text_is_a_template_or_named_as_none(text: str) -> None:
    complaint = ""
    made: str | Fill | None = ""
    try:
        made = PARTS.compile_text(text, "here")
    except BadSetting as error:
        complaint = str(error)
    assert not complaint or complaint.startswith("here: ")
    assert made is None or isinstance(made, str) or made(SAMPLE, NOW_MS) is not None


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{too}", r"here: there is no placeholder {too}; is it 'to'"),
        ("{", "here: a brace stands alone"),
        ("{}", "here: there is no placeholder {}"),
        ("{TO}", "stands alone"),
        ("{to.real}", "stands alone"),
        ({"a": {"b": ["x", "{x}"]}}, r"here.a.b.1: there is no placeholder"),
        ({"a": None}, "here.a: must be"),
        (date(2026, 1, 1), "here: must be"),
    ],
)
def test_what_is_no_template_is_named_with_its_place(template: object, complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        PARTS.compile(template, "here")


def test_a_table_that_holds_itself_is_refused() -> None:
    table: dict[str, object] = {}
    table["again"] = table
    with pytest.raises(BadSetting, match="too deeply"):
        PARTS.compile(table, "here")


def test_what_is_filled_in_is_encoded_and_the_template_is_not() -> None:
    made = PARTS.compile_text("a b/{text}/{account}", "here", encode=lambda text: text.replace("/", "%2F"))
    assert not isinstance(made, str)
    assert made is not None
    assert made(SAMPLE._replace(text="x/y"), NOW_MS) == "a b/x%2Fy/AC1"


def test_the_validity_stays_within_what_the_carrier_takes() -> None:
    validity: Fill = FILLS["validity_s"]
    assert [validity(SAMPLE._replace(remaining_ms=ms), 0) for ms in (20, 6_999, 99_999_999)] == [5, 6, 10_000]
