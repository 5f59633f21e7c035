"""What is stored: message states with their legal moves, fact kinds, rows, and storage's errors.

A *fact* is what happened to a message; facts are appended and never changed. A message's *state* is the fold of its
facts over `MOVES`: a move that is not in the table is not made (the fact is kept all the same), so reports may come
twice, out of order and before the carrier's answer, and a final state never goes back.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

from resolver.model import E164, AccountId, CarrierName, MessageId, PowerpackId, RequestId, Word

BulkId = NewType("BulkId", str)  # UUIDv7
"""Of a bulk: messages that came as one stream of lines."""


class State(Word):
    """Plivo's outbound states; `QUEUED` until a fact says otherwise."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"


class FactKind(Word):
    """What can happen to a message after its decision."""

    SENT = "sent"  # settles an attempt: the carrier took it
    REJECTED = "rejected"  # settles an attempt: the carrier refused it for good
    RETURNED = "returned"  # settles an attempt: not taken, or given up; it is tried again
    UNKNOWN = "unknown"  # settles an attempt: handed over, no answer; flagged possible_duplicate
    DELIVERED = "delivered"  # by report
    UNDELIVERED = "undelivered"  # by report
    REPORTED_FAILED = "reported_failed"  # by report
    REPORTED_SENT = "reported_sent"  # by report: on its way
    REBOUND = "rebound"  # decided again: `number` is the new one
    REFUSED = "refused"  # decided at accept: no number (stored failed)
    EXPIRED = "expired"
    CANCEL_ASKED = "cancel_asked"  # claimed, or with a carrier: should it not have left, it ends as cancelled
    CANCELLED = "cancelled"
    POWERPACK_DELETED = "powerpack_deleted"
    GIVEN_UP = "given_up"  # an unknown outcome that `on_unknown` does not try again
    UNREPORTED = "unreported"  # sent, and no report within `report_wait`


SETTLES = frozenset({FactKind.SENT, FactKind.REJECTED, FactKind.RETURNED, FactKind.UNKNOWN})
"""The kinds that settle an attempt; each attempt is settled by exactly one of them, naming it."""

MOVES: dict[tuple[str, FactKind], State] = {
    (State.QUEUED, FactKind.SENT): State.SENT,
    (State.QUEUED, FactKind.REPORTED_SENT): State.SENT,
    (State.QUEUED, FactKind.DELIVERED): State.DELIVERED,
    (State.QUEUED, FactKind.UNDELIVERED): State.UNDELIVERED,
    (State.QUEUED, FactKind.REPORTED_FAILED): State.FAILED,
    (State.QUEUED, FactKind.REJECTED): State.FAILED,
    (State.QUEUED, FactKind.REFUSED): State.FAILED,
    (State.QUEUED, FactKind.EXPIRED): State.FAILED,
    (State.QUEUED, FactKind.CANCELLED): State.FAILED,
    (State.QUEUED, FactKind.POWERPACK_DELETED): State.FAILED,
    (State.QUEUED, FactKind.GIVEN_UP): State.FAILED,
    (State.SENT, FactKind.DELIVERED): State.DELIVERED,
    (State.SENT, FactKind.UNDELIVERED): State.UNDELIVERED,
    (State.SENT, FactKind.REPORTED_FAILED): State.FAILED,
    (State.SENT, FactKind.UNREPORTED): State.SENT,
}
"""The legal moves, from a state or its text. `UNREPORTED` ends a message in `sent`: no later report changes it."""

ENDS = frozenset({State.DELIVERED, State.UNDELIVERED, State.FAILED})

PLIVO_CODES: dict[FactKind, str] = {
    FactKind.DELIVERED: "000",
    FactKind.EXPIRED: "420",
    FactKind.CANCELLED: "300",
    FactKind.POWERPACK_DELETED: "90",
    FactKind.GIVEN_UP: "1000",
}
"""Error codes that follow from the kind alone (Plivo's table); the others come with the fact."""


