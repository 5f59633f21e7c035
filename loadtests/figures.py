"""A run in figures: percentiles, what was answered, whether the generator itself was in the way. Pure arithmetic."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

NS_PER_MS = 1_000_000
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
LATE_MS = 5.0
LATE_SHARE_MAX = 0.01
"""More starts than this over `LATE_MS` late: the latencies say more of the generator than of the gateway."""
BOUNDS_MS = tuple(round(10 ** (place / 10), 3) for place in range(-5, 46))
"""Histogram: upper bounds from 0.3 ms to 32 s, ten to a decade."""


class Slice(NamedTuple):
    """One second of the run, by intended start."""

    second: int
    answered: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Figures(NamedTuple):
    """What a run came to. Latencies are from the intended start to the last byte of a good answer."""

    mode: str
    messages_per_request: int
    intended_per_s: float
    achieved_per_s: float  # good answers, over the run's length or, if that is longer, until the last of them
    intended: int
    good: int
    faults: dict[str, int]  # what was not good: status and code, or how the connection failed
    statuses: dict[str, int]
    latency_ms: dict[str, float]
    own_lateness_ms: dict[str, float]
    late_share: float  # of starts more than LATE_MS after their instant
    queued: int  # starts that found every connection in use
    connections: int
    histogram: list[int]  # by BOUNDS_MS, and one for what is above
    slices: list[Slice]

    @property
    def is_own_fault(self) -> bool:
        """Whether the generator was the bottleneck."""
        return self.late_share > LATE_SHARE_MAX


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank); 0.0 of nothing."""
    if not ordered:
        return 0.0
    rank = ceil(round(share * len(ordered), 6))  # 0.55 × 20 is a little over 11 in binary
    return ordered[max(0, min(len(ordered), rank) - 1)]


def percentiles(values_ns: Sequence[int]) -> dict[str, float]:
    """In milliseconds, by the names of SHARES."""
    ordered = sorted(values_ns)
    return {name: round(percentile(ordered, share) / NS_PER_MS, 3) for name, share in SHARES.items()}


def late_share(late_ns: Sequence[int]) -> float:
    """How many starts this process was more than LATE_MS late for."""
    return sum(late > LATE_MS * NS_PER_MS for late in late_ns) / len(late_ns) if late_ns else 0.0


def histogram(values_ns: Sequence[int]) -> list[int]:
    """How many lie in each interval of BOUNDS_MS, the upper bound included; the last holds what is above them all."""
    counts = [0] * (len(BOUNDS_MS) + 1)
    for value in values_ns:
        counts[bisect_left(BOUNDS_MS, value / NS_PER_MS)] += 1
    return counts


class Answered(NamedTuple):
    """One good answer; nanoseconds from the beginning."""

    intended_ns: int
    latency_ns: int


def slices(answered: Sequence[Answered]) -> list[Slice]:
    """Second by second, so that a stall can be told from slowness."""
    by_second: dict[int, list[int]] = {}
    for intended_ns, latency_ns in answered:
        by_second.setdefault(intended_ns // 1_000_000_000, []).append(latency_ns)
    found = []
    for second, values in sorted(by_second.items()):
        shown = percentiles(values)
        found.append(Slice(second, len(values), shown["p50"], shown["p99"], shown["max"]))
    return found


def conclude(
    answered: Sequence[Answered],
    faults: Counter[str],
    statuses: Counter[str],
    *,
    mode: str,
    messages_per_request: int,
    rate_per_s: float,
    seconds: float,
    late_ns: Sequence[int],
    queued: int,
    connections: int,
) -> Figures:
    """Everything of a run that has ended."""
    latencies = [each.latency_ns for each in answered]
    last_ns = max((each.intended_ns + each.latency_ns for each in answered), default=0)
    return Figures(
        mode,
        messages_per_request,
        rate_per_s,
        round(len(answered) / max(seconds, last_ns / 1e9), 1),
        len(late_ns),
        len(answered),
        dict(faults.most_common()),
        dict(statuses.most_common()),
        percentiles(latencies),
        percentiles(late_ns),
        round(late_share(late_ns), 5),
        queued,
        connections,
        histogram(latencies),
        slices(answered),
    )
