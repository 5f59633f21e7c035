"""Rows to JSON and what must not be shown. The way through a real database: tests/integration/test_catalog.py."""

from __future__ import annotations

import orjson

from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Limits,
    NumberRow,
    NumberType,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Service,
)
from storage.catalog_rows import AccountRow, number_object, powerpack_settings

ACCOUNT = AccountId("MAAAAAAAAAAAAAAAAAAA")


def test_an_account_never_shows_its_token() -> None:
    row = AccountRow(ACCOUNT, "shop", b"hash", "a-secret-token")
    assert "a-secret-token" not in f"{row} {row!r} {[row]}"
    assert "shop" in repr(row)


def test_a_number_becomes_plain_json_by_column() -> None:
    row = NumberRow(
        E164("+14155550100"),
        ACCOUNT,
        NumberType.LONG_CODE,
        "US",
        CarrierName("simulated"),
        services=frozenset({Service.SMS, Service.MMS}),
        limits=Limits(1, 1_000, 150, None),
    )
    found = orjson.loads(orjson.dumps(number_object(row)))
    assert found["type"] == "longcode"
    assert found["services"] == ["mms", "sms"]
    assert found["limits"] == {"segments": 1, "span_ms": 1_000, "day_recommended": 150, "day_limit": None}
    assert found["powerpack_id"] is None
    assert found["state"] == "active"


def test_a_powerpack_s_priority_is_written_by_country_and_service() -> None:
    priority = {
        ("US", Service.SMS): (NumberType.SHORT_CODE, NumberType.LONG_CODE),
        ("US", Service.MMS): (NumberType.LONG_CODE,),
        ("CA", Service.SMS): (),
    }
    row = PowerpackRow(PowerpackId("p"), ACCOUNT, PoolId("q"), "pack", priority=priority)
    assert {"US": {"sms": ["shortcode", "longcode"], "mms": ["longcode"]}, "CA": {"sms": []}} in powerpack_settings(row)
