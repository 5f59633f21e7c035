"""The words everything shares: numbers, powerpacks, requests, messages, decisions, refusals.

Plain values and one mutable state (`Message`). No behaviour beyond what a word means.

Conventions: times are integer milliseconds since the Unix epoch and end in `_ms`; an E.164 number is written with
its plus sign (`+14155550100`), a short code as bare digits (`44444`); a country is ISO 3166-1 alpha-2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, NewType

AccountId = NewType("AccountId", str)
"""20 characters, `MA` and 18 upper-case letters or digits: Plivo's SDKs check the shape before they send."""
PowerpackId = NewType("PowerpackId", str)
PoolId = NewType("PoolId", str)
RequestId = NewType("RequestId", str)
MessageId = NewType("MessageId", str)
"""UUIDv7 in text form; the day of acceptance follows from it."""
NO_POWERPACK: Final = PowerpackId("")
"""Of a message that names its source number itself."""
E164 = NewType("E164", str)
"""A recipient, or one of our numbers (then it may be a short code's bare digits)."""
CarrierName = NewType("CarrierName", str)


class Word(StrEnum):
    """One word of a closed list. It hashes as its text does, in C: words are looked up for every message."""

    __hash__ = str.__hash__


class NumberType(Word):
    """The three kinds of source number; the values are those of Plivo's `number_priority`."""

    LONG_CODE = "longcode"
    TOLL_FREE = "tollfree"
    SHORT_CODE = "shortcode"


class Service(Word):
    SMS = "sms"
    MMS = "mms"


class Priority(Word):
    """Which of a number's two queues a message waits in; urgent goes first, at most four to one."""

    URGENT = "urgent"
    BULK = "bulk"


class Tier(Word):
    """How a number was found: the rung of the ladder, for traces, answers and metrics."""

    STICKY = "sticky"
    DETOUR = "detour"  # the sticky number was at its limit; this second number stands in
    AREA = "area"
    REGION = "region"
    COUNTRY = "country"
    NEIGHBOR = "neighbor"
    SOONEST = "soonest"  # nobody within recommendation and patience: the soonest of all that were eligible
    SOURCE = "source"  # the request names the number itself
    NONE = "none"  # refused: no number


class OnUnknown(Word):
    """What to do with a message whose hand-over has no known outcome."""

    RESEND = "resend"
    AWAIT_REPORT = "await_report"
    FAIL = "fail"


class StickyAtLimit(Word):
    WAIT = "wait"
    DETOUR = "detour"
    REMAP = "remap"
    REFUSE = "refuse"


class NumberState(Word):
    ACTIVE = "active"
    DRAINING = "draining"  # what waits leaves, nothing new is decided for it
    DISABLED = "disabled"


class Pause(Word):
    """Whether a powerpack is paused: what waits stays in any case, new messages wait too or are refused."""

    NONE = ""
    WAIT = "wait"
    REFUSE = "refuse"


class RefusalCode(Word):
    """Why no message may be sent; stable, listed in docs/refusals.md."""

    INVALID_DESTINATION = "invalid_destination"
    DESTINATION_BARRED = "destination_barred"
    DESTINATION_IS_SOURCE = "destination_is_source"
    INVALID_TEXT = "invalid_text"
    TOO_LONG = "too_long"
    INVALID_CHARACTER = "invalid_character"
    NO_CAPACITY = "no_capacity"
    NO_NUMBER = "no_number"
    STICKY_AT_LIMIT = "sticky_at_limit"
    PAUSED = "paused"


STATE_REFUSALS = frozenset(
    {RefusalCode.NO_CAPACITY, RefusalCode.NO_NUMBER, RefusalCode.STICKY_AT_LIMIT, RefusalCode.PAUSED}
)
"""Refusals that depend on the pool's state, not on the request's shape: stored as failed unless `refuse-now`."""


class Location(NamedTuple):
    """Where a recipient's number belongs. `regions` is a set: an overlay such as 902 is in NS and in PE."""

    country: str
    regions: frozenset[str]
    area_code: str


class Limits(NamedTuple):
    """What one number may be handed: segments per sliding span, and messages per rolling 24 hours.

    `day_recommended` only steers the choice; `day_limit` is law (None: no such limit).
    """

    segments: int
    span_ms: int
    day_recommended: int
    day_limit: int | None


@dataclass(frozen=True, slots=True)
class NumberRow:
    """One of our numbers as people edit it."""

    number: E164
    account_id: AccountId
    type: NumberType
    country: str
    carrier: CarrierName
    powerpack_id: PowerpackId | None = None
    services: frozenset[Service] = frozenset({Service.SMS})
    campaign_approved: bool = False
    verified: bool = False  # toll-free numbers send only once the verification is through
    state: NumberState = NumberState.ACTIVE
    limits: Limits | None = None  # None: the defaults of resolver/limits.py for its type and country
    added_ms: int = 0  # when it joined its powerpack, or the account
    alias: str = ""  # the account's own word for it
    application_id: str = ""  # where what it receives goes, unless its powerpack says; may name nothing
    rented_ms: int = 0  # when it became the account's


