"""One message as it is stored: its row, its request, its facts; and what they come to.

Facts come in the order of (epoch, batch, fact_no). Their fold is the message's state, but for the end: that is the
outcome's, which was stored once, with the fact that made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from resolver.model import (
    E164,
    NO_POWERPACK,
    CarrierName,
    Message,
    OnUnknown,
    Phase,
    Priority,
    Request,
    Service,
    Tier,
)
from storage.records import SETTLES, BodyRow, FactKind, FactRow, MessageRow, OutcomeRow, State, fold

if TYPE_CHECKING:
    from asyncpg import Record

NO_NUMBER = E164("")

MESSAGE_FIELDS = len(MessageRow._fields)


class Course(NamedTuple):
    """What a message's facts come to."""

    state: State = State.QUEUED
    changes: int = 0  # of the state
    number: E164 | None = None  # the latest fact's that names one
    tier: str = ""  # where it was decided again
    attempt: int = 0  # the latest that is settled
    settled_by: FactKind | None = None  # the latest attempt's end
    slot_ms: int = 0  # when the latest attempt was handed over
    retries: int = 0  # attempts that count against the carrier's maximum
    possible_duplicate: bool = False
    rebound_ms: int = 0
    cancelled: bool = False  # somebody wants it stopped


def follow(course: Course, fact: FactRow) -> Course:
    """What the message has come to after one more fact."""
    state = fold(course.state, fact.kind)
    kind = fact.kind
    course = course._replace(
        state=state,
        changes=course.changes + (state is not course.state),
        number=fact.number or course.number,
    )
    if kind is FactKind.REBOUND:
        return course._replace(tier=fact.detail, rebound_ms=fact.at_ms)
    if kind is FactKind.CANCEL_ASKED:
        return course._replace(cancelled=True)
    if kind not in SETTLES:
        return course
    counts = kind is FactKind.UNKNOWN or (kind is FactKind.RETURNED and fact.charged)
    course = course._replace(
        retries=course.retries + counts, possible_duplicate=course.possible_duplicate or kind is FactKind.UNKNOWN
    )
    if fact.attempt >= course.attempt:
        course = course._replace(attempt=fact.attempt, settled_by=kind, slot_ms=fact.handed_ms or course.slot_ms)
    return course


def course_of(facts: Sequence[FactRow]) -> Course:
    course = Course()
    for fact in facts:
        course = follow(course, fact)
    return course


class StoredMessage(NamedTuple):
    """A message with everything that is stored about it."""

    row: MessageRow
    body: BodyRow | None  # None: its time is over, texts are kept for a shorter time
    facts: tuple[FactRow, ...]
    outcome: OutcomeRow | None

    @property
    def state(self) -> State:
        return self.outcome.state if self.outcome is not None else course_of(self.facts).state

    @property
    def code(self) -> str:
        """Plivo's error code of a message that has ended, `000` when it was delivered."""
        return self.outcome.code if self.outcome is not None else ""

    @property
    def number(self) -> E164 | None:
        """The source number, as it was decided last."""
        return course_of(self.facts).number or self.row.number

    @property
    def carriers(self) -> frozenset[CarrierName]:
        """Whom it was handed to."""
        return frozenset(CarrierName(fact.carrier) for fact in self.facts if fact.kind in SETTLES and fact.carrier)

    @property
    def kinds(self) -> frozenset[FactKind]:
        return frozenset(fact.kind for fact in self.facts)

    def message(self) -> Message:
        """The message as memory had it, for what still happens to it. Raises ValueError for what cannot be one."""
        request = request_of(self.row, self.body if self.body is not None else _without_text(self.row))
        message = message_of(self.row, request, course_of(self.facts))
        message.state = self.state
        return message


def request_of(row: MessageRow, body: BodyRow) -> Request:
    """The request a message belongs to. Raises ValueError for a word that is not known."""
    on_unknown = OnUnknown(body.on_unknown) if body.on_unknown else None
    return Request(
        row.request_id, row.account_id, row.powerpack_id or NO_POWERPACK, body.text, row.segments,
        Service(row.service), Priority(row.priority), body.patience_ms, body.validity_ms, on_unknown, row.reference,
        body.callback_url, body.callback_method, body.log, body.requester_ip, row.accepted_ms,
        (row.number if row.powerpack_id is None else None) or NO_NUMBER,
    )  # fmt: skip


def message_of(row: MessageRow, request: Request, course: Course) -> Message:
    """The message in memory: waiting, or with an attempt of unknown outcome. Raises ValueError for an unknown word."""
    message = Message(
        row.message_id, request, row.recipient, course.number or row.number or NO_NUMBER,
        Tier(course.tier or row.tier), row.expires_ms, committed=True,
    )  # fmt: skip
    message.attempt, message.retries, message.slot_ms = course.attempt, course.retries, course.slot_ms
    message.possible_duplicate, message.state = course.possible_duplicate, course.state
    message.rebound_ms, message.cancelled = course.rebound_ms, course.cancelled
    if course.settled_by is FactKind.UNKNOWN:
        message.phase = Phase.UNKNOWN
    if request.callback_url:
        message.sequence = course.changes + (not row.refusal)  # an accepted message's first callback says `queued`
    return message


def message_row_of(record: Record) -> MessageRow:
    """From a row whose first columns are those of MessageRow."""
    return MessageRow._make(tuple(record)[:MESSAGE_FIELDS])


def fact_row_of(values: Sequence[object]) -> FactRow:
    """Raises ValueError for a kind that is not known."""
    fact = FactRow._make(values)
    return fact._replace(kind=FactKind(fact.kind))


def _without_text(row: MessageRow) -> BodyRow:
    return BodyRow(
        row.request_id, row.account_id, "", "", "POST", None, row.expires_ms - row.accepted_ms, "", "true", ""
    )
