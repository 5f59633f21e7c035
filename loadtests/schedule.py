"""When requests are meant to start, and how late this process was about it. Pure: instants are given.

An open loop starts a request at its instant whether or not the former ones are answered, as the world does. What a
request waits for after its intended instant, for whatever reason, is part of its latency.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator

NS_PER_S = 1_000_000_000


def even_starts(rate_per_s: float, seconds: float) -> Iterator[int]:
    """Nanoseconds from the beginning, one period apart. The same rate for every run."""
    for place in range(round(rate_per_s * seconds)):
        yield round(place * NS_PER_S / rate_per_s)


def random_starts(rate_per_s: float, seconds: float, *, seed: int) -> Iterator[int]:
    """As of many clients who know nothing of one another (Poisson): bursts and gaps, the same for the same seed."""
    chance, at_s = random.Random(seed), 0.0
    while (at_s := at_s + chance.expovariate(rate_per_s)) < seconds:
        yield round(at_s * NS_PER_S)


class Schedule:
    """The starts of a run. `late_ns` holds, for each that was taken, by how much the asking came after it."""

    def __init__(self, starts: Iterable[int]) -> None:
        """`starts` in order."""
        self._starts = iter(starts)
        self.next_ns: int | None = next(self._starts, None)
        self.late_ns = array("q")

    def take(self, now_ns: int) -> list[int]:
        """The intended instants of all that are due; each is given once."""
        due: list[int] = []
        while self.next_ns is not None and self.next_ns <= now_ns:
            due.append(self.next_ns)
            self.late_ns.append(now_ns - self.next_ns)
            self.next_ns = next(self._starts, None)
        return due

    def wait_s(self, now_ns: int) -> float | None:
        """How long until the next is due; None after the last."""
        return None if self.next_ns is None else max(0, self.next_ns - now_ns) / NS_PER_S
