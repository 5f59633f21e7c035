"""The hookbox: an account's endpoint. Each callback is appended to a file before it is answered."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl

import orjson

from tests.acceptance.kill.wire import Reply, Request


class Hookbox:
    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def handle(self, request: Request) -> Reply:
        told = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        row = [told["MessageUUID"], int(told["Sequence"]), told["Status"], told.get("PossibleDuplicate") == "true"]
        os.write(self._file, orjson.dumps(row) + b"\n")
        return Reply()

    def close(self) -> None:
        os.close(self._file)
