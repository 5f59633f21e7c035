"""Bulks over a real socket and a journal in memory: every kind of line, and every way a stream can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.lines import LINE_BYTES_MAX
from resolver.model import E164, NumberType
from storage.records import Settled
from tests.fakes.accept_floor import FIRST, POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, Client, Got, basic
from tests.fakes.api_floor import ApiFloor

BULK = "Message/Bulk/"
RECIPIENT = "+14155550199"


def recipient(place: int) -> str:
    return f"+1415556{place:04d}"


def line(**changes: object) -> bytes:
    values = {"powerpack_uuid": POWERPACK, "dst": RECIPIENT, "text": "Hello", **changes}
    return orjson.dumps({name: value for name, value in values.items() if value is not ...})


def lines(count: int, *, first: int = 0) -> bytes:
    return b"".join(line(dst=recipient(place)) + b"\n" for place in range(first, first + count))


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[ApiFloor, Client]]:
    floor = ApiFloor(numbers=50, **options)
    async with floor.serving() as api:
        yield floor, api


async def send(api: Client, body: bytes, *, key: str = "", **query: str) -> Got:
    headers = {"Content-Type": "application/x-ndjson", **({"Idempotency-Key": key} if key else {})}
    return await api.post(f"{BULK}?{urlencode(query)}", raw=body, headers=headers)


async def listed(api: Client, bulk_id: str, authorization: str | None = None) -> list[dict[str, Any]]:
    """What the gateway tells of a bulk afterwards."""
    head = f"GET /v1/Account/{ACCOUNT}/{BULK}{bulk_id}/ HTTP/1.0\r\nHost: a\r\nAuthorization: {basic()}\r\n\r\n"
    answer = await api.raw(head.encode())
    head_lines, _, body = answer.partition(b"\r\n\r\n")
    assert b"200 OK" in head_lines
    assert b"application/x-ndjson" in head_lines
    return [orjson.loads(each) for each in body.splitlines()]


def counts(got: Got) -> tuple[bool, int, int, int, int]:
    body = got.body
    return body["complete"], body["lines"], body["accepted"], body["refused"], body["replayed"]


def stored_lines(floor: ApiFloor) -> list[tuple[int, str]]:
    return [(row.line, row.recipient) for entry in floor.journal.committed for row in entry.messages]


# --- What is taken ----------------------------------------------------------------------------------------------------


async def test_a_bulk_is_stored_and_its_lines_are_listed_afterwards() -> None:
    body = lines(2) + line(dst="nobody") + b"\n" + lines(1, first=2)
    async with served() as (floor, api):
        got = await send(api, body)
        answers = await listed(api, got.body["bulk_id"])
    assert got.status == 202
    assert counts(got) == (True, 4, 3, 1, 0)
    assert [each["line"] for each in answers] == [1, 2, 3, 4]
    rows = {row.line: row for entry in floor.journal.committed for row in entry.messages}
    for place, answer in ((1, answers[0]), (2, answers[1]), (4, answers[3])):
        assert list(answer) == ["line", "message_uuid", "from", "tier", "segments", "send_at"]
        assert answer["message_uuid"] == rows[place].message_id
        assert "+" + answer["from"] == rows[place].number
        assert answer["send_at"].endswith("Z")
    assert (answers[2]["code"], "'nobody'" in answers[2]["error"]) == ("invalid_destination", True)
    assert list(answers[2]) == ["line", "code", "error"]


async def test_many_lines_are_stored_in_stretches_with_one_body_each_where_they_say_the_same() -> None:
    async with served() as (floor, api):
        got = await send(api, lines(1_200))
        answers = await listed(api, got.body["bulk_id"])
    assert counts(got) == (True, 1_200, 1_200, 0, 0)
    entries = floor.journal.committed
    assert all(len(entry.bodies) == 1 and len(entry.messages) <= 500 for entry in entries)
    stretches = [entry.stretch for entry in entries if entry.stretch is not None]
    assert sum(each.lines for each in stretches) == 1_200
    assert all(each.first_line == before.first_line + before.lines for before, each in pairwise(stretches))
    assert [each["line"] for each in answers] == list(range(1, 1_201))
    assert stored_lines(floor) == [(place + 1, recipient(place)) for place in range(1_200)]


async def test_each_line_may_say_something_else_and_all_of_it_is_stored() -> None:
    body = b"\n".join(
        [
            line(text="a", reference="r", url="https://example.com/", method="GET", log="false"),
            line(text="b", priority="urgent", patience_ms=5, message_expiry=60, on_unknown="fail"),
            line(text="a", reference="r", url="https://example.com/", method="GET", log="false", dst=14155550198),
        ]
    )
    async with served() as (floor, api):
        got = await send(api, body)
    assert counts(got) == (True, 3, 3, 0, 0)
    (entry,) = floor.journal.committed
    first, second = entry.bodies
    assert (first.text, first.callback_url, first.callback_method, first.log) == (
        "a",
        "https://example.com/",
        "GET",
        "false",
    )
    assert (second.text, second.patience_ms, second.validity_ms, second.on_unknown) == ("b", 5, 60_000, "fail")
    assert [row.request_id for row in entry.messages] == [first.request_id, second.request_id, first.request_id]
    assert [row.priority for row in entry.messages] == ["bulk", "urgent", "bulk"]
    assert [each.sequence for each in entry.callbacks] == [1, 1]
    assert first.requester_ip == "127.0.0.1"


async def test_what_a_line_does_not_say_comes_from_the_query() -> None:
    body = b'{"dst":"+14155550199"}\n{"dst":"+14155550198","text":"own","reference":null,"powerpack_uuid":""}\n'
    async with served() as (floor, api):
        got = await send(api, body, powerpack_uuid=POWERPACK, text="shared", reference="r", message_expiry="60")
    assert counts(got) == (True, 2, 2, 0, 0)
    (entry,) = floor.journal.committed
    assert [body.text for body in entry.bodies] == ["shared", "own"]
    assert [row.reference for row in entry.messages] == ["r", "r"]
    assert [body.validity_ms for body in entry.bodies] == [60_000, 60_000]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"powerpak_uuid": "x"}, "invalid_parameter"),
        ({"answers": "later"}, "invalid_parameter"),
        ({"priority": "high"}, "invalid_parameter"),
        ({"message_expiry": "4"}, "invalid_parameter"),
        ({"url": "ftp://example.com"}, "invalid_url"),
        ({"type": "mms"}, "not_supported_yet"),
    ],
)
async def test_a_query_that_would_spoil_every_line_is_refused_at_once(query: Mapping[str, str], code: str) -> None:
    async with served() as (floor, api):
        got = await send(api, lines(2), **query)
    assert (got.status, got.body["code"]) == (400, code)
    assert not floor.journal.committed


# --- What is refused line by line -------------------------------------------------------------------------------------

LINES: dict[str, tuple[bytes, str | None]] = {
    "plain": (line(), None),
    "carriage return": (line() + b"\r", None),
    "blanks around": (b" \t" + line() + b"  ", None),
    "unknown keys": (line(trackable=True, nonsense=[1]), None),
    "no JSON": (b"Hello", "invalid_json"),
    "no object": (b"[1]", "invalid_json"),
    "half an object": (line()[:-1], "invalid_json"),
    "two objects": (line() + line(), "invalid_json"),
    "not UTF-8": (line().replace(b"Hello", b"\xff"), "invalid_json"),
    "UTF-16": (line().decode().encode("utf-16-le").replace(b"\n", b""), "invalid_json"),
    "NUL byte": (line() + b"\0", "invalid_json"),
    "NUL in the text": (line(text="a\0b"), "invalid_character"),
    "NUL in the reference": (line(reference="a\0b"), "invalid_character"),
    "half a surrogate pair": (line().replace(b"Hello", b"\\ud83d"), "invalid_character"),
    "half a surrogate pair in the reference": (line(reference="x").replace(b'"x"', b'"\\udc00"'), "invalid_character"),
    "too long": (line(text="x" * LINE_BYTES_MAX), "line_too_long"),
    "text too long": (line(text="x" * 1_601), "too_long"),
    "text empty": (line(text=""), "invalid_text"),
    "no text": (line(text=...), "missing_parameter"),
    "no recipient": (line(dst=...), "missing_parameter"),
    "recipient null": (line(dst=None), "missing_parameter"),
    "two recipients": (line(dst="+14155550101<+14155550102"), "several_recipients"),
    "foreign": (line(dst="+442071838750"), "destination_barred"),
    "our own number": (line(dst="+14155550100"), "destination_is_source"),
    "powerpack of nobody": (line(powerpack_uuid="0193a1b2-0000-7000-8000-0000000000ff"), "not_found"),
    "no powerpack": (line(powerpack_uuid=...), "src_or_powerpack"),
    "from a number": (line(powerpack_uuid=..., src="+1 415 555 0100"), None),
    "from a number and a powerpack": (line(src="+14155550100"), "src_or_powerpack"),
    "from a number of nobody": (line(powerpack_uuid=..., src="+14155559999"), "src_not_allowed"),
    "from a name": (line(powerpack_uuid=..., src="Sendpool"), "invalid_src"),
    "from a number to itself": (line(powerpack_uuid=..., src=RECIPIENT), "destination_is_source"),
    "wrong type": (line(text=5), "invalid_parameter"),
    "wrong priority": (line(priority="high"), "invalid_parameter"),
    "media": (line(media_urls=["https://example.com/a.png"]), "not_supported_yet"),
    "template": (line(template={"name": "x"}), "not_supported_yet"),
    "bad url": (line(url="nowhere"), "invalid_url"),
    "deep": (b'{"template":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "invalid_json"),
}


async def test_every_bad_line_is_refused_by_itself_with_its_code() -> None:
    body = b"\n".join(raw for raw, _ in LINES.values()) + b"\n"
    async with served() as (floor, api):
        got = await send(api, body)
        answers = await listed(api, got.body["bulk_id"])
    codes = {name: answer.get("code") for name, answer in zip(LINES, answers, strict=True)}
    assert codes == {name: code for name, (_, code) in LINES.items()}
    assert all(answer["error"] for answer in answers if "code" in answer)
    accepted = sum(code is None for _, code in LINES.values())
    assert counts(got) == (True, len(LINES), accepted, len(LINES) - accepted, 0)
    assert len(stored_lines(floor)) == accepted


@pytest.mark.parametrize("name", LINES)
async def test_each_line_alone_is_answered_as_among_others(name: str) -> None:
    raw, code = LINES[name]
    async with served() as (_, api):
        got = await send(api, raw)
        (answer,) = await listed(api, got.body["bulk_id"])
    assert answer.get("code") == code
    assert got.body["refused"] == (code is not None)


async def test_blank_lines_are_passed_over_and_counted() -> None:
    body = b"\n\r\n" + line() + b"\n  \n\n" + line(dst=recipient(1)) + b"\n\n"
    async with served() as (_, api):
        got = await send(api, body)
        answers = await listed(api, got.body["bulk_id"])
    assert counts(got) == (True, 7, 2, 0, 0)
    assert [each["line"] for each in answers] == [3, 6]


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf"])
async def test_an_empty_stream_is_an_error(body: bytes) -> None:
    async with served() as (floor, api):
        got = await send(api, body)
        streamed = await send(api, body, answers="stream")
    assert (got.status, got.body["code"]) == (400, "empty_stream")
    assert (streamed.status, streamed.body["code"]) == (400, "empty_stream")
    assert not floor.journal.committed


async def test_a_byte_order_mark_and_a_missing_end_of_the_last_line_do_no_harm() -> None:
    async with served() as (_, api):
        got = await send(api, b"\xef\xbb\xbf" + line() + b"\r\n" + line(dst=recipient(1)))
    assert counts(got) == (True, 2, 2, 0, 0)


async def test_state_refusals_are_listed_with_when_to_try_again_and_not_stored() -> None:
    body = b"".join(line(dst=recipient(place), message_expiry=5) + b"\n" for place in range(300))
    async with served() as (floor, api):
        got = await send(api, body)
        answers = await listed(api, got.body["bulk_id"])
    refused = [each for each in answers if "code" in each]
    assert {each["code"] for each in refused} == {"no_capacity"}
    assert all(each["retry_at"].endswith("Z") for each in refused)
    assert 200 <= got.body["accepted"] <= 299
    assert len(stored_lines(floor)) == got.body["accepted"] == 300 - len(refused)


@given(st.lists(st.binary(max_size=80) | st.sampled_from([raw for raw, _ in LINES.values()]), max_size=12))
@settings(max_examples=60, deadline=None)
def test_whatever_lines_come_each_is_accepted_refused_or_blank(raws: list[bytes]) -> None:
    body = b"\n".join(raws)

    async def run() -> None:
        async with served() as (floor, api):
            got = await send(api, body)
            if got.status == 400:
                assert got.body["code"] == "empty_stream"
                return
            answers = await listed(api, got.body["bulk_id"])
            assert got.body["accepted"] + got.body["refused"] == len(answers)
            pieces = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")
            filled = [place for place, raw in enumerate(pieces, 1) if raw and not raw.isspace()]
            assert [each["line"] for each in answers] == filled
            assert len(stored_lines(floor)) == got.body["accepted"]
            for entry in floor.journal.committed:
                orjson.dumps(entry.stretch and entry.stretch.refused_errors)  # raises for what cannot be stored

    asyncio.run(run())


# --- Answers with the stream ------------------------------------------------------------------------------------------


class Talk:
    """A client that reads while it writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def begin(cls, api: Client, *, key: str = "", **query: str) -> Talk:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=2**20)
        path = f"/v1/Account/{ACCOUNT}/{BULK}?{urlencode(query)}"
        lines = [f"POST {path} HTTP/1.1", "Host: a", f"Authorization: {basic()}", "Transfer-Encoding: chunked"]
        lines += [f"Idempotency-Key: {key}"] if key else []
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return cls(reader, writer)

    async def say(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    def vanish(self) -> None:
        self._writer.transport.abort()

    async def hear(self) -> list[dict[str, Any]]:
        """The lines of the next piece, [] at the end; the head is skipped."""
        async with asyncio.timeout(10):
            size = await self._reader.readline()
            while b":" in size or b"HTTP" in size or size == b"\r\n":
                size = await self._reader.readline()
            data = await self._reader.readexactly(int(size, 16) + 2)
        return [orjson.loads(each) for each in data[:-2].splitlines()]

    async def summary(self) -> dict[str, Any]:
        """The answer of a stream that is answered at its end."""
        async with asyncio.timeout(10):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            found: dict[str, Any] = orjson.loads(await self._reader.readexactly(length))
        return {"status": int(head[9:12]), **found}

    def close(self) -> None:
        self._writer.close()


async def test_with_answers_asked_for_each_line_is_answered_once_it_is_committed() -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api, answers="stream")
        for place in range(3):
            await talk.say(line(dst=recipient(place)) + b"\n")
            (answer,) = await talk.hear()
            assert answer["line"] == place + 1
            assert stored_lines(floor)[-1] == (place + 1, recipient(place))
            assert floor.journal.committed[-1].messages[0].message_id == answer["message_uuid"]
        await talk.say(b"no json\n")
        assert [each["code"] for each in await talk.hear()] == ["invalid_json"]
        await talk.say(b"")
        (summary,) = await talk.hear()
        assert await talk.hear() == []
        told = await listed(api, summary["bulk_id"])
        talk.close()
    assert (summary["complete"], summary["lines"], summary["accepted"]) == (True, 4, 3)
    assert len(told) == 4


