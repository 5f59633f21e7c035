"""What an administrator does by command, against a real database: numbers, and what is refused."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from gateway.administering import Refused, Wanted, add_number, resolve
from gateway.settings import CarrierSettings, Settings, StorageSettings
from gateway.stores import Stores
from resolver.model import CarrierName, NumberType, PoolId, PowerpackId, PowerpackRow
from storage.catalog import Catalog, NumberTaken
from storage.database import Database
from storage.sealing import Vault

EAST = CarrierName("east")
POWERPACK = PowerpackId("0197a000-0000-7000-8000-000000000001")
WANTED = Wanted("+14155550100", NumberType.LONG_CODE, EAST, "", False, "US", "", "", 1_000)


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database, Catalog(database, Vault(secrets.token_bytes(32))), None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(storage=StorageSettings(data=tmp_path), carriers={EAST: CarrierSettings(name=EAST)})


async def refusal_of(stores: Stores, settings: Settings, wanted: Wanted) -> str:
    with pytest.raises(Refused) as raised:
        await add_number(stores, settings, wanted)
    return str(raised.value)


async def test_a_number_is_stored_as_it_was_described(stores: Stores, settings: Settings) -> None:
    account = await stores.catalog.create_account("Example Inc.", now_ms=1)
    await add_number(stores, settings, WANTED._replace(number="+1 (415) 555-0100", campaign="approved"))
    (row,) = (await stores.catalog.load_all()).numbers
    assert (row.number, row.type, row.country, row.carrier) == ("+14155550100", NumberType.LONG_CODE, "US", EAST)
    assert row.account_id == account.account_id
    assert row.campaign_approved
    assert not row.verified
    assert row.powerpack_id is None


@pytest.mark.parametrize(
    ("number", "kind", "country"),
    [
        ("+14165550100", NumberType.LONG_CODE, "CA"),
        ("+18005550100", NumberType.TOLL_FREE, "US"),
        ("22555", NumberType.SHORT_CODE, "US"),
    ],
)
async def test_the_country_follows_from_the_number(
    stores: Stores, settings: Settings, number: str, kind: NumberType, country: str
) -> None:
    await stores.catalog.create_account("Example Inc.", now_ms=1)
    row = await add_number(stores, settings, WANTED._replace(number=number, type=kind, verified=True))
    assert (row.number, row.country, row.verified) == (number, country, True)


async def test_a_short_codes_country_is_what_was_said(stores: Stores, settings: Settings) -> None:
    await stores.catalog.create_account("Example Inc.", now_ms=1)
    wanted = WANTED._replace(number="55502", type=NumberType.SHORT_CODE, country="CA")
    assert (await add_number(stores, settings, wanted)).country == "CA"


async def test_a_number_joins_a_powerpack_at_once_if_told_so(stores: Stores, settings: Settings) -> None:
    account = await stores.catalog.create_account("Example Inc.", now_ms=1)
    await stores.catalog.insert_powerpack(PowerpackRow(POWERPACK, account.account_id, PoolId(POWERPACK), "pack"))
    await add_number(stores, settings, WANTED._replace(powerpack_id=POWERPACK))
    (row,) = (await stores.catalog.load_all()).numbers
    assert row.powerpack_id == POWERPACK


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"carrier": "west"}, "no carrier 'west' ([carriers.west] of sendpool.toml); there are: east"),
        ({"campaign": "yes"}, "--campaign is `approved` or not given, not 'yes'"),
        ({"number": "4155550100"}, "'4155550100' is no number in E.164"),
        ({"number": "+1415555010"}, "'+1415555010' is no number in E.164"),
        ({"number": "+19995550100"}, "'+19995550100' is no number in E.164"),
        ({"number": "+18005550100"}, "+18005550100 is a toll-free number, so it is no longcode"),
        ({"type": NumberType.TOLL_FREE}, "+14155550100 is no toll-free number, so it is no tollfree"),
        ({"type": NumberType.SHORT_CODE}, "'+14155550100' is no short code"),
        ({"type": NumberType.SHORT_CODE, "number": "22555", "country": "us"}, "--country is two capital letters"),
        ({"account_id": "MA00000000000000000X"}, "there is no account 'MA00000000000000000X'"),
        ({"powerpack_id": POWERPACK}, f"there is no powerpack '{POWERPACK}' in this account"),
    ],
)
async def test_what_cannot_be_right_is_refused_with_the_reason(
    stores: Stores, settings: Settings, change: dict[str, str], said: str
) -> None:
    await stores.catalog.create_account("Example Inc.", now_ms=1)
    assert said in await refusal_of(stores, settings, WANTED._replace(**change))  # type: ignore[arg-type]
    assert not (await stores.catalog.load_all()).numbers


async def test_without_an_account_it_says_how_to_make_one(stores: Stores, settings: Settings) -> None:
    assert "sendpool accounts create" in await refusal_of(stores, settings, WANTED)


async def test_with_two_accounts_it_asks_which(stores: Stores, settings: Settings) -> None:
    await stores.catalog.create_account("One", now_ms=1)
    other = await stores.catalog.create_account("Other", now_ms=1)
    assert "say which: --account" in await refusal_of(stores, settings, WANTED)
    row = await add_number(stores, settings, WANTED._replace(account_id=other.account_id))
    assert row.account_id == other.account_id


async def test_a_number_that_is_known_is_not_added_again(stores: Stores, settings: Settings) -> None:
    await stores.catalog.create_account("Example Inc.", now_ms=1)
    await add_number(stores, settings, WANTED)
    with pytest.raises(NumberTaken):
        await add_number(stores, settings, WANTED)


async def test_asking_for_a_decision_without_a_gateway_says_so(stores: Stores, settings: Settings) -> None:
    account = await stores.catalog.create_account("Example Inc.", now_ms=1)
    await stores.catalog.insert_powerpack(PowerpackRow(POWERPACK, account.account_id, PoolId(POWERPACK), "pack"))
    with pytest.raises(Refused, match=r"no gateway answers at http://127\.0\.0\.1:9 "):
        await resolve(stores, settings, "http://127.0.0.1:9", "+14155550123", None, "Hello")


async def test_asking_without_a_powerpack_says_how_to_make_one(stores: Stores, settings: Settings) -> None:
    with pytest.raises(Refused, match="there is no powerpack yet; make one by API"):
        await resolve(stores, settings, None, "+14155550123", None, "Hello")
