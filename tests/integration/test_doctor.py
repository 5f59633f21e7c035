"""The doctor finds what is wrong with an installation, and names it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.doctor import Finding, Level, examine
from gateway.settings import CarrierSettings, LimitsSettings, ServerSettings, Settings, StorageSettings
from gateway.stores import open_stores
from resolver.model import E164, CarrierName, NumberRow, NumberType, Pause, PoolId, PowerpackId, PowerpackRow

EAST = CarrierName("east")
HTTP = CarrierSettings(name=EAST, kind="http", options={"submit_url": "https://carrier.example/send"})
POWERPACK = PowerpackId("0197a000-0000-7000-8000-000000000001")


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    storage = StorageSettings(data=tmp_path / "data", database_url=database_url, master_key=key)
    return Settings(storage=storage, carriers={EAST: HTTP}, limits=LimitsSettings(disk_free_mib_min=0))


def said(findings: list[Finding], level: Level) -> str:
    return "\n".join(f"{finding.what}: {finding.said}" for finding in findings if finding.level is level)


def with_carriers(settings: Settings, carriers: Mapping[CarrierName, CarrierSettings]) -> Settings:
    return replace(settings, carriers=carriers)


async def test_a_fresh_installation_with_a_carrier_has_nothing_bad(settings: Settings) -> None:
    findings = await examine(settings)
    assert said(findings, Level.BAD) == ""
    assert "database: your own; its settings are safe, its schema is current" in said(findings, Level.WELL)
    assert "gateway: none is running" in said(findings, Level.WELL)
    assert "accounts: none; make one: sendpool accounts create NAME" in said(findings, Level.NOTE)


async def test_no_carrier_is_bad(settings: Settings) -> None:
    assert "carriers: none" in said(await examine(with_carriers(settings, {})), Level.BAD)


async def test_a_carrier_that_reaches_nobody_is_noted(settings: Settings) -> None:
    simulated = {EAST: CarrierSettings(name=EAST)}
    assert "reaches nobody" in said(await examine(with_carriers(settings, simulated)), Level.NOTE)


async def test_a_carriers_wrong_option_is_bad(settings: Settings) -> None:
    broken = {EAST: replace(HTTP, options={"submit_url": "ftp://x"})}
    assert "carrier east: " in said(await examine(with_carriers(settings, broken)), Level.BAD)


async def test_carriers_that_take_each_others_webhooks_are_noted_without_their_secret(settings: Settings) -> None:
    west = CarrierName("west")
    options = {**HTTP.options, "secret": "s3cret-of-both"}
    both = {name: replace(HTTP, name=name, options=options) for name in (EAST, west)}
    notes = said(await examine(with_carriers(settings, both)), Level.NOTE)
    assert "carriers: east and west take each other's webhooks" in notes
    assert "s3cret" not in notes
    both[west] = replace(both[west], options={**options, "secret": "another"})
    assert "each other's" not in said(await examine(with_carriers(settings, both)), Level.NOTE)


async def test_a_database_that_is_away_is_bad_and_the_rest_is_still_said(settings: Settings) -> None:
    away = replace(settings, storage=replace(settings.storage, database_url="postgres://127.0.0.1:9/none"))
    findings = await examine(away)
    assert "database: " in said(findings, Level.BAD)
    assert "carrier east: http" in said(findings, Level.WELL)


async def test_a_master_key_that_does_not_open_what_is_stored_is_bad(settings: Settings) -> None:
    async with open_stores(settings.storage) as stores:
        await stores.catalog.create_account("Example Inc.", now_ms=1)
    other = base64.b64encode(secrets.token_bytes(32)).decode()
    findings = await examine(replace(settings, storage=replace(settings.storage, master_key=other)))
    assert "master key" in said(findings, Level.BAD)


async def test_a_full_disk_is_bad(settings: Settings) -> None:
    full = replace(settings, limits=LimitsSettings(disk_free_mib_min=10**9))
    assert "nothing would be accepted" in said(await examine(full), Level.BAD)


async def test_listening_to_everybody_in_plain_http_is_noted(settings: Settings) -> None:
    open_to_all = replace(settings, server=ServerSettings(host="0.0.0.0"))
    assert "TLS proxy" in said(await examine(open_to_all), Level.NOTE)


async def test_warnings_of_the_settings_are_passed_on(settings: Settings) -> None:
    warned = replace(settings, warnings=("SENDPOOL_PROT is set, but no setting has that name",))
    assert "SENDPOOL_PROT" in said(await examine(warned), Level.NOTE)


async def test_numbers_that_cannot_send_are_named_with_the_reason(settings: Settings) -> None:
    async with open_stores(settings.storage) as stores:
        account = (await stores.catalog.create_account("Example Inc.", now_ms=1)).account_id
        for name, pack in (("full", POWERPACK), ("empty", PowerpackId(POWERPACK[:-1] + "2"))):
            await stores.catalog.insert_powerpack(PowerpackRow(pack, account, PoolId(pack), name))
        await stores.catalog.insert_numbers(
            [
                NumberRow(E164("+14155550100"), account, NumberType.LONG_CODE, "US", EAST, POWERPACK),
                NumberRow(E164("+14155550101"), account, NumberType.LONG_CODE, "US", CarrierName("gone")),
                NumberRow(E164("+18005550100"), account, NumberType.TOLL_FREE, "US", EAST),
            ]
        )
    findings = await examine(settings)
    assert "numbers: 2 longcode, 1 tollfree" in said(findings, Level.WELL)
    assert "numbers: 1 are on 'gone', which the settings do not have" in said(findings, Level.BAD)
    notes = said(findings, Level.NOTE)
    assert "2 long codes without campaign" in notes
    assert "1 toll-free numbers are not verified" in notes
    assert "powerpack empty: has no numbers" in notes
    assert "powerpack full" not in notes


async def test_what_is_paused_is_noted_since_nothing_leaves_there(settings: Settings) -> None:
    async with open_stores(settings.storage) as stores:
        account = await stores.catalog.create_account("test", now_ms=1)
        row = PowerpackRow(POWERPACK, account.account_id, PoolId(POWERPACK), "mine", pause=Pause.WAIT)
        await stores.catalog.insert_powerpack(row)
        number = NumberRow(E164("+14155550100"), account.account_id, NumberType.LONG_CODE, "US", EAST, POWERPACK)
        await stores.catalog.insert_numbers([number])
        await stores.catalog.pause_carrier(EAST, True)
    noted = said(await examine(settings), Level.NOTE)
    assert "powerpack mine: is paused" in noted
    assert "carrier east: is paused; sendpool carriers resume east lets messages leave again" in noted
