"""The port to a carrier, and the one table of how handing a message over can fail.

A carrier is one async method, `send`, and a list of webhooks. It never sees the database, keeps no queue and never
tries again by itself: it answers with the carrier's id or raises one failure of the table below, and whoever called
it (gateway/attempts.py) does what the failure's columns say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, TypeVar

from gateway.fields import Given, checked
from gateway.settings import CarrierSettings
from resolver.model import E164, CarrierName, MessageId
from storage.records import FactKind


class Taken(StrEnum):
    """Whether the carrier may have the message although it did not say so."""

    NO = "no"
    MAYBE = "maybe"  # the outcome is unknown: only `on_unknown` may send it again


class Failure(NamedTuple):
    """How a hand-over can fail, for all carriers: may it be retried, is it ours, what is shown."""

    code: str  # stable: metrics, facts, logs
    may_retry: bool  # False: the message ends here
    is_ours: bool  # an administrator must look
    shown: str
    plivo_code: str  # of a message that ends by it
    taken: Taken = Taken.NO
    spends_attempt: bool = True  # counts against the attempts a message has
    keeps_charge: bool = False  # the carrier worked on it, so it counts in the windows although it is tried again
    link_after: int = 0  # so many in a row mean that the link is down; 0: it says nothing about the link


# Trouble of the link: the message is as good as before and loses nothing but time.
THROTTLED = Failure(
    "throttled", True, False, "The carrier asked us to slow down.", "300", spends_attempt=False
)  # fmt: skip
UNREACHABLE = Failure(
    "unreachable", True, False, "The carrier could not be reached.", "20", spends_attempt=False, link_after=3
)
BUSY = Failure(
    "busy", True, False, "The carrier takes no messages at the moment.", "20", spends_attempt=False, link_after=3
)
BAD_ROUTE = Failure(
    "bad_route", True, True, "The carrier is not set up correctly.", "90", spends_attempt=False, link_after=1
)

# Trouble with this message: tried again a few times.
FAILING = Failure("failing", True, False, "The carrier failed on the message.", "300", keeps_charge=True, link_after=10)

# Written, and no answer that means anything: the outcome is unknown.
TIMED_OUT = Failure(
    "timed_out",
    True,
    False,
    "The carrier did not answer in time.",
    "1000",
    Taken.MAYBE,
    keeps_charge=True,
    link_after=3,
)
DISCONNECTED = Failure(
    "disconnected", True, False, "The connection ended without an answer.", "1000", Taken.MAYBE, keeps_charge=True,
    link_after=3,
)  # fmt: skip
GARBLED = Failure(
    "garbled", True, True, "The carrier's answer could not be understood.", "1000", Taken.MAYBE, keeps_charge=True
)

# The carrier refused the message for good. The codes are also those a carrier may name in its answer or its report.
REJECTED = Failure("rejected", False, False, "The carrier refused the message.", "300", keeps_charge=True)
INVALID_MESSAGE = REJECTED._replace(code="invalid_message", shown="The message is not valid.", plivo_code="10")
SPAM = REJECTED._replace(code="spam", shown="The carrier takes the message for spam.", plivo_code="30")
INVALID_SOURCE = REJECTED._replace(code="invalid_source", shown="The source number is not valid.", plivo_code="40")
INVALID_NUMBER = REJECTED._replace(code="invalid_number", shown="The recipient is not a valid number.", plivo_code="50")
UNAVAILABLE = REJECTED._replace(code="unavailable", shown="The recipient is gone for good.", plivo_code="70")
NO_ROUTE = REJECTED._replace(code="no_route", shown="The carrier has no route to the recipient.", plivo_code="90")
BLOCKED = REJECTED._replace(code="blocked", shown="The carrier prohibits the message.", plivo_code="100")
TOO_LONG = REJECTED._replace(code="too_long", shown="The message is too long.", plivo_code="110")
OPTED_OUT = REJECTED._replace(code="opted_out", shown="The recipient has opted out.", plivo_code="200")

REFUSALS: Mapping[str, Failure] = {
    failure.code: failure
    for failure in (
        REJECTED, INVALID_MESSAGE, SPAM, INVALID_SOURCE, INVALID_NUMBER, UNAVAILABLE, NO_ROUTE, BLOCKED, TOO_LONG,
        OPTED_OUT,
    )
}  # fmt: skip
"""Permanent refusals by the code a carrier names."""

FAILURES: Mapping[str, Failure] = {
    failure.code: failure
    for failure in (
        THROTTLED, UNREACHABLE, BUSY, BAD_ROUTE, FAILING, TIMED_OUT, DISCONNECTED, GARBLED, *REFUSALS.values(),
    )
}  # fmt: skip
"""The whole table, by code; docs/carriers.md shows it."""


class SendFailed(Exception):
    """A carrier did not take a message, or may have; `failure` says what to do about it."""

    def __init__(self, failure: Failure, carrier_code: str = "", *, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{failure.code} {carrier_code}".rstrip())
        self.failure, self.carrier_code, self.retry_after_ms = failure, carrier_code, retry_after_ms


class NotSent(Exception):
    """`go` said no: nothing was written."""


class Outbound(NamedTuple):
    """What a carrier needs to know of a message."""

    message_id: MessageId  # also our reference at the carrier: it recognises a message that is sent again
    attempt: int
    number: E164
    recipient: E164
    text: str
    segments: int
    remaining_ms: int  # of its validity


SAMPLE: Final = Outbound(
    MessageId("01900000-0000-7000-8000-000000000001"), 1, E164("+14155550100"), E164("+14155550123"),
    "Hello, wörld & co.", 1, 10_800_000,
)  # fmt: skip
"""A message that stands for all where a template is checked or shown. Its numbers are nobody's."""


