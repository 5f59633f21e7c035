"""A stream of reports over a real connection and a real PostgreSQL: a line is answered when its fact can be read."""

from __future__ import annotations

import asyncio

import orjson

from gateway.api.middleware import Front
from gateway.api.reports import CarrierReports
from gateway.api.router import Router
from gateway.carriers.webhooks import json_webhooks
from gateway.clock import SystemClock, SystemIds
from gateway.settings import LimitsSettings, ServerSettings
from storage.database import Database
from storage.records import State
from tests.fakes.api_client import serving
from tests.fakes.entries import ACCOUNT, SIMULATED
from tests.fakes.gateway_floor import Tally
from tests.integration.test_reports_and_callbacks import running

HEAD = (
    b"POST /carriers/%b/reports HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n"
    b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Posting:
    webhooks = json_webhooks("s3cret", "carriers.simulated")


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        length = int(await reader.readuntil(b"\r\n"), 16)
        return (await reader.readexactly(length + 2))[:-2]


async def test_each_line_is_answered_once_its_fact_is_stored_and_repeats_make_none(database: Database) -> None:
    async with running(database) as gateway:
        routes = CarrierReports(
            {SIMULATED: Posting()}.get, gateway.reports.take, clock=SystemClock(), counts=Tally()
        ).routes()
        front = Front(
            Router(routes), {}, clock=SystemClock(), ids=SystemIds(), server=ServerSettings(), limits=LimitsSettings()
        )
        sent = [await gateway.sent(f"ref-{place}") for place in range(20)]
        async with serving(front) as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(HEAD % SIMULATED.encode())
            for place, message_id in enumerate(sent):
                line = orjson.dumps({"id": f"ref-{place}", "status": "delivered"}) + b"\n"
                writer.write(framed(line + line))
                if place == 0:
                    async with asyncio.timeout(10):
                        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                said = b""
                while said.count(b"\n") < 2:
                    said += await read_chunk(reader)
                numbers = [orjson.loads(each) for each in said.splitlines()]
                assert numbers == [{"line": 2 * place + 1, "ok": True}, {"line": 2 * place + 2, "ok": True}]
                stored = await gateway.archive.find(ACCOUNT, message_id)
                assert stored is not None
                assert stored.state is State.DELIVERED
                assert [fact.kind for fact in stored.facts] == ["sent", "delivered"]
            writer.write(framed(b'{"id": "nobody", "status": "sent"}') + framed(b""))
            assert await read_chunk(reader) == b'{"line":41,"ok":true}\n'
            assert orjson.loads(await read_chunk(reader)) == {
                "complete": True, "lines": 41, "accepted": 40, "unknown": 1, "ignored": 0, "refused": 0,
            }  # fmt: skip
            writer.close()
