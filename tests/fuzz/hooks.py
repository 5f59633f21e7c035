"""What Schemathesis is told about this API (SCHEMATHESIS_HOOKS): how lines are written."""

from __future__ import annotations

import json
from typing import Any

import schemathesis

NDJSON = "application/x-ndjson"


@schemathesis.serializer(NDJSON)
def lines(ctx: Any, value: Any) -> bytes:
    """A list as lines of JSON; what is none, as a negative test has it, as it is."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        return "".join([json.dumps(each, default=repr) + "\n" for each in value]).encode()
    return json.dumps(value, default=repr).encode()
