"""What the windows of a number and of its carrier's link have left, for people to look at. Nothing is decided by it."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from resolver.links import Link
from resolver.queues import Number
from resolver.windows import DAY_MS, Window


class Standing(NamedTuple):
    """One window at one instant. A recommendation steers the choice of a number; everything else is law."""

    scope: str  # number, link
    name: str
    unit: str  # segments, messages
    limit: int
    span_ms: int
    used: int  # handed over within the span; more than the limit where that was lowered since
    room: int
    free_ms: int  # when the next unit may go, by what was handed over; what waits goes before it
    is_law: bool


def standings_of(number: Number, now_ms: int) -> list[Standing]:
    """Give a number's windows: its rate, and where there are such the law of the day and its recommendation."""
    found = [_standing("number", number.rate, "segments", now_ms)]
    if number.day_law is not None:
        found.append(_standing("number", number.day_law, "messages", now_ms))
    if number.day is not None and number.day_recommended:
        times, limit = number.day.times, number.day_recommended
        used = len(times) - bisect_right(times, now_ms - DAY_MS)
        at_ms = times[-limit] + DAY_MS if len(times) >= limit else 0
        room, free_ms = max(0, limit - used), max(at_ms, now_ms)
        found.append(
            Standing("number", "day_recommended", "messages", limit, DAY_MS, used, room, free_ms, is_law=False)
        )
    return found


def standing_of_link(link: Link[Number], now_ms: int) -> Standing:
    """Give the window all numbers of a carrier share."""
    return _standing("link", link.window, "segments", now_ms)


def _standing(scope: str, window: Window, unit: str, now_ms: int) -> Standing:
    times = window.times
    used = len(times) - bisect_right(times, now_ms - window.span_ms)
    free_ms = max(window.lawful_ms(1), now_ms)
    return Standing(
        scope, window.name, unit, window.limit, window.span_ms, used, max(0, window.limit - used), free_ms, True
    )
