"""What is left of a run, as plain values: the ledger, the witness's file, what the hookbox was told, and the database.

Nothing here judges; checker.py does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import asyncpg
import msgspec
import orjson

from tests.acceptance.kill.witness import Fate

NS_PER_MS = 1_000_000


class Promise(NamedTuple):
    """One id of a 202."""

    message_id: str
    recipient: str
    number: str  # "" where it was stored as failed


class Asked(NamedTuple):
    """One submission of the ledger, and how each try of it ended."""

    reference: str  # unique per body: all tries with one Idempotency-Key have one
    keyed: bool
    recipients: tuple[str, ...]
    ends: tuple[str, ...]  # accepted, refused (not stored), unknown (503 outcome_unknown), cut (no answer)
    promises: tuple[tuple[Promise, ...], ...]  # of each 202


class Arrival(NamedTuple):
    """One submit as the witness saw it."""

    at_ms: float  # monotonic
    message_id: str
    attempt: int
    number: str
    recipient: str
    fate: str

    @property
    def is_taken(self) -> bool:
        return self.fate in (Fate.TAKEN, Fate.LOST)

    @property
    def is_charged(self) -> bool:
        """A definite "not now" gives its charge back; a refusal after work does not."""
        return self.fate not in (Fate.THROTTLED, Fate.BUSY)


class Told(NamedTuple):
    """One callback as the hookbox got it."""

    message_id: str
    sequence: int
    status: str
    is_flagged: bool  # PossibleDuplicate


class StoredMessage(NamedTuple):
    message_id: str
    request_id: str
    reference: str
    powerpack_id: str | None  # None: it named its source number
    recipient: str
    number: str | None
    tier: str
    refusal: str
    segments: int
    accepted_ms: int
    callback_url: str


class StoredFact(NamedTuple):
    message_id: str
    kind: str
    attempt: int
    at_ms: int
    handed_ms: int | None
    number: str | None
    carrier: str
    segments: int
    charged: bool
    epoch: int


class Claim(NamedTuple):
    """One message of one row of `handovers`."""

    message_id: str
    attempt: int
    number: str
    carrier: str
    segments: int
    claimed_ms: int
    epoch: int


class StoredOutcome(NamedTuple):
    message_id: str
    state: str
    code: str


class StoredCallback(NamedTuple):
    message_id: str
    sequence: int
    status: str
    is_told: bool


class Shown(NamedTuple):
    """One message as the API shows it after the run."""

    message_id: str
    state: str
    recipient: str


class NumberLimits(NamedTuple):
    """What one number may be handed; the span as the gateway keeps it, with its margin."""

    segments: int
    span_ms: int
    day_limit: int | None


NO_LIMITS: Mapping[str, NumberLimits] = MappingProxyType({})


class Evidence(NamedTuple):
    """All of it. Facts stand in the order of the journal."""

    asked: Sequence[Asked] = ()
    arrivals: Sequence[Arrival] = ()
    told: Sequence[Told] = ()
    shown: Sequence[Shown] = ()
    messages: Sequence[StoredMessage] = ()
    facts: Sequence[StoredFact] = ()
    claims: Sequence[Claim] = ()
    outcomes: Sequence[StoredOutcome] = ()
    callbacks: Sequence[StoredCallback] = ()
    limits: Mapping[str, NumberLimits] = NO_LIMITS
    links: Mapping[str, NumberLimits] = NO_LIMITS
    sticky: frozenset[str] = frozenset()  # powerpacks with Sticky Sender


# --- Files ------------------------------------------------------------------------------------------------------------


class LedgerLine(msgspec.Struct, omit_defaults=True):
    """A line of the ledger's file."""

    kind: str  # asked, or how a try ended
    reference: str
    keyed: bool = False
    recipients: list[str] = []
    promises: list[Promise] = []
    status: int = 0
    code: str = ""


def read_ledger(file: Path) -> list[Asked]:
    """Every submission that was begun, with its ends in order."""
    begun: dict[str, LedgerLine] = {}
    ends: dict[str, list[str]] = {}
    promises: dict[str, list[tuple[Promise, ...]]] = {}
    for text in file.read_bytes().splitlines():
        line = msgspec.json.decode(text, type=LedgerLine)
        if line.kind == "asked":
            begun[line.reference], ends[line.reference], promises[line.reference] = line, [], []
            continue
        ends[line.reference].append(line.kind)
        if line.kind == "accepted":
            promises[line.reference].append(tuple(line.promises))
    return [
        Asked(reference, line.keyed, tuple(line.recipients), tuple(ends[reference]), tuple(promises[reference]))
        for reference, line in begun.items()
    ]


def read_witness(file: Path) -> list[Arrival]:
    """Every submit, in the order in which they arrived."""
    found = []
    for line in file.read_text().splitlines():
        at_ns, message_id, attempt, number, recipient, fate = line.split(" ")
        found.append(Arrival(int(at_ns) / NS_PER_MS, message_id, int(attempt), number, recipient, fate))
    return sorted(found)


def read_hookbox(file: Path) -> list[Told]:
    return [Told(*orjson.loads(line)) for line in file.read_bytes().splitlines()]


# --- Database ---------------------------------------------------------------------------------------------------------

MESSAGES = """
    SELECT m.message_id::text, m.request_id::text, m.reference, m.powerpack_id::text, m.recipient, m.number, m.tier,
        m.refusal, m.segments, m.accepted_ms, b.callback_url
    FROM messages m LEFT JOIN bodies b USING (request_id) ORDER BY m.epoch, m.batch, m.message_id
"""
FACTS = """
    SELECT message_id::text, kind, attempt, at_ms, handed_ms, number, carrier, segments, charged, epoch
    FROM facts ORDER BY epoch, batch, fact_no
"""
CLAIMS = """
    SELECT c.message_id::text, c.attempt, c.number, h.carrier, c.segments, h.claimed_ms, h.epoch
    FROM handovers h, unnest(message_ids, attempts, numbers, segments) AS c (message_id, attempt, number, segments)
    ORDER BY h.epoch, h.batch
"""
OUTCOMES = "SELECT message_id::text, state, code FROM outcomes"
CALLBACKS = "SELECT message_id::text, sequence, params, state FROM callbacks ORDER BY callback_id"


async def read_database(url: str, evidence: Evidence) -> Evidence:
    """`evidence` with what the database holds; it is read as one instant, by its own words."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return evidence._replace(
                messages=[StoredMessage(*row) for row in await connection.fetch(MESSAGES)],
                facts=[StoredFact(*row) for row in await connection.fetch(FACTS)],
                claims=[Claim(*row) for row in await connection.fetch(CLAIMS)],
                outcomes=[StoredOutcome(*row) for row in await connection.fetch(OUTCOMES)],
                callbacks=[_callback(row) for row in await connection.fetch(CALLBACKS)],
            )
    finally:
        await connection.close()


def _callback(row: asyncpg.Record) -> StoredCallback:
    status = orjson.loads(row["params"])["Status"]
    return StoredCallback(row["message_id"], row["sequence"], status, row["state"] == "told")


def by_message(rows: Iterable[StoredFact]) -> dict[str, list[StoredFact]]:
    found: dict[str, list[StoredFact]] = {}
    for row in rows:
        found.setdefault(row.message_id, []).append(row)
    return found
