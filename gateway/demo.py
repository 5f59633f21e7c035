"""What `serve --demo` puts into an empty database: an account, fictional numbers, an application, a powerpack.

All numbers are NPA-555-01xx, which is set aside for fiction, and leave through the simulated carrier: nothing here can
reach a phone. Everything is found again by its name at the next start, and demo.json is written anew from the database.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import orjson
import structlog

from gateway.clock import Clock, Ids
from gateway.settings import DEMO_CARRIER
from resolver.area_codes import TOLL_FREE
from resolver.geography import AREA_CODES
from resolver.model import E164, AccountId, NumberRow, NumberType, PoolId, PowerpackId, PowerpackRow, Service
from storage.catalog import AccountRow, ApplicationRow, Catalog, CatalogRows
from storage.catalog_inventory import InventoryRow, Renter

log = structlog.get_logger(__name__)

NAME: Final = "demo"
FILE: Final = "demo.json"

PER_AREA_CODE: Final = 10  # 0100 to 0109 of each: 4,150 long codes; most of the others can be recipients
FOR_RENT: Final = range(90, 95)  # 0190 to 0194 of each are in the inventory, to be searched and bought
IN_POWERPACK: Final = 3  # of each of these, so that Local Connect and the spread over numbers are seen at once
POWERPACK_AREA_CODES: Final = ("206", "212", "303", "305", "312", "415", "416", "512", "514", "617")
SHORT_CODES: Final = (("22555", "US"), ("55501", "US"), ("55502", "CA"))
RECIPIENT: Final = E164("+14155550123")


class Demo(NamedTuple):
    """What a client of the demo needs; the keys of demo.json."""

    base_url: str
    auth_id: AccountId
    auth_token: str
    powerpack_uuid: PowerpackId
    application_id: str

    def curl(self) -> str:
        """Give a line that sends one message, to be pasted into a shell."""
        body = {"powerpack_uuid": self.powerpack_uuid, "dst": RECIPIENT, "text": "Hello from Sendpool"}
        return shlex.join(
            [
                "curl", "-sS", "-u", f"{self.auth_id}:{self.auth_token}",
                "-H", "Content-Type: application/json", "-d", orjson.dumps(body).decode(),
                f"{self.base_url}/v1/Account/{self.auth_id}/Message/",
            ]
        )  # fmt: skip


async def ensure_demo(catalog: Catalog, *, base_url: str, clock: Clock, ids: Ids) -> Demo | None:
    """Make what is missing of the demo, and say how to reach it. None: others use this database already.

    Each step looks for what a former one, perhaps cut short, has left.
    """
    rows = await catalog.load_all()
    account = next((each for each in rows.accounts if each.name == NAME and each.main_id is None), None)
    if account is None:
        if rows.accounts:
            log.warning("no demo, since there are accounts already", accounts=len(rows.accounts))
            return None
        account = await catalog.create_account(NAME, now_ms=clock.now_ms())
        log.info("demo made", account=account.account_id)
    application = await _ensure_application(catalog, rows, account, now_ms=clock.now_ms())
    powerpack = await _ensure_powerpack(catalog, rows, account, application, ids=ids, now_ms=clock.now_ms())
    if not any(number.account_id == account.account_id for number in rows.numbers):
        await catalog.insert_numbers(list(owned_numbers(account.account_id, powerpack, now_ms=clock.now_ms())))
    offers = list(numbers_for_rent())
    if await catalog.find_stocked(Renter(account.account_id, account.account_id), offers[-1].number) is None:
        await catalog.stock_numbers(offers)
    return Demo(base_url, account.account_id, account.token, powerpack, application)


async def _ensure_application(catalog: Catalog, rows: CatalogRows, account: AccountRow, *, now_ms: int) -> str:
    for each in rows.applications:
        if each.account_id == account.account_id and each.name == NAME:
            return each.application_id
    application_id = str(10**16 + secrets.randbelow(9 * 10**16))  # 17 digits, as Plivo's
    await catalog.insert_application(ApplicationRow(application_id, account.account_id, NAME, created_ms=now_ms))
    return application_id


async def _ensure_powerpack(
    catalog: Catalog, rows: CatalogRows, account: AccountRow, application_id: str, *, ids: Ids, now_ms: int
) -> PowerpackId:
    for each in rows.powerpacks:
        if each.account_id == account.account_id and each.name == NAME:
            return each.powerpack_id
    row = PowerpackRow(
        PowerpackId(ids.new()), account.account_id, PoolId(ids.new()), NAME, application_type="XML",
        application_id=application_id, created_ms=now_ms,
    )  # fmt: skip
    await catalog.insert_powerpack(row)
    return row.powerpack_id


def owned_numbers(account_id: AccountId, powerpack_id: PowerpackId, *, now_ms: int) -> Iterator[NumberRow]:
    """Give every number the account has; a few long codes are in the powerpack, the rest is there to be added."""
    services = frozenset({Service.SMS})
    for area_code, location in AREA_CODES.items():
        for line in range(PER_AREA_CODE):
            is_member = area_code in POWERPACK_AREA_CODES and line < IN_POWERPACK
            yield NumberRow(
                E164(f"+1{area_code}55501{line:02}"), account_id, NumberType.LONG_CODE, location.country, DEMO_CARRIER,
                powerpack_id if is_member else None, services, campaign_approved=True, added_ms=now_ms,
            )  # fmt: skip
    for prefix in TOLL_FREE.split():
        number = E164(f"+1{prefix}5550100")
        yield NumberRow(
            number, account_id, NumberType.TOLL_FREE, "US", DEMO_CARRIER, None, services, verified=True, added_ms=now_ms
        )
    for digits, country in SHORT_CODES:
        yield NumberRow(
            E164(digits), account_id, NumberType.SHORT_CODE, country, DEMO_CARRIER, None, services, added_ms=now_ms
        )


def numbers_for_rent() -> Iterator[InventoryRow]:
    """Give every number of the inventory: long codes of each area code, a few toll-free numbers."""
    both = (Service.SMS, Service.MMS)
    for area_code, location in AREA_CODES.items():
        for line in FOR_RENT:
            yield InventoryRow(
                E164(f"+1{area_code}55501{line}"), NumberType.LONG_CODE, location.country, min(location.regions), "",
                DEMO_CARRIER, both if line % 2 else (Service.SMS,), campaign_approved=True, monthly_rate="0.80000",
            )  # fmt: skip
    for prefix in TOLL_FREE.split():
        yield InventoryRow(
            E164(f"+1{prefix}5550190"), NumberType.TOLL_FREE, "US", "", "", DEMO_CARRIER, (Service.SMS,), verified=True,
            monthly_rate="1.00000",
        )  # fmt: skip


def write_demo_file(demo: Demo, data: Path) -> Path:
    """Write DATA/demo.json, for its owner's eyes only; whole or not at all."""
    path, half = data / FILE, data / f"{FILE}.new"
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(demo._asdict(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    half.replace(path)
    return path
