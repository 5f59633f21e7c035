"""Cancelling many messages at once: whatever waits and matches, a bounded part in each turn of the loop.

Looks at what is open when it is called, so it ends however much comes in meanwhile. What was cancelled never leaves,
also when its fact could not be stored yet; what a carrier may have is not tried again. What cannot end at once, because
it is claimed or with a carrier, gets the fact `cancel_asked`, which a restart obeys.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog

from gateway.clock import Clock
from gateway.facts import Facts
from resolver.core import Resolver
from resolver.model import Message, Phase
from storage.records import Entry, FactKind, JournalUnavailable, Settled

log = structlog.get_logger(__name__)

LOOKED_AT_IN_A_ROW: Final = 2_000  # messages between two turns of the loop: about a millisecond
CANCELLED_IN_A_ROW: Final = 200  # one entry, about 4 ms
ENTRIES_OPEN_MAX: Final = 4
END_ASKED_MS_MAX: Final = 10_000

THEIRS: Final = (Phase.DEPARTED, Phase.UNKNOWN)


class Cancelled(NamedTuple):
    """How many messages, by what became of them."""

    cancelled: int = 0  # ended, and stored
    cancelling: int = 0  # claimed: stopped at the door
    in_flight: int = 0  # a carrier may have them
    complete: bool = True  # else time was up; what is left is found by calling again


class Cancelling:
    """See above."""

    def __init__(self, resolver: Resolver, facts: Facts, *, clock: Clock) -> None:
        self._resolver = resolver
        self._facts = facts
        self._clock = clock

    async def cancel(self, matches: Callable[[Message], bool], *, ms_max: int, detail: str = "cancelled") -> Cancelled:
        """Cancel what waits and matches; answers when it is stored. `detail` says in the facts who wanted it.

        Raises JournalUnavailable when facts cannot be stored; what was cancelled until then is, and will be.
        """
        until_ms = self._clock.monotonic_ms() + ms_max
        settling: deque[asyncio.Future[Settled]] = deque()
        counts = Cancelled()
        for part in _parts(list(self._resolver.open.values())):
            if self._clock.monotonic_ms() >= until_ms:
                counts = counts._replace(complete=False)
                break
            for some in _pieces([message for message in part if matches(message)]):
                if self._facts.is_behind:
                    raise JournalUnavailable("cancelled in part, and not all of it is stored yet")
                counts, entry = self._cancel(some, counts, detail)
                if not entry.facts:
                    continue
                future = self._facts.keep(entry)
                if future is None:
                    raise JournalUnavailable("cancelled in part, and not all of it is stored yet")
                settling.append(future)
                if len(settling) >= ENTRIES_OPEN_MAX:
                    await _stored(settling.popleft())
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        while settling:
            await _stored(settling.popleft())
        return counts

    async def end_asked(self) -> None:
        """End what was being cancelled when the last process ended; before anything leaves. What cannot be stored at
        the moment ends at the door.
        """
        try:
            await self.cancel(lambda message: message.cancelled, ms_max=END_ASKED_MS_MAX)
        except JournalUnavailable as error:
            log.warning("what was being cancelled is not ended yet", error=str(error))

    def _cancel(self, messages: Sequence[Message], counts: Cancelled, detail: str) -> tuple[Cancelled, Entry]:
        entry, now_ms = Entry(), self._clock.now_ms()
        cancelled, cancelling, in_flight, complete = counts
        for message in messages:
            phase = message.phase
            if phase in THEIRS:
                in_flight += 1
                if not message.cancelled:
                    message.cancelled = True  # should it come back, it ends at the door
                    self._facts.record(entry, message, FactKind.CANCEL_ASKED, detail=detail)
            elif message.committed and self._resolver.cancel(message, now_ms=now_ms):
                if phase is Phase.RELEASED:
                    cancelling += 1
                    self._facts.record(entry, message, FactKind.CANCEL_ASKED, detail=detail)
                    continue
                cancelled += 1
                self._facts.record(entry, message, FactKind.CANCELLED, detail=detail)
        return Cancelled(cancelled, cancelling, in_flight, complete), entry


def _parts(messages: list[Message]) -> list[list[Message]]:
    return [messages[at : at + LOOKED_AT_IN_A_ROW] for at in range(0, len(messages), LOOKED_AT_IN_A_ROW)]


def _pieces(messages: list[Message]) -> list[list[Message]]:
    return [messages[at : at + CANCELLED_IN_A_ROW] for at in range(0, len(messages), CANCELLED_IN_A_ROW)]


async def _stored(future: asyncio.Future[Settled]) -> None:
    if await future is not Settled.COMMITTED:
        raise JournalUnavailable("cancelled in part, and not all of it is stored yet")
