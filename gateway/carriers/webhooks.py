"""What one carrier may post to us: who proves to be it, and how what it says is read.

Reports today; inbound messages will be a second reader behind the same check, with paths of the same kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from gateway.carriers.carrier import BadReports, Proof, Readings, Webhook
from gateway.carriers.checks import Check, SecretCheck
from gateway.carriers.paths import NO_QUERY, Query
from gateway.carriers.readings import FORM_FIELDS_MAX, ReportReader
from gateway.carriers.template import join_preset, read_template


class Webhooks:
    """Implements `WebhookReader`."""

    def __init__(self, check: Check, reports: ReportReader) -> None:
        self._check = check
        self._reports = reports

    def authenticate(self, webhook: Webhook, *, now_ms: int) -> str | None:
        return self._check.nonce_of(webhook, now_ms=now_ms)

    def weigh(self, headers: Mapping[str, str]) -> Proof:
        return self._check.weigh(headers)

    @property
    def credential(self) -> str:
        return self._check.credential

    def read(self, webhook: Webhook) -> Readings:
        content_type = webhook.headers.get("Content-Type", "application/json")
        return self._reports.read(content_type, _query_of(webhook.target), webhook.body)

    def read_lines(self, lines: Sequence[bytes]) -> Readings:
        return self._reports.read_lines(lines)


def json_webhooks(secret: str, place: str) -> Webhooks:
    """Make what takes reports of the JSON preset by a secret, for carriers without a template."""
    template = read_template(join_preset({"submit_url": "unused"}, place), place)
    return Webhooks(SecretCheck(secret), ReportReader(template.reports, template.errors, place=place))


def _query_of(target: str) -> Query:
    _, mark, query = target.partition("?")
    if not mark:
        return NO_QUERY
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX))
    except ValueError as error:
        raise BadReports("comes with a query we cannot read") from error


NOBODY: Final = SecretCheck("no carrier has this secret")
"""Compared with where there is no such carrier, so that it takes as long; admits nobody who does not read this."""
