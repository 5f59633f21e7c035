"""Who may be written to, and by which kinds of numbers: tables of the rules, and what holds for any input."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.compliance import RECIPIENT_LENGTH_MAX, check_recipient, destination_takes
from resolver.geography import AREA_CODES, locate
from resolver.model import Location, NumberType, Refusal, RefusalCode

DEFAULT = frozenset({"US", "CA"})
INVALID, BARRED = RefusalCode.INVALID_DESTINATION, RefusalCode.DESTINATION_BARRED


def refusal_of(raw: str, allowed: frozenset[str] = DEFAULT) -> Refusal:
    checked = check_recipient(raw, allowed)
    assert isinstance(checked, Refusal), checked
    return checked


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("+14155550100", "+14155550100"),
        ("14155550100", "+14155550100"),
        ("+1 (415) 555-0100", "+14155550100"),
        ("1.415.555.0100", "+14155550100"),
        ("1/415/555/0100", "+14155550100"),
        ("\t+1 415 555 0100 ", "+14155550100"),
        ("1+4155550100", "+14155550100"),
        ("+17875550100", "+17875550100"),  # Puerto Rico is in the US
        ("+19025550100", "+19025550100"),
        ("+18005550100", "+18005550100"),  # toll-free: businesses write to each other
        ("1-888-555-0100", "+18885550100"),
    ],
)
def test_a_recipient_becomes_e164(raw, expected):
    assert check_recipient(raw, DEFAULT) == expected


def test_fictional_numbers_of_every_area_code_are_recipients():
    for code in AREA_CODES:
        for line in ("5550100", "5550199"):
            assert check_recipient(f"+1{code}{line}", DEFAULT) == f"+1{code}{line}"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="nothing"),
        pytest.param("+", id="plus alone"),
        pytest.param(" -() ", id="separators alone"),
        pytest.param("+0", id="plus zero"),
        pytest.param("+04155550100", id="country code zero"),
        pytest.param("0014155550100", id="dialled from abroad"),
        pytest.param("44444", id="short code"),
        pytest.param("1111111", id="area code from 1"),
        pytest.param("Alice", id="letters"),
        pytest.param("1-800-FLOWERS", id="letters for digits"),
        pytest.param("+1415555010a", id="a letter at the end"),
        pytest.param("1234567890123456", id="16 digits"),
        pytest.param("+14155550100000", id="too long for +1"),
        pytest.param("+1415555010", id="too short for +1"),
        pytest.param("tel:+14155550100", id="tel URI"),
        pytest.param("sip:+14155550100@example.com", id="SIP URI"),
        pytest.param("+14155550100;ext=5", id="extension"),
        pytest.param("+14155550100,+14155550101", id="two numbers"),
        pytest.param("＋１４１５５５５０１００", id="full-width"),
        pytest.param("+1４155550100", id="one full-width digit"),
        pytest.param("+1415555010\u0660", id="Arabic-Indic digit"),
        pytest.param("+1\u00a04155550100", id="no-break space"),
        pytest.param("+14155550100\n", id="line end"),
        pytest.param("+14155550100\0", id="NUL"),
        pytest.param("+1\u200b4155550100", id="zero width space"),
        pytest.param("\ud800", id="half a surrogate pair"),
        pytest.param("+12115550100", id="N11 as area code"),
        pytest.param("+19115550100", id="911 as area code"),
        pytest.param("+19995550100", id="unassigned area code"),
        pytest.param("+14150550100", id="exchange from 0"),
        pytest.param("+14151550100", id="exchange from 1"),
        pytest.param("4155550100", id="ten digits are not given +1"),
        pytest.param("2125550100", id="ten digits that are no Egyptian number either"),
        pytest.param("+999123456789", id="no such country code"),
        pytest.param("+4415", id="too short"),
        pytest.param("+441111111111111", id="no such number in its country"),
        pytest.param("+44 (0)20 7946 0958", id="trunk prefix"),
        pytest.param("+1" * 40, id="far too long"),
        pytest.param("-" * 1_000 + "14155550100", id="hidden behind separators"),
    ],
)
def test_what_is_no_number_is_refused_and_never_mended(raw):
    refusal = refusal_of(raw)
    assert refusal.code is INVALID
    assert "is not a valid phone number" in refusal.detail


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ("911", "emergency"),
        ("+911", "emergency"),
        ("1911", "emergency"),
        ("112", "emergency"),
        ("9-9-9", "emergency"),
        ("+19005550100", "premium"),
        ("+979123456789", "premium"),
        ("+870773111632", "satellite"),
        ("+881612345678", "satellite"),
        ("+88216123456", "satellite"),
        ("+883510012345", "satellite"),
        ("+878101234567890", "personal"),
        ("+80012345678", "freephone"),
        ("+15005550100", "non-geographic"),
        ("+15335550100", "non-geographic"),
        ("+16005550100", "non-geographic"),
        ("+16225550100", "non-geographic"),
        ("+18765550100", "belongs to JM"),
        ("+12425550100", "belongs to BS"),
        ("+447400123456", "belongs to GB"),
        ("+33612345678", "belongs to FR"),
    ],
)
def test_a_barred_destination_is_refused_by_the_name_of_its_rule(raw, rule):
    refusal = refusal_of(raw)
    assert refusal.code is BARRED
    assert rule in refusal.detail


def test_the_allow_list_is_the_whole_list():
    assert check_recipient("+447400123456", frozenset({"GB"})) == "+447400123456"
    assert check_recipient("+44 7400 123456", frozenset({"GB"})) == "+447400123456"
    assert check_recipient("+18765550100", frozenset({"JM"})) == "+18765550100"
    assert refusal_of("+14155550100", frozenset({"GB"})).code is BARRED
    assert refusal_of("+14155550100", frozenset({"CA"})).code is BARRED
    assert refusal_of("+14165550100", frozenset()).code is BARRED
    assert check_recipient("+18005550100", frozenset({"CA"})) == "+18005550100"
    assert refusal_of("+18005550100", frozenset({"GB"})).code is BARRED


@pytest.mark.parametrize("raw", ["+19005550100", "+449098790000", "+870773111632", "+15005550100", "112"])
def test_no_allow_list_opens_premium_satellite_and_emergency_numbers(raw):
    assert refusal_of(raw, frozenset({"US", "CA", "GB", "001"})).code is BARRED


@pytest.mark.parametrize("raw", ["4155550100", "(800) 555-0100", "212-555-0100"])
def test_ten_digits_get_a_hint(raw):
    assert "put +1 in front" in refusal_of(raw).detail


def test_a_refusal_shows_what_was_written_but_never_more_than_a_line():
    assert "'(415) CALL-US'" in refusal_of("(415) CALL-US").detail
    assert "'1 (211) 555-0100'" in refusal_of("1 (211) 555-0100").detail
    assert len(refusal_of("7" * 100_000).detail) < RECIPIENT_LENGTH_MAX + 100
    refusal_of("\ud800\0\n").detail.encode()  # whatever it holds, it can be answered
    assert "\n" not in refusal_of("+1415\n").detail


ALMOST_NUMBERS = st.text(st.sampled_from("+1234567890 ()-./\t４x"), max_size=24)
DIGITS = st.from_regex(r"\+?[0-9]{3,17}", fullmatch=True)
NANP = st.from_regex(r"\+?1[2-9][0-9]{9}", fullmatch=True)


@given(
    raw=ALMOST_NUMBERS | DIGITS | NANP | st.text(), allowed=st.sampled_from([DEFAULT, frozenset({"GB", "FR", "DE"})])
)
@example(raw="+14155550100", allowed=DEFAULT)
def test_any_input_gives_e164_that_is_located_in_an_allowed_country_or_a_refusal(raw, allowed):
    checked = check_recipient(raw, allowed)
    if isinstance(checked, Refusal):
        assert checked.code in {INVALID, BARRED}
        checked.detail.encode()
        return
    assert re.fullmatch(r"\+[1-9][0-9]{6,14}", checked)
    assert checked[1:] == re.sub(r"[/\-.+() \t]", "", raw)
    assert check_recipient(checked, allowed) == checked
    location = locate(checked)
    assert location is not None
    assert location.country in allowed


# --- which of our numbers a destination takes ------------------------------------------------------------------------

US, CA = AREA_CODES["415"], AREA_CODES["416"]
GB = Location("GB", frozenset(), "")
LONG, FREE, SHORT = NumberType.LONG_CODE, NumberType.TOLL_FREE, NumberType.SHORT_CODE


@pytest.mark.parametrize(
    ("number_type", "number_country", "location", "is_taken"),
    [
        (LONG, "US", US, True),
        (LONG, "US", CA, True),
        (LONG, "CA", US, True),
        (LONG, "GB", GB, True),
        (LONG, "US", GB, False),
        (LONG, "GB", US, False),
        (SHORT, "US", US, True),
        (SHORT, "US", CA, False),
        (SHORT, "CA", CA, True),
        (SHORT, "CA", US, False),
        (FREE, "US", US, True),
        (FREE, "US", CA, True),
        (FREE, "CA", US, True),
        (FREE, "US", GB, False),
    ],
)
def test_a_destination_takes_numbers_by_type_and_country(number_type, number_country, location, is_taken):
    assert destination_takes(number_type, number_country, True, location, None, frozenset()) is is_taken


def test_a_territory_takes_what_the_united_states_take():
    puerto_rico = locate("+17875550100")
    assert puerto_rico is not None
    assert all(destination_takes(kind, "US", True, puerto_rico, None, frozenset()) for kind in NumberType)


def test_only_verified_toll_free_numbers_are_taken_and_others_need_no_verification():
    taken = {kind: destination_takes(kind, "US", False, US, None, frozenset()) for kind in NumberType}
    assert taken == {LONG: True, FREE: False, SHORT: True}


@pytest.mark.parametrize(("operator", "is_taken"), [("Bell", False), ("Rogers", True), ("", True), (None, True)])
def test_networks_on_the_exclusion_list_take_no_toll_free_numbers(operator, is_taken):
    excluded = frozenset({"Bell"})
    assert destination_takes(FREE, "US", True, CA, operator, excluded) is is_taken
    assert destination_takes(LONG, "US", True, CA, operator, excluded)
    assert destination_takes(SHORT, "CA", True, CA, operator, excluded)


def test_every_refusal_code_is_explained_in_the_documentation():
    text = (Path(__file__).parents[3] / "docs" / "refusals.md").read_text()
    assert [code.value for code in RefusalCode if f"`{code.value}`" not in text] == []
