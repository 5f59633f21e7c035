"""Numbers, texts and tokens that must be found nowhere: sent in every way, then looked for in all that is said."""

from __future__ import annotations

import re
import signal
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import orjson

from tests.acceptance.conftest import (
    QUIET_CARRIER,
    Endpoint,
    Gateway,
    StartGateway,
    client_for,
    wait_for_state,
    wait_until,
)

UNLUCKY_CARRIER = QUIET_CARRIER.replace("undelivered_per_mille = 0", "undelivered_per_mille = 300")
TEXT, TOKEN, KEY, NAME = "canary-of-a-text", "canary-of-a-token", "canary-of-a-key", "canary-of-a-name"
CANARIES = ("7391468", TEXT, TOKEN, KEY, NAME, "canary-of-a-url", "canary-of-a-reference")
"""The first stands in every recipient."""


def recipient(number: int) -> str:
    return f"+1{(206, 212, 303, 305, 312, 415)[number % 6]}7391468"


def ask(gateway: Gateway, method: str, path: str, body: object = None, *, token: str = "", **headers: str) -> int:
    """Send anything; its status."""
    demo = gateway.demo
    credentials = b64encode(f"{demo['auth_id']}:{token or demo['auth_token']}".encode()).decode()
    data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
    request = urllib.request.Request(
        f"{demo['base_url']}/v1/Account/{demo['auth_id']}/{path}", data, method=method,
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json", **headers},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def send_all_kinds(gateway: Gateway, endpoint: Endpoint) -> list[str]:
    """Good requests, bad ones, and such as fail later; ids of some that were taken."""
    pack = gateway.demo["powerpack_uuid"]
    body = {"powerpack_uuid": pack, "dst": recipient(0), "text": TEXT}
    callback = f"{endpoint.url}?canary-of-a-url"
    client = client_for(gateway.demo)
    sent = [
        str(client.messages.create(powerpack_uuid=pack, dst=recipient(number), text=TEXT, url=callback).message_uuid[0])
        for number in range(12)
    ]
    bad: list[tuple[str, str, object]] = [
        ("POST", "Message/", {**body, "dst": recipient(1) + "0" * 8}),
        ("POST", "Message/", {**body, "dst": "+4479391468<" + recipient(1) + "x"}),
        ("POST", "Message/", {**body, "text": TEXT + "\0"}),
        ("POST", "Message/", {**body, "text": TEXT * 200}),
        ("POST", "Message/", {**body, "url": f"https://a:{TOKEN}@127.0.0.1/canary-of-a-url"}),
        ("POST", "Message/", {**body, "reference": "canary-of-a-reference" * 20}),
        ("POST", "Message/", {**body, "powerpack_uuid": NAME}),
        ("POST", "Message/", b'{"text":"' + TEXT.encode() + b'","dst":"+12127391468",'),
        ("POST", "Powerpack/", {"name": NAME * 30}),
        ("POST", f"Powerpack/{pack}/Resolve/", {"dst": recipient(2), "text": TEXT, NAME: 1}),
        ("GET", f"Message/?to_number={recipient(3)[1:]}&{NAME}={TEXT}", None),
        ("GET", f"NumberPool/{NAME}/Number/{recipient(3)}/", None),
        ("DELETE", f"Message/{NAME}/", None),
    ]
    for method, path, value in bad:
        assert ask(gateway, method, path, value) < 500
    assert ask(gateway, "POST", "Message/", body, token=TOKEN) == 401
    assert ask(gateway, "POST", "Message/", body, **{"Idempotency-Key": KEY}) == 202
    assert ask(gateway, "POST", "Message/", {**body, "text": "x"}, **{"Idempotency-Key": KEY}) == 409
    assert ask(gateway, "POST", "Message/", body, **{"Idempotency-Key": KEY + " \xff"}) == 400
    assert ask(gateway, "POST", "Message/Bulk/", orjson.dumps(body) + b"\n{" + TEXT.encode() + b"\n") < 500
    return sent


def test_no_number_text_or_token_is_said_anywhere(start_gateway: StartGateway, endpoint: Endpoint) -> None:
    more = {"config": UNLUCKY_CARRIER, "env": {"SENDPOOL_LOG_LEVEL": "debug"}}
    first = start_gateway(**more)
    endpoint.status = 500  # callbacks fail, and are tried again
    sent = send_all_kinds(first, endpoint)
    wait_until(lambda: endpoint.called, "callbacks are tried")
    for uuid in sent[:3]:
        wait_for_state(client_for(first.demo), uuid, "delivered", "undelivered")
    token = first.demo["auth_token"]
    said = metrics_of(first)
    first.signal(signal.SIGKILL)
    first.wait()

    second = start_gateway(**more)
    endpoint.status = 200
    send_all_kinds(second, endpoint)
    time.sleep(0.5)
    said += metrics_of(second)
    assert second.stop() == 0
    said += first.log() + second.log() + "".join(written_by_postgresql(second.data))
    assert len(said) > 10_000, "something was said"
    for canary in (*CANARIES, token):
        assert not re.findall(f".{{0,200}}{re.escape(canary)}.{{0,50}}", said)


def metrics_of(gateway: Gateway) -> str:
    with urllib.request.urlopen(gateway.demo["base_url"] + "/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def written_by_postgresql(data: Path) -> list[str]:
    """The logs of the embedded server."""
    return [path.read_text("utf-8", "replace") for path in data.rglob("*.log")]
