"""What the README says, done as it says: the SDK's lines, and a gateway without demo on an HTTP carrier."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.acceptance.conftest import Endpoint, Gateway, StartGateway, client_for, run, wait_for_state, wait_until

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


class FakeCarrier:
    """An aggregator's HTTP interface: takes messages, gives ids, reports when told to."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        carrier = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                carrier.taken.append(orjson.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                carrier.headers.append({name.lower(): value for name, value in self.headers.items()})
                body = orjson.dumps({"id": f"east-{len(carrier.taken)}"})
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/messages"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def report(self, base_url: str, secret: str, **report: str) -> int:
        request = urllib.request.Request(
            f"{base_url}/carriers/east/reports",
            orjson.dumps(report),
            {"Content-Type": "application/json", "Authorization": f"Bearer {secret}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def carrier() -> Iterator[FakeCarrier]:
    there = FakeCarrier()
    yield there
    there.close()


def test_the_lines_of_the_readme_send_a_message(running: Gateway) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert running.data.name == "data"
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=running.data.parent, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("queued", "sent", "delivered")


def test_the_promise_stands_in_the_readme() -> None:
    words = " ".join(README.split())
    for promise in (
        "**202, or a line's answer in a stream, means** the ids in it are in a PostgreSQL transaction committed with "
        "`synchronous_commit=on`.",
        "no number is handed more than its limits allow in any sliding window, restarts included.",
        "a message is handed to a carrier once.",
        "repeat with the same `Idempotency-Key`.",
    ):
        assert promise in words


def test_without_a_demo_accounts_numbers_and_an_http_carrier_do_it(
    start_gateway: StartGateway, carrier: FakeCarrier, endpoint: Endpoint, tmp_path: Path
) -> None:
    config = f"""
[callbacks]
allow_private = true
allow_http = true

[carriers.east]
kind = "http"
submit_url = "{carrier.url}"
segments_per_s = 50
"""
    data = tmp_path / "data"
    data.with_name("data.toml").write_text(config)
    env = {"SENDPOOL_CARRIERS_EAST_AUTHORIZATION": "Bearer from-us", "SENDPOOL_CARRIERS_EAST_SECRET": "from-them"}
    created = run("accounts", "create", "Example Inc.", data=data, env=env)
    auth_id, auth_token = re.findall(r"auth_\w+: +(\S+)", created.stdout)
    for arguments in (
        ("+14155550101", "--type", "longcode", "--carrier", "east", "--campaign", "approved"),
        ("+18005550101", "--type", "tollfree", "--carrier", "east", "--verified"),
    ):
        added = run("numbers", "add", *arguments, data=data, env=env)
        assert added.returncode == 0, added.stderr
    examined = run("doctor", data=data, env=env)
    assert examined.returncode == 0, examined.stdout
    assert "canary" not in examined.stdout

    gateway = start_gateway("data", "--port", "0", config=config, env=env)
    base_url = gateway.said[-1].split()[3].rstrip(".")
    assert not (data / "demo.json").exists()
    client = client_for({"base_url": base_url, "auth_id": auth_id, "auth_token": auth_token})
    client.powerpacks.create(name="first")
    powerpack = client.powerpacks.get(client.powerpacks.list().objects[0].uuid)
    powerpack.add_number("14155550101")
    powerpack.add_tollfree("18005550101")
    sent = client.messages.create(powerpack_uuid=powerpack.uuid, dst="+14155550123", text="Hello", url=endpoint.url)
    (uuid,) = sent.message_uuid

    wait_for_state(client, uuid, "sent")
    (taken,) = carrier.taken
    assert (taken["to"], taken["text"], taken["reference"]) == ("+14155550123", "Hello", uuid)
    assert taken["from"] == "+18005550101", "toll-free goes before long codes in the US"
    assert carrier.headers[0]["authorization"] == "Bearer from-us"

    assert carrier.report(base_url, "guessed", id="east-1", status="delivered") == 401
    assert client.messages.get(uuid).message_state == "sent"
    assert carrier.report(base_url, "from-them", id="east-1", status="delivered") == 200
    assert client.messages.get(uuid).message_state == "delivered", "a report is stored before it is answered"
    wait_until(lambda: len(endpoint.of(uuid)) == 3, "told")
    assert [each.params["Status"] for each in endpoint.of(uuid)] == ["queued", "sent", "delivered"]
