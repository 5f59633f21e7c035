"""The gateway, killed where a random moment seldom hits: right before or after a step that a promise rests on.

    python -m tests.acceptance.kill.points committed:17 serve --data …

kills the process (-9, by itself) at the 17th time that it comes by. Exchanged at the composition root, like mutants.py.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from gateway.carriers.connection import Answer, Connection, Header
from gateway.carriers.http import HttpCarrier
from gateway.facts import Facts
from storage.records import Entry, Settled
from storage.transaction import JournalConnection

COMMIT_S: Final = 0.0005  # about the middle of a commit


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Bomb:
    """Goes off when it has been touched so often."""

    def __init__(self, left: int) -> None:
        self.left = left

    def touch(self) -> bool:
        self.left -= 1
        return self.left == 0


def at_commit(bomb: Bomb, *, when: str) -> None:
    """All rows are sent, COMMIT is not; or it is sent and not answered; or it is answered and nobody has been told."""
    commit = JournalConnection.commit

    async def commit_or_die(self: JournalConnection) -> None:
        goes_off = bomb.touch()
        if goes_off and when == "filled":
            die()
        if goes_off and when == "committing":
            asyncio.get_running_loop().call_later(COMMIT_S, die)
        await commit(self)
        if goes_off:
            die()

    JournalConnection.commit = commit_or_die  # type: ignore[method-assign]


def at_cuts(every: int) -> None:
    """Nobody dies, but one in so many connections is lost in COMMIT: before it arrives, during it, or after it."""
    commit, commits = JournalConnection.commit, itertools.count(1)

    async def commit_and_cut(self: JournalConnection) -> None:
        number = next(commits)
        if number % every == 0:
            transport = self._connection._transport  # type: ignore[attr-defined]  # as the network does it
            asyncio.get_running_loop().call_later(COMMIT_S * (number // every % 4), transport.abort)
        await commit(self)

    JournalConnection.commit = commit_and_cut  # type: ignore[method-assign]


def at_hand_over(bomb: Bomb) -> None:
    """The carrier has it, its outcome is not known."""
    write = Connection.write

    def write_and_die(
        self: Connection, target: bytes, headers: list[Header], body: bytes, *, method: bytes = b"POST"
    ) -> asyncio.Future[Answer]:
        answer = write(self, target, headers, body, method=method)
        if bomb.touch():
            die()
        return answer

    Connection.write = write_and_die  # type: ignore[method-assign]


def at_answer(bomb: Bomb) -> None:
    """The carrier's answer is here, no fact says so."""
    read = HttpCarrier._read

    def read_or_die(self: HttpCarrier, answer: Answer) -> str:
        if bomb.touch():
            die()
        return read(self, answer)

    HttpCarrier._read = read_or_die  # type: ignore[method-assign]


def at_fact(bomb: Bomb) -> None:
    """Facts are known, and not handed to the journal."""
    keep = Facts.keep

    def keep_or_die(self: Facts, entry: Entry) -> asyncio.Future[Settled] | None:
        if bomb.touch():
            die()
        return keep(self, entry)

    Facts.keep = keep_or_die  # type: ignore[method-assign]


POINTS: Final[dict[str, Callable[[Bomb], None]]] = {
    "filled": lambda bomb: at_commit(bomb, when="filled"),
    "committing": lambda bomb: at_commit(bomb, when="committing"),
    "committed": lambda bomb: at_commit(bomb, when="committed"),
    "cuts": lambda bomb: at_cuts(bomb.left),
    "handed": at_hand_over,
    "answered": at_answer,
    "known": at_fact,
}

if __name__ == "__main__":
    point, _, count = sys.argv.pop(1).partition(":")
    POINTS[point](Bomb(int(count)))
    cli = importlib.import_module("gateway.cli")
    cli.main()
