"""Requests out of what clients send; what they may hold is tested by way of POST Message and of bulks."""

from __future__ import annotations

from dataclasses import fields, replace

from gateway.api.requests import RequestReader, with_text
from gateway.api.shapes_message import SendBody
from gateway.guard import GuardPolicy
from resolver.model import E164, AccountId, OnUnknown, PowerpackId, Priority, Request, RequestId, Service


def test_a_request_with_another_text_is_the_same_in_all_else() -> None:
    sample = Request(
        RequestId(""), AccountId("a"), PowerpackId("p"), "x", 0, Service.MMS, Priority.URGENT, 5, 60_000,
        OnUnknown.FAIL, "r", "https://example.com/", "GET", "false", "192.0.2.1", 0, E164("+14155550100"),
    )  # fmt: skip
    untouched = {"request_id", "segments", "accepted_ms"}  # known when it is decided
    plain = Request(RequestId(""), AccountId(""), PowerpackId(""), "", 0)
    for field in fields(Request):  # a field that is added later must be set here, and copied
        if field.name not in untouched:
            assert getattr(sample, field.name) != getattr(plain, field.name), field.name
    assert with_text(sample, "other") == replace(sample, text="other")


def test_a_source_is_read_and_a_url_is_checked_once() -> None:
    reader = RequestReader(GuardPolicy())
    send = SendBody(dst="+14155550199", text="x", src="1 (415) 555-0100", url="HTTPS://Example.com/a")
    first, second = (reader.read(send, AccountId("a"), "192.0.2.1") for _ in range(2))
    assert first == second
    assert (first.source, first.callback_url) == ("+14155550100", "https://example.com/a")
