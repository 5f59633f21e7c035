"""What clients saw, by when they asked: the tries of a ledger, cut into spans of time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtests.figures import percentile
from tests.acceptance.kill.evidence import read_witness
from tests.acceptance.kill.harness import Run
from tests.acceptance.kill.ledger import Try

POLL_S: Final = 0.01


class Timeline:
    """Tries of one run; instants are monotonic seconds."""

    def __init__(self, tries: Sequence[Try]) -> None:
        self.tries = tries

    def begun(self, from_s: float, until_s: float) -> Timeline:
        return Timeline([each for each in self.tries if from_s <= each.began_s < until_s])

    def of_kind(self, *kinds: str) -> Timeline:
        return Timeline([each for each in self.tries if each.kind in kinds])

    @property
    def kinds(self) -> Counter[str]:
        return Counter(each.kind for each in self.tries)

    @property
    def codes(self) -> Counter[str]:
        """Of what was not accepted."""
        return Counter(f"{each.status} {each.code}" for each in self.tries if each.kind != "accepted")

    def took_ms(self, share: float) -> float:
        """That percentile of how long they took; of nothing 0."""
        return percentile(sorted(each.took_ms for each in self.tries), share)

    def without_retry_after(self) -> list[Try]:
        """Those that were told 503 and not when to come again."""
        return [each for each in self.tries if each.status == 503 and not each.retry_after]

    def first_accepted_s(self, from_s: float) -> float:
        """When the first answer of 202 came after `from_s`."""
        return min(
            each.began_s + each.took_ms / 1_000
            for each in self.tries
            if each.kind == "accepted" and each.began_s + each.took_ms / 1_000 > from_s
        )

    def accepted_per_s(self, from_s: float, until_s: float) -> float:
        """Answers of 202 that came in this time."""
        ends = [each.began_s + each.took_ms / 1_000 for each in self.tries if each.kind == "accepted"]
        return sum(from_s <= end < until_s for end in ends) / (until_s - from_s)


def timeline(run: Run) -> Timeline:
    return Timeline(run.ledger.tries)


def hand_overs(run: Run, from_s: float, until_s: float) -> int:
    """How many submits the witness got in this time."""
    return sum(from_s * 1_000 <= each.at_ms < until_s * 1_000 for each in read_witness(run.witness.file))


async def wait_for_accepted(run: Run, from_s: float, *, within_s: float = 20.0) -> float:
    """Until something is accepted that was asked after `from_s`; when its answer came."""
    async with asyncio.timeout(within_s):
        while True:
            found = timeline(run).begun(from_s, time.monotonic()).of_kind("accepted")
            if found.tries:
                return found.first_accepted_s(from_s)
            await asyncio.sleep(POLL_S)


def resident_mib(pid: int) -> float:
    """What a process holds in memory."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS:"))
    return int(line.split()[1]) / 1_024
