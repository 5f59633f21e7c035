"""The words between who asks for messages to be sent and who accepts them: a submission, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from resolver.model import E164, AccountId, Decision, MessageId, Refusal, Request
from storage.bulks import BulkMessage
from storage.records import IdempotencyRow, Settled, StretchRow

LearnOperators = Callable[[Sequence[E164]], Awaitable[Mapping[E164, str]]]
"""Asks for recipients' operators; answers in time with those that can be known."""
NOT_LEARNT: Final[Mapping[E164, str]] = {}


class Submission(NamedTuple):
    """What one call asks for. Recipients are as written; everything else has been read and bounded.

    Who accepts it fills in the request's `request_id`, `segments` and `accepted_ms`.
    """

    request: Request
    destinations: Sequence[str]
    refuse_now: bool = False  # state refusals are answered, not stored
    keep: Callable[[Answer], IdempotencyRow] | None = None  # the answer's row, stored in the same transaction


class Outcome:
    """What became of one recipient. `message_id` is "" where nothing was stored."""

    __slots__ = ("message_id", "recipient", "result")

    def __init__(self, message_id: MessageId, recipient: E164, result: Decision | Refusal) -> None:
        self.message_id = message_id
        self.recipient = recipient
        self.result = result


class Invalid(NamedTuple):
    """A recipient that is none, as it was written."""

    written: str
    refusal: Refusal


class Answer(NamedTuple):
    """What became of a submission: `stored` in the order of the recipients, the rest not."""

    segments: int
    stored: list[Outcome]
    refused: list[Outcome]
    invalid: list[Invalid]
    duplicates: list[E164]


class NotAccepted(Exception):
    """Nothing of the request was stored, and why: a stable code, and a sentence for people."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code, self.detail = code, detail


class BulkLine(NamedTuple):
    """One message of a bulk. Lines that differ in their recipient alone may share the request."""

    line: int  # from 1
    request: Request
    recipient: E164


class RefusedLine(NamedTuple):
    """A line of which nothing is stored but this."""

    line: int
    code: str
    error: str  # "" for the code's own text
    retry_at_ms: int = 0  # 0: nobody knows


class StretchAnswer(NamedTuple):
    """What became of the lines of a stretch, both in order."""

    stored: list[BulkMessage]
    refused: list[RefusedLine]


class Stretch(NamedTuple):
    """Lines that are to be stored together. Whoever accepts them fills in the requests as for a Submission."""

    account_id: AccountId
    lines: Sequence[BulkLine]
    requests: Sequence[Request]  # of the lines, each once
    keep: Callable[[StretchAnswer], tuple[StretchRow, IdempotencyRow | None]]  # stored in the same transaction
    on_settled: Callable[[Settled], None]  # the truth, also when nobody waits any more; once for each `keep` that gave


class KeyTaken(Exception):
    """Another request with the same Idempotency-Key was stored first; nothing of this one was."""


class Submit(Protocol):
    """The seam: a callable, so that a later one may pass the request to the account's owner."""

    async def __call__(self, submission: Submission) -> Answer:
        """Store a request and decide its messages.

        Raises NotAccepted, KeyTaken, and storage's errors; of these only OutcomeUnknown leaves open what is stored.
        """
