"""The road from any earlier schema to this one: `sql/migrations/NNNN_pre_….sql` and `NNNN_post_….sql`, in order.

*pre* files run before this version takes the database over, while the one before may still be at work: they only add.
*post* files run after the take-over, when nobody older is connected: they may take away. Each file runs once, in a
transaction of its own together with its line in `migrations`; what was applied must never be edited.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from storage.queries import QUERIES, SQL_FOLDER, Session
from storage.records import StorageError

log = structlog.get_logger(__name__)

_FILE_NAME = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")


class SchemaMismatch(StorageError):
    """The database's schema is not one this version can work with."""


class Migration(NamedTuple):
    """One file."""

    name: str
    is_post: bool
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(folder: Path = SQL_FOLDER / "migrations") -> list[Migration]:
    """All files in order. Raises ValueError on a file name that says neither, or a number used twice."""
    migrations, numbers = [], set()
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or match[1] in numbers:
            raise ValueError(f"{path.name} is no name for a migration, or its number is taken")
        numbers.add(match[1])
        migrations.append(Migration(path.stem, match[2] == "post", path.read_text("utf-8")))
    return migrations


async def migrate(connection: Session, migrations: Sequence[Migration], *, post: bool) -> list[str]:
    """Apply what is missing (the *post* files only if told) and answer the names. Raises SchemaMismatch.

    Two processes at once take turns: the lock is held to the end of each file's transaction.
    """
    names: list[str] = []
    while True:
        async with connection.transaction():
            await connection.execute(QUERIES["lock_migrations"])
            await connection.execute(QUERIES["make_migrations_table"])
            applied = {row["name"]: row["sha256"] for row in await connection.fetch(QUERIES["list_migrations"])}
            _check_applied(applied, migrations)
            missing = [m for m in migrations if m.name not in applied and (post or not m.is_post)]
            if not missing:
                return names
            await connection.execute(missing[0].sql)
            await connection.execute(QUERIES["add_migration"], missing[0].name, missing[0].sha256)
        log.info("migration applied", migration=missing[0].name)
        names.append(missing[0].name)


def _check_applied(applied: dict[str, str], migrations: Sequence[Migration]) -> None:
    """A newer version's *pre* files do us no harm; its *post* files may have taken away what we need."""
    known = {migration.name: migration.sha256 for migration in migrations}
    for name, sha256 in applied.items():
        if name not in known and "_post_" in name:
            raise SchemaMismatch(f"A newer version of Sendpool has changed this database ({name}): use that version.")
        if name in known and known[name] != sha256:
            raise SchemaMismatch(f"The migration {name} was applied in another form than this version has.")
