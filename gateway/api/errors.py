"""What the API answers when it does not do what was asked: one table of stable codes, one exception.

Every error body is `{"api_id", "error", "code"}` and, where waiting helps, `retry_at` with a Retry-After header.
`error` is for people and may change; `code` may not. docs/refusals.md lists this table, and a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from resolver.model import Refusal, RefusalCode


class Kind(NamedTuple):
    """One row of the table. `retry_after_s` is what Retry-After says when no instant is known; 0: no such header."""

    status: int
    text: str
    retry_after_s: int = 0


ERRORS: Final[Mapping[str, Kind]] = {
    # access and routes
    "unauthenticated": Kind(401, "authentication credentials were not provided"),
    "main_account_only": Kind(403, "a subaccount has no subaccounts"),
    "not_found": Kind(404, "not found"),
    "method_not_allowed": Kind(405, "method not allowed"),
    # the request as HTTP
    "bad_request": Kind(400, "this is no HTTP request we understand"),
    "body_timeout": Kind(408, "the request's body did not arrive in time"),
    "body_too_large": Kind(413, "the request's body is too large"),
    "unsupported_encoding": Kind(415, "request bodies with a Content-Encoding are not taken; send plain JSON"),
    "unsupported_media_type": Kind(415, "send application/json or a form; a bulk is application/x-ndjson"),
    "too_many_requests": Kind(429, "too many requests", 1),
    # parameters
    "invalid_json": Kind(400, "invalid json data sent in raw POST"),
    "missing_parameter": Kind(400, "a parameter is missing"),
    "invalid_parameter": Kind(400, "a parameter has a value it may not have"),
    "invalid_url": Kind(400, "this URL may not be called"),
    "empty_stream": Kind(400, "the stream holds no line"),
    "line_too_long": Kind(400, "the line is longer than 65536 bytes"),
    "several_recipients": Kind(400, "a line is one message to one recipient, and dst names several"),
    "invalid_data": Kind(400, "the database refused a value of this request"),
    "too_many_recipients": Kind(413, "more recipients than one request may have"),
    # sending
    "src_or_powerpack": Kind(400, "Specify either powerpack_uuid or src in request params to send a message"),
    "invalid_src": Kind(
        400, "src must be one of the account's numbers; the US and Canada take no alphanumeric senders"
    ),
    "src_not_allowed": Kind(400, "This caller ID is not allowed for outbound message"),
    "not_supported_yet": Kind(400, "this is not built yet"),
    "invalid_idempotency_key": Kind(400, "Idempotency-Key is 1 to 255 visible ASCII characters"),
    "idempotency_key_reused": Kind(409, "this Idempotency-Key was used for another request"),
    "idempotency_key_running": Kind(409, "a request with this Idempotency-Key is still running", 1),
    "already_left": Kind(409, "the message has been handed to a carrier, or has ended"),
    # powerpacks and their numbers
    "name_taken": Kind(409, "the account has another one of this name"),
    "application_not_found": Kind(400, "the account has no such application"),
    "number_in_use": Kind(409, "the number is in another powerpack"),
    "not_for_rent": Kind(404, "there is no such number for rent, or not any more"),
    "price_changed": Kind(409, "it costs something else by now; nothing was bought"),
    "wrong_number_type": Kind(400, "the number is of another type"),
    "administrator_only": Kind(403, "numbers are brought in by the administrator only: sendpool numbers add"),
    "toll_free_limit": Kind(400, "a powerpack holds one toll-free number, and this one has it"),
    "short_code_limit": Kind(400, "a powerpack holds one short code per country, and this one has it"),
    # our trouble
    "internal": Kind(500, "server error"),
    "overloaded": Kind(503, "more is under way than can be taken; try again", 1),
    "stopping": Kind(503, "the gateway is stopping; go on with the one that follows", 1),
    "storage_unavailable": Kind(503, "the database is away; nothing was stored; try again", 1),
    "outcome_unknown": Kind(503, "it may be stored, or not; repeat it with the same Idempotency-Key", 1),
}

REFUSED_STATUS: Final[Mapping[RefusalCode, int]] = {
    RefusalCode.NO_CAPACITY: 429,
    RefusalCode.NO_NUMBER: 422,
    RefusalCode.STICKY_AT_LIMIT: 422,
    RefusalCode.PAUSED: 422,
}
"""With `Prefer: refuse-now` and every recipient refused for the pool's state; other refusals are 400."""

CLOSES: Final = frozenset({400, 408, 413, 503})
"""Statuses after which a connection that may hold an unread body is closed."""


class ApiError(Exception):
    """An answer that is no success. `more` joins the body; `retry_at_ms` adds `retry_at` and Retry-After.

    `bound` names the bound of docs/limits.md that was met, for the metrics.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_at_ms: int | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
        bound: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_at_ms = retry_at_ms
        self.headers = headers or {}
        self.more = more or {}
        self.bound = bound


def api_error(code: str, message: str = "", *, retry_at_ms: int | None = None, bound: str = "") -> ApiError:
    """Make the error the table has for `code`; an empty `message` is the table's."""
    kind = ERRORS[code]
    headers = {"Retry-After": str(kind.retry_after_s)} if kind.retry_after_s and retry_at_ms is None else None
    return ApiError(kind.status, code, message or kind.text, retry_at_ms=retry_at_ms, headers=headers, bound=bound)


def api_error_of(refusal: Refusal) -> ApiError:
    """Make the error for a request that is refused for what it is."""
    return ApiError(400, refusal.code, refusal.detail)


def missing(name: str) -> ApiError:
    """Make the error for a parameter that was not given, in Plivo's words."""
    return api_error("missing_parameter", f"{name} parameter is missing")


def invalid(name: str, why: str) -> ApiError:
    """Make the error for a parameter whose value is wrong. `why` continues the sentence "NAME …"."""
    return api_error("invalid_parameter", f"{name} {why}")
