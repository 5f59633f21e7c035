"""Rows and entries for tests of storage, with ids of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import uuid_utils

from resolver.model import E164, AccountId, CarrierName, MessageId, PowerpackId, RequestId
from storage.records import (
    BodyRow,
    BulkId,
    CallbackRow,
    CarrierRefRow,
    Entry,
    FactKind,
    FactRow,
    HandoverRow,
    IdempotencyRow,
    MessageRow,
    OutcomeRow,
    State,
    StretchRow,
    UnmatchedReportRow,
)

ACCOUNT = AccountId("MAAAAAAAAAAAAAAAAAAA")
OTHER_ACCOUNT = AccountId("MABBBBBBBBBBBBBBBBBB")
POWERPACK = PowerpackId("0199c000-0000-7000-8000-00000000000a")
SIMULATED = CarrierName("simulated")
NUMBER = E164("+14155550101")
RECIPIENT = E164("+14155550100")
NOW_MS = 1_760_000_000_000


def new_id() -> str:
    return str(uuid_utils.uuid7())


def message_row(
    request_id: str = "", *, account_id: AccountId = ACCOUNT, line: int = 0, at_ms: int = NOW_MS, **changes: Any
) -> MessageRow:
    row = MessageRow(
        MessageId(new_id()), RequestId(request_id or new_id()), account_id, POWERPACK, RECIPIENT, NUMBER, "area",
        "area,idle", "", 1, "sms", "bulk", "", line, at_ms, at_ms + 10_800_000, at_ms, "",
    )  # fmt: skip
    return row._replace(**changes)


def body_row(request_id: str, *, account_id: AccountId = ACCOUNT, text: str = "Hello", **changes: Any) -> BodyRow:
    row = BodyRow(
        RequestId(request_id), account_id, text, "https://example.com/status", "POST", None, 10_800_000, "", "true",
        "192.0.2.1",
    )  # fmt: skip
    return row._replace(**changes)


def fact_row(message_id: str, kind: FactKind, **changes: Any) -> FactRow:
    row = FactRow(MessageId(message_id), ACCOUNT, kind, 0, NOW_MS, None, NUMBER, "simulated", "", "", "", 1, False)
    return row._replace(**changes)


def handover_row(message_ids: Sequence[str], *, attempt: int = 1, claimed_ms: int = NOW_MS) -> HandoverRow:
    count = len(message_ids)
    ids = [MessageId(each) for each in message_ids]
    return HandoverRow(SIMULATED, claimed_ms, ids, [attempt] * count, [NUMBER] * count, [1] * count)


def callback_row(message_id: str, *, sequence: int = 1, **changes: Any) -> CallbackRow:
    row = CallbackRow(
        new_id(), ACCOUNT, MessageId(message_id), sequence, "https://example.com/status", "POST",
        b'{"Status":"sent"}', NOW_MS, NOW_MS,
    )  # fmt: skip
    return row._replace(**changes)


def key_row(key: str, *, account_id: AccountId = ACCOUNT, answer: bytes = b"{}") -> IdempotencyRow:
    return IdempotencyRow(account_id, key, b"hash", answer, NOW_MS)


def stretch_row(bulk_id: str = "", *, first_line: int = 1, **changes: Any) -> StretchRow:
    """Two lines, the second refused."""
    row = StretchRow(
        BulkId(bulk_id or new_id()), first_line, 2, ACCOUNT, b"digest", 1, None, None, [first_line + 1],
        ["invalid_json"], ["it is no JSON"], [0], NOW_MS,
    )  # fmt: skip
    return row._replace(**changes)


def request_entry(
    count: int = 1, *, account_id: AccountId = ACCOUNT, text: str = "Hello", key: str = "", claims: bool = False
) -> Entry:
    """What accepting a request of `count` messages appends."""
    request_id = new_id()
    messages = [message_row(request_id, account_id=account_id, line=line) for line in range(count)]
    return Entry(
        bodies=[body_row(request_id, account_id=account_id, text=text)],
        messages=messages,
        handovers=[handover_row([each.message_id for each in messages])] if claims else [],
        idempotency=key_row(key, account_id=account_id) if key else None,
    )


def fact_entry(message_id: str, kind: FactKind = FactKind.SENT, **changes: Any) -> Entry:
    return Entry(facts=[fact_row(message_id, kind, **changes)])


def entry_of_everything() -> Entry:
    """One row for each of the journal's tables, two messages."""
    entry = request_entry(2, key="everything", claims=True)
    message_id = entry.messages[0].message_id
    entry.facts = [
        fact_row(message_id, FactKind.SENT, attempt=1, handed_ms=NOW_MS, carrier_ref="ref-1", charged=True),
        fact_row(message_id, FactKind.DELIVERED, code="000"),
    ]
    entry.outcomes = [OutcomeRow(message_id, ACCOUNT, State.DELIVERED, "000", NOW_MS)]
    entry.carrier_refs = [CarrierRefRow(SIMULATED, "ref-1", message_id, NOW_MS)]
    entry.unmatched = [UnmatchedReportRow(SIMULATED, "ref-9", FactKind.DELIVERED, "000", NOW_MS)]
    entry.callbacks = [callback_row(message_id)]
    entry.stretch = stretch_row(first_id=message_id, last_id=entry.messages[-1].message_id)
    return entry
