"""How many connections there may be: of one address at most `connections_per_ip_max`, in all at most `connections_max`,
or as many as the process may have open files, less those it needs itself.

One too many is closed at once: the process never runs out of files, so whoever is connected, and the database, notice
nothing.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Final

import structlog

from gateway.settings import ServerSettings

log = structlog.get_logger(__name__)

FILES_RESERVED: Final = 100  # for the database, carriers, callbacks, logs
CONNECTIONS_MIN: Final = 16
COMPLAIN_S: Final = 10.0  # between two lines about too many connections


def connections_max(settings: ServerSettings) -> int:
    """Give how many connections there may be at once."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(CONNECTIONS_MIN, files - FILES_RESERVED) if files != resource.RLIM_INFINITY else sys.maxsize
    return min(room, settings.connections_max)


class Crowd:
    """The connections there are. `turned_away` counts those that were closed, by the bound they met."""

    def __init__(self, settings: ServerSettings, time_s: Callable[[], float]) -> None:
        self._most = connections_max(settings)
        self._most_of_one = settings.connections_per_ip_max
        self._time_s = time_s
        self._by_address: dict[str, int] = {}
        self._complained_s = -COMPLAIN_S
        self.open = 0
        self.turned_away: dict[str, int] = {"connections": 0, "connections_per_ip": 0, "head_ms": 0, "unread_ms": 0}

    def welcome(self, address: str) -> bool:
        """Count a connection; False when there are too many, of its address or in all."""
        self.open += 1
        count = self._by_address.get(address, 0) + 1
        self._by_address[address] = count
        if self.open > self._most:
            self._turn_away("connections")
        elif count > self._most_of_one:
            self._turn_away("connections_per_ip")
        else:
            return True
        return False

    def farewell(self, address: str) -> None:
        self.open -= 1
        count = self._by_address.get(address, 0) - 1
        if count > 0:
            self._by_address[address] = count
        else:
            self._by_address.pop(address, None)

    def _turn_away(self, bound: str) -> None:
        self.turned_away[bound] += 1
        now_s = self._time_s()
        if now_s - self._complained_s >= COMPLAIN_S:
            self._complained_s = now_s
            log.warning("connections are turned away", bound=bound, open=self.open, most=self._most)
