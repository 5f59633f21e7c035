"""The route carriers post their reports to: who may, what is read, what is named."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.api.call import Call
from gateway.api.errors import ApiError
from gateway.api.reports import REPORTS_MAX, REQUESTS_MAX, CarrierReports
from gateway.api.router import Access
from gateway.carriers.carrier import Report, Webhook
from gateway.inbound import Taken
from gateway.signatures import sign_v2
from resolver.model import CarrierName
from storage.records import FactKind, JournalUnavailable
from tests.fakes.clock import START_MS, HandClock
from tests.fakes.gateway_floor import Tally
from tests.fakes.templates import PUBLIC_URL, compiled
from tests.fakes.vendors import VENDORS, Telnyx

SECRET = "the secret of acme"
RIGHT = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
DELIVERED = {"id": "x-1", "status": "delivered"}


class Acme:
    """A carrier with a preset."""

    def __init__(self, preset: str = "json", **options: object) -> None:
        self.webhooks = compiled(preset, **options).webhooks


class Desk:
    """Where reports are taken: remembers them, and answers as told."""

    def __init__(self) -> None:
        self.taken: list[tuple[CarrierName, list[Report]]] = []
        self.away = False
        self.held: asyncio.Event | None = None

    async def take(self, carrier: CarrierName, reports: Sequence[Report]) -> Taken:
        if self.away:
            raise JournalUnavailable("away")
        self.taken.append((carrier, list(reports)))
        if self.held is not None:
            await self.held.wait()
        unknown = sum(report.carrier_ref.startswith("unknown") for report in reports)
        return Taken(len(reports) - unknown, unknown)


class Asked:
    """A request as far as this route looks at it."""

    def __init__(self, headers: Mapping[str, str], raw_path: str) -> None:
        self.headers = CIMultiDict(headers)
        self.raw_path = raw_path


@pytest.fixture
def desk() -> Desk:
    return Desk()


CARRIERS = {
    CarrierName("acme"): Acme(secret=SECRET),
    **{CarrierName(f"a-{preset}"): Acme(preset) for preset in VENDORS},
}


def route(desk: Desk, clock: HandClock | None = None, counts: Tally | None = None) -> CarrierReports:
    return CarrierReports(CARRIERS.get, desk.take, clock=clock or HandClock(START_MS), counts=counts or Tally())


async def post(
    part: CarrierReports, body: object, *, headers: Mapping[str, str] = RIGHT, carrier: str = "acme", target: str = ""
) -> dict[str, Any]:
    asked = Asked(headers, target or f"/carriers/{carrier}/reports")
    call = Call(cast("web.BaseRequest", asked), "an-api-id")
    call.params = (carrier,)
    call.body = body if isinstance(body, bytes) else orjson.dumps(body)
    reply = await part.post(call)
    assert reply.status == 200
    return cast("dict[str, Any]", orjson.loads(reply.payload))


async def refusal(part: CarrierReports, body: object, **how: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await post(part, body, **how)
    return caught.value


async def status_of(part: CarrierReports, body: bytes) -> int:
    try:
        await post(part, body)
    except ApiError as error:
        return error.status
    return 200


def test_the_route_checks_for_itself_who_calls(desk: Desk) -> None:
    (only,) = route(desk).routes()
    assert (only.method, only.path, only.access) == ("POST", "/carriers/{carrier}/reports", Access.OWN)


async def test_one_object_is_one_report(desk: Desk) -> None:
    answer = await post(route(desk), {**DELIVERED, "reference": "0193A1B2-0000-7000-8000-000000000001", "at": 1})
    assert answer == {"api_id": "an-api-id", "accepted": 1, "unknown": 0, "ignored": 0, "refused": []}
    expected = Report("x-1", "0193a1b2-0000-7000-8000-000000000001", FactKind.DELIVERED, "000", 1)
    assert desk.taken == [("acme", [expected])]


async def test_an_array_is_taken_as_one_batch(desk: Desk) -> None:
    body = [DELIVERED, {"id": "unknown-1", "status": "sent"}, {"id": 7, "status": "undelivered", "error_code": "50"}]
    answer = await post(route(desk), body)
    assert (answer["accepted"], answer["unknown"], answer["refused"]) == (2, 1, [])
    ((_, reports),) = desk.taken
    assert [report.code for report in reports] == ["000", "", "50"]


async def test_an_empty_array_is_an_empty_batch(desk: Desk) -> None:
    assert (await post(route(desk), []))["accepted"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer {SECRET}"},
        {"X-Sendpool-Secret": SECRET},
    ],
)
async def test_the_secret_comes_in_either_header(desk: Desk, headers: dict[str, str]) -> None:
    assert (await post(route(desk), DELIVERED, headers=headers))["accepted"] == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"X-Sendpool-Secret": "the secret of another"},
        {"X-Sendpool-Secret": "ünïcöde"},
        {"X-Sendpool-Secret": "no carrier has this secret"},
    ],
)
async def test_a_wrong_secret_and_an_unknown_carrier_get_the_same_answer(desk: Desk, headers: dict[str, str]) -> None:
    wrong = await refusal(route(desk), DELIVERED, headers=headers)
    unknown = await refusal(route(desk), DELIVERED, headers=headers, carrier="nobody")
    assert wrong.status == 401
    assert (wrong.status, wrong.code, wrong.message, wrong.headers, wrong.more) == (
        unknown.status, unknown.code, unknown.message, unknown.headers, unknown.more,
    )  # fmt: skip
    assert desk.taken == []


async def test_the_right_secret_of_one_carrier_opens_no_other(desk: Desk) -> None:
    assert (await refusal(route(desk), DELIVERED, carrier="nobody")).status == 401


async def test_who_may_not_ask_does_not_hear_what_is_wrong_with_the_body(desk: Desk) -> None:
    assert (await refusal(route(desk), b"{", headers={})).status == 401


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        (b"", "invalid_json", ""),
        (b"{", "invalid_json", "line 1 column"),
        (b'[{"id":"x","status":"delivered"},]', "invalid_json", "line 1 column 33"),
        (b'{"id":NaN}', "invalid_json", "column 7"),
        (b'{"id":"\\ud800","status":"delivered"}', "invalid_character", ""),
        (b"\xff", "invalid_json", ""),
        (b"7", "invalid_parameter", "report 0"),
        (b'"delivered"', "invalid_parameter", "report 0"),
        (b"null", "invalid_parameter", "report 0"),
        (b'{"id":"x"}', "invalid_parameter", "report 0"),
        (b'{"status":"delivered"}', "invalid_parameter", "report 0"),
        (b'{"id":"x y","status":"delivered"}', "invalid_parameter", "report 0"),
        (b"[[]]", "invalid_parameter", "report 0"),
        (b"[" * 900 + b"]" * 900, "invalid_parameter", "report 0"),
        (b'{"id":"x","status":"?","more":' + b"[" * 300 + b"]" * 300 + b"}", "invalid_parameter", "report 0"),
        (b"[" * 5_000 + b"]" * 5_000, "invalid_json", ""),
    ],
)
async def test_a_malformed_body_is_refused_with_its_place(desk: Desk, body: bytes, code: str, place: str) -> None:
    error = await refusal(route(desk), body)
    assert (error.status, error.code) == (400, code)
    assert place in error.message
    assert desk.taken == []


async def test_what_cannot_be_read_is_named_and_does_not_stop_the_rest(desk: Desk) -> None:
    answer = await post(route(desk), [7, DELIVERED, {"id": "x", "status": "?"}, {"id": "x-2", "status": "sent"}])
    assert answer["accepted"] == 2
    assert answer["refused"] == [
        {"index": 0, "error": "it is not an object"},
        {"index": 2, "error": "its status is unknown"},
    ]
    ((_, reports),) = desk.taken
    assert [report.carrier_ref for report in reports] == ["x-1", "x-2"]


async def test_when_nothing_can_be_read_all_are_named(desk: Desk) -> None:
    error = await refusal(route(desk), [{"id": "x"}, 7])
    assert error.status == 400
    assert error.more == {
        "refused": [{"index": 0, "error": "its status is unknown"}, {"index": 1, "error": "it is not an object"}]
    }


@pytest.mark.parametrize("bad", [[], [7]])
async def test_the_number_of_reports_is_bounded(desk: Desk, bad: list[int]) -> None:
    full = [*bad, *([DELIVERED] * (REPORTS_MAX - len(bad)))]
    assert (await post(route(desk), full))["accepted"] == REPORTS_MAX - len(bad)
    error = await refusal(route(desk), [*full, DELIVERED])
    assert (error.status, error.code) == (413, "body_too_large")
    assert len(desk.taken) == 1


async def test_another_media_type_is_refused(desk: Desk) -> None:
    error = await refusal(route(desk), DELIVERED, headers={**RIGHT, "Content-Type": "text/plain"})
    assert (error.status, error.code) == (400, "invalid_parameter")


async def test_storage_trouble_goes_up_to_where_it_becomes_503(desk: Desk) -> None:
    desk.away = True
    with pytest.raises(JournalUnavailable):
        await post(route(desk), DELIVERED)


async def test_requests_in_progress_are_bounded_and_counted_back(desk: Desk) -> None:
    desk.held = asyncio.Event()
    part = route(desk)
    posts = [asyncio.create_task(post(part, DELIVERED)) for _ in range(REQUESTS_MAX)]
    await asyncio.sleep(0)
    error = await refusal(part, DELIVERED)
    assert (error.status, error.code) == (503, "overloaded")
    assert error.headers["Retry-After"] == "1"
    posts[0].cancel()
    desk.held.set()
    await asyncio.gather(*posts, return_exceptions=True)
    assert part._in_progress == 0
    assert (await post(part, DELIVERED))["accepted"] == 1


@given(st.binary(max_size=80))
async def test_no_bytes_are_more_than_a_bad_request(body: bytes) -> None:
    part = route(Desk())
    assert await status_of(part, body) in (200, 400)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["sent", "delivered", "x-1"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["id", "status", "reference", "at", "error_code", "x"]), inner, max_size=5),
    max_leaves=8,
)  # fmt: skip


@given(value=json_values)
async def test_no_json_is_more_than_a_bad_request_and_every_item_is_accounted_for(value: Any) -> None:
    part = route(Desk())
    try:
        body = orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return
    if await status_of(part, body) == 200:
        answer = await post(part, body)
        items = value if isinstance(value, list) else [value]
        assert answer["accepted"] + answer["unknown"] + len(answer["refused"]) == len(items)


# --- Each vendor's webhooks -------------------------------------------------------------------------------------------


async def post_webhook(part: CarrierReports, preset: str, webhook: Webhook) -> dict[str, Any]:
    return await post(
        part, webhook.body, headers=webhook.headers, carrier=f"a-{preset}", target=webhook.target
    )  # fmt: skip


def report_of(preset: str, status: str = "delivered") -> Webhook:
    return VENDORS[preset]().report(f"{PUBLIC_URL}/carriers/a-{preset}/reports", "id-1", status, now_ms=START_MS)


@pytest.mark.parametrize("preset", VENDORS)
async def test_what_a_vendor_signs_is_taken(desk: Desk, preset: str) -> None:
    answer = await post_webhook(route(desk), preset, report_of(preset))
    assert (answer["accepted"], answer["refused"]) == (1, [])
    ((_, (report,)),) = desk.taken
    assert (report.carrier_ref, report.kind) == ("id-1", FactKind.DELIVERED)


@pytest.mark.parametrize("preset", VENDORS)
async def test_what_it_did_not_sign_is_refused_and_nothing_is_stored(desk: Desk, preset: str) -> None:
    tally = Tally()
    part, webhook = route(desk, counts=tally), report_of(preset)
    forged = [webhook._replace(headers=CIMultiDict({"Content-Type": webhook.headers["Content-Type"]}))]
    if preset in ("plivo", "twilio", "telnyx"):
        forged.append(webhook._replace(body=webhook.body.replace(b"id-1", b"id-2")))
    for each in forged:
        with pytest.raises(ApiError) as caught:
            await post_webhook(part, preset, each)
        assert caught.value.status == 401
    assert desk.taken == []
    assert tally.counts == {(f"a-{preset}", "unauthenticated"): len(forged)}


@pytest.mark.parametrize("preset", ["plivo", "twilio", "telnyx"])
async def test_a_replay_is_answered_as_before_and_does_nothing(desk: Desk, preset: str) -> None:
    clock, tally = HandClock(START_MS), Tally()
    part, webhook = route(desk, clock, tally), report_of(preset)
    first = await post_webhook(part, preset, webhook)
    assert await post_webhook(part, preset, webhook) == first
    assert len(desk.taken) == 1
    assert tally.counts == {(f"a-{preset}", "taken"): 1, (f"a-{preset}", "repeated"): 1}
    other = await post_webhook(part, preset, report_of(preset, "sent"))
    assert (other["accepted"], len(desk.taken)) == (1, 2), "another report is not one"


async def test_what_could_not_be_stored_may_be_repeated(desk: Desk) -> None:
    part, webhook = route(desk), report_of("twilio")
    desk.away = True
    with pytest.raises(JournalUnavailable):
        await post_webhook(part, "twilio", webhook)
    desk.away = False
    assert (await post_webhook(part, "twilio", webhook))["accepted"] == 1


V2_URL = f"{PUBLIC_URL}/carriers/v2/reports"
SENT, FORGED = b"MessageUUID=a&Status=sent", b"MessageUUID=a&Status=delivered"


class V2:
    """A carrier that signs by Plivo's V2, which covers no form: only its nonce keeps one from being swapped."""

    def __init__(self, desk: Desk) -> None:
        carriers = {CarrierName("v2"): Acme("plivo", webhooks={"check": "plivo_v2"})}
        self.part = CarrierReports(carriers.get, desk.take, clock=HandClock(START_MS), counts=Tally())
        nonce = "1" * 20
        self._headers = {
            "X-Plivo-Signature-V2": sign_v2(V2_URL, nonce, "plivo-token"),
            "X-Plivo-Signature-V2-Nonce": nonce,
            "Content-Type": "application/x-www-form-urlencoded",
        }

    async def post(self, body: bytes) -> dict[str, Any]:
        return await post(self.part, body, headers=self._headers, carrier="v2")

    async def status(self, body: bytes) -> int:
        try:
            await self.post(body)
        except ApiError as error:
            return error.status
        return 200


