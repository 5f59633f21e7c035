"""Looking messages up: an account's by id and by list, a carrier's by its reference, and what was never reported.

What an account asks for names the account in its SQL. Lists are bounded twice: the count says at most `COUNT_MAX`, and
at most `LOOKED_AT_MAX` of the newest messages of the time asked for are looked through, so that no filter makes a large
account slow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from resolver.model import AccountId, CarrierName, Message, MessageId, PowerpackId
from storage.database import Database, Session
from storage.history import StoredMessage, fact_row_of, message_row_of
from storage.queries import QUERIES
from storage.records import (
    BodyRow,
    FactKind,
    FactRow,
    IdempotencyRow,
    MessageRow,
    OutcomeRow,
    State,
    UnmatchedReportRow,
)

if TYPE_CHECKING:
    from asyncpg import Record

COUNT_MAX = 10_000
LOOKED_AT_MAX = 100_000
DESTINATIONS_MAX = 200_000
"""Of an account's newest messages that a mix of destinations is counted from."""
SWEEP_PAGE = 500
ID_SLACK_MS = 86_400_000
"""How far an id's time may be from its message's: ids follow the wall clock, messages one that never goes back."""
TIME_MAX_MS = 2**48 - 1

SENT_KINDS = (FactKind.SENT, FactKind.REPORTED_SENT)
"""The facts that make a message `sent`, as long as it has not ended."""


class MessageFilters(NamedTuple):
    """What a list is narrowed to; None passes everything. Times are of acceptance: from (inclusive) until (exclusive).

    `number` is the source as decided at accept.
    """

    from_ms: int | None = None
    until_ms: int | None = None
    powerpack_id: PowerpackId | None = None
    recipient: str | None = None
    number: str | None = None
    service: str | None = None
    reference: str | None = None
    code: str | None = None  # Plivo's error code; only messages that have ended have one
    state: str | None = None


class MessagePage(NamedTuple):
    """`total` counts up to COUNT_MAX."""

    messages: list[StoredMessage]
    total: int


