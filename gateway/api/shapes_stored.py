"""A stored message as Plivo's Message resource, and as the list of what happened to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.api.bodies import one_of
from gateway.api.errors import api_error, invalid
from gateway.api.shapes_message import NO_RATE, digits, shown_recipient
from gateway.api.times import iso, read_filter, zoned
from resolver.geography import locate
from resolver.model import E164, MessageId, PowerpackId
from storage.history import StoredMessage
from storage.messages import MessageFilters
from storage.records import FactKind, FactRow, State

ERROR_TEXTS: Final[Mapping[str, str]] = {
    "10": "Invalid message",
    "20": "Network error",
    "30": "Spam detected",
    "40": "Invalid source number",
    "50": "Invalid destination number",
    "60": "Loop detected",
    "70": "Destination permanently unavailable",
    "80": "Destination temporarily unavailable",
    "90": "No route available",
    "100": "Prohibited by carrier",
    "110": "Message too long",
    "200": "Source number blocked by STOP from destination",
    "300": "Failed to dispatch message",
    "420": "Message expired",
    "450": "Destination country barred",
    "1000": "Unknown error",
}
"""What Plivo's error codes mean."""

STATES_OF_OTHERS: Final = frozenset({"received", "read", "rejected"})
"""States Plivo can filter by that no message of ours has: inbound, WhatsApp, old documentation."""

NOT_FILTERED: Final = (
    "tendlc_campaign_id", "tendlc_registration_status", "destination_country_iso2", "conversation_id",
    "conversation_origin",
)  # fmt: skip
"""Filters of Plivo's that we cannot apply yet: an answer without them would be wrong, so they are refused."""

_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_is_number = re.compile(r"\+?[1-9][0-9]{2,14}").fullmatch


def read_message_id(written: str) -> MessageId | None:
    """Read an id from a path; None for what is none, and so is nobody's message."""
    lowered = written.lower()
    return MessageId(lowered) if _is_uuid(lowered) else None


def read_filters(query: Mapping[str, str]) -> MessageFilters | None:
    """Read the filters of a list; None when nothing can match them. Raises ApiError."""
    for name in NOT_FILTERED:
        if query.get(name):
            raise api_error("not_supported_yet", f"filtering by {name} is not built yet")
    state, direction = query.get("message_state", "").lower(), query.get("message_direction", "").lower()
    if direction not in ("", "inbound", "outbound"):
        raise invalid("message_direction", one_of(("inbound", "outbound")))
    if state and state not in STATES_OF_OTHERS and state not in list(State):
        raise invalid("message_state", one_of([*State, *sorted(STATES_OF_OTHERS)]))
    service = query.get("message_type", "").lower()
    if service not in ("", "sms", "mms", "whatsapp"):
        raise invalid("message_type", one_of(("sms", "mms", "whatsapp")))
    powerpack_id = (query.get("powerpack_id") or query.get("powerpack_uuid") or "").lower()
    # A plus that was not percent-encoded is a blank by now.
    recipient, number = query.get("to_number", "").strip(), query.get("from_number", "").strip()
    nobody = [each for each in (recipient, number) if each and not _is_number(each)]
    if direction == "inbound" or state in STATES_OF_OTHERS or nobody or (powerpack_id and not _is_uuid(powerpack_id)):
        return None
    from_ms, until_ms = _read_span(query)
    return MessageFilters(
        from_ms=from_ms,
        until_ms=until_ms,
        powerpack_id=PowerpackId(powerpack_id) if powerpack_id else None,
        recipient=_as_number(recipient),
        number=_as_number(number),
        service=service or None,
        reference=query.get("reference") or None,
        code=query.get("error_code") or None,
        state=state or None,
    )


def _as_number(written: str) -> str | None:
    if not written:
        return None
    bare = written.removeprefix("+")
    return bare if len(bare) <= 6 else f"+{bare}"


