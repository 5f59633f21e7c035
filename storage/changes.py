"""News of the catalog: whoever edits it says so in the same transaction, and the gateway hears of it.

PostgreSQL forgets what it tells while nobody listens, so each time we begin to listen everything may have changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson
import structlog

from storage.database import ERRORS, Database, DatabaseAway, Session, close_connection, is_away
from storage.queries import QUERIES

log = structlog.get_logger(__name__)

CHANNEL = "sendpool_catalog"
HEARD_MAX = 1_000  # more than these, not yet worked off, become one "all"
TOLD_MAX = 100  # one edit of more rows than this is told as "all"
PING_MS = 10_000
STATEMENT_MS_MAX = 5_000
RECONNECT_MS_MIN, RECONNECT_MS_MAX = 100, 2_000


class Change(NamedTuple):
    """What was edited, made or deleted: look it up again. `id` is empty for `all`."""

    kind: str  # account, application, powerpack, number, carrier, all
    id: str = ""
    account_id: str = ""


ALL = Change("all")


def told(changes: list[Change]) -> list[Change]:
    """As they are said: many at once are `all`."""
    return changes if len(changes) <= TOLD_MAX else [ALL]


async def tell(connection: Session, changes: list[Change]) -> None:
    """Say so when this transaction commits."""
    for change in told(changes):
        await connection.execute(QUERIES["tell_change"], orjson.dumps(change._asdict()).decode())


async def listen(database: Database, on_change: Callable[[Change], Awaitable[None]]) -> None:
    """Pass on each change, one after another, until cancelled; connects again by itself.

    Begins with `ALL`, and says it again after each gap, so nothing is missed between a look at the tables and the first
    news. The same news twice is told once. Raises EpochLost and UnsafeServer, as each new connection does.
    """
    pause_ms = RECONNECT_MS_MIN
    while True:
        try:
            connection = await database.own_connection(statement_ms_max=STATEMENT_MS_MAX)
        except DatabaseAway as error:
            log.warning("catalog news cannot be heard", error=str(error))
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(pause_ms * 2, RECONNECT_MS_MAX)
            continue
        pause_ms = RECONNECT_MS_MIN
        ear = Ear()
        try:
            connection.add_termination_listener(ear.end)
            await connection.add_listener(CHANNEL, ear.hear)
            ear.heard[ALL] = None
            while not ear.ended:
                if not await ear.wait(PING_MS):
                    await connection.execute(QUERIES["ping"])
                for change in ear.take():
                    await on_change(change)
        except (*ERRORS, DatabaseAway) as error:
            if not is_away(error):
                raise
            log.warning("catalog news broke off", error=str(error))
        finally:
            await close_connection(connection)


class Ear:
    """What was heard on one connection and not yet passed on: in order, each once, bounded."""

    def __init__(self) -> None:
        self.heard: dict[Change, None] = {}
        self.ended = False
        self._awake = asyncio.Event()

    def hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            told = orjson.loads(str(payload))
            change = Change(str(told["kind"]), str(told["id"]), str(told["account_id"]))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            change = ALL  # by hand, or by another version
        if len(self.heard) >= HEARD_MAX:
            self.heard.clear()
            change = ALL
        self.heard[change] = None
        self._awake.set()

    def end(self, _connection: object) -> None:
        self.ended = True
        self._awake.set()

    async def wait(self, wait_ms: int) -> bool:
        """Whether there was news, or the end, in time."""
        if self.heard or self.ended:
            return True
        self._awake.clear()
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await self._awake.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Change]:
        changes = list(self.heard)
        self.heard.clear()
        return changes
