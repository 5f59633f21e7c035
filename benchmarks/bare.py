"""The ceiling of accepting: aiohttp handlers under uvloop that read the body, or its lines, and store nothing.

python -m benchmarks.bare PORT
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import orjson
import uvloop
from aiohttp import web

from gateway.api.shapes_message import SendBody

ANSWER = (
    b'{"api_id":"00000000-0000-7000-8000-000000000000","message":"message(s) queued",'
    b'"message_uuid":["00000000-0000-7000-8000-000000000000"]}'
)

decode = msgspec.json.Decoder(SendBody).decode


async def accept(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=ANSWER, status=202, content_type="application/json")


async def take_lines(request: web.Request) -> web.Response:
    """Cut the body into lines and decode each."""
    count, rest = 0, b""
    async for chunk in request.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            decode(line)
        count += len(lines)
    body = orjson.dumps({"complete": True, "lines": count, "refused": 0})
    return web.Response(body=body, status=202, content_type="application/json")


async def serve(port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/Account/{auth_id}/Message/", accept)
    app.router.add_post("/bulk", take_lines)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
