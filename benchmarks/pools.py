"""Pools of 100 and of 100,000 numbers: what a start takes until they are in memory, and what an edit of one costs.

    python -m benchmarks.pools [--numbers 100000] [--plain]

The whole gateway in this process, on a database of its own. An edit is a number taken out of the powerpack and put back
in by HTTP, each durable before it is answered; told is the median of many, interleaved between the two pools.
Goals: 100,000 numbers within 5 s, and an edit that costs the same.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from gateway.app import Gateway
from gateway.clock import SystemIds
from gateway.running import Stopping, Watchdog
from gateway.settings import CarrierSettings, LimitsSettings, ServerSettings, Settings, StorageSettings
from gateway.stores import open_stores
from resolver.core import Resolver
from resolver.geography import AREA_CODES
from resolver.model import E164, AccountId, CarrierName, NumberRow, NumberType, PoolId, PowerpackId, PowerpackRow
from storage.recovery import recover

EAST = CarrierName("east")
SMALL = 100
EDITS = 300
STRETCH = 10_000


def numbers(count: int, account_id: AccountId, powerpack_id: PowerpackId, first: int) -> Iterator[NumberRow]:
    """Long codes all over the area codes; `first` keeps those of one pool apart from another's."""
    codes = list(AREA_CODES)
    for place in range(first, first + count):
        area_code = codes[place % len(codes)]
        number = E164(f"+1{area_code}{2_000_000 + place // len(codes):07}")
        yield NumberRow(
            number, account_id, NumberType.LONG_CODE, AREA_CODES[area_code].country, EAST, powerpack_id,
            campaign_approved=True, added_ms=1,
        )  # fmt: skip


async def stock(settings: Settings, sizes: tuple[int, ...]) -> tuple[AccountId, str, list[PoolId], list[E164]]:
    """Make an account with a powerpack of each size; and one number of each."""
    ids, pools, ours, first = SystemIds(lambda: time.time_ns() // 1_000_000), list[PoolId](), list[E164](), 0
    async with open_stores(settings.storage) as stores:
        await stores.database.migrate()
        account = await stores.catalog.create_account("bench", now_ms=1)
        for size in sizes:
            row = PowerpackRow(PowerpackId(ids.new()), account.account_id, PoolId(ids.new()), f"of {size}")
            await stores.catalog.insert_powerpack(row)
            rows = list(numbers(size, account.account_id, row.powerpack_id, first))
            for begin in range(0, size, STRETCH):
                await stores.catalog.insert_numbers(rows[begin : begin + STRETCH])
            pools.append(row.pool_id)
            ours.append(rows[size // 2].number)
            first += size
    return account.account_id, account.token, pools, ours


async def time_start(settings: Settings, count: int) -> None:
    """What the gateway does at its start with the catalog: read it, and bring the resolver back."""
    async with open_stores(settings.storage) as stores:
        await stores.database.take_over(now_ms=1, force=False)
        began = time.perf_counter()
        rows = await stores.catalog.load_all()
        read = time.perf_counter()
        await recover(stores.database, rows, Resolver(), now_ms=1_800_000_000_000, links={EAST: 1_000})
        done = time.perf_counter()
    print(
        f"{count:,} numbers: read in {read - began:.1f} s, in the resolver {done - read:.1f} s later (goal 5 s in all)"
    )


async def edit(client: aiohttp.ClientSession, path: str) -> tuple[float, float]:
    """Take a number out and put it back in; seconds of each."""
    began = time.perf_counter()
    async with client.delete(path) as answer:
        assert answer.status == 200, await answer.text()
    middle = time.perf_counter()
    async with client.post(path) as answer:
        assert answer.status == 200, await answer.text()
    return middle - began, time.perf_counter() - middle


async def time_edits(settings: Settings, count: int) -> None:
    account_id, token, pools, ours = await stock(settings, (SMALL, count))
    await time_start(settings, count + SMALL)
    said: list[str] = []
    stopping = Stopping(end=said.append)
    gateway = Gateway(settings, announce=said.append, sink=None)
    began = time.perf_counter()
    running = asyncio.create_task(gateway.run(stopping, Watchdog(end=said.append)))
    while not gateway.is_started and not running.done():
        await asyncio.sleep(0.01)
    print(f"the whole gateway was ready {time.perf_counter() - began:.1f} s after its start, PostgreSQL's included")
    base_url = said[0].split()[3].rstrip(".")
    headers = {"Authorization": "Basic " + base64.b64encode(f"{account_id}:{token}".encode()).decode()}
    paths = [
        f"/v1/Account/{account_id}/NumberPool/{pool}/Number/{number[1:]}/"
        for pool, number in zip(pools, ours, strict=True)
    ]
    taken: list[list[tuple[float, float]]] = [[], []]
    async with aiohttp.ClientSession(base_url, headers=headers) as client:
        for _ in range(EDITS):
            for place, path in enumerate(paths):
                taken[place].append(await edit(client, path))
    for name, which in (("taking one out", 0), ("putting one in", 1)):
        small, large = (statistics.median(each[which] for each in some) * 1_000 for some in taken)
        print(f"{name}: {small:.2f} ms of {SMALL}, {large:.2f} ms of {count:,}: {large / small:.2f} times that")
    stopping.ask("the benchmark")
    await running


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--numbers", type=int, default=100_000)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=f"sp-{secrets.token_hex(2)}-") as folder:
        settings = Settings(
            server=ServerSettings(port=0),
            storage=StorageSettings(data=Path(folder)),
            limits=LimitsSettings(disk_free_mib_min=0),
            carriers={EAST: CarrierSettings(name=EAST)},
        )
        await time_edits(settings, options.numbers)


if __name__ == "__main__":
    asyncio.run(main())
