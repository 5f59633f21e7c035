"""Streams of reports: over a fake stream where it is about lines, over real sockets where it is about the wire."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.call import BodyStream
from gateway.api.middleware import Front
from gateway.api.report_stream import BATCH_LINES_MAX, ReportStream
from gateway.api.reports import CarrierReports
from gateway.api.router import Router
from gateway.api.streams import CUT, DRAINING, IDLE, MISFRAMED, StreamEnded
from gateway.carriers.carrier import Report
from gateway.clock import SystemClock, SystemIds
from gateway.inbound import Taken
from gateway.settings import LimitsSettings, ServerSettings
from resolver.model import CarrierName
from storage.records import JournalUnavailable, OutcomeUnknown, StorageError
from tests.fakes.api_client import Client, serving
from tests.fakes.gateway_floor import Tally
from tests.fakes.templates import PRESETS, compiled

CARRIER = CarrierName("acme")
SETTINGS = ServerSettings(stream_idle_ms=1_000)
HEAD = (
    b"POST /carriers/acme/reports%b HTTP/1.1\r\nHost: a\r\nX-Sendpool-Secret: %b\r\n"
    b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
MIB = 1_048_576


class Chunks:
    """A body in pieces; `ends` is how it ends before its end."""

    is_draining = is_gone = False

    def __init__(self, chunks: Sequence[bytes], ends: str = "") -> None:
        self._chunks = list(chunks)
        self._ends = ends

    @property
    def has_ended(self) -> bool:
        return not self._chunks and not self._ends

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        if self._chunks:
            return self._chunks.pop(0)
        if self._ends:
            raise StreamEnded(self._ends)
        raise StopAsyncIteration

    def at_hand(self) -> bytes:
        return b""


class Desk:
    """Where reports are taken; after `good` batches it raises `trouble`."""

    def __init__(self, *, good: int = 1 << 30, trouble: StorageError | None = None) -> None:
        self.batches: list[list[Report]] = []
        self.held: asyncio.Event | None = None
        self._good, self._trouble = good, trouble

    async def take(self, carrier: CarrierName, reports: Sequence[Report]) -> Taken:
        assert carrier == CARRIER
        if len(self.batches) >= self._good:
            raise self._trouble or AssertionError
        self.batches.append(list(reports))
        if self.held is not None:
            await self.held.wait()
        unknown = sum(report.carrier_ref.startswith("unknown") for report in reports)
        return Taken(len(reports) - unknown, unknown)

    @property
    def refs(self) -> list[str]:
        return [report.carrier_ref for batch in self.batches for report in batch]


def line(ref: object, status: str = "delivered") -> bytes:
    return orjson.dumps({"id": ref, "status": status})


async def run(chunks: BodyStream, desk: Desk, *, answers_lines: bool = True) -> list[dict[str, Any]]:
    stream = ReportStream(CARRIER, compiled("json").webhooks, chunks, desk.take, answers_lines=answers_lines)
    said = b"".join([piece async for piece in stream.answers()])
    return [orjson.loads(each) for each in said.splitlines()]


async def test_every_line_is_answered_and_the_last_line_says_how_it_ended() -> None:
    desk = Desk()
    body = b"\n".join([line("a"), line("unknown-1", "sent"), b"{", b"", b"  ", line("b", "eaten"), line("c")])
    *answers, summary = await run(Chunks([body[:10], body[10:90], body[90:]]), desk)
    assert [(each["line"], each["ok"]) for each in answers] == [(1, True), (2, True), (3, False), (6, False), (7, True)]
    assert [each["error"] for each in answers if not each["ok"]] == ["it is no JSON", "its status is unknown"]
    assert summary == {"complete": True, "lines": 7, "accepted": 2, "unknown": 1, "ignored": 0, "refused": 2}
    assert desk.refs == ["a", "unknown-1", "c"]


async def test_an_empty_stream_is_whole() -> None:
    for chunks in ([], [b"\n\n \r\n"]):
        (summary,) = await run(Chunks(chunks), Desk())
        assert summary["complete"] is True
        assert summary["accepted"] == 0


async def test_a_line_too_long_is_refused_by_itself() -> None:
    desk = Desk()
    chunks = [line("a") + b"\n" + b"x" * 60_000, b"x" * 60_000, b"x\n" + line("b")]
    *answers, summary = await run(Chunks(chunks), desk)
    assert [(each["line"], each["ok"]) for each in answers] == [(1, True), (2, False), (3, True)]
    assert "64 KiB" in answers[1]["error"]
    assert (desk.refs, summary["refused"]) == (["a", "b"], 1)


async def test_reports_are_taken_by_the_hundred() -> None:
    desk = Desk()
    body = b"\n".join(line(place) for place in range(1_234))
    *answers, summary = await run(Chunks([body]), desk)
    assert [len(batch) for batch in desk.batches] == [BATCH_LINES_MAX, BATCH_LINES_MAX, 234]
    assert [each["line"] for each in answers] == list(range(1, 1_235))
    assert summary["accepted"] == 1_234


async def test_only_the_summary_is_said_to_who_asks_for_it() -> None:
    (summary,) = await run(Chunks([line("a") + b"\n" + b"{"]), Desk(), answers_lines=False)
    assert (summary["accepted"], summary["refused"], summary["complete"]) == (1, 1, True)


@pytest.mark.parametrize(
    ("ends", "code"), [(IDLE, "body_timeout"), (CUT, "bad_request"), (MISFRAMED, "bad_request"), (DRAINING, "stopping")]
)
async def test_a_stream_that_ends_before_its_end_says_what_was_taken(ends: str, code: str) -> None:
    desk = Desk()
    answer, summary = await run(Chunks([line("a") + b"\n" + line("b")[:5]], ends), desk)
    assert (answer["line"], desk.refs) == (1, ["a"]), "half a line is none"
    assert (summary["complete"], summary["lines"], summary["code"]) == (False, 1, code)


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(JournalUnavailable("away"), "storage_unavailable"), (OutcomeUnknown("who knows"), "outcome_unknown")],
)
async def test_when_the_database_goes_away_what_was_answered_is_stored_and_no_more(
    trouble: StorageError, code: str
) -> None:
    desk = Desk(good=1, trouble=trouble)
    body = b"\n".join(line(place) for place in range(600))
    *answers, summary = await run(Chunks([body]), desk)
    assert len(answers) == BATCH_LINES_MAX
    assert (summary["complete"], summary["code"], summary["lines"]) == (False, code, BATCH_LINES_MAX)


async def test_when_it_is_away_from_the_start_that_is_the_answer() -> None:
    with pytest.raises(JournalUnavailable):
        await run(Chunks([line("a")]), Desk(good=0, trouble=JournalUnavailable("away")))


@given(
    lines=st.lists(
        st.binary(max_size=30).filter(lambda each: b"\n" not in each) | st.integers(0, 99).map(line), max_size=20
    ),
    cuts=st.lists(st.integers(0, 600), max_size=6),
)
async def test_wherever_the_body_is_cut_every_line_is_answered_once(lines: list[bytes], cuts: list[int]) -> None:
    body = b"\n".join(lines)
    at = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    chunks = [body[begin:end] for begin, end in pairwise(at)]
    desk = Desk()
    *answers, summary = await run(Chunks(chunks), desk)
    filled = [number for number, each in enumerate(lines, 1) if each.strip(b" \t\r\x0b\x0c")]
    said = [each["line"] for each in answers]
    assert said == sorted(set(said))
    assert set(filled) <= {*said, 1}, "but for a byte order mark, which falls off"
    assert summary["accepted"] + summary["refused"] == len(said)
    assert len(desk.refs) == summary["accepted"]


class Endless(Chunks):
    """A body of `count` chunks that are made as they are asked for."""

    def __init__(self, chunk: bytes, count: int) -> None:
        super().__init__([])
        self._chunk, self._left = chunk, count

    async def __anext__(self) -> bytes:
        if self._left == 0:
            raise StopAsyncIteration
        self._left -= 1
        return self._chunk


async def test_memory_holds_one_batch_however_long_the_stream_is() -> None:
    async def take(carrier: CarrierName, reports: Sequence[Report]) -> Taken:
        return Taken(len(reports), 0)

    piece = b"".join(line(place) + b"\n" for place in range(300)) + b"{\n" * 200
    peaks = []
    for count in (20, 200):
        stream = ReportStream(CARRIER, compiled("json").webhooks, Endless(piece, count), take, answers_lines=True)
        gc.collect()  # what other tests left is not counted when it goes
        tracemalloc.start()
        async for _ in stream.answers():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + MIB  # 90,000 lines more: not twelve bytes for each, whenever cycles are looked for
    assert peaks[1] < 2 * MIB


# --- Over a connection ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def door(desk: Desk, preset: str = "json", settings: ServerSettings = SETTINGS) -> AsyncIterator[Client]:
    class Acme:
        webhooks = compiled(preset).webhooks

    carriers = {CARRIER: Acme()}
    routes = CarrierReports(carriers.get, desk.take, clock=SystemClock(), counts=Tally()).routes()
    front = Front(
        Router(routes), {}, clock=SystemClock(), ids=SystemIds(), server=settings, limits=LimitsSettings()
    )  # fmt: skip
    async with serving(front, settings) as made:
        yield made


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        length = int(await reader.readuntil(b"\r\n"), 16)
        return (await reader.readexactly(length + 2))[:-2]


async def test_a_line_is_answered_before_the_next_one_is_sent() -> None:
    desk = Desk()
    async with door(desk) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(HEAD % (b"", b"s3cret") + framed(line("a") + b"\n"))
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"application/x-ndjson" in head
        assert await read_chunk(reader) == b'{"line":1,"ok":true}\n'
        writer.write(framed(line("b") + b"\n"))
        assert await read_chunk(reader) == b'{"line":2,"ok":true}\n'
        writer.write(framed(b""))
        assert orjson.loads(await read_chunk(reader))["complete"] is True
        assert await read_chunk(reader) == b""
        writer.close()
    assert desk.refs == ["a", "b"]


async def test_nothing_is_answered_before_it_is_stored_and_nothing_more_is_read() -> None:
    desk = Desk()
    desk.held = asyncio.Event()
    async with door(desk) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(HEAD % (b"", b"s3cret"))
        piece = framed(b"".join(line(f"ref-{place}") + b"\n" for place in range(1_000)))
        sent = 0
        try:
            async with asyncio.timeout(0.5):
                while sent < 100 * MIB:
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
        except TimeoutError:
            pass
        assert sent < 30 * MIB, "sockets hold some; the gateway holds one batch"
        assert len(desk.batches) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
        writer.transport.abort()


async def test_a_silent_carrier_is_told_so() -> None:
    desk = Desk()
    async with door(desk) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(HEAD % (b"", b"s3cret") + framed(line("a") + b"\n" + line("b")[:4]))
        async with asyncio.timeout(5):
            await reader.readuntil(b"\r\n\r\n")
        await read_chunk(reader)
        said = orjson.loads(await read_chunk(reader))
        assert (said["complete"], said["code"], said["accepted"]) == (False, "body_timeout", 1)
        writer.close()


@pytest.mark.parametrize("secret", [b"", b"s3cre", b"no carrier has this secret"])
async def test_strangers_are_refused_before_anything_is_read(secret: bytes) -> None:
    desk = Desk()
    async with door(desk) as client:
        answer = await client.first(HEAD % (b"", secret) + framed(line("a")))
        assert answer.startswith(b"HTTP/1.1 401 ")
        answer = await client.first((HEAD % (b"", secret)).replace(b"acme", b"nobody") + framed(line("a")))
        assert answer.startswith(b"HTTP/1.1 401 ")
    assert desk.batches == []


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset in ("plivo", "twilio", "telnyx")])
async def test_carriers_that_sign_bodies_have_no_streams(preset: str) -> None:
    desk = Desk()
    async with door(desk, preset) as client:
        answer = await client.first(HEAD % (b"", b"s3cret") + framed(line("a")))
        assert answer.startswith(b"HTTP/1.1 401 ")
    assert desk.batches == []


async def test_trouble_at_the_first_line_is_an_answer_as_always() -> None:
    async with door(Desk(good=0, trouble=JournalUnavailable("away"))) as client:
        answer = await client.first(HEAD % (b"", b"s3cret") + framed(line("a")) + framed(b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"storage_unavailable" in answer


async def test_a_carrier_that_reads_when_it_has_written_asks_for_the_end_alone() -> None:
    desk = Desk()
    async with door(desk) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(HEAD % (b"?answers=end", b"s3cret"))
        for _ in range(20):
            writer.write(framed(b"".join(line("a") + b"\n" for _ in range(1_000))))
            await writer.drain()
        writer.write(framed(b""))
        async with asyncio.timeout(5):
            await reader.readuntil(b"\r\n\r\n")
        said = orjson.loads(await read_chunk(reader))
        assert (said["complete"], said["accepted"]) == (True, 20_000)
        writer.close()
