"""The ledger: a load of clients that write down what they were promised before they go on.

Each submission is a line in the ledger's file when it is begun, and one for the end of each try. One with an
Idempotency-Key is repeated until it is answered, whatever happened to the try before; one without is repeated only when
it is certain that nothing was stored.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import msgspec
import orjson

from tests.acceptance.kill.evidence import LedgerLine, Promise, Shown

ANSWER_S_MAX: Final = 10.0
AGAIN_S: Final = (0.02, 0.1)
AGAIN_MOST: Final = 40  # tries of what need not be known
BURST: Final = 4
GOES_ON: Final = frozenset({408, 429, 503})
KEY_RUNS: Final = "idempotency_key_running"


class Account(NamedTuple):
    """Where and as whom it submits."""

    url: str  # of POST Message
    auth_id: str
    auth_token: str
    callback_url: str
    powerpacks: tuple[str, ...]
    recipients: tuple[str, ...]
    sources: tuple[str, ...] = ()  # numbers that may be named instead of a powerpack


class Manner(NamedTuple):
    """How it submits; shares from 0 to 1."""

    clients: int = 12
    pause_s: float = 0.15  # of a client between two submissions, on average
    bursts: float = 0.2  # come four at once, so that they meet in one commit
    lists: float = 0.25  # have 2 to 20 recipients
    keyed: float = 0.6
    urgent: float = 0.3
    told: float = 0.4  # have a callback URL
    named: float = 0.1  # name a source number
    again: float = 0.05  # of the keyed are asked again although they were answered
    expiry_s: tuple[int, int] = (15, 30)


class Submission(NamedTuple):
    reference: str
    keyed: bool
    recipients: tuple[str, ...]
    body: bytes


class Try(NamedTuple):
    """How one try went, for whoever asks how long it took."""

    began_s: float  # monotonic
    took_ms: float
    kind: str  # as in LedgerLine
    status: int
    code: str
    retry_after: str


class Ledger:
    """See above. `run` until `stop`, then it finishes what must be known."""

    def __init__(self, file: Path, account: Account, manner: Manner, *, seed: int) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._account = account
        self._manner = manner
        self._random = random.Random(seed)
        self._seed = seed
        self._count = 0
        self._stopping = asyncio.Event()
        self.ends: Counter[str] = Counter()
        self.promised = 0
        self.unexpected: list[str] = []  # answers no client should get
        self.tries: list[Try] = []

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        try:
            async with self.session() as session, asyncio.TaskGroup() as clients:
                for _ in range(self._manner.clients):
                    clients.create_task(self._submit_on(session))
        finally:
            os.close(self._file)

    async def _submit_on(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            count = BURST if self._random.random() < self._manner.bursts else 1
            async with asyncio.TaskGroup() as burst:
                for _ in range(count):
                    burst.create_task(self._submit(session, self._make()))
            await self._pause(self._random.expovariate(1 / self._manner.pause_s))

    async def flood(self, lists: int, recipients_each: int) -> None:
        """So many lists at once, besides the load; until each of them was answered for good."""
        made = []
        for _ in range(lists):
            submission = self._make(recipients_each)
            made.append(submission._replace(keyed=True))
        async with self.session() as session, asyncio.TaskGroup() as clients:
            for submission in made:
                clients.create_task(self._submit(session, submission))

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _make(self, count: int = 0) -> Submission:
        """The next one, to `count` recipients or as the manner has it."""
        chance, manner, account = self._random, self._manner, self._account
        self._count += 1
        reference = f"s{self._seed}-{self._count}"
        if not count:
            count = chance.randint(2, 20) if chance.random() < manner.lists else 1
        recipients = tuple(chance.sample(account.recipients, count))
        body: dict[str, object] = {
            "powerpack_uuid": chance.choices(account.powerpacks, (4, *(1 for _ in account.powerpacks[1:])))[0],
            "dst": "<".join(recipients),
            "text": f"message {self._count} " * chance.choices((1, 12, 25), (85, 10, 5))[0],
            "message_expiry": chance.randint(*manner.expiry_s),
            "reference": reference,
        }
        if account.sources and chance.random() < manner.named:
            del body["powerpack_uuid"]
            body["src"] = chance.choice(account.sources)
        if chance.random() < manner.urgent:
            body["priority"] = "urgent"
        if chance.random() < 0.2:
            body["patience_ms"] = chance.choice((500, 5_000, 60_000))
        if chance.random() < manner.told:
            body["url"] = account.callback_url
        return Submission(reference, chance.random() < manner.keyed, recipients, orjson.dumps(body))

    async def _submit(self, session: aiohttp.ClientSession, submission: Submission) -> None:
        """Try until it is answered, or until nothing forces us to know."""
        reference = submission.reference
        self._write(LedgerLine("asked", reference, submission.keyed, list(submission.recipients)))
        is_open = False  # something of it may be stored
        for number in range(10_000):
            line = await self._timed_try(session, submission)
            self._write(line)
            self.ends[line.kind] += 1
            if line.kind == "accepted":
                if not submission.keyed or self._random.random() >= self._manner.again:
                    return
                continue
            is_open = is_open or line.kind != "refused"
            if line.kind == "refused" and line.status not in (0, *GOES_ON) and line.code != KEY_RUNS:
                self.unexpected.append(f"{line.status} {line.code}")
                return
            if not submission.keyed and is_open:
                return
            if not is_open and (self._stopping.is_set() or number >= AGAIN_MOST):
                return
            await asyncio.sleep(self._random.uniform(*AGAIN_S))

    async def _timed_try(self, session: aiohttp.ClientSession, submission: Submission) -> LedgerLine:
        began_s = time.monotonic()
        line, retry_after = await self._try(session, submission)
        took_ms = (time.monotonic() - began_s) * 1_000
        self.tries.append(Try(began_s, took_ms, line.kind, line.status, line.code, retry_after))
        return line

    async def _try(self, session: aiohttp.ClientSession, submission: Submission) -> tuple[LedgerLine, str]:
        """One try, how it ended, and its Retry-After; the line is written before anything else happens."""
        headers = {"Idempotency-Key": submission.reference} if submission.keyed else {}
        reference = submission.reference
        try:
            async with session.post(self._account.url, data=submission.body, headers=headers) as answer:
                body = await answer.read()
        except aiohttp.ClientConnectorError:
            return LedgerLine("refused", reference), ""  # nobody listened: nothing was sent
        except (aiohttp.ClientError, TimeoutError):
            return LedgerLine("cut", reference), ""
        if answer.status == 202:
            promises = read_promises(body, submission.recipients)
            self.promised += len(promises)
            return LedgerLine("accepted", reference, promises=promises), ""
        code = _code_of(body)
        kind = "unknown" if code == "outcome_unknown" else "refused"
        retry_after = answer.headers.get("Retry-After", "")
        return LedgerLine(kind, reference, status=answer.status, code=code), retry_after

    async def look_at(self, message_ids: Sequence[str]) -> list[Shown]:
        """These messages as the API shows them; one it does not know has no state."""
        found = []
        async with self.session() as session:
            for message_id in message_ids:
                async with session.get(f"{self._account.url}{message_id}/") as answer:
                    shown = await answer.json()
                found.append(Shown(message_id, shown.get("message_state", ""), _plus(shown.get("to_number", ""))))
        return found

    def session(self) -> aiohttp.ClientSession:
        """With the account's credentials; the caller closes it."""
        credentials = b64encode(f"{self._account.auth_id}:{self._account.auth_token}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX))

    def _write(self, line: LedgerLine) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def read_promises(body: bytes, recipients: Sequence[str]) -> list[Promise]:
    """The ids of a 202, each with its recipient and, unless it failed at once, its number."""
    answer = orjson.loads(body)
    ids: list[str] = answer["message_uuid"]
    decisions: list[dict[str, str]] = answer["decisions"]
    assert len(ids) == len(recipients), "one id for each recipient"
    assert [each["message_uuid"] for each in decisions] == ids
    return [Promise(each["message_uuid"], _plus(each["to"]), _plus(each.get("from", ""))) for each in decisions]


def _plus(number: str) -> str:
    return f"+{number}" if len(number) > 6 else number  # a short code has none


def _code_of(body: bytes) -> str:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(value.get("code", "")) if isinstance(value, dict) else ""
