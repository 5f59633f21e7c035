"""A carrier that does what the test tells it, and remembers every hand-over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.carriers.carrier import (
    DISCONNECTED,
    Answer,
    Go,
    NotSent,
    OnAnswers,
    OnLink,
    OnReports,
    Outbound,
    PromptCarrier,
    SendFailed,
    WebhookReader,
)
from gateway.carriers.webhooks import json_webhooks
from gateway.clock import Clock
from resolver.model import E164, CarrierName, MessageId


class Write(NamedTuple):
    """One message as it was written."""

    at_ms: int
    outbound: Outbound


Answers = Callable[[Outbound], str | Exception]
"""What is answered to a message: an id, or the exception to raise."""


def take_all(outbound: Outbound) -> str:
    return f"ref-{outbound.message_id[-4:]}-{outbound.attempt}"


ANY = Outbound(MessageId(""), 0, E164(""), E164(""), "", 1, 0)


class ScriptedCarrier:
    """`before` is raised instead of asking `go`; `answers` follow after `latency_ms`. `prompt`: by plain calls."""

    def __init__(
        self, clock: Clock, *, name: str = "carrier", places: int = 8, latency_ms: int = 20, prompt: bool = False
    ) -> None:
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
        self.webhooks: WebhookReader = json_webhooks("", name)
        self._clock = clock
        self._is_prompt = prompt
        self._on_answers: OnAnswers | None = None

    @property
    def prompt(self) -> PromptCarrier | None:
        return self if self._is_prompt else None

    def hear_answers(self, on_answers: OnAnswers) -> None:
        self._on_answers = on_answers

    def trouble(self) -> SendFailed | None:
        trouble = self.before(ANY)
        assert isinstance(trouble, SendFailed | None)
        return trouble

    def write(self, outbounds: Sequence[Outbound]) -> None:
        assert outbounds, "there is something to write"
        at_ms = self._clock.now_ms()
        for outbound in outbounds:
            self.tried_ms.append(at_ms)
            self.writes.append(Write(at_ms, outbound))
            self.flying += 1
            asyncio.get_running_loop().call_later((self.latency_ms + self.hangs()) / 1_000, self._answer, outbound)
        self.flying_max = max(self.flying, self.flying_max)

    def _answer(self, outbound: Outbound) -> None:
        self.flying -= 1
        said = self.answers(outbound)
        answer: Answer = (outbound.message_id, said if isinstance(said, str) else _failure(said))
        assert self._on_answers is not None, "somebody writes, so somebody listens"
        self._on_answers([answer])

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


def _failure(said: Exception) -> SendFailed:
    return said if isinstance(said, SendFailed) else SendFailed(DISCONNECTED, type(said).__name__)
