"""Entries that must be stored, and whoever waits until they are.

`put` never fails and never waits: what cannot be stored now is appended again until it is. So it is for rows that
memory already agrees with. Nobody should put more while `is_behind`, which bounds what can gather.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

import structlog

from gateway.awaiting import Done
from gateway.facts import Facts, look_at, split
from storage.records import Entry, EpochLost, JournalFull, JournalUnavailable, Settled

log = structlog.get_logger(__name__)

AGAIN_MS = 100


class Deposits:
    """See above. `facts` appends, and tells callbacks of what was committed."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._waiting = 0

    @property
    def is_behind(self) -> bool:
        """Whether anything could not be stored at once, and still is not."""
        return self._waiting > 0

    def put(self, entry: Entry, done: Done | None = None) -> Done:
        """Store it; `done`, or a new future, tells when it is durable."""
        if done is None:
            done = asyncio.get_running_loop().create_future()
        self._append(entry, done)
        return done

    def _append(self, entry: Entry, done: Done) -> None:
        try:
            future = self._facts.append(entry, partial(self._settled, entry, done))
        except (JournalUnavailable, JournalFull):
            self._later(entry, done)
        except EpochLost as error:
            if not done.done():
                done.set_exception(error)
                done.exception()  # whoever waits gets it; perhaps nobody does
        else:
            future.add_done_callback(look_at)  # the truth comes through `_settled`

    def _settled(self, entry: Entry, done: Done, settled: Settled) -> None:
        if settled is Settled.COMMITTED:
            _resolve(done)
        elif settled is Settled.POISONED:
            asyncio.get_running_loop().call_soon(self._isolate, entry, done)  # the journal is in the middle of telling
        else:
            self._later(entry, done)

    def _later(self, entry: Entry, done: Done) -> None:
        self._waiting += 1
        asyncio.get_running_loop().call_later(AGAIN_MS / 1_000, self._again, entry, done)

    def _again(self, entry: Entry, done: Done) -> None:
        self._waiting -= 1
        self._append(entry, done)

    def _isolate(self, entry: Entry, done: Done) -> None:
        """A bad row costs its own message's rows only. Alone it is dropped: it would come again for ever."""
        parts = split(entry)
        if len(parts) <= 1:
            log.error("rows were refused by the database", rows=entry.rows())
            _resolve(done)
            return
        left = [self.put(part) for part in parts]
        waiting = asyncio.gather(*left, return_exceptions=True)
        waiting.add_done_callback(lambda _: _resolve(done))


async def durable(waits: Iterable[Done], *, ms_max: int) -> None:
    """Returns once all are stored. Raises JournalUnavailable when that takes too long (they will be), and EpochLost."""
    waits = set(waits)
    if not waits:
        return
    done, pending = await asyncio.wait(waits, timeout=ms_max / 1_000)
    if pending:
        raise JournalUnavailable("it could not be stored in time")
    for each in done:
        each.result()


def _resolve(done: Done) -> None:
    if not done.done():
        done.set_result(None)
