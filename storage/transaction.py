"""One batch, one transaction, one connection: what is sent to PostgreSQL to store a batch, and to learn whether it did.

    BEGIN and is the epoch still ours? ─► idempotency keys, whose losers leave ─► COPY table by table ─► COMMIT

Until COMMIT is sent nothing can be stored, and a batch may simply be sent again. Once it is sent only the database
knows: `holds` looks for one row of the batch, and as long as the old server process lives its commit may still come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import asyncpg

from storage.backlog import Ticket
from storage.database import Database, close_connection
from storage.queries import QUERIES
from storage.records import (
    BodyRow,
    CallbackRow,
    CarrierRefRow,
    Entry,
    EpochLost,
    FactRow,
    HandoverRow,
    IdempotencyRow,
    MessageRow,
    OutcomeRow,
    StretchRow,
    UnmatchedReportRow,
)

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Row: TypeAlias = tuple[object, ...]
Probe: TypeAlias = tuple[str, Row]

POISON = (
    asyncpg.DataError,  # the server's and, by asyncpg, ours: what cannot be encoded
    asyncpg.exceptions.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # an index row too large
    ValueError,  # UnicodeEncodeError: a lone surrogate
    TypeError,
    OverflowError,
)
"""What a batch fails with when the data of one of its entries cannot be stored."""


class Table(NamedTuple):
    """How one table's rows are taken out of entries, and what is asked to see whether one is there."""

    name: str
    columns: tuple[str, ...]
    is_numbered: bool  # has epoch and batch as its last columns
    rows: Callable[[Entry], Sequence[Row]]
    probe: str
    probe_columns: tuple[int, ...]


def _table(
    name: str, row: type, rows: Callable[[Entry], Sequence[Row]], probe: str, *probe_columns: str, numbered: bool
) -> Table:
    fields: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
    places = tuple(fields.index(column) for column in probe_columns)
    return Table(name, fields + (("epoch", "batch") if numbered else ()), numbered, rows, probe, places)


TABLES: tuple[Table, ...] = (
    _table("messages", MessageRow, lambda entry: entry.messages, "holds_message", "message_id", numbered=True),
    _table("handovers", HandoverRow, lambda entry: entry.handovers, "holds_handover", "claimed_ms", numbered=True),
    _table("facts", FactRow, lambda entry: entry.facts, "holds_fact", "message_id", numbered=True),
    _table("outcomes", OutcomeRow, lambda entry: entry.outcomes, "holds_outcome", "message_id", numbered=True),
    _table("callbacks", CallbackRow, lambda entry: entry.callbacks, "holds_callback", "callback_id", numbered=False),
    _table("bodies", BodyRow, lambda entry: entry.bodies, "holds_body", "request_id", numbered=False),
    _table(
        "bulk_stretches", StretchRow, lambda entry: (entry.stretch,) if entry.stretch is not None else (),
        "holds_stretch", "bulk_id", "first_line", numbered=True,
    ),
    _table(
        "carrier_refs", CarrierRefRow, lambda entry: entry.carrier_refs, "holds_carrier_ref",
        "carrier", "carrier_ref", "message_id", "at_ms", numbered=False,
    ),
    _table(
        "unmatched_reports", UnmatchedReportRow, lambda entry: entry.unmatched, "holds_unmatched",
        "carrier", "carrier_ref", "kind", "code", "at_ms", numbered=False,
    ),
)  # fmt: skip
"""In the order in which one row of them is the best proof of a batch."""


class Backend(NamedTuple):
    """A server process: the same pid may come again, the same start with it does not."""

    pid: int
    started: datetime


class Batch:
    """Entries that share a transaction, in append order, and the number that marks their rows for good."""

    __slots__ = ("backend", "is_given_up", "number", "tickets")

    def __init__(self, number: int, tickets: list[Ticket]) -> None:
        self.number = number
        self.tickets = tickets
        self.backend: Backend | None = None  # who was sent its COMMIT
        self.is_given_up = False  # its waiters were told that it took too long: it is not sent (again)

    @property
    def is_unknown(self) -> bool:
        """Whether its COMMIT was sent and no answer came."""
        return self.backend is not None


