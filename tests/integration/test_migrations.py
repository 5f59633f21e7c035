"""Migrations on a real server: applied once, in order, and meeting schema.sql at the end."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from storage.database import Database
from storage.migrations import Migration, SchemaMismatch, load_migrations, migrate
from storage.queries import SQL_FOLDER
from tests.postgres import TEMPLATE, Postgres

COLUMNS = """
SELECT c.relname, c.relkind::text, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    a.attidentity::text, pg_get_expr(d.adbin, d.adrelid)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1, 3
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"
PARTITIONS = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid) FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND (c.relispartition OR c.relkind = 'p') ORDER BY 1
"""
FUNCTIONS = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname"


async def described(connection: asyncpg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """All that schema.sql says, as the catalog has it; less the list of migrations, which is not in it."""
    statements = {"columns": COLUMNS, "constraints": CONSTRAINTS, "indexes": INDEXES, "partitions": PARTITIONS}
    found = {}
    for name, statement in {**statements, "functions": FUNCTIONS}.items():
        rows = [tuple(row) for row in await connection.fetch(statement)]
        found[name] = [row for row in rows if not str(row[0]).startswith("migrations")]
    return found


async def described_by(url: str, sql: str) -> dict[str, list[tuple[object, ...]]]:
    connection = await asyncpg.connect(url)
    try:
        if sql:
            await connection.execute(sql)
        return await described(connection)
    finally:
        await connection.close()


async def test_the_road_leads_to_the_schema(empty_database_url: str, database_url: str) -> None:
    database = await Database.open(database_url)
    await database.take_over(owner="x", now_ms=1, force=False)  # the post files too
    await database.close()
    schema = await described_by(empty_database_url, (SQL_FOLDER / "schema.sql").read_text())
    migrated = await described_by(database_url, "")
    assert len(schema["columns"]) > 100
    for part, rows in schema.items():
        assert migrated[part] == rows, part


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE lease ADD COLUMN x int",
        "ALTER TABLE lease ALTER COLUMN owner DROP NOT NULL",
        "ALTER TABLE callbacks ALTER COLUMN tries SET DEFAULT 1",
        "DROP INDEX facts_at",
        "ALTER TABLE powerpacks DROP CONSTRAINT powerpacks_account_id_name_key",
        "DROP TABLE facts_default",
        "CREATE OR REPLACE FUNCTION drop_partition(partition regclass) RETURNS void LANGUAGE sql AS 'SELECT'",
    ],
)
async def test_the_comparison_sees_each_kind_of_difference(database_url: str, postgres: Postgres, change: str) -> None:
    before = await described_by(postgres.database_url(TEMPLATE), "")
    assert await described_by(database_url, "") == before
    assert await described_by(database_url, change) != before


ONE = Migration("0001_pre_one", False, "CREATE TABLE one (n int)")
TWO = Migration("0002_post_two", True, "ALTER TABLE one DROP COLUMN n")
THREE = Migration("0003_pre_three", False, "CREATE TABLE three ()")


@pytest.fixture
async def connection(empty_database_url: str) -> asyncpg.Connection:
    return await asyncpg.connect(empty_database_url)


async def test_pre_files_run_before_and_post_files_after_the_take_over(connection: asyncpg.Connection) -> None:
    files = [ONE, TWO, THREE]
    assert await migrate(connection, files, post=False) == ["0001_pre_one", "0003_pre_three"]
    assert await migrate(connection, files, post=True) == ["0002_post_two"]
    assert await migrate(connection, files, post=True) == []
    assert await connection.fetchval("SELECT string_agg(name, ' ' ORDER BY name) FROM migrations") == (
        "0001_pre_one 0002_post_two 0003_pre_three"
    )
    await connection.close()


async def test_a_file_that_fails_leaves_nothing_and_those_before_it_stay(connection: asyncpg.Connection) -> None:
    bad = Migration("0002_pre_bad", False, "CREATE TABLE two (); SELECT 1/0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection, [ONE, bad, THREE], post=False)
    assert await connection.fetchval("SELECT array_agg(name) FROM migrations") == ["0001_pre_one"]
    assert await connection.fetchval("SELECT to_regclass('two')") is None
    assert await migrate(connection, [ONE, THREE], post=False) == ["0003_pre_three"]
    await connection.close()


async def test_many_at_once_apply_each_file_once(empty_database_url: str) -> None:
    connections = [await asyncpg.connect(empty_database_url) for _ in range(5)]
    names = await asyncio.gather(*(migrate(one, load_migrations(), post=True) for one in connections))
    assert sorted(name for applied in names for name in applied) == [migration.name for migration in load_migrations()]
    for one in connections:
        await one.close()


async def test_a_file_that_was_edited_after_it_was_applied_is_refused(connection: asyncpg.Connection) -> None:
    await migrate(connection, [ONE], post=False)
    with pytest.raises(SchemaMismatch, match="0001_pre_one was applied in another form"):
        await migrate(connection, [ONE._replace(sql="CREATE TABLE one (n bigint)")], post=False)
    await connection.close()


async def test_a_newer_version_s_additions_are_no_harm_but_what_it_took_away_is(connection: asyncpg.Connection) -> None:
    await migrate(connection, [ONE, TWO, THREE], post=False)
    assert await migrate(connection, [ONE], post=True) == []
    await migrate(connection, [ONE, TWO, THREE], post=True)
    with pytest.raises(SchemaMismatch, match="0002_post_two"):
        await migrate(connection, [ONE], post=False)
    await connection.close()
