"""Where something stands in what a carrier says: `data.to.0.status` in JSON, a name in a form, `?name` in the URL.

A path is compiled once; following it costs a dictionary look-up per part and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from gateway.fields import BadSetting

Query = Mapping[str, str]
Pick = Callable[[object, Query], object]
"""Picks from an item and the query of the URL it was posted to; None where nothing stands."""

PARTS_MAX: Final = 12
_PART = re.compile(r"[^.\s?]+")
NO_QUERY: Final[Query] = {}


def compile_path(path: str, place: str, *, of_form: bool = False) -> Pick:
    """Compile a path, "" to what is never there. Raises BadSetting naming `place`."""
    if path.startswith("?"):
        name = path[1:]
        if not name:
            raise BadSetting(f"{place}: `?` must be followed by a name")
        return lambda _item, query: query.get(name)
    if not path:
        return lambda _item, _query: None
    parts = path.split(".")
    if len(parts) > PARTS_MAX or not all(map(_PART.fullmatch, parts)):
        raise BadSetting(f"{place}: {path!r} is no path such as data.to.0.status")
    if of_form or len(parts) == 1:  # a form is flat, and its names may hold dots
        return _one(path)
    return _several(parts)


def _one(name: str) -> Pick:
    index = int(name) if name.isascii() and name.isdecimal() else -1

    def pick(item: object, _query: Query) -> object:
        if type(item) is dict:
            return item.get(name)
        return _nth(item, index)

    return pick


def _several(names: list[str]) -> Pick:
    steps = [(name, int(name) if name.isascii() and name.isdecimal() else -1) for name in names]

    def pick(item: object, _query: Query) -> object:
        for name, index in steps:
            item = item.get(name) if type(item) is dict else _nth(item, index)
        return item

    return pick


def _nth(item: object, index: int) -> object:
    if type(item) is list and 0 <= index < len(item):
        return item[index]
    return None
