"""The PostgreSQL that comes along, for a machine that has none: started, watched, restarted when it dies, stopped.

A server that already runs on the folder (ours was killed, or another `serve` is being taken over) is used as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import asyncpg
import structlog

from storage.cluster import Cluster
from storage.programs import ServerNotStarted
from storage.queries import QUERIES

__all__ = ["EmbeddedServer", "ServerNotStarted", "embedded_server"]

log = structlog.get_logger(__name__)

START_MS_MAX = 300_000  # after a crash the log of up to 2 GB is read through first
START_POLL_MS = 20
CONNECT_MS_MAX = 5_000
WATCH_MS = 100
RESTART_MS_MAX = 5_000  # between two starts of a server that does not stay up

_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_Result = TypeVar("_Result")


class EmbeddedServer:
    """A running server."""

    def __init__(self, cluster: Cluster, *, stop_on_exit: bool) -> None:
        self.url = cluster.url()
        """For asyncpg: over a Unix socket, trusted, as the server's superuser."""
        self.stop_on_exit = stop_on_exit
        """True where we started it. Who takes over the lease sets it; who loses the lease unsets it."""


@asynccontextmanager
async def embedded_server(
    data_dir: Path, *, settings: Mapping[str, str] = _NO_SETTINGS, start_ms_max: int = START_MS_MAX
) -> AsyncIterator[EmbeddedServer]:
    """Run the server of `data_dir`, made if it is not there, until the block ends. Raises ServerNotStarted.

    While the block runs a server that dies is started again within a second. `settings` add to those of cluster.py.
    """
    cluster = await _in_thread(lambda: Cluster(data_dir, settings))
    server: EmbeddedServer | None = None
    try:
        await _in_thread(cluster.start_if_down)
        await _wait_until_ready(cluster, start_ms_max)
        server = EmbeddedServer(cluster, stop_on_exit=cluster.is_child())
        log.info("database server ready", folder=str(cluster.folder), started=server.stop_on_exit)
        async with _watched(cluster):
            yield server
    finally:
        if server.stop_on_exit if server is not None else cluster.is_child():
            if not await _in_thread(cluster.stop):
                log.error("database server does not stop", folder=str(cluster.folder))
        elif server is not None:
            log.info("database server left running", folder=str(cluster.folder))
        cluster.let_go()


async def _wait_until_ready(cluster: Cluster, start_ms_max: int) -> None:
    try:
        async with asyncio.timeout(start_ms_max / 1000):
            while True:
                if await _is_ready(cluster):
                    return
                if cluster.child_ended():
                    raise ServerNotStarted(f"PostgreSQL ended while it was starting:\n{cluster.log_tail()}")
                await asyncio.sleep(START_POLL_MS / 1000)
                await _in_thread(cluster.start_if_down)  # whoever held the lock may be gone
    except TimeoutError as error:
        raise ServerNotStarted(
            f"PostgreSQL did not answer within {start_ms_max // 1000} s on {cluster.folder}:\n{cluster.log_tail()}"
        ) from error


async def _is_ready(cluster: Cluster) -> bool:
    """Whether it answers; at the first time the database is made."""
    try:
        try:
            await _run(cluster.url(), "SELECT 1")
        except asyncpg.InvalidCatalogNameError:
            await _run(cluster.url("postgres"), QUERIES["create_database"])
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
        return False
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return True  # somebody else was quicker
    except asyncpg.PostgresError as error:
        raise ServerNotStarted(f"The server on {cluster.folder} does not let us in: {error}") from error
    return True


async def _run(url: str, statement: str) -> None:
    async with asyncio.timeout(CONNECT_MS_MAX / 1000):
        connection = await asyncpg.connect(url, server_settings={"application_name": "sendpool supervisor"})
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def _watched(cluster: Cluster) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    watcher = asyncio.create_task(_watch(cluster, stopping), name="database server watcher")
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait([watcher])
        watcher.result()


async def _watch(cluster: Cluster, stopping: asyncio.Event) -> None:
    pause_ms = WATCH_MS
    while not await _is_set_within(stopping, pause_ms):
        try:
            was_down = await _in_thread(cluster.start_if_down)
            if was_down:
                log.error("database server was gone, started again", folder=str(cluster.folder))
        except ServerNotStarted as error:
            was_down = True
            log.error("database server cannot be started again", error=str(error))
        pause_ms = min(pause_ms * 2, RESTART_MS_MAX) if was_down else WATCH_MS


async def _is_set_within(event: asyncio.Event, wait_ms: int) -> bool:
    try:
        async with asyncio.timeout(wait_ms / 1000):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _in_thread(function: Callable[[], _Result]) -> _Result:
    """Run what blocks; when cancelled, see it through first, so that nothing is started behind our back."""
    task = asyncio.create_task(asyncio.to_thread(function))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
