from __future__ import annotations

from urllib.parse import parse_qsl

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.carrier import SAMPLE
from gateway.carriers.submits import Rendered
from gateway.fields import BadSetting
from tests.fakes.templates import PRESETS, compiled

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
REFERENCE = SAMPLE.message_id
REPORTS = f"https://sms.example.com/carriers/one/reports?reference={REFERENCE}"
HELLO = SAMPLE._replace(text="Hello", remaining_ms=10_799_999)


def rendered(preset: str = "json", **options: object) -> Rendered:
    return compiled(preset, **options).submit.render(HELLO, NOW_MS)


def header_of(request: Rendered, name: str) -> str:
    return dict(request.headers)[name.encode()].decode()


def test_a_submit_says_all_the_carrier_needs_and_nothing_else() -> None:
    request = compiled("json").submit.render(HELLO._replace(attempt=2, text="Héllo\n"), NOW_MS)
    assert orjson.loads(request.body) == {
        "reference": REFERENCE,
        "attempt": 2,
        "from": "+14155550100",
        "to": "+14155550123",
        "text": "Héllo\n",
        "validity_s": 10_799,
    }
    assert header_of(request, "idempotency-key") == REFERENCE


def test_a_message_about_to_expire_still_has_a_second_of_validity() -> None:
    request = compiled("json").submit.render(HELLO._replace(remaining_ms=20), NOW_MS)
    assert orjson.loads(request.body)["validity_s"] == 1


def test_plivos_submit() -> None:
    request = rendered("plivo")
    assert (request.method, request.target) == (b"POST", b"/v1/Account/MAXXXXXXXXXXXXXXXXXX/Message/")
    assert header_of(request, "host") == "api.plivo.com"
    assert header_of(request, "authorization") == "Basic TUFYWFhYWFhYWFhYWFhYWFhYWFg6cGxpdm8tdG9rZW4="
    assert orjson.loads(request.body) == {
        "src": "14155550100", "dst": "14155550123", "text": "Hello", "url": REPORTS, "message_expiry": 10_799,
    }  # fmt: skip


def test_twilios_submit() -> None:
    request = rendered("twilio")
    assert request.target == b"/2010-04-01/Accounts/AC00000000000000000000000000000001/Messages.json"
    assert header_of(request, "content-type") == "application/x-www-form-urlencoded"
    assert dict(parse_qsl(request.body.decode(), strict_parsing=True)) == {
        "From": "+14155550100", "To": "+14155550123", "Body": "Hello", "StatusCallback": REPORTS,
        "ValidityPeriod": "10799",
    }  # fmt: skip


def test_a_twilio_key_needs_the_account_beside_it() -> None:
    assert b"/Accounts/AC7/" in rendered("twilio", username="SK1", account="AC7").target


def test_telnyxs_submit() -> None:
    request = rendered("telnyx", application="profile-1")
    assert (header_of(request, "host"), request.target) == ("api.telnyx.com", b"/v2/messages")
    assert header_of(request, "authorization") == "Bearer telnyx-key"
    assert orjson.loads(request.body) == {
        "from": "+14155550100", "to": "+14155550123", "text": "Hello", "messaging_profile_id": "profile-1",
        "webhook_url": REPORTS,
    }  # fmt: skip
    assert "messaging_profile_id" not in orjson.loads(rendered("telnyx").body)


def test_bandwidths_submit() -> None:
    request = rendered("bandwidth")
    assert request.target == b"/api/v2/users/5500000/messages"
    assert orjson.loads(request.body) == {
        "from": "+14155550100", "to": ["+14155550123"], "text": "Hello",
        "applicationId": "93de2206-9669-4e07-948d-329f4b722ee2", "tag": REFERENCE,
        "expiration": "2026-01-01T02:59:59Z",
    }  # fmt: skip


@pytest.mark.parametrize("preset", ["plivo", "twilio", "telnyx"])
def test_without_a_public_url_no_reports_are_asked_for(preset: str) -> None:
    body = compiled(preset, public_url="", secret="").submit.render(HELLO, NOW_MS).body
    assert b"reports" not in body
    assert b"reference" not in body


