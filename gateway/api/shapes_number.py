"""Plivo's JSON for the numbers an account has, and the filters of their list.

What Plivo's objects have and we do not, calls, renewal, caller names, is shown as absent; a filter by it finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.api.bodies import one_of
from gateway.api.errors import api_error, invalid
from gateway.api.shapes_application import application_path
from gateway.api.shapes_message import NO_RATE
from gateway.api.times import utc
from gateway.listings import Facets
from resolver.geography import locate
from resolver.model import NumberRow, NumberState, NumberType, Service
from storage.catalog import ApplicationRow

LONG_CODES: Final = frozenset({NumberType.LONG_CODE})
TOLL_FREE: Final = frozenset({NumberType.TOLL_FREE})
TYPES: Final[Mapping[str, frozenset[NumberType]]] = {
    "fixed": LONG_CODES,
    "local": LONG_CODES,
    "mobile": frozenset(),  # we do not tell mobile from fixed: in North America nobody can
    "national": frozenset(),
    "tollfree": TOLL_FREE,
    "toll-free": TOLL_FREE,
    "shortcode": frozenset({NumberType.SHORT_CODE}),
}
SERVICES: Final = ("sms", "mms", "voice")
REGISTERED, UNREGISTERED = "REGISTERED", "UNREGISTERED"
REGISTRATIONS: Final = (REGISTERED, UNREGISTERED, "PROCESSING", "FAILED")
VERIFICATIONS: Final = ("verified", "unverified", "pending", "rejected")
RENEWALS: Final = ("renewal_date", "renewal_date__lt", "renewal_date__lte", "renewal_date__gt", "renewal_date__gte")
UNBUILT_FILTERS: Final = frozenset({"toll_free_sms_verification_order_status"})
"""An answer without them would be wrong, so they are refused."""
COUNTRIES: Final[Mapping[str, str]] = {"US": "United States", "CA": "Canada"}

_is_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9:.]{1,15})?").fullmatch
_is_digits = re.compile(r"[0-9]{1,15}").fullmatch

Prefixes = Callable[[Facets], Iterable[str]]
"""How numbers of a kind begin that are wanted, as they are stored; nothing: none of them is."""


def read_number_filter(query: Mapping[str, str]) -> Prefixes:
    """Read all filters of the list but `alias` and `subaccount`, which say where to look. Raises ApiError."""
    types = read_type(query)
    services = read_services(query, "services")
    registration = _read_word(query, "tendlc_registration_status", REGISTRATIONS)
    verification = _read_word(query, "toll_free_sms_verification", VERIFICATIONS)
    begins = (query.get("number_startswith") or "").strip().removeprefix("+")
    if begins and not _is_digits(begins):
        raise invalid("number_startswith", "must be digits, with the country code")
    finds_nothing = _asks_for_what_none_has(query) or "voice" in services

    def prefixes(facets: Facets) -> Iterable[str]:
        if finds_nothing or (types is not None and facets.type not in types) or not services <= facets.services:
            return ()
        if registration and registration != _registration(facets.type, facets.country, facets.campaign_approved):
            return ()
        if verification and verification != _verification(facets.type, facets.verified):
            return ()
        return (begins if facets.type is NumberType.SHORT_CODE or not begins else f"+{begins}",)

    return prefixes


def read_type(query: Mapping[str, str]) -> frozenset[NumberType] | None:
    """Read `type`; None where it is not given."""
    word = (query.get("type") or "").lower()
    if word and word not in TYPES:
        raise invalid("type", one_of(list(TYPES)))
    return TYPES[word] if word else None


def read_services(query: Mapping[str, str], *names: str) -> frozenset[str]:
    """Read which services are asked for, joined by commas, under the first of these names that says any."""
    said = next((query[name] for name in names if query.get(name)), "")
    words = {each.strip().lower() for each in said.split(",")} - {""}
    for word in words:
        if word not in SERVICES:
            raise invalid("services", one_of(SERVICES))
    return frozenset(words)


def _read_word(query: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    said = query.get(name) or ""
    found = next((word for word in words if word.lower() == said.lower()), "")
    if said and not found:
        raise invalid(name, one_of(words))
    return found


def _asks_for_what_none_has(query: Mapping[str, str]) -> bool:
    """Whether it is narrowed by renewal, which nothing needs here, by a campaign, or by caller names."""
    for name in RENEWALS:
        if query.get(name) and not _is_date(query[name]):
            raise invalid(name, "must be a date: YYYY-MM-DD")
    for name in UNBUILT_FILTERS:
        if query.get(name):
            raise api_error("not_supported_yet", f"filtering by {name} is not built yet")
    caller_names = _read_word(query, "cnam_lookup", ("enabled", "disabled"))
    return caller_names == "enabled" or any(query.get(name) for name in (*RENEWALS, "tendlc_campaign_id"))


def _registration(number_type: NumberType, country: str, approved: bool) -> str | None:
    if number_type is not NumberType.LONG_CODE or country != "US":
        return None
    return REGISTERED if approved else UNREGISTERED


def _verification(number_type: NumberType, verified: bool) -> str | None:
    if number_type is not NumberType.TOLL_FREE:
        return None
    return "verified" if verified else "unverified"


# --- Answers ----------------------------------------------------------------------------------------------------------


def number_path(account_id: str, number: str) -> str:
    """Where a number of an account is."""
    return f"/v1/Account/{account_id}/Number/{number.removeprefix('+')}/"


def render_number(row: NumberRow, application: ApplicationRow | None, *, asked_by: str) -> dict[str, object]:
    """Give the number object: Plivo's keys, then ours. `asked_by` is whose account the paths lead through."""
    located = locate(row.number) if row.type is NumberType.LONG_CODE else None
    country = COUNTRIES.get(row.country, row.country)
    regions = "/".join(sorted(located.regions)) if located is not None else ""
    return {
        "active": row.state is NumberState.ACTIVE,
        "added_on": f"{utc(row.rented_ms or row.added_ms):%Y-%m-%d}",
        "alias": row.alias or None,
        "application": application_path(asked_by, application.application_id) if application is not None else None,
        "carrier": row.carrier,
        "city": "",
        "cnam_lookup": "disabled",
        "compliance_application_id": None,
        "compliance_status": None,
        "country": country,
        "mms_enabled": Service.MMS in row.services,
        "mms_rate": NO_RATE,
        "monthly_rental_rate": NO_RATE,
        "number": row.number.removeprefix("+"),
        "number_type": "local" if row.type is NumberType.LONG_CODE else row.type.value,
        "region": f"{regions}, {country}" if regions else country,
        "renewal_date": None,
        "resource_uri": number_path(asked_by, row.number),
        "sms_enabled": Service.SMS in row.services,
        "sms_rate": NO_RATE,
        "sub_account": row.account_id if row.account_id != asked_by else None,
        "tendlc_campaign_id": None,
        "tendlc_registration_status": _registration(row.type, row.country, row.campaign_approved),
        "toll_free_sms_verification": _verification(row.type, row.verified),
        "voice_enabled": False,
        "voice_rate": NO_RATE,
        "country_iso2": row.country,
        "powerpack_uuid": row.powerpack_id,
        "state": row.state,
    }
