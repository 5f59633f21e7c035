"""Plivo's JSON for numbers that can be rented: what is searched for, and what is offered.

SDKs name the same filter differently, so each is read under all names it has. What Plivo searches by and nobody says of
numbers here (lata, rate_center, local_calling_area, compliance) finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.api.errors import invalid, missing
from gateway.api.shapes_number import COUNTRIES, read_services, read_type
from resolver.area_codes import REGION_NAMES
from resolver.geography import calling_code
from resolver.model import NumberType, Service
from storage.catalog_inventory import InventoryRow, Search

RENTED_TYPES: Final = (NumberType.LONG_CODE, NumberType.TOLL_FREE)
FINDS_NOTHING: Final = ("lata", "rate_center", "local_calling_area", "compliance_requirement")
CITY_LENGTH_MAX: Final = 60

_is_digits = re.compile(r"[0-9]{1,15}").fullmatch


def read_search(query: Mapping[str, str]) -> Search | None:
    """Read what is looked for; None: nothing can match. Raises ApiError.

    `pattern` is how numbers begin after the country code, `npanxx` too: area code and exchange.
    """
    country = (query.get("country_iso") or query.get("country_iso2") or "").strip().upper()
    asked, services = read_type(query), read_services(query, "services", "service")
    types = tuple(each for each in RENTED_TYPES if asked is None or each in asked)
    begins, exchange = _read_digits(query, "pattern", "starts_with"), _read_digits(query, "npanxx")
    region, city = _read_region(query), _read_city(query)
    finds_nothing = not types or "voice" in services or any(query.get(name) for name in FINDS_NOTHING)
    if not country:
        raise missing("country_iso")
    code = calling_code(country)
    if not code:
        raise invalid("country_iso", "is no country")
    if finds_nothing or not (begins.startswith(exchange) or exchange.startswith(begins)) or region is None:
        return None
    wanted = tuple(each for each in Service if each in services)
    return Search(country, types, f"+{code}{max(begins, exchange, key=len)}", wanted, region, city)


def _read_digits(query: Mapping[str, str], *names: str) -> str:
    said = next((query[name].strip() for name in names if query.get(name, "").strip()), "")
    if said and not _is_digits(said):
        raise invalid(names[0], "must be digits, without the country code")
    return said


def _read_region(query: Mapping[str, str]) -> str | None:
    """A state's or province's two letters; "" where none is asked for, None for one that nobody knows."""
    said = query.get("region", "").strip().casefold()
    return _REGIONS.get(said) if said else ""


def _read_city(query: Mapping[str, str]) -> str:
    said = query.get("city", "").strip().upper()
    if len(said) > CITY_LENGTH_MAX:
        raise invalid("city", f"is longer than {CITY_LENGTH_MAX} characters")
    return said


_REGIONS: Final = {each.casefold(): code for code, name in REGION_NAMES.items() for each in (code, name)}


def render_offer(row: InventoryRow, *, account_id: str) -> dict[str, object]:
    """Give the object of a number for rent: Plivo's keys, then ours."""
    country = COUNTRIES.get(row.country, row.country)
    is_toll_free = row.type is NumberType.TOLL_FREE
    digits = row.number.removeprefix("+")
    region = REGION_NAMES.get(row.region, row.region)
    return {
        "number": digits,
        "prefix": digits[1:4] if digits.startswith("1") else "",
        "city": row.city,
        "country": country.upper(),
        "region": f"{region}, {country}" if region else country,
        "rate_center": "",
        "lata": None,
        "type": "tollfree" if is_toll_free else "fixed",
        "sub_type": "tollfree" if is_toll_free else "local",
        "setup_rate": row.setup_rate,
        "monthly_rental_rate": row.monthly_rate,
        "sms_enabled": Service.SMS in row.services,
        "sms_rate": row.sms_rate,
        "mms_enabled": Service.MMS in row.services,
        "mms_rate": row.mms_rate,
        "voice_enabled": False,
        "voice_rate": "0.00000",
        "restriction": None,
        "restriction_text": None,
        "resource_uri": f"/v1/Account/{account_id}/PhoneNumber/{digits}/",
        "country_iso2": row.country,
    }
