"""An administrator's orders for a carrier: followed once, owed ones done at the start, noted when they are done."""

from __future__ import annotations

import asyncio

from gateway.cancelling import Cancelling
from gateway.carrier_orders import CarrierOrders
from resolver.model import CarrierName, Phase
from storage.catalog import CarrierRow
from storage.records import StorageError
from tests.fakes.clock import in_virtual_time
from tests.fakes.gateway_floor import CARRIER, Floor

OTHER = CarrierName("other")


class Told:
    """Stands in for lane and catalog; writes down what it is told."""

    def __init__(self) -> None:
        self.paused: list[bool] = []
        self.noted: list[tuple[CarrierName, int, int, int]] = []
        self.fails = 0

    def set_paused(self, paused: bool) -> None:
        self.paused.append(paused)

    async def note_cancelled(self, carrier: CarrierName, *, cancel_ms: int, cancelled: int, in_flight: int) -> None:
        if self.fails:
            self.fails -= 1
            raise StorageError("the database is away")
        self.noted.append((carrier, cancel_ms, cancelled, in_flight))


def orders_of(floor: Floor, told: Told) -> CarrierOrders:
    cancelling = Cancelling(floor.resolver, floor.facts, clock=floor.clock)
    return CarrierOrders({CARRIER: told}, floor.resolver, cancelling, told, clock=floor.clock)


@in_virtual_time
async def test_a_pause_is_told_once_and_a_carrier_that_is_not_set_up_is_no_matter() -> None:
    told = Told()
    orders = orders_of(Floor(), told)
    orders.fill([CarrierRow(CARRIER, paused=True), CarrierRow(OTHER, paused=True)])
    for paused in (True, True, False, False, True):
        orders.follow(CarrierRow(CARRIER, paused=paused))
    assert told.paused == [True, False, True]


@in_virtual_time
async def test_an_order_ends_what_waits_for_that_carrier_once() -> None:
    floor, told = Floor(), Told()
    orders = orders_of(floor, told)
    running = asyncio.create_task(orders.run())
    messages = floor.accept(3)
    row = CarrierRow(CARRIER, cancel_ms=floor.clock.now_ms())
    orders.follow(CarrierRow(OTHER, cancel_ms=row.cancel_ms))
    orders.follow(row)
    await asyncio.sleep(0.5)
    assert {message.phase for message in messages} == {Phase.DONE}
    assert told.noted == [(OTHER, row.cancel_ms, 0, 0), (CARRIER, row.cancel_ms, 3, 0)]
    (later,) = floor.accept()
    orders.follow(row)  # read again, before and after it was noted
    orders.follow(CarrierRow(CARRIER, cancel_ms=row.cancel_ms, cancelled_ms=row.cancel_ms))
    await asyncio.sleep(0.5)
    assert list(floor.resolver.open.values()) == [later]
    orders.follow(CarrierRow(CARRIER, cancel_ms=row.cancel_ms + 1, cancelled_ms=row.cancel_ms))
    await asyncio.sleep(0.5)
    assert later.phase is Phase.DONE
    assert [fact.detail for fact in floor.journal.facts_of(later.message_id)] == ["cancelled_by_administrator"]
    running.cancel()


@in_virtual_time
async def test_what_was_ordered_before_the_start_covers_what_had_been_accepted_then() -> None:
    floor, told = Floor(), Told()
    (before,) = floor.accept()
    ordered_ms = floor.clock.now_ms()
    await asyncio.sleep(1)
    (after,) = floor.accept()
    orders = orders_of(floor, told)
    orders.fill([CarrierRow(CARRIER, cancel_ms=ordered_ms), CarrierRow(OTHER, cancel_ms=5, cancelled_ms=5)])
    assert await orders.work()
    assert (before.phase, after.phase) == (Phase.DONE, Phase.WAITING)
    assert told.noted == [(CARRIER, ordered_ms, 1, 0)]


@in_virtual_time
async def test_while_the_database_is_away_it_is_tried_again() -> None:
    floor, told = Floor(), Told()
    told.fails = 2
    floor.accept(2)
    orders = orders_of(floor, told)
    running = asyncio.create_task(orders.run())
    orders.follow(CarrierRow(CARRIER, cancel_ms=1))
    await asyncio.sleep(5)
    assert [each[:2] for each in told.noted] == [(CARRIER, 1)]
    running.cancel()
