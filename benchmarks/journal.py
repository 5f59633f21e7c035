"""Rows a second through Journal.append, beside a bare COPY of the same rows into the same tables.

    python -m benchmarks.journal [--pairs 5] [--messages 10000]

An entry is what accepting a request stores: its body, its messages, and their claim. The bare COPY is one connection
that sends rows made beforehand, a thousand messages a transaction; the journal has two connections, makes its rows from
entries, numbers them and answers every one. fsync is on, PostgreSQL shares the machine. Runs are interleaved in pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import asyncpg
import structlog
import uvloop

from benchmarks.pairs import run_pairs
from gateway.compiled import program
from storage.database import Database
from storage.embedded import embedded_server
from storage.journal import Journal
from storage.records import Entry, Settled
from storage.transaction import TABLES
from tests.fakes.entries import request_entry

MESSAGES_PER_TRANSACTION = 1_000
WAITING_ROWS = 6_000  # what is kept waiting for the journal


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def make_entries(messages: int, per_entry: int) -> list[Entry]:
    return [request_entry(per_entry, claims=True) for _ in range(messages // per_entry)]


def rows_of(entries: Sequence[Entry]) -> int:
    return sum(entry.rows() for entry in entries)


async def through_journal(journal: Journal, messages: int, per_entry: int) -> float:
    """Append everything, as fast as it is taken; rows a second until the last is committed."""
    entries = make_entries(messages, per_entry)
    room = asyncio.Semaphore(WAITING_ROWS // entries[0].rows())
    settled: list[Settled] = []

    def hear(result: Settled) -> None:
        settled.append(result)
        room.release()

    began_s, future = time.perf_counter(), None
    for entry in entries:
        await room.acquire()
        future = journal.append(entry, hear)
    assert future is not None
    await future
    while len(settled) < len(entries):  # the other connection's last batch
        await asyncio.sleep(0)
    spent_s = time.perf_counter() - began_s
    assert set(settled) == {Settled.COMMITTED}
    return rows_of(entries) / spent_s


async def by_bare_copy(connection: asyncpg.Connection, messages: int, per_entry: int) -> float:
    """COPY the rows of as many entries, table by table; rows a second."""
    entries = make_entries(messages, per_entry)
    size = MESSAGES_PER_TRANSACTION // per_entry
    batches = []
    for start in range(0, len(entries), size):
        part = entries[start : start + size]
        copies = []
        for table in TABLES:
            mark = (1, 0) if table.is_numbered else ()
            rows = [tuple(row) + mark for entry in part for row in table.rows(entry)]
            if rows:
                copies.append((table.name, table.columns, rows))
        batches.append(copies)
    began_s = time.perf_counter()
    for copies in batches:
        async with connection.transaction():
            for name, columns, rows in copies:
                await connection.copy_records_to_table(name, records=rows, columns=columns)
    return rows_of(entries) / (time.perf_counter() - began_s)


async def measure(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp") as folder:
        async with embedded_server(Path(folder)) as server:
            database = await Database.open(server.url)
            await database.migrate()
            await database.take_over(owner="benchmark", now_ms=now_ms(), force=True)
            await database.make_partitions(now_ms=now_ms())
            bare = await database.journal_connection()
            async with Journal(database, clock=now_ms) as journal:
                await through_journal(journal, 2_000, 1)  # warm
                await by_bare_copy(bare, 2_000, 1)
                for per_entry in (1, 100):
                    result = await run_pairs(
                        partial(through_journal, journal, arguments.messages, per_entry),
                        partial(by_bare_copy, bare, arguments.messages, per_entry),
                        arguments.pairs,
                    )
                    print(
                        f"{per_entry:3} message(s) an entry: {statistics.median(result.first):8,.0f} rows/s, "
                        f"bare COPY {statistics.median(result.second):8,.0f} rows/s, median ratio {result.ratio:.2f}",
                        flush=True,
                    )
            await bare.close()
            await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plain", action="store_true", help="the sources as plain Python")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=10_000)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    arguments = parser.parse_args()
    print(f"program: {program()}", flush=True)
    uvloop.run(measure(arguments))


if __name__ == "__main__":
    main()
