"""What can be said of an HTTP carrier in sendpool.toml: the tables below `[carriers.NAME]`, as they are set.

A preset fills them, and any key may be set otherwise: a key of the file wins, tables inside are joined key by key, and
an empty text takes out what the preset has. Nothing is compiled here; gateway/carriers/http.py does that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from gateway.carriers.carrier import FAILURES
from gateway.carriers.presets import NEEDS, PRESETS
from gateway.fields import BadSetting, Given, checked, nearest, setting, table_setting
from storage.records import FactKind

T = TypeVar("T")

TAKEN: Final = "taken"
"""In `errors`: this code is not an error."""

WORDS: Final[Mapping[str, tuple[FactKind, str] | None]] = {
    "sent": (FactKind.REPORTED_SENT, ""),
    "delivered": (FactKind.DELIVERED, "000"),
    "undelivered": (FactKind.UNDELIVERED, "1000"),
    "expired": (FactKind.UNDELIVERED, "420"),
    "failed": (FactKind.REPORTED_FAILED, "1000"),
    "rejected": (FactKind.REPORTED_FAILED, "300"),
    "ignored": None,
}
"""What a report's status may mean, and Plivo's code where the report names no better one."""

ID_FORMS: Final = "exact lower decimal hex"
PLIVO_CODE: Final = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class SubmitTable:
    """How a message is handed over. Texts may hold placeholders such as `{to}`."""

    method: str = setting("POST", "of the request; GET has no body", one_of="POST PUT GET")
    format: str = setting("json", "how the body is written", one_of="json form")
    headers: Mapping[str, str] = table_setting("sent beside our own; not for the text", secret=True)
    body: Mapping[str, object] = table_setting("what is sent, as a table", secret=True)
    validity_s_min: int = setting(1, "least `{validity_s}` the carrier takes", least=1)
    validity_s_max: int = setting(345_600, "most `{validity_s}` the carrier takes; four days", least=1)


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """What the answer to a message means. Paths lead into its JSON: `messages.0.id`."""

    id: str = setting("", "path to the carrier's id of the message; a 2xx without it is an unknown outcome")
    id_form: str = setting("exact", "how ids are compared: as text, in lower case, or as numbers", one_of=ID_FORMS)
    error: tuple[str, ...] = setting((), "paths to an error code, the first that leads to one counts")
    taken: str = setting("", "path to a value that must be one of taken_values; empty: a 2xx with an id is enough")
    taken_values: tuple[str, ...] = setting((), "what stands at `taken` when the message was taken")
    statuses: Mapping[str, str] = table_setting("HTTP statuses that mean another failure than usual")


@dataclass(frozen=True, slots=True)
class ReportsTable:
    """How delivery reports look. Paths as in the answer; `?name` is a parameter of the URL they come to."""

    format: str = setting("json", "of the body; JSON may be an object, an array or a stream", one_of="json form")
    items: str = setting("", "path to the array of reports inside a JSON body")
    id: str = setting("", "path to the carrier's id of the message")
    id_form: str = setting("exact", "as in the answer; `hex` here and `decimal` there match", one_of=ID_FORMS)
    reference: str = setting("", "path to our reference, if the carrier repeats it")
    status: str = setting("", "path to what became of the message; its words are in `statuses`")
    error: str = setting("", "path to the error code; its meaning is in `errors`")
    at: str = setting("", "path to the carrier's time: milliseconds since 1970 or RFC 3339")
    plivo_codes: bool = setting(False, "error codes that `errors` does not have are Plivo's numbers")
    statuses: Mapping[str, str] = table_setting(f"the carrier's word → one of ours: {', '.join(WORDS)}")


@dataclass(frozen=True, slots=True)
class WebhooksTable:
    """How we know that what is posted to us comes from the carrier."""

    check: str = setting(
        "secret", "how it is proved", one_of="secret basic hmac_sha256 plivo plivo_v2 twilio telnyx"
    )  # fmt: skip
    header: str = setting("X-Signature", "of hmac_sha256: where the signature of the body is")
    encoding: str = setting("hex", "of hmac_sha256", one_of="hex base64")


TABLES: Final[Mapping[str, type[Any]]] = {
    "submit": SubmitTable,
    "answer": AnswerTable,
    "reports": ReportsTable,
    "webhooks": WebhooksTable,
}
"""The tables of a carrier with settings of their own; beside them `errors`: the carrier's code → what it means."""


