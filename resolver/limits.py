"""What one number may be handed unless said otherwise: rates and days as data, each with its source.

The law's own numbers live here and nowhere else. The unit of a window is the segment, that of a day the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resolver.model import Limits, NumberType

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000

NO_RECOMMENDATION: Final = 2**31
"""`day_recommended` of numbers no day steers: more than any rate allows in 24 hours (100 a second: 8,640,000)."""

LONG_CODE_DAY: Final = 150
"""Messages a day. Plivo's Powerpack stops preferring a long code here, since carriers begin to filter; without an
approved 10DLC campaign it is law as well (ours: unregistered traffic is what the carriers block first)."""

CLOCK_SKEW_PERCENT: Final = 2
"""Added to short spans, so that a carrier whose clock or sampling differs never counts one segment too many. A
saturated number still stays at 98 % of its rate, above the 97 % we promise."""

_LIMITS: Final[Mapping[tuple[NumberType, str], Limits]] = {
    # Plivo's published rates: 1 segment a second from a US long code ...
    (NumberType.LONG_CODE, "US"): Limits(1, SECOND_MS, LONG_CODE_DAY, LONG_CODE_DAY),
    # ... 15 a minute from a Canadian one, so its 150 take ten minutes.
    (NumberType.LONG_CODE, "CA"): Limits(15, MINUTE_MS, LONG_CODE_DAY, LONG_CODE_DAY),
    # One toll-free route serves both countries. Verified numbers have no daily limit.
    (NumberType.TOLL_FREE, "US"): Limits(3, SECOND_MS, NO_RECOMMENDATION, None),
    (NumberType.TOLL_FREE, "CA"): Limits(3, SECOND_MS, NO_RECOMMENDATION, None),
    # Short codes are vetted by the networks and leased for volume.
    (NumberType.SHORT_CODE, "US"): Limits(100, SECOND_MS, NO_RECOMMENDATION, None),
    (NumberType.SHORT_CODE, "CA"): Limits(10, SECOND_MS, NO_RECOMMENDATION, None),
}

_SLOWEST: Final[Mapping[NumberType, str]] = {
    NumberType.LONG_CODE: "CA",
    NumberType.TOLL_FREE: "US",
    NumberType.SHORT_CODE: "CA",
}
"""Whose limits a number of any other country has: nothing is published for it here, so in doubt the slower."""


def default_limits(number_type: NumberType, country: str, campaign_approved: bool) -> Limits:
    """Give the limits of a number of this type and country. Spans are as published: see `padded_span_ms`.

    An approved campaign lifts a long code's `day_limit`; `day_recommended` still steers. It means nothing to others.
    """
    limits = _LIMITS.get((number_type, country)) or _LIMITS[number_type, _SLOWEST[number_type]]
    if campaign_approved and limits.day_limit is not None:
        return limits._replace(day_limit=None)
    return limits


def padded_span_ms(span_ms: int) -> int:
    """Give the span a window really keeps: up to a minute 2 % longer, rounded up; longer spans as they are.

    A rolling day needs none: what the skew of a clock is to a day, no carrier measures.
    """
    if span_ms > MINUTE_MS:
        return span_ms
    return -(-span_ms * (100 + CLOCK_SKEW_PERCENT) // 100)
