"""Where numbers belong: the table against libphonenumber, and what a look-up promises."""

import re
from collections import Counter, defaultdict

import phonenumbers
import pytest

from resolver import area_codes
from resolver.geography import AREA_CODES, INTERNATIONAL, NUMBERING_PLAN, NumberKind, locate, number_kind

ALL_AREA_CODES = [str(code) for code in range(200, 1000)]


@pytest.mark.parametrize(
    ("number", "country", "regions", "area_code"),
    [
        ("+14155550100", "US", {"CA"}, "415"),
        ("+12125550199", "US", {"NY"}, "212"),
        ("+12025550100", "US", {"DC"}, "202"),
        ("+14165550100", "CA", {"ON"}, "416"),
        # more than one region, or none that libphonenumber could name
        ("+19025550100", "CA", {"NS", "PE"}, "902"),
        ("+17825550100", "CA", {"NS", "PE"}, "782"),
        ("+18675550100", "CA", {"YT", "NT", "NU"}, "867"),
        ("+12575550100", "CA", {"BC"}, "257"),
        ("+12035550100", "US", {"CT"}, "203"),
        ("+13105550100", "US", {"CA"}, "310"),
        ("+17135550100", "US", {"TX"}, "713"),
        ("+17185550100", "US", {"NY"}, "718"),
        ("+19055550100", "CA", {"ON"}, "905"),
        # territories: their own region, country US
        ("+17875550100", "US", {"PR"}, "787"),
        ("+19395550100", "US", {"PR"}, "939"),
        ("+13405550100", "US", {"VI"}, "340"),
        ("+16715550100", "US", {"GU"}, "671"),
        ("+16845550100", "US", {"AS"}, "684"),
        ("+16705550100", "US", {"MP"}, "670"),
        # other countries of calling code 1
        ("+12425550100", "BS", set(), "242"),
        ("+12465550100", "BB", set(), "246"),
        ("+16585550100", "JM", set(), "658"),
        # nowhere
        ("+18005550100", "US", set(), ""),
        ("+19005550100", "US", set(), ""),
        ("+15005550100", "US", set(), ""),
        ("+16005550100", "CA", set(), ""),
        # the rest of the world: the country
        ("+447400123456", "GB", set(), ""),
        ("+390612345678", "IT", set(), ""),
        ("+77011234567", "KZ", set(), ""),
    ],
)
def test_a_number_is_where_it_belongs(number, country, regions, area_code):
    assert locate(number) == (country, regions, area_code)


@pytest.mark.parametrize(
    "number", ["+12115550100", "+19115550100", "+19995550100", "+1", "44444", "", "+", "+999123456"]
)
def test_nobody_knows_where_this_is(number):
    assert locate(number) is None
    assert number_kind(number) is None


@pytest.mark.parametrize("number", ["+870773111632", "+881612345678", "+883510012345"])
def test_a_satellite_is_in_no_country(number):
    assert locate(number) is None
    assert number_kind(number) is NumberKind.NON_GEOGRAPHIC


def test_locations_are_shared():
    assert locate("+14155550100") is locate("+14155550101") is AREA_CODES["415"]
    assert locate("+447400123456") is locate("+447400123457")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("+14155550100", NumberKind.GEOGRAPHIC),
        ("+18765550100", NumberKind.GEOGRAPHIC),
        ("+18335550100", NumberKind.TOLL_FREE),
        ("+19005550100", NumberKind.PREMIUM),
        ("+15335550100", NumberKind.NON_GEOGRAPHIC),
        ("+16225550100", NumberKind.NON_GEOGRAPHIC),
        ("+447400123456", NumberKind.GEOGRAPHIC),
        ("+448001111111", NumberKind.TOLL_FREE),
        ("+449098790000", NumberKind.PREMIUM),
        ("+979123456789", NumberKind.PREMIUM),
    ],
)
def test_a_number_is_of_its_kind(number, kind):
    assert number_kind(number) is kind


def test_there_are_415_area_codes_of_states_and_provinces():
    assert len(AREA_CODES) == 415
    assert Counter(location.country for location in AREA_CODES.values()) == {"US": 359, "CA": 56}
    assert list(AREA_CODES) == sorted(AREA_CODES)
    assert all(location.area_code == code and location.regions for code, location in AREA_CODES.items())


def test_every_area_code_has_fictional_numbers_that_are_valid():
    for code in AREA_CODES:
        assert phonenumbers.is_valid_number(phonenumbers.parse(f"+1{code}5550100"))


