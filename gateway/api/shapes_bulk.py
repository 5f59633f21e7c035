"""Lines of a bulk, both ways: one message's JSON to a request and its recipient, and what became of it to a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import orjson

from gateway.api.errors import ApiError, invalid, missing
from gateway.api.requests import RequestReader, with_text
from gateway.api.shapes_message import SendBody, check_not_to_itself, check_send, decode_send, digits
from gateway.api.times import iso, utc
from gateway.submissions import RefusedLine
from resolver.model import AccountId, Request
from storage.bulks import BulkMessage
from storage.records import StretchRow

ANSWERS: Final = "answers"
IGNORED: Final = frozenset({ANSWERS, "trackable"})
KEYS: Final[Mapping[str, str]] = dict(zip(SendBody.__struct_encode_fields__, SendBody.__struct_fields__, strict=True))
"""What may stand on a line, and so in the query, by the name it has on the wire."""

ERROR_LENGTH_MAX: Final = 300
SAMPLES_MAX: Final = 1_000  # requests remembered to be made again with other texts; most bulks have one
LINE: Final = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


class Defaults(NamedTuple):
    """What the query says of every line: `values` where a line does not, and whether the answers are wanted at once."""

    values: tuple[tuple[str, str], ...]
    streams_answers: bool


def read_defaults(query: Mapping[str, str], requests: RequestReader) -> Defaults:
    """Read the query; what would be refused on every line is refused here. Raises ApiError."""
    unknown = [name for name in query if name not in KEYS and name not in IGNORED]
    if unknown:
        raise invalid(unknown[0], "is no parameter of a bulk")
    answers = query.get(ANSWERS, "")
    if answers not in ("", "stream", "summary"):
        raise invalid(ANSWERS, "must be stream or summary")
    values = tuple((KEYS[name], value) for name, value in query.items() if value and name in KEYS)
    sample = SendBody(dst="+14155550100", text="x")
    for name, value in values:
        setattr(sample, name, value)
    if not (sample.powerpack_uuid or sample.powerpack_uuid_of_php or sample.src):
        sample.powerpack_uuid = "of each line"
    check_send(sample)
    requests.read(sample, AccountId(""), "")
    return Defaults(values, answers == "stream")


class LineReader:
    """Reads lines. Those of one stretch that differ in their recipient alone share a request. 3 to 6 µs a line."""

    def __init__(
        self, requests: RequestReader, defaults: Defaults, *, account_id: AccountId, requester_ip: str
    ) -> None:
        self._requests = requests
        self._defaults = defaults.values
        self._account_id, self._requester_ip = account_id, requester_ip
        self._samples: dict[tuple[object, ...], Request | ApiError] = {}  # what lines say beside text and recipient
        self._known: dict[tuple[str, int], Request] = {}  # of this stretch, by text and sample

    def begin_stretch(self) -> None:
        """Requests are an entry's own: forget those read so far."""
        self._known = {}
        if len(self._samples) > SAMPLES_MAX:
            self._samples = {}

    def requests(self) -> list[Request]:
        """Give the requests of this stretch, each once."""
        return list(self._known.values())

    def read(self, raw: bytes) -> tuple[Request, str]:
        """Give a line's request and its recipient as written. Raises ApiError."""
        send = decode_send(raw)
        for name, value in self._defaults:
            given = getattr(send, name)
            if given is None or given == "":
                setattr(send, name, value)
        if send.media_urls or send.media_ids or send.template or send.interactive or send.location:
            check_send(send)  # refused; a list is no key
        key = _key(send)
        sample = self._samples.get(key)
        if sample is None:
            sample = self._samples[key] = self._read_sample(send)
        if isinstance(sample, ApiError):
            raise sample.with_traceback(None)  # else it would remember every place it was raised from
        dst, text = send.dst, send.text
        if dst is None or dst == "":
            raise missing("dst")
        if text is None:
            raise missing("text")
        known = self._known.get((text, id(sample)))
        if known is None:
            known = self._known[text, id(sample)] = with_text(sample, text)
        written = dst if isinstance(dst, str) else str(dst)
        if known.source:
            check_not_to_itself(known.source, (written,))
        return known, written

    def _read_sample(self, send: SendBody) -> Request | ApiError:
        dst, text = send.dst, send.text
        send.dst, send.text = "+14155550100", "x"  # each line has its own
        try:
            check_send(send)
            return self._requests.read(send, self._account_id, self._requester_ip)
        except ApiError as error:
            return error
        finally:
            send.dst, send.text = dst, text


def _key(send: SendBody) -> tuple[object, ...]:
    """All that makes a request what it is, beside its text."""
    return (
        send.powerpack_uuid, send.powerpack_uuid_of_php, send.src, send.type, send.url, send.method, send.log,
        send.message_expiry, send.priority, send.patience_ms, send.reference, send.on_unknown,
    )  # fmt: skip


def refused_line(line: int, code: str, error: str, retry_at_ms: int = 0) -> RefusedLine:
    """Note why a line is refused, in words that can be stored whatever the line held."""
    error = error[:ERROR_LENGTH_MAX].replace("\0", " ").encode("utf-8", "replace").decode()
    return RefusedLine(line, code, error, retry_at_ms)


# --- Answers ----------------------------------------------------------------------------------------------------------


def render_lines(messages: Iterable[BulkMessage], refused: Iterable[RefusedLine]) -> bytes:
    """Say what became of the lines of a stretch, in their order."""
    shown = [(each.line, _accepted(each)) for each in messages]
    shown += [(each.line, _refused(each)) for each in refused]
    shown.sort()
    return b"".join([orjson.dumps(each, option=LINE) for _, each in shown])


def _accepted(message: BulkMessage) -> dict[str, object]:
    forecast_ms = message.forecast_ms
    accepted: dict[str, object] = {
        "line": message.line,
        "message_uuid": message.message_id,
        "from": digits(message.number),
        "tier": message.tier,
        "segments": message.segments,
        "send_at": None if forecast_ms is None else utc(forecast_ms),
    }
    if forecast_ms is None:
        accepted["reason"] = message.binding_window
    return accepted


def _refused(refused: RefusedLine) -> dict[str, object]:
    shown: dict[str, object] = {"line": refused.line, "code": refused.code, "error": refused.error}
    if refused.retry_at_ms:
        shown["retry_at"] = iso(refused.retry_at_ms)
    return shown


def refused_lines_of(row: StretchRow) -> list[RefusedLine]:
    """Read what was refused of a stretch out of its row."""
    columns = (row.refused_lines, row.refused_codes, row.refused_errors, row.refused_retry_ms)
    return [RefusedLine._make(each) for each in zip(*columns, strict=True)]
