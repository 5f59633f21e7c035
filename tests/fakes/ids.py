"""Ids and chance that are the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle


class CountingIds:
    """UUIDv7 texts that count up."""

    def __init__(self) -> None:
        self.count = 0

    def new(self) -> str:
        self.count += 1
        return f"019b76da-a800-7000-8000-{self.count:012x}"


def chance_of(*values: float) -> Callable[[], float]:
    """These numbers, again and again."""
    numbers: Iterator[float] = cycle(values)
    return lambda: next(numbers)
