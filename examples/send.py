"""Send a message through a Sendpool powerpack with Plivo's own Python SDK.

    .venv/bin/python examples/send.py +14155550123 "Hello"
    .venv/bin/python examples/send.py "+14155550123<+12125550123" "Hello both" --callback http://127.0.0.1:8090/status

Credentials come from data/demo.json, which `sendpool serve --demo` writes (--demo-file names another one).
examples/callback_endpoint.py is an endpoint for --callback.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import orjson
import plivo
import plivo.rest.client


def point_sdk_at(base_url: str) -> None:
    """The SDK has no option for its address: these four names are all it takes."""
    for name in (
        "PLIVO_API_BASE_URI",
        "API_VOICE_BASE_URI",
        "API_VOICE_BASE_URI_FALLBACK_1",
        "API_VOICE_BASE_URI_FALLBACK_2",
    ):
        setattr(plivo.rest.client, name, f"{base_url}/v1/Account")


def main() -> None:
    parser = argparse.ArgumentParser(description="Send a message through the demo's powerpack.")
    parser.add_argument("recipient", help="E.164; several are joined by <")
    parser.add_argument("text")
    parser.add_argument("--callback", help="URL told of every change of state")
    parser.add_argument("--demo-file", type=Path, default=Path("data/demo.json"))
    arguments = parser.parse_args()

    demo = orjson.loads(arguments.demo_file.read_bytes())
    point_sdk_at(demo["base_url"])
    client = plivo.RestClient(demo["auth_id"], demo["auth_token"])

    more = {"url": arguments.callback} if arguments.callback else {}
    sent = client.messages.create(
        powerpack_uuid=demo["powerpack_uuid"], dst=arguments.recipient, text=arguments.text, **more
    )
    # 202: every id printed here is durable. What becomes of each message is told to the callback URL, or read:
    waiting = list(sent.message_uuid)
    for _ in range(60):
        for uuid in list(waiting):
            message = client.messages.get(uuid)
            if message.message_state in ("delivered", "undelivered", "failed"):
                print(f"{uuid} from {message.from_number} to {message.to_number}: {message.message_state}")
                waiting.remove(uuid)
        if not waiting:
            return
        time.sleep(0.5)
    print(f"{len(waiting)} still on their way")


if __name__ == "__main__":
    main()
