"""The two ways in which a lane puts claimed messages into a carrier's hands, at their slots.

* `Workers`: one of `places` tasks awaits the carrier's `send` for each message. For carriers with connections.
* `Relay`: one task writes what is due by plain calls and takes answers as they come, many at once. For a
  `PromptCarrier`; it costs no task, no future and no timer a message.

Either way the door is asked in the loop turn of the write, and each claim comes out of `push` exactly once: to the
door, or by `take_all`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import structlog

from gateway.carriers.carrier import (
    DISCONNECTED,
    UNREACHABLE,
    Answer,
    Carrier,
    NotSent,
    Outbound,
    PromptCarrier,
    SendFailed,
)
from gateway.clock import Clock
from gateway.departures import Claimed, Departures
from resolver.model import Message, MessageId, Phase

log = structlog.get_logger(__name__)

TURN_MESSAGES_MAX = 100
"""Written in one loop turn; about a millisecond of it."""


class Keeper(Protocol):
    """Whose hands they are: the lane."""

    def may_go(self, message: Message, attempt: int, now_ms: int) -> bool:
        """Whether it may be written in this loop turn; if not, it has been seen to."""

    def sent(self, message: Message, carrier_ref: str, now_ms: int) -> None:
        """The carrier took it."""

    def failed(self, message: Message, failed: SendFailed, begun_ms: int) -> None:
        """It did not, or nobody knows; `begun_ms`: when it was put into its hands."""


class Hands(Protocol):
    """What a lane needs of either way."""

    @property
    def flying(self) -> int:
        """Messages in the carrier's hands, without an answer."""

    def __len__(self) -> int:
        """How many wait for their slots."""

    def push(self, at_ms: int, claimed: Claimed) -> None:
        """Add one; `dispatch` when all are added."""

    def dispatch(self) -> None:
        """See to what is due, and come again when the next is. Nothing leaves from inside."""

    def take_all(self) -> Sequence[tuple[int, Claimed]]:
        """Everything that still waits, soonest first, taken out."""

    async def run(self) -> None:
        """Until cancelled. A broken promise of our own ends it with that exception."""


def hands_of(carrier: Carrier, keeper: Keeper, clock: Clock) -> Hands:
    """The way that suits the carrier."""
    prompt = carrier.prompt
    return Workers(carrier, keeper, clock) if prompt is None else Relay(prompt, keeper, clock)


def outbound_of(message: Message, attempt: int, now_ms: int) -> Outbound:
    """What a carrier needs to know of a message."""
    request = message.request
    return Outbound(
        message.message_id, attempt, message.number, message.recipient, request.text, request.segments,
        message.expires_ms - now_ms,
    )  # fmt: skip


class Workers:
    """A list of idle workers; a message that is due wakes one."""

    def __init__(self, carrier: Carrier, keeper: Keeper, clock: Clock) -> None:
        self._carrier = carrier
        self._keeper = keeper
        self._clock = clock
        self._departures = Departures(clock, self.dispatch)
        self._idle: list[asyncio.Future[Claimed]] = []
        self.flying = 0

    def __len__(self) -> int:
        return len(self._departures)

    def push(self, at_ms: int, claimed: Claimed) -> None:
        self._departures.push(at_ms, claimed)

    def take_all(self) -> Sequence[tuple[int, Claimed]]:
        return self._departures.take_all()

    def dispatch(self) -> None:
        while self._idle:
            claimed = self._departures.pop_due(self._clock.now_ms())
            if claimed is None:
                self._departures.set_alarm()
                break
            waiting = self._idle.pop()
            if waiting.done():  # its worker was cancelled
                self._departures.push(0, claimed)
            else:
                waiting.set_result(claimed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._carrier.places):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            message, attempt = await self._next()
            await self._hand_over(message, attempt)

    async def _next(self) -> Claimed:
        """The next message whose slot has come."""
        claimed = self._departures.pop_due(self._clock.now_ms())
        if claimed is not None:
            return claimed
        waiting: asyncio.Future[Claimed] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        self._departures.set_alarm()
        return await waiting

    async def _hand_over(self, message: Message, attempt: int) -> None:
        begun_ms = self._clock.now_ms()
        outbound = outbound_of(message, attempt, begun_ms)
        self.flying += 1
        try:
            carrier_ref = await self._carrier.send(outbound, partial(self._may_go, message, attempt))
        except NotSent:
            return  # the keeper has seen to it
        except SendFailed as failed:
            self._keeper.failed(message, failed, begun_ms)
        except AssertionError:
            raise
        except Exception as error:  # noqa: BLE001 - a lane goes on whatever its carrier does
            log.error("carrier broke", carrier=self._carrier.name, error=repr(error))
            wrote = message.phase is Phase.DEPARTED
            broke = SendFailed(DISCONNECTED if wrote else UNREACHABLE, type(error).__name__)
            self._keeper.failed(message, broke, begun_ms)
        else:
            self._keeper.sent(message, carrier_ref, self._clock.now_ms())
        finally:
            self.flying -= 1

    def _may_go(self, message: Message, attempt: int) -> bool:
        return self._keeper.may_go(message, attempt, self._clock.now_ms())


