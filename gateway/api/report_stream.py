"""One stream of reports from a carrier: NDJSON in, and a line out for each line once its report is stored.

Invariants
* One batch is under way at a time; what is answered is committed. Nothing more is read meanwhile, so a carrier that
  sends faster than we store is held back, and memory holds one batch.
* A line that cannot be read is named by its number and stops nothing.
* How the stream ended says its last line: `"complete": false` means that lines without an answer may be sent again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

import orjson

from gateway.api.call import BodyStream
from gateway.api.errors import ApiError, api_error
from gateway.api.lines import Lines
from gateway.api.streams import CUT, DRAINING, IDLE, MISFRAMED, StreamEnded
from gateway.carriers.carrier import Report, WebhookReader
from gateway.inbound import Taken
from resolver.model import CarrierName
from storage.records import OutcomeUnknown, StorageError

BATCH_LINES_MAX: Final = 500
ENDS: Final = {IDLE: "body_timeout", MISFRAMED: "bad_request", CUT: "bad_request", DRAINING: "stopping"}

TOO_LONG: Final = "it is longer than 64 KiB"


class Take(Protocol):
    """Implemented by `gateway.inbound.Reports.take`."""

    async def __call__(self, carrier: CarrierName, reports: Sequence[Report]) -> Taken: ...


class ReportStream:
    """See above. `answers_lines` False: only the summary is said, for a carrier that reads when it has written."""

    def __init__(
        self, carrier: CarrierName, reader: WebhookReader, stream: BodyStream, take: Take, *, answers_lines: bool
    ) -> None:
        self._carrier = carrier
        self._reader = reader
        self._lines = Lines(stream)
        self._take = take
        self._answers_lines = answers_lines
        self._last_line = 0
        self._accepted = self._unknown = self._ignored = self._refused = 0

    async def answers(self) -> AsyncGenerator[bytes, None]:
        """Give the answer's pieces. Raises storage's errors before the first of them only."""
        trouble: ApiError | None = None
        try:
            while raws := await self._lines.take(BATCH_LINES_MAX):
                said = await self._store(raws)
                if self._answers_lines:
                    yield said
        except StreamEnded as error:
            trouble = api_error(ENDS[error.reason])
        except StorageError as error:
            if self._last_line == 0:
                raise
            trouble = api_error("outcome_unknown" if isinstance(error, OutcomeUnknown) else "storage_unavailable")
        yield self._summary(trouble)

    async def _store(self, raws: Sequence[bytes | None]) -> bytes:
        """Store one batch and give the answers to its lines."""
        numbers = range(self._last_line + 1, self._last_line + 1 + len(raws))
        lines = [raw for raw in raws if raw]
        errors: dict[int, str] = {}
        if len(lines) < len(raws):
            errors = {number: TOO_LONG for number, raw in zip(numbers, raws, strict=True) if raw is None}
        filled = [number for number, raw in zip(numbers, raws, strict=True) if raw]
        readings = self._reader.read_lines(lines)
        for place, why in readings.refused:
            if lines[place].isspace():  # blank, and no line of anybody's
                filled[place] = 0
            else:
                errors[filled[place]] = why
        taken = await self._take(self._carrier, readings.reports) if readings.reports else Taken(0, 0)
        self._accepted += taken.accepted
        self._unknown += taken.unknown
        self._ignored += readings.ignored
        self._refused += len(errors)
        self._last_line += len(raws)
        if not errors:
            return b"".join([b'{"line":%d,"ok":true}\n' % number for number in filled if number])
        return _said(filled, errors)

    def _summary(self, trouble: ApiError | None) -> bytes:
        said: dict[str, object] = {
            "complete": trouble is None,
            "lines": self._last_line,
            "accepted": self._accepted,
            "unknown": self._unknown,
            "ignored": self._ignored,
            "refused": self._refused,
        }
        if trouble is not None:
            said |= {"code": trouble.code, "error": trouble.message}
        return orjson.dumps(said) + b"\n"


def _said(filled: Sequence[int], errors: dict[int, str]) -> bytes:
    """The answers to a batch's lines in order, blank ones (0) left out."""
    numbers = sorted({*filled, *errors} - {0})
    return b"".join(
        [
            orjson.dumps({"line": number, "ok": False, "error": errors[number]}) + b"\n"
            if number in errors
            else b'{"line":%d,"ok":true}\n' % number
            for number in numbers
        ]
    )
