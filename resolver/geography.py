"""Where a number belongs: country, regions and area code, for the ladder's "same area code, same state, same country".

Numbers of calling code 1 are a dictionary look-up on the area code (0.15 µs); all else asks libphonenumber (about
20 µs) and gives the country only. Locations are shared objects: look, never make one per message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Final

import phonenumbers

from resolver import area_codes
from resolver.model import Location

phonenumbers.PhoneMetadata.load_all()  # 0.12 s now; else the first number of each country would read a file

INTERNATIONAL: Final = "001"
"""What libphonenumber calls the region of satellite networks and other calling codes that belong to no country."""


class NumberKind(StrEnum):
    """What kind of subscriber a number reaches."""

    GEOGRAPHIC = "geographic"  # a subscriber somewhere, mobile or fixed
    TOLL_FREE = "tollfree"
    PREMIUM = "premium"
    NON_GEOGRAPHIC = "nongeographic"  # personal numbers, machines, satellites: no place


def locate(number: str) -> Location | None:
    """Say where `number` belongs; None for a short code, an unassigned area code and an unknown calling code.

    `number` is E.164 with its plus sign and was checked before: of a +1 number only the area code is read. US
    territories have country US and their own region. Toll-free, premium and other non-geographic codes have the
    country of the numbering plan's table, no regions and area code "". Outside calling code 1 regions are empty.
    """
    if number.startswith("+1"):
        return NUMBERING_PLAN.get(number[2:5])
    country = _country_abroad(number)
    return None if country is None or country == INTERNATIONAL else _location_abroad(country)


def calling_code(country: str) -> str:
    """Give the digits after the plus of a country's numbers; "" for one that is none."""
    code = phonenumbers.country_code_for_region(country) if len(country) == 2 else 0
    return str(code) if code else ""


def number_kind(number: str) -> NumberKind | None:
    """Say what kind of number `number` (E.164 with its plus sign) is; None when nobody has such a number.

    Of a +1 number only the area code is read (0.2 µs); others cost about 50 µs.
    """
    if number.startswith("+1"):
        area_code = number[2:5]
        return _SPECIAL_KINDS.get(area_code) or (NumberKind.GEOGRAPHIC if area_code in NUMBERING_PLAN else None)
    parsed = _parse(number)
    if parsed is None or not phonenumbers.is_valid_number(parsed):
        return None
    kind = _KINDS_ABROAD.get(phonenumbers.number_type(parsed))
    if kind is not None:
        return kind
    is_somewhere = phonenumbers.region_code_for_number(parsed) != INTERNATIONAL
    return NumberKind.GEOGRAPHIC if is_somewhere else NumberKind.NON_GEOGRAPHIC


_KINDS_ABROAD: Final[Mapping[int, NumberKind]] = {
    phonenumbers.PhoneNumberType.TOLL_FREE: NumberKind.TOLL_FREE,
    phonenumbers.PhoneNumberType.PREMIUM_RATE: NumberKind.PREMIUM,
}


def _parse(number: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return None


def _country_abroad(number: str) -> str | None:
    parsed = _parse(number)
    return None if parsed is None else phonenumbers.region_code_for_number(parsed)


@cache  # bounded: libphonenumber knows about 240 countries
def _location_abroad(country: str) -> Location:
    return Location(country=country, regions=frozenset(), area_code="")


# --- the numbering plan of calling code 1, built once ------------------------------------------------------------


def _lines() -> Iterator[tuple[str, str, str]]:
    """Give the tables of area_codes.py as (country, region, area codes); region "" where a country has none here."""
    yield from (("US", region, codes) for region, codes in area_codes.STATES.items())
    yield from (("US", region, codes) for region, codes in area_codes.TERRITORIES.items())
    yield from (("CA", region, codes) for region, codes in area_codes.PROVINCES.items())
    yield from ((country, "", codes) for country, codes in area_codes.OTHER_COUNTRIES.items())


def _geographic() -> dict[str, Location]:
    found: dict[str, Location] = {}
    for country, region, codes in _lines():
        for code in codes.split():
            known = found.get(code)
            regions = frozenset({region} if region else ()) | (known.regions if known else frozenset())
            found[code] = Location(country, regions, code)
    return found


_SPECIAL_KINDS: Final[Mapping[str, NumberKind]] = {
    **dict.fromkeys(area_codes.TOLL_FREE.split(), NumberKind.TOLL_FREE),
    **dict.fromkeys(area_codes.PREMIUM.split(), NumberKind.PREMIUM),
    **dict.fromkeys(area_codes.NON_GEOGRAPHIC_US.split(), NumberKind.NON_GEOGRAPHIC),
    **dict.fromkeys(area_codes.NON_GEOGRAPHIC_CA.split(), NumberKind.NON_GEOGRAPHIC),
}


def _special() -> dict[str, Location]:
    """Locate the codes that are nowhere: libphonenumber's country for them, no region, no area code."""
    united_states, canada = Location("US", frozenset(), ""), Location("CA", frozenset(), "")
    canadian = area_codes.NON_GEOGRAPHIC_CA.split()
    return {code: canada if code in canadian else united_states for code in _SPECIAL_KINDS}


NUMBERING_PLAN: Final[Mapping[str, Location]] = _geographic() | _special()
"""Every assigned area code of calling code 1; `area_code` is "" in its location when the code is not geographic."""

AREA_CODES: Final[Mapping[str, Location]] = MappingProxyType(
    {
        code: location
        for code, location in sorted(NUMBERING_PLAN.items())
        if location.regions and location.regions.isdisjoint(area_codes.TERRITORIES)
    }
)
"""The 415 area codes of US states and Canadian provinces, in order."""