async def test_another_form_with_a_nonce_that_was_used_is_forged(desk: Desk) -> None:
    v2 = V2(desk)
    assert (await v2.post(SENT))["accepted"] == 1
    assert await v2.status(FORGED) == 401
    assert len(desk.taken) == 1


async def test_another_form_with_a_nonce_is_forged_while_the_first_is_being_stored(desk: Desk) -> None:
    v2, desk.held = V2(desk), asyncio.Event()
    first = asyncio.create_task(v2.post(SENT))
    await asyncio.sleep(0)
    assert await v2.status(FORGED) == 401
    desk.held.set()
    assert (await first)["accepted"] == 1
    assert len(desk.taken) == 1


async def test_a_nonce_keeps_its_form_also_where_that_was_not_stored_or_not_understood(desk: Desk) -> None:
    for troubled in (b"MessageUUID=a&Status=eaten", SENT):
        v2 = V2(desk)
        desk.away = troubled == SENT
        if desk.away:
            with pytest.raises(JournalUnavailable):
                await v2.post(troubled)
        else:
            assert await v2.status(troubled) == 400
        desk.away = False
        assert await v2.status(FORGED) == 401
        assert await v2.status(troubled) == (200 if troubled == SENT else 400), "the carrier's own repetition"


async def test_what_comes_twice_at_once_is_answered_twice(desk: Desk) -> None:
    """It makes one fact: what was taken already is told from what is new where reports are taken."""
    v2, desk.held = V2(desk), asyncio.Event()
    both = [asyncio.create_task(v2.post(SENT)) for _ in range(2)]
    await asyncio.sleep(0)
    desk.held.set()
    assert [each["accepted"] for each in await asyncio.gather(*both)] == [1, 1]


