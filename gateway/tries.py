"""One try of a callback: what is sent, and what follows from the answer. Pure."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_plus, urlencode

import orjson

from gateway.guard import CallbackUrl, Reply
from gateway.signatures import Params, Tokens, signature_headers
from storage.records import CallbackResult, CallbackRow, CallbackState, OwedCallback

# --- What follows -----------------------------------------------------------------------------------------------------

FIRST_DELAYS_MS = (60_000, 120_000, 240_000)  # Plivo's
DELAY_MS_MAX = 12 * 3_600_000
GONE, TOO_MANY = 410, 429
UNREADABLE = "unreadable_params"
OURS = frozenset({UNREADABLE, "refused_url", "no_account", "internal"})
"""Problems that say nothing about the endpoint."""


def judge(owed: OwedCallback, reply: Reply, *, now_ms: int, give_up_after_ms: int) -> CallbackResult:
    """What follows from a try: told, tried again and when, or given up.

    The last try is made when the time is over, and Plivo's three are made even if it was over before: after a long
    stop of the gateway.
    """
    tries = owed.tries + 1
    said = reply.problem or str(reply.status)
    row = owed.row
    if not reply.problem and 200 <= reply.status < 300:
        return CallbackResult(row.callback_id, CallbackState.TOLD, tries, now_ms, said)
    end_ms = row.created_ms + give_up_after_ms
    is_over = now_ms >= end_ms and tries > len(FIRST_DELAYS_MS)
    if is_over or reply.status == GONE or reply.problem == UNREADABLE:
        return CallbackResult(row.callback_id, CallbackState.GIVEN_UP, tries, now_ms, said)
    next_ms = now_ms + delay_ms(tries)
    if now_ms < end_ms:
        next_ms = min(next_ms, end_ms)
    return CallbackResult(row.callback_id, CallbackState.OWED, tries, next_ms, said)


def delay_ms(tries: int) -> int:
    """How long to wait after the `tries`th failure: 60 s, doubled each time, up to twelve hours."""
    if tries <= len(FIRST_DELAYS_MS):
        return FIRST_DELAYS_MS[tries - 1]
    return min(FIRST_DELAYS_MS[-1] << min(tries - len(FIRST_DELAYS_MS), 16), DELAY_MS_MAX)


# --- What is sent -----------------------------------------------------------------------------------------------------

FORM = "application/x-www-form-urlencoded"


class Outgoing(NamedTuple):
    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None


def render(row: CallbackRow, url: CallbackUrl, params: Params, *, tokens: Tokens, nonce: str, now_ms: int) -> Outgoing:
    """The request for a callback: a form for POST, the query for GET; signed both ways."""
    headers = {
        "Webhook-Id": row.callback_id,
        "Webhook-Timestamp": str(now_ms // 1_000),
        "Sendpool-Sequence": str(row.sequence),
    }
    if row.method.upper() == "GET":
        whole = with_query(url.text, params)
        headers.update(signature_headers("GET", whole, nonce, tokens, ()))
        return Outgoing("GET", whole, headers, None)
    headers["Content-Type"] = FORM
    headers.update(signature_headers("POST", url.text, nonce, tokens, params))
    return Outgoing("POST", url.text, headers, urlencode(params).encode())


def with_query(url: str, params: Params) -> str:
    """`url` with `params` added to its query. They replace what it has of the same names: an endpoint that validates
    a signature sees each name once."""
    names = {name for name, _ in params}
    address, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in names]
    whole = "&".join([*kept, urlencode(params)] if params else kept)
    return f"{address}?{whole}" if whole else address


def read_params(params: bytes) -> list[tuple[str, str]] | None:
    """A row's parameters in order; None when they are not a JSON object of texts."""
    try:
        read = orjson.loads(params)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict) or not all(isinstance(value, str) for value in read.values()):
        return None
    return list(read.items())