@dataclass(frozen=True, slots=True)
class PowerpackRow:
    """A powerpack's settings as people edit it; its numbers point at it."""

    powerpack_id: PowerpackId
    account_id: AccountId
    pool_id: PoolId
    name: str
    sticky_sender: bool = True
    local_connect: bool = True
    priority: Mapping[tuple[str, Service], tuple[NumberType, ...]] = field(default_factory=dict)
    operator_types: Mapping[str, NumberType] = field(default_factory=dict)
    sticky_at_limit: StickyAtLimit = StickyAtLimit.WAIT
    sticky_wait_ms: int = 60_000
    sticky_life_ms: int = 15 * 86_400_000  # Plivo drops a thread dormant for 15 days
    patience_ms: int = 600_000  # the ten minutes a Canadian long code needs for its 150
    on_unknown: OnUnknown = OnUnknown.RESEND
    application_type: str = ""
    application_id: str = ""
    created_ms: int = 0
    pause: Pause = Pause.NONE


@dataclass(slots=True)
class Request:
    """What one accepted call asked for; shared by all its messages, stored once."""

    request_id: RequestId
    account_id: AccountId
    powerpack_id: PowerpackId  # NO_POWERPACK where `source` is named
    text: str
    segments: int  # parts the text costs
    service: Service = Service.SMS
    priority: Priority = Priority.BULK
    patience_ms: int | None = None  # None: the powerpack's
    validity_ms: int = 10_800_000  # Plivo: three hours
    on_unknown: OnUnknown | None = None  # None: the powerpack's
    reference: str = ""
    callback_url: str = ""
    callback_method: str = "POST"
    log: str = "true"
    requester_ip: str = ""
    accepted_ms: int = 0
    source: E164 = E164("")  # the account's number it is to be sent from; "": one of the powerpack's is chosen


class Decision(NamedTuple):
    """A number was chosen. `forecast_ms` says when the message is expected to leave; never the law.

    None: it waits for a link that is down, or for its powerpack to be resumed, as `window` says. `rules` are the codes
    of what decided, in order, for the trace; `window` names the window that binds (`""` when it can leave at once).
    """

    number: E164
    tier: Tier
    forecast_ms: int | None
    rules: tuple[str, ...]
    window: str


class Refusal(NamedTuple):
    """None may be chosen, and why. `retry_at_ms` and `numbers_enough` are known for `no_capacity` only."""

    code: RefusalCode
    detail: str
    window: str = ""
    retry_at_ms: int | None = None
    numbers_enough: int | None = None


class Phase(Word):
    """Where a message in memory stands; the durable states are in storage/records.py."""

    WAITING = "waiting"  # in its number's queue
    RELEASED = "released"  # has a slot; its claim is being committed or is committed
    DEPARTED = "departed"  # written to the carrier, no answer yet
    ASIDE = "aside"  # waits for its retry instant
    UNKNOWN = "unknown"  # an attempt without outcome; waits for a report, then for `on_unknown`
    DONE = "done"  # sent, or ended


class Thread:
    """Which number of a powerpack one recipient hears from (Sticky Sender). Identity is its own."""

    __slots__ = ("detour", "last_ms", "number", "undone", "used", "waiting")

    def __init__(self, number: E164, detour: E164 | None, used: bool, last_ms: int) -> None:
        self.number = number
        self.detour = detour  # stands in while `number` is at its limit
        self.used = used  # something was handed over on it
        self.last_ms = last_ms  # the latest message either way
        self.waiting: list[Message] | None = None  # what was decided by it and has not left; None: nothing
        self.undone: tuple[MessageId, ThreadState] | None = None
        """The first of what waits that was not stored, and what was before."""


class ThreadState(NamedTuple):
    """What a decision changed of a thread, for the case that the decision is not stored; number "": there was none."""

    number: E164
    detour: E164 | None
    used: bool


class Message:
    """One message in memory, from decision to the carrier's answer. Identity is its own; at most 700 bytes each.

    It is made for each message there is, so its constructor is written out: a dataclass's is never compiled.
    """

    __slots__ = (
        "attempt", "booked", "cancelled", "claimed_ms", "committed", "expires_ms", "message_id", "number", "operator",
        "phase", "possible_duplicate", "rebound_ms", "recipient", "request", "retries", "retry_at_ms", "sequence",
        "slot_ms", "state", "thread", "thread_before", "tier",
    )  # fmt: skip

    def __init__(
        self,
        message_id: MessageId,
        request: Request,
        recipient: E164,
        number: E164,
        tier: Tier,
        expires_ms: int,
        *,
        committed: bool = False,
    ) -> None:
        self.message_id = message_id
        self.request = request
        self.recipient = recipient
        self.number = number
        self.tier = tier
        self.expires_ms = expires_ms
        self.committed = committed  # its decision is durable
        self.phase = Phase.WAITING
        self.attempt = 0  # the number of the latest claim; 0: never claimed
        self.retries = 0  # attempts that count against the carrier's maximum
        self.slot_ms = 0  # planned, then actual instant of the latest attempt
        self.claimed_ms = 0
        self.retry_at_ms = 0
        self.cancelled = False
        self.possible_duplicate = False
        self.state: str = "queued"  # the fold over its facts so far: storage.records.State
        self.sequence = 0  # of its latest callback
        self.rebound_ms = 0  # when it was last decided again
        self.operator = ""  # the recipient's network as far as it was known when the message was decided
        self.thread: Thread | None = None  # the sticky thread it counts in while it waits
        self.thread_before: ThreadState | None = None  # of a thread its decision made or changed
        self.booked = False  # it waits for the link rather than for its number, and counts in the link's forecast
