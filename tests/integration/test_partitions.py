"""Days in a real database: made ahead, found by id, dropped whole, never in the way of who writes."""

from __future__ import annotations

import asyncpg
import pytest

from storage import partitions
from storage.database import Database
from storage.partitions import DAY_MS
from storage.queries import Session

DAY = 1_767_916_800_000  # 2026-01-09 00:00 UTC
PARTITIONS = "SELECT relname FROM pg_class WHERE relname LIKE $1 AND relispartition AND relkind = 'r'"
TABLES = {"bodies", "bulk_stretches", "callbacks", "carrier_refs", "facts", "handovers", "messages", "outcomes"}


def uuid7(at_ms: int, *, last: bool = False) -> str:
    """The least or the greatest UUIDv7 of an instant."""
    digits = f"{at_ms:012x}" + ("7fff" + "bfff" + "f" * 12 if last else "7000" + "8000" + "0" * 12)
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


async def put(connection: Session, message_id: str) -> str:
    """Store a fact; the partition it went to."""
    return str(
        await connection.fetchval(
            "INSERT INTO facts (message_id, account_id, kind, attempt, at_ms, carrier, carrier_ref, code, detail,"
            " segments, charged, epoch, batch) VALUES ($1, '', '', 0, 0, '', '', '', '', 1, true, 1, 1)"
            " RETURNING tableoid::regclass::text",
            message_id,
        )
    )


async def names(database: Database, like: str) -> list[str]:
    async with database.side() as connection:
        rows = await connection.fetch(PARTITIONS, like)
    return sorted(row["relname"] for row in rows if "default" not in row["relname"])


async def test_today_and_the_days_after_it_are_made_for_each_table_and_only_once(database: Database) -> None:
    await database.make_partitions(now_ms=DAY + 12_345)
    assert await names(database, "messages_%") == [f"messages_202601{day:02}" for day in (9, 10, 11, 12, 13)]
    assert {name.rpartition("_")[0] for name in await names(database, "%_20260113")} == TABLES
    async with database.side() as connection:
        assert await partitions.make_partitions(connection, now_ms=DAY + DAY_MS - 1, days=4) == []
        assert len(await partitions.make_partitions(connection, now_ms=DAY + DAY_MS, days=4)) == len(TABLES)


async def test_a_day_holds_its_ids_from_the_first_to_the_last_millisecond(database: Database) -> None:
    await database.make_partitions(now_ms=DAY, days=1)
    async with database.side() as connection:
        assert await put(connection, uuid7(DAY)) == "facts_20260109"
        assert await put(connection, uuid7(DAY + DAY_MS - 1, last=True)) == "facts_20260109"
        assert await put(connection, uuid7(DAY + DAY_MS)) == "facts_20260110"
        assert await put(connection, uuid7(DAY - 1, last=True)) == "facts_default"
        assert await put(connection, uuid7(DAY + 2 * DAY_MS)) == "facts_default"


async def test_facts_are_numbered_across_their_days(database: Database) -> None:
    await database.make_partitions(now_ms=DAY, days=1)
    async with database.side() as connection:
        for at_ms in (DAY, DAY + DAY_MS, 0):
            await put(connection, uuid7(at_ms))
        assert await connection.fetchval("SELECT count(DISTINCT fact_no) FROM facts") == 3


async def test_tables_by_time_hold_a_day_from_its_first_to_its_last_millisecond(database: Database) -> None:
    await database.make_partitions(now_ms=DAY, days=0)
    async with database.side() as connection:
        for at_ms, partition in (
            (DAY - 1, "handovers_default"),
            (DAY, "handovers_20260109"),
            (DAY + DAY_MS - 1, "handovers_20260109"),
            (DAY + DAY_MS, "handovers_default"),
        ):
            insert = "INSERT INTO handovers VALUES ('x', $1, '{}', '{}', '{}', '{}', 1, 1)"
            assert await connection.fetchval(f"{insert} RETURNING tableoid::regclass::text", at_ms) == partition