async def test_answers_that_were_streamed_are_those_that_are_listed() -> None:
    async with served() as (_, api):
        talk = await Talk.begin(api, answers="stream")
        await talk.say(b"".join(raw + b"\n" for raw, _ in LINES.values()) + lines(700))
        await talk.say(b"")
        heard: list[dict[str, Any]] = []
        while got := await talk.hear():
            heard += got
        summary = heard.pop()
        assert heard == await listed(api, summary["bulk_id"])
        talk.close()


# --- How streams end --------------------------------------------------------------------------------------------------


async def test_a_draining_gateway_ends_a_stream_with_what_is_committed() -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api)
        await talk.say(lines(3))
        await asyncio.sleep(0.1)
        floor.front.drain()
        summary = await talk.summary()
        talk.close()
    assert (summary["status"], summary["complete"], summary["lines"], summary["code"]) == (202, False, 3, "stopping")
    assert len(stored_lines(floor)) == 3


async def test_a_stream_in_which_nothing_comes_ends_with_what_is_committed() -> None:
    async with served(stream_idle_ms=200) as (_, api):
        talk = await Talk.begin(api)
        await talk.say(lines(3) + b'{"half')
        summary = await talk.summary()
        talk.close()
    assert (summary["complete"], summary["lines"], summary["code"]) == (False, 3, "body_timeout")


