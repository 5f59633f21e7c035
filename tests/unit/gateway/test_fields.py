"""A declared setting: how what was given becomes a value of its type, and what is said when it does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.fields import BadSetting, Given, checked, keys_of, nearest, refuse_unknown, setting


@dataclass(frozen=True)
class Part:
    """Something with a setting of each type."""

    name: str = setting("x", "a text")
    count: int = setting(5, "a number", least=1, most=10)
    is_on: bool = setting(False, "yes or no")
    folder: Path = setting(Path(), "a folder")  # noqa: RUF009
    places: tuple[str, ...] = setting((), "a list")
    kind: str = setting("a", "a choice", one_of="a b")
    token: str = setting("", "a secret", secret=True)


def made(key: str, value: object, *, is_text: bool = False) -> object:
    return getattr(checked(Part, {key: Given(value, "HERE", is_text)}, "part"), key)


def test_nothing_given_gives_the_defaults() -> None:
    assert checked(Part, {}, "part") == Part()


@pytest.mark.parametrize(
    ("key", "value", "becomes"),
    [
        ("name", "y", "y"),
        ("name", "", ""),
        ("count", 10, 10),
        ("is_on", True, True),
        ("folder", "a/b", Path("a/b")),
        ("folder", Path("c"), Path("c")),
        ("places", ["a", "b"], ("a", "b")),
        ("kind", "b", "b"),
    ],
)
def test_what_a_file_gives_has_its_type_already(key: str, value: object, becomes: object) -> None:
    assert made(key, value) == becomes


@pytest.mark.parametrize(
    ("key", "text", "becomes"),
    [
        ("name", " y ", " y "),
        ("count", "7", 7),
        ("count", "+7", 7),
        ("is_on", "ON", True),
        ("is_on", "no", False),
        ("places", "", ()),
        ("places", "a,, b ", ("a", "b")),
    ],
)
def test_what_a_variable_gives_is_read_as_its_type(key: str, text: str, becomes: object) -> None:
    assert made(key, text, is_text=True) == becomes


@pytest.mark.parametrize(
    ("key", "value", "is_text", "said"),
    [
        ("name", 1, False, "HERE: must be a text, not 1"),
        ("count", "7", False, "HERE: must be a whole number, not '7'"),
        ("count", True, False, "HERE: must be a whole number, not True"),
        ("count", 0, False, "HERE: must be 1 or more, not 0"),
        ("count", "11", True, "HERE: must be 10 or less, not 11"),
        ("count", "1e1", True, "HERE: must be a whole number, not '1e1'"),
        ("is_on", 1, False, "HERE: must be true or false, not 1"),
        ("is_on", "", True, "HERE: must be true or false, not ''"),
        ("folder", "", False, "HERE: must be a path, not ''"),
        ("folder", "a\0b", False, "HERE: must be a path, not 'a\\x00b'"),
        ("places", "a", False, "HERE: must be a list of texts, not 'a'"),
        ("places", ["a", 1], False, "HERE: must be a list of texts, not ['a', 1]"),
        ("kind", "c", False, "HERE: must be one of a, b, not 'c'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(key: str, value: object, is_text: bool, said: str) -> None:
    with pytest.raises(BadSetting) as raised:
        made(key, value, is_text=is_text)
    assert str(raised.value) == said


def test_a_secret_is_not_said_even_when_it_is_wrong() -> None:
    with pytest.raises(BadSetting) as raised:
        made("token", 4242)
    assert str(raised.value) == "HERE: must be a text"
    assert "t0ken" not in repr(Part(token="t0ken"))


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadSetting, match=r"\[part\]: there is no setting 'cuont'; is it 'count'\?"):
        checked(Part, {"cuont": Given(1, "HERE")}, "part")


def test_names_are_those_of_the_fields() -> None:
    assert keys_of(Part) == ["name", "count", "is_on", "folder", "places", "kind", "token"]


def test_nothing_is_near_to_something_else_altogether() -> None:
    assert nearest("xyz", ["count"]) == ""
    refuse_unknown(["count"], ["count"], "HERE", "setting")
