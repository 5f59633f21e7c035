"""What a carrier's answer to a message means, by its template. Pure: status and bytes in, an id or a failure out.

A message is taken for sent only when the answer says so: a 2xx with the carrier's id and without an error. Whatever
else a 2xx may be, garbage or half an answer, is an unknown outcome, and nothing that comes raises anything but
SendFailed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from gateway.carriers.carrier import (
    BAD_ROUTE,
    BUSY,
    FAILING,
    FAILURES,
    GARBLED,
    REFUSALS,
    REJECTED,
    THROTTLED,
    TIMED_OUT,
    TOO_LONG,
    Failure,
    SendFailed,
)
from gateway.carriers.paths import NO_QUERY, compile_path
from gateway.carriers.template import TAKEN, AnswerTable

ENDED_BY_THE_WAY: Final = frozenset({502, 504})
"""A gateway between us answers for a carrier that may have taken the message all the same."""

CODE_LENGTH_MAX: Final = 128
RETRY_AFTER_S_MAX: Final = 86_400
_REF = re.compile(r"[\x21-\x7e]{1,128}")
_HEX = re.compile(r"(0[xX])?[0-9a-fA-F]{1,40}")
_DECIMAL = re.compile(r"[0-9]{1,40}")

Normalise = Callable[[str], str]


class Answers:
    """Reads answers to messages."""

    def __init__(self, table: AnswerTable, errors: Mapping[str, str], *, place: str) -> None:
        where = f"[{place}.answer]"
        self._id = compile_path(table.id, f"{where} id")
        self._form = id_form(table.id_form)
        self._errors = [compile_path(path, f"{where} error") for path in table.error]
        self._taken = compile_path(table.taken, f"{where} taken") if table.taken else None
        self._taken_values = frozenset(value.casefold() for value in table.taken_values)
        self._statuses = {int(status): FAILURES[code] for status, code in table.statuses.items()}
        self._meanings: dict[str, Failure | None] = dict(REFUSALS)
        for code, meaning in errors.items():
            self._meanings[code.casefold()] = None if meaning == TAKEN else FAILURES.get(meaning, REJECTED)

    def read(self, status: int, retry_after: str, body: bytes, *, now_ms: int) -> str:
        """The carrier's id for the message; raises SendFailed."""
        wait_ms = read_retry_after(retry_after, now_ms=now_ms)
        if status in self._statuses:
            raise SendFailed(self._statuses[status], str(status), retry_after_ms=wait_ms)
        if 200 <= status < 300:
            return self._read_success(status, body, wait_ms)
        if status == 429:
            raise SendFailed(THROTTLED, "429", retry_after_ms=wait_ms)
        if status in ENDED_BY_THE_WAY:
            raise SendFailed(TIMED_OUT, str(status))
        if status in (408, 503):
            raise SendFailed(BUSY, str(status), retry_after_ms=wait_ms)
        if status >= 500:
            raise SendFailed(FAILING, str(status), retry_after_ms=wait_ms)
        raise self._refusal(status, body, wait_ms)

    def _read_success(self, status: int, body: bytes, wait_ms: int | None) -> str:
        value = _read_json(body)
        code = self._code(value)
        if code:
            failure = self._meanings.get(code, GARBLED)
            if failure is not None:
                said = f"{status} {code}" if code in self._meanings else f"{status} with an error"
                raise SendFailed(failure, said, retry_after_ms=wait_ms)
        reference = read_ref(self._id(value, NO_QUERY))
        if not reference:
            raise SendFailed(GARBLED, f"{status} without an id")
        if self._taken is not None and read_code(self._taken(value, NO_QUERY)) not in self._taken_values:
            raise SendFailed(GARBLED, f"{status} without the word for taken")
        return self._form(reference)

    def _refusal(self, status: int, body: bytes, wait_ms: int | None) -> SendFailed:
        code = self._code(_read_json(body))
        failure = self._meanings.get(code)
        if failure is not None:
            return SendFailed(failure, f"{status} {code}", retry_after_ms=wait_ms)
        if status in (400, 409, 410, 422):
            return SendFailed(REJECTED, str(status))
        if status in (413, 414):
            return SendFailed(TOO_LONG, str(status))
        return SendFailed(BAD_ROUTE, str(status))  # 401, 403, 404, a redirect: our settings, not the message

    def _code(self, value: object) -> str:
        for pick in self._errors:
            code = read_code(pick(value, NO_QUERY))
            if code:
                return code
        return ""


def read_code(value: object) -> str:
    """A code as text without regard to case; "" for null, false, 0 and what is none."""
    if isinstance(value, bool) or not value:
        return ""
    if isinstance(value, int):
        value = str(value)
    return value.casefold() if isinstance(value, str) and len(value) <= CODE_LENGTH_MAX else ""


def read_ref(value: object) -> str:
    """A carrier's id as text; "" where it is none. Numbers are taken too, since many carriers count."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _REF.fullmatch(value) else ""


def id_form(name: str) -> Normalise:
    """How ids are written down before they are compared: the same message may be `0A2F` here and `2607` there."""
    forms: dict[str, Normalise] = {"exact": str, "lower": str.lower, "decimal": _from_decimal, "hex": _from_hex}
    return forms[name]


def _from_decimal(reference: str) -> str:
    return str(int(reference)) if _DECIMAL.fullmatch(reference) else reference.lower()


def _from_hex(reference: str) -> str:
    return str(int(reference, 16)) if _HEX.fullmatch(reference) else reference.lower()


def read_retry_after(value: str, *, now_ms: int) -> int | None:
    """Retry-After in either of its forms, as milliseconds from now; None where it says nothing."""
    value = value.strip()
    if not value:
        return None
    if value.isascii() and value.isdecimal():
        return min(int(value[:9]), RETRY_AFTER_S_MAX) * 1_000
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at_ms = int(moment.timestamp() * 1_000)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return min(max(0, at_ms - now_ms), RETRY_AFTER_S_MAX * 1_000)


def _read_json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