async def test_with_no_room_a_stream_waits_unread_and_goes_on_when_there_is() -> None:
    async with served() as (floor, api):
        floor.journal.waiting_rows = 20_000
        talk = await Talk.begin(api)
        await talk.say(lines(3))
        await asyncio.sleep(0.1)
        assert floor.journal.appended == 0
        floor.journal.waiting_rows = 0
        await talk.say(b"")
        summary = await talk.summary()
        talk.close()
    assert (summary["complete"], summary["lines"]) == (True, 3)


async def test_with_no_room_for_too_long_a_stream_ends_and_without_a_line_it_is_an_error() -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api)
        await talk.say(lines(3))
        await asyncio.sleep(0.1)
        floor.resolver.waiting_max = 4
        await talk.say(lines(3, first=3))
        summary = await talk.summary()
        talk.close()
        other = await Talk.begin(api)
        await other.say(lines(3))
        nothing = await other.summary()
        other.close()
    assert (summary["status"], summary["complete"], summary["lines"], summary["code"]) == (202, False, 3, "overloaded")
    assert (nothing["status"], nothing["code"]) == (503, "overloaded")
    assert len(stored_lines(floor)) == 3


async def test_the_last_of_the_room_is_for_those_who_send_one_by_one() -> None:
    async with served() as (floor, api):
        floor.resolver.waiting_max = 100
        refused = await send(api, lines(99))
        taken = await send(api, lines(98))
        single = await api.post("Message/", {"powerpack_uuid": POWERPACK, "dst": RECIPIENT, "text": "x"})
    assert (refused.status, taken.status, single.status) == (503, 202, 202)


