"""Whether a lane may hand over, and how fast: throttling, a link that is down, the careful way back.

Pure: instants come in, what follows is told to two callables. A link goes down by the carrier's own word, or after so
many failures in a row as the table of failures says. While it is down, one message at a time tries it, with growing
delays; the first answer brings it back. After a longer time away, and after throttling, the rate starts low and grows
step by step, so that nothing is flooded.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.carriers.carrier import GARBLED, THROTTLED, Failure

PAUSE_MS_DEFAULT = 1_000
PAUSE_MS_MIN = 100
PAUSE_MS_MAX = 60_000
"""Bounds of what a carrier's Retry-After can make a lane wait."""

PROBE_MS_FIRST = 250
PROBE_MS_MAX = 5_000
"""How long a link that is down is left alone between two tries."""

LONG_AWAY_MS = 5_000
LONG_AWAY_DIVISOR = 4
"""After so long down it starts with this part of its rate."""

BURST_MS = 100
"""What was not used of the rate can be made up for at most this span: a backlog leaves evenly, not in one burst."""

STEP_MS = 1_000
STEPS = 10
"""A lowered rate grows by a tenth of the agreed one each second."""


class Pace:
    """The state of one lane's link. `rate` is in segments per second, at most what was agreed.

    The link's window in the resolver is the law; this only spreads within the second what the window would allow.
    """

    def __init__(self, segments_per_s: int, *, set_rate: Callable[[int], None], set_up: Callable[[bool], None]) -> None:
        self._agreed = self.rate = segments_per_s
        self._set_rate, self._set_up = set_rate, set_up
        self.pause_until_ms = 0
        self.is_down = False
        self._says_down = False  # the carrier's own word
        self._down_since_ms = 0
        self._seems_up = True  # what was last told to `set_up`
        self._troubles = 0  # in a row
        self._probing = False
        self._probe_at_ms = 0
        self._probe_ms = PROBE_MS_FIRST
        self._lowered_ms = 0
        self._rate_ms = 0  # when the rate was last changed
        self._allowance = self._allowance_max  # thousandths of segments to be released; below 0 after a long text
        self._allowance_ms = 0

    def is_open(self, now_ms: int) -> bool:
        """Whether messages may be handed over without being a probe."""
        return not self.is_down and now_ms >= self.pause_until_ms

    def places(self, free: int, *, now_ms: int) -> int:
        """How many of `free` places may be filled."""
        if now_ms < self.pause_until_ms or self._says_down:
            return 0
        if self.is_down:
            return min(free, 1) if not self._probing and now_ms >= self._probe_at_ms else 0
        grown = self._allowance + (now_ms - self._allowance_ms) * self.rate
        self._allowance = min(grown, self._allowance_max)
        self._allowance_ms = now_ms
        return min(free, max(0, self._allowance // 1_000))

    def spend(self, segments: int) -> None:
        """So much was released."""
        self._allowance -= segments * 1_000

    @property
    def _allowance_max(self) -> int:
        return max(2_000, self.rate * BURST_MS)  # more than one segment, or its remainder would be lost

    def next_ms(self, now_ms: int) -> int | None:
        """When `places` may answer more than 0 by the mere passing of time; None: not before something happens."""
        if self._says_down or (self.is_down and self._probing):
            return None
        return max(now_ms, self.pause_until_ms, self._probe_at_ms if self.is_down else 0)

    # -- what happens ---------------------------------------------------------------------------------------------

    def answered(self, now_ms: int) -> None:
        """The carrier took or refused a message: the link stands."""
        self._troubles = 0
        if self.is_down and not self._says_down:
            self._come_back(now_ms)

    def failed(
        self, failure: Failure, *, departed_ms: int, retry_after_ms: int | None, now_ms: int, is_probe: bool = False
    ) -> None:
        """A hand-over failed. `departed_ms`: when the message was written, or given to the carrier."""
        if failure is THROTTLED:
            self.answered(now_ms)
            self._slow_down(departed_ms, retry_after_ms, now_ms)
        elif not failure.link_after:
            if failure is not GARBLED:
                self.answered(now_ms)
        else:
            self._troubles += 1
            if self.is_down:
                if is_probe:
                    self._probe_ms = min(self._probe_ms * 2, PROBE_MS_MAX)
                    self._wait_for_probe(now_ms)
            elif self._troubles >= failure.link_after:
                self._go_down(now_ms)

    def hear(self, up: bool, now_ms: int) -> None:
        """The carrier says that its link came or went."""
        self._says_down = not up
        if up:
            self.answered(now_ms)
        elif not self.is_down:
            self._go_down(now_ms)

    def begin_probe(self) -> None:
        self._probing = True

    def end_probe(self, now_ms: int) -> None:
        """The probe has its outcome, or it never left: then the next may try after the same delay."""
        self._probing = False
        if self.is_down:
            self._probe_at_ms = max(self._probe_at_ms, now_ms + self._probe_ms)

    def find_nothing_to_probe(self) -> None:
        """Nothing waits for a link that is down: let the next message be decided for it, or it would stay down."""
        self._tell_up(True)

    def tick(self, now_ms: int) -> None:
        """Let a lowered rate grow; called at least every second."""
        if self.rate < self._agreed and self.is_open(now_ms) and now_ms - self._rate_ms >= STEP_MS:
            self._change_rate(min(self._agreed, self.rate + max(1, self._agreed // STEPS)), now_ms)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _slow_down(self, departed_ms: int, retry_after_ms: int | None, now_ms: int) -> None:
        wait_ms = PAUSE_MS_DEFAULT if retry_after_ms is None else retry_after_ms
        wait_ms = min(max(wait_ms, PAUSE_MS_MIN), PAUSE_MS_MAX)
        self.pause_until_ms = max(self.pause_until_ms, now_ms + wait_ms)
        if departed_ms >= self._lowered_ms:  # once per crowd: others of it were on their way already
            self._lowered_ms = now_ms
            self._change_rate(max(1, self.rate // 2), now_ms)

    def _go_down(self, now_ms: int) -> None:
        self.is_down = True
        self._down_since_ms = now_ms
        self._probe_ms = PROBE_MS_FIRST
        self._wait_for_probe(now_ms)

    def _wait_for_probe(self, now_ms: int) -> None:
        self._probe_at_ms = now_ms + self._probe_ms
        self._tell_up(False)

    def _come_back(self, now_ms: int) -> None:
        self.is_down = False
        if now_ms - self._down_since_ms >= LONG_AWAY_MS:
            self._change_rate(max(1, min(self.rate, self._agreed // LONG_AWAY_DIVISOR)), now_ms)
        self._tell_up(True)

    def _change_rate(self, rate: int, now_ms: int) -> None:
        self._rate_ms = now_ms
        if rate != self.rate:
            self.rate = rate
            self._set_rate(rate)

    def _tell_up(self, up: bool) -> None:
        if up is not self._seems_up:
            self._seems_up = up
            self._set_up(up)
