"""The catalog in a real database: what goes in comes out, nothing crosses accounts, every edit is heard of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Limits,
    NumberRow,
    NumberState,
    NumberType,
    OnUnknown,
    Pause,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Service,
    StickyAtLimit,
)
from storage.catalog import (
    AccountRow,
    ApplicationRow,
    CarrierRow,
    Catalog,
    Change,
    NameTaken,
    NotFound,
    NumberTaken,
    TypeTaken,
)
from storage.changes import ALL, TOLD_MAX
from storage.database import Database
from storage.sealing import Vault, WrongKey, token_hash
from tests.conftest import NOW_MS

PACK = PowerpackId("0199c000-0000-7000-8000-0000000000a1")
OTHER_PACK = PowerpackId("0199c000-0000-7000-8000-0000000000a2")
NO_PACK = PowerpackId("0199c000-0000-7000-8000-0000000000a3")
ANSWER_S_MAX = 10


def pack(account: AccountRow, powerpack_id: PowerpackId = PACK, name: str = "pack") -> PowerpackRow:
    pool_id = PoolId(powerpack_id.replace("000000a", "000000b"))
    return PowerpackRow(powerpack_id, account.account_id, pool_id, name, created_ms=NOW_MS)


def number(account: AccountRow, last: int, powerpack_id: PowerpackId | None = None) -> NumberRow:
    return NumberRow(
        E164(f"+1415555{last:04}"),
        account.account_id,
        NumberType.LONG_CODE,
        "US",
        CarrierName("simulated"),
        powerpack_id=powerpack_id,
        added_ms=NOW_MS,
        rented_ms=NOW_MS,
    )


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database, Vault(bytes(32)))


@pytest.fixture
async def account(catalog: Catalog) -> AccountRow:
    return await catalog.create_account("shop", now_ms=NOW_MS)


@pytest.fixture
async def stranger(catalog: Catalog) -> AccountRow:
    return await catalog.create_account("stranger", now_ms=NOW_MS)


# --- What goes in comes out -------------------------------------------------------------------------------------------


async def test_an_account_has_plivo_s_shape_and_a_token_that_only_the_key_opens(
    catalog: Catalog, database: Database, account: AccountRow
) -> None:
    assert re.fullmatch("MA[A-Z0-9]{18}", account.account_id)
    assert re.fullmatch("[A-Za-z0-9_-]{40}", account.token)
    assert await catalog.find_account(account.account_id) == account
    assert account.token_sha256 == token_hash(account.token)
    async with database.side() as connection:
        stored = str(await connection.fetchrow("SELECT * FROM accounts"))
    assert account.token not in stored
    with pytest.raises(WrongKey):
        await Catalog(database, Vault(bytes(31) + b"x")).load_all()


async def test_accounts_may_share_a_name_and_never_an_id_or_a_token(catalog: Catalog) -> None:
    one, two = [await catalog.create_account("shop", now_ms=NOW_MS) for _ in range(2)]
    assert one.account_id != two.account_id
    assert one.token != two.token
    assert (await catalog.create_account("third", now_ms=NOW_MS, token="a-token-of-mine")).token == "a-token-of-mine"


async def test_an_account_is_shut_out_and_let_in(catalog: Catalog, account: AccountRow) -> None:
    for enabled in (False, True):
        await catalog.update_account(account.account_id, enabled=enabled, now_ms=NOW_MS + 1)
        changed = replace(account, enabled=enabled, modified_ms=NOW_MS + 1)
        assert await catalog.find_account(account.account_id) == changed
    with pytest.raises(NotFound):
        await catalog.update_account(AccountId("MA"), enabled=True, now_ms=NOW_MS)


async def test_a_powerpack_comes_back_with_every_setting(catalog: Catalog, account: AccountRow) -> None:
    plain = pack(account)
    changed = replace(
        plain,
        name="päck",
        sticky_sender=False,
        local_connect=False,
        priority={
            ("US", Service.SMS): (NumberType.TOLL_FREE, NumberType.LONG_CODE),
            ("CA", Service.MMS): (NumberType.SHORT_CODE,),
        },
        operator_types={"Verizon": NumberType.SHORT_CODE},
        sticky_at_limit=StickyAtLimit.DETOUR,
        sticky_wait_ms=1,
        sticky_life_ms=2,
        patience_ms=3,
        on_unknown=OnUnknown.FAIL,
        application_type="xml",
        application_id="app",
        pause=Pause.REFUSE,
    )
    await catalog.insert_powerpack(plain)
    assert await catalog.find_powerpack(account.account_id, PACK) == plain
    await catalog.update_powerpack(changed)
    assert await catalog.find_powerpack(account.account_id, PACK) == changed
    assert (await catalog.load_all()).powerpacks == [changed]


async def test_a_number_comes_back_with_every_setting(catalog: Catalog, account: AccountRow) -> None:
    await catalog.insert_powerpack(pack(account))
    plain = number(account, 100)
    changed = replace(
        plain,
        type=NumberType.TOLL_FREE,
        country="CA",
        carrier=CarrierName("http"),
        services=frozenset({Service.SMS, Service.MMS}),
        campaign_approved=True,
        verified=True,
        state=NumberState.DRAINING,
        limits=Limits(3, 1_000, 150, None),
    )
    with_limits = replace(number(account, 101, PACK), limits=Limits(1, 60_000, 150, 150))
    await catalog.insert_numbers([plain, with_limits])
    assert (await catalog.load_all()).numbers == [plain, with_limits]
    await catalog.update_number(changed)
    assert await catalog.find_number(account.account_id, plain.number) == changed
    await catalog.delete_number(account.account_id, plain.number)
    assert (await catalog.load_all()).numbers == [with_limits]


async def test_an_application_comes_back_and_goes(catalog: Catalog, account: AccountRow) -> None:
    row = ApplicationRow("20468599130939380", account.account_id, "replies", "https://example.com/in", "GET", NOW_MS)
    await catalog.insert_application(row)
    changed = ApplicationRow(
        row.application_id, account.account_id, "answers", "", "POST", NOW_MS, "https://a.example", "GET",
        "https://h.example", "GET", "https://f.example", "GET", is_number_default=True, is_endpoint_default=True,
        log_inbound=False, is_public=True,
    )  # fmt: skip
    await catalog.update_application(changed)
    assert await catalog.find_application(account.account_id, row.application_id) == changed
    assert (await catalog.load_all()).applications == [changed]
    await catalog.delete_application(account.account_id, row.application_id)
    assert await catalog.find_application(account.account_id, row.application_id) is None


async def test_a_number_is_labelled_and_given_to_another_account(
    catalog: Catalog, account: AccountRow, stranger: AccountRow
) -> None:
    one, member = number(account, 100), number(account, 101, PACK)
    await catalog.insert_powerpack(pack(account))
    await catalog.insert_numbers([one, member])
    await catalog.label_number(account.account_id, one.number, alias="office", application_id="1")
    labelled = replace(one, alias="office", application_id="1")
    assert await catalog.find_number(account.account_id, one.number) == labelled
    await catalog.give_number(account.account_id, one.number, to=stranger.account_id)
    given = replace(labelled, account_id=stranger.account_id, application_id="")
    assert await catalog.find_number(stranger.account_id, one.number) == given
    with pytest.raises(NumberTaken):
        await catalog.give_number(account.account_id, member.number, to=stranger.account_id)
    for edit in (
        catalog.give_number(account.account_id, one.number, to=stranger.account_id),
        catalog.give_number(stranger.account_id, one.number, to=AccountId("MA")),
        catalog.label_number(account.account_id, one.number, alias="mine", application_id=""),
    ):
        with pytest.raises(NotFound):
            await edit
    assert await catalog.find_number(stranger.account_id, one.number) == given


async def test_one_application_of_an_account_is_the_default_and_it_is_the_latest(
    catalog: Catalog, account: AccountRow, stranger: AccountRow
) -> None:
    rows = [
        ApplicationRow(f"1000000000000000{place}", owner.account_id, f"app{place}", is_number_default=True)
        for place, owner in enumerate((account, account, stranger))
    ]
    for row in rows:
        await catalog.insert_application(row)
    assert [row.is_number_default for row in (await catalog.load_all()).applications if row in rows] == [True, True]
    assert await catalog.find_application(account.account_id, rows[0].application_id) == replace(
        rows[0], is_number_default=False
    )
    await catalog.update_application(rows[0])
    found = await catalog.find_application(account.account_id, rows[1].application_id)
    assert found == replace(rows[1], is_number_default=False)


async def test_a_deleted_application_leaves_its_powerpacks_and_only_those(
    catalog: Catalog, account: AccountRow
) -> None:
    for application_id in ("10000000000000001", "10000000000000002"):
        await catalog.insert_application(ApplicationRow(application_id, account.account_id, f"app{application_id}"))
    packs = [
        replace(pack(account, pack_id, name), application_id=application_id, application_type="XML")
        for pack_id, name, application_id in (
            (PACK, "a", "10000000000000001"), (OTHER_PACK, "b", "10000000000000002")
        )
    ]  # fmt: skip
    for row in packs:
        await catalog.insert_powerpack(row)
    await catalog.delete_application(account.account_id, "10000000000000001")
    assert await catalog.find_powerpack(account.account_id, PACK) == replace(
        packs[0], application_id="", application_type=""
    )
    assert await catalog.find_powerpack(account.account_id, OTHER_PACK) == packs[1]


async def test_nine_thousand_numbers_go_in_at_once_and_come_out(catalog: Catalog, account: AccountRow) -> None:
    await catalog.insert_powerpack(pack(account))
    rows = [number(account, last, PACK) for last in range(9_000)]
    await catalog.insert_numbers(rows)
    loaded = await catalog.load_all()
    assert loaded.accounts == [account]
    assert loaded.numbers == rows


# --- Membership -------------------------------------------------------------------------------------------------------


async def test_a_number_belongs_to_one_powerpack_at_a_time(catalog: Catalog, account: AccountRow) -> None:
    me, one = account.account_id, number(account, 100)
    await catalog.insert_powerpack(pack(account))
    await catalog.insert_powerpack(pack(account, OTHER_PACK, "other"))
    await catalog.insert_numbers([one])
    await catalog.add_to_powerpack(me, one.number, PACK, now_ms=NOW_MS + 5)
    joined = replace(one, powerpack_id=PACK, added_ms=NOW_MS + 5)
    assert await catalog.find_number(me, one.number) == joined
    await catalog.add_to_powerpack(me, one.number, PACK, now_ms=NOW_MS + 9)
    assert await catalog.find_number(me, one.number) == joined
    with pytest.raises(NumberTaken, match="another powerpack"):
        await catalog.add_to_powerpack(me, one.number, OTHER_PACK, now_ms=NOW_MS)
    with pytest.raises(NotFound):
        await catalog.remove_from_powerpack(me, one.number, OTHER_PACK)
    await catalog.remove_from_powerpack(me, one.number, PACK)
    await catalog.add_to_powerpack(me, one.number, OTHER_PACK, now_ms=NOW_MS)


@pytest.mark.parametrize("with_numbers", [False, True])
async def test_a_deleted_powerpack_frees_its_numbers_or_takes_them_along(
    catalog: Catalog, account: AccountRow, with_numbers: bool
) -> None:
    inside, outside = number(account, 100, PACK), number(account, 101)
    short_code = replace(number(account, 0, PACK), number=E164("22555"), type=NumberType.SHORT_CODE)
    await catalog.insert_powerpack(pack(account))
    await catalog.insert_numbers([inside, outside, short_code])
    deleted = await catalog.delete_powerpack(account.account_id, PACK, with_numbers=with_numbers)
    assert deleted == ([inside.number] if with_numbers else [])
    kept = [*([] if with_numbers else [replace(inside, powerpack_id=None)]), outside]
    assert (await catalog.load_all()).numbers == [*kept, replace(short_code, powerpack_id=None)]
    assert (await catalog.load_all()).powerpacks == []


async def test_a_powerpack_has_one_toll_free_number_and_one_short_code_per_country(
    catalog: Catalog, account: AccountRow
) -> None:
    await catalog.insert_powerpack(pack(account))

    async def add(last: int, kind: NumberType, country: str) -> None:
        await catalog.insert_numbers([replace(number(account, last, PACK), type=kind, country=country)])

    await add(1, NumberType.TOLL_FREE, "US")
    await add(2, NumberType.SHORT_CODE, "US")
    await add(3, NumberType.SHORT_CODE, "CA")
    for kind, country in ((NumberType.TOLL_FREE, "CA"), (NumberType.SHORT_CODE, "CA")):
        with pytest.raises(TypeTaken):
            await add(4, kind, country)
    with pytest.raises(TypeTaken):
        await catalog.update_number(replace(number(account, 3), type=NumberType.SHORT_CODE, country="US"))


async def test_names_are_taken_once_per_account(catalog: Catalog, account: AccountRow, stranger: AccountRow) -> None:
    await catalog.insert_powerpack(pack(account))
    with pytest.raises(NameTaken, match="powerpack"):
        await catalog.insert_powerpack(pack(account, OTHER_PACK))
    await catalog.insert_powerpack(pack(stranger, OTHER_PACK))
    await catalog.insert_application(ApplicationRow("1", account.account_id, "app"))
    await catalog.insert_application(ApplicationRow("2", account.account_id, "other"))
    with pytest.raises(NameTaken, match="application"):
        await catalog.insert_application(ApplicationRow("3", account.account_id, "app"))
    with pytest.raises(NameTaken, match="application"):
        await catalog.update_application(ApplicationRow("2", account.account_id, "app"))


async def test_a_taken_number_spoils_its_whole_list(
    catalog: Catalog, account: AccountRow, stranger: AccountRow
) -> None:
    await catalog.insert_numbers([number(account, 100)])
    with pytest.raises(NumberTaken):
        await catalog.insert_numbers([number(stranger, 99), number(stranger, 100), number(stranger, 101)])
    assert (await catalog.load_all()).numbers == [number(account, 100)]


# --- Nothing crosses accounts -----------------------------------------------------------------------------------------


async def test_nobody_reaches_what_is_another_s(catalog: Catalog, account: AccountRow, stranger: AccountRow) -> None:
    me, nobody = stranger.account_id, replace(stranger, account_id=AccountId("MA nobody"))
    application = ApplicationRow("1", account.account_id, "app")
    inside = number(account, 100, PACK)
    await catalog.insert_powerpack(pack(account))
    await catalog.insert_powerpack(pack(stranger, OTHER_PACK))
    await catalog.insert_numbers([inside, number(account, 101), number(stranger, 102)])
    await catalog.insert_application(application)
    before = await catalog.load_all()

    assert await catalog.find_powerpack(me, PACK) is None
    assert await catalog.find_number(me, inside.number) is None
    assert await catalog.find_application(me, "1") is None
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: catalog.update_powerpack(replace(pack(account), account_id=me, name="mine")),
        lambda: catalog.delete_powerpack(me, PACK),
        lambda: catalog.delete_powerpack(me, PACK, with_numbers=True),
        lambda: catalog.update_application(replace(application, account_id=me, name="mine")),
        lambda: catalog.delete_application(me, "1"),
        lambda: catalog.update_number(replace(inside, account_id=me, state=NumberState.DISABLED)),
        lambda: catalog.delete_number(me, inside.number),
        lambda: catalog.remove_from_powerpack(me, inside.number, PACK),
        lambda: catalog.add_to_powerpack(me, number(account, 101).number, OTHER_PACK, now_ms=0),
        lambda: catalog.add_to_powerpack(me, number(stranger, 102).number, PACK, now_ms=0),
        lambda: catalog.insert_numbers([number(stranger, 103, PACK)]),
        lambda: catalog.insert_powerpack(pack(nobody, NO_PACK)),
        lambda: catalog.insert_application(replace(application, application_id="2", account_id=nobody.account_id)),
    ]
    for attempt in attempts:
        with pytest.raises((NotFound, NumberTaken)):
            await attempt()
    assert await catalog.load_all() == before


# --- Every edit is heard of -------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(catalog: Catalog) -> AsyncIterator[Callable[[int], Awaitable[list[Change]]]]:
    """Yields: the next so many changes that were heard."""
    heard: asyncio.Queue[Change] = asyncio.Queue()

    async def take(count: int) -> list[Change]:
        async with asyncio.timeout(ANSWER_S_MAX):
            return [await heard.get() for _ in range(count)]

    async with asyncio.TaskGroup() as group:
        task = group.create_task(catalog.listen(heard.put))
        yield take
        task.cancel()


async def test_each_edit_is_heard_of_in_order(catalog: Catalog, account: AccountRow) -> None:
    me = account.account_id
    async with listening(catalog) as take:
        assert await take(1) == [ALL]
        await catalog.update_account(me, enabled=False, now_ms=NOW_MS)
        assert await take(1) == [Change("account", me, me)]
        await catalog.insert_powerpack(pack(account))
        await catalog.insert_numbers([number(account, 100, PACK), number(account, 101)])
        assert await take(3) == [
            Change("powerpack", PACK, me),
            Change("number", number(account, 100).number, me),
            Change("number", number(account, 101).number, me),
        ]
        await catalog.delete_powerpack(me, PACK)
        assert await take(2) == [Change("powerpack", PACK, me), Change("number", number(account, 100).number, me)]


async def test_what_is_told_of_a_carrier_is_kept_and_heard_of(catalog: Catalog) -> None:
    east = CarrierName("east")
    assert await catalog.find_carrier(east) == CarrierRow(east)
    async with listening(catalog) as take:
        await take(1)
        await catalog.pause_carrier(east, True)
        assert await take(1) == [Change("carrier", east)]
        first = await catalog.order_cancel(east, now_ms=1_000)
        again = await catalog.order_cancel(east, now_ms=1_000)
        earlier = await catalog.order_cancel(east, now_ms=500)  # a clock that is behind
        assert (first, again, earlier) == (1_000, 1_001, 1_002)
        await take(1)
    await catalog.note_cancelled(east, cancel_ms=1_001, cancelled=7, in_flight=2)
    await catalog.note_cancelled(east, cancel_ms=1_000, cancelled=9, in_flight=9)  # too late
    row = CarrierRow(east, paused=True, cancel_ms=1_002, cancelled_ms=1_001, cancelled=7, in_flight=2)
    assert await catalog.find_carrier(east) == row
    await catalog.pause_carrier(east, False)
    assert (await catalog.load_all()).carriers == [replace(row, paused=False)]


async def test_a_large_edit_is_heard_of_as_everything(catalog: Catalog, account: AccountRow) -> None:
    async with listening(catalog) as take:
        await take(1)
        await catalog.insert_numbers([number(account, last) for last in range(TOLD_MAX + 1)])
        assert await take(1) == [ALL]


async def test_an_edit_that_failed_is_not_heard_of(catalog: Catalog, account: AccountRow) -> None:
    await catalog.insert_powerpack(pack(account))
    async with listening(catalog) as take:
        await take(1)
        with pytest.raises(NameTaken):
            await catalog.insert_powerpack(pack(account, OTHER_PACK))
        await catalog.update_account(account.account_id, enabled=True, now_ms=NOW_MS)
        assert await take(1) == [Change("account", account.account_id, account.account_id)]


async def test_after_its_session_was_ended_the_listener_comes_back_and_says_everything(
    catalog: Catalog, database: Database, account: AccountRow
) -> None:
    async with listening(catalog) as take:
        for _ in range(2):
            assert await take(1) == [ALL]
            async with database.side() as connection:
                ended = await connection.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
                )
            assert ended == 1
        assert await take(1) == [ALL]
        await catalog.update_account(account.account_id, enabled=True, now_ms=NOW_MS)
        assert await take(1) == [Change("account", account.account_id, account.account_id)]
