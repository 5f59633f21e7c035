"""Numbers for rent as CSV: read line by line into the inventory, and written back with the same columns.

Invariants
* A line that cannot be taken is named by its number and stops nothing; what is good of the file is stored.
* Memory holds one stretch of lines, however long the file is. Each stretch is one transaction, so an import that was
  cut short is simply done again: what is there already, described as before, is left as it is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from typing import IO, Final, NamedTuple

from gateway.administering import Refused
from gateway.csv_lines import BadLine, csv_lines
from resolver.geography import NumberKind, locate, number_kind
from resolver.model import E164, AccountId, CarrierName, NumberType, Service
from storage.catalog import Catalog
from storage.catalog_inventory import InventoryRow, Renter

COLUMNS: Final = (
    "number", "type", "country", "region", "city", "carrier", "services", "campaign", "verified", "setup_rate",
    "monthly_rate", "sms_rate", "mms_rate", "reserved_for",
)  # fmt: skip
"""The header. `number` and `carrier` must be there, in any order; what is left out is as it mostly is."""

STRETCH_LINES: Final = 2_000
FIELD_LENGTH_MAX: Final = 200
NO_RATE: Final = "0.00000"

_is_e164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
_is_region = re.compile(r"[A-Z]{0,3}").fullmatch
_is_rate = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?").fullmatch


class Imported(NamedTuple):
    """What came of a file: `changed` are new in the inventory or described otherwise than before."""

    lines: int
    bad: int
    changed: int
    rented: int  # went to the account that was named


def read_numbers(lines: Iterable[str], *, carriers: Collection[str], accounts: Collection[str]) -> Iterator[
    tuple[int, InventoryRow] | BadLine
]:  # fmt: skip
    """Read a file's numbers with the lines they stand in, or what is wrong with one. Raises Refused for its header."""
    header, rest = csv_lines(lines, field_length_max=FIELD_LENGTH_MAX)
    _check_header(header)
    for each in rest:
        if isinstance(each, BadLine):
            yield each
        elif len(each.fields) != len(header):
            yield BadLine(each.line, f"has {len(each.fields)} fields, the header names {len(header)}")
        else:
            read = _read_number(dict(zip(header, each.fields, strict=True)), carriers, accounts)
            yield BadLine(each.line, read) if isinstance(read, str) else (each.line, read)


def _check_header(header: list[str]) -> None:
    unknown = [each for each in header if each not in COLUMNS]
    lacking = [each for each in ("number", "carrier") if each not in header]
    if lacking:
        wrong = f"it lacks {' and '.join(lacking)}"
    elif unknown:
        wrong = f"{unknown[0]!r} is none"
    elif len(set(header)) < len(header):
        wrong = "one is twice"
    else:
        return
    raise Refused(f"the first line must name the columns, of {', '.join(COLUMNS)}: {wrong}")