def test_only_provinces_share_area_codes():
    shared = {code for code, location in NUMBERING_PLAN.items() if len(location.regions) > 1}
    assert shared == {"782", "867", "902"}


# --- held equal to libphonenumber ------------------------------------------------------------------------------------

LINES = ["2340199", "5550123", "2225550", "3001234"]
"""Lines of which at least one exists in each area code that exists."""


def library_country_and_type(code: str) -> tuple[str, int] | None:
    for line in LINES:
        parsed = phonenumbers.parse(f"+1{code}{line}")
        if phonenumbers.is_valid_number(parsed):
            return phonenumbers.region_code_for_number(parsed) or INTERNATIONAL, phonenumbers.number_type(parsed)
    return None


NOT_SAMPLED = {"264", "268", "441", "473", "664", "721", "767", "869", "684"}
"""Small countries whose few valid exchanges are not among the lines; checked by example number instead."""


def test_the_same_area_codes_exist_as_in_libphonenumber():
    known = {code for code in ALL_AREA_CODES if library_country_and_type(code)}
    assert known - NUMBERING_PLAN.keys() == set()
    assert NUMBERING_PLAN.keys() - known <= NOT_SAMPLED
    territories = area_codes.TERRITORIES.keys()
    for code in known:
        location = NUMBERING_PLAN[code]
        found = library_country_and_type(code)
        assert found is not None
        country = "US" if found[0] in territories else found[0]
        assert location.country == country, code
        if found[0] in territories:
            assert location.regions == {found[0]}


@pytest.mark.parametrize("country", [*area_codes.OTHER_COUNTRIES, *area_codes.TERRITORIES])
def test_other_countries_have_the_area_codes_of_their_example_numbers(country):
    example = phonenumbers.example_number_for_type(country, phonenumbers.PhoneNumberType.MOBILE)
    assert example is not None
    code = str(example.national_number)[:3]
    table = area_codes.TERRITORIES if country in area_codes.TERRITORIES else area_codes.OTHER_COUNTRIES
    assert code in table[country].split()


def test_special_codes_are_those_of_libphonenumber():
    kinds = {
        phonenumbers.PhoneNumberType.TOLL_FREE: NumberKind.TOLL_FREE,
        phonenumbers.PhoneNumberType.PREMIUM_RATE: NumberKind.PREMIUM,
        phonenumbers.PhoneNumberType.PERSONAL_NUMBER: NumberKind.NON_GEOGRAPHIC,
        phonenumbers.PhoneNumberType.VOIP: NumberKind.NON_GEOGRAPHIC,
        phonenumbers.PhoneNumberType.UAN: NumberKind.NON_GEOGRAPHIC,
        phonenumbers.PhoneNumberType.PAGER: NumberKind.NON_GEOGRAPHIC,
    }
    for code in (code for code, location in NUMBERING_PLAN.items() if location.country in {"US", "CA"}):
        if code in NOT_SAMPLED:
            continue
        found = library_country_and_type(code)
        assert found is not None
        assert number_kind(f"+1{code}5550100") is kinds.get(found[1], NumberKind.GEOGRAPHIC), code


NAMES = {
    "British Colombia": "BC",  # libphonenumber's spelling for 257
    "Northwest Territories/Nunavut/Yukon": "NT NU YT",
    "Nova Scotia/Prince Edward Island": "NS PE",
    "Washington D.C.": "DC",
    "Washington State": "WA",
}
"""Names of regions whose abbreviation no exchange row of theirs gives."""


def test_regions_are_those_of_libphonenumbers_geocoding_rows():
    """Slow to load (2.5 s). A row is a prefix and a name: "Alabama" for an area code, "Mobile, AL" for an exchange."""
    from phonenumbers.geodata import GEOCODE_DATA

    whole: dict[str, str] = {}
    places: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for prefix, names in GEOCODE_DATA.items():
        if prefix[0] != "1" or prefix[1:4] not in AREA_CODES:
            continue
        place = re.search(r", ([A-Z]{2})$", names["en"])
        if place:
            places[prefix[1:4]][place[1]] += 1
        elif len(prefix) == 4:
            whole[prefix[1:]] = names["en"]
    names_of = {name: places[code].most_common(1)[0][0] for code, name in whole.items() if code in places} | NAMES

    for code, location in AREA_CODES.items():
        expected = names_of[whole[code]] if code in whole else places[code].most_common(1)[0][0]
        assert location.regions == set(expected.split()), code
        if code not in whole and len(places[code]) > 1:
            pytest.fail(f"the exchange rows of {code} do not agree: {places[code]}")
