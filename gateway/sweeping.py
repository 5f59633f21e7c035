"""Ends what was sent and never reported: after `report_wait` no report will come, and `sent` is final."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

import structlog

from gateway.clock import Clock
from gateway.facts import Facts
from resolver.model import Message
from storage.records import Entry, FactKind, JournalUnavailable, State

log = structlog.get_logger(__name__)

DAY_MS: Final = 86_400_000
LOOK_BACK_MS: Final = 30 * DAY_MS
"""How far back the first sweep looks: a gateway that was down for longer leaves its older messages `sent`."""
OVERLAP_MS: Final = 3_600_000


class Archive(Protocol):
    """What is stored about messages."""

    def unreported(self, *, since_ms: int, until_ms: int) -> AsyncIterator[list[Message]]:
        """Messages sent between the two instants that have not ended, page by page."""


class Sweeping:
    """Call `sweep` now and then; it goes on where the last one ended."""

    def __init__(self, archive: Archive, facts: Facts, *, clock: Clock, report_wait_ms: int) -> None:
        self._archive = archive
        self._facts = facts
        self._clock = clock
        self._report_wait_ms = report_wait_ms
        self._swept_ms = 0

    async def sweep(self) -> None:
        """End what is due. Raises storage's errors; what is done then stays done."""
        until_ms = self._clock.now_ms() - self._report_wait_ms
        since_ms = max(self._swept_ms - OVERLAP_MS, until_ms - LOOK_BACK_MS)
        ended = 0
        async for page in self._archive.unreported(since_ms=since_ms, until_ms=until_ms):
            if self._facts.is_behind:
                raise JournalUnavailable("facts wait to be stored")
            ended += await self._end(page)
        self._swept_ms = until_ms
        if ended:
            log.info("messages ended unreported", messages=ended)

    async def _end(self, page: list[Message]) -> int:
        entry = Entry()
        ended = 0
        for stored in page:
            # The one in memory, if there is one: reports fold into it, and it must not be folded twice.
            known = self._facts.awaiting.find_message(stored.message_id)
            message = known.message if known is not None else stored
            if message.state == State.SENT:
                self._facts.record(entry, message, FactKind.UNREPORTED)
                ended += 1
        settling = self._facts.keep(entry) if ended else None
        if settling is not None:
            await settling  # a page at a time, so that a long outage's worth does not fill the journal
        return ended