class MessageArchive:
    """What is stored about messages. Everything here raises DatabaseAway when there is no database to be had."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- an account's -------------------------------------------------------------------------------------------------

    async def find(
        self, account_id: AccountId, message_id: MessageId, *, also: Sequence[AccountId] = ()
    ) -> StoredMessage | None:
        """One message with its facts in order; None where neither the account nor those of `also` have it."""
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_message"], [account_id, *also], message_id)
            if record is None:
                return None
            return (await _complete(connection, [message_row_of(record)]))[0]

    async def destinations(
        self, account_id: AccountId, powerpack_id: PowerpackId | None, *, since_ms: int
    ) -> Mapping[str, int]:
        """How many of its newest messages since then went to which area code (`+1415`); of one powerpack, if told."""
        async with self._database.side() as connection:
            records = await connection.fetch(
                QUERIES["count_destinations"], account_id, first_id(since_ms), powerpack_id, DESTINATIONS_MAX
            )
        return {record["prefix"]: record["messages"] for record in records}

    async def list_page(
        self, account_id: AccountId, filters: MessageFilters, *, limit: int, offset: int
    ) -> MessagePage:
        """A page, newest first."""
        async with self._database.side() as connection:
            records = await connection.fetch(
                QUERIES["list_messages"],
                account_id,
                first_id((filters.from_ms or 0) - ID_SLACK_MS),
                first_id((filters.until_ms or TIME_MAX_MS) + ID_SLACK_MS),
                filters.from_ms,
                filters.until_ms,
                filters.powerpack_id,
                filters.recipient,
                filters.number,
                filters.service,
                filters.reference,
                filters.code,
                filters.state,
                list(SENT_KINDS),
                limit,
                offset,
                COUNT_MAX,
                LOOKED_AT_MAX,
            )
            rows = [message_row_of(record) for record in records if record["message_id"] is not None]
            return MessagePage(await _complete(connection, rows), records[0]["total"])

    async def find_answer(self, account_id: AccountId, key: str) -> IdempotencyRow | None:
        """The answer that was given for an idempotency key."""
        async with self._database.side() as connection:
            record = await connection.fetchrow(QUERIES["find_key"], account_id, key)
        return IdempotencyRow._make(record) if record is not None else None

    # -- what carriers report -----------------------------------------------------------------------------------------

    async def find_refs(self, carrier: CarrierName, carrier_refs: Sequence[str]) -> Mapping[str, MessageId]:
        """The messages these ids of the carrier belong to; those it does not know are left out."""
        async with self._database.side() as connection:
            records = await connection.fetch(QUERIES["find_refs"], carrier, list(carrier_refs))
        return {record["carrier_ref"]: record["message_id"] for record in records}

    async def recall(self, message_ids: Collection[MessageId]) -> Mapping[MessageId, StoredMessage]:
        """These messages, whosever they are; those it does not know are left out."""
        async with self._database.side() as connection:
            records = await connection.fetch(QUERIES["messages_by_id"], list(message_ids))
            stored = await _complete(connection, [message_row_of(record) for record in records])
        return {each.row.message_id: each for each in stored}

    async def unmatched_reports(self, *, since_ms: int) -> list[UnmatchedReportRow]:
        """Reports whose message was not known when they came."""
        async with self._database.side() as connection:
            records = await connection.fetch(QUERIES["list_unmatched"], since_ms)
        return [UnmatchedReportRow._make(record)._replace(kind=FactKind(record["kind"])) for record in records]

    async def unreported(self, *, since_ms: int, until_ms: int) -> AsyncIterator[list[Message]]:
        """Messages sent between the two instants that have not ended, page by page: no report will come any more."""
        after = first_id(0)
        while True:
            async with self._database.side() as connection:
                records = await connection.fetch(
                    QUERIES["list_unreported"], since_ms, until_ms, after, SWEEP_PAGE, list(SENT_KINDS)
                )
            if not records:
                return
            after = records[-1]["message_id"]
            stored = await self.recall([record["message_id"] for record in records])
            yield [each.message() for each in stored.values() if each.state is State.SENT]


async def _complete(connection: Session, rows: list[MessageRow]) -> list[StoredMessage]:
    """Add to messages what else is stored about them; three queries, whatever their number."""
    if not rows:
        return []
    ids = [row.message_id for row in rows]
    facts = await load_facts(connection, ids)
    outcomes = await connection.fetch(QUERIES["outcomes_by_message"], ids)
    ends = {each["message_id"]: _outcome_of(each) for each in outcomes}
    bodies = await load_bodies(connection, {row.request_id for row in rows})
    return [
        StoredMessage(row, bodies.get(row.request_id), tuple(facts.get(row.message_id, ())), ends.get(row.message_id))
        for row in rows
    ]


async def load_facts(connection: Session, message_ids: Sequence[str]) -> Mapping[str, list[FactRow]]:
    """The facts of messages, each message's in order."""
    facts: defaultdict[str, list[FactRow]] = defaultdict(list)
    for record in await connection.fetch(QUERIES["facts_by_message"], message_ids):
        facts[record["message_id"]].append(fact_row_of(tuple(record)))
    return facts


async def load_bodies(connection: Session, request_ids: Collection[str]) -> Mapping[str, BodyRow]:
    """What is still there of these requests' bodies."""
    records = await connection.fetch(QUERIES["bodies_by_request"], list(request_ids))
    return {record["request_id"]: BodyRow._make(record) for record in records}


def _outcome_of(record: Record) -> OutcomeRow:
    return OutcomeRow._make(record)._replace(state=State(record["state"]))


def first_id(at_ms: int) -> str:
    """The least UUIDv7 made at this instant."""
    digits = f"{min(max(at_ms, 0), TIME_MAX_MS):012x}"
    return f"{digits[:8]}-{digits[8:]}-0000-0000-000000000000"
