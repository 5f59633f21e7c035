"""What clients send: every spelling the SDKs have, and a stable code for everything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.bodies import (
    read_bool,
    read_choice,
    read_integer,
    read_object,
    read_text,
)
from gateway.api.errors import ApiError
from gateway.api.pages import Page, paged, read_page
from resolver.model import NumberType


@pytest.mark.parametrize("body", [b"", b'""', b' ""\n', b"\n", b"{}", b"{}\n"])
def test_what_sdks_send_for_nothing_is_an_empty_object(body: bytes) -> None:
    assert read_object(body) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"null", b"1", b'"x"', b"{'a': 1}", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1e999}',
        b"\xff", b'{"a": "\xff"}', b"\xef\xbb\xbf{}", b'{"a":' + b"[" * 100_000, b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        b"a=1&b=2", b'{"a": 1}{}', b'{"a": 01}',
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_400(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_object(body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")
    assert refused.value.message.startswith("invalid json data sent in raw POST: ")


@pytest.mark.parametrize("body", [rb'{"a": "\ud800"}', rb'{"a": "\uDC00x"}', rb'{"a": "x\uD83Dy"}'])
def test_half_a_surrogate_pair_is_named(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_object(body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_character")


def test_a_whole_surrogate_pair_is_an_emoji() -> None:
    assert read_object(rb'{"a": "\uD83D\uDE00"}') == {"a": "😀"}


def test_of_a_key_given_twice_the_last_counts() -> None:
    assert read_object(b'{"a": 1, "a": 2}') == {"a": 2}


@given(st.binary(max_size=200))
def test_no_bytes_whatever_get_past_reading_but_as_an_object_or_a_400(body: bytes) -> None:
    try:
        assert isinstance(read_object(body), dict)
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 - that it is read is as good


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_value_whatever_breaks_the_readers(value: object) -> None:
    try:
        values = read_object(json.dumps({"a": value}).encode())
        for read in (read_text, read_bool):
            read(values, "a")
        read_integer(values, "a", least=0, most=10)
        read_choice(values, "a", NumberType)
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 - that it is read is as good


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), (False, False), ("true", True), ("False", False), ("TRUE", True), (1, True), (0, False),
        ("1", True), ("0", False), (None, None), ("", None), ({"a": True}, True), ({"a": "false"}, False),
        ({"b": True}, None),
    ],
)  # fmt: skip
def test_booleans_are_read_in_all_their_spellings(value: object, expected: bool | None) -> None:
    assert read_bool({"a": value}, "a") is expected


@pytest.mark.parametrize("value", ["yes", 2, -1, 1.0, [], "on", "１"])
def test_what_is_no_boolean_is_named(value: object) -> None:
    with pytest.raises(ApiError, match="a must be true or false"):
        read_bool({"a": value}, "a")


@pytest.mark.parametrize(("value", "expected"), [(5, 5), ("5", 5), ("-3", -3), (None, None), ("", None), ("010", 10)])
def test_integers_may_be_texts(value: object, expected: int | None) -> None:
    assert read_integer({"a": value}, "a", least=-5, most=10) == expected


@pytest.mark.parametrize(
    "value", [11, -6, "11", 5.0, "5.0", True, [], "٥", "９", 10**30, "9" * 5_000, " 5", "+5", "5_0"]
)
def test_what_is_no_integer_within_its_bounds_is_named(value: object) -> None:
    with pytest.raises(ApiError, match="a must be an integer from -5 to 10"):
        read_integer({"a": value}, "a", least=-5, most=10)


def test_texts_are_bounded_and_hold_no_nul() -> None:
    assert read_text({"a": "x"}, "a") == "x"
    assert read_text({"a": 14155550100}, "a") == "14155550100"
    assert read_text({"a": ""}, "a") is None
    for value, code in (("x" * 256, "invalid_parameter"), ("a\0", "invalid_character"), (True, "invalid_parameter")):
        with pytest.raises(ApiError) as refused:
            read_text({"a": value}, "a")
        assert refused.value.code == code


def test_choices_do_not_care_for_case_and_say_what_there_is() -> None:
    assert read_choice({"a": "TollFree"}, "a", NumberType) is NumberType.TOLL_FREE
    with pytest.raises(ApiError, match="a must be one of longcode, tollfree, shortcode"):
        read_choice({"a": "mobile"}, "a", NumberType)


# --- Pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, Page(20, 0)),
        ({"limit": "5", "offset": "10"}, Page(5, 10)),
        ({"limit": "1000"}, Page(20, 0)),
        ({"limit": ""}, Page(20, 0)),
    ],
)
def test_a_limit_over_twenty_is_clamped(query: dict[str, str], page: Page) -> None:
    assert read_page(query) == page


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "-1"}, {"offset": "-1"}, {"offset": "x"}, {"offset": "9" * 18}]
)
def test_a_page_that_cannot_be_is_400(query: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refused:
        read_page(query)
    assert refused.value.code == "invalid_parameter"


def test_the_neighbours_of_a_page_keep_its_filters() -> None:
    query = {"limit": "2", "offset": "3", "type": "fixed"}
    body = paged("/v1/x/", query, Page(2, 3), total=6, objects=[])
    assert body["meta"] == {
        "limit": 2,
        "offset": 3,
        "total_count": 6,
        "next": "/v1/x/?type=fixed&limit=2&offset=5",
        "previous": "/v1/x/?type=fixed&limit=2&offset=1",
    }


def test_the_only_page_has_no_neighbours() -> None:
    meta = paged("/v1/x/", {}, Page(20, 0), total=20, objects=[])["meta"]
    assert meta == {"limit": 20, "offset": 0, "total_count": 20, "next": None, "previous": None}
