"""Every number in memory, also for a while after it was dropped: should it come back, what it was handed still counts.

Invariant: `by_order[number.order] is number` for each of `numbers`; indexes name a number by that place. The place of a
number that was forgotten is taken by a new one, which goes on counting its versions and stamps, so stale entries stay
stale.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from resolver.links import Link
from resolver.model import E164, Limits, NumberRow
from resolver.queues import Number
from resolver.windows import DAY_MS

DROPPED_MAX: Final = 100_000
"""Numbers remembered after they were dropped."""

CHARGES_MAX: Final = 1_000_000
"""Hand-overs remembered of numbers that were dropped before a restart."""

REMEMBERED_MS: Final = 2 * DAY_MS
"""How long after its last hand-over: a day's window, and the tail of a long text."""


class Registry:
    """See above. All calls O(1)."""

    __slots__ = ("_charged", "_charges", "_dropped", "_free", "by_order", "charges_max", "dropped_max", "numbers")

    def __init__(self, *, dropped_max: int = DROPPED_MAX, charges_max: int = CHARGES_MAX) -> None:
        self.dropped_max = dropped_max
        self.charges_max = charges_max
        self.numbers: dict[E164, Number] = {}
        self.by_order: list[Number] = []
        self._dropped: dict[E164, None] = {}  # oldest first
        self._free: list[Number] = []
        self._charges: dict[E164, list[tuple[int, int]]] = {}  # restored ones of numbers that were dropped before
        self._charged = 0

    def make(self, row: NumberRow, limits: Limits, link: Link[Number]) -> Number:
        """A new number."""
        if self._free:
            forgotten = self._free.pop()
            number = Number(row, limits, link, order=forgotten.order)
            number.version, number.stamp = forgotten.version, forgotten.stamp
            self.by_order[number.order] = number
        else:
            number = Number(row, limits, link, order=len(self.by_order))
            self.by_order.append(number)
        self.numbers[row.number] = number
        for segments, at_ms in self._charges.pop(row.number, ()):
            number.charge(segments, at_ms)
        return number

    def keep_charge(self, number_id: E164, segments: int, at_ms: int) -> None:
        """Remember a stored hand-over of a number that is not ours now, for the case that it comes back."""
        if self._charged < self.charges_max:
            self._charged += 1
            self._charges.setdefault(number_id, []).append((segments, at_ms))

    def is_dropped(self, number_id: E164) -> bool:
        """Whether it is only remembered."""
        return number_id in self._dropped

    def revive(self, number_id: E164) -> None:
        """It came back, if it was dropped."""
        self._dropped.pop(number_id, None)

    def drop(self, number_id: E164, now_ms: int) -> None:
        """It is no longer ours; forget one or two that were dropped so long ago that no window reaches them."""
        self._dropped[number_id] = None
        for each in list(islice(self._dropped, 2)):
            number = self.numbers[each]
            is_quiet = not number.last_used_ms or number.last_used_ms + REMEMBERED_MS <= now_ms
            if not number.messages and (is_quiet or len(self._dropped) > self.dropped_max):
                del self._dropped[each], self.numbers[each]
                self._free.append(number)
