"""Trying a carrier without sending anything: what a message would look like, what an answer or a report would mean.

For `sendpool carriers check`. Nothing leaves the machine, and no secret is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from gateway.carriers.carrier import BadReports, SendFailed
from gateway.carriers.http import compile_carrier, sample_request
from gateway.fields import BadSetting, nearest
from gateway.settings import CarrierSettings, Settings
from resolver.model import CarrierName

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"


def find_http_carrier(settings: Settings, name: str) -> CarrierSettings:
    """Give the carrier of this name that has a template. Raises BadSetting."""
    carrier = settings.carriers.get(CarrierName(name))
    if carrier is None:
        raise BadSetting(f"there is no carrier {name!r} in the settings{nearest(name, settings.carriers)}")
    if carrier.kind != "http":
        raise BadSetting(f"carrier {name!r} is of kind {carrier.kind!r}, which sends nothing over HTTP")
    return carrier


def show_submit(settings: Settings, name: str, *, now_ms: int) -> Iterator[str]:
    """Show the request a sample message would be handed over with, line by line."""
    carrier = find_http_carrier(settings, name)
    public_url = settings.server.public_url
    origin, request = sample_request(carrier, public_url=public_url, now_ms=now_ms)
    yield f"{request.method.decode()} {origin.scheme}://{origin.netloc}{request.target.decode()}"
    yield from (f"{header.decode()}: {value.decode()}" for header, value in request.headers)
    yield ""
    if request.body:
        yield request.body.decode()
        yield ""
    yield from _notes(carrier, public_url)


def _notes(carrier: CarrierSettings, public_url: str) -> Iterator[str]:
    compiled = compile_carrier(carrier, public_url=public_url)
    place = f"/carriers/{carrier.name}/reports"
    if not public_url:
        yield "note: [server] public_url is not set, so the carrier is not told where to report."
    if compiled.takes_webhooks:
        yield f"reports: taken at {public_url}{place}, proved by check = {compiled.check!r}"
    else:
        yield f"note: no secret is set, so nothing that is posted to {place} is taken."


def read_sample_answer(settings: Settings, name: str, status: int, body: bytes, *, now_ms: int) -> str:
    """Say what an answer would mean."""
    carrier = find_http_carrier(settings, name)
    answers = compile_carrier(carrier, public_url=settings.server.public_url).answers
    try:
        return f"sent; the carrier's id is {answers.read(status, '', body, now_ms=now_ms)}"
    except SendFailed as failed:
        failure = failed.failure
        then = "tried again" if failure.may_retry else "the message ends failed"
        if failure.taken == "maybe":
            then = "the outcome is unknown, on_unknown decides"
        return f"{failure.code} ({failed.carrier_code}): {failure.shown} {then.capitalize()}."


def read_sample_reports(settings: Settings, name: str, body: bytes) -> Iterator[str]:
    """Say what the body of a webhook would mean; whether it is signed is not looked at."""
    carrier = find_http_carrier(settings, name)
    reader = compile_carrier(carrier, public_url=settings.server.public_url).reports
    try:
        readings = reader.read(FORM_TYPE if reader.is_form else JSON_TYPE, {}, body)
    except BadReports as error:
        yield f"the body {error.reason}"
        return
    for report in readings.reports:
        shown = {"carrier_ref": report.carrier_ref, "reference": report.reference, "kind": report.kind}
        yield orjson.dumps({**shown, "code": report.code, "at_ms": report.at_ms}).decode()
    yield from (f"report {place}: refused: {why}" for place, why in readings.refused)
    if readings.ignored:
        yield f"{readings.ignored} passed over: they say nothing about a message's end"
