"""The operator look-up: which network a recipient belongs to, by the longest prefix the administrator's table has.

In memory, so a decision waits for nothing: at most fifteen look-ups in a dictionary, none where the table is empty.
What is not known has no operator, and no operator rule applies.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from sys import intern
from typing import IO, Final, NamedTuple

import structlog

from gateway.administering import Refused
from gateway.csv_lines import BadLine, Line, csv_lines
from resolver.model import E164
from storage.catalog import Catalog
from storage.catalog_operators import OperatorsStamp

log = structlog.get_logger(__name__)

PREFIXES_MAX: Final = 1_000_000  # about 130 bytes each in memory
PREFIX_LENGTH_MAX: Final = 15
OPERATOR_LENGTH_MAX: Final = 64
STRETCH_LINES: Final = 10_000
FIELD_LENGTH_MAX: Final = 256
HEADER: Final = ["prefix", "operator"]


class Operators:
    """The table in memory; `load` reads it anew, and meanwhile the former one answers."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._by_prefix: dict[str, str] = {}
        self._lengths: tuple[int, ...] = ()  # that prefixes have, the longest first
        self._stamp: OperatorsStamp | None = None  # of what was loaded

    def __len__(self) -> int:
        return len(self._by_prefix)

    async def load(self) -> None:
        """Take the whole table in, unless it is as it was. Raises DatabaseAway."""
        stamp = await self._catalog.operators_stamp()
        if stamp == self._stamp:
            return
        found: dict[str, str] = {}
        async for page in self._catalog.operator_pages():
            found.update((prefix, intern(operator)) for prefix, operator in page.items())
            if len(found) >= PREFIXES_MAX:
                log.error("more operator prefixes are stored than memory takes", most=PREFIXES_MAX)
                break
        self._by_prefix, self._stamp = found, stamp
        self._lengths = tuple(sorted({len(prefix) for prefix in found}, reverse=True))

    def find(self, recipient: E164) -> str:
        """The operator's name as it was imported; "" where none is known."""
        by_prefix = self._by_prefix
        if not by_prefix:
            return ""
        digits = recipient[1:]
        for length in self._lengths:
            found = by_prefix.get(digits[:length])
            if found is not None:
                return found
        return ""


# --- Files ------------------------------------------------------------------------------------------------------------


class ImportedPrefixes(NamedTuple):
    """What came of a file."""

    lines: int
    bad: int
    dropped: int


def read_prefixes(lines: Iterable[str]) -> Iterator[tuple[str, str] | BadLine]:
    """Read a file's prefixes and operators, or what is wrong with a line. Raises Refused for its header."""
    header, rest = csv_lines(lines, field_length_max=FIELD_LENGTH_MAX)
    if header != HEADER:
        raise Refused("the first line must be: prefix,operator")
    for each in rest:
        yield each if isinstance(each, BadLine) else _read_prefix(each)


def _read_prefix(line: Line) -> tuple[str, str] | BadLine:
    if len(line.fields) != len(HEADER):
        return BadLine(line.line, f"has {len(line.fields)} fields, not a prefix and an operator")
    prefix, operator = line.fields[0].removeprefix("+"), line.fields[1]
    if not (prefix.isascii() and prefix.isdecimal() and prefix[0] != "0" and len(prefix) <= PREFIX_LENGTH_MAX):
        return BadLine(line.line, f"{line.fields[0]!a} is no prefix: digits, with the country code")
    if not operator or len(operator) > OPERATOR_LENGTH_MAX or not operator.isprintable():
        return BadLine(line.line, f"an operator is a name of up to {OPERATOR_LENGTH_MAX} characters")
    return prefix, operator


async def import_operators(
    catalog: Catalog,
    lines: Iterable[str],
    *,
    now_ms: int,
    replaces: bool = False,
    is_rehearsal: bool = False,
    on_bad: Callable[[BadLine], None],
    on_stretch: Callable[[], None] = lambda: None,
) -> ImportedPrefixes:
    """Put a file's prefixes into the table; of one that stands there twice the later counts.

    With `replaces` what the file does not name is dropped at the end, unless a line was bad: half a table is worse than
    an old one. Raises Refused for its header, and where the table then holds more than PREFIXES_MAX.
    """
    count = bad = 0
    stretch: dict[str, str] = {}
    for read in read_prefixes(lines):
        count += 1
        if isinstance(read, BadLine):
            bad += 1
            on_bad(read)
            continue
        stretch[read[0]] = read[1]
        if len(stretch) >= STRETCH_LINES:
            if not is_rehearsal:
                await catalog.put_operators(stretch, now_ms=now_ms)
            stretch.clear()
            on_stretch()
    if is_rehearsal:
        return ImportedPrefixes(count, bad, 0)
    if stretch:
        await catalog.put_operators(stretch, now_ms=now_ms)
    dropped = await catalog.operators_imported(drop_before_ms=now_ms if replaces and not bad else None)
    there_are = (await catalog.operators_stamp()).prefixes
    if there_are > PREFIXES_MAX:
        raise Refused(f"the table holds {there_are:,} prefixes now, of which {PREFIXES_MAX:,} are used: import less")
    return ImportedPrefixes(count, bad, dropped)


async def export_operators(catalog: Catalog, file: IO[str]) -> int:
    """Write the whole table; gives how many prefixes it has."""
    writer, count = csv.writer(file, lineterminator="\n"), 0
    writer.writerow(HEADER)
    async for page in catalog.operator_pages():
        writer.writerows(page.items())
        count += len(page)
    return count
