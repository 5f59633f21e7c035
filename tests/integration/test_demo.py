"""The demo in a real database: made once, found again, finished when it was cut short."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from pathlib import Path

import orjson
import pytest

from gateway.clock import SystemClock, SystemIds
from gateway.demo import NAME, POWERPACK_AREA_CODES, RECIPIENT, Demo, ensure_demo, write_demo_file
from resolver.compliance import check_recipient
from resolver.geography import AREA_CODES
from resolver.model import AccountId, NumberType, PowerpackId
from storage.catalog import Catalog
from storage.database import Database
from storage.sealing import Vault

BASE_URL = "http://127.0.0.1:8080"
DEMO = Demo(
    BASE_URL, AccountId("MA0123456789ABCDEFGH"), "it's a $ecret", PowerpackId("a-powerpack"), "12345678901234567"
)


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database, Vault(secrets.token_bytes(32)))


async def make(catalog: Catalog) -> Demo | None:
    return await ensure_demo(catalog, base_url=BASE_URL, clock=SystemClock(), ids=SystemIds())


async def test_an_empty_database_gets_account_application_powerpack_and_numbers(catalog: Catalog) -> None:
    demo = await make(catalog)
    assert demo is not None
    rows = await catalog.load_all()
    assert [(each.account_id, each.token) for each in rows.accounts] == [(demo.auth_id, demo.auth_token)]
    assert [each.application_id for each in rows.applications] == [demo.application_id]
    (powerpack,) = rows.powerpacks
    assert (powerpack.powerpack_id, powerpack.application_id) == (demo.powerpack_uuid, demo.application_id)
    assert powerpack.sticky_sender
    assert powerpack.local_connect
    by_type = {kind: [each for each in rows.numbers if each.type is kind] for kind in NumberType}
    assert {each.number[2:5] for each in by_type[NumberType.LONG_CODE]} == set(AREA_CODES)
    assert all(each.number[5:10] == "55501" for each in by_type[NumberType.LONG_CODE])
    assert all(each.verified for each in by_type[NumberType.TOLL_FREE])
    assert {each.country for each in by_type[NumberType.SHORT_CODE]} == {"US", "CA"}


async def test_its_powerpack_holds_long_codes_of_several_area_codes_and_nothing_else(catalog: Catalog) -> None:
    demo = await make(catalog)
    assert demo is not None
    members = [each for each in (await catalog.load_all()).numbers if each.powerpack_id == demo.powerpack_uuid]
    assert {each.type for each in members} == {NumberType.LONG_CODE}
    assert {each.number[2:5] for each in members} == set(POWERPACK_AREA_CODES)


async def test_a_second_start_finds_everything_again(catalog: Catalog) -> None:
    first = await make(catalog)
    before = await catalog.load_all()
    second = await make(catalog)
    after = await catalog.load_all()
    assert second == first
    assert after == before


async def test_numbers_taken_out_or_deleted_by_hand_do_not_come_back(catalog: Catalog) -> None:
    demo = await make(catalog)
    assert demo is not None
    members = [each for each in (await catalog.load_all()).numbers if each.powerpack_id == demo.powerpack_uuid]
    await catalog.remove_from_powerpack(demo.auth_id, members[0].number, demo.powerpack_uuid)
    await catalog.delete_number(demo.auth_id, members[1].number)
    await make(catalog)
    numbers = {each.number: each for each in (await catalog.load_all()).numbers}
    assert numbers[members[0].number].powerpack_id is None
    assert members[1].number not in numbers


async def test_what_a_start_cut_short_has_left_is_finished(catalog: Catalog) -> None:
    account = await catalog.create_account(NAME, now_ms=1)
    demo = await make(catalog)
    assert demo is not None
    assert demo.auth_id == account.account_id
    rows = await catalog.load_all()
    assert len(rows.accounts) == len(rows.powerpacks) == len(rows.applications) == 1
    assert len(rows.numbers) > 4_000


async def test_a_database_others_use_gets_no_demo(catalog: Catalog) -> None:
    await catalog.create_account("Example Inc.", now_ms=1)
    assert await make(catalog) is None
    rows = await catalog.load_all()
    assert len(rows.accounts) == 1
    assert not rows.numbers


async def test_secrets_differ_from_one_database_to_the_next(catalog: Catalog, empty_database_url: str) -> None:
    one = await make(catalog)
    other_database = await Database.open(empty_database_url)
    try:
        await other_database.migrate()
        other = await make(Catalog(other_database, Vault(secrets.token_bytes(32))))
    finally:
        await other_database.close()
    assert one is not None
    assert other is not None
    assert one.auth_token != other.auth_token
    assert one.auth_id != other.auth_id


def test_the_file_is_for_its_owner_alone_and_is_replaced(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_demo_file(DEMO, tmp_path)
        path = write_demo_file(replace_url(DEMO, "http://127.0.0.1:9"), tmp_path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert orjson.loads(path.read_bytes()) == {
        "base_url": "http://127.0.0.1:9",
        "auth_id": DEMO.auth_id,
        "auth_token": DEMO.auth_token,
        "powerpack_uuid": DEMO.powerpack_uuid,
        "application_id": DEMO.application_id,
    }
    assert [each.name for each in tmp_path.iterdir()] == ["demo.json"]


def replace_url(demo: Demo, base_url: str) -> Demo:
    return demo._replace(base_url=base_url)


def test_the_curl_line_says_the_same_to_a_shell() -> None:
    words = shlex.split(DEMO.curl())
    assert words[0] == "curl"
    assert words[words.index("-u") + 1] == f"{DEMO.auth_id}:{DEMO.auth_token}"
    body = orjson.loads(words[words.index("-d") + 1])
    assert body["powerpack_uuid"] == DEMO.powerpack_uuid
    assert words[-1] == f"{BASE_URL}/v1/Account/{DEMO.auth_id}/Message/"


def test_its_recipient_is_one_that_may_be_sent_to() -> None:
    assert check_recipient(RECIPIENT, frozenset({"US"})) == RECIPIENT