@given(preset=st.sampled_from(PRESETS), text=st.text(max_size=50))
def test_a_text_arrives_as_it_is_and_breaks_out_of_nothing(preset: str, text: str) -> None:
    made = compiled(preset).submit
    request, plain = made.render(HELLO._replace(text=text), NOW_MS), made.render(HELLO, NOW_MS)
    assert request.target == plain.target
    assert [name for name, _ in request.headers] == [name for name, _ in plain.headers]
    if preset == "twilio":
        values = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        assert values == {**dict(parse_qsl(plain.body.decode())), "Body": text}
    else:
        assert orjson.loads(request.body) == {**orjson.loads(plain.body), "text": text}


def test_a_carrier_that_takes_everything_in_the_url() -> None:
    request = rendered(
        "own",
        submit_url="https://gate.example/send?user={username}&pass={password}&to={to}&text={text}",
        username="us", password="p&w", submit={"method": "GET"}, answer={"id": "id"},
    )  # fmt: skip
    assert request.method == b"GET"
    assert request.target == b"/send?user=us&pass=p%26w&to=%2B14155550123&text=Hello"
    names = {name for name, _ in request.headers}
    assert request.body == b""
    assert b"content-type" not in names
    assert b"content-length" not in names
    assert b"authorization" not in names, "the password is said in the URL"


def test_headers_are_added_to_ours_or_take_their_place() -> None:
    request = rendered(submit={"headers": {"User-Agent": "us/1", "X-Account": "{account}", "X-To": "{to}"}},
                       account="7")  # fmt: skip
    assert header_of(request, "user-agent") == "us/1"
    assert header_of(request, "x-account") == "7"
    assert header_of(request, "x-to") == "+14155550123"
    assert header_of(request, "idempotency-key") == REFERENCE


def test_an_empty_text_takes_out_what_the_preset_has() -> None:
    request = rendered(submit={"headers": {"Idempotency-Key": ""}, "body": {"attempt": "", "more": ["{segments}"]}})
    assert b"idempotency-key" not in dict(request.headers)
    assert list(orjson.loads(request.body)) == ["reference", "from", "to", "text", "validity_s", "more"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"submit": {"headers": {"Host": "x"}}}, r"\[carriers.one.submit\] headers.Host: is no header"),
        ({"submit": {"headers": {"Content-Length": "7"}}}, "headers.Content-Length"),
        ({"submit": {"headers": {"Authorization": "x"}}}, "headers.Authorization"),
        ({"submit": {"headers": {"A B": "x"}}}, "headers.A B"),
        ({"submit": {"headers": {"A": "x\r\nB: y"}}}, "headers.A: has characters"),
        ({"submit": {"headers": {"A": "é"}}}, "headers.A: has characters"),
        ({"submit": {"headers": {"A": " x"}}}, "headers.A: has characters"),
        ({"submit": {"headers": {"A": "{text}"}}}, r"headers.A: {text} may not stand here"),
        ({"submit": {"headers": {"A": "{account}"}}, "account": "a\nb"}, "headers.A: has characters"),
        ({"submit": {"body": {"x": "{tox}"}}}, r"\[carriers.one.submit\] body.x: there is no placeholder {tox}"),
        ({"submit": {"method": "DELETE"}}, "POST, PUT, GET"),
        ({"submit": {"format": "xml"}}, "json, form"),
        ({"submit": {"format": "form", "body": {"x": {"y": 1}}}}, "body.x: a form has no tables inside"),
        ({"submit": {"validity_s_min": 7, "validity_s_max": 6}}, "validity_s_min is over"),
        ({"submit": {"bodi": {}}}, "is it 'body'"),
        ({"submit_url": "https://{account}.example/", "account": "x"}, "host may hold no placeholder"),
        ({"submit_url": "https://carrier.example/{application}"}, "something that is not set"),
        ({"submit_url": "https://carrier.example/{nobody}"}, "no placeholder"),
        ({"submitt": {}}, "is it 'submit'"),
    ],
)
def test_wrong_tables_are_named_at_start(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        compiled("json", **options)


@pytest.mark.parametrize(
    ("preset", "lacks"),
    [
        ("json", "submit_url"), ("plivo", "username"), ("twilio", "password"), ("telnyx", "authorization"),
        ("bandwidth", "application"), ("own", "submit_url"),
    ],
)  # fmt: skip
def test_what_a_preset_needs_must_be_set(preset: str, lacks: str) -> None:
    with pytest.raises(BadSetting, match=rf"\[carriers.one\] {lacks}: must be set for preset = '{preset}'"):
        compiled(preset, **{lacks: ""})
