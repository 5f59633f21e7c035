"""How instants are written: Plivo has three ways, we use one of them for our own keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_plivo_filter = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?"
).fullmatch

SECONDS_MAX: Final = 5_000
_seconds: dict[int, str] = {}
"""Texts of seconds: forecasts of many messages lie in the same few."""


def utc(at_ms: int) -> datetime:
    """Give an instant as orjson writes it best: 2024-04-05T06:53:20.123000Z (with OPT_UTC_Z)."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC)


def stamp(at_ms: int) -> str:
    """Write an instant as orjson writes `utc` of it, in a third of the time where seconds come again."""
    at_s, ms = divmod(at_ms, 1_000)
    second = _seconds.get(at_s)
    if second is None:
        if len(_seconds) >= SECONDS_MAX:
            _seconds.clear()
        second = _seconds[at_s] = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{ms:03d}000Z" if ms else f"{second}Z"


def iso(at_ms: int) -> str:
    """Six digits and a Z, as in a powerpack's `created_on`: 2020-09-23T09:31:25.924000Z."""
    return utc(at_ms).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def spaced(at_ms: int) -> str:
    """Say it as status callbacks do, in UTC: 2020-09-23 09:31:25.924000."""
    return utc(at_ms).strftime("%Y-%m-%d %H:%M:%S.%f")


def zoned(at_ms: int) -> str:
    """Say it as a message does, with the account's offset (ours is UTC): 2021-07-13 13:04:06.799000+00:00."""
    return spaced(at_ms) + "+00:00"


def read_filter(text: str) -> int | None:
    """Read `YYYY-MM-DD HH:MM[:ss[.uuuuuu]]`, UTC; None when it is not written so. What is finer than 1 ms falls off."""
    matched = _plivo_filter(text)
    if matched is None:
        return None
    year, month, day, hour, minute, second, fraction = matched.groups()
    micros = int((fraction or "").ljust(6, "0"))
    try:
        at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros, UTC)
    except ValueError:
        return None
    return int(at.timestamp()) * 1_000 + micros // 1_000
