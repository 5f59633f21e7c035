"""The API over a real journal, a real catalog and a real archive: what is answered is what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import randbelow

import orjson
import pytest

from gateway.api.account import Accounts
from gateway.api.applications import ApplicationRoutes
from gateway.api.bulk import Bulk
from gateway.api.idempotency import Keys
from gateway.api.messages import Messages
from gateway.api.middleware import Front
from gateway.api.numberpool import NumberPool
from gateway.api.powerpacks import Powerpacks
from gateway.api.requests import RequestReader
from gateway.api.resolve import Resolve
from gateway.api.router import Router
from gateway.api.routes import account_routes
from gateway.api.sending import Sending
from gateway.api.shapes_message import render_callback
from gateway.applications import Applications
from gateway.bulks import Bulks
from gateway.cancelling import Cancelling
from gateway.clock import SystemClock, SystemIds, seeded_chance
from gateway.facts import Facts
from gateway.guard import GuardPolicy
from gateway.numbers import Numbers
from gateway.outbound import Outbound
from gateway.pools import Pools
from gateway.settings import LimitsSettings, ServerSettings
from gateway.submissions import NotAccepted, Submission
from resolver.core import Resolver
from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    NumberRow,
    NumberType,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Request,
    RequestId,
)
from storage.bulks import BulkArchive
from storage.catalog import Catalog
from storage.database import Database
from storage.journal import Journal
from storage.messages import MessageArchive
from storage.records import CallbackRow, Entry, FactKind
from storage.sealing import Vault
from tests.fakes.accept_floor import PlainLane, Tally
from tests.fakes.api_client import Client, Got, basic, serving

CARRIER = CarrierName("carrier")
NUMBERS = tuple(f"+1415555{place:04d}" for place in range(100, 110))
RECIPIENT = "+14155550199"


class Stack:
    """Everything but lanes and callbacks, over one database; `api` speaks for its one account."""

    def __init__(self, database: Database, journal: Journal, catalog: Catalog) -> None:
        self.database, self.journal, self.catalog = database, journal, catalog
        self.clock, self.ids = SystemClock(), SystemIds()
        self.resolver = Resolver()
        self.resolver.put_link(CARRIER, segments_per_s=1_000, now_ms=self.clock.now_ms())
        self.callbacks: list[CallbackRow] = []
        self.facts = Facts(
            journal, self.clock, self.ids,
            render_callback=render_callback, on_callbacks_committed=self.callbacks.extend,
        )  # fmt: skip
        self.lane = PlainLane()
        self.pools = Pools(
            catalog, self.resolver, self.facts,
            clock=self.clock, wake=lambda _: None, decide_again=self._decide_again,
        )  # fmt: skip
        self.outbound = Outbound(
            self.resolver, self.facts, journal, self.pools, {CARRIER: self.lane},
            clock=self.clock, ids=self.ids, chance=seeded_chance(1), allowed_countries=frozenset({"US", "CA"}),
            claim_lead_ms=100, hold_ms_max=2_000, find_operator=lambda _: "", accepted=Tally(), refused=Tally(),
        )  # fmt: skip
        archive = MessageArchive(database)
        self.archive = archive
        keys, requests = Keys(archive.find_answer), RequestReader(GuardPolicy())
        bulks = Bulks(
            self.outbound, self.resolver, self.facts, journal, clock=self.clock, ids=self.ids, rows_max=10_000,
            commit_wait_ms_max=1_000,
        )  # fmt: skip
        self.front = Front(
            Router(
                account_routes(
                    sending=Sending(self.outbound.submit, keys, requests, clock=self.clock),
                    bulk=Bulk(
                        bulks, BulkArchive(database), keys, requests, clock=self.clock, ids=self.ids,
                        wait_ms_max=5_000,
                    ),
                    messages=Messages(
                        archive, self.resolver, self.facts,
                        Cancelling(self.resolver, self.facts, clock=self.clock), clock=self.clock,
                    ),
                    powerpacks=Powerpacks(self.pools, clock=self.clock, ids=self.ids),
                    numbers=NumberPool(self.pools, Numbers(catalog, self.pools, clock=self.clock)),
                    resolve=Resolve(
                        self.resolver, self.pools, clock=self.clock, chance=seeded_chance(1),
                        allowed_countries=frozenset({"US", "CA"}), find_operator=lambda _: "",
                    ),
                    accounts=Accounts(self.pools.accounts),
                    resources=[
                        ApplicationRoutes(
                            Applications(catalog, self.pools), GuardPolicy(), clock=self.clock, random_below=randbelow
                        )
                    ],
                )
            ),
            self.pools.accounts,
            clock=self.clock, ids=self.ids, server=ServerSettings(), limits=LimitsSettings(),
        )  # fmt: skip
        self.account_id = AccountId("")
        self.token = ""
        self.powerpack_id = PowerpackId(self.ids.new())

    async def fill(self) -> None:
        """One account, one powerpack with ten long codes."""
        account = await self.catalog.create_account("test", now_ms=self.clock.now_ms())
        self.account_id, self.token = account.account_id, account.token
        pack = PowerpackRow(self.powerpack_id, self.account_id, PoolId(self.ids.new()), "pack")
        await self.catalog.insert_powerpack(pack)
        await self.catalog.insert_numbers(
            [
                NumberRow(
                    E164(number), self.account_id, NumberType.LONG_CODE, "US", CARRIER,
                    powerpack_id=self.powerpack_id, campaign_approved=True,
                )
                for number in NUMBERS
            ]
        )  # fmt: skip
        await self.take_in()

    async def take_in(self) -> None:
        """What recovery does with the catalog."""
        rows = await self.catalog.load_all()
        self.account_id, self.token = rows.accounts[0].account_id, rows.accounts[0].token
        self.powerpack_id = rows.powerpacks[0].powerpack_id
        for powerpack in rows.powerpacks:
            self.resolver.put_powerpack(powerpack)
        for number in rows.numbers:
            self.resolver.put_number(number, now_ms=self.clock.now_ms())
        self.pools.fill(rows)

    async def _decide_again(self) -> None:
        moved = self.resolver.rebind(now_ms=self.clock.now_ms(), chance=0.5, most=1_000)
        entry = Entry()
        for message, _ in moved:
            self.facts.record(entry, message, FactKind.REBOUND)
        if moved:
            self.facts.keep(entry)

    def path(self, rest: str) -> str:
        return f"/v1/Account/{self.account_id}/{rest}"

    @property
    def authorization(self) -> str:
        return basic(self.account_id, self.token)

    def body(self, **changes: object) -> dict[str, object]:
        return {"dst": RECIPIENT, "text": "Hello", "powerpack_uuid": self.powerpack_id, **changes}

    def submission(self, *, reference: str = "") -> Submission:
        request = Request(RequestId(""), self.account_id, self.powerpack_id, "Hello", 0, reference=reference)
        return Submission(request, [RECIPIENT])


class Api:
    """A client that is the stack's account."""

    def __init__(self, stack: Stack, client: Client) -> None:
        self._stack, self._client = stack, client

    async def send(self, method: str, rest: str, body: object = None, **headers: str) -> Got:
        path = rest if rest.startswith("/") else self._stack.path(rest)
        return await self._client.send(method, path, body, headers=headers, authorization=self._stack.authorization)

    async def stream(self, rest: str, raw: bytes, key: str) -> Got:
        """POST lines."""
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
        return await self._client.send(
            "POST", self._stack.path(rest), raw=raw, headers=headers, authorization=self._stack.authorization
        )

    async def read(self, rest: str) -> bytes:
        """The body of an answer that is no JSON."""
        path, authorization = self._stack.path(rest), self._stack.authorization
        head = f"GET {path} HTTP/1.0\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n"
        return (await self._client.raw(head.encode())).partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def running(database: Database, *, fill: bool = True) -> AsyncIterator[tuple[Stack, Api]]:
    await database.make_partitions(now_ms=SystemClock().now_ms())
    async with Journal(database, clock=SystemClock().now_ms) as journal:
        stack = Stack(database, journal, Catalog(database, Vault(bytes(32))))
        await (stack.fill() if fill else stack.take_in())
        async with serving(stack.front) as client:
            yield stack, Api(stack, client)


