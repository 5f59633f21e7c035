from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.carriers.carrier import BadReports, Webhook
from gateway.carriers.webhooks import json_webhooks
from tests.fakes.templates import compiled

MESSAGE = "019b76da-a800-7000-8000-000000000001"
FORM = CIMultiDict({"Content-Type": "application/x-www-form-urlencoded"})


def test_our_reference_may_come_in_the_url() -> None:
    reader = compiled("twilio").webhooks
    body = b"MessageSid=SM1&MessageStatus=sent"
    (report,) = reader.read(Webhook(f"/reports?x=1&reference={MESSAGE}", FORM, body)).reports
    assert report.reference == MESSAGE
    (report,) = reader.read(Webhook("/reports?reference=theirs", FORM, body)).reports
    assert report.reference == ""


def test_a_query_without_end_is_refused() -> None:
    with pytest.raises(BadReports, match="query"):
        compiled("twilio").webhooks.read(Webhook("/reports?" + "a=1&" * 300, FORM, b"MessageSid=SM1"))


def test_a_body_without_a_type_is_taken_for_json() -> None:
    reader = json_webhooks("s3cret", "carriers.one")
    posted = Webhook("/", CIMultiDict({"X-Sendpool-Secret": "s3cret"}), b'{"id":"a","status":"sent"}')
    assert reader.authenticate(posted, now_ms=0) == ""
    assert len(reader.read(posted).reports) == 1
    assert len(reader.read_lines([posted.body, posted.body]).reports) == 2
