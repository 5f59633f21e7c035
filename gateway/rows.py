"""What accepting stores: the rows of a request and of its messages."""

from __future__ import annotations

from resolver.model import Decision, Message, Refusal, Request, Tier
from storage.records import BodyRow, MessageRow


def decided_row(message: Message, line: int, decision: Decision) -> MessageRow:
    """A message with a number. `line` is its place in the request, from 0."""
    request = message.request
    return MessageRow(
        message.message_id,
        request.request_id,
        request.account_id,
        request.powerpack_id or None,
        message.recipient,
        message.number,
        decision.tier,
        ",".join(decision.rules),
        decision.window,
        request.segments,
        request.service,
        request.priority,
        request.reference,
        line,
        request.accepted_ms,
        message.expires_ms,
        decision.forecast_ms,
        "",
    )


def failed_row(message: Message, line: int, refusal: Refusal) -> MessageRow:
    """A message that is stored as failed: no number may send it."""
    request = message.request
    return MessageRow(
        message.message_id,
        request.request_id,
        request.account_id,
        request.powerpack_id or None,
        message.recipient,
        request.source or None,
        Tier.NONE,
        "",
        refusal.window,
        request.segments,
        request.service,
        request.priority,
        request.reference,
        line,
        request.accepted_ms,
        message.expires_ms,
        None,
        refusal.code,
    )


def body_row(request: Request) -> BodyRow:
    """What the messages of a request share, the text above all."""
    return BodyRow(
        request.request_id,
        request.account_id,
        request.text,
        request.callback_url,
        request.callback_method,
        request.patience_ms,
        request.validity_ms,
        request.on_unknown or "",
        request.log,
        request.requester_ip,
    )
