"""Asking a service over HTTP which network a recipient belongs to, where the table of prefixes does not know.

    learn(recipients) ─► cache ─► queue ─► a few workers ─► GET url ─► cache
          └── waits `wait_ms_max` at most; what is not known by then has no operator, and no rule applies to it

Invariants
* Nobody waits longer than `wait_ms_max`, and nobody waits at all while the service fails again and again.
* A number is asked for once, however many wait for it; an answer that comes too late serves the next message.
* Cache, queue and requests in progress are bounded. A number is never logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog
from aiocache import SimpleMemoryCache  # type: ignore[import-untyped]
from yarl import URL

from gateway.carriers.paths import NO_QUERY, compile_path
from gateway.clock import Clock
from gateway.fields import BadSetting
from gateway.operators import OPERATOR_LENGTH_MAX
from gateway.settings import OperatorLookupSettings
from resolver.model import E164

log = structlog.get_logger(__name__)

QUEUE_MAX: Final = 10_000  # numbers waiting to be asked for; more than these have no operator
ANSWER_BYTES_MAX: Final = 65_536
FAILURES_MAX: Final = 10  # in a row, then it rests
REST_MS: Final = 10_000
NUMBER: Final = "{number}"
NOTHING: Final[Mapping[E164, str]] = {}


class Counts(Protocol):
    def add(self, *labels: str, by: int = 1) -> None: ...


class LookupFailed(Exception):
    """The service gave no answer that says anything; the text is for the log."""


class OperatorLookup:
    """See above. `learn` may be called once `run` runs, before that it knows nothing."""

    def __init__(self, settings: OperatorLookupSettings, *, clock: Clock, counts: Counts) -> None:
        """Raises BadSetting."""
        self._settings = settings
        self._pick = compile_path(settings.operator, "[operator_lookup] operator")
        _check_url(settings.url)
        if not settings.operator:
            raise BadSetting("[operator_lookup] operator: must say where in the answer the operator's name stands")
        self._clock, self._counts = clock, counts
        self._cache = SimpleMemoryCache(timeout=0)  # no timer for each look into memory
        self._kept: dict[E164, None] = {}  # what was put into the cache, oldest first: it has no bound of its own
        self._pending: dict[E164, asyncio.Future[str]] = {}
        self._queue: asyncio.Queue[E164] = asyncio.Queue(QUEUE_MAX)
        self._session: aiohttp.ClientSession | None = None
        self._failures = 0  # in a row
        self._rests_until_ms = 0

    async def learn(self, recipients: Iterable[E164]) -> Mapping[E164, str]:
        """The operators of those whose operator can be known in time."""
        wanted = list(dict.fromkeys(recipients))
        known: dict[E164, str] = {}
        asked: dict[E164, asyncio.Future[str]] = {}
        for recipient, cached in zip(wanted, await self._cache.multi_get(wanted), strict=True):
            if cached is not None:
                known[recipient] = cached
                self._counts.add("cached")
            elif (answer := self._ask(recipient)) is not None:
                asked[recipient] = answer
        if asked:
            await asyncio.wait(asked.values(), timeout=self._settings.wait_ms_max / 1_000)
        for recipient, answer in asked.items():
            if answer.done():
                known[recipient] = answer.result()
            else:
                self._counts.add("late")
        return known

    def _ask(self, recipient: E164) -> asyncio.Future[str] | None:
        """The answer to come; None where nobody can be asked now."""
        pending = self._pending.get(recipient)
        if pending is not None:
            return pending
        if self._session is None or self._rests() or self._queue.full():
            self._counts.add("not_asked")
            return None
        self._queue.put_nowait(recipient)
        answer = self._pending[recipient] = asyncio.get_running_loop().create_future()
        return answer

    def _rests(self) -> bool:
        return self._clock.monotonic_ms() < self._rests_until_ms

    # -- asking -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask for what is wanted, `in_flight_max` at once; until cancelled."""
        settings = self._settings
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=settings.in_flight_max),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"Authorization": settings.authorization} if settings.authorization else {},
                timeout=aiohttp.ClientTimeout(total=settings.answer_ms_max / 1_000),
            ) as self._session,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(settings.in_flight_max):
                workers.create_task(self._work(self._session))

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            recipient = await self._queue.get()
            operator = ""
            if not self._rests():
                operator = await self._find(session, recipient)
            self._pending.pop(recipient).set_result(operator)

    async def _find(self, session: aiohttp.ClientSession, recipient: E164) -> str:
        """The operator, "" for none; what was answered is remembered, a failure is not."""
        try:
            operator = await self._get(session, recipient)
        except (LookupFailed, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._counts.add("failed")
            self._failures += 1
            if self._failures >= FAILURES_MAX:
                self._failures, self._rests_until_ms = 0, self._clock.monotonic_ms() + REST_MS
                why = str(error) if isinstance(error, LookupFailed) else type(error).__name__
                log.warning("the operator look-up fails and is not asked for a while", rest_ms=REST_MS, why=why)
            return ""
        self._failures = 0
        self._counts.add("found" if operator else "unknown")
        settings = self._settings
        await self._keep(recipient, operator, settings.cache_s if operator else settings.unknown_cache_s)
        return operator

    async def _get(self, session: aiohttp.ClientSession, recipient: E164) -> str:
        url = URL(self._settings.url.replace(NUMBER, recipient[1:]), encoded=True)
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status == 404:
                return ""
            if answer.status != 200:
                raise LookupFailed(f"status {answer.status}")
            body = await answer.content.read(ANSWER_BYTES_MAX)
            while len(body) < ANSWER_BYTES_MAX and (more := await answer.content.read(ANSWER_BYTES_MAX - len(body))):
                body += more
        found = self._pick(orjson.loads(body), NO_QUERY)
        if found is None:
            return ""
        if not isinstance(found, str) or len(found) > OPERATOR_LENGTH_MAX or not found.isprintable():
            raise LookupFailed("what stands where the operator should is no name")
        return found.strip()

    async def _keep(self, recipient: E164, operator: str, seconds: int) -> None:
        """Remember; the oldest make room."""
        self._kept.pop(recipient, None)
        self._kept[recipient] = None
        await self._cache.set(recipient, operator, ttl=seconds)
        while len(self._kept) > self._settings.cache_max:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            await self._cache.delete(oldest)


def _check_url(url: str) -> None:
    split = urlsplit(url.replace(NUMBER, "1"))
    is_url = split.scheme in ("http", "https") and bool(split.hostname) and split.username is None
    if not is_url or not url.isascii() or not url.isprintable() or " " in url:
        raise BadSetting("[operator_lookup] url: must be http(s)://name[:port]/path, without credentials")
    if NUMBER not in url or NUMBER in url.partition("://")[2].partition("/")[0]:
        raise BadSetting(f"[operator_lookup] url: must have {NUMBER} in its path or query")
