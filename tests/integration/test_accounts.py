"""What is done to accounts, in a real database: tokens that overlap, subaccounts, and what is left of a deleted one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.accounts import HOUR_MS, OVERLAP_HOURS_MAX, AccountEdits
from gateway.edits import EditRefused
from resolver.model import E164, AccountId, CarrierName, NumberRow, NumberType, PoolId, PowerpackId, PowerpackRow
from storage.catalog import AccountRow, ApplicationRow, Catalog, Change
from storage.database import Database
from storage.sealing import Vault, token_hash
from tests.conftest import NOW_MS

PACK = PowerpackId("0199c000-0000-7000-8000-0000000000a1")
NUMBERS = (E164("+14155550100"), E164("+14155550101"))
LATER_MS = NOW_MS + 1_000


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database, Vault(bytes(32)))


@pytest.fixture
def followed() -> list[Change]:
    return []


@pytest.fixture
def edits(catalog: Catalog, followed: list[Change]) -> AccountEdits:
    async def follow(changes: list[Change]) -> None:
        followed.extend(changes)

    return AccountEdits(catalog, follow)


@pytest.fixture
async def main(edits: AccountEdits) -> AccountRow:
    return await edits.create("shop", now_ms=NOW_MS)


async def found(catalog: Catalog, row: AccountRow) -> AccountRow:
    read = await catalog.find_account(row.account_id)
    assert read is not None
    return read


async def test_an_account_gets_credentials_of_plivos_shape(catalog: Catalog, main: AccountRow) -> None:
    assert re.fullmatch(r"MA[A-Z0-9]{18}", main.account_id)
    assert len(main.token) == 40
    assert await found(catalog, main) == main


async def test_so_does_a_subaccount_and_it_knows_whose_it_is(
    catalog: Catalog, edits: AccountEdits, main: AccountRow, followed: list[Change]
) -> None:
    sub = await edits.create("till", main_id=main.account_id, enabled=False, now_ms=NOW_MS)
    assert re.fullmatch(r"SA[A-Z0-9]{18}", sub.account_id)
    assert (sub.main_id, sub.enabled) == (main.account_id, False)
    assert await found(catalog, sub) == sub
    assert followed[-1] == Change("account", sub.account_id, sub.account_id)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 129, "nul\0"])
async def test_a_name_nobody_could_read_is_refused(edits: AccountEdits, main: AccountRow, name: str) -> None:
    with pytest.raises(EditRefused, match="printable"):
        await edits.create(name, now_ms=1)
    with pytest.raises(EditRefused, match="printable"):
        await edits.change(main.account_id, name=name, now_ms=1)


async def test_only_a_main_account_that_there_is_has_subaccounts(edits: AccountEdits, main: AccountRow) -> None:
    sub = await edits.create("till", main_id=main.account_id, now_ms=NOW_MS)
    for main_id in (AccountId("MA99999999999999999Z"), sub.account_id):
        with pytest.raises(EditRefused, match="no main account"):
            await edits.create("x", main_id=main_id, now_ms=NOW_MS)


async def test_after_a_rotation_both_tokens_are_good_for_a_while(
    catalog: Catalog, edits: AccountEdits, main: AccountRow
) -> None:
    new = await edits.rotate(main.account_id, overlap_hours=24, now_ms=NOW_MS)
    assert new.token != main.token
    assert (new.token_sha256, new.former_sha256) == (token_hash(new.token), main.token_sha256)
    assert new.tokens(NOW_MS + 24 * HOUR_MS - 1) == (new.token, main.token)
    assert new.tokens(NOW_MS + 24 * HOUR_MS) == (new.token,)
    assert await found(catalog, main) == new
    newer = await edits.rotate(main.account_id, overlap_hours=1, now_ms=LATER_MS)
    assert newer.tokens(LATER_MS) == (newer.token, new.token), "the one before that one is good no more"


async def test_the_token_before_ends_at_once_by_a_revocation_or_without_an_overlap(
    database: Database, edits: AccountEdits, main: AccountRow
) -> None:
    await edits.rotate(main.account_id, overlap_hours=24, now_ms=NOW_MS)
    revoked = await edits.revoke(main.account_id, now_ms=NOW_MS)
    assert (revoked.tokens(NOW_MS), revoked.former_sha256) == ((revoked.token,), b"")
    rotated = await edits.rotate(main.account_id, overlap_hours=0, now_ms=NOW_MS)
    assert (rotated.tokens(NOW_MS), rotated.former_sha256) == ((rotated.token,), b"")
    async with database.side() as connection:
        assert await connection.fetchval("SELECT former_sealed FROM accounts") == b""


async def test_what_cannot_be_done_to_an_account_is_refused(edits: AccountEdits, main: AccountRow) -> None:
    nobody = AccountId("MA99999999999999999Z")
    for edit in (
        edits.change(nobody, enabled=True, now_ms=NOW_MS),
        edits.rotate(nobody, overlap_hours=1, now_ms=NOW_MS),
        edits.revoke(nobody, now_ms=NOW_MS),
        edits.delete_subaccount(main.account_id, main.account_id, cascade=False, now_ms=NOW_MS),
    ):
        with pytest.raises(EditRefused) as refused:
            await edit
        assert refused.value.code == "not_found"
    for hours in (-1, OVERLAP_HOURS_MAX + 1):
        with pytest.raises(EditRefused, match="hours"):
            await edits.rotate(main.account_id, overlap_hours=hours, now_ms=NOW_MS)


async def test_who_shuts_an_account_out_shuts_its_subaccounts_out_and_all_of_them_are_told(
    catalog: Catalog, edits: AccountEdits, main: AccountRow, followed: list[Change]
) -> None:
    sub = await edits.create("till", main_id=main.account_id, now_ms=NOW_MS)
    followed.clear()
    await edits.change(main.account_id, enabled=False, now_ms=LATER_MS)
    assert followed == [Change("account", each, each) for each in (main.account_id, sub.account_id)]
    assert await found(catalog, sub) == replace(sub, main_enabled=False)
    renamed = await edits.change(main.account_id, name="Shop", enabled=True, now_ms=LATER_MS)
    assert (renamed.name, renamed.enabled, renamed.modified_ms) == ("Shop", True, LATER_MS)
    assert (await found(catalog, sub)).main_enabled


# --- Deletion ---------------------------------------------------------------------------------------------------------


async def filled_subaccount(catalog: Catalog, edits: AccountEdits, main: AccountRow) -> AccountRow:
    """With a powerpack, a number in it and one beside, and two applications, one under a name its main account has."""
    sub = await edits.create("till", main_id=main.account_id, now_ms=NOW_MS)
    await catalog.insert_powerpack(PowerpackRow(PACK, sub.account_id, PoolId(PACK), "pack", created_ms=NOW_MS))
    await catalog.insert_numbers(
        [
            NumberRow(number, sub.account_id, NumberType.LONG_CODE, "US", CarrierName("east"), powerpack_id=pack)
            for number, pack in zip(NUMBERS, (PACK, None), strict=True)
        ]
    )
    for account, application_id, name in ((main, "1", "same"), (sub, "2", "same"), (sub, "3", "other")):
        await catalog.insert_application(ApplicationRow(application_id, account.account_id, name))
    return sub


async def test_what_a_deleted_subaccount_had_is_its_main_accounts_afterwards(
    catalog: Catalog, edits: AccountEdits, main: AccountRow, followed: list[Change]
) -> None:
    sub = await filled_subaccount(catalog, edits, main)
    followed.clear()
    await edits.delete_subaccount(main.account_id, sub.account_id, cascade=False, now_ms=LATER_MS)
    rows = await catalog.load_all()
    assert {(row.number, row.account_id, row.powerpack_id) for row in rows.numbers} == {
        (number, main.account_id, None) for number in NUMBERS
    }
    assert {(row.application_id, row.account_id, row.name) for row in rows.applications} == {
        ("1", main.account_id, "same"),
        ("2", main.account_id, f"same-{sub.account_id}"),
        ("3", main.account_id, "other"),
    }
    assert rows.powerpacks == []
    assert followed[:2] == [
        Change("account", sub.account_id, sub.account_id),
        Change("powerpack", PACK, sub.account_id),
    ]
    assert set(followed[2:]) == {
        *(Change("application", each, main.account_id) for each in "23"),
        *(Change("number", each, main.account_id) for each in NUMBERS),
    }


async def test_with_cascade_it_goes_with_everything(
    catalog: Catalog, edits: AccountEdits, main: AccountRow, followed: list[Change]
) -> None:
    sub = await filled_subaccount(catalog, edits, main)
    await edits.delete_subaccount(main.account_id, sub.account_id, cascade=True, now_ms=LATER_MS)
    rows = await catalog.load_all()
    assert (rows.numbers, rows.powerpacks) == ([], [])
    assert [row.application_id for row in rows.applications] == ["1"]
    assert Change("number", NUMBERS[0], sub.account_id) in followed


async def test_a_deleted_subaccount_is_never_let_in_again_and_what_it_is_owed_is_still_signed(
    catalog: Catalog, edits: AccountEdits, main: AccountRow
) -> None:
    sub = await edits.create("till", main_id=main.account_id, now_ms=NOW_MS)
    await edits.rotate(sub.account_id, overlap_hours=1, now_ms=NOW_MS)
    await edits.delete_subaccount(main.account_id, sub.account_id, cascade=False, now_ms=LATER_MS)
    row = await found(catalog, sub)
    assert (row.enabled, row.deleted_ms, len(row.tokens(LATER_MS))) == (False, LATER_MS, 1)
    for edit in (
        edits.change(sub.account_id, enabled=True, now_ms=LATER_MS),
        edits.rotate(sub.account_id, overlap_hours=1, now_ms=LATER_MS),
        edits.delete_subaccount(main.account_id, sub.account_id, cascade=False, now_ms=LATER_MS),
    ):
        with pytest.raises(EditRefused):
            await edit


async def test_nobody_deletes_another_accounts_subaccount(edits: AccountEdits, main: AccountRow) -> None:
    other = await edits.create("other", now_ms=NOW_MS)
    sub = await edits.create("till", main_id=main.account_id, now_ms=NOW_MS)
    with pytest.raises(EditRefused):
        await edits.delete_subaccount(other.account_id, sub.account_id, cascade=True, now_ms=NOW_MS)
