"""Numbers in the order they are listed in, so that a page of a million costs what a page of a hundred costs.

Invariants
* Numbers that are alike in all a list can be narrowed by (`Facets`) stand in one column, sorted: a prefix is a stretch
  of it, and how many there are is known without looking at them.
* A page over several columns is found by halving, not by walking: see `_skip`.
* An edit is a note, worked in when the column is next read: a few by moving what lies behind, many by sorting once.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from resolver.model import E164, AccountId, NumberRow, NumberType, PowerpackId, Service

Key = TypeVar("Key")

FEW: Final = 64
AFTER_NINE: Final = ":"  # the character after 9: a prefix and this is behind all numbers that begin with the prefix
MERGED_MAX: Final = 256


class Facets(NamedTuple):
    """What a list can be narrowed by, beside how numbers begin."""

    type: NumberType
    country: str
    services: frozenset[Service]
    campaign_approved: bool
    verified: bool


def facets_of(row: NumberRow) -> Facets:
    return Facets(row.type, row.country, row.services, row.campaign_approved, row.verified)


class Span(NamedTuple):
    """A stretch of a column."""

    numbers: list[E164]
    begin: int
    end: int


class Column:
    """Numbers, each once, sorted when they are read."""

    __slots__ = ("_added", "_numbers", "_removed")

    def __init__(self) -> None:
        self._numbers: list[E164] = []
        self._added: dict[E164, None] = {}
        self._removed: set[E164] = set()

    def add(self, number: E164) -> None:
        """It is not there yet."""
        if number in self._removed:
            self._removed.remove(number)
        else:
            self._added[number] = None

    def remove(self, number: E164) -> None:
        """It is there."""
        if number in self._added:
            del self._added[number]
        else:
            self._removed.add(number)

    def sorted(self) -> list[E164]:
        """All of them; the list is good until the next edit."""
        numbers = self._numbers
        if len(self._removed) > FEW:
            numbers[:] = [each for each in numbers if each not in self._removed]
        else:
            for number in self._removed:
                del numbers[bisect_left(numbers, number)]
        if len(self._added) > FEW:
            numbers += self._added
            numbers.sort()
        else:
            for number in self._added:
                insort(numbers, number)
        self._removed.clear()
        self._added.clear()
        return numbers

    def __len__(self) -> int:
        return len(self._numbers) + len(self._added) - len(self._removed)


class Listing:
    """Numbers of one account, of one powerpack, of one alias."""

    def __init__(self) -> None:
        self._columns: dict[Facets, Column] = {}

    def add(self, row: NumberRow) -> None:
        self._columns.setdefault(facets_of(row), Column()).add(row.number)

    def remove(self, row: NumberRow) -> None:
        facets = facets_of(row)
        column = self._columns[facets]
        column.remove(row.number)
        if not column:
            del self._columns[facets]

    def settle(self) -> None:
        for column in self._columns.values():
            column.sorted()

    def __len__(self) -> int:
        return sum(map(len, self._columns.values()))

    def pick(self, prefixes: Callable[[Facets], Iterable[str]]) -> list[Span]:
        """Those that begin as `prefixes` says for their kind: "" is any, none at all leaves them out."""
        found: list[Span] = []
        for facets, column in self._columns.items():
            numbers = None
            for prefix in prefixes(facets):
                numbers = numbers if numbers is not None else column.sorted()
                begin = bisect_left(numbers, prefix)
                end = bisect_left(numbers, prefix + AFTER_NINE) if prefix else len(numbers)
                if begin < end:
                    found.append(Span(numbers, begin, end))
        return found


class Lists:
    """Every listing there is."""

    def __init__(self) -> None:
        self._of_account: dict[AccountId, Listing] = {}
        self._of_alias: dict[tuple[AccountId, str], Listing] = {}
        self._of_powerpack: dict[PowerpackId, Listing] = {}

    def settle(self) -> None:
        """Sort now what would be sorted by whoever reads first."""
        for listings in (self._of_account, self._of_alias, self._of_powerpack):
            for listing in listings.values():
                listing.settle()

    def put(self, was: NumberRow | None, row: NumberRow) -> None:
        """A number is there, or is another than it was."""
        if was is not None:
            self.drop(was)
        self._of_account.setdefault(row.account_id, Listing()).add(row)
        if row.alias:
            self._of_alias.setdefault((row.account_id, row.alias), Listing()).add(row)
        if row.powerpack_id is not None:
            self._of_powerpack.setdefault(row.powerpack_id, Listing()).add(row)

    def drop(self, row: NumberRow) -> None:
        """A number is gone."""
        _take_out(self._of_account, row.account_id, row)
        if row.alias:
            _take_out(self._of_alias, (row.account_id, row.alias), row)
        if row.powerpack_id is not None:
            _take_out(self._of_powerpack, row.powerpack_id, row)

    def of_account(self, account_id: AccountId, alias: str = "") -> Listing:
        """An account's numbers, or those of them with this alias."""
        found = self._of_alias.get((account_id, alias)) if alias else self._of_account.get(account_id)
        return found if found is not None else Listing()

    def of_powerpack(self, powerpack_id: PowerpackId) -> Listing:
        found = self._of_powerpack.get(powerpack_id)
        return found if found is not None else Listing()


def _take_out(listings: dict[Key, Listing], key: Key, row: NumberRow) -> None:
    listing = listings[key]
    listing.remove(row)
    if not listing:
        del listings[key]


# --- Pages ------------------------------------------------------------------------------------------------------------


def total(spans: Iterable[Span]) -> int:
    """How many numbers; spans of one pick do not overlap."""
    return sum(span.end - span.begin for span in spans)


def page(spans: list[Span], *, offset: int, limit: int) -> list[E164]:
    """The numbers from `offset` on, at most `limit`, in order."""
    begins, rest = _skip(spans, offset)
    tails = (_walk(span.numbers, begin, span.end) for span, begin in zip(spans, begins, strict=True))
    return list(islice(heapq.merge(*tails), rest, rest + limit))


def _walk(numbers: list[E164], begin: int, end: int) -> Iterator[E164]:
    return (numbers[place] for place in range(begin, end))


def _skip(spans: list[Span], count: int) -> tuple[list[int], int]:
    """Where each span begins once most of the `count` least numbers are passed over, and how many are left to pass.

    Each round is rid of about a quarter of what is in question: all on one side of the weighted median of the spans'
    medians. There are more than four times as many in question as spans, so some span is cut in any round.
    """
    begins, ends = [span.begin for span in spans], [span.end for span in spans]
    while sum(ends) - sum(begins) > max(MERGED_MAX, 4 * len(spans)):
        pivot = _middle(spans, begins, ends)
        cuts = [bisect_left(spans[place].numbers, pivot, begins[place], ends[place]) for place in range(len(spans))]
        below = sum(cuts) - sum(begins)
        if below <= count:
            begins, count = cuts, count - below
        else:
            ends = cuts
    return begins, count


def _middle(spans: list[Span], begins: list[int], ends: list[int]) -> E164:
    medians = sorted(
        (span.numbers[(begin + end) // 2], end - begin)
        for span, begin, end in zip(spans, begins, ends, strict=True)
        if begin < end
    )
    half = sum(weight for _, weight in medians) / 2
    for number, weight in medians:
        half -= weight
        if half <= 0:
            return number
    raise AssertionError("there is a middle of something")
