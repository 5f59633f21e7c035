"""Whether this machine has room for more: memory, disk, and an event loop that keeps up.

Under pressure nothing more is accepted (503 `overloaded`) while what was accepted goes on leaving. It is looked at
beside the traffic; asking costs one attribute.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from gateway.clock import Clock
from gateway.settings import MIB, LimitsSettings

log = structlog.get_logger(__name__)

LAG_LOOK_MS: Final = 100
ROOM_LOOK_MS: Final = 1_000
RELIEF_PERCENT: Final = 5  # memory must fall so far below its mark again, so that the answer does not flicker
DISK_FREE_PERCENT_MIN: Final = 5

CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
STATM: Final = Path("/proc/self/statm")


class Room(NamedTuple):
    """How much of it there is."""

    memory_percent: float  # used, of what this process may use
    disk_free_bytes: int
    disk_free_percent: float


class Pressure:
    """`reason` says what is short, "" when nothing is. A task runs `watch`."""

    def __init__(self, limits: LimitsSettings, measure: Callable[[], Room], *, clock: Clock) -> None:
        self._limits, self._measure, self._clock = limits, measure, clock
        self.reason = ""
        self.lag_ms = 0
        self.room = Room(0.0, 0, 100.0)
        self._short_of = ""

    def is_high(self) -> bool:
        return bool(self.reason)

    async def watch(self) -> None:
        """Look until cancelled."""
        looked_ms = self._clock.monotonic_ms() - ROOM_LOOK_MS
        while True:
            began_ms = self._clock.monotonic_ms()
            if began_ms - looked_ms >= ROOM_LOOK_MS:
                looked_ms = began_ms
                self.see_room(await asyncio.to_thread(self._measure))  # a sick disk may hang
                began_ms = self._clock.monotonic_ms()
            await self._clock.sleep_ms(LAG_LOOK_MS)
            self.see_lag(max(0, self._clock.monotonic_ms() - began_ms - LAG_LOOK_MS))

    def see_lag(self, lag_ms: int) -> None:
        """The event loop came `lag_ms` late."""
        self.lag_ms = lag_ms
        self._conclude()

    def see_room(self, room: Room) -> None:
        """This much room there is."""
        self.room = room
        limits = self._limits
        relief = RELIEF_PERCENT if self._short_of == "memory" else 0
        if room.memory_percent > limits.memory_percent_max - relief:
            self._short_of = "memory"
        elif room.disk_free_bytes < limits.disk_free_mib_min * MIB or room.disk_free_percent < DISK_FREE_PERCENT_MIN:
            # A mark of 0 is a wish to go on to the last byte: then the percentage does not count either.
            self._short_of = "disk" if limits.disk_free_mib_min else ""
        else:
            self._short_of = ""
        self._conclude()

    def _conclude(self) -> None:
        reason = self._short_of or ("event loop" if self.lag_ms > self._limits.loop_lag_ms_max else "")
        if reason and reason != self.reason:
            log.error(
                "nothing more is accepted",
                short_of=reason,
                lag_ms=self.lag_ms,
                memory_percent=round(self.room.memory_percent),
                disk_free_mib=self.room.disk_free_bytes // MIB,
            )
        elif self.reason and not reason:
            log.info("accepting again", was_short_of=self.reason)
        self.reason = reason


def measure_room(data: Path) -> Room:
    """Measure this process and the disk `data` lies on. Blocks: 0.1 ms, and for ever on a disk that hangs."""
    page = os.sysconf("SC_PAGE_SIZE")
    virtual, resident = (int(pages) * page for pages in STATM.read_text("ascii").split()[:2])
    percent = 100 * resident / _memory_bytes_max()
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        percent = max(percent, 100 * virtual / address_space)
    disk = os.statvfs(data)
    return Room(percent, disk.f_bavail * disk.f_frsize, 100 * disk.f_bavail / max(1, disk.f_blocks))


def _memory_bytes_max() -> int:
    """What a container allows, else what the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in CGROUP_LIMITS:
        try:
            return min(machine, int(path.read_text("ascii")))
        except (OSError, ValueError):  # another version of cgroups, or "max"
            continue
    return machine
