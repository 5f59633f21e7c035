"""Forms as the JSON they stand for."""

from __future__ import annotations

from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.errors import ApiError
from gateway.api.forms import STRUCTURED, form_as_json

TEXTS = st.text(st.characters(codec="utf-8"))
NAMES = TEXTS.filter(lambda name: name not in STRUCTURED)


@given(st.dictionaries(NAMES, TEXTS, max_size=20))
def test_every_name_and_value_comes_out_as_it_went_in(values: dict[str, str]) -> None:
    read = form_as_json(urlencode(values).encode())
    assert (orjson.loads(read) if read else {}) == values


@given(st.binary(max_size=60))
def test_whatever_comes_is_json_then_or_an_error_of_the_callers(body: bytes) -> None:
    try:
        read = form_as_json(body)
    except ApiError:
        return
    assert read == body or isinstance(orjson.loads(read), dict)


@pytest.mark.parametrize("body", [b"", b" \n", b'""', b'{"a":1}', b' {"a":1}\n', b"[1]"])
def test_what_is_json_or_nothing_stays(body: bytes) -> None:
    assert form_as_json(body) == body


def test_lists_and_objects_are_written_as_json() -> None:
    assert orjson.loads(form_as_json(b"number_priority=%5B1%5D&messages=&a=%5B1%5D")) == {
        "number_priority": [1], "messages": None, "a": "[1]",
    }  # fmt: skip
    with pytest.raises(ApiError, match="messages in the form"):
        form_as_json(b"messages=%5B1")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"a=1&b=2&a=3", "'a' is given more than once"),
        (b"%C3%A4=1&%C3%A4=1", r"'\\xe4' is given more than once"),
        (b"a=%ff", "UTF-8"),
        (b"a=\xff", "UTF-8"),
        (b"&".join(b"%d=" % place for place in range(101)), "more than 100 values"),
    ],
)
def test_what_is_no_form_is_named(body: bytes, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        form_as_json(body)