# --- Messages ---------------------------------------------------------------------------------------------------------


async def test_an_accepted_message_can_be_read_listed_and_followed(database: Database) -> None:
    async with running(database) as (stack, api):
        sent = await api.send("POST", "Message/", stack.body(reference="order 7", url="https://example.com/cb"))
        (message_id,) = sent.body["message_uuid"]
        got = await api.send("GET", f"Message/{message_id}/")
        page = await api.send("GET", "Message/?reference=order+7")
        nobody = await api.send("GET", "Message/?reference=order+8")
        timeline = await api.send("GET", f"Message/{message_id}/Timeline/")
    assert sent.status == 202
    assert got.body["message_state"] == "queued"
    assert got.body["from_number"] == sent.body["decisions"][0]["from"]
    assert (got.body["reference"], got.body["requester_ip"]) == ("order 7", "127.0.0.1")
    assert [each["message_uuid"] for each in page.body["objects"]] == [message_id]
    assert nobody.body["objects"] == []
    assert [fact["fact"] for fact in timeline.body["facts"]] == ["accepted"]


async def test_a_state_refusal_is_stored_as_failed_and_found_by_its_code(database: Database) -> None:
    async with running(database) as (stack, api):
        pool = (await api.send("GET", f"Powerpack/{stack.powerpack_id}/")).body["number_pool"]
        for number in NUMBERS:
            assert (await api.send("DELETE", f"{pool}Number/{number}/", "")).status == 200
        sent = await api.send("POST", "Message/", stack.body())
        failed = await api.send("GET", "Message/?message_state=failed&error_code=90")
        queued = await api.send("GET", "Message/?message_state=queued")
    assert sent.body["decisions"][0]["code"] == "no_number"
    assert [each["message_uuid"] for each in failed.body["objects"]] == sent.body["message_uuid"]
    assert failed.body["objects"][0]["message_state"] == "failed"
    assert queued.body["objects"] == []