def _read_number(values: Mapping[str, str], carriers: Collection[str], accounts: Collection[str]) -> InventoryRow | str:
    """The number of a line, or what is wrong with it."""
    number = re.sub(r"[ ()./-]", "", values["number"])
    kind = number_kind(number) if _is_e164(number) and not (number.startswith("+1") and len(number) != 12) else None
    location = locate(number) if kind is not None else None
    if location is None or kind not in (NumberKind.GEOGRAPHIC, NumberKind.TOLL_FREE):
        return f"{values['number']!r} is no number in E.164, such as +14155550100, that can be rented"
    type_ = NumberType.TOLL_FREE if kind is NumberKind.TOLL_FREE else NumberType.LONG_CODE
    if values.get("type", type_) not in ("", type_):
        return f"{number} is a {type_}, not a {values['type']}"
    country = location.country if type_ is NumberType.LONG_CODE else values.get("country") or location.country
    if values.get("country", country) not in ("", country) or len(country) != 2:
        return f"{number} belongs to {country}, not to {values['country']}"
    regions = location.regions
    region = values.get("region", "").upper() or min(regions, default="")
    if (regions and region not in regions) or not _is_region(region):
        return f"region is {' or '.join(sorted(regions)) or 'up to three letters'} for {number}, not {region!r}"
    if values["carrier"] not in carriers:
        return f"the settings have no carrier {values['carrier']!r}"
    services = _read_services(values.get("services", ""))
    if services is None:
        return f"services are sms, mms or both, not {values['services']!r}"
    rates = [values.get(name) or NO_RATE for name in ("setup_rate", "monthly_rate", "sms_rate", "mms_rate")]
    if not all(map(_is_rate, rates)):
        return "rates are decimal numbers, such as 0.80000"
    reserved_for = values.get("reserved_for", "")
    if reserved_for and reserved_for not in accounts:
        return f"there is no account {reserved_for!r} to reserve it for"
    if values.get("campaign", "") not in ("", "approved"):
        return f"campaign is `approved` or empty, not {values['campaign']!r}"
    if values.get("verified", "").lower() not in ("", "yes", "no", "true", "false"):
        return f"verified is yes or no, not {values['verified']!r}"
    return InventoryRow(
        E164(number), type_, country, region, values.get("city", "").upper(), CarrierName(values["carrier"]), services,
        values.get("campaign") == "approved", values.get("verified", "").lower() in ("yes", "true"),
        rates[0], rates[1], rates[2], rates[3], reserved_for,
    )  # fmt: skip


def _read_services(said: str) -> tuple[Service, ...] | None:
    words = set(re.split(r"[\s|;,]+", said.lower())) - {""}
    if not words:
        return (Service.SMS,)
    return tuple(each for each in Service if each in words) if words <= set(Service) else None


async def import_numbers(
    catalog: Catalog,
    lines: Iterable[str],
    *,
    carriers: Collection[str],
    account_id: AccountId | None,
    now_ms: int,
    is_rehearsal: bool = False,
    on_bad: Callable[[BadLine], None],
    on_stretch: Callable[[], None] = lambda: None,
) -> Imported:
    """Put a file's numbers into the inventory and, with an account, make those that are for rent its own.

    A rehearsal reads and checks everything and stores nothing. Raises Refused for a header or an account that is none.
    """
    accounts = {each.account_id: each for each in (await catalog.load_all()).accounts if not each.deleted_ms}
    if account_id is not None and account_id not in accounts:
        raise Refused(f"there is no account {account_id!r}")
    main_id = (accounts[account_id].main_id if account_id is not None else None) or account_id
    count = bad = changed = rented = 0
    stretch: dict[E164, InventoryRow] = {}

    async def store() -> None:
        nonlocal changed, rented
        if stretch and not is_rehearsal:
            changed += await catalog.stock_numbers(list(stretch.values()))
            if account_id is not None and main_id is not None:
                rented += len(await catalog.rent_numbers(Renter(account_id, main_id), list(stretch), now_ms=now_ms))
        stretch.clear()
        on_stretch()

    for read in read_numbers(lines, carriers=carriers, accounts=accounts):
        count += 1
        if isinstance(read, BadLine) or read[1].number in stretch:
            bad += 1
            on_bad(read if isinstance(read, BadLine) else BadLine(read[0], f"{read[1].number} stands above already"))
            continue
        stretch[read[1].number] = read[1]
        if len(stretch) >= STRETCH_LINES:
            await store()
    await store()
    return Imported(count, bad, changed, rented)


async def export_numbers(catalog: Catalog, file: IO[str]) -> int:
    """Write the whole inventory, rented or not; gives how many numbers it has. What is written can be imported."""
    writer, count = csv.writer(file, lineterminator="\n"), 0
    writer.writerow(COLUMNS)
    pages: AsyncIterator[list[InventoryRow]] = catalog.inventory()
    async for page in pages:
        writer.writerows(map(_written, page))
        count += len(page)
    return count


def _written(row: InventoryRow) -> tuple[str, ...]:
    return (
        row.number, row.type, row.country, row.region, row.city, row.carrier, " ".join(row.services),
        "approved" if row.campaign_approved else "", "yes" if row.verified else "", row.setup_rate, row.monthly_rate,
        row.sms_rate, row.mms_rate, row.reserved_for,
    )  # fmt: skip
