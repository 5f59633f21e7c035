"""Messages a carrier has taken, so that there is something to report on."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import islice

import aiohttp

from loadtests.target import Target
from loadtests.traffic import last_to_leave, message_body, recipients

STOCK_MAX = 200_000  # as many sent messages a gateway remembers until their report; others it looks up
EACH = 500
AT_ONCE = 4
HANDED_S_MAX = 120.0
POLL_S = 0.2
SETTLED_S = 2.0
GONE = frozenset({"sent", "delivered", "undelivered", "failed"})


class NoStock(Exception):
    """The messages could not be sent; one line that says why."""


async def send_stock(target: Target, count: int, *, seed: int) -> list[str]:
    """Send `count` messages and wait until a carrier has them; their ids. Raises NoStock."""
    if count > STOCK_MAX:
        raise NoStock(f"{count} messages to report on are more than the {STOCK_MAX} a gateway keeps in memory")
    to = recipients(random.Random(seed))
    bodies = [message_body(target.powerpack_uuid, list(islice(to, size))) for size in _sizes(count)]
    ids: list[str] = []
    latest: list[str] = []
    headers = {"Authorization": target.authorization, "Content-Type": "application/json"}
    try:
        async with aiohttp.ClientSession(target.base_url, headers=headers) as session:
            async with asyncio.TaskGroup() as senders:
                for _ in range(AT_ONCE):
                    senders.create_task(_send(session, target, bodies, ids, latest))
            await _wait_until_gone(session, target, latest)
    except* (aiohttp.ClientError, NoStock, TimeoutError) as errors:
        raise NoStock(f"there is nothing to report on: {errors.exceptions[0]!r}") from errors
    return ids


def _sizes(count: int) -> list[int]:
    return [EACH] * (count // EACH) + ([count % EACH] if count % EACH else [])


async def _send(
    session: aiohttp.ClientSession, target: Target, bodies: list[bytes], ids: list[str], latest: list[str]
) -> None:
    """Send what is left of `bodies`, and note the ids, and of each request the one that leaves last."""
    while bodies:
        async with session.post(target.messages_path, data=bodies.pop()) as answer:
            if answer.status != 202:
                raise NoStock(f"a message was answered {answer.status}: {(await answer.text())[:200]}")
            found = await answer.json()
        ids += found["message_uuid"]
        latest.append(last_to_leave(found))


async def _wait_until_gone(session: aiohttp.ClientSession, target: Target, latest: list[str]) -> None:
    """Until a carrier has the last of each request; others may be a little behind their forecast."""
    until_s = time.monotonic() + HANDED_S_MAX
    for message_id in filter(None, latest):
        while True:
            async with session.get(f"{target.messages_path}{message_id}/") as answer:
                if answer.status == 200 and (await answer.json())["message_state"] in GONE:
                    break
            if time.monotonic() > until_s:
                raise NoStock(f"{message_id} was not handed over within {HANDED_S_MAX:.0f} s")
            await asyncio.sleep(POLL_S)
    await asyncio.sleep(SETTLED_S)
