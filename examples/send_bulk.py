"""Send a file of messages, one JSON object a line, and say what became of each: a bulk, with aiohttp.

    .venv/bin/python examples/send_bulk.py messages.ndjson --text "Hello" > answers.ndjson

    {"dst": "+14155550123"}
    {"dst": "+12125550123", "text": "Hello Ada", "reference": "order 7"}

Nothing is sent twice, whatever happens on the way: the stream has an Idempotency-Key made of the file, and is repeated
from its start until the gateway has taken all of it. Credentials come from data/demo.json (--demo-file).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import aiohttp

TRIES_MAX = 60
RETRIED = {408, 409, 429, 503}
"""Too slow; the first try still runs; too many requests; overloaded, starting, stopping, or nobody knows."""


async def send(session: aiohttp.ClientSession, file: Path, query: dict[str, str], key: str) -> dict[str, Any]:
    """Send the file until it was taken whole; the summary."""
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
    for tries in range(1, TRIES_MAX + 1):
        wait_s = random.uniform(0, min(30, 0.5 * 2**tries))  # full jitter: not all clients at once
        try:
            with file.open("rb") as lines:
                async with session.post("Message/Bulk/", params=query, data=lines, headers=headers) as answer:
                    summary: dict[str, Any] = await answer.json()
            if answer.status == 202 and summary["complete"]:
                return summary
            # What was taken is safe. A stream that ended early says why, like an error does.
            problem = f"{answer.status} {summary['code']}: {summary['error']}"
            if answer.status != 202 and (answer.status not in RETRIED or summary["code"] == "idempotency_key_reused"):
                raise SystemExit(problem)
            wait_s = float(answer.headers.get("Retry-After", wait_s))
        except (aiohttp.ClientError, OSError) as error:
            problem = repr(error)
        print(f"try {tries}: {problem}", file=sys.stderr)
        await asyncio.sleep(wait_s)
    raise SystemExit("given up; run it again, it will go on where it was")


def key_of(file: Path, query: dict[str, str]) -> str:
    """What names this file with this query, however long it is: it is read in pieces."""
    with file.open("rb") as lines:
        digest = hashlib.file_digest(lines, "sha256")
    digest.update(repr(query).encode())
    return digest.hexdigest()


async def run(arguments: argparse.Namespace) -> None:
    demo = json.loads(arguments.demo_file.read_bytes())
    file: Path = arguments.file
    query = {"powerpack_uuid": demo["powerpack_uuid"]} | ({"text": arguments.text} if arguments.text else {})
    key = key_of(file, query)

    session = aiohttp.ClientSession(
        f"{demo['base_url']}/v1/Account/{demo['auth_id']}/",
        headers={"Authorization": aiohttp.encode_basic_auth(demo["auth_id"], demo["auth_token"])},
        timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
    )
    async with session:
        summary = await send(session, file, query, key)
        print(f"{summary['accepted']} accepted, {summary['refused']} refused", file=sys.stderr)
        async with session.get(f"Message/Bulk/{summary['bulk_id']}/") as answers:
            async for line in answers.content:
                sys.stdout.buffer.write(line)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send a file of messages through the demo's powerpack.")
    parser.add_argument("file", type=Path, help="NDJSON: dst, and whatever differs from line to line")
    parser.add_argument("--text", help="for lines that have none")
    parser.add_argument("--demo-file", type=Path, default=Path("data/demo.json"))
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