async def test_a_hundred_recipients_are_one_request_and_all_are_there(database: Database) -> None:
    recipients = [f"1415556{place:04d}" for place in range(100)]
    async with running(database) as (stack, api):
        sent = await api.send("POST", "Message/", stack.body(dst="<".join(recipients)))
        pages = [
            await api.send("GET", f"Message/?limit=20&offset={offset}&powerpack_id={stack.powerpack_id}")
            for offset in range(0, 100, 20)
        ]
        async with database.side() as connection:
            bodies = await connection.fetchval("SELECT count(*) FROM bodies")
    listed = [each["message_uuid"] for page in pages for each in page.body["objects"]]
    assert sorted(listed) == sorted(sent.body["message_uuid"])
    assert pages[0].body["meta"]["total_count"] == 100
    assert bodies == 1


async def test_a_cancelled_message_is_stored_before_it_is_answered(database: Database) -> None:
    async with running(database) as (stack, api):
        sent = await api.send("POST", "Message/", stack.body())
        (message_id,) = sent.body["message_uuid"]
        assert (await api.send("DELETE", f"Message/{message_id}/")).body["message"] == "cancelled"
        got = await api.send("GET", f"Message/{message_id}/")
    assert (got.body["message_state"], got.body["error_code"]) == ("failed", "300")


