"""The ceiling of accepting: an aiohttp handler under uvloop that reads the body and answers a fixed 202.

python -m benchmarks.bare PORT
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web

ANSWER = (
    b'{"api_id":"00000000-0000-7000-8000-000000000000","message":"message(s) queued",'
    b'"message_uuid":["00000000-0000-7000-8000-000000000000"]}'
)


async def accept(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=ANSWER, status=202, content_type="application/json")


async def serve(port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/Account/{auth_id}/Message/", accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