def fold(state: State, kind: FactKind) -> State:
    """The state after one more fact; the same state where the table has no such move."""
    return MOVES.get((state, kind), state)


def is_final(state: State, kind: FactKind) -> bool:
    """Whether this fact, having led to `state`, ends the message."""
    return state in ENDS or kind is FactKind.UNREPORTED


class MessageRow(NamedTuple):
    """One decided message: the columns of `messages` in order, less epoch and batch, which the journal adds."""

    message_id: MessageId
    request_id: RequestId
    account_id: AccountId
    powerpack_id: PowerpackId | None  # None: the request named its source number
    recipient: E164
    number: E164 | None
    tier: str
    rules: str  # comma-joined
    binding_window: str
    segments: int
    service: str
    priority: str
    reference: str
    line: int  # its place in the request, from 0
    accepted_ms: int
    expires_ms: int
    forecast_ms: int | None
    refusal: str  # RefusalCode where it was stored as failed, else ""


class BodyRow(NamedTuple):
    """One request: what its messages share; the columns of `bodies` in order."""

    request_id: RequestId
    account_id: AccountId
    text: str
    callback_url: str
    callback_method: str
    patience_ms: int | None
    validity_ms: int
    on_unknown: str  # "" for the powerpack's
    log: str
    requester_ip: str


class HandoverRow(NamedTuple):
    """One claimed batch; the three lists run in parallel."""

    carrier: CarrierName
    claimed_ms: int
    message_ids: list[MessageId]
    attempts: list[int]
    numbers: list[E164]
    segments: list[int]


class FactRow(NamedTuple):
    """One fact; the columns of `facts` in order, less epoch and batch."""

    message_id: MessageId
    account_id: AccountId
    kind: FactKind
    attempt: int  # the attempt it settles, or 0
    at_ms: int  # when we learned it
    handed_ms: int | None  # the actual hand-over, where it settles an attempt that was written
    number: E164 | None
    carrier: str
    carrier_ref: str
    code: str  # Plivo's error code, or ""
    detail: str  # our stable code: a failure's, a refusal's, a reason
    segments: int
    charged: bool  # whether the hand-over counts in the windows


class OutcomeRow(NamedTuple):
    """The end of a message: written once, in the transaction of the fact that ended it."""

    message_id: MessageId
    account_id: AccountId
    state: State
    code: str
    at_ms: int


class CarrierRefRow(NamedTuple):
    """Which message a carrier's id belongs to, for reports that come after it has left memory."""

    carrier: CarrierName
    carrier_ref: str
    message_id: MessageId
    at_ms: int


class UnmatchedReportRow(NamedTuple):
    """A report nobody knows yet; kept 24 hours."""

    carrier: CarrierName
    carrier_ref: str
    kind: FactKind
    code: str
    at_ms: int


class CallbackRow(NamedTuple):
    """One callback owed: everything that is needed to send it, so that no text need be looked up."""

    callback_id: str  # UUIDv7; the Webhook-Id, stable over retries
    account_id: AccountId
    message_id: MessageId
    sequence: int  # per message, from 1
    url: str
    method: str
    params: bytes  # JSON object of text values, in order
    created_ms: int
    next_ms: int


class CallbackState(Word):
    """Where a callback stands; the values of `callbacks.state`."""

    OWED = "owed"  # to be tried, again or at all, at its `next_ms`
    TOLD = "told"  # an endpoint answered 2xx
    GIVEN_UP = "given_up"  # not tried again


class OwedCallback(NamedTuple):
    """A callback that is still to be told, as the outbox has it."""

    row: CallbackRow
    tries: int  # so far


class CallbackResult(NamedTuple):
    """What came of one try; overwrites the four columns of the same names."""

    callback_id: str
    state: CallbackState
    tries: int
    next_ms: int
    last_result: str  # an HTTP status, or a stable word for what went wrong


