"""Messages of a powerpack that is gone: each ends as failed, and its account is told.

Invariant: a fact is recorded only for a message whose own decision is durable; until then it waits in `_later`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container, Iterable
from itertools import islice
from typing import Final

from gateway.clock import Clock
from gateway.facts import Facts
from resolver.core import Resolver
from resolver.model import NO_POWERPACK, Message, Phase, PowerpackId
from storage.records import Entry, FactKind

ENDED_IN_AN_ENTRY: Final = 500
ENTRIES_IN_A_TICK: Final = 4
LOOKED_AT_IN_A_ROW: Final = 5_000  # messages between two turns of the loop: a millisecond or two
TAKEN_OUT_IN_A_ROW: Final = 500  # the same
LOOKED_AT_IN_A_TICK: Final = 1_000  # messages without a number; the others' turn comes when these have one


class Endings:
    """What deletions left to do."""

    def __init__(self, resolver: Resolver, facts: Facts, *, clock: Clock) -> None:
        self._resolver = resolver
        self._facts = facts
        self._clock = clock
        self._due: deque[Message] = deque()
        self._later: dict[Message, None] = {}  # taken out before their decision was durable

    def end(self, messages: Iterable[Message]) -> None:
        """End these, as soon as their decisions are durable."""
        for message in messages:
            if message.committed:
                self._due.append(message)
            else:
                self._later[message] = None

    async def take_out(self, powerpack_id: PowerpackId) -> None:
        """Take what waits of a powerpack out of its queues and end it, a bounded part in each turn of the loop.

        For one that is paused; what holds a slot stays, and comes back from its lane.
        """
        resolver, taken = self._resolver, 0
        for place, message in enumerate(list(resolver.open.values())):
            if place % LOOKED_AT_IN_A_ROW == 0 or taken == TAKEN_OUT_IN_A_ROW:
                await asyncio.sleep(0)
                taken = 0
            if message.request.powerpack_id == powerpack_id and message.phase in (Phase.WAITING, Phase.ASIDE):
                resolver.cancel(message, now_ms=self._clock.now_ms())
                self.end([message])
                taken += 1

    def committed(self, messages: Iterable[Message]) -> None:
        """Their decisions are durable now: what a deletion took out meanwhile may end."""
        if self._later:
            for message in messages:
                if message in self._later:
                    del self._later[message]
                    self._due.append(message)

    def forgotten(self, messages: Iterable[Message]) -> None:
        """Their decisions were not stored: there is nothing to end."""
        if self._later:
            for message in messages:
                self._later.pop(message, None)

    def tick(self, powerpacks: Container[PowerpackId]) -> None:
        """Record a bounded part of the ends that are due, so that traffic goes on beside them."""
        self._end_homeless(powerpacks)
        for _ in range(ENTRIES_IN_A_TICK):
            if not self._due or self._facts.is_behind:
                return
            entry = Entry()
            for _ in range(min(len(self._due), ENDED_IN_AN_ENTRY)):
                message = self._due.popleft()
                self._facts.record(entry, message, FactKind.POWERPACK_DELETED, detail=FactKind.POWERPACK_DELETED)
            self._facts.keep(entry)

    def _end_homeless(self, powerpacks: Container[PowerpackId]) -> None:
        """Take out messages of a powerpack that is gone: come back from a lane, or from before a restart."""
        if len(self._resolver.orphans):
            looked_at = {each.request.powerpack_id for each in islice(self._resolver.orphans, LOOKED_AT_IN_A_TICK)}
            for powerpack_id in sorted(looked_at - {NO_POWERPACK}):
                if powerpack_id not in powerpacks:
                    self.end(self._resolver.drop_powerpack(powerpack_id, now_ms=self._clock.now_ms()))
