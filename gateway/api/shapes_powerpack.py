"""Plivo's JSON for powerpacks and the numbers in them, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.api.bodies import Values, one_of, read_bool, read_choice, read_integer, read_text
from gateway.api.errors import invalid
from gateway.api.times import iso
from resolver.model import (
    AccountId,
    NumberRow,
    NumberType,
    OnUnknown,
    Pause,
    PowerpackRow,
    Service,
    StickyAtLimit,
)
from resolver.preference import DEFAULT_PRIORITY

COUNTRIES: Final = ("US", "CA")
PLACES: Final = ("priority1", "priority2", "priority3")
APPLICATION_TYPES: Final = ("XML", "PHLO")
DAY_MS: Final = 86_400_000
OPERATORS_MAX: Final = 100

Priorities = dict[tuple[str, Service], tuple[NumberType, ...]]


def read_settings(values: Values, row: PowerpackRow) -> PowerpackRow:
    """Change what a create or update names; what it does not name stays. `application_id` is the caller's to check.

    Empty texts and lists are what Python's SDK sends for "not given". Raises ApiError.
    """
    sticky, local = read_bool(values, "sticky_sender"), read_bool(values, "local_connect")
    sticky_wait_ms = read_integer(values, "sticky_wait_ms", least=0, most=DAY_MS)
    sticky_life_ms = read_integer(values, "sticky_life_ms", least=60_000, most=3_650 * DAY_MS)
    patience_ms = read_integer(values, "patience_ms", least=0, most=3 * DAY_MS)
    application_id, application_type = _read_application(values, row)
    return replace(
        row,
        name=read_text(values, "name") or row.name,
        sticky_sender=row.sticky_sender if sticky is None else sticky,
        local_connect=row.local_connect if local is None else local,
        priority={**row.priority, **_read_priorities(values.get("number_priority"))},
        operator_types=_read_operators(values.get("operator_types"), row),
        sticky_at_limit=read_choice(values, "sticky_at_limit", StickyAtLimit) or row.sticky_at_limit,
        sticky_wait_ms=row.sticky_wait_ms if sticky_wait_ms is None else sticky_wait_ms,
        sticky_life_ms=row.sticky_life_ms if sticky_life_ms is None else sticky_life_ms,
        patience_ms=row.patience_ms if patience_ms is None else patience_ms,
        on_unknown=read_choice(values, "on_unknown", OnUnknown) or row.on_unknown,
        application_id=application_id,
        application_type=application_type,
    )


def _read_application(values: Values, row: PowerpackRow) -> tuple[str, str]:
    """`none` takes the application away; a type alone changes nothing without one."""
    application_id = read_text(values, "application_id", most=64)
    application_type = (read_text(values, "application_type", most=64) or "").upper()
    if application_type and application_type not in APPLICATION_TYPES:
        raise invalid("application_type", one_of(("xml", "phlo")))
    if application_id is None:
        return row.application_id, (application_type or row.application_type) if row.application_id else ""
    if application_id.lower() == "none":
        return "", ""
    return application_id, application_type or row.application_type or "XML"


def _read_priorities(value: object) -> Priorities:
    if value is None or value == "" or value == []:
        return {}
    if not isinstance(value, list):
        raise invalid("number_priority", "must be a list of {country_iso, service_type, priority}")
    found: Priorities = {}
    for each in value:
        if not isinstance(each, dict) or not isinstance(each.get("priority"), dict):
            raise invalid("number_priority", "must be a list of {country_iso, service_type, priority}")
        country, service = str(each.get("country_iso")).upper(), str(each.get("service_type")).lower()
        if country not in COUNTRIES:
            raise invalid("country_iso in number_priority", one_of(COUNTRIES))
        if service not in list(Service):
            raise invalid("service_type in number_priority", one_of(["SMS", "MMS"]))
        found[country, Service(service)] = _read_order(each["priority"])
    return found


def _read_order(priority: Mapping[str, object]) -> tuple[NumberType, ...]:
    """The types in order. A place that is null or absent is empty, and a type that has none is not tried."""
    order: list[NumberType] = []
    for place in PLACES:
        word = priority.get(place)
        if word is None or word == "":
            continue
        if word not in list(NumberType):
            raise invalid(f"{place} in number_priority", one_of(list(NumberType)))
        number_type = NumberType(str(word))
        if number_type in order:
            raise invalid("number_priority", f"names {number_type} twice")
        order.append(number_type)
    if not order:
        raise invalid("number_priority", "has an entry without any type")
    return tuple(order)


def _read_operators(value: object, row: PowerpackRow) -> Mapping[str, NumberType]:
    """Which type is tried first for recipients of an operator; replaces the whole table."""
    if value is None:
        return row.operator_types
    if not isinstance(value, dict) or len(value) > OPERATORS_MAX:
        raise invalid("operator_types", f"must be an object of at most {OPERATORS_MAX} operators and number types")
    found: dict[str, NumberType] = {}
    for operator in value:
        name = read_text({"an operator in operator_types": operator}, "an operator in operator_types")
        number_type = read_choice({"operator_types": value[operator]}, "operator_types", NumberType)
        if name is None or number_type is None:
            raise invalid("operator_types", "has an empty name or type")
        found[name] = number_type
    return found


# --- Answers ----------------------------------------------------------------------------------------------------------


def pool_path(row: PowerpackRow) -> str:
    """Every SDK takes the pool's id from here: `split('/')[5]`."""
    return f"/v1/Account/{row.account_id}/NumberPool/{row.pool_id}/"


