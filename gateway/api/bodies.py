"""Reading what clients send: JSON in, values out, and a 400 with a stable code for everything else.

SDKs spell booleans and integers in several ways (`true`, `"True"`, `1`, `"1"`; `"600"`), send explicit nulls and empty
texts for what was not given, and junk keys. All of that is taken; what means nothing is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, TypeVar

import orjson

from gateway.api.errors import ApiError, api_error, invalid
from resolver.model import RefusalCode

BOOLEANS: Final[Mapping[object, bool]] = {"true": True, "false": False, "1": True, "0": False}
TEXT_LENGTH_MAX: Final = 255
INTEGER_LENGTH_MAX: Final = 18

_lone_surrogate = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
).search
_is_integer = re.compile(r"-?[0-9]{1,18}").fullmatch  # not \d, which takes full-width digits

Values = Mapping[str, object]
Choice = TypeVar("Choice", bound=StrEnum)


def read_object(body: bytes) -> dict[str, object]:
    """Read a JSON object; an empty body and `""` (Node's SDK) are an empty one. Raises ApiError."""
    if is_nothing(body):
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_json(body, str(error)) from error
    if not isinstance(value, dict):
        raise api_error("invalid_json", "invalid json data sent in raw POST: it must be an object")
    return value


def is_nothing(body: bytes) -> bool:
    """Whether a body says nothing: empty, or the two quotes that Node's SDK sends for an empty one."""
    return not body or body.isspace() or body.strip() == b'""'


def bad_json(body: bytes, why: str) -> ApiError:
    """Say what is wrong with `body`, in Plivo's words and then in the parser's, which name the place."""
    if _lone_surrogate(body):
        return ApiError(400, RefusalCode.INVALID_CHARACTER, "a text holds half a surrogate pair")
    return api_error("invalid_json", f"invalid json data sent in raw POST: {why}")


def read_text(values: Values, name: str, *, most: int = TEXT_LENGTH_MAX) -> str | None:
    """A text; None when it is not given, null or empty. An integer is taken as its digits."""
    value = values.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise invalid(name, "must be a string")
    return checked_text(name, value, most=most)


def checked_text(name: str, value: str, *, most: int = TEXT_LENGTH_MAX) -> str:
    """Refuse what no database takes."""
    if len(value) > most:
        raise invalid(name, f"is longer than {most} characters")
    if "\0" in value:
        raise ApiError(400, RefusalCode.INVALID_CHARACTER, f"{name} holds a NUL character")
    return value


def read_bool(values: Values, name: str) -> bool | None:
    """A boolean in any of its spellings; None when it is not given."""
    value = values.get(name)
    if isinstance(value, dict):  # Ruby's documented {"unrent": {"unrent": true}}
        value = value.get(name)
    if value is None or value == "":
        return None
    known = BOOLEANS.get(str(value).lower()) if isinstance(value, str | bool | int) else None
    if known is None:
        raise invalid(name, "must be true or false")
    return known


def read_integer(values: Values, name: str, *, least: int, most: int) -> int | None:
    """An integer between `least` and `most`, also as a text; None when it is not given."""
    value = values.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and _is_integer(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise invalid(name, f"must be an integer from {least} to {most}")
    return value


def read_choice(values: Values, name: str, kind: type[Choice]) -> Choice | None:
    """One of the values of `kind`; None when it is not given."""
    value = values.get(name)
    if value is None or value == "":
        return None
    known = {each.value: each for each in kind}
    if not isinstance(value, str) or value.lower() not in known:
        raise invalid(name, one_of(known))
    return known[value.lower()]


def one_of(words: Collection[str]) -> str:
    """Continue "NAME …" with the words it may be."""
    return "must be one of " + ", ".join(words)