class Relay:
    """One task for all messages of a carrier that is written to by plain calls."""

    def __init__(self, carrier: PromptCarrier, keeper: Keeper, clock: Clock) -> None:
        self._carrier = carrier
        self._keeper = keeper
        self._clock = clock
        self._woken = asyncio.Event()
        self._departures = Departures(clock, self._woken.set)
        self._flights: dict[MessageId, Message] = {}
        self._answers: list[Answer] = []

    @property
    def flying(self) -> int:
        return len(self._flights)

    def __len__(self) -> int:
        return len(self._departures)

    def push(self, at_ms: int, claimed: Claimed) -> None:
        self._departures.push(at_ms, claimed)

    def take_all(self) -> Sequence[tuple[int, Claimed]]:
        return self._departures.take_all()

    def dispatch(self) -> None:
        if len(self._flights) < self._carrier.places:  # else answers wake us
            self._departures.set_alarm()

    async def run(self) -> None:
        self._carrier.hear_answers(self._hear)
        while True:
            await self._woken.wait()
            self._woken.clear()
            self._take_answers()
            if self._write_due():
                self._woken.set()
                await asyncio.sleep(0)  # others' turn
            else:
                self.dispatch()

    def _hear(self, answers: list[Answer]) -> None:
        self._answers += answers
        self._woken.set()

    def _take_answers(self) -> None:
        answers, self._answers = self._answers, []
        now_ms, keeper = self._clock.now_ms(), self._keeper
        for message_id, answer in answers:
            message = self._flights.pop(message_id, None)
            if message is None:
                log.error("carrier answered what it was not asked", carrier=self._carrier.name)
            elif isinstance(answer, SendFailed):
                keeper.failed(message, answer, now_ms)
            else:
                keeper.sent(message, answer, now_ms)

    def _write_due(self) -> bool:
        """Write what is due, up to a turn's part; whether there may be more."""
        now_ms, keeper, flights = self._clock.now_ms(), self._keeper, self._flights
        trouble = self._carrier.trouble()
        room = min(self._carrier.places - len(flights), TURN_MESSAGES_MAX)
        outbounds: list[Outbound] = []
        taken = 0
        while taken < room:
            claimed = self._departures.pop_due(now_ms)
            if claimed is None:
                break
            taken += 1
            message, attempt = claimed
            if trouble is not None:
                keeper.failed(message, trouble, now_ms)
            elif keeper.may_go(message, attempt, now_ms):
                flights[message.message_id] = message
                outbounds.append(outbound_of(message, attempt, now_ms))
        if outbounds:
            self._write(outbounds)
        return taken == TURN_MESSAGES_MAX

    def _write(self, outbounds: Sequence[Outbound]) -> None:
        try:
            self._carrier.write(outbounds)
        except AssertionError:
            raise
        except Exception as error:  # noqa: BLE001 - a lane goes on whatever its carrier does
            log.error("carrier broke", carrier=self._carrier.name, error=repr(error))
            failed = SendFailed(DISCONNECTED, type(error).__name__)
            self._hear([(outbound.message_id, failed) for outbound in outbounds])
