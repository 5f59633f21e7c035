"""Nothing on the event loop blocks: no file, no name, no lock is waited for where everybody else would wait too."""

from __future__ import annotations

import asyncio
import time

import pytest
from blockbuster import BlockingError, blockbuster_ctx

from storage.database import Database
from tests.integration.test_api import RECIPIENT, running

OURS = ["gateway", "resolver", "storage"]


async def test_a_call_that_blocks_is_found() -> None:
    with blockbuster_ctx(), pytest.raises(BlockingError):
        time.sleep(0.01)


async def test_no_request_of_any_kind_blocks(database: Database) -> None:
    with blockbuster_ctx(OURS) as watch:
        for name in ("os.stat", "io.TextIOWrapper.read", "io.BufferedReader.read"):
            # asyncpg looks for a file of passwords whenever it connects: once for each of a handful of connections.
            watch.functions[name].can_block_in("asyncpg/connect_utils.py", {"_read_password_file"})
        async with running(database) as (stack, api):
            many = "<".join(f"+1415{2_000_000 + place}" for place in range(300))
            requests = [
                ("POST", "Message/", stack.body()),
                ("POST", "Message/", stack.body(dst=many)),
                ("POST", "Message/", stack.body(dst="<".join(f"+4479111234{place:02d}" for place in range(50)))),
                ("POST", "Message/", stack.body(text="€" * 700, url="https://example.com/a")),
                ("POST", "Message/", {"text": "a"}),
                ("GET", "Message/", None),
                ("GET", "Message/?message_state=queued&limit=20", None),
                ("POST", "Powerpack/", {"name": "other"}),
                ("GET", f"Powerpack/{stack.powerpack_id}/", None),
                ("POST", f"Powerpack/{stack.powerpack_id}/", {"sticky_sender": False}),
                (
                    "POST",
                    f"Powerpack/{stack.powerpack_id}/Resolve/",
                    {"dst": RECIPIENT, "text": "Hello", "steps": True},
                ),
            ]
            for _ in range(3):
                got = await asyncio.gather(*(api.send(method, path, body) for method, path, body in requests))
                assert {each.status for each in got} <= {200, 202, 400, 409}, got
            key = {"Idempotency-Key": "k"}
            for _ in range(2):
                assert (await api.send("POST", "Message/", stack.body(), **key)).status == 202
            sent = await api.send("POST", "Message/", stack.body())
            assert (await api.send("DELETE", f"Message/{sent.body['message_uuid'][0]}/")).status == 200
