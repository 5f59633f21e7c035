"""The sticky table behind memory, in a real database."""

from __future__ import annotations

from typing import Any

import pytest

from resolver.model import E164
from resolver.sticky import ThreadRow
from storage.database import Database, DatabaseAway
from storage.threads import MARK_EVERY_MS, PAGE_ROWS, ThreadKeeper, read_mark, thread_pages
from tests.fakes.clock import HandClock
from tests.fakes.entries import ACCOUNT, NOW_MS, NUMBER, POWERPACK
from tests.fakes.proxy import proxied

LIFE_MS = 15 * 86_400_000


class Changes:
    """Changed threads, as the resolver gives them: at most so many at a time, the latest first."""

    def __init__(self) -> None:
        self.rows: list[ThreadRow] = []

    def take(self, most: int) -> list[ThreadRow]:
        return [self.rows.pop() for _ in range(min(most, len(self.rows)))]


def thread(place: int, *, last_ms: int = NOW_MS, gone: bool = False, **changes: Any) -> ThreadRow:
    row = ThreadRow(POWERPACK, E164(f"+1415555{place:04d}"), NUMBER, None, False, last_ms, gone)
    return row._replace(**changes)


@pytest.fixture
async def with_powerpack(database: Database) -> Database:
    async with database.side() as connection:
        await connection.execute("INSERT INTO accounts VALUES ($1, 'a', '', '', true, 0)", ACCOUNT)
        await connection.execute(
            "INSERT INTO powerpacks (powerpack_id, account_id, pool_id, name, sticky_sender, local_connect, priority,"
            " operator_types, sticky_at_limit, sticky_wait_ms, sticky_life_ms, patience_ms, on_unknown, created_ms)"
            " VALUES ($1, $2, $1, 'p', true, true, '{}', '{}', 'wait', 1, $3, 1, 'resend', 0)",
            POWERPACK,
            ACCOUNT,
            LIFE_MS,
        )
    return database


async def stored(database: Database, *, now_ms: int = NOW_MS) -> tuple[list[ThreadRow], int]:
    async with database.side() as connection, connection.transaction():
        rows = [row async for page in thread_pages(connection, now_ms=now_ms) for row in page]
        return rows, await read_mark(connection)


async def test_changed_threads_are_stored_the_longest_silent_first(with_powerpack: Database) -> None:
    changes, clock = Changes(), HandClock(NOW_MS)
    keeper = ThreadKeeper(with_powerpack, changes.take, clock=clock.now_ms)
    rows = [thread(2, last_ms=NOW_MS - 5, detour=E164("+14155550999")), thread(1, used=True)]
    changes.rows = list(rows)
    await keeper.flush()
    assert await stored(with_powerpack) == (rows, NOW_MS)
    changes.rows = [thread(2, last_ms=NOW_MS - 5, gone=True), thread(1, last_ms=NOW_MS + 1), thread(3)]
    clock.now += 10
    await keeper.flush()
    assert await stored(with_powerpack) == ([thread(3), thread(1, last_ms=NOW_MS + 1)], NOW_MS + 10)


async def test_the_mark_is_of_before_the_first_page_was_taken(with_powerpack: Database) -> None:
    changes, clock = Changes(), HandClock(NOW_MS)

    def take(most: int) -> list[ThreadRow]:
        clock.now += 1_000  # time goes on while pages are written
        return changes.take(most)

    changes.rows = [thread(place) for place in range(PAGE_ROWS + 10)]
    await ThreadKeeper(with_powerpack, take, clock=clock.now_ms).flush()
    rows, mark_ms = await stored(with_powerpack)
    assert len(rows) == PAGE_ROWS + 10
    assert mark_ms == NOW_MS


