"""Naive twins of the resolver: they keep everything, walk everything, and say plainly what the law says.

`EFFORT` multiplies the examples of the models: 1 for `make check`; SENDPOOL_TEST_EFFORT=20 for a long look.
"""

from __future__ import annotations

import os
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

EFFORT = int(os.environ.get("SENDPOOL_TEST_EFFORT", "1"))

DAY_MS = 86_400_000

# --- windows ----------------------------------------------------------------------------------------------------------


@dataclass
class WindowTwin:
    """A window that keeps every charge there ever was."""

    limit: int
    span_ms: int
    charges: list[int] = field(default_factory=list)

    def instants(self, units: int, at_ms: int) -> list[int]:
        """Segment i of a text counts at hand-over + ⌊i / limit⌋ spans (RESOLUTION 5)."""
        return [at_ms + unit // self.limit * self.span_ms for unit in range(units)]

    def charge(self, units: int, at_ms: int) -> None:
        for instant in self.instants(units, at_ms):
            insort(self.charges, instant)

    def give_back(self, instants: Iterable[int]) -> None:
        for instant in instants:
            self.charges.remove(instant)

    def lawful_ms(self, units: int) -> int:
        """The first instant with room for min(units, limit): all but limit less that many are a span old."""
        may_stand = self.limit - min(units, self.limit)
        return max(0, self.charges[-1 - may_stand] + self.span_ms) if len(self.charges) > may_stand else 0

    def forecast_ms(self, ahead: int, units: int, now_ms: int) -> int:
        """Let `ahead` units leave one by one, each as soon as it may, then the text."""
        copy, at_ms = WindowTwin(self.limit, self.span_ms, self.charges[-self.limit :]), now_ms
        for _ in range(ahead):
            at_ms = max(at_ms, copy.lawful_ms(1))
            copy.charge(1, at_ms)
        return max(at_ms, copy.lawful_ms(units))


def most_in_a_span(instants: Iterable[int], span_ms: int) -> int:
    """The most charges in any half-open span, counted from each charge on."""
    ordered = sorted(instants)
    return max((sum(first <= each < first + span_ms for each in ordered) for first in ordered), default=0)