async def test_a_database_that_comes_back_in_time_costs_nothing_but_the_wait() -> None:
    async with served() as (floor, api):
        floor.journal.go_away()
        talk = await Talk.begin(api)
        await talk.say(lines(3))
        await talk.say(b"")
        await asyncio.sleep(0.1)
        floor.journal.verdicts.append(Settled.FAILED)
        floor.journal.come_back()
        summary = await talk.summary()
        talk.close()
    assert (summary["complete"], summary["lines"], summary["accepted"]) == (True, 3, 3)
    assert len(stored_lines(floor)) == len(floor.resolver.open) == 3


async def test_lines_the_database_refuses_are_found_and_refused_alone() -> None:
    async with served() as (floor, api):
        floor.journal.poison = lambda entry: any(row.recipient.endswith("0007") for row in entry.messages)
        got = await send(api, lines(20))
        answers = await listed(api, got.body["bulk_id"])
    assert counts(got) == (True, 20, 19, 1, 0)
    assert [(each["line"], each["code"]) for each in answers if "code" in each] == [(8, "invalid_data")]
    assert [each["line"] for each in answers] == list(range(1, 21))
    assert len(floor.resolver.open) == 19


async def test_a_client_that_vanishes_leaves_what_was_committed_and_nothing_half() -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api)
        await talk.say(lines(3) + b'{"half')
        await asyncio.sleep(0.1)
        talk.vanish()
        await asyncio.sleep(0.1)
        got = await send(api, lines(1, first=3))
    assert got.status == 202
    assert len(stored_lines(floor)) == len(floor.resolver.open) == 4


