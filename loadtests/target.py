"""Who is loaded: an installation that is described by its demo.json, or a gateway started for this run alone.

A gateway of our own has its own PostgreSQL in a folder under /tmp, numbers with an approved campaign in every area
code, and the simulated carrier: nothing leaves the machine. It is stopped and removed when the run ends.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from benchmarks.gateway import CARRIER, POWERPACK, gateway

SECRET = "the load test's secret"
CONNECTIONS_MAX = 1_000  # a gateway of our own allows one address so many; the default is 200


class Target(NamedTuple):
    """Where and as whom to send. `secret` is the carrier's, for reports; "" where there is none."""

    base_url: str
    auth_id: str
    auth_token: str
    powerpack_uuid: str
    carrier: str = "simulated"
    secret: str = ""
    process_id: int = 0  # of a gateway of our own

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        parts = urlsplit(self.base_url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def messages_path(self) -> str:
        return f"/v1/Account/{self.auth_id}/Message/"

    @property
    def bulk_path(self) -> str:
        return f"{self.messages_path}Bulk/?powerpack_uuid={self.powerpack_uuid}"

    @property
    def reports_path(self) -> str:
        return f"/carriers/{self.carrier}/reports"

    @property
    def inbound_path(self) -> str:
        return f"/carriers/{self.carrier}/inbound"

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.auth_id}:{self.auth_token}".encode()).decode()


def read_target(file: Path, *, base_url: str = "", carrier: str = "", secret: str = "") -> Target:
    """The target a demo.json describes (another installation: write one like it); arguments that are given win.

    Raises OSError, ValueError.
    """
    found = {name: value for name, value in orjson.loads(file.read_bytes()).items() if name in Target._fields}
    given = {"base_url": base_url.rstrip("/"), "carrier": carrier, "secret": secret}
    return Target(**{**found, **{name: value for name, value in given.items() if value}})


@contextmanager
def written(target: Target, file: Path) -> Iterator[Path]:
    """`target` as a file, for another process; it holds a token, so it is its owner's alone and goes with the block."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(orjson.dumps(target._asdict()))
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


@asynccontextmanager
async def own_target(*, numbers: int = 10_000, handed_per_s: int = 2_000) -> AsyncIterator[Target]:
    """A gateway of this run's own. Its carrier makes no reports: those are the load test's to make."""
    async with gateway(
        numbers=numbers,
        handed_per_s=handed_per_s,
        carrier=f'secret = "{SECRET}"\nreports = false\nlatency_ms_min = 5\nlatency_ms_max = 20',
        settings=f"[server]\nconnections_per_ip_max = {CONNECTIONS_MAX}",
    ) as running:
        yield Target(
            f"http://127.0.0.1:{running.port}", running.account_id, running.token, POWERPACK, CARRIER, SECRET,
            running.process_id,
        )  # fmt: skip
