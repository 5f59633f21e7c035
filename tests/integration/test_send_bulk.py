"""The example that sends a file, against a server that makes it difficult."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from aiohttp import web

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
SUMMARY = {"complete": True, "bulk_id": "b", "accepted": 1, "refused": 0}


class Ran(NamedTuple):
    """How the example ended."""

    code: int
    said: str
    rss_kib: int


class Server:
    """Answers a stream with the next status of `script`, and 202 at its end."""

    def __init__(self, script: list[int]) -> None:
        self.script = script
        self.keys: list[str] = []
        self.came: list[int] = []

    async def post(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers["Idempotency-Key"])
        count = 0
        async for chunk in request.content.iter_any():
            count += len(chunk)
        self.came.append(count)
        status = self.script.pop(0) if self.script else 202
        if status == 202:
            return web.json_response(SUMMARY, status=202)
        said = {"code": f"c{status}", "error": "no"}
        return web.json_response(said, status=status, headers={"Retry-After": "0"})

    async def get(self, _: web.Request) -> web.Response:
        return web.Response(body=b'{"line":1}\n')

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/Account/{id}/Message/Bulk/", self.post)
        app.router.add_get("/v1/Account/{id}/Message/Bulk/b/", self.get)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def send(server: Server, folder: Path, content: bytes, *, times: int = 1) -> Ran:
    file, demo = folder / "messages.ndjson", folder / "demo.json"
    with file.open("wb") as lines:
        for _ in range(times):
            lines.write(content)
    async with server.listening() as url:
        known = {"base_url": url, "auth_id": "MA", "auth_token": "t", "powerpack_uuid": "p"}
        demo.write_bytes(orjson.dumps(known))
        command = [sys.executable, str(ROOT / "examples/send_bulk.py"), str(file), "--demo-file", str(demo)]
        return await asyncio.to_thread(ran, command, folder / "said")


def ran(command: list[str], said: Path) -> Ran:
    """Run a command to its end; its resident memory counts as no less than ours."""
    with said.open("wb") as output:
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)]
        process = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        _, status, used = os.wait4(process, 0)
    return Ran(os.waitstatus_to_exitcode(status), said.read_text(), used.ru_maxrss)


async def test_it_repeats_what_may_be_repeated_with_the_same_key(tmp_path: Path) -> None:
    server = Server([408, 409, 429, 503])
    result = await send(server, tmp_path, b'{"dst": "+14155550123"}\n')
    assert result.code == 0, result.said
    assert "1 accepted, 0 refused" in result.said
    assert server.came == [24] * 5
    assert len(set(server.keys)) == 1
    assert "Warning" not in result.said


@pytest.mark.parametrize("status", [400, 401, 413])
async def test_it_ends_with_what_will_not_be_better_next_time(tmp_path: Path, status: int) -> None:
    server = Server([status])
    result = await send(server, tmp_path, b"x\n")
    assert (result.code, len(server.came)) == (1, 1)
    assert f"{status} c{status}: no" in result.said


async def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    short = await send(Server([]), tmp_path, b"{}\n")
    server = Server([])
    long = await send(server, tmp_path, b"{}\n" * MIB, times=64)
    assert server.came == [192 * MIB]
    assert long.rss_kib - short.rss_kib < 24 * 1024