# --- Idempotency-Key --------------------------------------------------------------------------------------------------


async def test_a_repeated_bulk_is_answered_as_before_and_stored_once() -> None:
    body = lines(1_100) + b"no json\n"
    async with served() as (floor, api):
        first = await send(api, body, key="k")
        again = await send(api, body, key="k")
    assert counts(first) == (True, 1_101, 1_100, 1, 0)
    assert counts(again) == (True, 1_101, 1_100, 1, 1_101)
    assert first.body["bulk_id"] == again.body["bulk_id"]
    assert len(stored_lines(floor)) == 1_100


@pytest.mark.parametrize("taken", [1, 500, 700])
async def test_a_cut_stream_is_repeated_from_its_start_and_goes_on_where_it_was_cut(taken: int) -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api, key="k")
        await talk.say(lines(taken) + line()[:20])
        await asyncio.sleep(0.3)
        talk.vanish()
        await asyncio.sleep(0.05)
        assert len(stored_lines(floor)) == taken
        got = await send(api, lines(1_000), key="k")
        answers = await listed(api, got.body["bulk_id"])
    assert counts(got) == (True, 1_000, 1_000, 0, taken)
    assert stored_lines(floor) == [(place + 1, recipient(place)) for place in range(1_000)]
    assert [each["line"] for each in answers] == list(range(1, 1_001))


