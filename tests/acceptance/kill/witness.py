"""The witness: a carrier in a process of its own, which nobody kills; it writes down every submit before it answers.

It speaks the JSON preset of `http` carriers. Each line of its file is one submit, appended (O_APPEND, one write) in the
loop turn in which it arrived: monotonic nanoseconds, message, attempt, from, to, and what the witness did with it.

    81234567890123 0193a1b2-… 1 +14155550100 +12125550123 taken

It answers after a random small while; as told by `POST /behave` it sometimes says 429, 503 or 422, or takes a message
and never answers. Whatever it took it reports, sometimes before its answer, sometimes late, sometimes twice, in arrays,
and repeats each report until it is acknowledged. `GET /status` says what is still to be reported.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import random
import signal
import sys
import time
from enum import StrEnum
from heapq import heappop, heappush
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import msgspec
import orjson

from tests.acceptance.kill.wire import Reply, Request, listening

REPORTS_AT_ONCE: Final = 20
REPORT_AGAIN_MS: Final = 150
REPORT_MS_MAX: Final = 4_000
PR_SET_PDEATHSIG: Final = 1


class Fate(StrEnum):
    """What the witness did with a submit."""

    TAKEN = "taken"
    LOST = "lost"  # taken, but the answer never came
    THROTTLED = "throttled"  # 429: not taken
    BUSY = "busy"  # 503: not taken
    REJECTED = "rejected"  # 422: worked on, and refused for good


class Behaviour(msgspec.Struct, frozen=True):
    """How it treats submits and reports; shares from 0 to 1, times in milliseconds."""

    lost: float = 0.0
    throttled: float = 0.0
    busy: float = 0.0
    rejected: float = 0.0
    answer_ms: tuple[float, float] = (1.0, 30.0)
    report_ms: tuple[float, float] = (0.0, 400.0)
    late: float = 0.0  # share of reports that come `late_ms` after the submit
    lost_late: float = 0.0  # the same of submits that were never answered: then they are sent again
    late_ms: tuple[float, float] = (2_000.0, 8_000.0)
    twice: float = 0.0  # share of reports that are repeated although they were acknowledged
    nameless: float = 0.0  # share of reports that do not repeat our reference


CALM: Final = Behaviour()
TROUBLED: Final = Behaviour(
    lost=0.02, throttled=0.002, busy=0.002, rejected=0.01, late=0.15, lost_late=0.6, twice=0.05, nameless=0.1
)


class Submit(msgspec.Struct):
    """The body of a submit, as far as a witness cares."""

    reference: str
    attempt: int
    text: str
    sender: str = msgspec.field(name="from")
    to: str = ""


class Due(NamedTuple):
    """A report to be made."""

    at_s: float  # loop time
    number: int
    report: dict[str, object]
    again: bool  # acknowledged once already


class Witness:
    """See above; one event loop, one file."""

    def __init__(self, file: Path, *, reports_url: str, secret: str, seed: int) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._url, self._headers = reports_url, {"X-Sendpool-Secret": secret}
        self._random = random.Random(seed)
        self._behaviour = CALM
        self._due: list[Due] = []
        self._open = 0  # reports on their way
        self._count = 0
        self.arrivals = 0
        self._acknowledged = 0  # reports
        self._late_ms = 0.0

    def handle(self, request: Request) -> Reply:
        if request.path == "/submit":
            return self._take(request)
        if request.path == "/behave":
            self._behaviour = msgspec.json.decode(request.body, type=Behaviour)
            return Reply()
        status = {
            "arrivals": self.arrivals,
            "reports_due": len(self._due) + self._open,
            "acknowledged": self._acknowledged,
            "loop_late_ms": round(self._late_ms, 1),
        }
        return Reply(body=orjson.dumps(status))

    def _take(self, request: Request) -> Reply:
        submit = msgspec.json.decode(request.body, type=Submit)
        fate = self._choose_fate()
        line = f"{request.arrived_ns} {submit.reference} {submit.attempt} {submit.sender} {submit.to} {fate}\n"
        os.write(self._file, line.encode())  # before anything is answered
        self.arrivals += 1
        delay_ms = self._random.uniform(*self._behaviour.answer_ms)
        if fate is Fate.THROTTLED:
            return Reply(429, headers=(("retry-after", "1"),), delay_ms=delay_ms)
        if fate is Fate.BUSY:
            return Reply(503, delay_ms=delay_ms)
        if fate is Fate.REJECTED:
            return Reply(422, b'{"error": {"code": "invalid_number"}}', delay_ms=delay_ms)
        self._count += 1
        carrier_ref = f"w-{os.getpid()}-{self._count}"
        self._plan_reports(carrier_ref, submit.reference, fate)
        if fate is Fate.LOST:
            return Reply(delay_ms=delay_ms, cut=True)
        return Reply(body=orjson.dumps({"id": carrier_ref}), delay_ms=delay_ms)

    def _choose_fate(self) -> Fate:
        chance, behaviour = self._random.random(), self._behaviour
        for fate in (Fate.LOST, Fate.THROTTLED, Fate.BUSY, Fate.REJECTED):
            chance -= getattr(behaviour, fate)
            if chance < 0:
                return fate
        return Fate.TAKEN

    # -- reports --------------------------------------------------------------------------------------------------

    def _plan_reports(self, carrier_ref: str, reference: str, fate: Fate) -> None:
        behaviour, chance = self._behaviour, self._random.random
        late = chance() < (behaviour.lost_late if fate is Fate.LOST else behaviour.late)
        delay_ms = self._random.uniform(*(behaviour.late_ms if late else behaviour.report_ms))
        status = self._random.choices(("delivered", "undelivered", "failed"), (90, 6, 4))[0]
        report: dict[str, object] = {"id": carrier_ref, "status": status, "at": time.time_ns() // 1_000_000}
        if chance() >= behaviour.nameless:
            report["reference"] = reference
        if chance() < 0.1:
            self._plan({**report, "status": "sent"}, self._random.uniform(0, delay_ms))
        self._plan(report, delay_ms)

    def _plan(self, report: dict[str, object], delay_ms: float, *, again: bool = False) -> None:
        self._count += 1
        at_s = asyncio.get_running_loop().time() + delay_ms / 1_000
        heappush(self._due, Due(at_s, self._count, report, again))

    async def report(self) -> None:
        """Make reports until cancelled; what is not acknowledged is made again."""
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=REPORT_MS_MAX / 1_000)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
            while True:
                batch: list[Due] = []
                while self._due and self._due[0].at_s <= loop.time() and len(batch) < REPORTS_AT_ONCE:
                    batch.append(heappop(self._due))
                if not batch:
                    await asyncio.sleep(0.005)
                    continue
                self._open = len(batch)
                acknowledged = await self._post(session, batch)
                self._acknowledged += len(batch) if acknowledged else 0
                for due in batch:
                    if not acknowledged:
                        self._plan(due.report, REPORT_AGAIN_MS, again=due.again)
                    elif not due.again and self._random.random() < self._behaviour.twice:
                        self._plan(due.report, self._random.uniform(0, 1_000), again=True)
                self._open = 0
                if not acknowledged:
                    await asyncio.sleep(REPORT_AGAIN_MS / 1_000)

    async def _post(self, session: aiohttp.ClientSession, batch: list[Due]) -> bool:
        reports = [due.report for due in batch]
        body = orjson.dumps(reports[0] if len(reports) == 1 else reports)
        try:
            async with session.post(self._url, data=body, headers={"Content-Type": "application/json"}) as answer:
                await answer.read()
                if answer.status >= 400 and answer.status not in (404, 429, 503):
                    print(f"report refused: {answer.status}", file=sys.stderr, flush=True)
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def watch_loop(self) -> None:
        """How late this process gets its turn: part of the jitter of arrivals."""
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            await asyncio.sleep(0.005)
            self._late_ms = max(self._late_ms, (loop.time() - began_s - 0.005) * 1_000)


def end_with_parent(sign: signal.Signals) -> None:
    """Have the kernel send `sign` to this process when its parent ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sign))


async def main() -> None:
    parser = argparse.ArgumentParser(description="A carrier that writes down every submit.")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--reports-url", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    witness = Witness(arguments.file, reports_url=arguments.reports_url, secret=arguments.secret, seed=arguments.seed)
    async with listening(witness.handle) as port, asyncio.TaskGroup() as tasks:
        print(port, flush=True)
        tasks.create_task(witness.report())
        tasks.create_task(witness.watch_loop())


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)
    asyncio.run(main())
