"""Bulks and whole processes: killed and drained in the middle of a stream, repeated until every line is there once."""

from __future__ import annotations

import asyncio
import base64
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import orjson

from benchmarks import memory
from tests.acceptance.conftest import QUIET_CARRIER, Gateway, StartGateway, wait_until

LINES = 6_000
FLAT_MIB = 24
ROOT = Path(__file__).parents[2]
IDLE_CARRIER = QUIET_CARRIER + 'stalls_s = ["0-3600"]\n'
"""Nothing leaves, so nothing but the streams is going on."""


def line(place: int) -> bytes:
    return orjson.dumps({"dst": f"+1415{2_000_000 + place}", "text": f"Hello {place % 7}"})


BODY = b"".join(line(place) + b"\n" for place in range(LINES))


class Account:
    """The demo's account, as a client sees it."""

    def __init__(self, gateway: Gateway) -> None:
        demo = gateway.demo
        self.base = f"{demo['base_url']}/v1/Account/{demo['auth_id']}/Message/"
        self.bulk = f"{self.base}Bulk/?powerpack_uuid={demo['powerpack_uuid']}"
        pair = f"{demo['auth_id']}:{demo['auth_token']}"
        self.authorization = "Basic " + base64.b64encode(pair.encode()).decode()

    def ask(self, url: str, body: bytes | None = None, **headers: str) -> bytes:
        sent = {"Authorization": self.authorization, "Content-Type": "application/x-ndjson", **headers}
        with urlopen(Request(url, data=body, headers=sent), timeout=60) as answer:
            found: bytes = answer.read()
        return found

    def send(self, body: bytes, key: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.ask(self.bulk, body, **{"Idempotency-Key": key}))
        return found

    def listed(self, bulk_id: str) -> list[dict[str, Any]]:
        return [orjson.loads(each) for each in self.ask(f"{self.base}Bulk/{bulk_id}/").splitlines()]

    def count(self) -> int:
        return int(orjson.loads(self.ask(self.base + "?limit=1"))["meta"]["total_count"])


class Streaming:
    """A stream with answers that is on its way, by threads of its own: one writes all lines but the last, one reads."""

    def __init__(self, account: Account, key: str) -> None:
        split = urlsplit(account.bulk)
        head = (
            f"POST {split.path}?{split.query}&answers=stream HTTP/1.1", "Host: a",
            f"Authorization: {account.authorization}", "Content-Type: application/x-ndjson",
            f"Idempotency-Key: {key}", f"Content-Length: {len(BODY)}", "", "",
        )  # fmt: skip
        self._head = "\r\n".join(head).encode()
        self._connection = socket.create_connection((split.hostname or "", split.port or 0), timeout=30)
        self._threads = [threading.Thread(target=each) for each in (self._write, self._read)]
        self._heard = b""
        for each in self._threads:
            each.start()

    def _write(self) -> None:
        lines = BODY.splitlines(keepends=True)[:-1]
        try:
            self._connection.sendall(self._head)
            for start in range(0, len(lines), 100):
                self._connection.sendall(b"".join(lines[start : start + 100]))
                time.sleep(0.01)
        except OSError:
            pass

    def _read(self) -> None:
        self._heard = answers(self._connection)

    def told(self) -> set[str]:
        """Wait for the end; the messages that were answered until then."""
        for each in self._threads:
            each.join()
        self._connection.close()
        lines = [each for each in self._heard.splitlines() if each.startswith(b'{"line":') and each.endswith(b"}")]
        return {found["message_uuid"] for each in lines if "message_uuid" in (found := orjson.loads(each))}


def answers(connection: socket.socket) -> bytes:
    got = b""
    try:
        while data := connection.recv(65_536):
            got += data
    except OSError:
        pass
    return got


def holds_more_than(account: Account, least: int) -> bool:
    return account.count() > least


def check_once(account: Account, summary: dict[str, Any]) -> None:
    """Every line was accepted, listed once in its place, and is one message."""
    assert (summary["complete"], summary["lines"], summary["accepted"]) == (True, LINES, LINES)
    listed = account.listed(summary["bulk_id"])
    assert [each["line"] for each in listed] == list(range(1, LINES + 1))
    assert len({each["message_uuid"] for each in listed}) == LINES
    assert account.count() == LINES


def test_a_stream_that_kills_cut_is_repeated_and_every_line_is_there_once(start_gateway: StartGateway) -> None:
    gateway = start_gateway(config=IDLE_CARRIER)
    told: set[str] = set()
    for _ in range(3):
        account = Account(gateway)
        stored = account.count()
        stream = Streaming(account, "one-key")
        wait_until(partial(holds_more_than, account, stored + LINES // 10), "some more lines are stored")
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        told |= stream.told()
        gateway.start()
    account = Account(gateway)
    stored = account.count()
    assert 0 < stored < LINES
    summary = account.send(BODY, "one-key")
    assert summary["replayed"] == stored
    check_once(account, summary)
    assert told
    assert told <= {each["message_uuid"] for each in account.listed(summary["bulk_id"])}
    again = account.send(BODY, "one-key")
    assert again["replayed"] == LINES
    check_once(account, again)


def test_a_stopped_gateway_ends_its_streams_with_what_is_stored_and_they_go_on_later(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(config=IDLE_CARRIER)
    account = Account(gateway)
    split = urlsplit(account.bulk)
    head = (
        f"POST {split.path}?{split.query} HTTP/1.1", "Host: a", f"Authorization: {account.authorization}",
        "Idempotency-Key: k", "Transfer-Encoding: chunked", "", "",
    )  # fmt: skip
    part = b"".join(line(place) + b"\n" for place in range(700))
    with socket.create_connection((split.hostname or "", split.port or 0), timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode() + b"%x\r\n%b\r\n" % (len(part), part))
        wait_until(lambda: account.count() == 700, "what was sent is stored")
        assert gateway.stop() == 0
        answer = answers(connection)
    assert answer.startswith(b"HTTP/1.1 202")
    summary = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    assert (summary["complete"], summary["code"], summary["lines"]) == (False, "stopping", 700)
    gateway.start()
    account = Account(gateway)
    check_once(account, account.send(BODY, "k"))


def test_memory_is_flat_while_lines_are_refused_and_while_they_leave() -> None:
    """`python -m benchmarks.memory` does it with a million lines; here are some ten thousand."""
    refused = asyncio.run(memory.measure_refused(60_000, 2))
    leaving = asyncio.run(memory.measure_leaving(20_000, 2, waiting_max=2_000))
    assert refused.most - refused.before < FLAT_MIB * memory.MIB, refused
    assert leaving.most - leaving.before < FLAT_MIB * memory.MIB, leaving


def test_the_example_sends_a_file_and_says_what_became_of_each_line(running: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_bytes(line(1) + b"\nno json\n" + b'{"dst":"+14152000002"}\n')
    command = [sys.executable, "examples/send_bulk.py", str(file), "--text", "Hello"]
    command += ["--demo-file", str(running.data / "demo.json")]
    for _ in range(2):  # the second time nothing is sent again
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 accepted, 1 refused" in done.stderr
        told = [orjson.loads(each) for each in done.stdout.splitlines()]
        assert [each["line"] for each in told] == [1, 2, 3]
        assert (told[1]["code"], "message_uuid" in told[0], "message_uuid" in told[2]) == ("invalid_json", True, True)
    assert Account(running).count() == 2
