"""Vendors' interfaces as their own documentation has them: what they answer, and what they post and sign.

Written apart from the product's code, so that one checks the other: the signatures are made here from what the vendors
say, not by calling what verifies them.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
from multidict import CIMultiDict

from gateway.carriers.carrier import Webhook
from tests.fakes.templates import MINIMAL, TELNYX_KEY

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
NONCE = "05429567804466091622"


class Vendor(Protocol):
    """One vendor."""

    def answer(self, carrier_ref: str) -> bytes:
        """A message was taken."""

    def refusal(self) -> bytes:
        """A message was refused for good; goes with a 400."""

    def error_inside(self) -> bytes:
        """Something that is no success, though it comes with a 200."""

    def read(self, headers: CIMultiDict[str], body: bytes) -> dict[str, str]:
        """What was asked for: from, to, text and report_url. Raises what it likes when it is not as documented."""

    def report(self, url: str, carrier_ref: str, status: str, *, now_ms: int) -> Webhook:
        """A report, signed. `status` is `sent`, `delivered` or `undelivered`."""


def _target(url: str) -> str:
    split = urlsplit(url)
    return split.path + (f"?{split.query}" if split.query else "")


class Json:
    """Ours."""

    def answer(self, carrier_ref: str) -> bytes:
        return orjson.dumps({"id": carrier_ref})

    def refusal(self) -> bytes:
        return b'{"error": {"code": "spam"}}'

    error_inside = refusal

    def read(self, headers: CIMultiDict[str], body: bytes) -> dict[str, str]:
        said = orjson.loads(body)
        assert headers["Idempotency-Key"] == said["reference"]
        return {"from": said["from"], "to": said["to"], "text": said["text"], "reference": said["reference"]}

    def report(self, url: str, carrier_ref: str, status: str, *, now_ms: int) -> Webhook:
        headers = CIMultiDict({**JSON, "Authorization": f"Bearer {MINIMAL['json']['secret']}"})
        return Webhook(_target(url), headers, orjson.dumps({"id": carrier_ref, "status": status}))


class Plivo:
    """Plivo's Message API; callbacks are forms, signed V3."""

    token = str(MINIMAL["plivo"]["password"])

    def answer(self, carrier_ref: str) -> bytes:
        return orjson.dumps({"message": "message(s) queued", "message_uuid": [carrier_ref], "api_id": "an-id"})

    def refusal(self) -> bytes:
        return orjson.dumps({"api_id": "an-id", "error": "'1111' is not a valid phone number."})

    error_inside = refusal

    def read(self, headers: CIMultiDict[str], body: bytes) -> dict[str, str]:
        user = str(MINIMAL["plivo"]["username"])
        assert headers["Authorization"] == "Basic " + b64encode(f"{user}:{self.token}".encode()).decode()
        said = orjson.loads(body)
        assert 5 <= said["message_expiry"] <= 10_800
        return {"from": f"+{said['src']}", "to": f"+{said['dst']}", "text": said["text"], "report_url": said["url"]}

    def report(self, url: str, carrier_ref: str, status: str, *, now_ms: int) -> Webhook:
        fields = {
            "MessageUUID": carrier_ref,
            "Status": status,
            "From": "14155550100",
            "To": "14155550123",
            "Units": "1",
        }
        if status != "sent":
            fields["ErrorCode"] = {"delivered": "000", "undelivered": "80"}[status]
        split = urlsplit(url)
        query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(split.query)))
        said = "".join(name + fields[name] for name in sorted(fields))
        joint = "." if query else ""
        text = f"{split.scheme}://{split.netloc}{split.path}?{query}{joint}{said}.{NONCE}"
        signature = b64encode(hmac.digest(self.token.encode(), text.encode(), "sha256")).decode()
        signed = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": NONCE}
        return Webhook(_target(url), CIMultiDict({**FORM, **signed}), urlencode(fields).encode())