async def test_a_day_made_too_late_is_left_out_and_nothing_else_is(database: Database) -> None:
    async with database.side() as connection:
        await put(connection, uuid7(DAY + 5))
        made = await partitions.make_partitions(connection, now_ms=DAY, days=1)
        assert "facts_20260109" not in made
        assert {"facts_20260110", "messages_20260109"} <= set(made)
        assert await put(connection, uuid7(DAY + 6)) == "facts_default"


async def test_making_days_waits_for_no_writer_of_another_day(database: Database) -> None:
    await database.make_partitions(now_ms=DAY, days=0)
    journal = await database.journal_connection()
    async with database.side() as connection, journal.transaction():
        await put(journal, uuid7(DAY))
        assert len(await partitions.make_partitions(connection, now_ms=DAY, days=2)) == 2 * len(TABLES)
    await journal.close()


async def test_only_whole_days_older_than_their_table_s_time_are_dropped(database: Database) -> None:
    now_ms = DAY + 10 * DAY_MS + 1_000
    await database.make_partitions(now_ms=DAY, days=12)
    await database.drop_partitions(now_ms=now_ms, keep_days={"messages": 8, "bodies": 5})
    assert (await names(database, "messages_%"))[0] == "messages_20260111"
    assert (await names(database, "bodies_%"))[0] == "bodies_20260114"
    assert (await names(database, "facts_%"))[0] == "facts_20260109"
    await database.drop_partitions(now_ms=now_ms, keep_days={"messages": 8, "bodies": 5})
    assert len(await names(database, "messages_%")) == 11


async def test_old_rows_of_the_default_partition_go_too(database: Database) -> None:
    async with database.side() as connection:
        for at_ms in (DAY, DAY + 4 * DAY_MS, DAY + 20 * DAY_MS):
            await put(connection, uuid7(at_ms))
        await database.drop_partitions(now_ms=DAY + 10 * DAY_MS, keep_days={"facts": 6})
        assert await connection.fetchval("SELECT count(*) FROM facts") == 2


async def test_keys_and_unknown_reports_are_forgotten_by_their_time(database: Database) -> None:
    async with database.side() as connection:
        for at_ms in (DAY - 1, DAY, DAY + 5):
            await connection.execute("INSERT INTO idempotency VALUES ('a', $1, '', '', $2)", str(at_ms), at_ms)
            await connection.execute("INSERT INTO unmatched_reports VALUES ('c', 'r', 'k', '', $1)", at_ms)
        await database.drop_partitions(now_ms=DAY + DAY_MS, keep_days={"idempotency": 1})
        assert await connection.fetchval("SELECT min(created_ms) FROM idempotency") == DAY
        assert await connection.fetchval("SELECT count(*) FROM unmatched_reports") == 3
        await database.drop_partitions(now_ms=DAY + DAY_MS, keep_days={"unmatched_reports": 1})
        assert await connection.fetchval("SELECT min(at_ms) FROM unmatched_reports") == DAY


async def test_a_day_somebody_reads_is_dropped_the_next_time(database: Database) -> None:
    await database.make_partitions(now_ms=DAY, days=1)
    reader = await database.own_connection(statement_ms_max=0)
    side = await database.own_connection(statement_ms_max=0)
    await side.execute("SET lock_timeout = 50")
    async with reader.transaction():
        await reader.fetch("SELECT FROM facts")
        dropped = await partitions.drop_partitions(side, now_ms=DAY + 30 * DAY_MS, keep_days={"facts": 5, "bodies": 5})
        assert dropped == ["bodies_20260109", "bodies_20260110"]
    dropped = await partitions.drop_partitions(side, now_ms=DAY + 30 * DAY_MS, keep_days={"facts": 5})
    assert dropped == ["facts_20260109", "facts_20260110"]
    await reader.close()
    await side.close()


@pytest.mark.parametrize("keep_days", [{"messages": 4}, {"accounts": 100}, {"nothing": 100}, {"idempotency": 0}])
async def test_what_must_not_be_forgotten_is_refused(database: Database, keep_days: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be kept"):
        await database.drop_partitions(now_ms=DAY, keep_days=keep_days)


async def test_a_table_name_is_never_taken_for_sql(database: Database) -> None:
    async with database.side() as connection:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("SELECT drop_partition($1::text::regclass)", "lease; DROP TABLE lease")
        assert await connection.fetchval("SELECT count(*) FROM lease") == 1