async def test_the_mark_stays_until_the_last_page_is_written(with_powerpack: Database, database_url: str) -> None:
    async with proxied(database_url) as proxy:
        distant = await Database.open(proxy.url)
        changes, clock = Changes(), HandClock(NOW_MS)

        def take(most: int) -> list[ThreadRow]:
            if len(changes.rows) < most:
                proxy.go_away()
            return changes.take(most)

        changes.rows = [thread(place) for place in range(PAGE_ROWS + 10)]
        keeper = ThreadKeeper(distant, take, clock=clock.now_ms)
        with pytest.raises(DatabaseAway):
            await keeper.flush()
        rows, mark_ms = await stored(with_powerpack)
        assert (len(rows), mark_ms) == (PAGE_ROWS, 0)
        await distant.close()


async def test_what_was_written_is_not_written_again(with_powerpack: Database) -> None:
    changes, clock = Changes(), HandClock(NOW_MS)
    keeper = ThreadKeeper(with_powerpack, changes.take, clock=clock.now_ms)
    versions = []
    for place in (1, 2):
        changes.rows = [thread(place)]
        await keeper.flush()
        async with with_powerpack.side() as connection:
            versions.append(await connection.fetchval("SELECT xmin::text FROM sticky ORDER BY recipient LIMIT 1"))
    assert versions[0] == versions[1]


async def test_without_changes_the_mark_moves_now_and_then(with_powerpack: Database) -> None:
    clock = HandClock(NOW_MS)
    keeper = ThreadKeeper(with_powerpack, Changes().take, clock=clock.now_ms)
    marks = []
    for _ in range(3):
        await keeper.flush()
        marks.append((await stored(with_powerpack))[1])
        clock.now += MARK_EVERY_MS * 2 // 3
    assert marks == [NOW_MS, NOW_MS, NOW_MS + MARK_EVERY_MS * 4 // 3]


async def test_what_could_not_be_written_is_kept_and_the_mark_stays(
    with_powerpack: Database, database_url: str
) -> None:
    async with proxied(database_url) as proxy:
        distant = await Database.open(proxy.url)
        changes, clock = Changes(), HandClock(NOW_MS)
        keeper = ThreadKeeper(distant, changes.take, clock=clock.now_ms)
        await keeper.flush()
        changes.rows = [thread(1), thread(2)]
        clock.now += 10
        proxy.go_away()
        with pytest.raises(DatabaseAway):
            await keeper.flush()
        assert await stored(with_powerpack) == ([], NOW_MS)
        changes.rows = [thread(2, last_ms=NOW_MS + 7)]
        clock.now += 10
        proxy.come_back()
        await keeper.flush()
        assert await stored(with_powerpack) == ([thread(1), thread(2, last_ms=NOW_MS + 7)], NOW_MS + 20)
        await distant.close()


async def test_dead_threads_are_neither_loaded_nor_kept_for_ever(with_powerpack: Database) -> None:
    changes, clock = Changes(), HandClock(NOW_MS)
    keeper = ThreadKeeper(with_powerpack, changes.take, clock=clock.now_ms)
    alive, dead = thread(1, last_ms=NOW_MS - LIFE_MS + 1), thread(2, last_ms=NOW_MS - LIFE_MS)
    changes.rows = [alive, dead]
    await keeper.flush()
    assert (await stored(with_powerpack))[0] == [alive]
    await keeper.sweep()
    async with with_powerpack.side() as connection:
        assert await connection.fetchval("SELECT count(*) FROM sticky") == 1


async def test_a_table_without_a_mark_is_replayed_from_the_beginning(database: Database) -> None:
    async with database.side() as connection:
        assert await read_mark(connection) == 0


async def test_what_was_set_by_hand_moves_the_mark_also_where_another_flush_has_taken_it(
    with_powerpack: Database,
) -> None:
    changes, clock = Changes(), HandClock(NOW_MS)
    keeper = ThreadKeeper(with_powerpack, changes.take, clock=clock.now_ms)
    changes.rows = [thread(1)]
    await keeper.flush()
    clock.now += 10
    await keeper.flush()
    assert (await stored(with_powerpack))[1] == NOW_MS
    await keeper.keep()
    assert (await stored(with_powerpack))[1] == NOW_MS + 10
