"""Plivo's JSON for messages, both ways. `src` and `dst` live here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.api.bodies import Values, bad_json, checked_text, is_nothing, one_of, read_integer, read_text
from gateway.api.errors import ApiError, api_error, invalid, missing
from gateway.api.times import iso, spaced, utc
from resolver.model import E164, Decision, Message, OnUnknown, Priority, Refusal, RefusalCode
from storage.records import FactKind, FactRow, State

BOTH: Final = (
    "Both powerpack_uuid and src cannot be specified. "
    "Specify either powerpack_uuid or src in request params to send a message."
)
SOURCE_DIGITS_MAX: Final = 14  # Plivo's
SHORT_CODE_DIGITS_MAX: Final = 6
EXPIRY_S_MIN, EXPIRY_S_MAX, EXPIRY_S_DEFAULT = 5, 10_799, 10_800  # Plivo's
PATIENCE_MS_MAX: Final = 259_200_000  # 72 hours, the longest validity there will be
RESOLVE_KEYS: Final = frozenset(
    {"dst", "text", "type", "priority", "patience_ms", "message_expiry", "operator", "steps"}
)
"""What one message to be resolved may have."""

LOGS: Final[Mapping[object, str]] = {
    None: "true", "": "true", True: "true", "true": "true", "1": "true", False: "false", "false": "false", "0": "false",
    "content_only": "content_only", "number_only": "number_only",
}  # fmt: skip
METHODS: Final[Mapping[str | None, str]] = {None: "POST", "": "POST", "POST": "POST", "GET": "GET"}
NO_RATE: Final = "0.00000"  # strings, since Go, Java and .NET are strict; a gateway of one's own charges nothing

REPORTS: Final = frozenset({FactKind.DELIVERED, FactKind.UNDELIVERED, FactKind.REPORTED_FAILED, FactKind.REPORTED_SENT})


class SendBody(msgspec.Struct):
    """The body of POST Message, decoded and typed in one step. Unknown keys are ignored, nulls are absent."""

    dst: str | int | None = None
    text: str | None = None
    powerpack_uuid: str | None = None
    powerpack_uuid_of_php: str | None = msgspec.field(name="powerpackUUID", default=None)  # PHP sends both
    src: str | int | None = None
    type: str | None = None
    url: str | None = None
    method: str | None = None
    log: str | bool | int | None = None
    message_expiry: int | str | None = None
    media_urls: list[object] | str | None = None
    media_ids: list[object] | str | None = None
    template: object = None
    interactive: object = None
    location: object = None
    priority: str | None = None
    patience_ms: int | str | None = None
    reference: str | None = None
    on_unknown: str | None = None


_not_alphanumeric = re.compile(r"[^0-9A-Za-z]").sub
_decode = msgspec.json.Decoder(SendBody).decode


def read_send(body: bytes) -> SendBody:
    """Read the body of POST Message and refuse what cannot be sent, in the order a caller would mend it.

    Raises ApiError. About 1 µs.
    """
    send = decode_send(body)
    check_send(send)
    return send


def decode_send(body: bytes) -> SendBody:
    """Read a message's JSON. Raises ApiError."""
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        if is_nothing(body):
            return SendBody()
        if "$" in str(error):  # it names a key; else the whole is no object
            raise api_error("invalid_parameter", str(error)) from error
        raise bad_json(body, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if is_nothing(body):
            return SendBody()
        raise bad_json(body, str(error)) from error


def check_send(send: SendBody) -> None:
    """Refuse what cannot be sent, in the order a caller would mend it. Raises ApiError."""
    send.powerpack_uuid = send.powerpack_uuid or send.powerpack_uuid_of_php
    if bool(send.src) is bool(send.powerpack_uuid):
        raise api_error("src_or_powerpack", BOTH if send.src else "")
    if send.type and send.type.lower() != "sms":
        if send.type.lower() in ("mms", "whatsapp"):
            raise api_error("not_supported_yet", f"messages of type {send.type.lower()} are not built yet")
        raise invalid("type", one_of(("sms", "mms", "whatsapp")))
    if send.media_urls or send.media_ids:
        raise api_error("not_supported_yet", "messages with media are not built yet")
    if send.template or send.interactive or send.location:
        raise api_error("not_supported_yet", "WhatsApp messages are not built yet")
    if send.dst is None or send.dst == "":
        raise missing("dst")
    if send.text is None:
        raise missing("text")


def read_source(src: str | int) -> E164:
    """Read one of our numbers as Plivo's clients write it: what is no letter or digit is dropped. Raises ApiError."""
    number = _not_alphanumeric("", str(src))
    if not number.isdigit() or len(number) > SOURCE_DIGITS_MAX:
        raise api_error("invalid_src")
    return E164(number if len(number) <= SHORT_CODE_DIGITS_MAX else f"+{number}")


def check_not_to_itself(source: E164, destinations: Sequence[str]) -> None:
    """Refuse a request that names its source among the recipients. Raises ApiError."""
    number = source.removeprefix("+")
    if any(_not_alphanumeric("", each) == number for each in destinations):
        raise ApiError(400, RefusalCode.DESTINATION_IS_SOURCE, "destination number cannot be same as source number")


def read_destinations(dst: str | int | None) -> list[str]:
    """Cut `dst` at its `<`. Raises ApiError for a list that was turned into a text, as Python's SDK does."""
    text = str(dst)
    if "<" not in text:
        if text[:1] in "[(" and text[:2] in ("['", '["', "('", '("'):
            raise invalid("dst", "is a list written as a text; join several recipients with '<'")
        return [text]
    destinations = [each for each in text.split("<") if each and not each.isspace()]
    if not destinations:
        raise missing("dst")
    return destinations


def read_destination(values: Values) -> str:
    """Read the one recipient of a message to be resolved. Raises ApiError."""
    written = read_text(values, "dst")
    if written is None:
        raise missing("dst")
    return written


def read_validity_ms(send: SendBody) -> int:
    """Give the milliseconds of `message_expiry`."""
    if send.message_expiry is None:
        return EXPIRY_S_DEFAULT * 1_000
    values = {"message_expiry": send.message_expiry}
    expiry_s = read_integer(values, "message_expiry", least=EXPIRY_S_MIN, most=EXPIRY_S_MAX)
    return (EXPIRY_S_DEFAULT if expiry_s is None else expiry_s) * 1_000


def read_patience_ms(send: SendBody) -> int | None:
    if send.patience_ms is None:
        return None
    return read_integer({"patience_ms": send.patience_ms}, "patience_ms", least=0, most=PATIENCE_MS_MAX)


def read_priority(send: SendBody) -> Priority:
    if not send.priority:
        return Priority.BULK
    try:
        return Priority(send.priority.lower())
    except ValueError:
        raise invalid("priority", one_of(list(Priority))) from None


def read_on_unknown(send: SendBody) -> OnUnknown | None:
    if not send.on_unknown:
        return None
    try:
        return OnUnknown(send.on_unknown.lower())
    except ValueError:
        raise invalid("on_unknown", one_of(list(OnUnknown))) from None


def read_log(send: SendBody) -> str:
    log = send.log.lower() if isinstance(send.log, str) else send.log
    if log not in LOGS:
        raise invalid("log", one_of(("true", "false", "content_only", "number_only")))
    return LOGS[log]


def read_method(send: SendBody) -> str:
    method = METHODS.get(send.method and send.method.upper())
    if method is None:
        raise invalid("method", one_of(("POST", "GET")))
    return method


def read_reference(send: SendBody) -> str:
    return checked_text("reference", send.reference) if send.reference else ""


# --- Answers ----------------------------------------------------------------------------------------------------------


def digits(number: str | None) -> str:
    """Write a number as Plivo does: without the plus sign."""
    return (number or "").removeprefix("+")


def render_refusal(refusal: Refusal) -> dict[str, object]:
    """Say what a refusal knows beyond its code."""
    known: dict[str, object] = {}
    if refusal.window:
        known["window"] = refusal.window
    if refusal.retry_at_ms is not None:
        known["retry_at"] = iso(refusal.retry_at_ms)
    if refusal.numbers_enough is not None:
        known["numbers_enough"] = refusal.numbers_enough
    return known


def render_decision(decision: Decision, segments: int) -> dict[str, object]:
    """Show a decision that was not made into a message, with all it rests on."""
    return {
        "from": digits(decision.number),
        "tier": decision.tier,
        "segments": segments,
        "send_at": None if decision.forecast_ms is None else utc(decision.forecast_ms),
        "window": decision.window,
        "rules": decision.rules,
    }


# --- Status callbacks -------------------------------------------------------------------------------------------------


def render_callback(message: Message, state: State, fact: FactRow | None) -> list[tuple[str, str]]:
    """Say in Plivo's parameters that a message came to `state`. No fact: it was accepted."""
    request = message.request
    accepted = spaced(request.accepted_ms)
    params = [
        ("MessageUUID", message.message_id),
        ("From", digits(message.number)),
        ("To", digits(message.recipient)),
        ("Type", request.service.value),
        ("Status", state.value),
        ("Units", str(request.segments)),
        ("TotalRate", NO_RATE),
        ("TotalAmount", NO_RATE),
        ("MCC", ""),
        ("MNC", ""),
        ("ParentMessageUUID", message.message_id),
        ("PartInfo", "1 of 1"),
        ("Sequence", str(message.sequence)),
        ("MessageTime", accepted),
        ("QueuedTime", accepted),
        ("requester_ip", request.requester_ip),
        ("PowerpackUUID", request.powerpack_id),
    ]
    if state in (State.FAILED, State.UNDELIVERED):
        params.append(("ErrorCode", (fact.code if fact is not None else "") or "1000"))
    if fact is not None:
        handed_ms = _handed_ms(message, fact)
        if handed_ms:
            params.append(("SentTime", spaced(handed_ms)))
        if fact.kind in REPORTS:
            params.append(("DeliveryReportTime", spaced(fact.at_ms)))
    if request.reference:
        params.append(("Reference", request.reference))
    if message.possible_duplicate:
        params.append(("PossibleDuplicate", "true"))
    return params


def _handed_ms(message: Message, fact: FactRow) -> int:
    """When it was handed to the carrier; 0 when it was not, or when that is not known."""
    if fact.handed_ms is not None:
        return fact.handed_ms
    return message.slot_ms if fact.kind in REPORTS and message.attempt else 0


def shown_recipient(recipient: E164, log: str) -> str:
    """Write a recipient as its request's `log` allows: `false` and `content_only` hide the last three digits."""
    number = digits(recipient)
    return number[:-3] + "***" if log in ("false", "content_only") else number
