"""A carrier that does what the test tells it, and remembers every hand-over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.carriers.carrier import Go, NotSent, OnLink, OnReports, Outbound, Report
from gateway.clock import Clock
from resolver.model import CarrierName


class Write(NamedTuple):
    """One message as it was written."""

    at_ms: int
    outbound: Outbound


Answers = Callable[[Outbound], str | Exception]
"""What is answered to a message: an id, or the exception to raise."""


def take_all(outbound: Outbound) -> str:
    return f"ref-{outbound.message_id[-4:]}-{outbound.attempt}"


class ScriptedCarrier:
    """`before` is raised instead of asking `go`; `answers` follow after `latency_ms`."""

    def __init__(self, clock: Clock, *, name: str = "carrier", places: int = 8, latency_ms: int = 20) -> None:
        self.name = CarrierName(name)
        self.places = places
        self.latency_ms = latency_ms
        self.hangs: Callable[[], int] = lambda: 0  # more latency, decided at the write
        self.connect_ms = 0  # before `go` is asked
        self.answers: Answers = take_all
        self.before: Callable[[Outbound], Exception | None] = lambda _: None
        self.writes: list[Write] = []
        self.refused = 0  # how often `go` said no
        self.flying = self.flying_max = 0
        self.tried_ms: list[int] = []
        self._clock = clock

    async def start(self, on_reports: OnReports, on_link: OnLink) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, outbound: Outbound, go: Go) -> str:
        self.tried_ms.append(self._clock.now_ms())
        trouble = self.before(outbound)
        if trouble is not None:
            raise trouble
        if self.connect_ms:
            await asyncio.sleep(self.connect_ms / 1_000)
        if not go():
            self.refused += 1
            raise NotSent
        self.writes.append(Write(self._clock.now_ms(), outbound))
        self.flying += 1
        self.flying_max = max(self.flying, self.flying_max)
        try:
            wait_ms = self.latency_ms + self.hangs()
            if wait_ms:
                await asyncio.sleep(wait_ms / 1_000)
        finally:
            self.flying -= 1
        answer = self.answers(outbound)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def parse_reports(self, content_type: str, body: bytes) -> list[Report]:
        return []

    def check_secret(self, headers: Mapping[str, str]) -> bool:
        return False
