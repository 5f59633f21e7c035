"""Fixtures that every test may use: a real PostgreSQL, and a fresh database on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from storage.database import Database
from tests.postgres import TEMPLATE, Postgres, running_postgres

NOW_MS = 1_760_000_000_000
"""When tests' databases are taken over, unless they say otherwise."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The one server of this test run; started when the first test asks for it."""
    with running_postgres() as running:
        yield running


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, migrated database."""
    name = postgres.create(template=TEMPLATE)
    yield postgres.database_url(name)
    postgres.drop(name)


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """A database with nothing in it, not even the schema."""
    name = postgres.create()
    yield postgres.database_url(name)
    postgres.drop(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated database, open, and owned as epoch 1."""
    opened = await Database.open(database_url, owner="the test")
    await opened.take_over(now_ms=NOW_MS, force=False)
    yield opened
    await opened.close()