class Template(NamedTuple):
    """One carrier's tables, preset and file joined; values are checked one by one, not yet compiled."""

    place: str  # "carriers.NAME", for complaints
    submit: SubmitTable
    answer: AnswerTable
    reports: ReportsTable
    webhooks: WebhooksTable
    errors: Mapping[str, str]


def join_preset(options: Mapping[str, object], place: str) -> dict[str, object]:
    """Give what was set over what its preset says. Raises BadSetting."""
    name = options.get("preset", "json")
    if not isinstance(name, str) or name not in PRESETS:
        known = ", ".join(PRESETS)
        raise BadSetting(f"[{place}] preset: must be one of {known}, not {name!r}{nearest(str(name), PRESETS)}")
    joined = _join(PRESETS[name], options)
    for key in NEEDS[name]:
        if not joined.get(key):
            raise BadSetting(f"[{place}] {key}: must be set for preset = {name!r}")
    return joined


def _join(ours: Mapping[str, object], theirs: Mapping[str, object]) -> dict[str, object]:
    joined = dict(ours)
    for key, value in theirs.items():
        former = joined.get(key)
        if isinstance(former, Mapping) and isinstance(value, Mapping):
            joined[key] = _join(former, value)
        elif value == "" and key in joined:
            del joined[key]
        else:
            joined[key] = value
    return joined


def read_template(joined: Mapping[str, object], place: str) -> Template:
    """Read the tables out of a carrier's options. Raises BadSetting naming the key."""
    submit = _read_table(joined, "submit", SubmitTable, place)
    answer = _read_table(joined, "answer", AnswerTable, place)
    reports = _read_table(joined, "reports", ReportsTable, place)
    webhooks = _read_table(joined, "webhooks", WebhooksTable, place)
    errors = _texts(joined.get("errors", {}), f"{place}.errors")
    for code, meaning in errors.items():
        if meaning != TAKEN and meaning not in FAILURES and not PLIVO_CODE.fullmatch(meaning):
            hint = nearest(meaning, FAILURES)
            raise BadSetting(f"[{place}.errors] {code}: {meaning!r} is none of our failures, and no Plivo code{hint}")
    _check_meanings(reports.statuses, WORDS, f"[{place}.reports] statuses")
    _check_meanings(answer.statuses, FAILURES, f"[{place}.answer] statuses")
    for status in answer.statuses:
        if not re.fullmatch(r"[2-5][0-9][0-9]", status):
            raise BadSetting(f"[{place}.answer] statuses: {status!r} is no HTTP status")
    if not answer.id:
        raise BadSetting(f"[{place}.answer] id: must say where the carrier's id of the message is")
    return Template(place, submit, answer, reports, webhooks, errors)


def _read_table(joined: Mapping[str, object], name: str, kind: type[T], place: str) -> T:
    value, place = joined.get(name, {}), f"{place}.{name}"
    if not isinstance(value, Mapping):
        raise BadSetting(f"[{place}]: must be a table")
    return checked(kind, {key: Given(each, f"[{place}] {key}") for key, each in value.items()}, place)


def _texts(value: object, place: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value.values()):
        raise BadSetting(f"[{place}]: must be a table of texts")
    return dict(value)


def _check_meanings(given: Mapping[str, str], known: Mapping[str, object], place: str) -> None:
    for word, meaning in given.items():
        if meaning not in known:
            raise BadSetting(f"{place}.{word}: must be one of {', '.join(known)}, not {meaning!r}")