class JournalConnection:
    """One of the journal's connections. Raises what asyncpg raises; `is_lost` tells whether it can still be used."""

    def __init__(self, connection: Connection[Record], backend: Backend, epoch: int) -> None:
        self._connection = connection
        self._epoch = epoch
        self.backend = backend

    @classmethod
    async def open(cls, database: Database, on_lost: Callable[[], None]) -> JournalConnection:
        """Connect; `on_lost` is called once when the connection ends, also when it does so by itself."""
        connection = await database.journal_connection()
        try:
            row = await connection.fetchrow(QUERIES["read_backend"])
            assert row is not None, "a connection sees its own backend"
            await connection.execute(QUERIES["claim_epoch"], str(database.epoch))
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(lambda _connection: on_lost())
        return cls(connection, Backend(row["pid"], row["backend_start"]), database.epoch)

    @property
    def is_lost(self) -> bool:
        return self._connection.is_closed()

    def cut(self) -> None:
        """End it at once, without a word to the server."""
        self._connection.terminate()

    async def close(self) -> None:
        await close_connection(self._connection)

    async def fill(self, batch: Batch, on_replayed: Callable[[Ticket], None]) -> None:
        """Do all but COMMIT. Whose idempotency key another request has leaves the batch, by way of `on_replayed`.

        Raises EpochLost when another process owns the database.
        """
        connection = self._connection
        if await connection.execute(QUERIES["begin_owned"]) != "SELECT 1":
            epoch = await connection.fetchval(QUERIES["read_epoch"])
            raise EpochLost(f"epoch {epoch} owns this database, ours is {self._epoch}")
        await self._take_keys(batch, on_replayed)
        mark = (self._epoch, batch.number)
        entries = [ticket.entry for ticket in batch.tickets]
        for table in TABLES:
            take = table.rows
            if table.is_numbered:
                records: list[Row] = [row + mark for entry in entries for row in take(entry)]
            else:
                records = [row for entry in entries for row in take(entry)]
            if records:
                await connection.copy_records_to_table(table.name, records=records, columns=table.columns)

    async def _take_keys(self, batch: Batch, on_replayed: Callable[[Ticket], None]) -> None:
        keyed = [ticket.entry.idempotency for ticket in batch.tickets if ticket.entry.idempotency is not None]
        if not keyed:
            return
        columns = [list(column) for column in zip(*keyed, strict=True)]
        taken = await self._connection.fetch(QUERIES["take_keys"], *columns)
        if len(taken) == len(keyed):
            return
        winners = {(row["account_id"], row["key"]) for row in taken}
        losers = [ticket for ticket in batch.tickets if not _has_key(ticket.entry.idempotency, winners)]
        batch.tickets = [ticket for ticket in batch.tickets if _has_key(ticket.entry.idempotency, winners)]
        for ticket in losers:
            on_replayed(ticket)

    async def commit(self) -> None:
        """From here on only the database knows, until it answers."""
        status = await self._connection.execute("COMMIT")
        assert status == "COMMIT", f"a transaction that went well ended in {status}"

    async def roll_back(self) -> None:
        await self._connection.execute("ROLLBACK")

    async def holds(self, batch: Batch) -> bool:
        """Whether the batch is stored."""
        name, values = _probe(batch, self._epoch)
        return bool(await self._connection.fetchval(QUERIES[name], *values))

    async def lives(self, backend: Backend) -> bool:
        """Whether that server process is still there, so that its commit may still come."""
        return bool(await self._connection.fetchval(QUERIES["backend_lives"], *backend))

    async def end(self, backend: Backend) -> None:
        """Tell that server process, which no longer has a client, to end."""
        await self._connection.execute(QUERIES["end_backend"], *backend)


def _has_key(row: IdempotencyRow | None, winners: set[tuple[str, str]]) -> bool:
    return row is None or (row.account_id, row.key) in winners


def _probe(batch: Batch, epoch: int) -> Probe:
    for table in TABLES:
        for ticket in batch.tickets:
            for row in table.rows(ticket.entry):
                values = tuple(row[place] for place in table.probe_columns)
                return table.probe, (*values, epoch, batch.number) if table.is_numbered else values
    keys = [ticket.entry.idempotency for ticket in batch.tickets if ticket.entry.idempotency is not None]
    assert keys, "a batch holds at least one row"
    return "holds_key", (keys[0].account_id, keys[0].key, keys[0].created_ms, keys[0].answer)
