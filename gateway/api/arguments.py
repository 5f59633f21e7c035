"""Arguments that may stand in the query or in the body: of a DELETE, and of our own routes."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from gateway.api.bodies import Values, read_bool, read_object
from gateway.api.call import Call
from gateway.api.errors import invalid
from gateway.api.forms import NAME_SHOWN_MAX


def read_own(call: Call, known: Collection[str]) -> dict[str, object]:
    """What a route of ours was given; the body wins, and nothing else may be there. Raises ApiError."""
    values: dict[str, object] = {**call.query(), **read_object(call.body)}
    for name in values:
        if name not in known:
            has = ", ".join(known) or "none"
            raise invalid(ascii(name[:NAME_SHOWN_MAX]), f"is no key of this route, which has {has}")
    return values


def read_flag(call: Call, name: str) -> bool:
    """Read a boolean of a DELETE: documented in the query, sent by the SDKs in the body; the body wins."""
    said = read_bool(read_object(call.body), name)
    if said is None:
        said = read_bool(cast("Values", call.query()), name)
    return bool(said)
