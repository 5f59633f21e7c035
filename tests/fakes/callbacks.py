"""What callbacks meet outside: a clock moved by hand, an outbox in memory, endpoints that answer as told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import orjson

from gateway.guard import Reply
from resolver.model import AccountId, MessageId
from storage.records import CallbackResult, CallbackRow, CallbackState, JournalUnavailable, OwedCallback

START_MS = 1_767_225_600_000
ACCOUNT = AccountId("MA00000000000000000A")
TOKEN = "a-token-of-the-account"


class HandClock:
    """Time stands still until `jump`; whoever sleeps wakes when his time has passed."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.time_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms

    async def sleep_ms(self, ms: int) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time_ms + ms, sleeper))
        await sleeper

    def jump(self, ms: int) -> None:
        self.time_ms += ms
        due = [sleeper for at_ms, sleeper in self._sleepers if at_ms <= self.time_ms]
        self._sleepers = [(at_ms, sleeper) for at_ms, sleeper in self._sleepers if at_ms > self.time_ms]
        for sleeper in due:
            if not sleeper.done():
                sleeper.set_result(None)


def row(
    number: int,
    *,
    url: str = "https://a.example/hook",
    message: int | None = None,
    sequence: int = 1,
    method: str = "POST",
    params: Mapping[str, str] | None = None,
    at_ms: int = START_MS,
    account: AccountId = ACCOUNT,
) -> CallbackRow:
    """The `number`th callback; each of its own message unless told otherwise."""
    message_id = MessageId(f"00000000-0000-7000-8000-{number if message is None else message:012d}")
    return CallbackRow(
        f"00000000-0000-7000-9000-{number:012d}", account, message_id, sequence, url, method,
        orjson.dumps({"MessageUUID": message_id, "Status": "sent", "ErrorCode": ""} if params is None else params),
        at_ms, at_ms,
    )  # fmt: skip


class FakeOutbox:
    """The table `callbacks`, without a database. `is_away`: every call fails."""

    def __init__(self) -> None:
        self.rows: dict[str, CallbackRow] = {}
        self.results: dict[str, CallbackResult] = {}
        self.is_away = False
        self.calls = 0

    def insert(self, *rows: CallbackRow) -> list[CallbackRow]:
        self.rows.update({row.callback_id: row for row in rows})
        return list(rows)

    async def load_owed(self, *, limit: int, until_ms: int, after: tuple[int, str] | None = None) -> list[OwedCallback]:
        await self._answer()
        due = sorted(key for key in self._owed() if key[0] <= until_ms and (after is None or key > after))
        return [self._loaded(callback_id, next_ms) for next_ms, callback_id in due[:limit]]

    async def record(self, results: list[CallbackResult]) -> None:
        await self._answer()
        assert all(self.state(result.callback_id) is CallbackState.OWED for result in results), "written twice"
        self.results.update({result.callback_id: result for result in results})

    async def _answer(self) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise JournalUnavailable("away")

    def _owed(self) -> list[tuple[int, str]]:
        return [
            (self._next_ms(callback_id), callback_id)
            for callback_id in self.rows
            if self.state(callback_id) is CallbackState.OWED
        ]

    def _next_ms(self, callback_id: str) -> int:
        result = self.results.get(callback_id)
        return result.next_ms if result is not None else self.rows[callback_id].next_ms

    def _loaded(self, callback_id: str, next_ms: int) -> OwedCallback:
        result = self.results.get(callback_id)
        return OwedCallback(self.rows[callback_id]._replace(next_ms=next_ms), result.tries if result is not None else 0)

    def state(self, callback_id: str) -> CallbackState:
        result = self.results.get(callback_id)
        return result.state if result is not None else CallbackState.OWED

    def states(self) -> Counter[str]:
        return Counter(self.state(callback_id).value for callback_id in self.rows)

    def next_due_ms(self) -> int | None:
        return min((next_ms for next_ms, _ in self._owed()), default=None)


class Sent(NamedTuple):
    at_ms: int
    method: str
    url: str
    headers: Mapping[str, str]
    params: dict[str, str]

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def id(self) -> str:
        return self.headers["Webhook-Id"]


class FakeSender:
    """Endpoints. `answer` says what each request gets; a host in `silent` gets nothing until `speak`."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.sent: list[Sent] = []
        self.answer: Callable[[Sent], Reply] = lambda sent: Reply(200, "")
        self.silent: set[str] = set()
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight: Counter[str] = Counter()
        self._waiting: list[tuple[Sent, asyncio.Future[Reply]]] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        query = urlsplit(url).query if body is None else body.decode()
        sent = Sent(self._clock.now_ms(), method, url, headers, dict(parse_qsl(query, keep_blank_values=True)))
        self.sent.append(sent)
        for key in (sent.host, ""):
            self.in_flight[key] += 1
            self.most_in_flight[key] = max(self.most_in_flight[key], self.in_flight[key])
        try:
            if sent.host in self.silent:
                waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
                self._waiting.append((sent, waiting))
                return await waiting
            await asyncio.sleep(0)
            return self.answer(sent)
        finally:
            for key in (sent.host, ""):
                self.in_flight[key] -= 1

    def speak(self, reply: Reply) -> None:
        """Answers all that wait for a silent host."""
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_result(reply)

    def of(self, host: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.host == host]
