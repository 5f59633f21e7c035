"""One try: the request that is sent, and what follows from its answer."""

from __future__ import annotations

from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plivo.utils import validate_signature
from plivo.utils.signature_v3 import validate_v3_signature

from gateway.guard import CallbackUrl, Reply, check_url
from gateway.signatures import Tokens
from gateway.tries import FIRST_DELAYS_MS, delay_ms, judge, read_params, render, with_query
from storage.records import CallbackState, OwedCallback
from tests.fakes.callbacks import START_MS, TOKEN, row

HOUR_MS = 3_600_000
GIVE_UP_MS = 75 * HOUR_MS
NONCE = "05429567804466091622"


def judged(reply: Reply, *, tries: int = 0, after_ms: int = 0):
    owed = OwedCallback(row(1), tries)
    return judge(owed, reply, now_ms=START_MS + after_ms, give_up_after_ms=GIVE_UP_MS)


# --- What follows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_means_told(status: int) -> None:
    result = judged(Reply(status, ""))
    assert (result.state, result.tries, result.last_result) == (CallbackState.TOLD, 1, str(status))


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 409, 429, 500, 503])
def test_anything_else_is_tried_again(status: int) -> None:
    result = judged(Reply(status, ""))
    assert (result.state, result.next_ms) == (CallbackState.OWED, START_MS + 60_000)
    assert result.last_result == str(status)


@pytest.mark.parametrize("problem", ["timeout", "unreachable", "forbidden_address", "tls", "resting", "no_account"])
def test_no_answer_is_tried_again_and_the_reason_is_kept(problem: str) -> None:
    result = judged(Reply(0, problem))
    assert (result.state, result.last_result) == (CallbackState.OWED, problem)


def test_a_problem_counts_more_than_a_status() -> None:
    assert judged(Reply(200, "garbled")).state is CallbackState.OWED


def test_gone_stops() -> None:
    assert judged(Reply(410, "")).state is CallbackState.GIVEN_UP


def test_parameters_that_cannot_be_read_are_never_tried_again() -> None:
    assert judged(Reply(0, "unreadable_params")).state is CallbackState.GIVEN_UP


def test_the_delays_are_plivos_and_then_double_up_to_twelve_hours() -> None:
    minutes = [delay_ms(tries) / 60_000 for tries in range(1, 14)]
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 720, 720, 720]
    assert delay_ms(30_000) == 12 * HOUR_MS


def test_a_whole_schedule_ends_at_seventy_five_hours() -> None:
    owed, now_ms, instants = OwedCallback(row(1), 0), START_MS, [0]
    while True:
        result = judge(owed, Reply(503, ""), now_ms=now_ms, give_up_after_ms=GIVE_UP_MS)
        if result.state is not CallbackState.OWED:
            break
        assert result.next_ms > now_ms
        now_ms, owed = result.next_ms, OwedCallback(owed.row, result.tries)
        instants.append(now_ms - START_MS)
    assert result.state is CallbackState.GIVEN_UP
    assert instants[:4] == [0, 60_000, 180_000, 420_000]
    assert instants[-1] == GIVE_UP_MS
    assert len(instants) == result.tries == 16


def test_plivos_retries_are_made_even_after_a_long_stop() -> None:
    for tries in range(len(FIRST_DELAYS_MS)):
        result = judged(Reply(500, ""), tries=tries, after_ms=GIVE_UP_MS + 1)
        assert result.state is CallbackState.OWED
        assert result.next_ms == START_MS + GIVE_UP_MS + 1 + FIRST_DELAYS_MS[tries]
    assert judged(Reply(500, ""), tries=3, after_ms=GIVE_UP_MS + 1).state is CallbackState.GIVEN_UP


def test_a_late_success_still_counts() -> None:
    assert judged(Reply(200, ""), tries=15, after_ms=GIVE_UP_MS * 2).state is CallbackState.TOLD


# --- What is sent -----------------------------------------------------------------------------------------------------


def rendered(url: str, params: dict[str, str], *, method: str = "POST", now_ms: int = START_MS):
    made = row(5, url=url, method=method, sequence=3)
    checked = check_url(url)
    assert isinstance(checked, CallbackUrl)
    return render(made, checked, list(params.items()), tokens=Tokens((TOKEN,), (TOKEN,)), nonce=NONCE, now_ms=now_ms)


PARAMS = {"MessageUUID": "5b40a428", "Status": "sent", "Text": "Grüße & 100 % + ☃", "ErrorCode": ""}