class Twilio:
    """Twilio's Message resource; status callbacks are forms, signed over the URL and their fields."""

    token = str(MINIMAL["twilio"]["password"])

    def answer(self, carrier_ref: str) -> bytes:
        return orjson.dumps({"sid": carrier_ref, "status": "queued", "error_code": None, "error_message": None})

    def refusal(self) -> bytes:
        return orjson.dumps({"code": 21610, "message": "unsubscribed recipient", "more_info": "", "status": 400})

    def error_inside(self) -> bytes:
        return orjson.dumps({"sid": "SM1", "status": "failed", "error_code": 30007})

    def read(self, headers: CIMultiDict[str], body: bytes) -> dict[str, str]:
        user = str(MINIMAL["twilio"]["username"])
        assert headers["Authorization"] == "Basic " + b64encode(f"{user}:{self.token}".encode()).decode()
        said = dict(parse_qsl(body.decode(), strict_parsing=True))
        return {"from": said["From"], "to": said["To"], "text": said["Body"], "report_url": said["StatusCallback"]}

    def report(self, url: str, carrier_ref: str, status: str, *, now_ms: int) -> Webhook:
        fields = {"MessageSid": carrier_ref, "SmsSid": carrier_ref, "MessageStatus": status, "SmsStatus": status}
        if status == "undelivered":
            fields["ErrorCode"] = "30003"
        text = url + "".join(name + fields[name] for name in sorted(fields))
        signature = b64encode(hmac.digest(self.token.encode(), text.encode(), "sha1")).decode()
        return Webhook(_target(url), CIMultiDict({**FORM, "X-Twilio-Signature": signature}), urlencode(fields).encode())


class Telnyx:
    """Telnyx's messages; events are JSON, signed with the account's key over time and body."""

    def answer(self, carrier_ref: str) -> bytes:
        return orjson.dumps({"data": {"id": carrier_ref, "to": [{"status": "queued"}], "errors": []}})

    def refusal(self) -> bytes:
        return orjson.dumps({"errors": [{"code": "40300", "title": "Blocked due to STOP message"}]})

    def error_inside(self) -> bytes:
        return orjson.dumps({"data": {"id": "x", "errors": [{"code": "40001"}]}})

    def read(self, headers: CIMultiDict[str], body: bytes) -> dict[str, str]:
        assert headers["Authorization"] == MINIMAL["telnyx"]["authorization"]
        said = orjson.loads(body)
        return {"from": said["from"], "to": said["to"], "text": said["text"], "report_url": said["webhook_url"]}

    def report(self, url: str, carrier_ref: str, status: str, *, now_ms: int) -> Webhook:
        word = {"undelivered": "delivery_failed"}.get(status, status)
        errors = [{"code": "40006"}] if status == "undelivered" else []
        payload = {"id": carrier_ref, "direction": "outbound", "to": [{"status": word}], "errors": errors}
        event_type = "message.sent" if status == "sent" else "message.finalized"
        body = orjson.dumps({"data": {"event_type": event_type, "payload": payload}, "meta": {"attempt": 1}})
        return Webhook(_target(url), CIMultiDict(self.signed(body, now_ms=now_ms)), body)

    def signed(self, body: bytes, *, now_ms: int) -> dict[str, str]:
        """The headers that go with a body."""
        timestamp = str(now_ms // 1_000)
        signature = b64encode(TELNYX_KEY.sign(timestamp.encode() + b"|" + body)).decode()
        return {**JSON, "telnyx-timestamp": timestamp, "telnyx-signature-ed25519": signature}


class Bandwidth:
    """Bandwidth's messaging v2; events are arrays of JSON, with HTTP Basic."""

    def answer(self, carrier_ref: str) -> bytes:
        return orjson.dumps({"id": carrier_ref, "direction": "out", "to": ["+14155550123"], "segmentCount": 1})

    def refusal(self) -> bytes:
        return orjson.dumps({"type": "request-validation", "description": "'from' must be valid"})

    error_inside = refusal

    def read(self, headers: CIMultiDict[str], body: bytes) -> dict[str, str]:
        user, password = MINIMAL["bandwidth"]["username"], MINIMAL["bandwidth"]["password"]
        assert headers["Authorization"] == "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        said = orjson.loads(body)
        assert said["applicationId"] == MINIMAL["bandwidth"]["application"]
        (recipient,) = said["to"]
        return {"from": said["from"], "to": recipient, "text": said["text"], "reference": said["tag"]}

    def report(self, url: str, carrier_ref: str, status: str, *, now_ms: int) -> Webhook:
        kind = {"sent": "sending", "undelivered": "failed"}.get(status, status)
        message = {"id": carrier_ref, "direction": "out", "text": "", "tag": ""}
        event: dict[str, object] = {"type": f"message-{kind}", "time": "2026-01-01T00:00:00Z", "message": message}
        if status == "undelivered":
            event["errorCode"] = 4702
        given = b64encode(f"{MINIMAL['bandwidth']['secret_user']}:{MINIMAL['bandwidth']['secret']}".encode()).decode()
        return Webhook(_target(url), CIMultiDict({**JSON, "Authorization": f"Basic {given}"}), orjson.dumps([event]))


VENDORS: dict[str, type[Vendor]] = {
    "json": Json,
    "plivo": Plivo,
    "twilio": Twilio,
    "telnyx": Telnyx,
    "bandwidth": Bandwidth,
}
