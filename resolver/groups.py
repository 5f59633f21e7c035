"""The numbers of one rung of the ladder, soonest first, in heaps of *lower bounds*.

A number's forecast only grows as it is used, so an old key is too small, never too large. What surfaces with a key
that has grown is put back with its present one; when a forecast shrinks (cancelled, given back, limits raised) the
number's entries become stale and new ones are pushed. So a decision looks at the tops of heaps, O(log n).

A `Group` has one `Part` for each carrier link, since a link's window counts for all numbers on it alike. In a part
every number has one valid entry, in one of

* `fresh`: never used; one is drawn by chance.    * `idle`: could leave now; least recently used first.
* `busy`: by the earliest it could leave.         * `resting`: at its recommendation for the day, by when that ends.

Where all numbers are lawful one at a time in the same span (`even`), soonest is least recently used: `busy` serves for
both. (There a number counts as used until it was lawful again, which a long text or the day's limit may put off.)
Stale entries die when they surface, or in a sweep once they are more than the live ones.

What a decision may pay is bounded, so with more than these many numbers it may miss the very soonest: `MOVES_MAX`
numbers come back from `busy` or `resting` in a call, `LOOKS_MAX` are compared where texts of several segments or a
stall hide which is soonest, and a search that has found nothing ends after `SEARCH_MAX` entries have changed place.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from resolver.links import STALE_MAX, Link
from resolver.queues import Number

MOVES_MAX: Final = 64
LOOKS_MAX: Final = 16
SEARCH_MAX: Final = 1_000

ORDER_BITS: Final = 24
VERSION_BITS: Final = 16
KEY_SHIFT: Final = ORDER_BITS + VERSION_BITS
_ORDER: Final = (1 << ORDER_BITS) - 1
_VERSION: Final = (1 << VERSION_BITS) - 1
_ENTRY: Final = (1 << KEY_SHIFT) - 1

Entry = int
"""A heap's entry: key, the number's order, its version, packed into one integer, which costs one comparison."""


def entry_of(order: int, version: int) -> tuple[int, Entry]:
    """A number's version as entries hold it, and its entry without key."""
    version &= _VERSION
    return version, order << VERSION_BITS | version


Candidate = tuple[Number, int]
"""A number, and when the message is expected to leave from it over its link."""


def is_sooner(one: Candidate, other: Candidate) -> bool:
    """The soonest wins; among equals the least recently used, and of those never used one where nothing waits."""
    if one[1] != other[1]:
        return one[1] < other[1]
    return (one[0].last_used_ms, one[0].messages) < (other[0].last_used_ms, other[0].messages)