async def test_a_repeat_with_answers_gives_those_of_the_first_try_too() -> None:
    async with served() as (_, api):
        first = await send(api, lines(3) + b"no json\n", key="k")
        talk = await Talk.begin(api, key="k", answers="stream")
        await talk.say(lines(3) + b"no json\n" + lines(2, first=3))
        await talk.say(b"")
        heard: list[dict[str, Any]] = []
        while got := await talk.hear():
            heard += got
        told = await listed(api, first.body["bulk_id"])
        talk.close()
    summary = heard.pop()
    assert (summary["replayed"], summary["lines"]) == (4, 6)
    assert heard == told


@pytest.mark.parametrize(
    "body", [lines(3, first=1), lines(2), lines(2) + b"\n" + lines(1, first=2), lines(3).replace(b"Hello", b"Hallo")]
)
async def test_a_repeat_with_other_lines_is_refused_and_nothing_of_it_is_stored(body: bytes) -> None:
    async with served() as (floor, api):
        await send(api, lines(3), key="k")
        got = await send(api, body, key="k")
        talk = await Talk.begin(api, key="k", answers="stream")
        await talk.say(body)
        await talk.say(b"")
        streamed = await talk.summary()
        talk.close()
    assert (got.status, got.body["code"]) == (409, "idempotency_key_reused")
    assert (streamed["status"], streamed["code"]) == (409, "idempotency_key_reused")
    assert len(stored_lines(floor)) == 3


async def test_a_repeat_that_differs_late_says_so_in_its_last_line() -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api, key="k")
        for place in range(2):  # two stretches
            await talk.say(lines(2, first=2 * place))
            await asyncio.sleep(0.1)
        await talk.say(b"")
        await talk.summary()
        talk.close()
        talk = await Talk.begin(api, key="k", answers="stream")
        await talk.say(lines(2) + lines(2, first=10))
        await talk.say(b"")
        assert [each["line"] for each in await talk.hear()] == [1, 2]
        (last,) = await talk.hear()
        talk.close()
    assert (last["complete"], last["code"], last["lines"]) == (False, "idempotency_key_reused", 2)
    assert len(stored_lines(floor)) == 4


async def test_a_key_belongs_to_one_kind_of_request_with_one_query() -> None:
    message = {"powerpack_uuid": POWERPACK, "dst": RECIPIENT, "text": "x"}
    async with served() as (_, api):
        await send(api, lines(1), key="bulk")
        await api.post("Message/", message, headers={"Idempotency-Key": "single"})
        got = [
            await api.post("Message/", message, headers={"Idempotency-Key": "bulk"}),
            await send(api, lines(1), key="single"),
            await send(api, lines(1), key="bulk", reference="r"),
        ]
        same = await send(api, lines(1), key="bulk", answers="summary")
    assert [each.status for each in got] == [409] * 3
    assert same.status == 202


async def test_two_streams_with_one_key_do_not_run_at_once() -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api, key="k")
        await talk.say(lines(1))
        await asyncio.sleep(0.05)
        second = await send(api, lines(1), key="k")
        await talk.say(b"")
        first = await talk.summary()
        talk.close()
    assert (second.status, second.body["code"], second.headers["Retry-After"]) == (409, "idempotency_key_running", "1")
    assert first["complete"]
    assert len(stored_lines(floor)) == 1


async def test_while_nobody_knows_whether_lines_are_stored_the_key_is_held_and_then_goes_on_right() -> None:
    async with served() as (floor, api):
        talk = await Talk.begin(api, key="k")
        await talk.say(lines(2))
        await asyncio.sleep(0.1)
        floor.journal.answers_late = True
        await talk.say(lines(2, first=2))
        summary = await talk.summary()
        talk.close()
        floor.journal.answers_late = False
        early = await send(api, lines(4), key="k")
        await asyncio.sleep(1.1)  # the truth: it was stored
        late = await send(api, lines(5), key="k")
    assert (summary["complete"], summary["lines"], summary["code"]) == (False, 2, "outcome_unknown")
    assert (early.status, early.body["code"]) == (409, "idempotency_key_running")
    assert counts(late) == (True, 5, 5, 0, 4)
    assert stored_lines(floor) == [(place + 1, recipient(place)) for place in range(5)]