def _read_span(query: Mapping[str, str]) -> tuple[int | None, int | None]:
    """From (inclusive) until (exclusive), as narrow as the five ways to say it make it."""
    froms: list[int] = []
    untils: list[int] = []
    for suffix, bounds, more in (
        ("", froms, 0),
        ("", untils, 1),
        ("__gt", froms, 1),
        ("__gte", froms, 0),
        ("__lt", untils, 0),
        ("__lte", untils, 1),
    ):
        written = query.get(f"message_time{suffix}")
        if written:
            at_ms = read_filter(written)
            if at_ms is None:
                raise invalid(f"message_time{suffix}", "must be written YYYY-MM-DD HH:MM[:ss[.uuuuuu]], in UTC")
            bounds.append(at_ms + more)
    return max(froms, default=None), min(untils, default=None)


# --- Answers ----------------------------------------------------------------------------------------------------------


def render_message(stored: StoredMessage) -> dict[str, object]:
    """Give the Message resource: all of Plivo's keys, since PHP's SDK warns of absent ones, then ours."""
    row, body = stored.row, stored.body
    number, state = stored.number, stored.state
    country = _country(row.recipient)
    code = stored.code or None
    sent_ms = next((fact.handed_ms or fact.at_ms for fact in stored.facts if fact.kind is FactKind.SENT), None)
    updated_ms = stored.facts[-1].at_ms if stored.facts else row.accepted_ms
    return {
        "message_uuid": row.message_id,
        "from_number": digits(number),
        "to_number": shown_recipient(row.recipient, body.log if body is not None else "false"),
        "message_direction": "outbound",
        "message_state": state,
        "message_type": row.service,
        "message_time": zoned(row.accepted_ms),
        "units": row.segments,
        "total_rate": NO_RATE,
        "total_amount": NO_RATE,
        "error_code": code,
        "error_message": ERROR_TEXTS.get(code or "", ""),
        "resource_uri": f"/v1/Account/{row.account_id}/Message/{row.message_id}/",
        "powerpack_id": row.powerpack_id,
        "requester_ip": body.requester_ip if body is not None else "",
        "is_domestic": bool(number) and _country(number) == country,
        "replaced_sender": "",
        "destination_country_iso2": country,
        "destination_network": "",
        "carrier_fees": NO_RATE,
        "carrier_fees_rate": NO_RATE,
        "tendlc_campaign_id": None,
        "tendlc_registration_status": None,
        "dlt_entity_id": None,
        "dlt_template_id": None,
        "dlt_template_category": None,
        "conversation_id": None,
        "conversation_origin": None,
        "conversation_expiration_timestamp": None,
        "log": body.log if body is not None else "false",
        "message_sent_time": zoned(sent_ms) if sent_ms is not None else None,
        "message_updated_time": zoned(updated_ms),
        "reference": row.reference,
        "priority": row.priority,
        "tier": row.tier,
        "refusal": row.refusal,
        "possible_duplicate": FactKind.UNKNOWN in stored.kinds,
    }


def _country(number: E164 | None) -> str:
    """Where a number belongs; a short code's country is not in it, and it only works at home."""
    if not number:
        return ""
    location = locate(number)
    return location.country if location is not None else "US"


def render_timeline(stored: StoredMessage) -> list[dict[str, object]]:
    """List what happened, in order: the acceptance with its decision, then each fact."""
    row = stored.row
    accepted: dict[str, object] = {
        "sequence": 1,
        "fact": "accepted",
        "time": iso(row.accepted_ms),
        "from": digits(row.number),
        "tier": row.tier,
        "rules": row.rules.split(",") if row.rules else [],
        "window": row.binding_window,
        "send_at": iso(row.forecast_ms) if row.forecast_ms is not None else None,
        "expires_at": iso(row.expires_ms),
    }
    return [accepted, *(_fact(place, fact) for place, fact in enumerate(stored.facts, 2))]


def _fact(place: int, fact: FactRow) -> dict[str, object]:
    shown: dict[str, object] = {
        "sequence": place,
        "fact": fact.kind,
        "time": iso(fact.at_ms),
        "from": digits(fact.number),
        "code": fact.code,
        "detail": fact.detail,
    }
    if fact.attempt:
        shown["attempt"] = fact.attempt
        shown["handed_at"] = iso(fact.handed_ms) if fact.handed_ms is not None else None
        shown["charged_segments"] = fact.segments if fact.charged else 0
    if fact.carrier:
        shown["carrier"] = fact.carrier
        shown["carrier_ref"] = fact.carrier_ref
    return shown
