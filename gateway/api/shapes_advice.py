"""How advice is told: what a volume needs and why, and what came of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from gateway.api.bodies import Values
from gateway.api.errors import invalid
from gateway.api.times import utc
from resolver.model import E164
from resolver.simulation import Course
from resolver.sizing import Need

NUMBERS_SHOWN_MAX: Final = 100
SEGMENTS_MAX: Final = 10
RATE_MAX: Final = 100_000


def read_rate(values: Values, name: str) -> Fraction | None:
    """So many a second, a decimal number; None where nothing is said. Raises ApiError."""
    said = values.get(name)
    if said is None or said == "":
        return None
    try:
        rate = Fraction(str(said)) if not isinstance(said, bool) and len(str(said)) <= 20 else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(-1)
    if not 0 < rate <= RATE_MAX:
        raise invalid(name, f"must be a number over 0, at most {RATE_MAX}")
    return rate


def render_need(need: Need) -> dict[str, object]:
    limits = need.limits
    rate = f"{limits.segments} segment{'s' if limits.segments > 1 else ''} every {limits.span_ms // 1_000} s"
    by_day = f"{need.daily} messages a day at {limits.day_recommended} a number take {need.by_day}"
    by_peak = f"{float(need.peak_per_s):g} a second at {rate} a number take {need.by_peak}"
    return {
        "country": need.country,
        "daily": need.daily,
        "peak_per_second": float(need.peak_per_s),
        "numbers": need.numbers,
        "by_day": need.by_day,
        "by_peak": need.by_peak,
        "reason": f"{by_day}; {by_peak}; the larger counts" if need.peak_per_s else by_day,
    }


def render_course(course: Course, recommended: Mapping[E164, int], *, starts_ms: int) -> dict[str, object]:
    """`recommended`: messages a day of each number, 0 where there is no recommendation."""
    waits = sorted(course.waits_ms)
    most = sorted(course.messages.items(), key=lambda item: (-item[1], item[0]))
    over = sum(0 < recommended.get(number, 0) < count for number, count in most)
    return {
        "messages": course.arrived,
        "handed_over": len(waits),
        "refused": course.refused.total(),
        "refused_by_code": {str(code): count for code, count in course.refused.items()},
        "expired": course.expired,
        "starts_at": utc(starts_ms),
        "first_at": utc(course.first_ms) if waits else None,
        "last_at": utc(course.last_ms) if waits else None,
        "wait_ms": {
            "median": waits[len(waits) // 2] if waits else None,
            "p95": waits[len(waits) * 95 // 100] if waits else None,
            "longest": waits[-1] if waits else None,
        },
        "tiers": {str(tier): count for tier, count in course.tiers.items()},
        "types": {str(each): count for each, count in course.types.items()},
        "windows": dict(course.windows),
        "numbers_used": len(most),
        "numbers_over_recommended": over,
        "numbers": [
            {"number": number.removeprefix("+"), "messages": count, "day_recommended": recommended.get(number) or None}
            for number, count in most[:NUMBERS_SHOWN_MAX]
        ],
    }
