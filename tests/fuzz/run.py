"""One run: a demo gateway of its own, the shots, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from storage.messages import COUNT_MAX
from tests.acceptance.conftest import Gateway
from tests.fakes.api_floor import ApiFloor
from tests.fuzz.client import Tally, fire_all
from tests.fuzz.requests import Requests, World

BULK: Final = "/v1/Account/{auth_id}/Message/Bulk/"
AROUND: Final = (
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("POST", "/carriers/simulated/reports"),
    ("POST", "/carriers/simulated/inbound"), ("POST", BULK), ("POST", BULK), ("GET", BULK + "{bulk_id}/"),
)  # fmt: skip
OPEN_DOOR: Final = {"SENDPOOL_CONNECTIONS_PER_IP_MAX": "1000", "SENDPOOL_WRONG_CREDENTIALS_MS_MAX": "0"}
"""Of the gateway that is fired at: thousands of wrong credentials from one address are the purpose here."""
RSS_GROWTH_KIB_MAX: Final = 400_000
"""What is accepted stays in memory until it has left; what is refused must not."""


class Result(NamedTuple):
    """What came of it."""

    tally: Tally
    wrong: list[str]
    said: str


def fuzz(folder: Path, *, count: int, seed: int, connections: int, failures: Path) -> Result:
    """Start a gateway below `folder`, fire, stop it, judge. Inputs that found something are written to `failures`."""
    gateway = Gateway(folder / "data", "--demo", "--port", "0", env=OPEN_DOOR)
    try:
        gateway.start()
        demo = gateway.demo
        port = int(demo["base_url"].rpartition(":")[2])
        rss_kib = rss_of(gateway)
        world = asyncio.run(world_of(demo))
        requests = Requests(world, seed)
        tally = asyncio.run(fire_all(port, requests, count=count, connections=connections))
        grown_kib = rss_of(gateway) - rss_kib
        stored = total_of(demo)
        code = gateway.stop()
        wrong = [_kept(failures, requests, seed, number, why) for number, why in tally.found[:20]]
        wrong += judge(gateway, tally, code=code, stored=stored, grown_kib=grown_kib)
    finally:
        gateway.end()
    said = (
        f"seed {seed}: {tally.shots} requests in {tally.seconds:.1f} s ({tally.shots / tally.seconds:.0f}/s), "
        f"statuses {dict(sorted(tally.statuses.items()))}, "
        f"codes {', '.join(f'{code.decode()} {count}' for code, count in tally.codes.most_common())}, "
        f"{len(tally.accepted)} messages accepted and {stored} stored, "
        f"slowest {tally.slowest_ms:.0f} ms, {len(tally.slow)} over 100 ms at first, RSS {grown_kib:+} KiB"
    )
    return Result(tally, wrong, "\n  ".join([said, *(wrong or ["nothing found"])]))


def judge(gateway: Gateway, tally: Tally, *, code: int, stored: int, grown_kib: int) -> list[str]:
    """What is wrong with the gateway after all that."""
    log = gateway.log()
    said = [
        (code != 0, f"it ended with {code}: {log[-500:]}"),
        (
            bool(re.search(r"Traceback|a request failed|never retrieved", log)),
            f"its log tells of failures: {log[-2_000:]}",
        ),
        (bool(re.search(r"415555[0-9]{4}|DROP TABLE|[^a-z]Hello", log)), f"its log tells of messages: {log[-2_000:]}"),
        (
            stored < min(len(tally.accepted), COUNT_MAX),  # a list counts no further
            f"{len(tally.accepted)} messages were accepted, {stored} are stored",
        ),
        (grown_kib > RSS_GROWTH_KIB_MAX, f"it grew by {grown_kib} KiB"),
        (tally.statuses[202] < tally.shots / 200, "hardly anything was good: the generator is of no use"),
        (tally.statuses[400] < tally.shots / 20, "hardly anything was bad: the generator is of no use"),
    ]
    return [what for is_so, what in said if is_so]


async def world_of(demo: dict[str, str]) -> World:
    """What the demo has, and the routes there are."""
    authorization = "Basic " + b64encode(f"{demo['auth_id']}:{demo['auth_token']}".encode()).decode()
    routes = [(route.method, route.path) for route in ApiFloor().routes]
    routes += AROUND
    pool = get(demo, f"Powerpack/{demo['powerpack_uuid']}/")["number_pool"]
    return World(authorization, demo["auth_id"], demo["powerpack_uuid"], str(pool).split("/")[5], routes)


def get(demo: dict[str, str], path: str) -> dict[str, object]:
    request = urllib.request.Request(f"{demo['base_url']}/v1/Account/{demo['auth_id']}/{path}")
    token = b64encode(f"{demo['auth_id']}:{demo['auth_token']}".encode()).decode()
    request.add_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, object] = orjson.loads(answer.read())
    return found


def total_of(demo: dict[str, str]) -> int:
    """How many messages there are."""
    meta = get(demo, "Message/?limit=1")["meta"]
    assert isinstance(meta, dict)
    return int(meta["total_count"])


def rss_of(gateway: Gateway) -> int:
    """Resident memory in KiB."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text("ascii")
    found = re.search(r"VmRSS:\s+([0-9]+) kB", status)
    assert found is not None
    return int(found[1])


def _kept(failures: Path, requests: Requests, seed: int, number: int, why: str) -> str:
    """Write the input down, and say where."""
    failures.mkdir(parents=True, exist_ok=True)
    file = failures / f"{seed}-{number}.http"
    data = requests.shot(number).data
    file.write_bytes(data)
    return f"shot {number} ({file}): {why}\n    {data[:300]!r}"