async def test_all_of_a_powerpack_is_cancelled_and_each_end_is_stored(database: Database) -> None:
    async with running(database) as (stack, api):
        many = [f"+1212555{line:04d}" for line in range(700)]
        for recipients in (many[:350], many[350:]):
            sent = await api.send("POST", "Message/", stack.body(dst="<".join(recipients), reference="campaign 7"))
            assert sent.status == 202
        other = await api.send("POST", "Message/", stack.body(reference="campaign 8"))
        got = await api.send("DELETE", "Message/?reference=campaign+7")
        ended = await api.send("GET", "Message/?error_code=300&reference=campaign+7")
        left = await api.send("GET", f"Message/{other.body['message_uuid'][0]}/")
    assert (got.status, got.body["cancelled"], got.body["complete"]) == (200, 700, True)
    assert ended.body["meta"]["total_count"] == 700
    assert left.body["message_state"] == "queued"
    async with database.side() as connection:
        assert await connection.fetchval("SELECT count(*) FROM facts WHERE kind = 'cancelled'") == 700


async def test_a_message_from_a_named_number_is_read_and_listed_without_a_powerpack(database: Database) -> None:
    async with running(database) as (stack, api):
        body = {"src": NUMBERS[0], "dst": RECIPIENT, "text": "Hello"}
        sent = await api.send("POST", "Message/", body)
        await api.send("POST", "Message/", stack.body())
        got = await api.send("GET", f"Message/{sent.body['message_uuid'][0]}/")
        page = await api.send("GET", f"Message/?powerpack_id={stack.powerpack_id}")
        by_number = await api.send("GET", f"Message/?from_number={NUMBERS[0]}")
    assert (sent.status, got.body["powerpack_id"], got.body["tier"]) == (202, None, "source")
    assert page.body["meta"]["total_count"] == 1
    assert sent.body["message_uuid"][0] in [each["message_uuid"] for each in by_number.body["objects"]]


async def test_a_pause_survives_the_process_and_holds_what_waits(database: Database) -> None:
    async with running(database) as (stack, api):
        assert (await api.send("POST", f"Powerpack/{stack.powerpack_id}/Pause/", "")).status == 200
    async with running(database, fill=False) as (stack, api):
        got = await api.send("GET", f"Powerpack/{stack.powerpack_id}/")
        sent = await api.send("POST", "Message/", stack.body())
        assert (got.body["paused"], sent.body["decisions"][0]["reason"]) == (True, "paused")
        now_ms = stack.clock.now_ms()
        assert stack.resolver.release(CARRIER, now_ms=now_ms, until_ms=now_ms + 100, places=5) == []


async def test_a_value_only_the_database_refuses_costs_its_own_request_alone(database: Database) -> None:
    async with running(database) as (stack, _):
        results = await asyncio.gather(
            *(stack.outbound.submit(stack.submission(reference="\0" if place == 3 else "")) for place in range(8)),
            return_exceptions=True,
        )
        assert stack.resolver.waiting == 7
    refused = [each for each in results if isinstance(each, NotAccepted)]
    assert [each.code for each in refused] == ["invalid_data"]


# --- Idempotency-Key --------------------------------------------------------------------------------------------------


async def test_a_key_is_answered_the_same_by_the_next_process(database: Database) -> None:
    key = {"Idempotency-Key": "k1"}
    async with running(database) as (stack, api):
        first = await api.send("POST", "Message/", stack.body(), **key)
    async with running(database, fill=False) as (stack, api):
        again = await api.send("POST", "Message/", stack.body(), **key)
        other = await api.send("POST", "Message/", stack.body(text="Other"), **key)
        assert stack.resolver.waiting == 0
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other.status, other.body["code"]) == (409, "idempotency_key_reused")


async def test_of_many_requests_with_one_key_one_is_stored(database: Database) -> None:
    async with running(database) as (stack, api):
        got = await asyncio.gather(
            *(api.send("POST", "Message/", stack.body(), **{"Idempotency-Key": "k"}) for _ in range(30))
        )
        page = await api.send("GET", "Message/")
    assert {each.status for each in got} <= {202, 409}
    assert page.body["meta"]["total_count"] == 1


