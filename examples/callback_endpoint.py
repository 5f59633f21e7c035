"""An endpoint for callbacks: checks both of Plivo's signatures with the SDK's own functions, prints what it is told.

    .venv/bin/python examples/callback_endpoint.py --port 8090

It needs nothing but the SDK. A callback whose signature does not fit is answered 403 and would be tried again later;
one that came before (the same Webhook-Id) is answered 200 and ignored, since callbacks come at least once.
"""

from __future__ import annotations

import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

import orjson
from plivo.utils import validate_signature
from plivo.utils.signature_v3 import validate_v3_signature


class Endpoint(BaseHTTPRequestHandler):
    auth_token = ""
    seen: set[str] = set()  # noqa: RUF012 - of the whole process; a real endpoint keeps this in its database

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        url = f"http://{self.headers['Host']}{self.path}"
        if not self.is_signed(url, params):
            self.answer(403, "a signature does not fit")
            return
        webhook_id = self.headers["Webhook-Id"]
        if webhook_id not in self.seen:
            self.seen.add(webhook_id)
            code = f" ({params['ErrorCode']})" if params.get("ErrorCode") else ""
            print(f"{params['MessageUUID']} to {params['To']}: {params['Status']}{code}", flush=True)
        self.answer(200, "thanks")

    def is_signed(self, url: str, params: dict[str, str]) -> bool:
        v2, v3 = self.headers.get("X-Plivo-Signature-V2", ""), self.headers.get("X-Plivo-Signature-V3", "")
        v2_nonce = self.headers.get("X-Plivo-Signature-V2-Nonce", "")
        v3_nonce = self.headers.get("X-Plivo-Signature-V3-Nonce", "")
        return bool(
            validate_signature(url, v2_nonce, v2, self.auth_token)
            and validate_v3_signature("POST", url, v3_nonce, self.auth_token, v3, params)
        )

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request; what is worth saying is printed above."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the callbacks of the demo's account.")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--demo-file", type=Path, default=Path("data/demo.json"))
    arguments = parser.parse_args()
    Endpoint.auth_token = orjson.loads(arguments.demo_file.read_bytes())["auth_token"]
    with ThreadingHTTPServer(("127.0.0.1", arguments.port), Endpoint) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