class Part:
    """The numbers of a group on one link. `recommended`: those at the day's recommendation are passed over."""

    __slots__ = (
        "_by_order", "busy", "even", "fresh", "idle", "link", "live", "pushed", "recommended", "resting", "urgent",
    )  # fmt: skip

    def __init__(self, by_order: list[Number], link: Link[Number], *, urgent: bool, recommended: bool) -> None:
        self._by_order = by_order
        self.link = link
        self.urgent = urgent
        self.recommended = recommended
        self.live = 0  # numbers that stand in it
        self.pushed = 0  # entries since the last sweep
        self.even = 0  # the span all have in common
        self.fresh: list[Entry] = []  # without key
        self.idle: list[Entry] = []
        self.busy: list[Entry] = []
        self.resting: list[Entry] = []

    def push(self, number: Number) -> None:
        """Add a number, or a new entry of one whose forecast shrank."""
        if number.rate.limit != 1 or number.rate.span_ms != self.even:
            self.even = number.rate.span_ms if not self.pushed and number.rate.limit == 1 else 0
        self.pushed += 1
        if self.pushed > 2 * self.live + STALE_MAX:
            self._sweep()
        if number.last_used_ms or number.messages:
            self._push_busy(number)
        else:
            self.fresh.append(number.entry)

    def pick(
        self, units: int, now_ms: int, horizon_ms: int, chance: float, behind_link: bool = False
    ) -> Candidate | None:
        """The number from which `units` segments would leave soonest, no later than `horizon_ms`; None if none.

        `behind_link`: by the windows of the numbers alone, whatever the link does.
        """
        link = self.link
        if link.down_since_ms is not None and not behind_link and not link.fits(now_ms):
            return None
        due = (now_ms + 1) << KEY_SHIFT  # greater than every entry whose key is no later than now
        if self.resting and self.resting[0] < due:
            self._wake_resting(now_ms, due)
        number = self._never_used(chance) if self.fresh else None
        if number is None and not self.even:
            if self.busy and self.busy[0] < due:
                self._wake_busy(now_ms, due)
            number = self._least_recent(units, now_ms) if self.idle else None
        link_ms = 0 if behind_link else link.free_ms(units, now_ms)
        found = (number, now_ms) if number is not None else None
        if found is None and self.busy:
            found = self._soonest(units, now_ms, horizon_ms, link_ms if link_ms > now_ms else now_ms)
        if found is None or link_ms <= found[1]:
            return found
        return (found[0], link_ms) if link_ms <= horizon_ms else None

    def _number(self, entry: Entry) -> Number | None:
        """Whose entry it is; None when it is stale."""
        number = self._by_order[entry >> VERSION_BITS & _ORDER]
        return number if number.version == entry & _VERSION else None

    def _push_busy(self, number: Number) -> None:
        heappush(self.busy, number.forecast_ms(self.urgent, 1, 0, 0) << KEY_SHIFT | number.entry)

    def _sweep(self) -> None:
        """Drop what is stale."""
        for entries in (self.fresh, self.idle, self.busy, self.resting):
            entries[:] = [entry for entry in entries if self._number(entry) is not None]
            heapify(entries)
        self.pushed = self.live

    def _wake_resting(self, now_ms: int, due: Entry) -> None:
        """Bring back what has room within its recommendation again."""
        resting = self.resting
        for _ in range(MOVES_MAX):
            if not resting or resting[0] >= due:
                return
            number = self._number(heappop(resting))
            if number is None:
                continue
            rested_ms = number.rested_ms(now_ms)
            if rested_ms:
                heappush(resting, rested_ms << KEY_SHIFT | number.entry)
            else:
                self._push_busy(number)

    def _wake_busy(self, now_ms: int, due: Entry) -> None:
        """Bring back to `idle` what could leave by now."""
        busy = self.busy
        held: list[Entry] = []
        for _ in range(MOVES_MAX):
            if not busy or busy[0] >= due:
                break
            entry = heappop(busy)
            number = self._number(entry)
            if number is None:
                continue
            if number.forecast_ms(self.urgent, 1, now_ms) <= now_ms:
                heappush(self.idle, number.last_used_ms << KEY_SHIFT | number.entry)
            else:
                held.append(number.forecast_ms(self.urgent, 1, now_ms, 0) << KEY_SHIFT | number.entry)
        for entry in held:
            heappush(busy, entry)

    def _never_used(self, chance: float) -> Number | None:
        fresh = self.fresh
        for _ in range(SEARCH_MAX):
            index = int(chance * len(fresh))
            number = self._number(fresh[index])
            if number is not None and not (number.last_used_ms or number.messages):
                return number
            last = fresh.pop()
            if index < len(fresh):
                fresh[index] = last
            if number is not None:
                self._push_busy(number)
            if not fresh:
                return None
        return None

    def _least_recent(self, units: int, now_ms: int) -> Number | None:
        idle = self.idle
        for _ in range(SEARCH_MAX):
            if not idle:
                return None
            entry = idle[0]
            number = self._number(entry)
            if number is None:
                heappop(idle)
            elif number.forecast_ms(self.urgent, units, now_ms) > now_ms:
                heappop(idle)
                self._push_busy(number)
            elif number.last_used_ms != entry >> KEY_SHIFT:
                heapreplace(idle, number.last_used_ms << KEY_SHIFT | number.entry)
            elif self.recommended and (rested_ms := number.rested_ms(now_ms)):
                heappop(idle)
                heappush(self.resting, rested_ms << KEY_SHIFT | number.entry)
            else:
                return number
        return None

    def _soonest(self, units: int, now_ms: int, horizon_ms: int, enough_ms: int) -> Candidate | None:
        """The soonest within the horizon; no need to look for one sooner than `enough_ms`, when the link has room."""
        busy, urgent = self.busy, self.urgent
        best: Number | None = None
        best_ms = horizon_ms + 1
        held: list[Entry] = []
        for step in range(SEARCH_MAX):
            if not busy or len(held) == LOOKS_MAX or (step >= MOVES_MAX and best is not None):
                break
            entry = busy[0]
            number = self._by_order[entry >> VERSION_BITS & _ORDER]
            if number.version != entry & _VERSION:
                heappop(busy)
                continue
            key_ms = entry >> KEY_SHIFT
            if key_ms >= best_ms:
                break
            bound_ms = number.forecast_ms(urgent, 1, 0, 0)
            if bound_ms > key_ms:
                heapreplace(busy, bound_ms << KEY_SHIFT | entry & _ENTRY)
            elif self.recommended and (rested_ms := number.rested_ms(now_ms)):
                heappop(busy)
                heappush(self.resting, rested_ms << KEY_SHIFT | number.entry)
            else:
                if bound_ms <= now_ms and self.even and not number.messages:
                    at_ms = now_ms
                else:
                    at_ms = number.forecast_ms(urgent, units, now_ms)
                if at_ms < best_ms:
                    best, best_ms = number, at_ms
                if at_ms <= key_ms or at_ms <= enough_ms:
                    break
                heappop(busy)  # back with what it is worth by now, so that those behind it surface, too
                held.append(number.forecast_ms(urgent, 1, now_ms, 0) << KEY_SHIFT | entry & _ENTRY)
        for entry in held:
            heappush(busy, entry)
        return None if best is None else (best, best_ms)


