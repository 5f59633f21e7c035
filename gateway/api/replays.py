"""Webhooks that were answered lately, by what makes each of them single: a nonce, or a signature.

One that comes again is answered as the first was, and nothing is done: it may be the carrier, whose line broke before
the answer, as well as somebody who listened. One that comes again with another body is forged. Only what was stored and
answered is remembered, so that a carrier may repeat what we could not take.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final, NamedTuple

from gateway.clock import Clock
from resolver.model import CarrierName

KEPT_MS: Final = 600_000
REPLAYS_MAX: Final = 50_000  # about 350 bytes each; a report that comes again later makes no second fact either


class Answered(NamedTuple):
    """What was answered to a webhook."""

    at_ms: int
    digest: bytes
    counts: dict[str, int]


class Replays:
    """Bounded by number and by time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered: OrderedDict[tuple[CarrierName, str], Answered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answered)

    def find(self, carrier: CarrierName, nonce: str) -> Answered | None:
        """What was answered to this webhook, if it came within KEPT_MS."""
        self._forget(REPLAYS_MAX)
        return self._answered.get((carrier, nonce))

    def remember(self, carrier: CarrierName, nonce: str, body: bytes, counts: dict[str, int]) -> None:
        """Note that a webhook was answered."""
        self._forget(REPLAYS_MAX - 1)
        self._answered[carrier, nonce] = Answered(self._clock.monotonic_ms(), digest_of(body), counts)

    def _forget(self, most: int) -> None:
        old_ms = self._clock.monotonic_ms() - KEPT_MS
        while self._answered:
            oldest = next(iter(self._answered.values()))
            if len(self._answered) <= most and oldest.at_ms > old_ms:
                return
            self._answered.popitem(last=False)


def digest_of(body: bytes) -> bytes:
    """Stand for a body where two are compared."""
    return blake2b(body, digest_size=16).digest()
