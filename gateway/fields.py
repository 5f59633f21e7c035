"""One declared setting: its default and why, its bounds, and how what was given becomes a value of its type.

The parts in gateway/settings.py are made of these, and so are the options of each kind of carrier.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from resolver.model import CarrierName

T = TypeVar("T")


class BadSetting(Exception):
    """A setting is wrong: one line that names the place and what would be right."""


class Given(NamedTuple):
    """A value somebody gave, and where; text from a flag or a variable is yet to be read as its type."""

    value: object
    place: str
    is_text: bool = False


def setting(
    default: T,
    why: str,
    *,
    least: float | None = None,
    most: float | None = None,
    one_of: str = "",
    secret: bool = False,
) -> T:
    """Declare a field with its default, what it is and why, and its bounds. A secret is never shown, by nobody."""
    facts = {"why": why, "least": least, "most": most, "one_of": tuple(one_of.split()), "secret": secret}
    declared: T = field(default=default, repr=not secret, metadata=facts)
    return declared


def table_setting(why: str, *, secret: bool = False) -> dict[str, Any]:
    """Declare a field that is a table of its own, empty by default."""
    facts = {"why": why, "least": None, "most": None, "one_of": (), "secret": secret}
    declared: dict[str, Any] = field(default_factory=dict, repr=not secret, metadata=facts)
    return declared


def keys_of(part: type[Any]) -> list[str]:
    """Give the names of a part's settings, as they are written in the file."""
    return [each.name for each in dataclasses.fields(part)]


def nearest(name: str, known: Iterable[str]) -> str:
    """Give a hint at the known name that was probably meant, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; is it {near[0]!r}?" if near else ""


def refuse_unknown(given: Iterable[str], known: Iterable[str], place: str, what: str) -> None:
    """Raise BadSetting for the first of `given` that is not known: a misspelt setting is never just ignored."""
    known = list(known)
    for key in given:
        if key not in known:
            raise BadSetting(f"{place}: there is no {what} {key!r}{nearest(key, known)}")


def checked(part: type[T], given: Mapping[str, Given], section: str) -> T:
    """Make `part` (a dataclass of `setting` fields) from what was given; also for a carrier's own options.

    Raises BadSetting naming the place of the first thing that is wrong, an unknown key included.
    """
    refuse_unknown(given, keys_of(part), f"[{section}]", "setting")
    hints = typing.get_type_hints(part)
    declared = {each.name: each for each in dataclasses.fields(part)}  # type: ignore[arg-type]
    return part(**{key: _value(value, hints[key], declared[key].metadata) for key, value in given.items()})


def _value(given: Given, wanted: object, facts: Mapping[str, Any]) -> object:
    read = _READERS[wanted]
    complaint, value = "", given.value
    try:
        value = read(given)
    except _Wrong as wrong:
        complaint = f"must be {wrong}"
    else:
        if (least := facts.get("least")) is not None and value < least:
            complaint = f"must be {least:,} or more"
        elif (most := facts.get("most")) is not None and value > most:
            complaint = f"must be {most:,} or less"
        elif facts.get("one_of") and value not in facts["one_of"]:
            complaint = f"must be one of {', '.join(facts['one_of'])}"
    if complaint:
        raise BadSetting(f"{given.place}: {complaint}" + ("" if facts.get("secret") else f", not {value!r}"))
    return value


class _Wrong(Exception):
    """What was given is not what the text says it must be."""


def _text(given: Given) -> str:
    if not isinstance(given.value, str):
        raise _Wrong("a text")
    return given.value


def _whole(given: Given) -> int:
    text = given.value.strip() if given.is_text and isinstance(given.value, str) else ""
    if re.fullmatch(r"[+-]?[0-9](_?[0-9])*", text):
        return int(text)
    if isinstance(given.value, bool) or not isinstance(given.value, int):
        raise _Wrong("a whole number")
    return given.value


def _truth(given: Given) -> bool:
    if given.is_text and isinstance(given.value, str):
        known = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if (value := known.get(given.value.strip().lower())) is not None:
            return value
    if not isinstance(given.value, bool):
        raise _Wrong("true or false")
    return given.value


def _path(given: Given) -> Path:
    if isinstance(given.value, Path):
        return given.value
    if not isinstance(given.value, str) or not given.value or "\0" in given.value:
        raise _Wrong("a path")
    return Path(given.value)


def _texts(given: Given) -> tuple[str, ...]:
    if given.is_text and isinstance(given.value, str):
        return tuple(part.strip() for part in given.value.split(",") if part.strip())
    if not isinstance(given.value, list | tuple) or not all(isinstance(part, str) for part in given.value):
        raise _Wrong("a list of texts")
    return tuple(given.value)


def _table(given: Given) -> Mapping[str, object]:
    if not isinstance(given.value, Mapping):
        raise _Wrong("a table")
    return given.value


def _table_of_texts(given: Given) -> Mapping[str, str]:
    table = _table(given)
    for key, value in table.items():
        if not isinstance(value, str):
            raise _Wrong(f"a table of texts ({key} is none)")
    return typing.cast("Mapping[str, str]", table)


_READERS: Final[Mapping[object, Callable[[Given], Any]]] = {
    str: _text,
    int: _whole,
    bool: _truth,
    Path: _path,
    tuple[str, ...]: _texts,
    CarrierName: _text,
    Mapping[str, object]: _table,
    Mapping[str, str]: _table_of_texts,
}
