"""CSV read line by line: what cannot be read is named by its line and stops nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol


class BadLine(NamedTuple):
    """A line that cannot be taken. `line` counts from 1, the header included."""

    line: int
    why: str


class Line(NamedTuple):
    """A line's fields, without the blanks around them."""

    line: int
    fields: list[str]


class _Reader(Protocol):
    """The csv module's, which has no name there."""

    @property
    def line_num(self) -> int: ...

    def __next__(self) -> list[str]: ...


def csv_lines(lines: Iterable[str], *, field_length_max: int) -> tuple[list[str], Iterator[Line | BadLine]]:
    """Give the header, its names in lower case, and the lines after it; empty ones are nobody's.

    A header that cannot be read is one without names. A field that does not end goes no further than
    `field_length_max` characters (for all of this process: the csv module has one bound).
    """
    csv.field_size_limit(field_length_max)
    reader = csv.reader(lines)
    try:
        header = [each.strip().lower().removeprefix("\ufeff") for each in next(reader, [])]
    except csv.Error:
        header = []
    return header, _lines(reader)


def _lines(reader: _Reader) -> Iterator[Line | BadLine]:
    while True:
        try:
            fields = [each.strip() for each in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(reader.line_num, f"is no CSV: {error}")
            continue
        if any(fields):
            yield Line(reader.line_num, fields)
