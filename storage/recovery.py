"""After a start: the catalog, the hand-overs of a day, the sticky threads and the open messages make a ready resolver.

    unsettled attempts ─► a fact each: unknown      what was claimed and never ended was perhaps handed over
    hand-overs of a day ─► windows                  in time order, at their actual instants
    sticky table, then decisions since its mark ─► threads
    open messages with their facts ─► queues        in accept order; those with an unknown attempt come back apart

Memory is bounded: everything is streamed, page by page. A row that cannot become a message is set aside and logged, and
never keeps the gateway from starting. One whose request is no longer stored can never be sent: it is to be ended. One
that holds a word nobody knows may be of a newer version: it is left as it is, and looked at by the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import structlog

from resolver.core import CLAIM_GOOD_MS, Resolver
from resolver.model import E164, CarrierName, Message, MessageId, Phase, Request, RequestId, Tier
from storage.catalog import CatalogRows
from storage.database import Database, close_connection
from storage.history import StoredMessage, course_of, message_of, message_row_of, request_of
from storage.messages import SENT_KINDS, first_id, load_bodies, load_facts
from storage.queries import QUERIES
from storage.records import SETTLES, EpochLost, MessageRow, State
from storage.threads import read_mark, thread_pages

if TYPE_CHECKING:
    from asyncpg import Connection, Record

log = structlog.get_logger(__name__)

PAGE_ROWS = 5_000
QUARANTINED_MAX = 1_000
"""How many are named; the rest is only logged, and its turn comes with the next start."""

FORGOTTEN_CHARGES = 1_000
"""Of a number that is gone, for its carrier's link."""

HOUR_MS = 3_600_000  # of the pages of `stream_charges`
DAY_MS = 86_400_000
WINDOW_MS = DAY_MS + DAY_MS // 50
"""How far back a hand-over can still count: the longest window and 2 %."""
OPEN_MS = 4 * DAY_MS + DAY_MS // 4
"""How far an open message's id can lie behind the newest accepted one: validity is at most three days, and nothing is
accepted before what an outage left over has ended."""


class Quarantined(NamedTuple):
    """A message that could not be taken into memory, and why."""

    message_id: MessageId
    reason: str


class Recovered(NamedTuple):
    """What the other parts must know of the last process."""

    newest_ms: int  # the newest instant in the journal: the clock, and ids, begin no earlier
    restored: int  # open messages that are in memory now
    unknown: list[Message]  # those of them with an attempt of unknown outcome, settled so by a fact
    powerpack_gone: list[Message]  # those of them whose powerpack is no longer there: to be ended
    quarantined: list[Quarantined]
    lost: list[Message]  # their requests are no longer stored; not in memory


async def recover(
    database: Database, catalog: CatalogRows, resolver: Resolver, *, now_ms: int, links: Mapping[CarrierName, int]
) -> Recovered:
    """Fill an empty resolver with what is stored. `links` are the carriers with their segments a second.

    To be called once the epoch is ours and before anything is journalled. Raises EpochLost, and what asyncpg raises.
    """
    connection = await database.own_connection(statement_ms_max=0)
    try:
        newest_ms = int(await connection.fetchval(QUERIES["read_newest"]))
        now_ms = max(now_ms, newest_ms)
        _restore_catalog(resolver, catalog, links, now_ms=now_ms)
        unsettled = await _settle_unsettled(connection, newest_ms=newest_ms, now_ms=now_ms, epoch=database.epoch)
        charges = await _restore_charges(connection, resolver, newest_ms=newest_ms)
        threads = await _restore_threads(connection, resolver, now_ms=now_ms)
        accepted_ms = int(await connection.fetchval(QUERIES["read_newest_accepted"]))
        recovered = await _restore_messages(
            connection, resolver, newest_ms=newest_ms, accepted_ms=accepted_ms, now_ms=now_ms
        )
    finally:
        await close_connection(connection)
    log.info(
        "recovered", messages=recovered.restored, unsettled=unsettled, unknown=len(recovered.unknown), charges=charges,
        threads=threads, quarantined=len(recovered.quarantined), lost=len(recovered.lost),
    )  # fmt: skip
    return recovered


def _restore_catalog(
    resolver: Resolver, catalog: CatalogRows, links: Mapping[CarrierName, int], *, now_ms: int
) -> None:
    for carrier, segments_per_s in links.items():
        resolver.put_link(carrier, segments_per_s=segments_per_s, now_ms=now_ms)
    for powerpack in catalog.powerpacks:
        resolver.put_powerpack(powerpack)
    for number in catalog.numbers:
        resolver.put_number(number, now_ms=now_ms)


async def _settle_unsettled(connection: Connection[Record], *, newest_ms: int, now_ms: int, epoch: int) -> int:
    """Give every attempt that a killed process left without an end one: unknown, charged as late as it can have been.

    Done once, before anything else is stored, so that the next start need look no further back than this one.
    """
    async with connection.transaction():
        await connection.execute(QUERIES["widen_sorts"])
        if await connection.fetchval(QUERIES["read_epoch"]) != epoch:
            raise EpochLost("another process owns this database")
        status = await connection.execute(
            QUERIES["settle_unsettled"], newest_ms - WINDOW_MS, first_id(newest_ms - WINDOW_MS - OPEN_MS), now_ms,
            epoch, CLAIM_GOOD_MS, sorted(SETTLES),
        )  # fmt: skip
    return int(status.rpartition(" ")[2])


