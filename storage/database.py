"""One PostgreSQL: checked connections, named queries, migrations, days, and the lease that says who owns the journal.

Invariants:
* No connection is handed out before its server was found safe (`fsync`, `full_page_writes`, `synchronous_commit`) and,
  once this process has taken over, before the lease was read and still named its epoch.
* All connections made after the take-over are called `sendpool:<epoch>`, so that the next owner can end them.
* Ids (uuid) are text in Python. Side connections read them so; the journal's keep asyncpg's own codec, which alone can
  COPY, and which takes text too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import asyncpg
import orjson
import structlog

from storage import migrations, partitions
from storage.queries import QUERIES, Session
from storage.records import EpochLost, StorageError, UnsafeServer

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

__all__ = [
    "ERRORS",
    "QUERIES",
    "Database",
    "DatabaseAway",
    "OwnedByOther",
    "ServerTooOld",
    "Session",
    "close_connection",
    "is_away",
]

log = structlog.get_logger(__name__)

SERVER_MAJOR_MIN = 15
SAFE_SETTINGS: Mapping[str, frozenset[str]] = {
    "fsync": frozenset({"on"}),
    "full_page_writes": frozenset({"on"}),
    "synchronous_commit": frozenset({"on", "remote_apply"}),  # remote_write and local are weaker than on
}

CONNECT_MS_MAX = 5_000
ACQUIRE_MS_MAX = 2_000  # how long one waits for a side connection
STATEMENT_MS_MAX = 10_000  # of a side connection; nothing there is meant to take a second
JOURNAL_STATEMENT_MS_MAX = 30_000  # a slow disk is waited for; the journal has its own, shorter deadlines
ANSWER_MS_MAX = 2_000  # how much longer than the server's own limit we wait before a silent link is given up
LOCK_MS_MAX = 2_000
MIGRATION_MS_MAX = 3_600_000  # a large table may have to be rewritten
TAKE_OVER_MS_MAX = 10_000
TAKE_OVER_POLL_MS = 20
CLOSE_MS_MAX = 2_000
SIDE_CONNECTIONS_MAX = 4


ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that asyncpg raises; OSError holds TimeoutError."""


class DatabaseAway(StorageError):
    """The database cannot be reached, or not in time; worth trying again."""


class ServerTooOld(StorageError):
    """The server is of a PostgreSQL version without what we need."""


class OwnedByOther(StorageError):
    """Another process owns this database and is at work."""


def is_away(error: BaseException) -> bool:
    """Whether `error` means that the server cannot be reached, cannot do it now, or has ended our session."""
    kinds = (
        DatabaseAway,
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,  # shut down, starting up, or ended by a timeout or a new owner
        asyncpg.InsufficientResourcesError,  # too many connections, disk full
        asyncpg.LockNotAvailableError,  # somebody else has locked what we need, and does not let go
        asyncpg.TransactionRollbackError,  # a deadlock with somebody else's statements
        asyncpg.PostgresSystemError,  # its disk fails
        asyncpg.InterfaceError,  # the connection is closed
        asyncpg.InternalClientError,  # it is just being closed: the server has said so, its end is still to come
    )
    return isinstance(error, kinds) and not isinstance(error, ValueError)  # asyncpg's for a bad argument is both