Pick = Callable[[int, int, int, float], Candidate | None]


class Group:
    """Numbers that may serve one rung, link by link.

    `pick(units, now_ms, horizon_ms, chance)` gives the number from which `units` segments would leave soonest, no
    later than `horizon_ms`, or None. With one link, as nearly always, it is the part's own.
    """

    __slots__ = ("_by_order", "is_new", "parts", "pick", "recommended", "urgent")

    def __init__(self, by_order: list[Number], *, urgent: bool, recommended: bool) -> None:
        self._by_order = by_order
        self.urgent = urgent
        self.recommended = recommended
        self.is_new = True  # nothing was ever in it, and no ladder knows it yet
        self.parts: list[Part] = []
        self.pick: Pick = self._pick_among

    def part_of(self, link: Link[Number]) -> Part:
        """The part for a link, made if need be."""
        self.is_new = False
        for part in self.parts:
            if part.link is link:
                return part
        part = Part(self._by_order, link, urgent=self.urgent, recommended=self.recommended)
        self.parts.append(part)
        self.pick = part.pick if len(self.parts) == 1 else self._pick_among
        return part

    def _pick_among(self, units: int, now_ms: int, horizon_ms: int, chance: float) -> Candidate | None:
        parts = self.parts
        first = int(chance * len(parts))  # where chance decides, it decides among all links, too
        best: Candidate | None = None
        for part in (*parts[first:], *parts[:first]):
            found = part.pick(units, now_ms, horizon_ms, chance * len(parts) - first)
            if found is not None and (best is None or is_sooner(found, best)):
                best = found
        return best

    def pick_behind_links(self, units: int, now_ms: int, horizon_ms: int, chance: float) -> Candidate | None:
        """The soonest of those whose link is down: where a message waits when nobody else fits."""
        best: Candidate | None = None
        for part in self.parts:
            if not part.link.fits(now_ms):
                found = part.pick(units, now_ms, horizon_ms, chance, True)
                if found is not None and (best is None or is_sooner(found, best)):
                    best = found
        return best
