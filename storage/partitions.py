"""Days: the journal's tables have a partition per UTC day, made ahead and dropped whole when their time is over.

SQL does the work (schema.sql, "Partitions by day"), since table names are no parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
import structlog

from storage.queries import QUERIES, Session

log = structlog.get_logger(__name__)

DAY_MS = 86_400_000
KEEP_DAYS_MIN = 5
"""No journal day is dropped sooner: validity is at most 3 days and day windows look back over one more."""

SWEEP_ROWS_MAX = 10_000
"""Rows deleted at a time from tables that cannot be dropped by day."""

TIME_COLUMNS: Mapping[str, str] = {"idempotency": "created_ms", "unmatched_reports": "at_ms"}
"""Tables without partitions that age, too."""


async def make_partitions(connection: Session, *, now_ms: int, days: int) -> list[str]:
    """Make what is missing of today and the `days` after it; answer the names of what was made.

    A day whose rows already lie in the default partition stays there, and is alarmed.
    """
    rows = await connection.fetch(QUERIES["make_missing_partitions"], now_ms // DAY_MS * DAY_MS, days + 1)
    for row in rows:
        if not row["made"]:
            log.error("partition came too late, its rows stay in the default partition", partition=row["partition"])
    return [row["partition"] for row in rows if row["made"]]


async def drop_partitions(connection: Session, *, now_ms: int, keep_days: Mapping[str, int]) -> list[str]:
    """Drop the days that lie wholly before `keep_days[table]` days ago; answer their names. Other tables are kept.

    `idempotency` and `unmatched_reports` may be named too. A partition somebody reads just now is left for next time.
    Raises ValueError for a table that does not age, or fewer than `KEEP_DAYS_MIN` days of the journal.
    """
    partitions = await connection.fetch(QUERIES["list_partitions"])
    parents = {row["parent"] for row in partitions}
    for table, days in keep_days.items():
        if table not in parents | set(TIME_COLUMNS) or days < (KEEP_DAYS_MIN if table in parents else 1):
            raise ValueError(f"{table} cannot be kept for {days} days")
    dropped = []
    for row in partitions:
        if row["parent"] not in keep_days:
            continue
        before_ms = now_ms - keep_days[row["parent"]] * DAY_MS
        if row["until_ms"] is None:
            await connection.execute(
                QUERIES["sweep_default_partition"], row["parent"], row["partition"], before_ms, SWEEP_ROWS_MAX
            )
        elif row["until_ms"] <= before_ms and await _drop(connection, row["partition"]):
            dropped.append(row["partition"])
    for table in TIME_COLUMNS.keys() & keep_days.keys():
        before_ms = now_ms - keep_days[table] * DAY_MS
        await connection.execute(QUERIES["sweep_table"], table, TIME_COLUMNS[table], before_ms, SWEEP_ROWS_MAX)
    return dropped


async def _drop(connection: Session, partition: str) -> bool:
    try:
        await connection.execute(QUERIES["drop_partition"], partition)
    except asyncpg.LockNotAvailableError:
        log.warning("partition is in use, dropped later", partition=partition)
        return False
    log.info("partition dropped", partition=partition)
    return True
