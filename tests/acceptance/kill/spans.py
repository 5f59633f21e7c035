"""Sliding windows, judged twice: by the gateway's hand-over stamps exactly, by the witness's arrivals with a jitter.

A hand-over is stamped in the loop turn of its write, in whole milliseconds. Its arrival is later by a delay: the way
through the kernel, and however long the witness waited for its turn. Of two hand-overs a lawful span apart the arrivals
are closer than that by at most the first one's delay:

    arrival2 - arrival1  =  (stamp2 - stamp1) + delay2 - delay1  >=  span - delay1

So the delay is measured where there is a stamp to measure it by: arrival minus stamp, less the smallest such difference
of that epoch (which holds the difference of the two clocks). An attempt without a stamp, since the gateway was killed
before its outcome, is given the largest delay measured in the run, at least the 2 % that the spans are padded with
(20 ms of a second). A moment in which the machine stood still so costs some sharpness and no false alarm; but when more
than `LATE_SHARE_MAX` of the arrivals were later than `LATE_MS`, the machine was too busy to tell anything by arrivals,
and the check says so instead of passing. On top come 2 ms for rounding and 500 ppm of the span, by which the gateway's
clock may be slewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from tests.acceptance.kill.evidence import Arrival, NumberLimits

DAY_MS: Final = 86_400_000
JITTER_MS_MIN: Final = 20.0
LATE_MS: Final = 100.0
LATE_SHARE_MAX: Final = 0.02
ROUNDING_MS: Final = 2.0
SLEW: Final = 0.0005


class Charge(NamedTuple):
    """One hand-over that counts."""

    at_ms: float
    segments: int
    delay_ms: float  # by how much the actual instant may have been earlier; 0 for a stamp
    name: str  # message and attempt, for the complaint


class Overfull(NamedTuple):
    """`limit` + 1 charges closer together than the span."""

    first: Charge
    last: Charge
    gap_ms: float


def find_overfull(charges: Iterable[Charge], *, limit: int, span_ms: int, slack_ms: float = 0.0) -> Iterator[Overfull]:
    """Every place where a span holds more than `limit` segments.

    A text of more segments than the limit leaves whole into an empty window and pays in time: segment i is charged at
    hand-over + ⌊i / limit⌋ spans.
    """
    units: list[tuple[float, Charge]] = []
    for charge in charges:
        units += [(charge.at_ms + place // limit * span_ms, charge) for place in range(charge.segments)]
    units.sort(key=lambda unit: unit[0])
    for (first_ms, first), (last_ms, last) in zip(units, units[limit:], strict=False):
        gap_ms = last_ms - first_ms
        if gap_ms + first.delay_ms + slack_ms < span_ms:
            yield Overfull(first, last, gap_ms)


def find_over_limits(
    charges: Sequence[Charge], limits: NumberLimits, *, by_arrival: bool
) -> Iterator[tuple[str, Overfull]]:
    """The violations of a number's rate and of its rolling day, each with the window's name."""
    slack_ms = ROUNDING_MS + limits.span_ms * SLEW if by_arrival else 0.0
    for found in find_overfull(charges, limit=limits.segments, span_ms=limits.span_ms, slack_ms=slack_ms):
        yield "rate", found
    if limits.day_limit is not None:
        messages = [charge._replace(segments=1) for charge in charges]
        for found in find_overfull(messages, limit=limits.day_limit, span_ms=DAY_MS):
            yield "day", found


class Stamp(NamedTuple):
    """When the gateway says that it handed an attempt over; its clock starts anew with each epoch."""

    at_ms: int
    epoch: int


Attempt = tuple[str, int]


class Jitter(NamedTuple):
    """How late arrivals are after their stamps."""

    delays_ms: dict[Attempt, float]

    @property
    def measured_ms(self) -> float:
        """The largest."""
        return max(self.delays_ms.values(), default=0.0)

    @property
    def late_share(self) -> float:
        """How many of them were later than `LATE_MS`; 1.0 when nothing was measured."""
        late = sum(delay_ms > LATE_MS for delay_ms in self.delays_ms.values())
        return late / len(self.delays_ms) if self.delays_ms else 1.0

    @property
    def worst_ms(self) -> float:
        """What is taken for those that have no stamp."""
        return max(JITTER_MS_MIN, self.measured_ms)

    def delay_of(self, arrival: Arrival) -> float:
        return self.delays_ms.get((arrival.message_id, arrival.attempt), self.worst_ms)


def measure_jitter(arrivals: Iterable[Arrival], stamps: dict[Attempt, Stamp]) -> Jitter:
    """See the head of this file."""
    late: dict[int, list[tuple[float, Attempt]]] = {}
    for arrival in arrivals:
        attempt = (arrival.message_id, arrival.attempt)
        stamp = stamps.get(attempt)
        if stamp is not None:
            late.setdefault(stamp.epoch, []).append((arrival.at_ms - stamp.at_ms, attempt))
    delays_ms: dict[Attempt, float] = {}
    for measured in late.values():
        least_ms = min(measured)[0]
        delays_ms.update({attempt: late_ms - least_ms for late_ms, attempt in measured})
    return Jitter(delays_ms)
