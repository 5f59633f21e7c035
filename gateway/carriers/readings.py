"""What a carrier's delivery reports say, by its template. Pure: bytes in, reports and refused items out.

Compiled once, since reports come by the thousand: about 2 µs a report with the JSON preset. What cannot be read is
named by its place and does not stop its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import orjson

from gateway.carriers.answers import id_form, read_code, read_ref
from gateway.carriers.carrier import FAILURES, REFUSALS, BadReports, Readings, Refused, Report
from gateway.carriers.paths import NO_QUERY, Query, compile_path
from gateway.carriers.template import PLIVO_CODE, TAKEN, WORDS, ReportsTable
from storage.records import FactKind

FORM_FIELDS_MAX: Final = 200
INSTANT_LENGTH_MAX: Final = 40
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

ReadItem = Callable[[object, Query], "Report | str | None"]
"""An item's report; why it is none; or None where it says nothing that concerns us."""


class Meaning(NamedTuple):
    """What a carrier's word for a status means."""

    kind: FactKind
    code: str  # Plivo's, where the report names no better one
    may_name_code: bool


class ReportReader:
    """Reads reports in the form a template describes. `signs_body_alone`: what a URL says proves nothing."""

    def __init__(
        self, table: ReportsTable, errors: Mapping[str, str], *, place: str, signs_body_alone: bool = False
    ) -> None:
        where = f"[{place}.reports]"
        self.is_form = table.format == "form"
        self._items = compile_path(table.items, f"{where} items") if table.items else None
        self._read_item = _compile_item(table, errors, where, signs_body_alone=signs_body_alone)

    def read(self, content_type: str, query: Query, body: bytes) -> Readings:
        """Read a whole body: one report, or an array of them. Raises BadReports."""
        media_type = content_type.partition(";")[0].strip().lower()
        if self.is_form:
            if media_type != "application/x-www-form-urlencoded":
                raise BadReports("is not application/x-www-form-urlencoded")
            return self._read_all([dict(read_form(body))], query)
        if media_type != "application/json":
            raise BadReports("is not application/json")
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadReports("is no JSON", json_error=str(error)) from error
        if self._items is not None:
            value = self._items(value, query)
            if not isinstance(value, list):
                raise BadReports("has no array where the template's `items` leads")
        return self._read_all(value if isinstance(value, list) else [value], query)

    def read_lines(self, lines: Sequence[bytes]) -> Readings:
        """Read NDJSON, a report a line. `Refused.place` counts within `lines`. Raises nothing."""
        return self._read_all(map(_read_line, lines), NO_QUERY)

    def _read_all(self, items: Iterable[object], query: Query) -> Readings:
        reports: list[Report] = []
        refused: list[Refused] = []
        ignored = 0
        read = self._read_item
        for place, item in enumerate(items):
            found = read(item, query)
            if found is None:
                ignored += 1
            elif isinstance(found, str):
                refused.append(Refused(place, found))
            else:
                reports.append(found)
        return Readings(reports, ignored, refused)


def read_form(body: bytes) -> list[tuple[str, str]]:
    """The names and values of a form, in order. Raises BadReports."""
    try:
        text = body.decode("utf-8")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict")
    except ValueError as error:  # no UTF-8, or too many
        raise BadReports("is no form we can read") from error


def _read_line(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return error


def _compile_item(table: ReportsTable, errors: Mapping[str, str], where: str, *, signs_body_alone: bool) -> ReadItem:
    of_form = table.format == "form"
    pick_id = compile_path(table.id, f"{where} id", of_form=of_form)
    pick_reference = compile_path(table.reference, f"{where} reference", of_form=of_form)
    pick_status = compile_path(table.status, f"{where} status", of_form=of_form)
    pick_error = compile_path(table.error, f"{where} error", of_form=of_form)
    pick_at = compile_path(table.at, f"{where} at", of_form=of_form)
    normal_id = id_form(table.id_form)
    is_proven = not (signs_body_alone and table.reference.startswith("?"))
    meanings = _meanings(table.statuses)
    codes = _codes(errors, plivo=table.plivo_codes)

    def read(item: object, query: Query) -> Report | str | None:
        if type(item) is not dict:
            return "it is no JSON" if isinstance(item, orjson.JSONDecodeError) else "it is not an object"
        status = pick_status(item, query)
        if type(status) is not str:
            status = str(status) if type(status) is int else ""
        meaning = meanings.get(status)
        if meaning is None:
            meaning = meanings.get(status.casefold(), _UNKNOWN)
            if meaning is _UNKNOWN:
                return "its status is unknown"
        if meaning is _IGNORED:
            return None
        carrier_ref = read_ref(pick_id(item, query))
        reference = pick_reference(item, query)
        if type(reference) is not str or not _UUID.fullmatch(reference):
            reference = _read_reference(reference)
        if not carrier_ref and not reference:
            return "it names no message"
        code = meaning.code
        if meaning.may_name_code:
            code = codes(pick_error(item, query)) or code
        at_ms = read_instant(pick_at(item, query))
        return Report(normal_id(carrier_ref), reference, meaning.kind, code, at_ms, is_proven)

    return read


_UNKNOWN: Final = Meaning(FactKind.REPORTED_SENT, "", False)
_IGNORED: Final = Meaning(FactKind.REPORTED_SENT, "", False)


def _meanings(statuses: Mapping[str, str]) -> dict[str, Meaning]:
    found: dict[str, Meaning] = {}
    for word, ours in statuses.items():
        meant = WORDS[ours]
        meaning = _IGNORED
        if meant is not None:
            kind, code = meant
            meaning = Meaning(kind, code, kind in (FactKind.UNDELIVERED, FactKind.REPORTED_FAILED))
        found[word] = found[word.casefold()] = meaning
    return found


def _codes(errors: Mapping[str, str], *, plivo: bool) -> Callable[[object], str]:
    """What gives Plivo's code for what a carrier names; "" for what it does not know."""
    known = {code: failure.plivo_code for code, failure in REFUSALS.items()}
    for code, meaning in errors.items():
        if meaning != TAKEN:
            known[code.casefold()] = FAILURES[meaning].plivo_code if meaning in FAILURES else meaning

    def plivo_code(value: object) -> str:
        code = read_code(value)
        if not code:
            return ""
        found = known.get(code)
        if found is None and plivo and PLIVO_CODE.fullmatch(code) and int(code):
            return code
        return found or ""

    return plivo_code


def _read_reference(value: object) -> str:
    """Our message id, in whatever case; "" for what is none of ours."""
    lower = value.lower() if isinstance(value, str) else ""
    return lower if _UUID.fullmatch(lower) else ""


def read_instant(value: object) -> int:
    """Milliseconds since the epoch, or a time as RFC 3339 text; 0 for anything else."""
    if value is None:
        return 0
    if isinstance(value, str) and len(value) <= 16 and value.isascii() and value.isdecimal():
        value = int(value)  # a form has no numbers
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 < value < 1 << 53 else 0
    if isinstance(value, str) and len(value) <= INSTANT_LENGTH_MAX:
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return max(0, int(moment.timestamp() * 1_000))
        except (ValueError, OverflowError):
            return 0
    return 0
