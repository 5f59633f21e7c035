from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.paths import compile_path
from gateway.fields import BadSetting

ITEM = {"a": {"b": [{"c": 7}, "second"]}, "0": "zero", "a.b": "flat", "list": [1, 2]}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b.0.c", 7), ("a.b.1", "second"), ("a.b.2", None), ("a.b.-1", None), ("a.x.y.z", None), ("0", "zero"),
        ("list.1", 2), ("list.x", None), ("", None), ("?ref", "r"), ("?other", None),
    ],
)  # fmt: skip
def test_a_path_leads_to_a_value_or_nowhere(path: str, found: object) -> None:
    assert compile_path(path, "here")(ITEM, {"ref": "r"}) == found


def test_a_forms_names_may_hold_dots() -> None:
    assert compile_path("a.b", "here", of_form=True)(ITEM, {}) == "flat"


def test_an_array_may_be_at_the_top() -> None:
    assert compile_path("1", "here")(["a", "b"], {}) == "b"
    assert compile_path("0.id", "here")([{"id": 7}], {}) == 7


@pytest.mark.parametrize("path", ["a..b", ".", "a.", "a b", "?", "a.?b", ".".join("a" * 13)])
def test_what_is_no_path_is_named(path: str) -> None:
    with pytest.raises(BadSetting, match=r"^here: "):
        compile_path(path, "here")


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab01"), inner, max_size=3),
)


@given(st.lists(st.sampled_from(["a", "b", "0", "1", "9"]), min_size=1, max_size=5), VALUES)
def test_following_a_path_raises_nothing(parts: list[str], value: object) -> None:
    compile_path(".".join(parts), "here")(value, {})
