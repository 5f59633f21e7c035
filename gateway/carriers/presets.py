"""The presets: what each well-known interface looks like, as the tables of a carrier's template.

Facts only, from the vendors' own documentation as of 2026; each says where. Codes are what those documents list;
a code that is not here means `rejected` in an answer, and has Plivo's code 1000 in a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Tables = Mapping[str, object]

REPORT_URL: Final = "{report_url}?reference={reference}"
"""Where reports are to go, with our reference: understood even if the answer to the message was lost."""

# What we defined ourselves, for whoever builds a carrier of their own: docs/carriers.md.
JSON: Final[Tables] = {
    "submit": {
        "headers": {"Idempotency-Key": "{reference}"},
        "body": {
            "reference": "{reference}",
            "attempt": "{attempt}",
            "from": "{from}",
            "to": "{to}",
            "text": "{text}",
            "validity_s": "{validity_s}",
        },
    },
    "answer": {"id": "id", "error": ["error.code"]},
    "reports": {
        "id": "id",
        "reference": "reference",
        "status": "status",
        "error": "error_code",
        "at": "at",
        "plivo_codes": True,
        "statuses": {
            "sent": "sent",
            "delivered": "delivered",
            "undelivered": "undelivered",
            "expired": "expired",
            "failed": "failed",
            "rejected": "rejected",
        },
    },
}

# https://www.plivo.com/docs/messaging/api/message/send-a-message, .../message-status-callbacks,
# .../troubleshooting/error-codes, .../concepts/signature-validation. An error's answer holds a text and no code.
PLIVO: Final[Tables] = {
    "submit_url": "https://api.plivo.com/v1/Account/{account}/Message/",
    "submit": {
        "body": {
            "src": "{from_digits}",
            "dst": "{to_digits}",
            "text": "{text}",
            "url": REPORT_URL,
            "message_expiry": "{validity_s}",
        },
        "validity_s_min": 5,
        "validity_s_max": 10_800,
    },
    "answer": {"id": "message_uuid.0", "id_form": "lower", "error": ["error"]},
    "reports": {
        "format": "form",
        "id": "MessageUUID",
        "id_form": "lower",
        "reference": "?reference",
        "status": "Status",
        "error": "ErrorCode",
        "plivo_codes": True,
        "statuses": {
            "queued": "ignored",
            "sent": "sent",
            "delivered": "delivered",
            "read": "delivered",
            "undelivered": "undelivered",
            "failed": "failed",
            "rejected": "rejected",
        },
    },
    "webhooks": {"check": "plivo"},
    "errors": {
        "Insufficient Credit": "bad_route",
        "This caller ID is not allowed for outbound message": "invalid_source",
    },
}

# https://www.twilio.com/docs/messaging/api/message-resource, .../guides/track-outbound-message-status,
# /docs/api/errors, /docs/usage/security.
TWILIO: Final[Tables] = {
    "submit_url": "https://api.twilio.com/2010-04-01/Accounts/{account}/Messages.json",
    "submit": {
        "format": "form",
        "body": {
            "From": "{from}",
            "To": "{to}",
            "Body": "{text}",
            "StatusCallback": REPORT_URL,
            "ValidityPeriod": "{validity_s}",
        },
        "validity_s_min": 5,
        "validity_s_max": 14_400,
    },
    "answer": {"id": "sid", "error": ["code", "error_code"]},
    "reports": {
        "format": "form",
        "id": "MessageSid",
        "reference": "?reference",
        "status": "MessageStatus",
        "error": "ErrorCode",
        "statuses": {
            "accepted": "ignored",
            "scheduled": "ignored",
            "queued": "ignored",
            "sending": "ignored",
            "sent": "sent",
            "delivered": "delivered",
            "read": "delivered",
            "undelivered": "undelivered",
            "failed": "failed",
            "canceled": "failed",
        },
    },
    "webhooks": {"check": "twilio"},
    "errors": {
        "14107": "throttled",  # messages a second
        "20003": "bad_route",  # authentication
        "20404": "bad_route",
        "20429": "throttled",
        "21211": "invalid_number",
        "21212": "invalid_source",
        "21408": "blocked",  # country not enabled
        "21602": "invalid_message",
        "21606": "invalid_source",
        "21610": "opted_out",
        "21611": "throttled",  # the source number's queue is full
        "21612": "no_route",
        "21614": "invalid_number",
        "21617": "too_long",
        "21635": "invalid_number",  # a landline
        "30001": "busy",
        "30002": "bad_route",  # account suspended
        "30003": "80",  # handset unreachable
        "30004": "blocked",
        "30005": "unavailable",  # unknown handset
        "30006": "no_route",  # landline or unreachable carrier
        "30007": "spam",
        "30010": "blocked",  # price over the limit set
        "30022": "throttled",
        "30032": "invalid_source",  # toll-free not verified
        "30034": "invalid_source",  # not registered
        "30036": "420",  # validity ended
    },
}

# https://developers.telnyx.com/docs/messaging/messages/send-message, .../receiving-webhooks, .../error-codes.
TELNYX: Final[Tables] = {
    "submit_url": "https://api.telnyx.com/v2/messages",
    "submit": {
        "body": {
            "from": "{from}",
            "to": "{to}",
            "text": "{text}",
            "messaging_profile_id": "{application}",
            "webhook_url": REPORT_URL,
        },
    },
    "answer": {"id": "data.id", "id_form": "lower", "error": ["errors.0.code", "data.errors.0.code"]},
    "reports": {
        "id": "data.payload.id",
        "id_form": "lower",
        "reference": "?reference",
        "status": "data.payload.to.0.status",
        "error": "data.payload.errors.0.code",
        "at": "data.occurred_at",
        "statuses": {
            "queued": "ignored",
            "sending": "ignored",
            "sent": "sent",
            "delivered": "delivered",
            "delivery_unconfirmed": "sent",  # final, and nobody knows
            "delivery_failed": "undelivered",
            "sending_failed": "failed",
            "expired": "expired",
            "webhook_delivered": "ignored",  # an inbound message
        },
    },
    "webhooks": {"check": "telnyx"},
    "errors": {
        "10009": "bad_route",  # authentication
        "10010": "bad_route",  # authorization
        "10011": "throttled",
        "40001": "no_route",
        "40002": "spam",
        "40003": "spam",
        "40004": "rejected",
        "40005": "420",
        "40006": "80",
        "40008": "rejected",
        "40009": "invalid_message",
        "40011": "throttled",
        "40300": "opted_out",
        "40302": "too_long",
        "40305": "invalid_source",
        "40310": "invalid_number",
        "40318": "throttled",  # its queue is full
    },
}

# https://dev.bandwidth.com/docs/messaging/createMessage, .../webhooks, .../errors. Inbound messages come as
# `message-received`, possibly in one array with reports.
BANDWIDTH: Final[Tables] = {
    "submit_url": "https://messaging.bandwidth.com/api/v2/users/{account}/messages",
    "submit": {
        "body": {
            "from": "{from}",
            "to": ["{to}"],
            "text": "{text}",
            "applicationId": "{application}",
            "tag": "{reference}",
            "expiration": "{expires_at}",
        },
    },
    "answer": {"id": "id"},
    "reports": {
        "id": "message.id",
        "reference": "message.tag",
        "status": "type",
        "error": "errorCode",
        "at": "time",
        "statuses": {
            "message-sending": "sent",
            "message-delivered": "delivered",
            "message-failed": "undelivered",
            "message-received": "ignored",
            "message-read": "ignored",
        },
    },
    "webhooks": {"check": "basic"},
    "errors": {
        "4001": "rejected",
        "4301": "invalid_message",
        "4302": "invalid_source",
        "4303": "invalid_number",
        "4350": "invalid_number",
        "4360": "420",
        "4401": "no_route",
        "4403": "invalid_source",
        "4404": "invalid_number",
        "4405": "invalid_source",
        "4406": "invalid_number",
        "4407": "invalid_source",
        "4408": "invalid_number",
        "4420": "no_route",
        "4421": "no_route",
        "4432": "450",
        "4434": "invalid_number",
        "4470": "spam",
        "4481": "blocked",
        "4482": "blocked",
        "4492": "blocked",
        "4700": "rejected",
        "4701": "80",
        "4702": "80",
        "4720": "invalid_number",
        "4721": "unavailable",
        "4730": "no_route",
        "4740": "invalid_source",
        "4750": "blocked",
        "4751": "too_long",
        "4752": "invalid_message",
        "4770": "spam",
        "4771": "spam",
        "4772": "blocked",
        "4773": "invalid_source",
        "4774": "invalid_source",
        "4775": "opted_out",
        "4780": "rejected",
        "4781": "rejected",
        "4785": "rejected",
        "4795": "invalid_source",
        "5600": "20",
        "5610": "20",
        "5620": "20",
        "5630": "20",
        "5650": "20",
    },
}

PRESETS: Final[Mapping[str, Tables]] = {
    "json": JSON,
    "plivo": PLIVO,
    "twilio": TWILIO,
    "telnyx": TELNYX,
    "bandwidth": BANDWIDTH,
    "own": {},
}
"""By the name in `preset`; `own` starts from nothing."""

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "json": ("submit_url",),
    "plivo": ("submit_url", "username", "password"),
    "twilio": ("submit_url", "username", "password"),
    "telnyx": ("submit_url", "authorization"),
    "bandwidth": ("submit_url", "account", "application", "username", "password"),
    "own": ("submit_url",),
}
"""What must be set beside a preset."""
