"""The witness, the hookbox and the ledger do what the proof rests on: they write down first, and forget nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import orjson

from tests.acceptance.kill.evidence import Asked, Promise, Told, read_hookbox, read_ledger, read_witness
from tests.acceptance.kill.hookbox import Hookbox
from tests.acceptance.kill.ledger import Account, Ledger, Manner
from tests.acceptance.kill.processes import WitnessProcess, witness_process
from tests.acceptance.kill.wire import Reply, Request, listening
from tests.acceptance.kill.witness import Behaviour

QUICK = Behaviour(answer_ms=(0.0, 1.0), report_ms=(0.0, 5.0))


class Gateway:
    """Takes reports, or refuses them."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.refuse = 0

    def handle(self, request: Request) -> Reply:
        assert request.headers["x-sendpool-secret"] == "secret"
        if self.refuse > 0:
            self.refuse -= 1
            return Reply(503)
        found = orjson.loads(request.body)
        self.reports += found if isinstance(found, list) else [found]
        return Reply()

    async def wait_for(self, wanted: Callable[[Gateway], bool]) -> None:
        async with asyncio.timeout(10):
            while not wanted(self):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def a_witness(folder: Path, gateway: Gateway, behaviour: Behaviour) -> AsyncIterator[WitnessProcess]:
    async with listening(gateway.handle) as port:
        url = f"http://127.0.0.1:{port}/reports"
        async with witness_process(folder, reports_url=url, secret="secret", seed=1) as witness:
            await witness.behave(msgspec.json.encode(behaviour))
            yield witness


async def submit(witness: WitnessProcess, reference: str, *, attempt: int = 1) -> tuple[int, Any]:
    body = {"reference": reference, "attempt": attempt, "from": "+14155550100", "to": "+12125550123", "text": "Hello"}
    url = f"http://127.0.0.1:{witness.port}/submit"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_submit_is_written_down_before_it_is_answered(tmp_path: Path):
    async with a_witness(tmp_path, Gateway(), msgspec.structs.replace(QUICK, answer_ms=(60_000, 60_000))) as witness:
        asking = asyncio.create_task(submit(witness, "m1"))
        async with asyncio.timeout(10):
            while not read_witness(witness.file):
                await asyncio.sleep(0.01)
        asking.cancel()
        found = read_witness(witness.file)[0]
    assert found[1:] == ("m1", 1, "+14155550100", "+12125550123", "taken")


async def test_what_was_taken_is_reported_until_it_is_acknowledged(tmp_path: Path):
    gateway = Gateway()
    gateway.refuse = 2
    async with a_witness(tmp_path, gateway, QUICK) as witness:
        status, body = await submit(witness, "m1")
        await gateway.wait_for(lambda g: any(each["status"] != "sent" for each in g.reports))
        due = (await witness.status())["reports_due"]
    assert status == 200
    assert {each["id"] for each in gateway.reports} == {body["id"]}
    assert gateway.reports[-1]["reference"] == "m1"
    assert due == 0


async def test_what_was_acknowledged_is_repeated_on_request(tmp_path: Path):
    gateway = Gateway()
    async with a_witness(tmp_path, gateway, msgspec.structs.replace(QUICK, twice=1.0)) as witness:
        await submit(witness, "m1")
        await gateway.wait_for(lambda g: sum(each["status"] != "sent" for each in g.reports) == 2)


async def test_a_lost_answer_is_a_cut_connection_and_is_reported_all_the_same(tmp_path: Path):
    gateway = Gateway()
    async with a_witness(tmp_path, gateway, msgspec.structs.replace(QUICK, lost=1.0)) as witness:
        try:
            answer: object = await submit(witness, "m1")
        except aiohttp.ServerDisconnectedError as error:
            answer = error
        await gateway.wait_for(lambda g: any(each["status"] != "sent" for each in g.reports))
        assert [each.fate for each in read_witness(witness.file)] == ["lost"]
    assert isinstance(answer, aiohttp.ServerDisconnectedError)


async def test_what_was_not_taken_is_answered_so_and_not_reported(tmp_path: Path):
    gateway = Gateway()
    async with a_witness(tmp_path, gateway, QUICK) as witness:
        statuses = []
        for fate in ("throttled", "busy", "rejected"):
            await witness.behave(orjson.dumps({fate: 1.0, "answer_ms": [0, 1], "report_ms": [0, 1]}))
            statuses.append((await submit(witness, fate))[0])
        assert (await witness.status())["reports_due"] == 0
        assert [each.fate for each in read_witness(witness.file)] == ["throttled", "busy", "rejected"]
    assert statuses == [429, 503, 422]
    assert gateway.reports == []


