"""Two things measured in turn, so that what a shared machine does meanwhile happens to both."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from typing import NamedTuple


class PairResult(NamedTuple):
    """Rates of interleaved runs, and the median of their ratios, first to second."""

    first: list[float]
    second: list[float]
    ratio: float


async def run_pairs(
    first: Callable[[], Awaitable[float]], second: Callable[[], Awaitable[float]], pairs: int
) -> PairResult:
    """Run both `pairs` times, each going first in every other pair. Both answer a rate."""
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(pairs):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        for which in order:
            rates[which].append(await (first, second)[which]())
    ratios = [one / other for one, other in zip(*rates, strict=True)]
    return PairResult(rates[0], rates[1], statistics.median(ratios))
