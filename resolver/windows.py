"""Rate windows over actual hand-overs: when the next one is lawful, and a forecast for what waits.

Invariants
* `times` holds the instants of the latest charges, sorted, at least the latest `keep` if there were so many, and what
  has not elapsed. What was forgotten was charged at `lost_ms` or before.
* `last_ms` is the latest charge, of those that were forgotten if none is remembered: most windows are of one unit, and
  need not look further.
* Any half-open span of `span_ms` holds at most `limit` charges: the next one is lawful when the `limit`-th last is
  at least a span old. Exact and sliding; O(1) but for the copy of at most `keep` references.
* A text of more units than the limit waits for an empty window and charges unit i at hand-over + ⌊i / limit⌋ spans,
  so it leaves whole, alone, and pays in time.
* Other limits hold at once and over the same charges. Over a longer span those that were forgotten may matter: they
  count at `lost_ms`, so in doubt the window under-sends.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
NEVER_MS: Final = -(1 << 60)


class Window:
    """At most `limit` units in any sliding span of `span_ms` milliseconds.

    `keep` is how many charges are remembered at least; more than the limit serves a softer threshold over the same
    charges.
    """

    __slots__ = ("keep", "last_ms", "limit", "lost_ms", "name", "sealed_ms", "span_ms", "times")

    def __init__(self, name: str, *, limit: int, span_ms: int, keep: int = 0) -> None:
        assert limit >= 1, (name, limit)
        assert span_ms >= 1, (name, span_ms)
        self.name = name
        self.limit = limit
        self.span_ms = span_ms
        self.keep = max(limit, keep)
        self.times: list[int] = []
        self.lost_ms = self.last_ms = NEVER_MS
        self.sealed_ms = NEVER_MS  # texts of several units charged until then are not given back: see `give_back`

    def lawful_ms(self, units: int) -> int:
        """The earliest instant at which `units` may be handed over, by actual charges alone; 0 when at once."""
        limit = self.limit
        times = self.times
        index = len(times) - limit + (units if units < limit else limit) - 1
        at_ms = (times[index] if index >= 0 else self.lost_ms) + self.span_ms
        return at_ms if at_ms > 0 else 0

    def forecast_ms(self, ahead: int, units: int, now_ms: int) -> int:
        """When `units` are expected to leave if `ahead` units leave before them, each as soon as it may.

        Exact for single units and one window; never earlier than `now_ms`. With `now_ms` 0 it is a bound that does
        not move with time.
        """
        limit = self.limit
        spans, place = divmod(ahead + (units if units < limit else limit) - 1, limit)
        times = self.times
        index = len(times) - limit + place
        at_ms = (times[index] if index >= 0 else self.lost_ms) + self.span_ms
        if at_ms < now_ms:
            at_ms = now_ms
        return at_ms + spans * self.span_ms

    def charge(self, units: int, at_ms: int) -> None:
        """Count `units` handed over at `at_ms`; the caller has seen that it is lawful."""
        times = self.times
        if units > 1:
            self._charge_text(units, at_ms)
        elif times and at_ms < self.last_ms:  # after a restart some count later than they were
            insort(times, at_ms)
        else:
            times.append(at_ms)
            self.last_ms = at_ms
        # A window of thousands forgets an eighth at a time, so that it does not move all the others for each one.
        if len(times) > self.keep + (self.keep >> 3):
            surplus = len(times) - self.keep
            if times[surplus - 1] > at_ms - self.span_ms:  # of a long text, to be paid for still
                surplus = bisect_right(times, at_ms - self.span_ms)
            if surplus:
                self.lost_ms = max(self.lost_ms, times[surplus - 1])
                del times[:surplus]

    def give_back(self, units: int, at_ms: int) -> None:
        """Forget a charge that did not happen after all; one that has left the memory is gone already.

        A text of several units charged under other limits stays charged: which instants were its own is not known.
        """
        if units > 1 and at_ms <= self.sealed_ms:
            return
        times = self.times
        for instant in self._instants(units, at_ms):
            index = bisect_right(times, instant) - 1
            if index >= 0 and times[index] == instant:
                del times[index]
        self.last_ms = times[-1] if times else self.lost_ms

    def forget(self, at_ms: int) -> None:
        """Something was charged at `at_ms` that is older than all that is remembered."""
        self.lost_ms = max(self.lost_ms, at_ms)
        self.last_ms = max(self.last_ms, at_ms)

    def latest_ms(self, until_ms: int) -> int:
        """The latest charge no later than `until_ms`; 0 when there is none."""
        place = bisect_right(self.times, until_ms)
        return self.times[place - 1] if place else max(0, self.lost_ms)

    def change(self, *, limit: int, span_ms: int, keep: int = 0) -> None:
        """Take other limits at once; what was used stays used."""
        if (limit, span_ms, max(limit, keep)) == (self.limit, self.span_ms, self.keep):
            return
        if self.times:
            self.sealed_ms = self.times[-1]
        self.limit, self.span_ms, self.keep = limit, span_ms, max(limit, keep)

    def copy(self) -> Window:
        """The same window, on its own from now on."""
        twin = Window(self.name, limit=self.limit, span_ms=self.span_ms, keep=self.keep)
        twin.times, twin.lost_ms, twin.sealed_ms = self.times.copy(), self.lost_ms, self.sealed_ms
        twin.last_ms = self.last_ms
        return twin

    def _charge_text(self, units: int, at_ms: int) -> None:
        times = self.times
        instants = self._instants(units, at_ms)
        if times and at_ms < times[-1]:
            for instant in instants:
                insort(times, instant)
        else:
            times.extend(instants)
        self.last_ms = times[-1]

    def _instants(self, units: int, at_ms: int) -> list[int]:
        """The instants that `units` handed over at `at_ms` are charged at."""
        limit = self.limit
        if units <= limit:
            return [at_ms] * units
        return [at_ms + unit // limit * self.span_ms for unit in range(units)]


class Tally:
    """Hand-overs by the hour, of a number that no day limits: should a limit come, what was used counts.

    At most 26 entries. An hour's hand-overs count at its end, so in doubt the day under-sends.
    """

    __slots__ = ("hours",)

    def __init__(self) -> None:
        self.hours: dict[int, int] = {}

    def count(self, at_ms: int, sign: int = 1) -> None:
        """Add (1) or take back (-1) a hand-over."""
        hour = at_ms // HOUR_MS
        self.hours[hour] = self.hours.get(hour, 0) + sign
        while len(self.hours) > 26:
            del self.hours[min(self.hours)]

    def pour(self, window: Window, until_ms: int) -> None:
        """Charge a day's window, new, with what was counted; none of it later than `until_ms`."""
        for hour, count in sorted(self.hours.items()):
            for _ in range(min(count, window.keep)):
                window.charge(1, min((hour + 1) * HOUR_MS, until_ms))