class Database:
    """The connections to one database. Made by `open`, ended by `close`."""

    pool: Pool[Record]
    """Up to four side connections; `side()` waits for one with a deadline."""
    epoch: int
    """Ours since `take_over`; 0 before. A process without one (a command) may edit the catalog, not the journal."""

    def __init__(self, url: str, *, allow_unsafe: bool, owner: str) -> None:
        self.epoch = 0
        self._url, self._allow_unsafe, self._owner = url, allow_unsafe, owner

    @classmethod
    async def open(cls, url: str, *, allow_unsafe: bool = False, owner: str = "") -> Self:
        """Connect, and check the server. Raises DatabaseAway, UnsafeServer, ServerTooOld."""
        database = cls(url, allow_unsafe=allow_unsafe, owner=owner)
        # None is kept open in vain: asyncpg would try again and again, with a traceback each time the server is away.
        database.pool = await asyncpg.create_pool(
            min_size=0, max_size=SIDE_CONNECTIONS_MAX, connect=database._connect_side
        )
        try:
            async with database.side():
                return database
        except BaseException as error:
            database.pool.terminate()
            if isinstance(error, ERRORS):  # no such database, a wrong password, no address at all
                raise DatabaseAway(f"The database cannot be opened: {error!r}") from error
            raise

    async def close(self) -> None:
        """End all side connections; those that do not end in time are cut."""
        try:
            async with asyncio.timeout(CLOSE_MS_MAX / 1000):
                await self.pool.close()
        except ERRORS:
            self.pool.terminate()

    # --- Connections --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def side(self) -> AsyncIterator[Session]:
        """A side connection for one short piece of work. Raises DatabaseAway, also when it breaks meanwhile."""
        try:
            async with self.pool.acquire(timeout=ACQUIRE_MS_MAX / 1000) as connection:
                yield connection
        except ERRORS as error:
            if is_away(error):
                raise DatabaseAway(f"The database is away: {error!r}") from error
            raise

    async def own_connection(self, *, statement_ms_max: int) -> Connection:
        """A connection of the caller's own, for long reads and for listening; 0 is no limit. The caller closes it."""
        return await self._connect_or_away(statement_ms_max, codecs=True)

    async def journal_connection(self) -> Connection:
        """A connection of the caller's own for the journal: uuids by asyncpg's codec, so that COPY takes them as text.

        Raises DatabaseAway, EpochLost, UnsafeServer. The caller closes it.
        """
        return await self._connect_or_away(JOURNAL_STATEMENT_MS_MAX, codecs=False)

    async def _connect_or_away(self, statement_ms_max: int, *, codecs: bool) -> Connection:
        try:
            return await self._connect(statement_ms_max, codecs=codecs)
        except ERRORS as error:
            raise DatabaseAway(f"The database cannot be reached: {error!r}") from error

    async def _connect_side(self, *_pool: object, **_arguments: object) -> Connection:
        return await self._connect(STATEMENT_MS_MAX, codecs=True)

    async def _connect(self, statement_ms_max: int, *, codecs: bool) -> Connection:
        settings = {
            "application_name": f"sendpool:{self.epoch}" if self.epoch else "sendpool",
            "statement_timeout": str(statement_ms_max),
            "lock_timeout": str(LOCK_MS_MAX),
            "idle_in_transaction_session_timeout": str(JOURNAL_STATEMENT_MS_MAX),
            "jit": "off",  # our statements are short
        }
        deadline_s = (statement_ms_max + ANSWER_MS_MAX) / 1000 if statement_ms_max else None
        async with asyncio.timeout(CONNECT_MS_MAX / 1000):
            connection = await asyncpg.connect(self._url, server_settings=settings, command_timeout=deadline_s)
            try:
                await self._check(connection)
                if codecs:
                    await _set_codecs(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def _check(self, connection: Connection) -> None:
        await check_server(connection, allow_unsafe=self._allow_unsafe)
        lease = await connection.fetchrow(QUERIES["read_lease"]) if self.epoch else None
        if lease is not None and lease["epoch"] != self.epoch:
            raise EpochLost(f"This database is now owned by {lease['owner']}.")

    # --- Schema and days ----------------------------------------------------------------------------------------------

    async def migrate(self) -> None:
        """Bring the schema up to what this version works with; `take_over` does the rest. Raises SchemaMismatch."""
        await self._migrate(post=False)

    async def _migrate(self, *, post: bool) -> None:
        connection = await self.own_connection(statement_ms_max=MIGRATION_MS_MAX)
        try:
            await migrations.migrate(connection, migrations.load_migrations(), post=post)
        finally:
            await close_connection(connection)

    async def make_partitions(self, *, now_ms: int, days: int = 4) -> None:
        """See that today and the `days` after it have their partitions. Cheap when they have; call it every hour."""
        async with self.side() as connection:
            await partitions.make_partitions(connection, now_ms=now_ms, days=days)

    async def drop_partitions(self, *, now_ms: int, keep_days: Mapping[str, int]) -> None:
        """Forget what is older than `keep_days` says, by table; what it does not name is kept."""
        async with self.side() as connection:
            await partitions.drop_partitions(connection, now_ms=now_ms, keep_days=keep_days)

    # --- The lease ----------------------------------------------------------------------------------------------------

    async def take_over(self, *, owner: str = "", now_ms: int, force: bool, wait_ms_max: int = TAKE_OVER_MS_MAX) -> int:
        """Become the owner: raise the epoch, end the former owner's sessions, wait until they are gone. The new epoch.

        Without `force` an owner at work is left alone: raises OwnedByOther, naming it; so it does when sessions do not
        end in time. When this returns, nothing of an older epoch commits any more: its sessions are gone, and whoever
        connects reads the lease first.
        """
        connection = await self.own_connection(statement_ms_max=STATEMENT_MS_MAX)
        try:
            async with connection.transaction():
                await self._respect_owner(connection, force=force)
                epoch = int(await connection.fetchval(QUERIES["raise_epoch"], owner or self._owner, now_ms))
            await _end_older_sessions(connection, epoch, wait_ms_max)
        finally:
            await close_connection(connection)
        self.epoch = epoch
        await self.pool.expire_connections()  # what comes next is named after the epoch
        await self._migrate(post=True)
        log.info("database taken over", epoch=epoch, owner=owner or self._owner)
        return epoch

    async def _respect_owner(self, connection: Connection, *, force: bool) -> None:
        lease = await connection.fetchrow(QUERIES["read_lease"])
        if lease is None or force:
            return
        sessions = await connection.fetchval(QUERIES["count_sessions_of_epoch"], lease["epoch"])
        if sessions:
            raise OwnedByOther(f"This database is owned by {lease['owner']}, which is at work ({sessions} sessions).")


async def check_server(connection: Connection, *, allow_unsafe: bool) -> None:
    """Raises ServerTooOld, and UnsafeServer (only a warning where that is allowed)."""
    version = connection.get_server_version()
    if version.major < SERVER_MAJOR_MIN:
        raise ServerTooOld(f"This is PostgreSQL {version.major}; Sendpool needs {SERVER_MAJOR_MIN} or later.")
    found = await connection.fetchrow(QUERIES["check_server"])
    assert found is not None
    unsafe = [f"{name}={found[name]}" for name, safe in SAFE_SETTINGS.items() if found[name] not in safe]
    if unsafe and not allow_unsafe:
        raise UnsafeServer(f"This server could lose what it has confirmed: {', '.join(unsafe)}.")
    if unsafe:
        log.warning("server is not safe, confirmed messages may be lost", settings=unsafe)


async def _end_older_sessions(connection: Connection, epoch: int, wait_ms_max: int) -> None:
    try:
        async with asyncio.timeout(wait_ms_max / 1000):
            while True:
                if not await connection.fetchval(QUERIES["end_older_sessions"], epoch):
                    return
                await asyncio.sleep(TAKE_OVER_POLL_MS / 1000)
    except TimeoutError as error:
        raise OwnedByOther("Sessions of this database's former owner do not end.") from error


async def _set_codecs(connection: Connection) -> None:
    """uuid as text, measured cheaper than asyncpg's object and `str` of it; jsonb by orjson."""
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str, format="text")
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda data: orjson.loads(data[1:]),  # the first byte is the format's version
        format="binary",
    )


async def close_connection(connection: Connection) -> None:
    """Close a connection of one's own, at once if need be."""
    try:
        await connection.close(timeout=CLOSE_MS_MAX / 1000)
    except ERRORS:
        connection.terminate()
