"""Opens what is stored, for `serve` and the commands: PostgreSQL (embedded or one's own), schema, master key."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.fields import BadSetting
from gateway.settings import Settings, StorageSettings
from storage.catalog import Catalog
from storage.database import Database
from storage.embedded import EmbeddedServer, embedded_server
from storage.queries import QUERIES
from storage.sealing import Vault, WrongKey, load_or_make_key, parse_key

KEY_FILE = "master.key"
ADMIN_FILE = "admin.token"
ADMIN_TOKEN_LENGTH_MIN = 32


class Stores(NamedTuple):
    """What is open. `server` is None where the database is one of your own."""

    database: Database
    catalog: Catalog
    server: EmbeddedServer | None


@asynccontextmanager
async def open_stores(settings: StorageSettings, *, owner: str = "") -> AsyncIterator[Stores]:
    """Open everything, with the schema this version needs; close it again, and stop a server that was started here.

    Raises storage's errors, and BadSetting for a data folder or a master key that cannot be used.
    """
    make_data_folder(settings.data)
    vault = Vault(_master_key(settings))
    if settings.database_url:
        async with _opened(settings.database_url, settings, owner) as database:
            yield Stores(database, Catalog(database, vault), None)
        return
    async with embedded_server(settings.data) as server, _opened(server.url, settings, owner) as database:
        yield Stores(database, Catalog(database, vault), server)


@asynccontextmanager
async def _opened(url: str, settings: StorageSettings, owner: str) -> AsyncIterator[Database]:
    database = await Database.open(url, allow_unsafe=settings.allow_unsafe_durability, owner=owner)
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


def make_data_folder(data: Path) -> None:
    """Make the data folder, for its owner alone. Raises BadSetting."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"the data folder {data} cannot be made: {error.strerror}") from error
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        raise BadSetting(f"the data folder {data} is not ours to read and write")


def _master_key(settings: StorageSettings) -> bytes:
    if settings.master_key:
        return parse_key(settings.master_key)
    return load_or_make_key(Path(settings.key_file) if settings.key_file else settings.data / KEY_FILE)


def admin_token(settings: Settings) -> str:
    """The administrator's token: as set, or that of the file, made for its owner's eyes alone. Raises BadSetting."""
    token = settings.admin.token
    path = settings.storage.data / ADMIN_FILE
    if not token:
        try:
            return base64.b64encode(load_or_make_key(path)).decode()
        except WrongKey as error:
            raise BadSetting(f"{path} holds no token that others cannot read: remove it, a new one is made") from error
    if len(token) < ADMIN_TOKEN_LENGTH_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise BadSetting(f"[admin] token is at least {ADMIN_TOKEN_LENGTH_MIN} visible ASCII characters")
    return token


async def find_owner(database: Database) -> tuple[str, int]:
    """Say who took the database over last ("" if nobody has), and how many of its sessions are at work."""
    async with database.side() as connection:
        lease = await connection.fetchrow(QUERIES["read_lease"])
        if lease is None:
            return "", 0
        sessions = await connection.fetchval(QUERIES["count_sessions_of_epoch"], lease["epoch"])
    return str(lease["owner"]), int(sessions)
