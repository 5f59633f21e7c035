"""A whole gateway in hard times: clients that dawdle, crowd, or never end; few files, a log nobody reads, a pause."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
import plivo
import pytest

from tests.acceptance.conftest import (
    START_S_MAX,
    Gateway,
    StartGateway,
    client_for,
    end_database,
    environment,
    sendpool,
    wait_for_state,
    wait_until,
)
from tests.corpus.wire import CASES, Target, play
from tests.fuzz.run import get, rss_of, total_of

HURRIED = {
    "SENDPOOL_HEAD_MS_MAX": "700",
    "SENDPOOL_BODY_MS_MAX": "700",
    "SENDPOOL_KEEPALIVE_MS": "1500",
    "SENDPOOL_UNREAD_MS_MAX": "1000",
    "SENDPOOL_CONNECTIONS_PER_IP_MAX": "50",
}
"""Deadlines that a test can wait for."""


def port_of(gateway: Gateway) -> int:
    return int(gateway.demo["base_url"].rpartition(":")[2])


def auth_of(gateway: Gateway) -> str:
    demo = gateway.demo
    return "Basic " + b64encode(f"{demo['auth_id']}:{demo['auth_token']}".encode()).decode()


def post_head(gateway: Gateway, *lines: str) -> bytes:
    path = f"/v1/Account/{gateway.demo['auth_id']}/Message/"
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: a", f"Authorization: {auth_of(gateway)}", *lines, "", ""]
    ).encode()


def send_one(gateway: Gateway, recipient: str = "+14155550171") -> str:
    sent = client_for(gateway.demo).messages.create(
        powerpack_uuid=gateway.demo["powerpack_uuid"], dst=recipient, text="Hello"
    )
    return str(sent.message_uuid[0])


# --- Slow clients -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("hurried") / "data", "--demo", "--port", "0", env=HURRIED)
    try:
        yield gateway.start()
    finally:
        gateway.end()


@asynccontextmanager
async def dawdling(port: int, first: bytes, drop: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which `first` comes, and then a `drop` every tenth of a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def drip() -> None:
        writer.write(first)
        while drop and not writer.is_closing():
            await asyncio.sleep(0.1)
            writer.write(drop)

    dripping = asyncio.create_task(drip())
    try:
        yield reader
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.transport.abort()


async def end_of(port: int, first: bytes, drop: bytes) -> tuple[float, bytes]:
    """After how many seconds the gateway ends such a connection, and what it says before."""
    began = time.monotonic()
    async with dawdling(port, first, drop) as reader, asyncio.timeout(10):
        try:
            said = await reader.read()
        except ConnectionError:
            said = b""
    return time.monotonic() - began, said


def test_who_dawdles_is_cut_off_in_time(hurried: Gateway) -> None:
    port = port_of(hurried)
    cases = {
        "says nothing": (b"", b""),
        "a head, a letter at a time": (b"GET /", b"a"),
        "a head, a line at a time": (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"),
        "a body, a letter at a time": (post_head(hurried, "Content-Length: 5000"), b"a"),
        "a body that does not come": (post_head(hurried, "Content-Length: 5000"), b""),
        "chunks, one at a time": (post_head(hurried, "Transfer-Encoding: chunked"), b"1\r\na\r\n"),
        "a chunk that does not end": (post_head(hurried, "Transfer-Encoding: chunked") + b"ff\r\n", b"a"),
        "a body of who is nobody": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n", b"a"),
        "an answer, and then nothing": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    }  # fmt: skip

    async def all_ends() -> list[tuple[float, bytes]]:
        return await asyncio.gather(*(end_of(port, *case) for case in cases.values()))

    for name, (seconds, said) in zip(cases, asyncio.run(all_ends()), strict=True):
        assert seconds < 5, name
        if "chunk" in name or ("body" in name and "nobody" not in name):
            assert said.startswith(b"HTTP/1.1 408 "), (name, said)
    assert total_of(hurried.demo) == 0
    assert send_one(hurried)


def test_who_reads_nothing_is_cut_off(hurried: Gateway) -> None:
    async def deaf() -> float:
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(hurried), limit=1_024)
        began = time.monotonic()
        try:
            request = b"GET /v1/Account/%b/Powerpack/ HTTP/1.1\r\nHost: a\r\nAuthorization: %b\r\n\r\n" % (
                hurried.demo["auth_id"].encode(), auth_of(hurried).encode(),
            )  # fmt: skip
            async with asyncio.timeout(20):
                while not writer.is_closing():
                    writer.write(request * 50)
                    await writer.drain()
        except (ConnectionError, TimeoutError):
            return time.monotonic() - began
        finally:
            writer.transport.abort()
        return time.monotonic() - began

    assert asyncio.run(deaf()) < 15
    assert send_one(hurried)


def test_a_hundred_megabytes_are_refused_and_not_kept(hurried: Gateway) -> None:
    async def pour(head: bytes, piece: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(hurried))
        try:
            writer.write(head)
            for _ in range(100):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        try:
            async with asyncio.timeout(10):
                return await reader.read(20)
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()

    async def pour_all() -> list[bytes]:
        mib = b"a" * 2**20
        return [
            await pour(post_head(hurried, f"Content-Length: {100 * 2**20}"), mib),
            await pour(post_head(hurried, "Transfer-Encoding: chunked"), b"100000\r\n%b\r\n" % mib),
            await pour(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: ", mib),
            await pour(b"GET /" + b"a" * 100, mib),
            await pour(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", mib),
        ]

    asyncio.run(pour_all())
    before = rss_of(hurried)  # buffers have been made, as large as they get
    for said in [*asyncio.run(pour_all()), *asyncio.run(pour_all())]:
        assert said[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 404", b"")
    assert rss_of(hurried) - before < 10_000


def test_the_corpus_impresses_no_whole_gateway_either(running: Gateway) -> None:
    demo = running.demo
    body = orjson.dumps({"powerpack_uuid": demo["powerpack_uuid"], "dst": "+14155550172", "text": "Hello"})
    target = Target(port_of(running), f"/v1/Account/{demo['auth_id']}/Message/", auth_of(running), body)
    slow = (
        "a hundred megabytes",
        "a GET with a body without end",
        "a chunk of a hundred megabytes",
        "chunks without end",
    )

    async def play_all() -> list[str]:
        wrong: list[str] = []
        for case in CASES:
            if not case.name.startswith(slow):  # the unit tests play these
                wrong += await play(target, case, lambda: total_of(demo))
        return wrong

    wrong = asyncio.run(play_all())
    assert not wrong, "\n  ".join(["", *wrong])


# --- Crowds -----------------------------------------------------------------------------------------------------------


@contextmanager
def many_files() -> Iterator[int]:
    """As many open files as this process may have; gives how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def idle(port: int, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections that say nothing, from as many addresses as that takes."""
    ends = []
    try:
        for number in range(count):
            address = (f"127.0.{1 + number // 100}.1", 0)
            ends.append(await asyncio.open_connection("127.0.0.1", port, local_addr=address))
        yield [reader for reader, _ in ends]
    finally:
        for _, writer in ends:
            writer.transport.abort()


def test_two_thousand_idle_connections_do_not_disturb(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    send_one(gateway)
    before = rss_of(gateway)

    async def crowd(count: int) -> tuple[list[float], int]:
        async with idle(port_of(gateway), count):
            times = []
            for number in range(30):
                began = time.perf_counter()
                await asyncio.to_thread(send_one, gateway, f"+1415555{2_000 + number}")
                times.append(time.perf_counter() - began)
            return sorted(times), rss_of(gateway) - before

    with many_files() as files:
        count = min(2_000, files - 200)
        times, grown_kib = asyncio.run(crowd(count))
    assert times[15] < 0.2, "half of the sends took longer"
    assert grown_kib < 40 * count, "a connection costs less than 40 KiB"


def test_with_few_files_connections_are_turned_away_and_work_goes_on(start_gateway: StartGateway) -> None:
    gateway = start_gateway(wait=False, before=("prlimit", "--nofile=256:256"))
    gateway.wait_for_line("Sendpool listens on")

    async def crowd() -> int:
        kept_reader, kept = await asyncio.open_connection("127.0.0.1", port_of(gateway))
        async with idle(port_of(gateway), 400) as readers:
            await asyncio.sleep(0.5)
            turned_away = sum(reader.at_eof() for reader in readers)
            for _ in range(5):  # who was there before goes on
                kept.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await kept_reader.readuntil(b"true}")).startswith(b"HTTP/1.1 200 ")
            kept.write(post_head(gateway, "Content-Length: 2") + b"{}")
            assert (await kept_reader.readuntil(b"}")).startswith(b"HTTP/1.1 400 ")
        kept.close()
        return turned_away

    assert 200 < asyncio.run(crowd()) < 300
    wait_for_state(client_for(gateway.demo), send_one(gateway), "delivered")
    log = gateway.log()
    assert 1 <= log.count("connections are turned away") <= 3, "said, and not again and again"
    assert "Too many open files" not in log
    assert gateway.stop() == 0


# --- Logs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["nobody reads", "closed", "full"])
def test_a_log_that_takes_nothing_holds_nobody_up(tmp_path: Path, trouble: str) -> None:
    unread, end = os.pipe()
    with open("/dev/full", "wb") as full:
        where: Any = {"nobody reads": end, "closed": subprocess.DEVNULL, "full": full}[trouble]
        command = sendpool("serve", "--data", str(tmp_path / "data"), "--demo", "--port", "0")
        if trouble == "closed":
            command = ["sh", "-c", 'exec 2>&-; exec "$@"', "sh", *command]
        process = subprocess.Popen(
            command, env=environment(SENDPOOL_LOG_LEVEL="debug"), stdout=subprocess.PIPE, stderr=where, cwd=tmp_path,
            text=True,
        )  # fmt: skip
    os.close(end)
    try:
        demo_file = tmp_path / "data" / "demo.json"
        wait_until(lambda: demo_file.exists() and is_ready(demo_file), "ready", START_S_MAX)
        demo = orjson.loads(demo_file.read_bytes())
        client = client_for(demo)
        began = time.monotonic()
        for number in range(300):  # more lines than a pipe holds
            client.messages.create(powerpack_uuid=demo["powerpack_uuid"], dst=f"+1415555{3_000 + number}", text="Hello")
        assert time.monotonic() - began < 30
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        os.close(unread)
        if process.poll() is None:
            process.kill()
        process.communicate()
        end_database(tmp_path / "data")


def is_ready(demo_file: Path) -> bool:
    try:
        get(orjson.loads(demo_file.read_bytes()), "")
    except (OSError, ValueError):
        return False
    return True


# --- A machine that stands still --------------------------------------------------------------------------------------


def test_a_paused_process_goes_on_where_it_was(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    client = client_for(gateway.demo)
    waiting = [send_one(gateway, f"+1415555{4_000 + number}") for number in range(30)]
    gateway.signal(signal.SIGSTOP)
    time.sleep(3)
    gateway.signal(signal.SIGCONT)
    wait_until(lambda: is_taken(gateway), "it accepts again, its loop having been late", 3)
    for uuid in waiting:
        wait_for_state(client, uuid, "delivered", "sent")
    assert gateway.stop() == 0


def is_taken(gateway: Gateway) -> bool:
    try:
        return bool(send_one(gateway))
    except plivo.exceptions.PlivoRestError:
        return False