async def _restore_charges(connection: Connection[Record], resolver: Resolver, *, newest_ms: int) -> int:
    """Charge the windows again: of each number the latest hand-overs, at least as many as its windows remember."""
    since_ms = newest_ms - WINDOW_MS
    left = {
        number: max(each.rate.keep, each.day.keep if each.day is not None else 0)
        for number, each in resolver.numbers.items()
    }
    full_hours: dict[E164, int] = {}  # what another carrier had of a number in that hour counts like the first one's
    charges: list[tuple[int, E164, CarrierName, int]] = []
    async for page in _pages(connection, "stream_charges", since_ms, first_id(since_ms - OPEN_MS)):
        for number, carrier, times, segments in page:
            room, hour = left.get(number, FORGOTTEN_CHARGES), times[0] // HOUR_MS
            # Else all that is older has left the windows' memory, but for that it was.
            if room > 0 or full_hours.get(number) == hour:
                charges.extend(zip(times, repeat(number), repeat(carrier), segments, strict=False))
                left[number] = room - len(times)
                full_hours[number] = hour
            else:
                resolver.restore_forgotten(number, count=len(times), at_ms=max(times))
    charges.sort()
    for handed_ms, number, carrier, segments in charges:
        resolver.restore_charge(number, carrier, handed_ms=handed_ms, segments=segments)
    return len(charges)


async def _restore_threads(connection: Connection[Record], resolver: Resolver, *, now_ms: int) -> int:
    count = 0
    async with connection.transaction():
        mark_ms = await read_mark(connection)
        await connection.execute(QUERIES["widen_sorts"])
        async for threads in thread_pages(connection, now_ms=now_ms):
            for row in threads:
                resolver.restore_thread(row)
            count += len(threads)
    async for page in _pages(connection, "stream_decisions", mark_ms, first_id(mark_ms - DAY_MS)):
        for powerpack_id, recipient, number, tier, rules, at_ms, _, is_handed in page:
            if is_handed:
                resolver.replay_hand_over(powerpack_id, recipient, number)
            elif (known := _tier(tier)) is not None:
                resolver.replay_decision(powerpack_id, recipient, number, known, rules, at_ms=at_ms)
    return count


def _tier(text: str) -> Tier | None:
    try:
        return Tier(text)
    except ValueError:
        return None


async def _restore_messages(
    connection: Connection[Record], resolver: Resolver, *, newest_ms: int, accepted_ms: int, now_ms: int
) -> Recovered:
    recovered = Recovered(newest_ms, 0, [], [], [], [])
    restored = 0
    requests: dict[RequestId, Request] = {}
    async for page in _pages(connection, "stream_open", first_id(accepted_ms - OPEN_MS), list(SENT_KINDS)):
        rows = [message_row_of(record) for record in page]
        facts = await load_facts(connection, [row.message_id for row in rows])
        gone = await _load_requests(connection, rows, requests)
        for row in rows:
            try:
                course = course_of(facts.get(row.message_id, ()))
                if course.state is not State.QUEUED:
                    raise ValueError(f"it is {course.state} without an outcome")
                if row.request_id in gone:
                    _lose(recovered, StoredMessage(row, None, tuple(facts.get(row.message_id, ())), None).message())
                    continue
                if row.request_id not in requests:
                    raise ValueError("its request cannot be read")
                message = message_of(row, requests[row.request_id], course)
            except ValueError as error:
                _set_aside(recovered, row, str(error))
                continue
            resolver.restore_message(message, now_ms=now_ms)
            restored += 1
            if message.phase is Phase.UNKNOWN:
                recovered.unknown.append(message)
            elif row.powerpack_id is not None and resolver.powerpack(row.powerpack_id) is None:
                recovered.powerpack_gone.append(message)
    return recovered._replace(restored=restored)


async def _load_requests(
    connection: Connection[Record], rows: list[MessageRow], requests: dict[RequestId, Request]
) -> set[RequestId]:
    """Make the requests of these messages, once for all that share one; gives those that are not stored any more."""
    absent = {row.request_id: row for row in rows if row.request_id not in requests}
    bodies = await load_bodies(connection, absent)
    for request_id, row in absent.items():
        body = bodies.get(request_id)
        if body is not None:
            try:
                requests[request_id] = request_of(row, body)
            except ValueError as error:
                log.error("request cannot be read", request_id=request_id, reason=str(error))
    return absent.keys() - bodies.keys()


def _lose(recovered: Recovered, message: Message) -> None:
    log.error("request of a message is gone", message_id=message.message_id)
    if len(recovered.lost) < QUARANTINED_MAX:
        recovered.lost.append(message)


def _set_aside(recovered: Recovered, row: MessageRow, reason: str) -> None:
    log.error("message set aside", message_id=row.message_id, reason=reason)
    if len(recovered.quarantined) < QUARANTINED_MAX:
        recovered.quarantined.append(Quarantined(row.message_id, reason))


async def _pages(connection: Connection[Record], name: str, *arguments: object) -> AsyncIterator[list[Record]]:
    """What a query gives, page by page."""
    async with connection.transaction():
        await connection.execute(QUERIES["widen_sorts"])
        cursor = await connection.cursor(QUERIES[name], *arguments)
        while page := await cursor.fetch(PAGE_ROWS):
            yield page
            await asyncio.sleep(0)  # others may run, too: the server's ports are open already
