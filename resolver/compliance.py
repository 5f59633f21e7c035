"""Which recipients may be written to at all, and which kinds of our numbers a recipient's network takes.

Rule codes: `invalid_destination` (nobody has this number) and `destination_barred` (somebody may; we do not write).
Nothing is guessed: separators are dropped, a country code is never added. Details are for the caller, whose own input
they may echo; they hold recipients, so they are never logged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import phonenumbers

from resolver.geography import NUMBERING_PLAN, NumberKind, number_kind
from resolver.model import E164, Location, NumberType, Refusal, RefusalCode

RECIPIENT_LENGTH_MAX: Final = 64
"""Characters of a recipient as written; 15 digits fit with a separator around each."""

NORTH_AMERICA: Final = frozenset({"US", "CA"})
"""The countries whose networks take each other's long codes and share the toll-free numbers."""

EMERGENCY: Final = frozenset({"000", "110", "112", "119", "911", "988", "999"})
"""What phones dial for help in North America (911, 988), by GSM everywhere (112) and elsewhere; all are too short to be
numbers anyhow, so this only names the rule."""

_INTERNATIONAL_CODES: Final[Mapping[str, str]] = {  # ITU-T E.164, assigned country codes; no country's rules hold there
    "800": "an international freephone",
    "808": "an international shared-cost",
    "870": "a satellite",  # Inmarsat
    "878": "a personal",
    "881": "a satellite",  # Globalstar, Iridium
    "882": "a satellite or other international",  # international networks, Thuraya among them
    "883": "a satellite or other international",
    "888": "a disaster-relief",
    "979": "a premium-rate",
}

_drop_separators: Final = str.maketrans("", "", "/-.+() \t")
_is_e164: Final = re.compile(r"[1-9][0-9]{6,14}").fullmatch  # not \d, which takes full-width digits
_is_nanp: Final = re.compile(r"\+?1([2-9][0-9]{2})[2-9][0-9]{6}").fullmatch  # NPA-NXX-XXXX; fictional 555-01xx too


def check_recipient(raw: str, allowed_countries: frozenset[str]) -> E164 | Refusal:
    """Give the recipient as E.164 with its plus sign, or say why it is refused. 0.4 µs for a plain +1 number.

    `allowed_countries` (ISO 3166-1) is the whole allow-list; US territories count as US. Fictional numbers
    (NPA-555-01xx) are recipients like others. Toll-free numbers are allowed where the US or Canada is: businesses
    text each other. Other countries cost about 50 µs.
    """
    matched = _is_nanp(raw)
    if matched is None:
        return _check_unusual(raw, allowed_countries)
    number = raw if raw[0] == "+" else "+" + raw
    location = NUMBERING_PLAN.get(matched[1])
    if location is not None and location.area_code and location.country in allowed_countries:
        return E164(number)
    return _check_area_code(raw, number, allowed_countries)


def _check_unusual(raw: str, allowed_countries: frozenset[str]) -> E164 | Refusal:
    """Check what is not plainly a +1 number: with separators, of another country, or no number at all."""
    if len(raw) > RECIPIENT_LENGTH_MAX:
        return _invalid(raw, f"it is longer than {RECIPIENT_LENGTH_MAX} characters")
    digits = raw.translate(_drop_separators)
    if digits in EMERGENCY or digits.removeprefix("1") in EMERGENCY:
        return _barred(raw, "is an emergency number")
    if _is_e164(digits) is None:
        return _invalid(raw, "a recipient is 7 to 15 digits with its country code first, like +14155550100")
    if digits[0] != "1":
        return _check_abroad(raw, digits, allowed_countries)
    if _is_nanp(digits) is None:
        return _invalid(raw, "after +1 come ten digits: area code, exchange (neither begins with 0 or 1) and line")
    return _check_area_code(raw, "+" + digits, allowed_countries)


def _check_area_code(raw: str, number: str, allowed_countries: frozenset[str]) -> E164 | Refusal:
    """Check the area code of `number`, a well-formed +1 number, with every reason it may be refused for."""
    area_code = number[2:5]
    location, kind = NUMBERING_PLAN.get(area_code), number_kind(number)
    if location is None:
        return _invalid(raw, f"there is no area code {area_code}")
    if kind is NumberKind.PREMIUM:
        return _barred(raw, "is a premium-rate number")
    if kind is NumberKind.NON_GEOGRAPHIC:
        return _barred(raw, f"is a non-geographic number (area code {area_code})")
    if location.country in allowed_countries or (kind is NumberKind.TOLL_FREE and allowed_countries & NORTH_AMERICA):
        return E164(number)
    return _barred_country(raw, location.country)


def _check_abroad(raw: str, digits: str, allowed_countries: frozenset[str]) -> E164 | Refusal:
    hint = ""
    if len(digits) == 10 and "+" not in raw:
        hint = " If it is a US or Canadian number, put +1 in front."
    if digits[:3] in _INTERNATIONAL_CODES:
        return _barred(raw, f"is {_INTERNATIONAL_CODES[digits[:3]]} number (+{digits[:3]})", hint)
    number = "+" + digits
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return _invalid(raw, "it begins with no known country code", hint)
    country = phonenumbers.region_code_for_number(parsed)
    if country is None or not phonenumbers.is_valid_number(parsed):
        return _invalid(raw, "nobody has this number in the country its code names", hint)
    canonical = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if canonical != number:  # a trunk prefix, as in +44 (0)20 …: dropping it would be guessing
        return _invalid(raw, f"it is written {canonical} from abroad")
    if country not in allowed_countries:
        return _barred_country(raw, country, hint)
    if phonenumbers.number_type(parsed) == phonenumbers.PhoneNumberType.PREMIUM_RATE:
        return _barred(raw, "is a premium-rate number")
    return E164(number)


def _invalid(raw: str, why: str, hint: str = "") -> Refusal:
    return Refusal(RefusalCode.INVALID_DESTINATION, f"{_shown(raw)} is not a valid phone number: {why}.{hint}")


def _barred(raw: str, why: str, hint: str = "") -> Refusal:
    return Refusal(RefusalCode.DESTINATION_BARRED, f"{_shown(raw)} {why}, which is never written to.{hint}")


def _barred_country(raw: str, country: str, hint: str = "") -> Refusal:
    detail = f"{_shown(raw)} belongs to {country}, which is not among the allowed countries.{hint}"
    return Refusal(RefusalCode.DESTINATION_BARRED, detail)


def _shown(raw: str) -> str:
    """Quote what the caller wrote: bounded, and printable whatever it holds."""
    return repr(raw if len(raw) <= RECIPIENT_LENGTH_MAX else raw[:RECIPIENT_LENGTH_MAX] + "…")


def destination_takes(
    number_type: NumberType,
    number_country: str,
    verified: bool,
    location: Location,
    operator: str | None,
    excluded_networks: frozenset[str],
) -> bool:
    """Say whether a recipient at `location` is reached by a number of this type and country at all. 0.2 µs.

    * A short code works in its own country only.
    * A toll-free number works in the US and Canada, once verified, but not to an operator on the exclusion list
      (`excluded_networks`); an operator nobody knows (None or "") is not on it.
    * A long code works in its own country, and between the US and Canada; whether the neighbour is wanted is for
      the ladder to say.
    """
    if number_type is NumberType.LONG_CODE:
        are_neighbors = number_country in NORTH_AMERICA and location.country in NORTH_AMERICA
        return are_neighbors or number_country == location.country
    if number_type is NumberType.SHORT_CODE:
        return number_country == location.country
    return verified and location.country in NORTH_AMERICA and operator not in excluded_networks
