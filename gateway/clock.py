"""Time, ids and chance: what a simulation must own, so everybody gets them passed.

The clock's promises, which the rate windows rest on:

* `now_ms` never goes back, and from the anchor on it keeps the pace of the monotonic clock within 500 ppm, whatever
  is done to the wall clock meanwhile. So no step of it reopens a window, closes one for hours, or stops sending.
* It starts at the wall clock or at the newest time the journal knows, whichever is later: a machine that comes back
  with its clock behind does not send again what its windows have seen.
* Small differences from the wall clock are slewed in. Steps (over a second at once) are too, at the same slow pace,
  and are alarmed: an administrator mends the wall clock or starts the gateway again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

log = structlog.get_logger(__name__)

Chance = Callable[[], float]
"""A number from 0 up to, not including, 1."""

NS_PER_MS: Final = 1_000_000
COUNT_MAX: Final = 0xFFF
VARIANT: Final = 0x8000_0000_0000_0000
SLEW_PPM: Final = 500  # what NTP itself slews; far inside the 2 % that short windows keep against skew
STEP_MS_MIN: Final = 1_000  # the wall clock does not drift that far between two looks
LOOK_EVERY_MS: Final = 1_000


class Clock(Protocol):
    """What everybody needs of time."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch; never less than before."""

    def monotonic_ms(self) -> int:
        """Milliseconds from an arbitrary start, for deadlines and durations."""

    async def sleep_ms(self, ms: int) -> None: ...


class Ids(Protocol):
    """Where ids come from."""

    def new(self) -> str:
        """A UUIDv7 as text, greater than every one before it in this process."""


def _elapsed_ns() -> int:
    """Read the monotonic clock that goes on while the machine sleeps: to a rate window that time has passed, too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class SystemClock:
    """The clock of a real process. A task runs `watch`; without it the clock just stays monotonic.

    State: `now = elapsed + offset`, never below the highest value given. Only `anchor` and `look` move the offset.
    """

    def __init__(
        self,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        elapsed_ns: Callable[[], int] = _elapsed_ns,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._wall_ns, self._elapsed_ns, self._sleep = wall_ns, elapsed_ns, sleep
        self._offset_ns = wall_ns() - elapsed_ns()
        self._highest_ms = 0
        self._looked_ns = elapsed_ns()
        self._seen_ms = 0  # how far the wall clock was ahead of us at the last look
        self.steps = 0  # of the wall clock, for the metrics

    def now_ms(self) -> int:
        """Cost: 0.2 µs."""
        now = (self._elapsed_ns() + self._offset_ns) // NS_PER_MS
        if now < self._highest_ms:  # slewing back, or an anchor ahead
            return self._highest_ms
        self._highest_ms = now
        return now

    def monotonic_ms(self) -> int:
        return self._elapsed_ns() // NS_PER_MS

    async def sleep_ms(self, ms: int) -> None:
        await self._sleep(max(ms, 0) / 1_000)

    def anchor(self, newest_ms: int) -> None:
        """Go on from the newest time the journal knows, if that is later than now. Called once, after recovery."""
        behind_ms = newest_ms - self.now_ms()
        if behind_ms > 0:
            self._offset_ns += behind_ms * NS_PER_MS
            log.warning("the journal is ahead of the clock", ahead_ms=behind_ms)
        self._seen_ms = self.behind_ms()

    def behind_ms(self) -> int:
        """Say how far we are behind the wall clock; negative: ahead of it."""
        return (self._wall_ns() - self._elapsed_ns() - self._offset_ns) // NS_PER_MS

    def look(self) -> None:
        """Compare with the wall clock: slew towards it by 500 ppm of the time since the last look; alarm a step."""
        elapsed_ns = self._elapsed_ns()
        most_ns = max(0, elapsed_ns - self._looked_ns) * SLEW_PPM // 1_000_000
        self._looked_ns = elapsed_ns
        behind_ns = self._wall_ns() - elapsed_ns - self._offset_ns
        behind_ms = behind_ns // NS_PER_MS
        if abs(behind_ms - self._seen_ms) >= STEP_MS_MIN:
            self.steps += 1
            log.error("the wall clock stepped", by_ms=behind_ms - self._seen_ms, behind_ms=behind_ms)
        slewed_ns = min(most_ns, max(-most_ns, behind_ns))
        self._offset_ns += slewed_ns
        self._seen_ms = (behind_ns - slewed_ns) // NS_PER_MS

    async def watch(self) -> None:
        """Look every second, until cancelled."""
        while True:
            await self.sleep_ms(LOOK_EVERY_MS)
            self.look()


def wall_ms() -> int:
    """Milliseconds since the Unix epoch by the machine's clock, for what has no clock of its own."""
    return time.time_ns() // NS_PER_MS


class SystemIds:
    """UUIDv7 by the gateway's own clock, in order also within a millisecond. Cost: 0.6 µs.

    Days are told from ids, by partitions and by recovery, so an id must be as old as the clock says and no older: a
    library's takes the machine's time, and a machine whose clock was set back would hide new messages among old ones.
    """

    def __init__(self, now_ms: Callable[[], int] = wall_ms) -> None:
        self._now_ms = now_ms
        self._random = random.Random().getrandbits  # noqa: S311 - seeded by the system; ids guard nothing
        self._last_ms = 0
        self._count = 0
        self._head = ""  # what all ids of a millisecond have in common

    def new(self) -> str:
        now_ms = self._now_ms()
        if now_ms > self._last_ms:
            self._begin(now_ms)
        elif self._count < COUNT_MAX:
            self._count += 1
        else:
            self._begin(self._last_ms + 1)  # a little ahead; the clock catches up
        tail = "%016x" % (VARIANT | self._random(62))
        return f"{self._head}{self._count:03x}-{tail[:4]}-{tail[4:]}"

    def _begin(self, at_ms: int) -> None:
        time_hex = f"{at_ms:012x}"
        self._last_ms, self._count, self._head = at_ms, 0, f"{time_hex[:8]}-{time_hex[8:]}-7"


def seeded_chance(seed: int | None = None) -> Chance:
    """Give a source of chance; the same seed gives the same numbers, None others each time."""
    return random.Random(seed).random  # noqa: S311 - spreads load, guards nothing
