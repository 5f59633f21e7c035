"""POST /carriers/{carrier}/reports: delivery reports, answered 200 only when every fact is stored.

Who is no carrier of ours and who does not know its secret get the same answer. What cannot be read is named by its
place and does not stop the rest: it would be the same when sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import orjson

from gateway.api.bodies import bad_json
from gateway.api.call import JSON, Call, Reply
from gateway.api.errors import api_error, invalid
from gateway.api.router import Access, Route
from gateway.carriers.carrier import BadReport, Report, matches_secret
from gateway.inbound import Taken
from resolver.model import CarrierName

REPORTS_MAX: Final = 1_000  # of one request
REQUESTS_MAX: Final = 32  # in progress; each waits for a commit
ABSENT: Final = "no carrier has this secret"  # compared with when there is no such carrier, so that it takes as long


class ReportingCarrier(Protocol):
    """What is needed of a carrier."""

    def parse_reports(self, content_type: str, body: bytes) -> list[Report]: ...

    def check_secret(self, headers: Mapping[str, str]) -> bool: ...


class Take(Protocol):
    """Implemented by `gateway.inbound.Reports.take`."""

    async def __call__(self, carrier: CarrierName, reports: Sequence[Report]) -> Taken: ...


class CarrierReports:
    """The route's handler. `find_carrier` gives a carrier by the name in its path."""

    def __init__(self, find_carrier: Callable[[CarrierName], ReportingCarrier | None], take: Take) -> None:
        self._find_carrier = find_carrier
        self._take = take
        self._in_progress = 0

    def routes(self) -> list[Route]:
        return [Route("POST", "/carriers/{carrier}/reports", Access.OWN, self.post)]

    async def post(self, call: Call) -> Reply:
        name = CarrierName(call.params[0])
        carrier = self._authenticated(name, call.request.headers)
        reports, refused = _read(carrier, call.request.headers.get("Content-Type", JSON), call.body)
        if self._in_progress >= REQUESTS_MAX:
            raise api_error("overloaded", bound="reports")
        self._in_progress += 1
        try:
            taken = await self._take(name, reports)
        finally:
            self._in_progress -= 1
        return call.json({"accepted": taken.accepted, "unknown": taken.unknown, "refused": refused})

    def _authenticated(self, name: CarrierName, headers: Mapping[str, str]) -> ReportingCarrier:
        carrier = self._find_carrier(name)
        if carrier is None:
            matches_secret(ABSENT, headers)
        elif carrier.check_secret(headers):
            return carrier
        error = api_error("unauthenticated")
        error.headers = {"WWW-Authenticate": 'Bearer realm="Sendpool carriers"'}
        raise error


def _read(carrier: ReportingCarrier, content_type: str, body: bytes) -> tuple[list[Report], list[dict[str, object]]]:
    """The reports, and what is none with its place. Raises ApiError when nothing can be taken."""
    refused: list[dict[str, object]] = []
    try:
        reports = carrier.parse_reports(content_type, body)
    except BadReport as error:
        if content_type.partition(";")[0].strip().lower() != JSON:
            raise invalid("the body", f"cannot be read: {error.reason}") from error
        reports, refused = _read_one_by_one(carrier, body)
    if len(reports) + len(refused) > REPORTS_MAX:
        raise api_error("body_too_large", f"more than {REPORTS_MAX} reports in one request")
    if refused and not reports:
        failed = invalid(f"report {refused[0]['index']}", f"cannot be read: {refused[0]['error']}")
        failed.more = {"refused": refused}
        raise failed
    return reports, refused


def _read_one_by_one(carrier: ReportingCarrier, body: bytes) -> tuple[list[Report], list[dict[str, object]]]:
    """Slower, and knows which of them is wrong."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_json(body, str(error)) from error
    reports: list[Report] = []
    refused: list[dict[str, object]] = []
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        try:
            reports += carrier.parse_reports(JSON, orjson.dumps([item]))
        except BadReport as error:
            refused.append({"index": index, "error": error.reason.removeprefix("report 0: ")})
        except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
            refused.append({"index": index, "error": "it is nested too deeply"})
    return reports, refused
