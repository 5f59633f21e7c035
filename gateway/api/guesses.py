"""Wrong credentials wait for their answer, longer each time; right ones never do.

Wrong ones are counted by the address they come from and by the account they name, whether or not there is one, and the
larger count says how long their 401 is held back. So guessing becomes slow, from one address or from many, and nobody
is ever locked out: whoever knows the token is let in at once, at any time. What waits is bounded by the connections
there may be, since each holds one.
"""

from __future__ import annotations

from typing import Final

from gateway.clock import Clock

FREE: Final = 5  # a typing error, or a token that was just changed, costs nobody anything
FIRST_MS: Final = 100
FORGOTTEN_MS: Final = 10 * 60_000  # without another wrong one
NAME_MAX: Final = 40  # characters; an account's id has 20
KEPT_MAX: Final = 10_000  # addresses, and as many accounts; those that were quiet for the longest time go first


class Guesses:
    """Counts wrong credentials. SDKs give up after 5 s and should hear why: `most_ms` is best well below."""

    def __init__(self, clock: Clock, *, most_ms: int) -> None:
        self._clock = clock
        self._most_ms = most_ms
        self._addresses: dict[str, tuple[int, int]] = {}
        self._accounts: dict[str, tuple[int, int]] = {}

    async def hold(self, address: str, account: str) -> None:
        """Count wrong credentials and wait as long as their answer has to."""
        wait_ms = self.count(address, account)
        if wait_ms:
            await self._clock.sleep_ms(wait_ms)

    def count(self, address: str, account: str) -> int:
        """Count wrong credentials; give how many milliseconds their answer has to wait."""
        now_ms = self._clock.monotonic_ms()
        of_address = _counted(self._addresses, address, now_ms)
        most = max(of_address, _counted(self._accounts, account[:NAME_MAX], now_ms))
        return min(FIRST_MS << min(most - FREE - 1, 16), self._most_ms) if most > FREE else 0


def _counted(counts: dict[str, tuple[int, int]], name: str, now_ms: int) -> int:
    """Count one of `name`; the dictionary is in the order of the last one."""
    count, last_ms = counts.pop(name, (0, now_ms))
    count = count + 1 if now_ms - last_ms < FORGOTTEN_MS else 1
    counts[name] = count, now_ms
    if len(counts) > KEPT_MAX:
        del counts[next(iter(counts))]
    return count
