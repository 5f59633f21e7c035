"""Webhooks that came lately, by what makes each of them single: a nonce, or a signature.

A nonce belongs to the first body that comes with it, from before that body is read and whatever becomes of it: the same
nonce with another body is forged, also while the first is being stored. The same body again may be the carrier, whose
line broke before our answer, as well as somebody who listened; once it was stored it is answered as before and nothing
is done, until then it is tried again. Kept in memory alone, so a start forgets them.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from gateway.clock import Clock
from resolver.model import CarrierName

KEPT_MS: Final = 86_400_000  # as long as carriers go on to repeat
REPLAYS_MAX: Final = 50_000  # about 530 bytes each


class Bound:
    """A nonce and the one body it may come with. `counts`: what was answered, once all of it was stored."""

    __slots__ = ("at_ms", "counts", "digest")

    def __init__(self, at_ms: int, digest: bytes) -> None:
        self.at_ms = at_ms
        self.digest = digest
        self.counts: dict[str, int] | None = None


class Replays:
    """Bounded by number and by time: the oldest are forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bound: OrderedDict[tuple[CarrierName, str], Bound] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bound)

    def bind(self, carrier: CarrierName, nonce: str, body: bytes) -> Bound | None:
        """Bind a nonce to its body; None where it is another body's."""
        now_ms = self._clock.monotonic_ms()
        while self._bound and next(iter(self._bound.values())).at_ms <= now_ms - KEPT_MS:
            self._bound.popitem(last=False)
        digest = blake2b(body, digest_size=16).digest()
        bound = self._bound.get((carrier, nonce))
        if bound is not None:
            return bound if bound.digest == digest else None
        if len(self._bound) >= REPLAYS_MAX:
            self._bound.popitem(last=False)
        bound = self._bound[carrier, nonce] = Bound(now_ms, digest)
        return bound