def render_powerpack(row: PowerpackRow) -> dict[str, object]:
    """Give the powerpack object: Plivo's keys, then ours."""
    return {
        "uuid": row.powerpack_id,
        "name": row.name,
        "sticky_sender": row.sticky_sender,
        "local_connect": row.local_connect,
        "application_type": row.application_type,
        "application_id": row.application_id,
        "number_pool": pool_path(row),
        "number_priority": [_priority(row, country, service) for country in COUNTRIES for service in Service],
        "created_on": iso(row.created_ms),
        "sticky_at_limit": row.sticky_at_limit,
        "sticky_wait_ms": row.sticky_wait_ms,
        "sticky_life_ms": row.sticky_life_ms,
        "patience_ms": row.patience_ms,
        "on_unknown": row.on_unknown,
        "operator_types": dict(row.operator_types),
        "paused": row.pause is not Pause.NONE,
        "refuses_while_paused": row.pause is Pause.REFUSE,
    }


def _priority(row: PowerpackRow, country: str, service: Service) -> dict[str, object]:
    order = row.priority.get((country, service)) or DEFAULT_PRIORITY[country]
    padded = [*order, *[None] * (len(PLACES) - len(order))]
    return {
        "country_iso": country,
        "service_type": service.upper(),
        "priority": dict(zip(PLACES, padded, strict=True)),
    }


def render_number(row: NumberRow, *, account_id: AccountId, pool_id: str) -> dict[str, object]:
    """Give a number as it stands in a pool; short codes and toll-free numbers under their own keys as well."""
    number = row.number.removeprefix("+")
    shown: dict[str, object] = {
        "account_phone_number_resource": f"/v1/Account/{account_id}/Number/{number}/",
        "added_on": iso(row.added_ms),
        "country_iso2": row.country,
        "number": number,
        "number_pool_uuid": pool_id,
        "service": Service.MMS if Service.MMS in row.services else Service.SMS,
        "type": "tollfree" if row.type is NumberType.TOLL_FREE else "fixed",
        "carrier": row.carrier,
        "state": row.state,
    }
    if row.type is NumberType.SHORT_CODE:
        shown["shortcode"] = number
        shown["type"] = "shortcode"
        del shown["account_phone_number_resource"]
    elif row.type is NumberType.TOLL_FREE:
        shown["tollfree"] = number
        shown["verified"] = row.verified
    else:
        shown["campaign_approved"] = row.campaign_approved
    return shown
