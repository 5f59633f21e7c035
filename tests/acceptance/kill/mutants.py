"""Gateways with a planted fault: the same program, one part exchanged at the composition root. They prove the teeth.

    python -m tests.acceptance.kill.mutants hasty serve --data …

Nothing of this can be switched on in the program itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from typing import Final

from gateway import app, assembly, cli
from resolver.core import Resolver
from resolver.model import E164, CarrierName
from storage.backlog import OnSettled
from storage.journal import Journal
from storage.records import Entry, JournalUnavailable, Settled, StorageError

DISK_S: Final = 0.25
"""What a hasty journal does not wait for. A disk may be that slow; the longer, the more a kill finds."""


class HastyJournal(Journal):
    """Answers before its commit: what it called committed is stored a little later, if the process lives so long."""

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        if not self.ready:
            raise JournalUnavailable
        loop = asyncio.get_running_loop()
        loop.call_later(DISK_S, self._append_late, entry)
        if on_settled is not None:
            on_settled(Settled.COMMITTED)
        answer: asyncio.Future[Settled] = loop.create_future()
        answer.set_result(Settled.COMMITTED)
        return answer

    def _append_late(self, entry: Entry) -> None:
        with contextlib.suppress(StorageError):  # nobody waits for it any more
            super().append(entry).add_done_callback(asyncio.Future.exception)


class ClaimlessJournal(Journal):
    """Skips claims: whatever it is told about hand-overs to come is dropped, and called committed."""

    def append(self, entry: Entry, on_settled: OnSettled | None = None) -> asyncio.Future[Settled]:
        if not self.ready:
            raise JournalUnavailable
        entry.handovers.clear()
        if entry.rows():
            return super().append(entry, on_settled)
        if on_settled is not None:
            on_settled(Settled.COMMITTED)
        answer: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        answer.set_result(Settled.COMMITTED)
        return answer


class ForgetfulResolver(Resolver):
    """Begins each life with empty windows, as if nothing had been handed over before it."""

    def restore_charge(self, number_id: E164, carrier: CarrierName, *, handed_ms: int, segments: int) -> None:
        pass


MUTANTS: Final[dict[str, dict[str, type]]] = {
    "hasty": {"Journal": HastyJournal},
    "claimless": {"Journal": ClaimlessJournal},
    "forgetful": {"Resolver": ForgetfulResolver},
}
"""What takes the place of what in the composition root."""

COMPOSITION: Final = (assembly, app)
"""The modules that know concrete classes."""


def exchange(parts: Mapping[str, type]) -> None:
    for name, part in parts.items():
        known = [vars(module) for module in COMPOSITION if name in vars(module)]
        assert known, f"the composition root has no {name}"
        for names in known:
            names[name] = part


if __name__ == "__main__":
    exchange(MUTANTS[sys.argv.pop(1)])
    cli.main()
