"""A gateway of the benchmarks' own: numbers with an approved campaign, a simulated carrier, its own process."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from resolver.geography import AREA_CODES
from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Limits,
    NumberRow,
    NumberType,
    PoolId,
    PowerpackId,
    PowerpackRow,
)
from storage.catalog import Catalog
from storage.database import Database
from storage.embedded import embedded_server
from storage.sealing import Vault, load_or_make_key

PROGRAM = "gateway.cli" if "--plain" in sys.argv else "gateway"  # the former runs the sources as they are
HANDED = "gateway_handovers_total{"
CARRIER = CarrierName("bench")
POWERPACK = PowerpackId("0197a000-0000-7000-8000-000000000001")
POOL = PoolId("0197a000-0000-7000-8000-000000000002")


@dataclass(frozen=True)
class Gateway:
    """A running gateway, and how to speak to it."""

    port: int
    process_id: int
    account_id: AccountId
    token: str

    @property
    def path(self) -> str:
        return f"/v1/Account/{self.account_id}/Message/"

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.account_id}:{self.token}".encode()).decode()

    async def metrics(self) -> dict[str, float]:
        """The counters it shows, by name and labels."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def new_recipients(chance: random.Random, count: int) -> list[str]:
    """Recipients all over the pool's area codes."""
    codes = list(AREA_CODES)
    return [f"+1{chance.choice(codes)}{chance.randrange(2, 10)}{chance.randrange(10**6):06d}" for _ in range(count)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def gateway(
    *,
    numbers: int,
    handed_per_s: int,
    places: int = 500,
    carrier: str = "",
    limits: str = "",
    settings: str = "",
    each: Limits | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway with `numbers` long codes whose lane hands over at most `handed_per_s`; stopped and removed after.

    `carrier` and `limits` hold more lines for these tables of its settings file, `settings` more tables. `each` is what
    each number may be handed; None: as much as a long code may.
    """
    data = Path(tempfile.mkdtemp(prefix="sp-bench-"))
    try:
        account_id, token = await _fill(data, numbers, each)
        config = data / "sendpool.toml"
        config.write_text(
            f'[carriers.{CARRIER}]\nkind = "simulated"\nsegments_per_s = {max(1, handed_per_s)}\nplaces = {places}\n'
            f'{carrier}\n[limits]\ncountries = ["US", "CA"]\n{limits}\n[log]\nlevel = "warning"\n{settings}\n'
        )
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", PROGRAM, "serve", "--config", str(config), "--data", str(data), "--port", str(port)
        )  # fmt: skip
        try:
            await _wait_until_ready(port)
            yield Gateway(port, process.pid, account_id, token)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)
    finally:
        shutil.rmtree(data, ignore_errors=True)


async def _fill(data: Path, count: int, each: Limits | None) -> tuple[AccountId, str]:
    """An account, a powerpack and its numbers, spread over all area codes."""
    now_ms = time.time_ns() // 1_000_000
    async with embedded_server(data) as server:
        database = await Database.open(server.url)
        try:
            await database.migrate()
            catalog = Catalog(database, Vault(load_or_make_key(data / "master.key")))
            account = await catalog.create_account("bench", now_ms=now_ms)
            pack = PowerpackRow(POWERPACK, account.account_id, POOL, "bench", created_ms=now_ms)
            await catalog.insert_powerpack(pack)
            codes = list(AREA_CODES.items())
            rows = [
                NumberRow(
                    E164(f"+1{codes[index % len(codes)][0]}{2_000_000 + index // len(codes)}"),
                    account.account_id,
                    NumberType.LONG_CODE,
                    codes[index % len(codes)][1].country,
                    CARRIER,
                    POWERPACK,
                    campaign_approved=True,
                    limits=each,
                    added_ms=now_ms,
                )
                for index in range(count)
            ]
            for start in range(0, count, 10_000):
                await catalog.insert_numbers(rows[start : start + 10_000])
        finally:
            await database.close()
    return account.account_id, account.token


async def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 60
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError("the gateway did not become ready within 60 s")
            await asyncio.sleep(0.1)


def cpu_seconds(process_id: int) -> float:
    """User and system time a process has spent."""
    fields = Path(f"/proc/{process_id}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