async def test_two_processes_with_one_key_store_it_once(database: Database) -> None:
    """Their maps of running keys do not know of each other: the database decides."""
    async with running(database) as (stack, api):
        async with serving(_second_front(stack)) as client:
            second = Api(stack, client)
            key = {"Idempotency-Key": "k"}
            got = await asyncio.gather(
                *(each.send("POST", "Message/", stack.body(), **key) for each in (api, second) for _ in range(2))
            )
        page = await api.send("GET", "Message/")
    assert page.body["meta"]["total_count"] == 1
    assert len({tuple(each.body["message_uuid"]) for each in got if each.status == 202}) == 1


def _second_front(stack: Stack) -> Front:
    requests = RequestReader(GuardPolicy())
    sending = Sending(stack.outbound.submit, Keys(stack.archive.find_answer), requests, clock=stack.clock)
    routes = [each for each in stack.front._router.routes if each.method != "POST"]
    (post,) = [each for each in stack.front._router.routes if each.method == "POST" and each.path.endswith("/Message/")]
    return Front(
        Router([*routes, post._replace(handler=sending.post)]), stack.pools.accounts,
        clock=stack.clock, ids=stack.ids, server=ServerSettings(), limits=LimitsSettings(),
    )  # fmt: skip


# --- Bulks ------------------------------------------------------------------------------------------------------------


async def test_a_bulk_is_stored_once_listed_and_readable_message_by_message(database: Database) -> None:
    async with running(database) as (stack, api):
        lines = [orjson.dumps({"dst": f"+1415556{place:04d}", "text": f"Hello {place % 3}"}) for place in range(1_200)]
        body = b"\n".join([*lines, b"no json", b""])
        path = f"Message/Bulk/?powerpack_uuid={stack.powerpack_id}"
        first, again = [await api.stream(path, body, "k") for _ in range(2)]
        answer = await api.read(f"Message/Bulk/{first.body['bulk_id']}/")
        listed = [orjson.loads(each) for each in answer.splitlines()]
        page = await api.send("GET", "Message/")
        one = await api.send("GET", f"Message/{listed[700]['message_uuid']}/")
    assert first.status == again.status == 202
    assert (first.body["accepted"], first.body["refused"], first.body["replayed"]) == (1_200, 1, 0)
    assert first.body["refused_by_code"] == again.body["refused_by_code"] == {"invalid_json": 1}
    assert (again.body["accepted"], again.body["refused"], again.body["replayed"]) == (1_200, 1, 1_201)
    assert [each["line"] for each in listed] == list(range(1, 1_202))
    assert (listed[-1]["code"], len({each["message_uuid"] for each in listed[:-1]})) == ("invalid_json", 1_200)
    assert page.body["meta"]["total_count"] == 1_200
    assert (one.body["to_number"], one.body["from_number"]) == ("14155560700", listed[700]["from"])


# --- Powerpacks -------------------------------------------------------------------------------------------------------


async def test_powerpacks_and_their_numbers_survive_the_process(database: Database) -> None:
    async with running(database) as (stack, api):
        made = await api.send("POST", "Powerpack/", {"name": "second", "sticky_sender": "false", "patience_ms": 5_000})
        pool = made.body["number_pool"]
        old_pool = (await api.send("GET", f"Powerpack/{stack.powerpack_id}/")).body["number_pool"]
        await api.send("DELETE", f"{old_pool}Number/{NUMBERS[0]}/")
        added = await api.send("POST", f"{pool}Number/{NUMBERS[0]}/", {"service": "sms"})
        assert added.status == 200
        assert (await api.send("POST", "Powerpack/", {"name": "second"})).body["code"] == "name_taken"
    async with running(database, fill=False) as (_, api):
        read = await api.send("GET", f"Powerpack/{made.body['uuid']}/")
        numbers = await api.send("GET", f"{pool}Number/")
    assert {**read.body, "api_id": ""} == {**made.body, "api_id": ""}
    assert [each["number"] for each in numbers.body["objects"]] == [NUMBERS[0][1:]]
    assert numbers.body["objects"][0]["added_on"] == added.body["added_on"]


