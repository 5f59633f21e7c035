"""The gateway in this process, on a real database: how it starts, and what ends it."""

from __future__ import annotations

import asyncio
import base64
import gc
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.app import Gateway, keep_days
from gateway.fields import BadSetting
from gateway.running import Exit, Stopping, Watchdog
from gateway.settings import (
    CallbackSettings,
    CarrierSettings,
    LimitsSettings,
    ServerSettings,
    Settings,
    StorageSettings,
)
from gateway.stores import open_stores
from resolver.model import CarrierName
from storage.database import Database
from tests.conftest import NOW_MS

EAST = CarrierName("east")


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """The gateway tunes the collector of its process, which is the tests' here."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        server=ServerSettings(port=0),
        storage=StorageSettings(
            data=tmp_path / "data",
            database_url=database_url,
            master_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        ),
        limits=LimitsSettings(disk_free_mib_min=0),
        carriers={EAST: CarrierSettings(name=EAST, places=4)},
    )


class Life(NamedTuple):
    """A gateway that has started, and how to end it."""

    gateway: Gateway
    stopping: Stopping
    running: asyncio.Task[Exit]
    base_url: str


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Life]:
    said: list[str] = []
    stopping = Stopping(end=said.append)
    gateway = Gateway(settings, announce=said.append, sink=None)
    running = asyncio.create_task(gateway.run(stopping, Watchdog(end=said.append)))
    async with asyncio.timeout(20):
        while not gateway.is_started and not running.done():
            await asyncio.sleep(0.01)
    try:
        yield Life(gateway, stopping, running, said[0].split()[3].rstrip(".") if said else "")
    finally:
        if not running.done():
            stopping.ask("the test")
        await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), 20)


async def status_of(url: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return answer.status


async def test_told_to_stop_it_drains(settings: Settings) -> None:
    async with started(settings) as life:
        assert await status_of(f"{life.base_url}/readyz") == 200
        life.stopping.ask("the test")
        assert await life.running is Exit.DRAINED
        with pytest.raises(aiohttp.ClientConnectorError):
            await status_of(f"{life.base_url}/healthz")


async def test_a_part_that_fails_ends_it_and_is_said(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    async with started(settings) as life:
        with capture_logs() as logs:
            life.gateway.tasks.ended.set_result(AssertionError("a promise of our own"))
            assert await life.running is Exit.FAILED
    assert "a part has failed, see the log: AssertionError('a promise of our own')" in capfd.readouterr().err
    (line,) = [line for line in logs if line["event"] == "a part has failed"]
    assert isinstance(line["exc_info"], AssertionError)


async def test_taken_over_it_goes_and_says_by_whom(
    settings: Settings, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with started(settings) as life:
        other = await Database.open(database_url)
        try:
            await other.take_over(owner="somebody else", now_ms=NOW_MS, force=True)
            assert await asyncio.wait_for(life.running, 10) is Exit.TAKEN_OVER
        finally:
            await other.close()
    assert "sendpool: this database was taken over: " in (said := capfd.readouterr().err)
    assert "somebody else" in said


async def test_it_takes_the_lease_and_says_who_it_is(settings: Settings, database_url: str) -> None:
    async with started(settings) as life:
        other = await Database.open(database_url)
        try:
            async with other.side() as connection:
                owner = await connection.fetchval("SELECT owner FROM lease")
        finally:
            await other.close()
        assert life.base_url in owner


async def test_under_pressure_it_is_not_ready(settings: Settings) -> None:
    short = replace(settings, limits=LimitsSettings(disk_free_mib_min=10**9))
    async with started(short) as life, asyncio.timeout(10):
        while await status_of(f"{life.base_url}/readyz") != 503:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"carriers": {EAST: CarrierSettings(name=EAST, options={"sede": 1})}}, r"'sede'; is it 'seed'\?"),
        ({"callbacks": CallbackSettings(allow_networks=("10.0.0.0/33",))}, "allow_networks: "),
    ],
)
async def test_a_bad_option_disturbs_nobody(settings: Settings, change: dict[str, object], said: str) -> None:
    gateway = Gateway(replace(settings, **change), announce=lambda _: None, sink=None)  # type: ignore[arg-type]
    with pytest.raises(BadSetting, match=said):
        await gateway.run(Stopping(end=lambda _: None), Watchdog(end=lambda _: None))
    assert not settings.storage.data.exists()


async def test_what_is_kept_how_long_is_said_of_tables_that_age(database: Database) -> None:
    await database.make_partitions(now_ms=NOW_MS)
    await database.drop_partitions(now_ms=NOW_MS, keep_days=keep_days(StorageSettings(message_days=90, text_days=7)))
    assert keep_days(StorageSettings(text_days=9))["bodies"] == 9


async def test_what_was_ordered_of_a_carrier_while_nobody_ran_is_done_before_anything_leaves(
    settings: Settings, database: Database
) -> None:
    async with started(settings):
        pass
    async with open_stores(settings.storage) as stores:
        await stores.catalog.pause_carrier(EAST, True)
        order_ms = await stores.catalog.order_cancel(EAST, now_ms=NOW_MS)
    async with started(settings) as life:
        assert life.gateway._parts is not None
        assert life.gateway._parts.lanes[EAST].free_places() == 0
        async with open_stores(settings.storage) as stores:
            assert (await stores.catalog.find_carrier(EAST)).cancelled_ms == order_ms
            await stores.catalog.pause_carrier(EAST, False)
        async with asyncio.timeout(5):
            while not life.gateway._parts.lanes[EAST].free_places():
                await asyncio.sleep(0.01)
