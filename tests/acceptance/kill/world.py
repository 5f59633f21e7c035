"""Where a run takes place: an account with two powerpacks, numbers with small limits of every kind, a settings file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from uuid_utils import uuid7

from gateway.settings import StorageSettings
from gateway.stores import open_stores
from resolver.limits import NO_RECOMMENDATION, padded_span_ms
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
)
from tests.acceptance.kill.evidence import NumberLimits
from tests.acceptance.kill.ledger import Account

CARRIER: Final = CarrierName("witness")
SECRET: Final = "the witness's secret"
LINK_SEGMENTS_PER_S: Final = 90
AREA_CODES: Final = ("212", "415", "312", "305", "206", "702")
CANADIAN: Final = ("416", "604")
RECIPIENTS_OF_AN_AREA: Final = 60

LONG_CODE_LIMITS: Final = (
    Limits(1, 1_000, NO_RECOMMENDATION, None),  # what carriers take from a long code
    Limits(1, 1_000, NO_RECOMMENDATION, None),
    Limits(1, 5_000, NO_RECOMMENDATION, None),  # spans that outlast a restart: a forgotten charge would be seen
    Limits(4, 1_000, NO_RECOMMENDATION, None),
    Limits(6, 1_000, NO_RECOMMENDATION, None),
    Limits(10, 5_000, NO_RECOMMENDATION, None),
    Limits(20, 20_000, NO_RECOMMENDATION, None),
    Limits(3, 1_000, 20, 40),  # a day that is soon over
    Limits(2, 1_000, 5, 12),
)
"""Of one area code's numbers, one for each."""


class World(NamedTuple):
    """The same for the whole run; `config` is the gateway's."""

    data: Path
    config: Path
    port: int
    account: Account
    limits: Mapping[str, NumberLimits]
    links: Mapping[str, NumberLimits]
    sticky: frozenset[str]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def make_world(folder: Path, *, port: int, witness_port: int, hookbox_port: int) -> World:
    """Make it in `folder`; takes some seconds, since PostgreSQL makes its own data folder."""
    data, config = folder / "data", folder / "sendpool.toml"
    config.write_text(_settings(witness_port))
    now_ms = time.time_ns() // 1_000_000
    async with open_stores(StorageSettings(data=data)) as stores:
        account = await stores.catalog.create_account("the ledger", now_ms=now_ms)
        packs = [_powerpack(account.account_id, name, now_ms) for name in ("sticky", "loose")]
        for pack in packs:
            await stores.catalog.insert_powerpack(pack)
        rows = list(_numbers(account.account_id, packs, now_ms))
        await stores.catalog.insert_numbers(rows)
    url = f"http://127.0.0.1:{port}/v1/Account/{account.account_id}/Message/"
    return World(
        data,
        config,
        port,
        Account(
            url,
            account.account_id,
            account.token,
            f"http://127.0.0.1:{hookbox_port}/told",
            tuple(pack.powerpack_id for pack in packs),
            tuple(_recipients()),
            tuple(row.number for row in rows),
        ),
        {row.number: _law(row) for row in rows},
        {CARRIER: NumberLimits(LINK_SEGMENTS_PER_S, padded_span_ms(1_000), None)},
        frozenset({packs[0].powerpack_id}),
    )


def _powerpack(account_id: AccountId, name: str, now_ms: int) -> PowerpackRow:
    sticky = name == "sticky"
    return PowerpackRow(
        PowerpackId(str(uuid7())),
        account_id,
        PoolId(str(uuid7())),
        name,
        sticky_sender=sticky,
        local_connect=sticky,
        patience_ms=10_000,
        sticky_wait_ms=20_000,
        created_ms=now_ms,
    )


def _numbers(account_id: AccountId, packs: list[PowerpackRow], now_ms: int) -> Iterator[NumberRow]:
    for area in AREA_CODES:
        for place, limits in enumerate(LONG_CODE_LIMITS):
            yield NumberRow(
                E164(f"+1{area}55501{place:02}"),
                account_id,
                NumberType.LONG_CODE,
                "US",
                CARRIER,
                packs[0].powerpack_id,
                campaign_approved=True,
                limits=limits,
                added_ms=now_ms,
            )
    for place, area in enumerate((*CANADIAN, *CANADIAN)):
        yield NumberRow(  # the usual limits: 15 a minute, 150 a day
            E164(f"+1{area}55501{place:02}"),
            account_id,
            NumberType.LONG_CODE,
            "CA",
            CARRIER,
            packs[1].powerpack_id,
            campaign_approved=True,
            added_ms=now_ms,
        )
    yield NumberRow(
        E164("+18005550100"),
        account_id,
        NumberType.TOLL_FREE,
        "US",
        CARRIER,
        packs[1].powerpack_id,
        verified=True,
        added_ms=now_ms,
    )


def _law(row: NumberRow) -> NumberLimits:
    if row.limits is not None:
        return NumberLimits(row.limits.segments, padded_span_ms(row.limits.span_ms), row.limits.day_limit)
    if row.type is NumberType.TOLL_FREE:  # written out: the law of RESOLUTION, not what the program says of itself
        return NumberLimits(3, 1_020, None)
    return NumberLimits(15, 61_200, None)


def _recipients() -> Iterator[str]:
    for area in (*AREA_CODES, "914", "619"):
        for line in range(RECIPIENTS_OF_AN_AREA):
            yield f"+1{area}55520{line:02}"


def _settings(witness_port: int) -> str:
    return f"""
[limits]
disk_free_mib_min = 0
loop_lag_ms_max = 5000

[lanes]
unknown_wait_ms = 500

[callbacks]
allow_private = true
allow_http = true

[log]
format = "json"

[carriers.{CARRIER}]
kind = "http"
segments_per_s = {LINK_SEGMENTS_PER_S}
places = 64
submit_url = "http://127.0.0.1:{witness_port}/submit"
secret = "{SECRET}"
"""
