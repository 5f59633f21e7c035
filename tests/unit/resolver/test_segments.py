"""The cost of a text, against the tables by hand, the `gsm0338` codec and a splitter that fills part by part."""

import pytest
from gsm0338 import Codec
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.model import Refusal, RefusalCode
from resolver.segments import (
    GSM7_CHARACTERS_MAX,
    SEGMENTS_MAX,
    UCS2_CHARACTERS_MAX,
    Cost,
    Encoding,
    check_text,
    measure,
)

GSM7, UCS2 = Encoding.GSM7, Encoding.UCS2
EMOJI = "\N{GRINNING FACE}"
ESCAPE = "\x1b"
CODEC = Codec()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", Cost(GSM7, 0, 1), id="empty is one part"),
        pytest.param("a" * 160, Cost(GSM7, 160, 1), id="full single part"),
        pytest.param("a" * 161, Cost(GSM7, 161, 2), id="first of two parts"),
        pytest.param("a" * 306, Cost(GSM7, 306, 2), id="two full parts"),
        pytest.param("a" * 307, Cost(GSM7, 307, 3), id="one more than two parts"),
        pytest.param("a" * 1_600, Cost(GSM7, 1_600, 11), id="the longest in GSM-7"),
        pytest.param("€" * 80, Cost(GSM7, 160, 1), id="extension characters cost two"),
        pytest.param("€" * 81, Cost(GSM7, 162, 2), id="extension characters over one part"),
        pytest.param("a" * 152 + "{" + "a" * 152, Cost(GSM7, 306, 3), id="escape pair at the border moves whole"),
        pytest.param("a" * 151 + "{" + "a" * 153, Cost(GSM7, 306, 2), id="escape pair before the border"),
        pytest.param("é" * 160, Cost(GSM7, 160, 1), id="accents of the alphabet"),
        pytest.param("line\r\nline\f", Cost(GSM7, 12, 1), id="line ends, and form feed of the extension"),
        pytest.param("ΔΦΓΛΩΠΨΣΘΞ", Cost(GSM7, 10, 1), id="Greek capitals"),
        pytest.param("ç" * 70, Cost(UCS2, 70, 1), id="small c cedilla is not in the alphabet"),
        pytest.param("`", Cost(UCS2, 1, 1), id="backtick"),
        pytest.param("\t", Cost(UCS2, 1, 1), id="tab"),
        pytest.param(ESCAPE, Cost(UCS2, 1, 1), id="escape is no character"),
        pytest.param("ж" * 71, Cost(UCS2, 71, 2), id="first of two parts in UCS-2"),
        pytest.param("ж" * 134, Cost(UCS2, 134, 2), id="two full parts in UCS-2"),
        pytest.param("ж" * 135, Cost(UCS2, 135, 3), id="one more in UCS-2"),
        pytest.param(EMOJI * 35, Cost(UCS2, 70, 1), id="emoji cost two"),
        pytest.param("ж" * 66 + EMOJI + "ж" * 66, Cost(UCS2, 134, 3), id="surrogate pair at the border moves whole"),
        pytest.param("ж" * 65 + EMOJI + "ж" * 67, Cost(UCS2, 134, 2), id="surrogate pair before the border"),
        pytest.param(EMOJI * 368, Cost(UCS2, 736, 12), id="the most parts"),
    ],
)
def test_cost_by_hand(text, expected):
    assert measure(text) == expected


def test_the_names_of_encodings_are_words_on_the_wire():
    assert [f"{encoding}" for encoding in Encoding] == ["gsm7", "ucs2"]


# --- against two other implementations -------------------------------------------------------------------------------


