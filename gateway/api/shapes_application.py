"""Plivo's JSON for applications, both ways. We have no voice: its settings are kept as they are given, and shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.api.bodies import Values, checked_text, one_of, read_bool, read_text
from gateway.api.errors import api_error, invalid
from storage.catalog import ApplicationRow

METHODS: Final = ("GET", "POST")
URL_LENGTH_MAX: Final = 2_048
SIP_HOST: Final = "app.sendpool.invalid"  # nothing listens there: no calls are taken

_is_name = re.compile(r"[A-Za-z0-9_-]+").fullmatch

CheckUrl = Callable[[str], str]
"""Gives an address as it is to be called. Raises ApiError where none may be."""


def read_application(values: Values, row: ApplicationRow, check_url: CheckUrl) -> ApplicationRow:
    """Change what a create or update names; what it does not name, or names with null, stays. Raises ApiError.

    An empty address takes the one away that was there.
    """
    message_url = _read_url(values, "message_url", row.message_url)
    if message_url and message_url != row.message_url:
        message_url = check_url(message_url)
    return replace(
        row,
        name=_read_name(values) or row.name,
        message_url=message_url,
        message_method=_read_method(values, "message_method", row.message_method),
        answer_url=_read_url(values, "answer_url", row.answer_url),
        answer_method=_read_method(values, "answer_method", row.answer_method),
        hangup_url=_read_url(values, "hangup_url", row.hangup_url),
        hangup_method=_read_method(values, "hangup_method", row.hangup_method),
        fallback_url=_read_url(values, "fallback_answer_url", row.fallback_url),
        fallback_method=_read_method(values, "fallback_method", row.fallback_method),
        is_number_default=_read_flag(values, "default_number_app", row.is_number_default),
        is_endpoint_default=_read_flag(values, "default_endpoint_app", row.is_endpoint_default),
        log_inbound=_read_flag(values, "log_incoming_messages", row.log_inbound),
        is_public=_read_flag(values, "public_uri", row.is_public),
    )


def _read_name(values: Values) -> str | None:
    name = read_text(values, "app_name")
    if name is not None and not _is_name(name):
        raise invalid("app_name", "may have letters, digits, - and _ only")
    return name


def _read_url(values: Values, name: str, former: str) -> str:
    value = values.get(name)
    if value is None:
        return former
    if not isinstance(value, str):
        raise invalid(name, "must be a string")
    if not value.isprintable():
        raise api_error("invalid_url", f"{name}: The URL has a character that must be percent-encoded.")
    return checked_text(name, value.strip(), most=URL_LENGTH_MAX)


def _read_method(values: Values, name: str, former: str) -> str:
    method = (read_text(values, name) or former).upper()
    if method not in METHODS:
        raise invalid(name, one_of(METHODS))
    return method


def _read_flag(values: Values, name: str, former: bool) -> bool:
    said = read_bool(values, name)
    return former if said is None else said


def application_path(account_id: str, application_id: str) -> str:
    """Where an application is, as numbers name theirs."""
    return f"/v1/Account/{account_id}/Application/{application_id}/"


def render_application(row: ApplicationRow) -> dict[str, object]:
    """Give the application object."""
    return {
        "answer_method": row.answer_method,
        "answer_url": row.answer_url,
        "app_id": row.application_id,
        "app_name": row.name,
        "default_app": row.is_number_default,
        "default_endpoint_app": row.is_endpoint_default,
        "enabled": True,
        "fallback_answer_url": row.fallback_url,
        "fallback_method": row.fallback_method,
        "hangup_method": row.hangup_method,
        "hangup_url": row.hangup_url,
        "log_incoming_messages": row.log_inbound,
        "message_method": row.message_method,
        "message_url": row.message_url,
        "public_uri": row.is_public,
        "resource_uri": application_path(row.account_id, row.application_id),
        "sip_uri": f"sip:{row.application_id}@{SIP_HOST}",
        "sub_account": None,
    }
