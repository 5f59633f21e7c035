"""What an administrator does to the catalog by command: numbers, carriers, and asking which number would be chosen."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeVar

import aiohttp
import orjson

from gateway.demo import FILE
from gateway.settings import Settings
from gateway.stores import Stores, find_owner
from resolver.geography import NumberKind, locate, number_kind
from resolver.model import E164, AccountId, CarrierName, NumberRow, NumberType, PowerpackId, Service
from storage.catalog import CarrierRow, CatalogRows

ANSWER_S_MAX: Final = 10
CANCEL_S_MAX: Final = 60  # for the gateway to cancel what waits for a carrier
LOOK_EVERY_MS: Final = 100

T = TypeVar("T")


class Refused(Exception):
    """What was asked for cannot be done: one line that says why."""


class Wanted(NamedTuple):
    """A number as it was described on the command line; "" where nothing was said."""

    number: str
    type: NumberType
    carrier: str
    campaign: str
    verified: bool
    country: str
    account_id: str
    powerpack_id: str
    now_ms: int


async def add_number(stores: Stores, settings: Settings, wanted: Wanted) -> NumberRow:
    """Check and store one of our numbers. Raises Refused and the catalog's errors."""
    _check_carrier(settings, wanted.carrier)
    if wanted.campaign not in ("", "approved"):
        raise Refused(f"--campaign is `approved` or not given, not {wanted.campaign!r}")
    number, country = _number(wanted)
    rows = await stores.catalog.load_all()
    row = NumberRow(
        number,
        _account(rows, wanted.account_id),
        wanted.type,
        country,
        CarrierName(wanted.carrier),
        PowerpackId(wanted.powerpack_id) if wanted.powerpack_id else None,
        frozenset({Service.SMS}),
        campaign_approved=wanted.campaign == "approved",
        verified=wanted.verified,
        added_ms=wanted.now_ms,
    )
    if row.powerpack_id is not None:
        _powerpack(rows, row.powerpack_id, row.account_id)
    await stores.catalog.insert_numbers([row])
    return row


async def pause_carrier(stores: Stores, settings: Settings, carrier: str, paused: bool) -> None:
    """Let what waits for a carrier stay, or leave again. Raises Refused."""
    _check_carrier(settings, carrier)
    await stores.catalog.pause_carrier(CarrierName(carrier), paused)


async def cancel_for_carrier(
    stores: Stores, settings: Settings, carrier: str, *, now_ms: int, wait_s: int = CANCEL_S_MAX
) -> CarrierRow | None:
    """Have what waits for a carrier cancelled; gives how many there were, None while that is not known.

    Without a gateway it is done when one starts, before anything leaves. Raises Refused.
    """
    _check_carrier(settings, carrier)
    catalog, name = stores.catalog, CarrierName(carrier)
    order_ms = await catalog.order_cancel(name, now_ms=now_ms)
    if not (await find_owner(stores.database))[1]:
        return None
    for _ in range(wait_s * 1_000 // LOOK_EVERY_MS):
        row = await catalog.find_carrier(name)
        if row.cancelled_ms >= order_ms:
            return row
        await asyncio.sleep(LOOK_EVERY_MS / 1_000)
    return None


def _check_carrier(settings: Settings, carrier: str) -> None:
    known = settings.carriers
    if carrier not in known:
        there_are = f"; there are: {', '.join(sorted(known))}" if known else "; there are none yet"
        raise Refused(f"the settings have no carrier {carrier!r} ([carriers.{carrier}] of sendpool.toml){there_are}")


def _number(wanted: Wanted) -> tuple[E164, str]:
    """Give the number in our form, and its country. The kind of a +1 number is known, so a wrong --type is found."""
    number = re.sub(r"[ ()./-]", "", wanted.number)
    if wanted.type is NumberType.SHORT_CODE:
        if not re.fullmatch(r"[0-9]{3,8}", number):
            raise Refused(f"{wanted.number!r} is no short code: 3 to 8 digits")
        if not re.fullmatch(r"[A-Z]{2}", wanted.country):
            raise Refused(f"--country is two capital letters, not {wanted.country!r}")
        return E164(number), wanted.country
    location = locate(number) if re.fullmatch(r"\+[1-9][0-9]{6,14}", number) else None
    if location is None or (number.startswith("+1") and len(number) != 12):
        raise Refused(f"{wanted.number!r} is no number in E.164, such as +14155550100")
    is_toll_free = number_kind(number) is NumberKind.TOLL_FREE
    if is_toll_free != (wanted.type is NumberType.TOLL_FREE):
        raise Refused(f"{number} is {'a' if is_toll_free else 'no'} toll-free number, so it is no {wanted.type}")
    return E164(number), location.country


def _account(rows: CatalogRows, wanted: str) -> AccountId:
    ids = [each.account_id for each in rows.accounts if not each.deleted_ms]
    if wanted:
        if wanted not in ids:
            raise Refused(f"there is no account {wanted!r}")
        return AccountId(wanted)
    return _only(ids, "account", "--account", "make one: sendpool accounts create NAME")


def _powerpack(rows: CatalogRows, wanted: str, account_id: str = "") -> tuple[PowerpackId, AccountId]:
    found = {
        each.powerpack_id: each.account_id for each in rows.powerpacks if account_id in ("", each.account_id)
    }  # fmt: skip
    if wanted and wanted not in found:
        raise Refused(f"there is no powerpack {wanted!r}" + (" in this account" if account_id else ""))
    chosen = PowerpackId(wanted) if wanted else _only(found, "powerpack", "--powerpack", "make one by API")
    return chosen, found[chosen]


def _only(found: Iterable[T], what: str, option: str, otherwise: str) -> T:
    every = list(found)
    if not every:
        raise Refused(f"there is no {what} yet; {otherwise}")
    if len(every) > 1:
        raise Refused(f"there are {len(every)} {what}s; say which: {option}")
    return every[0]


async def resolve(
    stores: Stores, settings: Settings, url: str | None, recipient: str, powerpack: str | None, text: str
) -> str:
    """Ask the gateway that runs which number it would choose; gives its answer, indented. Raises Refused."""
    rows = await stores.catalog.load_all()
    powerpack_id, account_id = _powerpack(rows, powerpack or "")
    token = next(each.token for each in rows.accounts if each.account_id == account_id)
    credentials = base64.b64encode(f"{account_id}:{token}".encode()).decode()
    base_url = url or _base_url(settings)
    address = f"{base_url}/v1/Account/{account_id}/Powerpack/{powerpack_id}/Resolve/"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX)) as client,
            client.post(
                address, json={"dst": recipient, "text": text}, headers={"Authorization": f"Basic {credentials}"}
            ) as response,
        ):
            return _indented(await response.read())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Refused(f"no gateway answers at {base_url} ({type(error).__name__}); start it, or say --url") from error


def _base_url(settings: Settings) -> str:
    demo = settings.storage.data / FILE
    if demo.exists():
        return str(orjson.loads(demo.read_bytes())["base_url"])
    return settings.server.public_url or f"http://{settings.server.host}:{settings.server.port}"


def _indented(body: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError as error:
        raise Refused("what answers there is no Sendpool") from error
