"""Signatures: Plivo's published vectors, then the validators of Plivo's own SDK on whatever hypothesis thinks of."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plivo.utils import validate_signature
from plivo.utils.signature_v3 import validate_v3_signature

from gateway.signatures import (
    Tokens,
    make_nonce,
    sign_v2,
    sign_v3,
    signature_headers,
    signed_text_v2,
    signed_text_v3,
)

TOKEN = "my_auth_token"
NONCE = "05429567804466091622"
INBOUND = (
    ("From", "14155551111"),
    ("To", "14155550000"),
    ("Text", "Hello world & co = 100%"),
    ("Type", "sms"),
    ("MessageUUID", "5b40a428-bfc7-4daf-9d06-726c558bf3b8"),
    ("Units", "1"),
    ("PowerpackUUID", "86bbb125-97bb-4d72-89fd-81d5c515b015"),
    ("MessageIntent", ""),
)
BODY = (
    "From14155551111MessageIntentMessageUUID5b40a428-bfc7-4daf-9d06-726c558bf3b8"
    "PowerpackUUID86bbb125-97bb-4d72-89fd-81d5c515b015TextHello world & co = 100%To14155550000TypesmsUnits1"
)
QUERY = (
    "From=14155551111&MessageIntent=&MessageUUID=5b40a428-bfc7-4daf-9d06-726c558bf3b8"
    "&PowerpackUUID=86bbb125-97bb-4d72-89fd-81d5c515b015&Text=Hello world & co = 100%&To=14155550000&Type=sms&Units=1"
)

# Appendix C of the surface's description: method, URL, params, V3 text, V3, V2 text, V2.
VECTORS = (
    (
        "POST", "https://example.com/sms/", INBOUND,
        f"https://example.com/sms/?{BODY}.{NONCE}", "+fXNEGiZdwJLJ+MXQbr9geBxPvV0HhP7evvWnhAd+KA=",
        f"https://example.com/sms/{NONCE}", "qwRVedsba5Jpr9CojI+QAwIiFPfjaqkCy4kQa62px0Q=",
    ),
    (
        "POST", "https://example.com/sms/?b=2&a=1", INBOUND,
        f"https://example.com/sms/?a=1&b=2.{BODY}.{NONCE}", "IUDG1pn0xPBNFtPAu37h5PkTfV7vX0LnardnXmbdwn8=",
        f"https://example.com/sms/{NONCE}", "qwRVedsba5Jpr9CojI+QAwIiFPfjaqkCy4kQa62px0Q=",
    ),
    (
        "POST", "https://example.com:8443/sms", INBOUND,
        f"https://example.com:8443/sms?{BODY}.{NONCE}", "uoXXtzHw0aU1u54Yyn9cbkPsB2WDr21oinBQW8bdvkw=",
        f"https://example.com:8443/sms{NONCE}", "GFk3tWZ9EyIAvbxPZaX72dEPJmdEc1KFpHBKU8CKPuI=",
    ),
    (
        "GET", "https://example.com/sms/", INBOUND,
        f"https://example.com/sms/?{QUERY}.{NONCE}", "BssFl4bOtdswRxAXnnUbLpmQIewJKwM7KMADKqXxDqw=",
        f"https://example.com/sms/{NONCE}", "qwRVedsba5Jpr9CojI+QAwIiFPfjaqkCy4kQa62px0Q=",
    ),
    (
        "POST", "https://example.com/sms/", (),
        f"https://example.com/sms/.{NONCE}", "aGW2kfLwcwQWKmgZekrVQjh+3PABlGFWLDGBf7WFYSM=",
        f"https://example.com/sms/{NONCE}", "qwRVedsba5Jpr9CojI+QAwIiFPfjaqkCy4kQa62px0Q=",
    ),
)  # fmt: skip


@pytest.mark.parametrize(("method", "url", "params", "text_v3", "v3", "text_v2", "v2"), VECTORS)
def test_the_published_vectors_come_out(method, url, params, text_v3, v3, text_v2, v2) -> None:
    assert signed_text_v3(method, url, NONCE, params) == text_v3
    assert sign_v3(method, url, NONCE, TOKEN, params) == v3
    assert signed_text_v2(url, NONCE) == text_v2
    assert sign_v2(url, NONCE, TOKEN) == v2


# --- Against Plivo's validators ---------------------------------------------------------------------------------------

visible = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
names = st.text(st.sampled_from("abcXYZ019_-."), min_size=1, max_size=8)
params_st = st.lists(st.tuples(names, visible), max_size=6, unique_by=lambda pair: pair[0])
# The SDK decodes a query as ASCII and fails on anything else, whoever signed it.
ascii_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10)
queries = st.lists(st.tuples(names, ascii_values), max_size=4)
hosts = st.sampled_from(["example.com", "a.b-c.example", "93.184.216.34", "[2606:2800:220:1::1]", "xn--bcher-kva.ch"])
ports = st.sampled_from(["", ":80", ":443", ":8443", ":49152"])
paths = st.sampled_from(["", "/", "/sms", "/sms/", "/a//b", "/a%20b", "/%C3%A9", "/a;v=1", "/a;v=1/b", "/a:80/c"])
nonces = st.integers(0, 10**20 - 1).map(lambda number: f"{number:020d}")
tokens = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())


@st.composite
def urls(draw) -> str:
    query = urlencode(draw(queries))
    scheme = draw(st.sampled_from(["http", "https"]))
    return f"{scheme}://{draw(hosts)}{draw(ports)}{draw(paths)}" + (f"?{query}" if query else "")


@given(url=urls(), nonce=nonces, token=tokens)
def test_the_sdk_accepts_v2(url: str, nonce: str, token: str) -> None:
    assert validate_signature(url, nonce, sign_v2(url, nonce, token), token)


@given(method=st.sampled_from(["POST", "GET"]), url=urls(), nonce=nonces, token=tokens, params=params_st)
def test_the_sdk_accepts_v3(method: str, url: str, nonce: str, token: str, params) -> None:
    signature = sign_v3(method, url, nonce, token, params)
    assert validate_v3_signature(method, url, nonce, token, signature, dict(params))


@given(url=urls(), nonce=nonces, params=st.lists(st.tuples(names, ascii_values), max_size=5))
def test_the_sdk_accepts_v3_when_an_endpoint_gives_it_the_whole_url_of_a_get(url: str, nonce: str, params) -> None:
    """What a GET callback looks like to a framework: all parameters in the address, and none beside it."""
    taken = set(re.findall(r"[?&]([^=&]*)=", url))
    assume(not taken & {name for name, _ in params})
    whole = url + ("&" if "?" in url else "?" if params else "") + urlencode(params)
    assert validate_v3_signature("GET", whole, nonce, TOKEN, sign_v3("GET", url, nonce, TOKEN, params), {})


@given(method=st.sampled_from(["POST", "GET"]), url=urls(), nonce=nonces, values=st.lists(visible, min_size=2))
def test_a_name_that_comes_twice_is_signed_as_the_sdk_signs_a_list(method, url, nonce, values) -> None:
    params = [("Zwei", value) for value in values]
    signature = sign_v3(method, url, nonce, TOKEN, params)
    assert validate_v3_signature(method, url, nonce, TOKEN, signature, {"Zwei": values})


@given(url=urls(), nonce=nonces, params=params_st, other=names)
def test_another_token_nonce_or_parameter_makes_another_signature(url, nonce, params, other: str) -> None:
    signature = sign_v3("POST", url, nonce, TOKEN, params)
    assert signature != sign_v3("POST", url, nonce, TOKEN + other, params)
    assert signature != sign_v3("POST", url, nonce[:-1] + chr(ord(nonce[-1]) ^ 1), TOKEN, params)
    assert signature != sign_v3("POST", url, nonce, TOKEN, [*params, ("ZZ", other)])
    assert sign_v2(url, nonce, TOKEN) != sign_v2(url, nonce, TOKEN + other)


def test_of_a_name_in_the_query_and_in_the_parameters_of_a_get_the_sdk_takes_the_querys() -> None:
    url, params = "https://example.com/?From=1&x=2", (("From", "3"), ("To", "4"))
    signature = sign_v3("GET", url, NONCE, TOKEN, params)
    assert validate_v3_signature("GET", url, NONCE, TOKEN, signature, dict(params))
    assert signed_text_v3("GET", url, NONCE, params) == f"https://example.com/?From=1&To=4&x=2.{NONCE}"


# --- The headers ------------------------------------------------------------------------------------------------------

TOKENS = Tokens(account=(TOKEN,), main=("main_token",))


def test_the_six_headers_name_both_families_and_both_tokens() -> None:
    headers = signature_headers("POST", "https://example.com/sms/", NONCE, TOKENS, INBOUND)
    assert headers == {
        "X-Plivo-Signature-V2": "qwRVedsba5Jpr9CojI+QAwIiFPfjaqkCy4kQa62px0Q=",
        "X-Plivo-Signature-Ma-V2": sign_v2("https://example.com/sms/", NONCE, "main_token"),
        "X-Plivo-Signature-V2-Nonce": NONCE,
        "X-Plivo-Signature-V3": "+fXNEGiZdwJLJ+MXQbr9geBxPvV0HhP7evvWnhAd+KA=",
        "X-Plivo-Signature-Ma-V3": sign_v3("POST", "https://example.com/sms/", NONCE, "main_token", INBOUND),
        "X-Plivo-Signature-V3-Nonce": NONCE,
    }


@pytest.mark.parametrize("port", [":443", ":8443"])
@pytest.mark.parametrize("host", ["example.com", "[2606:2800:220:1::1]"])
def test_an_explicit_port_brings_a_second_v3_signature_without_it(host: str, port: str) -> None:
    headers = signature_headers("POST", f"https://{host}{port}/sms?a=1", NONCE, TOKENS, INBOUND)
    assert headers["X-Plivo-Signature-V3"].split(",") == [
        sign_v3("POST", f"https://{host}{port}/sms?a=1", NONCE, TOKEN, INBOUND),
        sign_v3("POST", f"https://{host}/sms?a=1", NONCE, TOKEN, INBOUND),
    ]
    assert "," not in headers["X-Plivo-Signature-V2"]


def test_an_address_without_a_path_also_validates_as_the_endpoint_sees_it() -> None:
    headers = signature_headers("POST", "https://example.com:8443?a=1", NONCE, TOKENS, INBOUND)
    for seen in ("https://example.com:8443?a=1", "https://example.com:8443/?a=1", "https://example.com/?a=1"):
        assert validate_v3_signature("POST", seen, NONCE, TOKEN, headers["X-Plivo-Signature-V3"], dict(INBOUND)), seen
    assert validate_signature("https://example.com:8443", NONCE, headers["X-Plivo-Signature-V2"], TOKEN)


def test_a_plain_address_has_one_signature() -> None:
    headers = signature_headers("GET", "https://[2606:2800:220:1::1]/sms", NONCE, TOKENS, INBOUND)
    assert "," not in headers["X-Plivo-Signature-V3"]


def test_a_nonce_has_twenty_digits_whatever_the_source_gives() -> None:
    asked: list[int] = []

    def smallest(below: int) -> int:
        asked.append(below)
        return 7

    assert make_nonce(smallest) == "00000000000000000007"
    assert make_nonce(lambda below: below - 1) == "9" * 20
    assert asked == [10**20]


def test_tokens_are_not_shown() -> None:
    assert TOKEN not in repr(TOKENS)


def test_while_two_tokens_are_good_v3_is_signed_with_both_and_v2_with_the_new_one() -> None:
    tokens = Tokens(account=("new", "former"), main=("main_token",))
    headers = signature_headers("POST", "https://example.com/sms/", NONCE, tokens, INBOUND)
    for token in tokens.account:
        assert validate_v3_signature(
            "POST", "https://example.com/sms/", NONCE, token, headers["X-Plivo-Signature-V3"], dict(INBOUND)
        )
    assert headers["X-Plivo-Signature-V2"] == sign_v2("https://example.com/sms/", NONCE, "new")
    assert "," not in headers["X-Plivo-Signature-Ma-V3"]