async def test_the_limits_of_a_powerpack_hold_in_the_database_too(database: Database) -> None:
    async with running(database) as (stack, api):
        await stack.catalog.insert_numbers(
            [
                NumberRow(E164(number), stack.account_id, number_type, country, CARRIER)
                for number, number_type, country in (
                    ("+18005550100", NumberType.TOLL_FREE, "US"), ("+18005550101", NumberType.TOLL_FREE, "US"),
                    ("22555", NumberType.SHORT_CODE, "US"), ("22556", NumberType.SHORT_CODE, "US"),
                    ("22557", NumberType.SHORT_CODE, "CA"),
                )
            ]
        )  # fmt: skip
        rows = await stack.catalog.load_all()
        stack.pools.fill(rows)
        pool = (await api.send("GET", f"Powerpack/{stack.powerpack_id}/")).body["number_pool"]
        answers = [
            await api.send("POST", f"{pool}{rest}/")
            for rest in (
                "Tollfree/18005550100", "Tollfree/18005550101", "Shortcode/22555", "Shortcode/22556", "Shortcode/22557"
            )
        ]  # fmt: skip
    assert [got.body.get("code", got.status) for got in answers] == [
        200, "toll_free_limit", 200, "short_code_limit", 200
    ]  # fmt: skip


async def test_an_edit_by_another_process_rules_here_too(database: Database) -> None:
    async with running(database) as (stack, api):
        listening = asyncio.create_task(stack.catalog.listen(stack.pools.on_change))
        try:
            await asyncio.sleep(0.3)
            await stack.catalog.insert_numbers(
                [NumberRow(E164("+12065550100"), stack.account_id, NumberType.LONG_CODE, "US", CARRIER)]
            )
            await stack.catalog.create_account("another", now_ms=stack.clock.now_ms())
            async with asyncio.timeout(5):
                while E164("+12065550100") not in stack.pools.numbers or len(stack.pools.accounts) < 2:
                    await asyncio.sleep(0.02)
            pool = (await api.send("GET", f"Powerpack/{stack.powerpack_id}/")).body["number_pool"]
            assert (await api.send("POST", f"{pool}Number/12065550100/")).status == 200
            await stack.catalog.update_account(stack.account_id, enabled=False, now_ms=stack.clock.now_ms())
            async with asyncio.timeout(5):
                while (await api.send("GET", "")).status != 401:
                    await asyncio.sleep(0.02)
        finally:
            listening.cancel()
            await asyncio.wait([listening])


async def test_what_waits_in_a_deleted_powerpack_ends_in_the_database(database: Database) -> None:
    async with running(database) as (stack, api):
        sent = await api.send("POST", "Message/", stack.body(dst=f"{RECIPIENT}<14155550198"))
        assert (await api.send("DELETE", f"Powerpack/{stack.powerpack_id}/")).status == 200
        assert await stack.facts.drain(ms_max=5_000)
        seen = [(await api.send("GET", f"Message/{each}/")).body for each in sent.body["message_uuid"]]
        numbers = (await stack.catalog.load_all()).numbers
    assert [(each["message_state"], each["error_code"]) for each in seen] == [("failed", "90")] * 2
    assert {number.powerpack_id for number in numbers} == {None}


# --- Junk -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["%00", "%F0%9F%98%80", "'", "019b76da-a800-7000-8000-00000000000g", "-", "9" * 300])
async def test_no_junk_reaches_the_database(database: Database, part: str) -> None:
    query = (
        f"?powerpack_id={part}&to_number={part}&from_number={part}&reference={part}&error_code={part}&offset=9999999"
    )
    async with running(database) as (_, api):
        for rest in (
            "Message/",
            f"Message/{part}/",
            f"Message/{part}/Timeline/",
            f"Powerpack/{part}/",
            f"NumberPool/{part}/",
        ):
            for suffix in ("", query):
                got = await api.send("GET", rest + suffix)
                assert got.status < 500, (rest, suffix, got)
