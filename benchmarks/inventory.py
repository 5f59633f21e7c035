"""An inventory of a million numbers: filled, searched, rented from.

    python -m benchmarks.inventory [--numbers 1000000] [--plain]

Numbers stand in ten area codes of as many states. Each search is done twenty times for a first page; told are the
median and the worst. Goal: 50 ms. The last two ask for what hardly any of the numbers can do.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path

from gateway.settings import StorageSettings
from gateway.stores import open_stores
from resolver.geography import AREA_CODES
from resolver.model import E164, CarrierName, NumberType, Service
from storage.catalog import Catalog
from storage.catalog_inventory import InventoryRow, Renter, Search

AREAS = ("202", "206", "212", "303", "305", "312", "415", "512", "602", "617")
TRIES = 20
STRETCH = 2_000
TYPES = (NumberType.LONG_CODE, NumberType.TOLL_FREE)


def numbers(count: int) -> Iterator[InventoryRow]:
    """Give that many, every ten thousandth able to send MMS."""
    for place in range(count):
        area_code = AREAS[place % len(AREAS)]
        region = min(AREA_CODES[area_code].regions)
        services = (Service.SMS, Service.MMS) if place % 10_000 == 0 else (Service.SMS,)
        yield InventoryRow(
            E164(f"+1{area_code}{2_000_000 + place // len(AREAS):07}"), NumberType.LONG_CODE, "US", region,
            f"CITY {place % 1_000}", CarrierName("east"), services,
        )  # fmt: skip


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Median and worst of some tries, in milliseconds."""
    taken: list[float] = []
    for _ in range(TRIES):
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1_000)
    return statistics.median(taken), max(taken)


async def measure(catalog: Catalog, count: int) -> None:
    account_id = (await catalog.create_account("bench", now_ms=1)).account_id
    renter = Renter(account_id, account_id)
    rows, began = numbers(count), time.perf_counter()
    while stretch := list(islice(rows, STRETCH)):
        await catalog.stock_numbers(stretch)
    seconds = time.perf_counter() - began
    print(f"filled with {count:,} numbers in {seconds:.0f} s, {seconds / count * 1e6:.0f} µs a number")
    everything = Search("US", TYPES, "+1")
    searches = {
        "all of a country": everything,
        "an area code": everything._replace(begins="+1415"),
        "seven digits": everything._replace(begins="+14152012"),
        "a state": everything._replace(region="CA"),
        "a city": everything._replace(city="CITY 6"),
        "toll-free, of which there is none": everything._replace(types=(NumberType.TOLL_FREE,)),
        "MMS in a state, which one in 10,000 can": everything._replace(region="DC", services=(Service.MMS,)),
        "MMS in the country": everything._replace(services=(Service.MMS,)),
    }
    for name, search in searches.items():
        found = await catalog.search_inventory(renter, search, limit=20, offset=0)
        middle, worst = await timed(lambda search=search: catalog.search_inventory(renter, search, limit=20, offset=0))  # type: ignore[misc]
        print(f"{name}: {middle:.1f} ms, worst {worst:.1f} ms ({found.total:,} found)")
    deep = await timed(lambda: catalog.search_inventory(renter, everything, limit=20, offset=9_980))
    print(f"the last page of 10,000: {deep[0]:.1f} ms, worst {deep[1]:.1f} ms")
    places = iter(range(TRIES))
    rent = await timed(
        lambda: catalog.rent_number(
            renter, E164(f"+1415{2_000_000 + next(places):07}"), powerpack_id=None, application_id="", now_ms=2
        )
    )
    print(f"renting one: {rent[0]:.1f} ms, worst {rent[1]:.1f} ms")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--numbers", type=int, default=1_000_000)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=f"sp-{secrets.token_hex(2)}-") as folder:
        async with open_stores(StorageSettings(data=Path(folder))) as stores:
            await measure(stores.catalog, options.numbers)


if __name__ == "__main__":
    asyncio.run(main())
