"""POST /carriers/{carrier}/reports: delivery reports, answered 200 only when every fact is stored.

A body is one report or an array; NDJSON is a stream, answered line by line (report_stream.py).

Who is no carrier of ours and who cannot prove to be it get the same answer. What cannot be read is named by its place
and does not stop the rest: it would be the same when sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.api.bodies import bad_json
from gateway.api.call import BodyStream, Call, Reply
from gateway.api.errors import ApiError, api_error, invalid
from gateway.api.replays import Replays
from gateway.api.report_stream import ReportStream, Take
from gateway.api.router import Access, Route
from gateway.api.streams import NDJSON, StreamReply
from gateway.carriers.carrier import BadReports, Proof, Readings, Refused, Webhook, WebhookReader
from gateway.carriers.webhooks import NOBODY
from gateway.clock import Clock
from gateway.metrics import Counts
from resolver.model import CarrierName

REPORTS_MAX: Final = 1_000  # of one request
CHALLENGE: Final = 'Basic realm="Sendpool carriers", Bearer realm="Sendpool carriers"'
"""The same for all, whatever a carrier is asked for: an answer tells nobody which carriers there are."""
REQUESTS_MAX: Final = 128  # in progress; each waits for a commit


class ReportingCarrier(Protocol):
    """What is needed of a carrier."""

    @property
    def webhooks(self) -> WebhookReader: ...


class CarrierReports:
    """The route's handler. `find_carrier` gives a carrier by the name in its path."""

    def __init__(
        self,
        find_carrier: Callable[[CarrierName], ReportingCarrier | None],
        take: Take,
        *,
        clock: Clock,
        counts: Counts,
    ) -> None:
        self._find_carrier = find_carrier
        self._take = take
        self._clock = clock
        self._counts = counts
        self._replays = Replays(clock)
        self._in_progress = 0

    def routes(self) -> list[Route]:
        path = "/carriers/{carrier}/reports"
        return [Route("POST", path, Access.OWN, self.post, streams=is_ndjson, weigh=self.weigh)]

    def weigh(self, call: Call) -> bool:
        """Whether the head proves who it is. Raises ApiError (401) where no body can."""
        name = CarrierName(call.params[0])
        carrier = self._find_carrier(name)
        weigh = NOBODY.weigh if carrier is None else carrier.webhooks.weigh
        proof = weigh(call.request.headers)
        if proof is Proof.NONE or carrier is None:
            raise self._unauthenticated(name)
        return proof is Proof.GIVEN

    async def post(self, call: Call) -> Reply:
        """Take a whole body or a stream. Raises ApiError, and storage's errors."""
        name = CarrierName(call.params[0])
        if call.stream is not None:
            return self._stream(name, call, call.stream)
        webhook = Webhook(call.request.raw_path, call.request.headers, call.body)
        reader, nonce = self._authenticated(name, webhook)
        bound = self._replays.bind(name, nonce, call.body) if nonce else None
        if nonce and bound is None:
            raise self._unauthenticated(name)
        readings = self._read(name, reader, webhook)
        if bound is not None and bound.counts is not None:
            self._counts.add(name, "repeated")
            return call.json({**bound.counts, "refused": _shown(readings.refused)})
        if self._in_progress >= REQUESTS_MAX:
            raise api_error("overloaded", bound="reports")
        self._in_progress += 1
        try:
            taken = await self._take(name, readings.reports)
        finally:
            self._in_progress -= 1
        self._counts.add(name, "taken")
        counts = {"accepted": taken.accepted, "unknown": taken.unknown, "ignored": readings.ignored}
        if bound is not None:
            bound.counts = counts
        return call.json({**counts, "refused": _shown(readings.refused)})

    def _stream(self, name: CarrierName, call: Call, stream: BodyStream) -> StreamReply:
        carrier = self._find_carrier(name)
        if not self.weigh(call) or carrier is None:
            raise self._unauthenticated(name)
        answers_lines = call.query().get("answers") != "end"
        self._counts.add(name, "streamed")
        run = ReportStream(name, carrier.webhooks, stream, self._take, answers_lines=answers_lines)
        return StreamReply(run.answers())

    # -- who it is ----------------------------------------------------------------------------------------------------

    def _authenticated(self, name: CarrierName, webhook: Webhook) -> tuple[WebhookReader, str]:
        """The carrier's reader, and what makes this webhook single. Raises ApiError (401)."""
        carrier = self._find_carrier(name)
        if carrier is None:
            NOBODY.weigh(webhook.headers)
            raise self._unauthenticated(name)
        nonce = carrier.webhooks.authenticate(webhook, now_ms=self._clock.now_ms())
        if nonce is None:
            raise self._unauthenticated(name)
        return carrier.webhooks, nonce

    def _unauthenticated(self, name: CarrierName) -> ApiError:
        self._counts.add(name if self._find_carrier(name) is not None else "unknown", "unauthenticated")
        error = api_error("unauthenticated")
        error.headers = {"WWW-Authenticate": CHALLENGE}
        return error

    # -- what it says -------------------------------------------------------------------------------------------------

    def _read(self, name: CarrierName, reader: WebhookReader, webhook: Webhook) -> Readings:
        """The reports, and what is none with its place. Raises ApiError when nothing can be taken."""
        try:
            readings = reader.read(webhook)
        except BadReports as error:
            self._counts.add(name, "unreadable")
            if error.json_error:
                raise bad_json(webhook.body, error.json_error) from error
            raise invalid("the body", error.reason) from error
        if len(readings.reports) + len(readings.refused) + readings.ignored > REPORTS_MAX:
            raise api_error("body_too_large", f"more than {REPORTS_MAX} reports in one request")
        if readings.refused and not readings.reports and not readings.ignored:
            self._counts.add(name, "unreadable")
            first = readings.refused[0]
            failed = invalid(f"report {first.place}", f"cannot be read: {first.why}")
            failed.more = {"refused": _shown(readings.refused)}
            raise failed
        return readings


def is_ndjson(call: Call) -> bool:
    """Whether a request is a stream of reports."""
    return call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower() == NDJSON


def _shown(refused: Sequence[Refused]) -> list[dict[str, object]]:
    return [{"index": each.place, "error": each.why} for each in refused]