class IdempotencyRow(NamedTuple):
    """The answer given for a key, kept 24 hours."""

    account_id: AccountId
    key: str
    body_hash: bytes
    answer: bytes
    created_ms: int


class Settled(Word):
    """How an entry ended."""

    COMMITTED = "committed"
    FAILED = "failed"  # nothing of it is stored
    REPLAYED = "replayed"  # its idempotency key was taken by another request; nothing of it is stored
    POISONED = "poisoned"  # its own data was refused by the database; nothing of it is stored


class StretchRow(NamedTuple):
    """Consecutive lines of a bulk that were stored together; the columns of `bulk_stretches`, less epoch and batch.

    A bulk is its stretches in the order of `first_line`; one begins where the one before it ends. The lists of refused
    lines run in parallel.
    """

    bulk_id: BulkId
    first_line: int  # from 1
    lines: int  # how many, blank ones included
    account_id: AccountId
    digest: bytes  # SHA-256 of all lines of the bulk up to the end of this stretch
    accepted: int
    first_id: MessageId | None  # of the messages: ids of a stretch follow each other, and nobody else's lie between
    last_id: MessageId | None
    refused_lines: list[int]
    refused_codes: list[str]
    refused_errors: list[str]  # what the caller was told, "" for the code's own text
    refused_retry_ms: list[int]  # when to try again, 0 where nobody knows
    at_ms: int


class Entry:
    """What belongs into one transaction together. Never split; shares its transaction with other entries."""

    __slots__ = (
        "bodies", "callbacks", "carrier_refs", "facts", "handovers", "idempotency", "messages", "outcomes", "stretch",
        "unmatched",
    )  # fmt: skip

    def __init__(
        self,
        bodies: list[BodyRow] | None = None,
        messages: list[MessageRow] | None = None,
        handovers: list[HandoverRow] | None = None,
        facts: list[FactRow] | None = None,
        outcomes: list[OutcomeRow] | None = None,
        carrier_refs: list[CarrierRefRow] | None = None,
        unmatched: list[UnmatchedReportRow] | None = None,
        callbacks: list[CallbackRow] | None = None,
        idempotency: IdempotencyRow | None = None,
        stretch: StretchRow | None = None,
    ) -> None:
        self.bodies: list[BodyRow] = [] if bodies is None else bodies
        self.messages: list[MessageRow] = [] if messages is None else messages
        self.handovers: list[HandoverRow] = [] if handovers is None else handovers
        self.facts: list[FactRow] = [] if facts is None else facts
        self.outcomes: list[OutcomeRow] = [] if outcomes is None else outcomes
        self.carrier_refs: list[CarrierRefRow] = [] if carrier_refs is None else carrier_refs
        self.unmatched: list[UnmatchedReportRow] = [] if unmatched is None else unmatched
        self.callbacks: list[CallbackRow] = [] if callbacks is None else callbacks
        self.idempotency = idempotency
        self.stretch = stretch

    def rows(self) -> int:
        """How many rows it adds, for the journal's bounds."""
        return (
            len(self.bodies)
            + len(self.messages)
            + len(self.handovers)
            + len(self.facts)
            + len(self.outcomes)
            + len(self.carrier_refs)
            + len(self.unmatched)
            + len(self.callbacks)
            + (self.idempotency is not None)
            + (self.stretch is not None)
        )


class StorageError(Exception):
    """Storage could not do what was asked."""


class JournalUnavailable(StorageError):
    """The database is away: nothing was stored; worth trying again."""


class JournalFull(StorageError):
    """More waits to be committed than the bounds allow; nothing was stored."""


class OutcomeUnknown(StorageError):
    """The connection died in COMMIT and the answer could not be found in time; it is settled later."""


class EpochLost(StorageError):
    """Another process owns this database now."""


class UnsafeServer(StorageError):
    """The server's settings could lose what it confirms."""
