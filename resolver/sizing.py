"""How many long codes a volume needs, and where they should be.

A number is not to send more than `day_recommended` a day, nor more than its rate at the peak; so the larger of the two
counts is needed (the Powerpack introduction's 150 a day, and the published rates: resolver/limits.py). Counts are of
one country; between places they are shared out by whom is written to, so that Local Connect finds a number nearby.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import NamedTuple, TypeVar

from resolver.limits import default_limits
from resolver.model import Limits, NumberType

P = TypeVar("P", bound=tuple[str, str])


class Need(NamedTuple):
    """What one country's volume takes. `numbers` is the larger of the two counts."""

    country: str
    daily: int  # messages
    peak_per_s: Fraction  # messages
    limits: Limits
    by_day: int
    by_peak: int

    @property
    def numbers(self) -> int:
        return max(self.by_day, self.by_peak)


def size(country: str, *, daily: int, peak_per_s: Fraction = Fraction(0), segments: int = 1) -> Need:
    """Count the long codes that carry `daily` messages of so many segments, `peak_per_s` in the worst second."""
    limits = default_limits(NumberType.LONG_CODE, country, campaign_approved=True)
    per_s = Fraction(limits.segments * 1_000, limits.span_ms * segments)
    return Need(
        country, daily, peak_per_s, limits, ceil(Fraction(daily, limits.day_recommended)), ceil(peak_per_s / per_s)
    )


def spread(count: int, shares: Mapping[P, int]) -> dict[P, int]:
    """Share `count` out in proportion, the largest remainders rounded up; ties by name. Who gets none is absent.

    The parts add up to `count`, unless nobody has a share.
    """
    whole = sum(shares.values())
    if not whole:
        return {}
    parts = {place: divmod(count * share, whole) for place, share in shares.items()}
    left = count - sum(part for part, _ in parts.values())
    lucky = sorted(parts, key=lambda place: (-parts[place][1], place))[:left]
    found = {place: part + (place in lucky) for place, (part, _) in parts.items()}
    return {place: part for place, part in sorted(found.items()) if part}