def test_a_post_is_a_form_in_the_order_of_the_row() -> None:
    sent = rendered("https://a.example/hook?x=1", PARAMS)
    assert (sent.method, sent.url) == ("POST", "https://a.example/hook?x=1")
    assert sent.body is not None
    assert parse_qsl(sent.body.decode("ascii"), keep_blank_values=True) == list(PARAMS.items())
    assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_a_get_is_a_query_beside_the_one_the_url_has() -> None:
    sent = rendered("https://a.example/hook?x=1&flag", PARAMS, method="GET")
    assert (sent.method, sent.body) == ("GET", None)
    assert sent.url.startswith("https://a.example/hook?x=1&flag&MessageUUID=5b40a428&")
    assert parse_qs(urlsplit(sent.url).query, keep_blank_values=True)["Text"] == ["Grüße & 100 % + ☃"]
    assert "Content-Type" not in sent.headers


def test_the_headers_name_the_callback_its_time_and_its_place() -> None:
    sent = rendered("https://a.example/hook", PARAMS, now_ms=START_MS + 1_999)
    assert sent.headers["Webhook-Id"] == row(5).callback_id
    assert sent.headers["Webhook-Timestamp"] == str(START_MS // 1_000 + 1)
    assert sent.headers["Sendpool-Sequence"] == "3"


@given(params=st.dictionaries(st.text("abcAB9", min_size=1, max_size=6), st.text(max_size=10), max_size=5))
def test_a_post_validates_with_the_sdk(params: dict[str, str]) -> None:
    sent = rendered("https://a.example:8443/hook?x=1", params)
    received = dict(parse_qsl((sent.body or b"").decode(), keep_blank_values=True))
    signature, nonce = sent.headers["X-Plivo-Signature-V3"], sent.headers["X-Plivo-Signature-V3-Nonce"]
    assert validate_v3_signature("POST", sent.url, nonce, TOKEN, signature, received)
    assert validate_v3_signature("POST", "https://a.example/hook?x=1", nonce, TOKEN, signature, received)
    assert validate_signature(sent.url, nonce, sent.headers["X-Plivo-Signature-V2"], TOKEN)
    assert not validate_v3_signature("POST", sent.url, nonce, TOKEN, signature, {**received, "Extra": "1"})


ascii_texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10)


@given(params=st.dictionaries(st.text("abcABx9", min_size=1, max_size=3), ascii_texts, max_size=5))
def test_a_get_validates_with_the_sdk_from_the_whole_url_and_from_its_parts(params: dict[str, str]) -> None:
    sent = rendered("https://a.example/hook?x=1&b=2&flag", params, method="GET")
    received = dict(parse_qsl(urlsplit(sent.url).query, keep_blank_values=True))
    signature = sent.headers["X-Plivo-Signature-V3"]
    assert received.items() >= params.items(), "ours replace what the URL has of the same name"
    assert validate_v3_signature("GET", sent.url, NONCE, TOKEN, signature, {})
    assert validate_v3_signature("GET", "https://a.example/hook", NONCE, TOKEN, signature, dict(received))
    assert validate_signature(sent.url, NONCE, sent.headers["X-Plivo-Signature-V2"], TOKEN)


@pytest.mark.parametrize(
    ("url", "params", "whole"),
    [
        ("https://a.example/", [], "https://a.example/"),
        ("https://a.example/?", [], "https://a.example/"),
        ("https://a.example/?a=1", [], "https://a.example/?a=1"),
        ("https://a.example", [("b", "")], "https://a.example?b="),
        ("https://a.example/?a=x%2Fy&&b", [("c", "d e")], "https://a.example/?a=x%2Fy&b&c=d+e"),
        ("https://a.example/?From=1&%46rom=2&from=3", [("From", "4")], "https://a.example/?from=3&From=4"),
    ],
)
def test_a_query_is_added_to_and_otherwise_left_as_it_is(url: str, params: list[tuple[str, str]], whole: str) -> None:
    assert with_query(url, params) == whole


def test_parameters_keep_their_order() -> None:
    assert read_params(b'{"b":"1","a":"2","c":""}') == [("b", "1"), ("a", "2"), ("c", "")]


@pytest.mark.parametrize("params", [b"", b"x", b"[]", b'{"a":1}', b'{"a":null}', b'{"a":["b"]}', b'"a"', b"\xff"])
def test_parameters_that_are_no_object_of_texts_are_not_read(params: bytes) -> None:
    assert read_params(params) is None
