"""The one door of the API: every request passes here, and every answer leaves here.

In order: route, credentials, bounds, body, handler; whatever goes wrong becomes JSON with a stable code. It is the
handler of aiohttp's low-level server and not a middleware of its `Application`, whose routing and answers would cost
as much as all that accepting a message needs here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Final, NamedTuple

import orjson
import structlog
from aiohttp import web

from gateway.api.call import Call, Reply
from gateway.api.credentials import Credentials, read_basic
from gateway.api.errors import CLOSES, ApiError, api_error
from gateway.api.forms import form_as_json
from gateway.api.guesses import Guesses
from gateway.api.intake import Intake, check_encoding
from gateway.api.router import Access, Route, Router
from gateway.api.streams import StreamReply, Streams
from gateway.api.times import iso
from gateway.clock import Clock, Ids
from gateway.metrics import Counts
from gateway.settings import LimitsSettings, ServerSettings
from resolver.model import AccountId
from storage.catalog import AccountRow
from storage.records import EpochLost, JournalFull, OutcomeUnknown, StorageError

log = structlog.get_logger(__name__)

ANSWER_MS_MAX: Final = 30_000
"""For a whole answer. What a handler waits for has shorter deadlines of its own; this one catches the rest."""

RATE_SPAN_MS: Final = 5_000  # Plivo counts requests per five seconds
BODILESS: Final = ("GET", "HEAD")
UNAUTHENTICATED: Final = 401


class FrontCounts(NamedTuple):
    """What is counted of requests."""

    requests: Counts  # kind of route, status
    errors: Counts  # code
    rejections: Counts  # bound


class _Uncounted:
    def add(self, *labels: str, by: int = 1) -> None:
        """Nothing: nobody asks."""


NOT_COUNTED: Final = FrontCounts(_Uncounted(), _Uncounted(), _Uncounted())
NO_ROUTE: Final = "none"


class Front:
    """Takes every request. Counts what is in progress, for the bounds and for whoever drains."""

    def __init__(
        self,
        router: Router,
        accounts: Mapping[AccountId, AccountRow],
        *,
        clock: Clock,
        ids: Ids,
        server: ServerSettings,
        limits: LimitsSettings,
        counts: FrontCounts = NOT_COUNTED,
        find_shortage: Callable[[AccountId], str] = lambda _: "",
        on_broken_promise: Callable[[AssertionError], object] = lambda _: None,
    ) -> None:
        self._router = router
        self._credentials = Credentials(accounts, clock)
        self._guesses = Guesses(clock, most_ms=server.wrong_credentials_ms_max)
        self._clock = clock
        self._ids = ids
        self._requests_max = server.requests_max
        self._account_requests_max = max(1, server.requests_max // 2)
        self._intake = Intake(
            body_bytes_max=server.body_bytes_max, body_ms_max=server.body_ms_max,
            strangers_max=max(1, server.requests_max // 4),
        )  # fmt: skip
        self._counts = counts
        self._find_shortage = find_shortage  # the bound that lets an account send nothing more at the moment
        self._on_broken_promise = on_broken_promise  # a promise of our own: whoever runs us may want to stop
        self._rates = RequestRates(limits.account_requests_per_5_s, clock)
        self._by_account: dict[AccountId, int] = {}
        self._date = (0, "")
        self._of_accounts = 0  # requests in progress that are an account's
        self.in_progress = 0
        self._streams = Streams(
            most=server.streams_max, idle_ms=server.stream_idle_ms, bytes_min=server.stream_bytes_min
        )
        self._is_closing = False

    @property
    def streams(self) -> int:
        """How many of the requests in progress are streams."""
        return len(self._streams)

    def drain(self) -> None:
        """From now on every answer closes its connection, and streams end with what is under way."""
        self._is_closing = True
        self._streams.drain()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; raises nothing but cancellation."""
        call = Call(request, self._ids.new())
        self.in_progress += 1
        route: Route | None = None
        is_guess = False
        try:
            route, call.params = self._router.find(request.method, _target(request))
            if route.streams is not None and route.streams(call):
                reply = await self._streamed(route, call)
                self._count(route, reply)
                return reply
            if route.access is Access.ACCOUNT:
                account_id = self._admit(call, route)
                try:
                    if request.method not in BODILESS:  # some SDKs send a GET with a body: it says nothing
                        is_form = _is_form(request)
                        body = self._intake.at_hand(request)
                        call.body = await self._intake.read(request, is_stranger=False) if body is None else body
                        if is_form:
                            call.body = form_as_json(call.body)
                    reply = await route.handler(call)
                finally:
                    self._leave(account_id)
            else:
                if self.in_progress - self._of_accounts - len(self._streams) > self._requests_max:
                    raise api_error("overloaded", bound="requests")
                is_proven = route.weigh is not None and route.weigh(call)
                if request.method not in BODILESS:
                    call.body = await self._intake.read(request, is_stranger=not is_proven)
                async with asyncio.timeout(ANSWER_MS_MAX / 1_000):
                    reply = await route.handler(call)
        except Exception as error:  # noqa: BLE001 - the API's broad catch: one request's bug ends one request
            trouble = self._trouble(call, error)
            is_guess = trouble.status == UNAUTHENTICATED
            reply = self._refusal(call, trouble)
        finally:
            self.in_progress -= 1
        if is_guess:
            await self._hold_back(request)
        self._count(route, reply)
        return self._finished(reply)

    def _count(self, route: Route | None, reply: web.StreamResponse) -> None:
        self._counts.requests.add(NO_ROUTE if route is None else route.kind, str(reply.status))

    def _admit(self, call: Call, route: Route) -> AccountId:
        """Let an account in that keeps its bounds. Raises ApiError."""
        account_id = self._identify(call)
        mine = self._by_account.get(account_id, 0)
        if self._of_accounts >= self._requests_max or mine >= self._account_requests_max:
            bound = "account_requests" if mine >= self._account_requests_max else "requests"
            raise api_error("overloaded", "too many requests are in progress; try again", bound=bound)
        if route.adds and (shortage := self._find_shortage(account_id)):
            raise api_error("overloaded", bound=shortage)
        self._by_account[account_id] = mine + 1
        self._of_accounts += 1
        call.account_id = account_id
        return account_id

    def _identify(self, call: Call) -> AccountId:
        """Who knows its token, asks for its own things and does not ask too often. Raises ApiError."""
        account_id = self._credentials.check(call.request.headers.get("Authorization", ""))
        if account_id != call.params[0]:
            raise api_error("not_found")
        self._rates.check(account_id)
        return account_id

    async def _streamed(self, route: Route, call: Call) -> web.StreamResponse:
        """A request whose body is read, or whose answer is made, while it runs. Raises what `__call__` answers."""
        request, owner = call.request, "/".join((route.path, *call.params))
        if route.access is Access.ACCOUNT:
            owner = call.account_id = self._identify(call)
        if request.method not in BODILESS:
            if _is_form(request):
                raise api_error("unsupported_media_type")
            check_encoding(request)
        with self._streams.entered(owner, request) as call.stream:
            reply = self._finished(await route.handler(call))
            if isinstance(reply, StreamReply):
                try:
                    await reply.send(call.stream)
                except ConnectionError:
                    log.debug("a stream's client is gone", api_id=call.api_id)
            elif not call.stream.has_ended:
                reply.force_close()
        return reply

    def _leave(self, account_id: AccountId) -> None:
        self._of_accounts -= 1
        left = self._by_account[account_id] - 1
        if left:
            self._by_account[account_id] = left
        else:
            del self._by_account[account_id]

    async def _hold_back(self, request: web.BaseRequest) -> None:
        """Let wrong credentials wait for their answer. Who sends none guesses nothing."""
        header = request.headers.get("Authorization", "")
        if header and not self._is_closing:
            await self._guesses.hold(request.remote or "", read_basic(header)[0])

    def _trouble(self, call: Call, error: Exception) -> ApiError:
        """What an exception means to the caller."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, StorageError):
            return _storage_trouble(error)
        if isinstance(error, web.RequestPayloadError):
            return api_error("bad_request", "the request's body is not framed as its head says")
        if isinstance(error, TimeoutError):
            log.warning("an answer took too long", api_id=call.api_id, method=call.request.method)
            return api_error("storage_unavailable")
        log.error("a request failed", api_id=call.api_id, method=call.request.method, exc_info=error)
        if isinstance(error, AssertionError):
            self._on_broken_promise(error)
        return api_error("internal")

    def _refusal(self, call: Call, error: ApiError) -> Reply:
        """An error as JSON. Never an empty body: Go's SDK takes that for success."""
        self._counts.errors.add(error.code)
        if error.bound:
            self._counts.rejections.add(error.bound)
        body: dict[str, object] = {"api_id": call.api_id, "error": error.message, "code": error.code, **error.more}
        headers = dict(error.headers)
        if error.retry_at_ms is not None:
            body["retry_at"] = iso(error.retry_at_ms)
            headers["Retry-After"] = str(max(1, -(-(error.retry_at_ms - self._clock.now_ms()) // 1_000)))
        reply = Reply(orjson.dumps(body, option=orjson.OPT_UTC_Z), error.status, headers)
        if (call.stream is not None or error.status in CLOSES) and not call.request.content.is_eof():
            reply.force_close()
        return reply

    def _finished(self, reply: web.StreamResponse) -> web.StreamResponse:
        if isinstance(reply, Reply):
            now_s = self._clock.now_ms() // 1_000
            if now_s != self._date[0]:
                self._date = (now_s, formatdate(now_s, usegmt=True))
            reply.date = self._date[1]
            if self._is_closing:
                reply.force_close()
        else:
            reply.headers.setdefault("Server", "Sendpool")  # else aiohttp names itself and its version
            if self._is_closing:
                reply.force_close()
        return reply


class RequestRates:
    """An account's requests in any sliding five seconds; `most` 0 is no limit."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._taken: dict[AccountId, deque[int]] = {}

    def check(self, account_id: AccountId) -> None:
        """Count one request. Raises ApiError (429) when the account is at its limit; a refused one does not count."""
        if not self._most:
            return
        now_ms = self._clock.monotonic_ms()
        taken = self._taken.setdefault(account_id, deque())
        while taken and taken[0] <= now_ms - RATE_SPAN_MS:
            taken.popleft()
        if len(taken) >= self._most:
            free_s = str(max(1, -(-(taken[0] + RATE_SPAN_MS - now_ms) // 1_000)))
            error = api_error(
                "too_many_requests", f"more than {self._most} requests in 5 seconds", bound="account_rate"
            )
            error.headers = {
                "Retry-After": free_s,
                "RateLimit-Limit": str(self._most),
                "RateLimit-Remaining": "0",
                "RateLimit-Reset": free_s,
            }
            raise error
        taken.append(now_ms)


def _target(request: web.BaseRequest) -> str:
    raw = request.raw_path
    if raw[:1] != "/":  # absolute form: we are used as a proxy for api.plivo.com, as some SDKs can be told to
        return request.rel_url.raw_path
    return raw


def _is_form(request: web.BaseRequest) -> bool:
    """Whether the body is a form; else it is read as JSON, whatever it calls itself. Raises ApiError for multipart."""
    media_type = request.headers.get("Content-Type", "application/json")
    if media_type == "application/json":
        return False
    kind = media_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise api_error("unsupported_media_type")
    return kind == "application/x-www-form-urlencoded"


def _storage_trouble(error: StorageError) -> ApiError:
    if isinstance(error, JournalFull):
        return api_error("overloaded", bound="uncommitted")
    if isinstance(error, OutcomeUnknown):
        return api_error("outcome_unknown")
    if isinstance(error, EpochLost):
        return api_error("storage_unavailable", "another process has taken over; try again")
    return api_error("storage_unavailable")
