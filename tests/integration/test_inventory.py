"""The inventory in a real database: imported, searched, rented by one only, given back, exported."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.administering import Refused
from gateway.csv_lines import BadLine
from gateway.number_files import COLUMNS, Imported, export_numbers, import_numbers
from resolver.model import E164, AccountId, CarrierName, NumberType, PoolId, PowerpackId, PowerpackRow, Service
from storage.catalog import Catalog, NotFound, TypeTaken
from storage.catalog_inventory import InventoryRow, Renter, Search
from storage.database import Database
from storage.sealing import Vault
from tests.conftest import NOW_MS

PACK = PowerpackId("0199c000-0000-7000-8000-0000000000a1")
BOTH = (NumberType.LONG_CODE, NumberType.TOLL_FREE)
LOCAL, SECOND, TOLL_FREE, OTHER_TOLL_FREE = (
    E164("+14155550190"), E164("+14155550191"), E164("+18005550190"), E164("+18885550190"),
)  # fmt: skip


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database, Vault(secrets.token_bytes(32)))


async def renter_of(catalog: Catalog, name: str = "Example Inc.") -> Renter:
    account_id = (await catalog.create_account(name, now_ms=NOW_MS)).account_id
    return Renter(account_id, account_id)


def offer(number: E164, **more: Any) -> InventoryRow:
    is_toll_free = number.startswith("+18")
    row = InventoryRow(
        number, NumberType.TOLL_FREE if is_toll_free else NumberType.LONG_CODE, "US", "" if is_toll_free else "CA", "",
        CarrierName("east"), (Service.SMS,),
    )  # fmt: skip
    return row._replace(**more)


async def found(catalog: Catalog, renter: Renter, search: Search) -> list[E164]:
    return [row.number for row in (await catalog.search_inventory(renter, search, limit=20, offset=0)).rows]


async def test_a_search_is_narrowed_by_every_filter(catalog: Catalog) -> None:
    mine, other = await renter_of(catalog), await renter_of(catalog, "Other Inc.")
    subaccount = Renter(AccountId("SA00000000000000000A"), mine.account_id)
    await catalog.stock_numbers(
        [
            offer(LOCAL, city="SAN FRANCISCO"),
            offer(SECOND, services=(Service.SMS, Service.MMS)),
            offer(E164("+12065550190"), region="WA", city="SAN FRANCISCO"),
            offer(E164("+14165550190"), country="CA", region="ON"),
            offer(E164("+14155550192"), reserved_for=mine.account_id),
            offer(TOLL_FREE),
        ]
    )
    everything = Search("US", BOTH, "+1")
    assert len(await found(catalog, mine, everything)) == 5
    assert await found(catalog, subaccount, everything) == await found(catalog, mine, everything)
    assert E164("+14155550192") not in await found(catalog, other, everything)
    narrowed = {
        LOCAL: everything._replace(begins="+14155550190"),
        SECOND: everything._replace(services=(Service.SMS, Service.MMS)),
        TOLL_FREE: everything._replace(types=(NumberType.TOLL_FREE,)),
        E164("+12065550190"): everything._replace(region="WA"),
        E164("+14165550190"): everything._replace(country="CA"),
    }
    for number, search in narrowed.items():
        assert await found(catalog, other, search) == [number]
    city = everything._replace(city="SAN FRANCISCO")
    assert await found(catalog, other, city) == [E164("+12065550190"), LOCAL]
    assert await found(catalog, other, city._replace(region="CA")) == [LOCAL]
    page = await catalog.search_inventory(mine, everything, limit=2, offset=4)
    assert ([row.number for row in page.rows], page.total) == ([TOLL_FREE], 5)
    beyond = await catalog.search_inventory(mine, everything, limit=2, offset=40)
    assert (beyond.rows, beyond.total) == ([], 5)


async def test_of_many_who_want_a_number_one_gets_it(catalog: Catalog) -> None:
    renters = [await renter_of(catalog, f"{place}") for place in range(4)]
    numbers = [E164(f"+141555501{last}") for last in range(10, 30)]
    await catalog.stock_numbers([offer(number) for number in numbers])
    rented = await asyncio.gather(
        *(
            catalog.rent_number(renter, number, powerpack_id=None, application_id="", now_ms=NOW_MS)
            for number in numbers
            for renter in renters
        )
    )
    owners = [row.number for row in rented if row is not None]
    assert sorted(owners) == numbers
    assert len((await catalog.load_all()).numbers) == len(numbers)


async def test_a_rented_number_is_as_it_was_offered_and_free_when_it_is_given_up(catalog: Catalog) -> None:
    mine, other = await renter_of(catalog), await renter_of(catalog, "Other Inc.")
    await catalog.stock_numbers([offer(LOCAL, campaign_approved=True, services=(Service.SMS, Service.MMS))])
    row = await catalog.rent_number(mine, LOCAL, powerpack_id=None, application_id="", now_ms=NOW_MS)
    assert row is not None
    assert (row.carrier, row.campaign_approved, row.services) == ("east", True, frozenset(Service))
    assert (row.rented_ms, row.added_ms) == (NOW_MS, NOW_MS)
    assert (await catalog.load_all()).numbers == [row]
    assert await catalog.find_stocked(other, LOCAL) is None
    await catalog.delete_number(mine.account_id, LOCAL)
    assert await catalog.find_stocked(other, LOCAL) is not None


async def test_numbers_deleted_with_their_powerpack_are_for_rent_again(catalog: Catalog) -> None:
    mine = await renter_of(catalog)
    await catalog.insert_powerpack(PowerpackRow(PACK, mine.account_id, PoolId(PACK), "pack", created_ms=NOW_MS))
    await catalog.stock_numbers([offer(LOCAL), offer(SECOND)])
    for number in (LOCAL, SECOND):
        await catalog.rent_number(mine, number, powerpack_id=PACK, application_id="", now_ms=NOW_MS)
    everything = Search("US", BOTH, "+1")
    assert await found(catalog, mine, everything) == []
    await catalog.delete_powerpack(mine.account_id, PACK, with_numbers=True)
    assert await found(catalog, mine, everything) == [LOCAL, SECOND]


async def test_what_the_powerpack_does_not_take_is_not_rented(catalog: Catalog) -> None:
    mine, other = await renter_of(catalog), await renter_of(catalog, "Other Inc.")
    await catalog.insert_powerpack(PowerpackRow(PACK, mine.account_id, PoolId(PACK), "pack", created_ms=NOW_MS))
    await catalog.stock_numbers([offer(TOLL_FREE), offer(OTHER_TOLL_FREE), offer(LOCAL)])
    await catalog.rent_number(mine, TOLL_FREE, powerpack_id=PACK, application_id="", now_ms=NOW_MS)
    with pytest.raises(TypeTaken):
        await catalog.rent_number(mine, OTHER_TOLL_FREE, powerpack_id=PACK, application_id="", now_ms=NOW_MS)
    with pytest.raises(NotFound):
        await catalog.rent_number(other, LOCAL, powerpack_id=PACK, application_id="", now_ms=NOW_MS)
    for number in (OTHER_TOLL_FREE, LOCAL):
        assert await catalog.find_stocked(other, number) is not None


async def test_a_number_an_account_had_before_is_not_for_rent(catalog: Catalog) -> None:
    mine = await renter_of(catalog)
    await catalog.stock_numbers([offer(LOCAL)])
    row = await catalog.rent_number(mine, LOCAL, powerpack_id=None, application_id="", now_ms=NOW_MS)
    assert row is not None
    assert await catalog.stock_numbers([offer(LOCAL)]) == 0
    assert await catalog.stock_numbers([offer(LOCAL, monthly_rate="1.00000")]) == 1
    assert await catalog.find_stocked(mine, LOCAL) is None


# --- Files ------------------------------------------------------------------------------------------------------------

FILE = """number,carrier,services,monthly_rate,campaign
+14155550190,east,sms mms,0.80000,approved
+1 (206) 555-0190,east,,,
+18005550190,east,,1,
"""


async def imported(
    catalog: Catalog, file: str | Iterable[str], *, account_id: AccountId | None = None, is_rehearsal: bool = False
) -> tuple[Imported, list[BadLine]]:
    bad: list[BadLine] = []
    lines = io.StringIO(file) if isinstance(file, str) else file
    done = await import_numbers(
        catalog, lines, carriers={"east"}, account_id=account_id, now_ms=NOW_MS, is_rehearsal=is_rehearsal,
        on_bad=bad.append,
    )  # fmt: skip
    return done, bad


async def exported(catalog: Catalog) -> str:
    file = io.StringIO()
    await export_numbers(catalog, file)
    return file.getvalue()


async def test_a_file_twice_changes_nothing_and_what_is_exported_can_be_imported(catalog: Catalog) -> None:
    assert await imported(catalog, FILE, is_rehearsal=True) == (Imported(3, 0, 0, 0), [])
    assert await exported(catalog) == ",".join(COLUMNS) + "\n"
    assert await imported(catalog, FILE) == (Imported(3, 0, 3, 0), [])
    assert await imported(catalog, FILE) == (Imported(3, 0, 0, 0), [])
    written = await exported(catalog)
    assert written.splitlines()[1:] == [
        "+12065550190,longcode,US,WA,,east,sms,,,0.00000,0.00000,0.00000,0.00000,",
        "+14155550190,longcode,US,CA,,east,sms mms,approved,,0.00000,0.80000,0.00000,0.00000,",
        "+18005550190,tollfree,US,,,east,sms,,,0.00000,1,0.00000,0.00000,",
    ]
    assert await imported(catalog, written) == (Imported(3, 0, 0, 0), [])


async def test_numbers_are_imported_straight_to_an_account(catalog: Catalog) -> None:
    mine, other = await renter_of(catalog), await renter_of(catalog, "Other Inc.")
    await catalog.stock_numbers([offer(LOCAL)])
    await catalog.rent_number(other, LOCAL, powerpack_id=None, application_id="", now_ms=NOW_MS)
    done, _ = await imported(catalog, FILE, account_id=mine.account_id)
    assert done.rented == 2
    assert (await imported(catalog, FILE, account_id=mine.account_id))[0].rented == 0
    owners = {row.number: row.account_id for row in (await catalog.load_all()).numbers}
    assert owners == {
        LOCAL: other.account_id, E164("+12065550190"): mine.account_id, TOLL_FREE: mine.account_id,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("4155550190,east", "no number in E.164"),
        ("+1415555019,east", "no number in E.164"),
        ("+19005550190,east", "no number in E.164"),
        ("22555,east", "no number in E.164"),
        ("+14155550190,west", "no carrier 'west'"),
        ("+14155550190,east,tollfree", "is a longcode, not a tollfree"),
        ("+14155550190,east,,CA", "belongs to US, not to CA"),
        ("+14155550190,east,,,NY", "region is CA for +14155550190"),
        ("+14155550190,east,,,,fax", "services are sms, mms or both"),
        ("+14155550190,east,,,,,0.8e3", "rates are decimal numbers"),
        ("+14155550190,east,,,,,,maybe", "verified is yes or no"),
        ("+14155550190,east,,,,,,,MA99999999999999999Z", "no account 'MA99999999999999999Z'"),
        ("+14155550190", "has 1 fields, the header names 9"),
        ("+14155550190," + "x" * 300, "is no CSV"),
        ("+18005550199,east", "stands above already"),
    ],
)
async def test_a_bad_line_is_named_and_the_others_are_stored(catalog: Catalog, line: str, why: str) -> None:
    header = "number,carrier,type,country,region,services,sms_rate,verified,reserved_for\n"
    padded = line + "," * (8 - line.count(",")) if "," in line and "x" not in line.replace("fax", "") else line
    file = f"{header}+18005550199,east,,,,,,yes,\n{padded}\n\n+18005550198,east,,,,,,,\n"
    done, (bad,) = await imported(catalog, file)
    assert (done.lines, done.bad, done.changed) == (3, 1, 2)
    assert (bad.line, why in bad.why) == (3, True), bad


@pytest.mark.parametrize("header", ["", "number\n", "number,carrier,colour\n", "number,carrier,number\n", "1,2\n"])
async def test_a_file_must_name_its_columns(catalog: Catalog, header: str) -> None:
    with pytest.raises(Refused, match="the first line must name the columns"):
        await imported(catalog, header)


async def test_an_unknown_account_gets_nothing(catalog: Catalog) -> None:
    with pytest.raises(Refused, match="no account"):
        await imported(catalog, FILE, account_id=AccountId("MA99999999999999999Z"))
    assert len((await exported(catalog)).splitlines()) == 1
