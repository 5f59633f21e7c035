"""What makes a server fit to be trusted, and which errors mean that it is away. Over real connections: integration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import asyncpg
import pytest

from storage.database import SAFE_SETTINGS, DatabaseAway, ServerTooOld, check_server, is_away
from storage.records import EpochLost, UnsafeServer

SAFE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


class FakeConnection:
    """A server of a given version that shows given settings."""

    def __init__(self, major: int, settings: dict[str, str]) -> None:
        self._major, self._settings = major, settings

    def get_server_version(self) -> SimpleNamespace:
        return SimpleNamespace(major=self._major)

    async def fetchrow(self, statement: str) -> dict[str, str]:
        return self._settings


async def check(settings: dict[str, str], *, major: int = 18, allow_unsafe: bool = False) -> None:
    connection = cast("asyncpg.Connection", FakeConnection(major, {**SAFE, **settings}))
    await check_server(connection, allow_unsafe=allow_unsafe)


@pytest.mark.parametrize("major", [15, 16, 17, 18, 19])
async def test_a_safe_server_from_15_on_will_do(major: int) -> None:
    await check({}, major=major)
    await check({"synchronous_commit": "remote_apply"}, major=major)


@pytest.mark.parametrize("major", [9, 14])
async def test_an_older_server_is_refused_by_its_version(major: int) -> None:
    with pytest.raises(ServerTooOld, match=f"PostgreSQL {major}; Sendpool needs 15"):
        await check({}, major=major, allow_unsafe=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("synchronous_commit", "local"),
        ("synchronous_commit", "remote_write"),
    ],
)
async def test_a_server_that_could_lose_a_commit_is_refused_by_the_setting(name: str, value: str) -> None:
    with pytest.raises(UnsafeServer, match=f"{name}={value}"):
        await check({name: value})
    await check({name: value}, allow_unsafe=True)


def test_all_three_settings_are_looked_at() -> None:
    assert set(SAFE_SETTINGS) == set(SAFE)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (DatabaseAway("x"), True),
        (asyncpg.ConnectionDoesNotExistError("x"), True),
        (asyncpg.CannotConnectNowError("x"), True),
        (asyncpg.AdminShutdownError("x"), True),
        (asyncpg.QueryCanceledError("x"), True),
        (asyncpg.TooManyConnectionsError("x"), True),
        (asyncpg.DiskFullError("x"), True),
        (asyncpg.LockNotAvailableError("x"), True),
        (asyncpg.DeadlockDetectedError("x"), True),
        (asyncpg.PostgresIOError("x"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"), True),
        (asyncpg.UniqueViolationError("x"), False),
        (asyncpg.DataError("x"), False),
        (asyncpg.UndefinedTableError("x"), False),
        (asyncpg.exceptions._base.DataError("a bad argument"), False),
        (EpochLost("x"), False),
        (UnsafeServer("x"), False),
        (KeyError("x"), False),
    ],
)
def test_errors_of_an_absent_server_are_told_from_others(error: Exception, away: bool) -> None:
    assert is_away(error) is away