def naive_units(text: str) -> tuple[Encoding, list[int]]:
    """Give the encoding by the codec's opinion, and the width of every character, one by one."""
    try:
        if ESCAPE not in text:  # the codec takes the escape itself for a character; the standard does not
            return GSM7, [len(CODEC.encode(character, "strict")[0]) for character in text]
    except UnicodeEncodeError:
        pass
    return UCS2, [len(character.encode("utf-16-be")) // 2 for character in text]


def naive_parts(text: str) -> Cost:
    """Fill part by part: a character that does not fit whole begins the next."""
    encoding, widths = naive_units(text)
    alone, per_part = (160, 153) if encoding is GSM7 else (70, 67)
    if sum(widths) <= alone:
        return Cost(encoding, sum(widths), 1)
    parts, room = 1, per_part
    for width in widths:
        if width > room:
            parts, room = parts + 1, per_part
        room -= width
    return Cost(encoding, sum(widths), parts)


GSM7_TEXT = st.text(st.sampled_from("abc é{€\f\n@Δ"), max_size=40)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
EMOJI_TEXT = st.text(st.sampled_from("aж" + EMOJI), max_size=40)


@given(pieces=st.lists(GSM7_TEXT | ANY_TEXT | EMOJI_TEXT, max_size=3), times=st.integers(1, 40))
@example(pieces=["a" * 152 + "€"], times=9)
@example(pieces=["ж" * 66 + EMOJI], times=9)
def test_any_text_costs_what_a_naive_splitter_says(pieces, times):
    text = "".join(pieces) * times
    assert measure(text) == naive_parts(text)


@given(character=st.characters(exclude_categories=["Cs"], exclude_characters=ESCAPE))
def test_every_character_is_encoded_as_the_codec_does(character):
    assert measure(character) == naive_parts(character)


def test_every_character_of_the_basic_plane_is_encoded_as_the_codec_does():
    plane = [chr(code) for code in range(0x10000) if not 0xD800 <= code <= 0xDFFF and chr(code) != ESCAPE]
    assert [c for c in plane if measure(c)[:2] != naive_parts(c)[:2]] == []


@given(st.text(st.characters(), max_size=200))
def test_measuring_never_fails_even_on_half_a_surrogate_pair(text):
    assert measure(text).segments >= 1


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", RefusalCode.INVALID_TEXT, "empty"),
        ("a\0b", RefusalCode.INVALID_CHARACTER, "NUL character at position 1"),
        ("ж\0", RefusalCode.INVALID_CHARACTER, "NUL"),
        ("ab\ud83d", RefusalCode.INVALID_CHARACTER, "surrogate pair at position 2"),
        ("\ude00", RefusalCode.INVALID_CHARACTER, "surrogate"),
        ("\ud83d\ude00", RefusalCode.INVALID_CHARACTER, "surrogate"),
        ("a" * 1_601, RefusalCode.TOO_LONG, "1601 characters"),
        ("€" * 801, RefusalCode.TOO_LONG, "1602 GSM-7 characters"),
        ("ж" * 738, RefusalCode.TOO_LONG, "738 UCS-2 characters"),
        (EMOJI * 369, RefusalCode.TOO_LONG, "738 UCS-2 characters"),
        ("a" * 1_000 + "ж", RefusalCode.TOO_LONG, "1001 UCS-2 characters"),
        (EMOJI * 1_000_000, RefusalCode.TOO_LONG, "1000000 characters"),
    ],
)
def test_a_text_that_cannot_be_sent_is_refused_with_its_reason(text, code, words):
    refusal = check_text(text)
    assert isinstance(refusal, Refusal)
    assert refusal.code is code
    assert words in refusal.detail


@pytest.mark.parametrize(
    "text",
    ["a", " ", "\n", "a" * 1_600, "€" * 800, "ж" * 737, EMOJI * 368, "ж" + EMOJI * 368, "\u202eabc\u200b", "مرحبا"],
)
def test_a_text_within_the_limits_is_taken(text):
    assert check_text(text) is None


@given(pieces=st.lists(GSM7_TEXT | ANY_TEXT | EMOJI_TEXT, min_size=1, max_size=3), times=st.integers(1, 60))
@example(pieces=["a" * 152 + "€"], times=10)
@example(pieces=[EMOJI * 368], times=1)
def test_a_taken_text_is_within_its_encodings_limit_and_the_most_parts(pieces, times):
    text = "".join(pieces) * times
    encoding, characters, segments = naive_parts(text)
    limit = GSM7_CHARACTERS_MAX if encoding is GSM7 else UCS2_CHARACTERS_MAX
    is_sendable = 0 < characters <= limit and "\0" not in text
    assert (check_text(text) is None) == is_sendable
    if is_sendable:
        assert segments <= SEGMENTS_MAX