async def test_a_first_stretch_of_unknown_outcome_is_an_error_that_says_so() -> None:
    async with served() as (floor, api):
        floor.journal.answers_late = True
        got = await send(api, lines(2), key="k")
        floor.journal.answers_late = False
        await asyncio.sleep(1.1)
        again = await send(api, lines(2), key="k")
    assert (got.status, got.body["code"]) == (503, "outcome_unknown")
    assert counts(again) == (True, 2, 2, 0, 2)


class Faulty(dict[E164, str]):
    """Operators of which one cannot be told, by a fault of ours."""

    def get(self, recipient: E164, default: Any = None) -> Any:
        if recipient.endswith("1"):
            raise LookupError
        return default


async def test_a_key_is_free_again_after_a_fault_of_ours_while_its_lines_were_decided() -> None:
    async with served() as (floor, api):
        floor.operators = Faulty()
        got = await send(api, lines(3), key="k")
        floor.operators = {}
        again = await send(api, lines(3), key="k")
    assert (got.status, got.body["code"]) == (500, "internal")
    assert counts(again) == (True, 3, 3, 0, 0)


async def test_a_look_up_that_fails_stores_nothing() -> None:
    async with served() as (floor, api):
        floor.journal.look_ups_fail = 1
        got = await send(api, lines(2), key="k")
    assert (got.status, got.body["code"]) == (503, "storage_unavailable")
    assert not floor.journal.committed


# --- Reading a bulk ---------------------------------------------------------------------------------------------------


async def test_a_bulk_is_its_accounts_alone_and_an_unknown_one_is_absent() -> None:
    async with served() as (_, api):
        got = await send(api, lines(1))
        other = basic(OTHER_ACCOUNT)
        for path in (
            f"/v1/Account/{OTHER_ACCOUNT}/{BULK}{got.body['bulk_id']}/",
            f"/v1/Account/{OTHER_ACCOUNT}/{BULK}nonsense/",
        ):
            answer = await api.get(path, authorization=other)
            assert (answer.status, answer.body["code"]) == (404, "not_found")


async def test_single_requests_are_answered_while_streams_run() -> None:
    """A slower machine answers fewer, but none of them after all lines of all streams."""
    async with served() as (_, api):
        streams = [asyncio.create_task(send(api, lines(3_000))) for _ in range(4)]
        answered = 0
        while not any(each.done() for each in streams):
            got = await api.post("Message/", {"powerpack_uuid": POWERPACK, "dst": RECIPIENT, "text": "x"})
            assert got.status == 202
            answered += 1
        await asyncio.gather(*streams)
    assert answered >= 4


async def test_a_line_may_name_its_source_number_instead_of_a_powerpack() -> None:
    named = [line(src=src, powerpack_uuid=...) for src in (FIRST, "14155559999", "SENDPOOL")]
    body = b"\n".join([*named, line(src=FIRST), line(src=FIRST, powerpack_uuid=..., dst=FIRST)])
    async with served() as (floor, api):
        got = await send(api, body)
        answers = await listed(api, got.body["bulk_id"])
    assert counts(got) == (True, 5, 1, 4, 0)
    assert (answers[0]["from"], answers[0]["tier"]) == (FIRST[1:], "source")
    codes = [each["code"] for each in answers[1:]]
    assert codes == ["src_not_allowed", "invalid_src", "src_or_powerpack", "destination_is_source"]
    (row,) = [row for entry in floor.journal.committed for row in entry.messages]
    assert (row.powerpack_id, row.number) == (None, FIRST)


async def test_operators_are_asked_for_before_a_stretch_is_decided() -> None:
    async with served() as (floor, api):
        floor.add_number("+18005550100", number_type=NumberType.TOLL_FREE, powerpack_id=POWERPACK)
        floor.fill()
        await api.post(f"Powerpack/{POWERPACK}/", {"operator_types": {"Verizon": "longcode"}})
        floor.learnable = {E164(recipient(0)): "Verizon"}
        got = await send(api, lines(2), answers="stream")
    assert [each["from"][:4] for each in got.body["lines"][:2]] == ["1415", "1800"]
    assert floor.learnt == [E164(recipient(0)), E164(recipient(1))]
