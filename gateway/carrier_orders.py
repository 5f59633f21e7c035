"""What an administrator tells of a carrier by command: pause it, resume it, cancel what waits for it.

A command writes the order and the gateway hears of it as of every edit of the catalog; what was ordered while no
gateway ran is done at the start, before anything leaves. An order to cancel covers what had been accepted when it was
given. It is noted as done with how many it ended, for whoever waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import structlog

from gateway.cancelling import Cancelled, Cancelling
from gateway.clock import Clock
from resolver.core import Resolver
from resolver.model import CarrierName, Message
from storage.catalog import CarrierRow
from storage.records import StorageError

log = structlog.get_logger(__name__)

CANCEL_MS_MAX: Final = 20_000  # in one go; an order goes on until it is done
AGAIN_MS: Final = 1_000
DETAIL: Final = "cancelled_by_administrator"


class LanePort(Protocol):
    """What is needed of a lane."""

    def set_paused(self, paused: bool) -> None: ...


class Notes(Protocol):
    """What is needed of the catalog."""

    async def note_cancelled(self, carrier: CarrierName, *, cancel_ms: int, cancelled: int, in_flight: int) -> None: ...


class CarrierOrders:
    """Follows the orders; `run` it in a task."""

    def __init__(
        self,
        lanes: Mapping[CarrierName, LanePort],
        resolver: Resolver,
        cancelling: Cancelling,
        notes: Notes,
        *,
        clock: Clock,
    ) -> None:
        self._lanes = lanes
        self._resolver = resolver
        self._cancelling = cancelling
        self._notes = notes
        self._clock = clock
        self._paused: set[CarrierName] = set()
        self._heard: dict[CarrierName, int] = {}  # the latest `cancel_ms` of each
        self._owed: dict[CarrierName, tuple[CarrierRow, int]] = {}  # with until when what it covers was accepted
        self._woken = asyncio.Event()

    def fill(self, rows: Iterable[CarrierRow]) -> None:
        """What was told before the start. Owed cancellations cover what was accepted until they were given."""
        for row in rows:
            self._take(row, until_ms=row.cancel_ms)

    def follow(self, row: CarrierRow) -> None:
        """What is told now; the same again changes nothing."""
        self._take(row, until_ms=max(row.cancel_ms, self._clock.now_ms()))

    async def run(self) -> None:
        """Cancel what is ordered, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while not await self.work():
                await self._clock.sleep_ms(AGAIN_MS)

    async def work(self) -> bool:
        """Do what is owed; False when something of it must be tried again."""
        for carrier, (row, until_ms) in list(self._owed.items()):
            try:
                await self._carry_out(row, until_ms)
            except StorageError as error:
                log.warning("cancelling for a carrier goes on later", carrier=carrier, error=repr(error))
                return False
            if self._owed.get(carrier) == (row, until_ms):
                del self._owed[carrier]
        return not self._owed

    def _take(self, row: CarrierRow, *, until_ms: int) -> None:
        carrier, lane = row.carrier, self._lanes.get(row.carrier)
        if row.paused is not (carrier in self._paused):
            (self._paused.add if row.paused else self._paused.discard)(carrier)
            if lane is not None:  # else the settings no longer have it
                lane.set_paused(row.paused)
        if row.cancel_ms > max(row.cancelled_ms, self._heard.get(carrier, 0)):
            self._heard[carrier] = row.cancel_ms
            self._owed[carrier] = row, until_ms
            self._woken.set()

    async def _carry_out(self, row: CarrierRow, until_ms: int) -> None:
        carrier = row.carrier

        def matches(message: Message) -> bool:
            return message.request.accepted_ms <= until_ms and self._resolver.carrier_of(message.number) == carrier

        total = Cancelled(complete=False)
        while not total.complete:
            done = await self._cancelling.cancel(matches, ms_max=CANCEL_MS_MAX, detail=DETAIL)
            total = Cancelled(
                total.cancelled + done.cancelled, total.cancelling + done.cancelling, done.in_flight, done.complete
            )
        log.warning("cancelled what waited for a carrier", **{**total._asdict(), "carrier": carrier})
        await self._notes.note_cancelled(
            carrier, cancel_ms=row.cancel_ms, cancelled=total.cancelled + total.cancelling, in_flight=total.in_flight
        )
