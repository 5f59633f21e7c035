"""The door against everything that is not, or barely, HTTP; the cases are data, in tests/corpus/http.toml."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from gateway.api.around import Around, Readiness
from gateway.api.middleware import Front
from gateway.api.router import Router
from gateway.settings import LimitsSettings, ServerSettings
from tests.corpus.wire import CASES, Case, Target, play, say
from tests.fakes.accept_floor import POWERPACK
from tests.fakes.api_client import ACCOUNT, basic, serving
from tests.fakes.api_floor import ApiFloor

BODY = orjson.dumps({"powerpack_uuid": POWERPACK, "dst": "+14155550199", "text": "Hello"})

AT_ONCE = 40
"""Cases that are played at once, each at a door of its own: some take their time."""


async def played(case: Case) -> list[str]:
    """What is wrong with what a door of its own makes of `case`."""
    floor = ApiFloor()
    around = Around(lambda: Readiness(True, True), bytes, open_metrics=False)
    front = Front(
        Router([*floor.routes, *around.routes()]), floor.pools.accounts,
        clock=floor.clock, ids=floor.ids, server=ServerSettings(), limits=LimitsSettings(),
    )  # fmt: skip
    async with serving(front) as api:
        target = Target(api.port, f"/v1/Account/{ACCOUNT}/Message/", basic(), BODY)
        wrong = await play(target, case, lambda: sum(len(entry.messages) for entry in floor.journal.committed))
        after = await say(api.port, b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    if (after.statuses, after.is_closed) != ([404], True):
        wrong.append(f"{case.name}: others are not served any more")
    if front.in_progress:
        wrong.append(f"{case.name}: {front.in_progress} requests never end")
    return wrong


@pytest.mark.parametrize("first", range(0, len(CASES), AT_ONCE))
async def test_the_door_is_not_impressed(first: int) -> None:
    results = await asyncio.gather(*(played(case) for case in CASES[first : first + AT_ONCE]))
    wrong = [each for result in results for each in result]
    assert not wrong, "\n  ".join(["", *wrong])


HEAD = b"POST /v1/Account/%b/Message/ HTTP/1.1\r\nHost: a\r\nAuthorization: %b\r\n" % (
    ACCOUNT.encode(),
    basic().encode(),
)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET /",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: ",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX",
        CHUNKED + b"2\r\n{}\r\n0\r\nX-A: ",
        CHUNKED + b"2;",
        HEAD + b"Content-Length: 2\r\n\r\n{}GET /",
        HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + HEAD + b"X-A: ",
    ],
    ids=[
        "method",
        "target",
        "value",
        "name",
        "trailer",
        "extension",
        "after one that is bad",
        "after one that is good",
    ],
)
async def test_what_never_ends_is_not_gathered(first: bytes) -> None:
    """Ten megabytes without an end of line: most of them must find the connection closed."""
    async with ApiFloor().serving() as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        taken = 0
        try:
            writer.write(first)
            async with asyncio.timeout(5):
                while taken < 160:
                    writer.write(b"a" * 65_536)
                    await writer.drain()
                    await asyncio.sleep(0.001)
                    taken += 1
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        assert (await api.get("")).status == 200
    # What lies in the kernel's buffers is taken from us, and by nobody.
    assert taken < 120, f"{taken} pieces of 64 KiB were taken"


def test_no_case_has_the_name_of_another() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 100
