"""From what a client sends to a request that can be decided: for POST Message and for each line of a bulk."""

from __future__ import annotations

from typing import Final

from gateway.api.errors import api_error
from gateway.api.shapes_message import (
    SendBody,
    read_log,
    read_method,
    read_on_unknown,
    read_patience_ms,
    read_priority,
    read_reference,
    read_source,
    read_validity_ms,
)
from gateway.guard import GuardPolicy, check_url
from resolver.model import AccountId, PowerpackId, Request, RequestId, Service

URLS_MAX: Final = 1_000
"""Checked callback addresses remembered; an account has a few, and checking one costs 15 µs."""


class RequestReader:
    """Reads requests; `policy` says which callback addresses are good."""

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy = policy
        self._urls: dict[str, str] = {}

    def read(self, send: SendBody, account_id: AccountId, requester_ip: str) -> Request:
        """Give the request, but for what is known when it is decided. Raises ApiError. About 2 µs."""
        request = Request(
            RequestId(""),
            account_id,
            PowerpackId((send.powerpack_uuid or "").strip().lower()),
            send.text or "",
            0,
            Service.SMS,
            read_priority(send),
            read_patience_ms(send),
            read_validity_ms(send),
            read_on_unknown(send),
            read_reference(send),
            self._read_url(send.url) if send.url else "",
            read_method(send),
            read_log(send),
            requester_ip,
        )
        if send.src:
            request.source = read_source(send.src)
        return request

    def _read_url(self, url: str) -> str:
        known = self._urls.get(url)
        if known is not None:
            return known
        checked = check_url(url, self._policy)
        if isinstance(checked, str):
            raise api_error("invalid_url", f"url: {checked}")
        if len(self._urls) >= URLS_MAX:
            self._urls.clear()
        self._urls[url] = checked.text
        return checked.text


def with_text(sample: Request, text: str) -> Request:
    """Give the request that says something else. Four times as fast as `dataclasses.replace`."""
    return Request(
        RequestId(""), sample.account_id, sample.powerpack_id, text, 0, sample.service, sample.priority,
        sample.patience_ms, sample.validity_ms, sample.on_unknown, sample.reference, sample.callback_url,
        sample.callback_method, sample.log, sample.requester_ip, 0, sample.source,
    )  # fmt: skip
