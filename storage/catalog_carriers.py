"""What an administrator tells of carriers by command: pauses and orders."""

from __future__ import annotations

from resolver.model import CarrierName
from storage.catalog_edits import Table
from storage.catalog_rows import CarrierRow, carrier_of
from storage.changes import Change
from storage.queries import QUERIES


class CarrierTable(Table):
    """Each by the name the settings give it; there is a row once something was told."""

    async def find_carrier(self, carrier: CarrierName) -> CarrierRow:
        """What was told of a carrier; the settings alone know whether there is one."""
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_carrier"], carrier)
        return CarrierRow(carrier) if record is None else carrier_of(record)

    async def pause_carrier(self, carrier: CarrierName, paused: bool) -> None:
        """Let what waits for it stay, or leave again."""
        async with self._edit([Change("carrier", carrier)]) as connection:
            await connection.execute(QUERIES["pause_carrier"], carrier, paused)

    async def order_cancel(self, carrier: CarrierName, *, now_ms: int) -> int:
        """Have what waits for it cancelled; the order is done once its `cancelled_ms` is no less than the answer."""
        async with self._edit([Change("carrier", carrier)]) as connection:
            return int(await connection.fetchval(QUERIES["order_cancel"], carrier, now_ms))

    async def note_cancelled(self, carrier: CarrierName, *, cancel_ms: int, cancelled: int, in_flight: int) -> None:
        """Say that an order was carried out."""
        async with self._database.side() as connection:
            await connection.execute(QUERIES["note_cancelled"], carrier, cancel_ms, cancelled, in_flight)