class Report(NamedTuple):
    """What a carrier tells about a message later."""

    carrier_ref: str
    reference: str  # our message id where the carrier repeats it, else ""
    kind: FactKind  # DELIVERED, UNDELIVERED, REPORTED_FAILED or REPORTED_SENT
    code: str  # Plivo's error code; "" while on its way
    at_ms: int  # the carrier's own time; 0 when it does not say
    is_proven: bool = True  # the reference, as all else; False: it stood where the carrier's signature does not reach


class BadReports(Exception):
    """What was posted is no report and no list of reports. The text continues "the body …".

    `json_error` is the parser's word where it is no JSON.
    """

    def __init__(self, reason: str, *, json_error: str = "") -> None:
        super().__init__(reason)
        self.reason, self.json_error = reason, json_error


class Refused(NamedTuple):
    """An item that is no report we can read, by its place in what was posted, and why."""

    place: int
    why: str


class Readings(NamedTuple):
    """What was posted, read: an item is a report, says nothing that concerns us, or is refused."""

    reports: list[Report]
    ignored: int
    refused: list[Refused]


class Webhook(NamedTuple):
    """What a carrier posted. `headers` must not care for case."""

    target: str  # path and query, as they were sent
    headers: Mapping[str, str]
    body: bytes


class Proof(StrEnum):
    """What the head of a webhook says about who sends it."""

    GIVEN = "given"
    LATER = "later"  # the body is signed
    NONE = "none"  # whatever the body will be


Go = Callable[[], bool]
"""Asked in the same loop turn as the write to a ready connection; False: do not write."""
OnReports = Callable[[list[Report]], Awaitable[None]]
"""Returns once every report is durable; raises storage's errors when it cannot be now."""
OnLink = Callable[[bool], None]
Answer = tuple[MessageId, "str | SendFailed"]
"""A message that was written, and the carrier's id for it, or why it has none."""
OnAnswers = Callable[[list[Answer]], None]


class PromptCarrier(Protocol):
    """A carrier that is written to by plain calls and answers many messages at once: nothing is awaited per message.

    At most `places` messages are written and not answered.
    """

    @property
    def name(self) -> CarrierName: ...

    @property
    def places(self) -> int: ...

    def hear_answers(self, on_answers: OnAnswers) -> None:
        """Tell `on_answers` what became of each message that is written from now on, once, within the deadlines."""

    def trouble(self) -> SendFailed | None:
        """Why nothing can be written in this loop turn; None: `write` writes."""

    def write(self, outbounds: Sequence[Outbound]) -> None:
        """Write messages, each of which may go, in this loop turn. Answers come later, never from inside."""


class Carrier(Protocol):
    """One carrier. At most `places` calls of `send` run at once."""

    @property
    def name(self) -> CarrierName: ...

    @property
    def places(self) -> int: ...

    @property
    def prompt(self) -> PromptCarrier | None:
        """Itself, where a lane shall use that instead of `send`."""

    async def start(self, on_reports: OnReports, on_link: OnLink) -> None:
        """Begin; `on_link` is for carriers that know by themselves whether their link stands."""

    async def stop(self) -> None:
        """End what is open; safe to call twice."""

    async def send(self, outbound: Outbound, go: Go) -> str:
        """Hand one message over and give the carrier's id for it.

        Raises NotSent when `go` said no, SendFailed when it was not taken or nobody knows. Ends within its deadlines.
        """

    @property
    def webhooks(self) -> WebhookReader:
        """Who may post to us for this carrier, and how it is read."""


class WebhookReader(Protocol):
    """Implemented by `gateway.carriers.webhooks.Webhooks`."""

    def authenticate(self, webhook: Webhook, *, now_ms: int) -> str | None:
        """None: it does not come from the carrier. Else what makes it single: "" where the carrier signs nothing."""

    def weigh(self, headers: Mapping[str, str]) -> Proof:
        """What the head alone proves. A stream needs a proof that is given: only whole bodies are signed."""

    @property
    def credential(self) -> str:
        """What whoever has it may post for this carrier; "" where what is signed names the carrier, or none is set."""

    def read(self, webhook: Webhook) -> Readings:
        """Read a whole body. Raises BadReports."""

    def read_lines(self, lines: Sequence[bytes]) -> Readings:
        """Read a piece of a stream, an item a line; `Refused.place` counts within `lines`. Raises nothing."""


T = TypeVar("T")


def read_options(settings: CarrierSettings, kind: type[T]) -> T:
    """Make a carrier's own options of what sendpool.toml says beyond the common ones; raises BadSetting."""
    section = f"carriers.{settings.name}"
    given = {
        key: Given(value, f"[{section}] {key}", is_text=isinstance(value, str))
        for key, value in settings.options.items()
    }
    return checked(kind, given, section)
