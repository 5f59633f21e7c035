"""Connections that were checked, and the lease, against a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from storage.database import Database, DatabaseAway, OwnedByOther, close_connection
from storage.embedded import embedded_server
from storage.migrations import SchemaMismatch
from storage.records import EpochLost, UnsafeServer
from tests.conftest import NOW_MS
from tests.postgres import Postgres

FORGETFUL = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$"
ID = "0199c000-0000-7000-8000-00000000000a"


@asynccontextmanager
async def opened(url: str, *, allow_unsafe: bool = False) -> AsyncIterator[Database]:
    database = await Database.open(url, allow_unsafe=allow_unsafe)
    try:
        yield database
    finally:
        await database.close()


async def value(database: Database, statement: str, *arguments: object) -> object:
    async with database.side() as connection:
        return await connection.fetchval(statement, *arguments)


async def run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


# --- Checked connections ----------------------------------------------------------------------------------------------


async def test_a_database_set_to_forget_is_refused(database_url: str, postgres: Postgres) -> None:
    await run(
        database_url,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    with pytest.raises(UnsafeServer, match="synchronous_commit=off"):
        await Database.open(database_url)
    async with opened(database_url, allow_unsafe=True) as database:
        assert await value(database, "SHOW synchronous_commit") == "off"


async def test_every_later_connection_is_checked_too(database: Database) -> None:
    async with database.side() as connection:
        await connection.execute(FORGETFUL)
    with pytest.raises(UnsafeServer, match="synchronous_commit=off"):
        await database.journal_connection()
    with pytest.raises(UnsafeServer, match="synchronous_commit=off"):
        await database.own_connection(statement_ms_max=0)
    await database.pool.expire_connections()
    with pytest.raises(UnsafeServer, match="synchronous_commit=off"):
        await value(database, "SELECT 1")


async def test_a_server_that_does_not_sync_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        async with embedded_server(Path(folder, "data"), settings={"fsync": "off"}) as server:
            with pytest.raises(UnsafeServer, match="fsync=off"):
                await Database.open(server.url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sendpool@/sendpool?host=/nowhere",
        "postgresql://sendpool@127.0.0.1:1/sendpool",
        "http://localhost/",
        "nonsense",
    ],
)
async def test_a_database_that_cannot_be_reached_says_so(url: str) -> None:
    with pytest.raises(DatabaseAway):
        await Database.open(url)


async def test_a_wrong_password_is_never_shown(postgres: Postgres) -> None:
    with pytest.raises(DatabaseAway) as caught:
        await Database.open(postgres.database_url("nowhere").replace("sendpool@", "nobody:hunter2@"))
    assert "hunter2" not in str(caught.value)


async def test_ids_are_text_and_json_is_json_on_side_connections(database: Database) -> None:
    assert await value(database, "SELECT $1::uuid", ID) == ID
    assert await value(database, "SELECT $1::uuid[]", [ID, ID]) == [ID, ID]
    assert await value(database, "SELECT $1::jsonb", {"a": [1, None, "é"]}) == {"a": [1, None, "é"]}
    assert await value(database, "SELECT $1::jsonb->'a'->>1", {"a": ["x", "y"]}) == "y"


async def test_the_journal_s_connection_copies_ids_from_text(database: Database) -> None:
    connection = await database.journal_connection()
    rows = [("simulated", NOW_MS, [ID], [1], ["+14155550100"], [1], 1, 1)]
    await connection.copy_records_to_table("handovers", records=rows)
    await connection.execute("CREATE TABLE t (id uuid)")
    await connection.copy_records_to_table("t", records=[(ID,)])
    await close_connection(connection)
    assert await value(database, "SELECT message_ids FROM handovers") == [ID]
    assert await value(database, "SELECT id FROM t") == ID


async def test_connections_have_limits_on_the_server(database: Database) -> None:
    assert await value(database, "SHOW statement_timeout") == "10s"
    assert await value(database, "SHOW lock_timeout") == "2s"
    assert await value(database, "SHOW idle_in_transaction_session_timeout") == "30s"
    connection = await database.own_connection(statement_ms_max=300)
    with pytest.raises(asyncpg.QueryCanceledError):
        await connection.execute("SELECT pg_sleep(60)")
    await close_connection(connection)


async def test_work_on_a_session_that_was_ended_fails_as_away_and_the_next_goes_on(
    database: Database,
) -> None:
    with pytest.raises(DatabaseAway):
        async with database.side() as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await value(database, "SELECT 1") == 1


async def test_no_more_than_four_side_connections_are_made(database: Database) -> None:
    together = asyncio.Barrier(4)

    async def work() -> int:
        async with database.side() as connection:
            await together.wait()
            return connection.get_server_pid()

    pids = await asyncio.gather(*(work() for _ in range(8)))
    assert len(set(pids)) == 4


# --- The lease --------------------------------------------------------------------------------------------------------


async def test_each_take_over_raises_the_epoch_and_names_the_sessions_after_it(database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as two:
        assert one.epoch == 0
        assert await value(one, "SHOW application_name") == "sendpool"
        assert await one.take_over(owner="one", now_ms=NOW_MS, force=False) == one.epoch == 1
        assert await value(one, "SHOW application_name") == "sendpool:1"
        assert await two.take_over(owner="two", now_ms=NOW_MS + 5, force=True) == two.epoch == 2
        journal = await two.journal_connection()
        assert await journal.fetchval("SHOW application_name") == "sendpool:2"
        lease = await journal.fetchrow("SELECT epoch, owner, taken_ms FROM lease")
        assert lease is not None
        assert tuple(lease) == (2, "two", NOW_MS + 5)
        await close_connection(journal)


async def test_whoever_lost_the_lease_gets_no_connection_any_more(database_url: str) -> None:
    async with opened(database_url) as loser, opened(database_url) as winner:
        await loser.take_over(owner="loser", now_ms=NOW_MS, force=False)
        await value(loser, "SELECT 1")
        await winner.take_over(owner="winner", now_ms=NOW_MS, force=True)
        for attempt in (loser.journal_connection(), loser.own_connection(statement_ms_max=0), value(loser, "SELECT 1")):
            with pytest.raises(EpochLost, match="winner"):
                await attempt
        assert await value(winner, "SELECT 1") == 1


async def test_what_the_former_owner_was_about_to_commit_is_gone_when_the_take_over_returns(database_url: str) -> None:
    async with opened(database_url) as old, opened(database_url) as new:
        await old.take_over(owner="old", now_ms=NOW_MS, force=False)
        journal = await old.journal_connection()
        transaction = journal.transaction()
        await transaction.start()
        await journal.execute("INSERT INTO handovers VALUES ('x', 1, '{}', '{}', '{}', '{}', 1, 1)")
        await new.take_over(owner="new", now_ms=NOW_MS, force=True)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await transaction.commit()
        assert await value(new, "SELECT count(*) FROM handovers") == 0
        assert await value(new, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sendpool:1'") == 0


async def test_an_owner_at_work_is_named_and_left_alone_unless_forced(database_url: str) -> None:
    async with opened(database_url) as other:
        async with opened(database_url) as owner:
            await owner.take_over(owner="gateway on host-a, process 17", now_ms=NOW_MS, force=False)
            await value(owner, "SELECT 1")
            with pytest.raises(OwnedByOther, match="gateway on host-a, process 17"):
                await other.take_over(owner="other", now_ms=NOW_MS, force=False)
            assert other.epoch == 0
            assert await value(owner, "SELECT epoch FROM lease") == 1
        assert await other.take_over(owner="other", now_ms=NOW_MS, force=False) == 2


async def test_a_command_that_edits_meanwhile_is_not_ended_by_a_take_over(database_url: str) -> None:
    async with opened(database_url) as command, opened(database_url) as gateway, command.side() as connection:
        await gateway.take_over(owner="gateway", now_ms=NOW_MS, force=True)
        assert await connection.fetchval("SELECT 1") == 1


async def test_two_that_take_over_at_once_get_different_epochs_and_the_higher_one_owns(database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as two:
        found = await asyncio.gather(
            one.take_over(owner="one", now_ms=NOW_MS, force=True),
            two.take_over(owner="two", now_ms=NOW_MS, force=True),
            return_exceptions=True,
        )
        epochs = {epoch for epoch in found if isinstance(epoch, int)}
        assert 2 in epochs
        owner = one if one.epoch == 2 else two
        assert await value(owner, "SELECT epoch FROM lease") == 2


async def test_sessions_that_do_not_end_stop_the_take_over(database_url: str, postgres: Postgres) -> None:
    async with opened(database_url) as old, opened(database_url) as new:
        await old.take_over(owner="old", now_ms=NOW_MS, force=False)
        journal = await old.journal_connection()
        backend = journal.get_server_pid()
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(OwnedByOther, match="do not end"):
                await new.take_over(owner="new", now_ms=NOW_MS, force=True, wait_ms_max=200)
            assert new.epoch == 0
        finally:
            os.kill(backend, signal.SIGCONT)
        journal.terminate()
        assert await new.take_over(owner="new", now_ms=NOW_MS, force=True) == 3


async def test_a_database_without_schema_cannot_be_taken_over(empty_database_url: str) -> None:
    async with opened(empty_database_url) as database:
        with pytest.raises(asyncpg.UndefinedTableError):
            await database.take_over(owner="x", now_ms=NOW_MS, force=True)
        await database.migrate()
        assert await database.take_over(owner="x", now_ms=NOW_MS, force=True) == 1


async def test_a_take_over_refuses_a_schema_that_has_gone_on(database_url: str) -> None:
    await run(database_url, "INSERT INTO migrations (name, sha256) VALUES ('9999_post_later', 'x')")
    async with opened(database_url) as database:
        with pytest.raises(SchemaMismatch, match="9999_post_later"):
            await database.migrate()