async def test_a_callback_is_written_down(tmp_path: Path):
    hookbox = Hookbox(tmp_path / "hookbox.txt")
    async with listening(hookbox.handle) as port, aiohttp.ClientSession() as session:
        form = {"MessageUUID": "m1", "Sequence": "2", "Status": "sent", "PossibleDuplicate": "true"}
        async with session.post(f"http://127.0.0.1:{port}/told", data=form) as answer:
            assert answer.status == 200
    hookbox.close()
    assert read_hookbox(tmp_path / "hookbox.txt") == [Told("m1", 2, "sent", True)]


# --- The ledger -------------------------------------------------------------------------------------------------------


class Api:
    """Answers as it was told to, then 202; a key is answered twice alike."""

    def __init__(self, *first: Reply) -> None:
        self._first = list(first)
        self.bodies: list[bytes] = []
        self.keys: list[str] = []

    def handle(self, request: Request) -> Reply:
        self.bodies.append(request.body)
        self.keys.append(request.headers.get("idempotency-key", ""))
        if self._first:
            return self._first.pop(0)
        recipients = orjson.loads(request.body)["dst"].split("<")
        ids = [f"id-{number}-{self.keys[-1]}" for number, _ in enumerate(recipients)]
        decisions = [
            {"message_uuid": each, "to": recipient[1:], "from": "14155550100"}
            for each, recipient in zip(ids, recipients, strict=True)
        ]
        return Reply(202, orjson.dumps({"message_uuid": ids, "decisions": decisions}))


async def submit_once(folder: Path, api: Api, manner: Manner) -> tuple[Ledger, list[Asked]]:
    """One client, stopped as soon as it has begun: so it submits once, and goes on as long as it must."""
    file = folder / "ledger.txt"
    async with listening(api.handle) as port:
        url = f"http://127.0.0.1:{port}/"
        recipients = tuple(f"+1212555{number:04}" for number in range(30))
        account = Account(url, "MA", "token", "http://127.0.0.1/told", ("p1", "p2"), recipients)
        ledger = Ledger(file, account, manner._replace(clients=1, bursts=0.0, again=0.0), seed=7)
        running = asyncio.create_task(ledger.run())
        async with asyncio.timeout(10):
            while not api.bodies and not running.done():
                await asyncio.sleep(0.001)
            ledger.stop()
            await running
    return ledger, read_ledger(file)


async def test_what_was_promised_is_in_the_ledger_with_recipient_and_number(tmp_path: Path):
    ledger, asked = await submit_once(tmp_path, Api(), Manner(lists=1.0, keyed=0.0))
    assert 2 <= len(asked[0].recipients) <= 20
    assert asked[0].ends == ("accepted",)
    assert asked[0].promises[0] == tuple(
        Promise(f"id-{place}-", recipient, "+14155550100") for place, recipient in enumerate(asked[0].recipients)
    )
    assert ledger.promised == len(asked[0].recipients)


async def test_a_cut_submission_with_a_key_is_repeated_word_for_word(tmp_path: Path):
    api = Api(Reply(cut=True), Reply(503, b'{"code": "outcome_unknown"}'), Reply(503, b'{"code": "overloaded"}'))
    _, asked = await submit_once(tmp_path, api, Manner(keyed=1.0))
    assert asked[0].ends == ("cut", "unknown", "refused", "accepted")
    assert len(set(api.bodies)) == 1
    assert set(api.keys) == {asked[0].reference}


async def test_a_cut_submission_without_a_key_is_never_repeated(tmp_path: Path):
    api = Api(Reply(cut=True))
    _, asked = await submit_once(tmp_path, api, Manner(keyed=0.0))
    assert asked[0].ends == ("cut",)
    assert api.keys == [""]


async def test_an_answer_no_client_should_get_is_told(tmp_path: Path):
    ledger, asked = await submit_once(tmp_path, Api(Reply(500, b'{"code": "internal"}')), Manner())
    assert asked[0].ends == ("refused",)
    assert ledger.unexpected == ["500 internal"]