async def test_a_replay_is_told_what_was_refused_of_it(desk: Desk) -> None:
    part, webhook = route(desk), report_of("telnyx")
    item = orjson.loads(webhook.body)
    body = orjson.dumps([item, 7])
    signed = Telnyx().signed(body, now_ms=START_MS)
    first = await post(part, body, headers=signed, carrier="a-telnyx")
    assert first["refused"] == [{"index": 1, "error": "it is not an object"}]
    assert await post(part, body, headers=signed, carrier="a-telnyx") == first
    assert len(desk.taken) == 1


async def test_what_says_nothing_new_is_taken_so_that_it_does_not_come_again(desk: Desk) -> None:
    answer = await post_webhook(route(desk), "bandwidth", report_of("bandwidth")._replace(
        body=orjson.dumps([{"type": "message-received", "message": {"id": "in-1", "text": "Hi"}}])
    ))  # fmt: skip
    assert (answer["accepted"], answer["ignored"], answer["refused"]) == (0, 1, [])


async def test_a_form_that_is_none_is_named(desk: Desk) -> None:
    tally = Tally()
    error = await refusal(route(desk, counts=tally), b"a=1", headers={**RIGHT, "Content-Type": "text/plain"})
    assert (error.code, error.message) == ("invalid_parameter", "the body is not application/json")
    assert tally.counts == {("acme", "unreadable"): 1}
