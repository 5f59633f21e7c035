"""Bad requests, over a real database: each gets a clear error and leaves nothing behind; good ones are kept as sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
import pytest

from gateway.clock import SystemClock
from resolver.segments import measure
from storage.catalog import Catalog
from storage.database import Database
from storage.journal import Journal
from storage.sealing import Vault
from tests.conftest import NOW_MS
from tests.fakes.api_client import Client, Got, serving
from tests.fakes.proxy import Fate, proxied
from tests.integration.test_api import RECIPIENT, Stack, running


class Bad(NamedTuple):
    """A request that is refused."""

    body: Any
    code: str
    path: str = "Message/"
    method: str = "POST"
    status: int = 400
    says: str = ""  # a regular expression for the error's words
    headers: Mapping[str, str] = {}


class Door:
    """The API of a filled gateway, and all that a request could leave there."""

    def __init__(self, stack: Stack, client: Client) -> None:
        self.stack, self.client = stack, client

    async def send(self, method: str, path: str, body: object = None, **more: Any) -> Got:
        """A body of bytes goes as it is."""
        path = path.replace("{pack}", self.stack.powerpack_id)
        raw = self._meant(body) if isinstance(body, bytes) else orjson.dumps(self._filled(body), option=OPTIONS)
        return await self.client.send(
            method, path if path.startswith("/") else self.stack.path(path),
            raw=raw if body is not None else None, authorization=self.stack.authorization, **more,
        )  # fmt: skip

    def _meant(self, body: bytes) -> bytes:
        return body.replace(b"{pack}", self.stack.powerpack_id.encode())

    def _filled(self, body: object) -> object:
        if not isinstance(body, dict) or body.pop("whole", False):
            return body
        return {**self.stack.body(), **body}

    async def traces(self) -> dict[str, object]:
        """Rows of every table, and what memory holds."""
        stack = self.stack
        async with stack.database.side() as connection:
            tables = await connection.fetch(
                "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_|information_schema'"
            )
            rows = {each["name"]: await connection.fetchval(f"SELECT count(*) FROM {each['name']}") for each in tables}
        numbers = stack.resolver.numbers.values()
        return {
            **rows,
            "open": len(stack.resolver.open),
            "queued": sum(number.messages for number in numbers),
            "threads": sum(len(pool.threads) for pool in stack.resolver.pools.values()),
            "uncommitted": stack.journal.waiting_rows,
            "in progress": stack.front.in_progress,
            "callbacks": len(stack.callbacks),
        }

    async def refuses(self, cases: list[Bad]) -> None:
        """Send them all, and find nothing changed."""
        before = await self.traces()
        for case in cases:
            body = dict(case.body) if isinstance(case.body, dict) else case.body
            got = await self.send(case.method, case.path, body, headers=case.headers)
            assert (got.status, got.body["code"]) == (case.status, case.code), (case, got.body)
            assert re.search(case.says, got.body["error"]), (case, got.body)
        assert await self.traces() == before
        assert (await self.send("POST", "Message/", {})).status == 202, "the next good one is taken"


OPTIONS = orjson.OPT_NON_STR_KEYS
WHERE = r"byte [0-9]+|line [0-9]+|column [0-9]+|\$\."


@pytest.fixture
async def door(database: Database) -> AsyncIterator[Door]:
    async with running(database) as (stack, _), serving(stack.front) as client:
        yield Door(stack, client)


PACK = b'"powerpack_uuid":"{pack}","dst":"+14155550199"'


@pytest.mark.parametrize("path", ["Message/", "Powerpack/", "Powerpack/{pack}/Resolve/", "Powerpack/{pack}/"])
async def test_52_what_is_no_json_is_named_with_its_place(door: Door, path: str) -> None:
    broken = [
        b"{", b"nope", b'{"text":}', b'{"text":"a"', b'{"text":"a",}', b"{'text':'a'}", b'{"text":"a"}}', b'{"a":01}',
        b'{"text":NaN}', b'{"text":Infinity}', b'{"text":-Infinity}', b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0", b'{"text":"\xff"}',
        b'{"text":"a\nb"}', b'{"text":"\x01"}', b"{" + b'"a":{' * 2_000 + b"}" * 2_001,
        b"[" * 100_000, b'{"a":tru}', b"\0",
    ]  # fmt: skip
    cases = [Bad(body, "invalid_json", path, says=r"[a-z]{3}") for body in broken]
    cases += [Bad(body, "invalid_json", path, says="object") for body in (b"[]", b"1", b'"text"', b"true", b"null")]
    await door.refuses(cases)
    got = await door.send("POST", path, b'{"text":"a",}')
    assert re.search(WHERE, got.body["error"]), got.body


async def test_52_what_has_the_wrong_type_is_named(door: Door) -> None:
    wrong: list[tuple[str, object]] = [
        ("text", 1), ("text", []), ("text", {"a": 1}), ("dst", 1.5), ("dst", []), ("dst", {}), ("dst", True),
        ("powerpack_uuid", 5), ("message_expiry", "soon"), ("message_expiry", 4), ("message_expiry", 10**15),
        ("message_expiry", 600.5), ("patience_ms", -1), ("patience_ms", "1e3"), ("priority",
        "highest"), ("log", "perhaps"),
        ("method", "DELETE"), ("on_unknown", "guess"), ("reference", 7), ("type", "pigeon"),
    ]  # fmt: skip
    await door.refuses([Bad({name: value}, "invalid_parameter", says=name) for name, value in wrong])


async def test_52_numbers_beyond_all_numbers_are_no_numbers(door: Door) -> None:
    await door.refuses(
        [
            Bad(b"{" + PACK + b',"text":"a","message_expiry":' + number + b"}", code, says="[a-z]{3}")
            for number, code in (
                (b"1e999", "invalid_parameter"),
                (b"1" * 400, "invalid_parameter"),
                (b"NaN", "invalid_json"),
            )
        ]
    )


async def test_52_of_a_key_given_twice_the_last_counts(door: Door) -> None:
    got = await door.send("POST", "Message/", b"{" + PACK + b',"text":"first","text":"last","dst":"+14155550198"}')
    message = await door.send("GET", f"Message/{got.body['message_uuid'][0]}/")
    assert message.body["to_number"] == "14155550198"
    async with door.stack.database.side() as connection:
        assert await connection.fetchval("SELECT text FROM bodies") == "last"


async def test_53_a_nul_is_refused_wherever_a_text_may_stand(door: Door) -> None:
    await door.refuses(
        [
            Bad({"text": "a\0b"}, "invalid_character", says="NUL"),
            Bad({"reference": "\0"}, "invalid_character", says="reference"),
            Bad({"powerpack_uuid": "\0"}, "not_found", status=404),
            Bad({"dst": "+1415555\0199"}, "invalid_destination"),
            Bad({"url": "https://example.com/\0"}, "invalid_url"),
            Bad({"whole": True, "name": "a\0b"}, "invalid_character", "Powerpack/", says="name"),
            Bad({"whole": True, "name": "a\0b"}, "invalid_character", "Powerpack/{pack}/", says="name"),
            Bad({"whole": True, "name": "n", "operator_types": {"\0": "longcode"}}, "invalid_character", "Powerpack/"),
            Bad({"whole": True, "name": "n", "application_id": "\0"}, "invalid_character", "Powerpack/"),
            Bad(None, "invalid_parameter", "Message/?powerpack_id=%00", "GET"),
            Bad(None, "not_found", "Message/%00/", "GET", 404),
            Bad(None, "not_found", "Powerpack/%00/", "GET", 404),
            Bad(None, "not_found", "NumberPool/%00/Number/%00/", "GET", 404),
        ]
    )


@pytest.mark.parametrize("half", [b"\\ud800", b"\\udfff", b"\\ud83d ", b"\\ude00\\ud83d"])
async def test_54_half_a_surrogate_pair_is_refused_wherever_a_text_may_stand(door: Door, half: bytes) -> None:
    await door.refuses(
        [
            Bad(b"{" + PACK + b',"text":"' + half + b'"}', "invalid_character", says="surrogate"),
            Bad(b"{" + PACK + b',"text":"a","reference":"' + half + b'"}', "invalid_character", says="surrogate"),
            Bad(b'{"name":"' + half + b'"}', "invalid_character", "Powerpack/", says="surrogate"),
            Bad(b'{"' + half + b'":1}', "invalid_character", "Powerpack/{pack}/", says="surrogate"),
            Bad(b'{"dst":"' + half + b'"}', "invalid_character", "Powerpack/{pack}/Resolve/", says="surrogate"),
        ]
    )


ODD_TEXTS = (
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "שלום עולם",
    "\u202eabc\u202c", "a\u200bb\u200cc\ufeff",
    "{}[]~^|\\€", "e\u0301 é", "ﷺ" * 20, "\U0001f600" * 100, "\U0010ffff", "a\tb", "a\r\nb\n", " " * 7, "\u2028\u2029",
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ", "a" * 1_600, "ÿ" * 737, "'; DROP TABLE messages; --", '"\\\'%s%(a)s$1{0}',
    "Robert'); DELETE FROM accounts WHERE ('1'='1", "\x7f\x80\x9f", "<script>alert(1)</script>", "%00 \\u0000 \\0",
)  # fmt: skip


async def test_55_62_every_text_is_stored_byte_for_byte_and_costs_what_it_says(door: Door) -> None:
    for text in ODD_TEXTS:
        got = await door.send("POST", "Message/", {"text": text, "reference": text[:255]})
        assert got.status == 202, (text, got.body)
        (message_id,) = got.body["message_uuid"]
        assert got.body["decisions"][0]["segments"] == measure(text).segments
        async with door.stack.database.side() as connection:
            row = await connection.fetchrow(
                "SELECT b.text, m.segments FROM messages m JOIN bodies b USING (request_id) WHERE m.message_id = $1",
                message_id,
            )
        assert row is not None
        assert row["text"].encode() == text.encode()
        assert row["segments"] == measure(text).segments
        message = await door.send("GET", f"Message/{message_id}/")
        assert message.body["units"] == measure(text).segments


async def test_55_a_text_that_is_too_long_is_told_so(door: Door) -> None:
    cases = [Bad({"text": text}, "too_long", says="[0-9]") for text in ("a" * 1_601, "ÿ" * 738, "{" * 801)]
    await door.refuses([*cases, Bad({"text": ""}, "invalid_text")])


async def test_62_what_looks_like_sql_is_a_name_like_another(door: Door) -> None:
    for name in (
        "'; DROP TABLE powerpacks; --",
        '" OR 1=1 --',
        "$1",
        "%s",
        "\\'",
        "a' UNION SELECT token FROM accounts --",
    ):
        made = await door.send("POST", "Powerpack/", {"whole": True, "name": name})
        assert made.status == 200, made.body
        assert (await door.send("GET", f"Powerpack/{made.body['uuid']}/")).body["name"] == name
        for rest in ("Message/?powerpack_id={}", "Message/?message_state={}", "Message/?from_number={}", "Message/{}/"):
            quoted = "".join(f"%{byte:02x}" for byte in name.encode())
            assert (await door.send("GET", rest.format(quoted))).status in (200, 400, 404)


DESTINATIONS = {
    "invalid_destination": (
        "+0", "0", "+", "-", "call me", "+1415555012", "+141555501234567",
        "+14155550123456789", "１４１５５５５０１２３",
        "+1４155550123", "٤١٥٥٥٥٠١٢٣", "4155550123", "tel:+14155550123", "+1415555o123",
        "0x18929b3b", "1e10", "+1 415 555",
        "+14155550123;ext=9", "+14155550123@example.com", "++14155550123\u200b", "+1.4155550123e10", "+00014155550123",
        "12345", "55501", "²14155550123", "+1415555012३", "null", "+19762345678", "+1415 555 0123 and more", "+" * 65,
    ),
    "destination_barred": (
        "911", "112", "999", "988", "+19005550123", "+97912345678", "+88216123456", "+88213123456",
        "+8835100123456", "+870773123456", "+881612345678", "+447911123456", "+4915123456789", "+5352345678",
        "+80012345678", "+18765550123",
    ),
}  # fmt: skip


async def test_59_60_a_number_that_is_none_or_is_barred_is_refused_by_name(door: Door) -> None:
    await door.refuses(
        [
            Bad({"dst": written}, code, says=".{30}")
            for code, all_written in DESTINATIONS.items()
            for written in all_written
        ]
    )


async def test_59_among_good_ones_a_bad_one_is_named_as_it_was_written(door: Door) -> None:
    got = await door.send("POST", "Message/", {"dst": "+14155550197<１４１５５５５０１２３<911<+14155550198"})
    assert got.status == 202
    assert got.body["invalid_number"] == ["１４１５５５５０１２３", "911"]
    assert len(got.body["message_uuid"]) == 2


async def test_61_nobody_and_too_many_are_refused_and_the_same_one_a_thousand_times_is_one(door: Door) -> None:
    many = "<".join(f"+1415{2_000_000 + place}" for place in range(1_001))
    await door.refuses(
        [
            Bad({"dst": ""}, "missing_parameter", says="dst"),
            Bad({"dst": "<<<"}, "missing_parameter", says="dst"),
            Bad({"dst": " < "}, "missing_parameter", says="dst"),
            Bad({"dst": many}, "too_many_recipients", status=413, says="1001 .*1000"),
            Bad({"dst": "1<2<3"}, "invalid_destination", says="none of the 3"),
        ]
    )
    got = await door.send("POST", "Message/", {"dst": "<".join([RECIPIENT] * 1_000)})
    assert (got.status, len(got.body["message_uuid"]), got.body["duplicates"]) == (202, 1, [RECIPIENT[1:]])


async def test_63_an_address_that_would_break_out_of_its_line_is_refused(door: Door) -> None:
    urls = (
        "https://example.com/\r\nX-A: b", "https://example.com/ b", "https://exa\nmple.com/", "https://a:b@example.com/",
        "https://example.com:0/", "https://example.com:99999/", "https://", "example.com", "//example.com/", "ftp://a.b/",
        "https://exam\tple.com/", "https://example.com/\x7f", "javascript:alert(1)", "https://[::1", "http://example.com/",
        "https://127.0.0.1/", "https://2130706433/", "https://example.com/" + "a" * 5_000,
    )  # fmt: skip
    cases = [Bad({"url": url}, "invalid_url", says="^url: ") for url in urls]
    headers = {"Idempotency-Key": "k" * 256}
    await door.refuses([*cases, Bad({}, "invalid_idempotency_key", headers=headers)])


async def test_63_a_name_with_line_ends_stays_a_name(door: Door) -> None:
    name = "a\r\nSet-Cookie: b=c"
    made = await door.send("POST", "Powerpack/", {"whole": True, "name": name})
    assert made.body["name"] == name
    assert "Set-Cookie" not in made.headers


# --- Repeats ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def cut_off_and_on(database_url: str) -> AsyncIterator[tuple[Stack, Client, list[Fate]]]:
    """A gateway whose connections to its database can be given fates."""
    async with proxied(database_url) as proxy:
        database = await Database.open(proxy.url, owner="the test")
        try:
            await database.take_over(now_ms=NOW_MS, force=True)
            await database.make_partitions(now_ms=SystemClock().now_ms())
            async with Journal(database, clock=SystemClock().now_ms) as journal:
                stack = Stack(database, journal, Catalog(database, Vault(bytes(32))))
                await stack.fill()
                async with serving(stack.front) as client:
                    yield stack, client, proxy.fates  # type: ignore[misc]
        finally:
            await database.close()


@pytest.mark.parametrize("fate", [Fate.NOT_SENT, Fate.ANSWER_LOST, Fate.LATE])
async def test_64_fifty_clients_repeat_until_they_are_answered_and_each_message_is_there_once(
    database_url: str, fate: Fate
) -> None:
    async with cut_off_and_on(database_url) as (stack, client, fates):
        body = {"dst": RECIPIENT, "text": "Hello", "powerpack_uuid": stack.powerpack_id}

        async def insist(key: int) -> tuple[str, ...]:
            for _ in range(200):
                got = await client.post(
                    stack.path("Message/"), body,
                    headers={"Idempotency-Key": f"k{key}"}, authorization=stack.authorization,
                )  # fmt: skip
                if got.status == 202:
                    return tuple(got.body["message_uuid"])
                assert got.status in (409, 503), got
                await asyncio.sleep(0.02)
            raise AssertionError("never answered")

        for _ in range(3):
            fates.append(fate)
            fates.append(Fate.PASSES)
        answers = await asyncio.gather(*(insist(place % 10) for place in range(50)))
        assert len(set(answers)) == 10, "five clients each had the same key"
        other = await client.post(
            stack.path("Message/"), {**body, "text": "Other"},
            headers={"Idempotency-Key": "k0"}, authorization=stack.authorization,
        )  # fmt: skip
        assert (other.status, other.body["code"]) == (409, "idempotency_key_reused")
        async with stack.database.side() as connection:
            assert await connection.fetchval("SELECT count(*) FROM messages") == 10
            assert await connection.fetchval("SELECT count(*) FROM idempotency") == 10
        assert stack.resolver.waiting == 10
