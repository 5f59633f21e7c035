"""A gateway between an account and carriers in the shape of every preset: sent, reported with proof, delivered."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from multidict import CIMultiDict

from gateway.carriers.carrier import Webhook
from tests.acceptance.conftest import StartGateway, client_for, run, wait_for_state
from tests.fakes.templates import MINIMAL, PUBLIC_URL
from tests.fakes.vendors import VENDORS

NUMBERS = {preset: f"+1415555010{place}" for place, preset in enumerate(VENDORS)}


class Vendors:
    """All vendors on one server, by the first part of the path."""

    def __init__(self) -> None:
        self.taken: dict[str, list[dict[str, str]]] = {preset: [] for preset in VENDORS}
        vendors = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                preset = self.path.split("/")[1]
                body = self.rfile.read(int(self.headers["Content-Length"]))
                vendor = VENDORS[preset]()
                taken = vendors.taken[preset]
                taken.append(vendor.read(CIMultiDict(self.headers.items()), body))
                answer = vendor.answer(f"{preset}-{len(taken)}")
                self.send_response(202)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    there = Vendors()
    yield there
    there.close()


def config_of(vendors: Vendors) -> str:
    lines = [f'[server]\npublic_url = "{PUBLIC_URL}"\n']
    for preset in VENDORS:
        options = {**MINIMAL[preset], "submit_url": f"{vendors.url}/{preset}/messages"}
        lines.append(f'[carriers.{preset}]\nkind = "http"\npreset = "{preset}"\n')
        lines.extend(f'{key} = "{value}"\n' for key, value in options.items())
    return "".join(lines)


def post(base_url: str, webhook: Webhook) -> int:
    request = urllib.request.Request(base_url + webhook.target, webhook.body, dict(webhook.headers.items()))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_every_vendors_carrier_takes_messages_and_reports_with_proof(
    start_gateway: StartGateway, vendors: Vendors, tmp_path: Path
) -> None:
    data, config = tmp_path / "data", config_of(vendors)
    data.with_name("data.toml").write_text(config)
    created = run("accounts", "create", "Example Inc.", data=data)
    auth_id, auth_token = re.findall(r"auth_\w+: +(\S+)", created.stdout)
    for preset, number in NUMBERS.items():
        named = ("--type", "longcode", "--carrier", preset, "--campaign", "approved")
        assert run("numbers", "add", number, *named, data=data).returncode == 0
        shown = run("carriers", "check", preset, data=data)
        assert shown.returncode == 0, shown.stderr
        assert f"POST {vendors.url}/{preset}/messages" in shown.stdout
        assert "token" not in shown.stdout

    gateway = start_gateway("data", "--port", "0", config=config)
    base_url = gateway.said[-1].split()[3].rstrip(".")
    client = client_for({"base_url": base_url, "auth_id": auth_id, "auth_token": auth_token})
    for preset, number in NUMBERS.items():
        client.powerpacks.create(name=preset)
        uuid_of = {each.name: each.uuid for each in client.powerpacks.list().objects}
        client.powerpacks.get(uuid_of[preset]).add_number(number.removeprefix("+"))
        sent = client.messages.create(powerpack_uuid=uuid_of[preset], dst="+14155550123", text="Hello & wörld")
        (uuid,) = sent.message_uuid
        wait_for_state(client, uuid, "sent")
        (taken,) = vendors.taken[preset]
        assert (taken["from"], taken["to"], taken["text"]) == (number, "+14155550123", "Hello & wörld")
        report_url = f"{PUBLIC_URL}/carriers/{preset}/reports"
        assert taken.get("report_url", report_url) in (report_url, f"{report_url}?reference={uuid}")
        assert taken.get("reference", uuid) == uuid

        now_ms = time.time_ns() // 1_000_000
        url = taken.get("report_url", report_url)
        right = VENDORS[preset]().report(url, f"{preset}-1", "undelivered", now_ms=now_ms)
        unsigned = right._replace(headers=CIMultiDict({"Content-Type": right.headers["Content-Type"]}))
        changed = right._replace(body=right.body.replace(f"{preset}-1".encode(), f"{preset}-2".encode()))
        assert post(base_url, unsigned) == 401
        if preset in ("plivo", "twilio", "telnyx"):
            assert post(base_url, changed) == 401
        assert client.messages.get(uuid).message_state == "sent"
        assert post(base_url, right) == 200
        read = client.messages.get(uuid)
        assert read.message_state == "undelivered", "a report is stored before it is answered"
        assert read.error_code == ("80" if preset != "json" else "1000")
        assert post(base_url, right) == 200, "again"
