"""What a run of the fault tests stands on: a PostgreSQL of its own behind a proxy, or a disk that is soon full."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import asyncpg
import msgspec

from storage.cluster import Cluster
from tests.acceptance.kill.harness import Plan, Surroundings
from tests.acceptance.kill.ledger import Manner
from tests.acceptance.kill.processes import HarnessFailed, postmaster_pid
from tests.acceptance.kill.witness import TROUBLED
from tests.acceptance.kill.world import World
from tests.fakes.proxy import Proxy, proxied

MANNER: Final = Manner(clients=10, pause_s=0.12, lists=0.1, expiry_s=(5, 8))
BEHAVIOUR: Final = msgspec.structs.replace(TROUBLED, throttled=0.0, busy=0.0, late_ms=(500.0, 1_500.0))
"""Load and carrier of the fault tests: soon settled, and never asked to slow down, so that the pace can be compared."""
AWAY_CODES: Final = frozenset({"503 storage_unavailable", "409 idempotency_key_running"})
"""What is said while the database is away; the second to who repeats what nobody knows the outcome of yet."""
READY_S_MAX: Final = 30.0
POLL_S: Final = 0.01


def plan(
    seed: int,
    surroundings: Surroundings | None = None,
    *,
    manner: Manner = MANNER,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """A run of the fault tests."""
    return Plan(seed, manner=manner, behaviour=BEHAVIOUR, extra=extra, surroundings=surroundings or Surroundings())


class OwnServer(Surroundings):
    """PostgreSQL that nobody restarts but the test; the gateway reaches it through `proxy`."""

    cluster: Cluster
    proxy: Proxy

    def __init__(self, **settings: str) -> None:
        self._settings = settings

    @asynccontextmanager
    async def around(self, world: World) -> AsyncIterator[Mapping[str, str]]:
        self.cluster = Cluster(world.data, self._settings)
        await self.start()
        try:
            async with proxied(self.cluster.url()) as self.proxy:
                yield {"SENDPOOL_DATABASE_URL": self.proxy.url}
        finally:
            await asyncio.to_thread(self.cluster.stop)
            self.cluster.let_go()

    async def start(self) -> float:
        """Start it if it is down, and wait until it answers; the instant at which it does."""
        until_s = time.monotonic() + READY_S_MAX
        await asyncio.to_thread(self.cluster.start_if_down)
        while time.monotonic() < until_s:
            try:
                connection = await asyncpg.connect(self.cluster.url())
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(POLL_S)
                continue
            await connection.close()
            return time.monotonic()
        raise HarnessFailed(f"PostgreSQL does not start:\n{self.cluster.log_tail()}")

    async def stop(self, sign: signal.Signals) -> None:
        """SIGINT is a fast stop, SIGQUIT an immediate one; gone when this returns."""
        pid = postmaster_pid(self.cluster.folder.parent)
        if pid is None:
            raise HarnessFailed("there is no PostgreSQL to stop")
        os.kill(pid, sign)
        until_s = time.monotonic() + READY_S_MAX
        while not self.cluster.child_ended():
            if time.monotonic() > until_s:
                raise HarnessFailed("PostgreSQL does not end")
            await asyncio.sleep(POLL_S)


class SmallDisk(Surroundings):
    """The data folder on a tmpfs of `size_mib`. The janitor takes it away if the test is killed."""

    def __init__(self, size_mib: int) -> None:
        self._size_mib = size_mib
        self.folder = Path()

    @contextmanager
    def ground(self, folder: Path) -> Iterator[None]:
        self.folder = folder / "data"
        self.folder.mkdir(mode=0o700)
        if not mount_tmpfs(self.folder, self._size_mib):
            raise HarnessFailed("the tmpfs cannot be mounted any more")
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self, *, leave_mib: int) -> None:
        """Take all space but `leave_mib`."""
        state = os.statvfs(self.folder)
        free = state.f_bavail * state.f_frsize - leave_mib * 2**20
        with self.ballast.open("ab") as file:
            try:
                while free > 0:
                    file.write(b"\0" * min(free, 2**20))
                    file.flush()
                    free -= 2**20
            except OSError:
                pass  # full is what it is to be

    def free(self) -> None:
        self.ballast.unlink()


def mount_tmpfs(folder: Path, size_mib: int) -> bool:
    """Whether it could be mounted."""
    options = f"size={size_mib}m,mode=0711"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "sendpool-test", str(folder)], capture_output=True, check=False
    )
    return mounted.returncode == 0


def can_mount() -> bool:
    """Whether this machine lets us mount a tmpfs."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        if not mount_tmpfs(Path(folder), 1):
            return False
        subprocess.run(["umount", folder], check=True)
        return True
