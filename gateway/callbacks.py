"""Tells accounts what became of their messages: drains the outbox, signs, sends, tries again, for 75 hours.

A callback is owed from the commit of the fact it tells. It is held in memory if there is room, and stays in the outbox
in any case until a try has succeeded or nobody tries any more; only then is it marked there. So it is told at least
once, through any kill: what was told and not yet marked is told again, with the same Webhook-Id.

Two kinds of tasks, none per callback: workers, each with one callback in flight, and a keeper, which alone talks to
the outbox: it writes results in batches and loads what is due, page by page. Which callback goes next is decided in
gateway/endpoints.py.

An endpoint whose callbacks did not all find room is *spilled*: its newer ones take their turn through the outbox too,
in order, until a pass over the outbox has found room for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.endpoints import Endpoints, Held, Turn
from gateway.guard import CallbackUrl, GuardPolicy, Reply, check_url
from gateway.metrics import Counts
from gateway.settings import CallbackSettings
from gateway.signatures import Tokens
from gateway.tries import OURS, TOO_MANY, UNREADABLE, judge, read_params, render
from resolver.model import AccountId
from storage.records import CallbackResult, CallbackRow, CallbackState, OwedCallback

log = structlog.get_logger(__name__)


class Outbox(Protocol):
    """What is owed, durably."""

    async def load_owed(self, *, limit: int, until_ms: int, after: tuple[int, str] | None = None) -> list[OwedCallback]:
        """Those still owed with `next_ms` up to `until_ms`, by (next_ms, callback_id), those beyond `after`."""

    async def record(self, results: list[CallbackResult]) -> None:
        """Writes all of them, or raises; writing one twice changes nothing."""


class Sender(Protocol):
    """One HTTP request, with a deadline of its own; gateway/guard.py has the real one."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply: ...


class Callbacks:
    """`owe` takes what was committed, `run` sends until `drain` or cancellation.

    `tokens_of` gives what an account's are signed with, None when there is no such account; `nonce` twenty digits.
    """

    HELD_MAX = 20_000  # about 1 KiB each
    ENDPOINT_HELD_MAX = 2_000  # a tenth: one endpoint cannot push all others into the outbox
    PAGE_ROWS = 1_000
    BATCH_ROWS = 1_000
    ROUND_MS = 50  # how often the keeper looks; also how long results may wait for company
    PASS_MS = 1_000  # between two looks at what is due in the outbox
    SPILLED_PASS_MS = 100
    SPILLED_MAX = 10_000  # beyond these the order of one message's callbacks is best effort; the sequence shows it
    STORAGE_MS_MAX = 5_000
    AWAY_MS = 1_000  # after storage failed

    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        *,
        settings: CallbackSettings,
        policy: GuardPolicy,
        clock: Clock,
        tokens_of: Callable[[AccountId], Tokens | None],
        nonce: Callable[[], str],
        counts: Counts,
        held_max: int = HELD_MAX,
        endpoint_held_max: int = ENDPOINT_HELD_MAX,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._clock = clock
        self._tokens_of = tokens_of
        self._nonce = nonce
        self._counts = counts
        self._give_up_after_ms = settings.retry_hours * 3_600_000
        self._endpoints = Endpoints(
            places=settings.endpoint_in_flight_max,
            held_max=held_max,
            endpoint_held_max=endpoint_held_max,
            give_up_after_ms=self._give_up_after_ms,
        )
        self._workers_wanted = settings.in_flight_max
        self._workers: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._results: list[CallbackResult] = []  # bounded by what is held
        self._is_draining = False
        self._check = lru_cache(1_024)(lambda url: check_url(url, policy))
        # The pass over the outbox.
        self._cursor: tuple[int, str] | None = None
        self._pass = 0
        self._pass_began_ms = 0
        self._is_caught_up = False  # the first pass is over: nothing older than this process waits unseen
        self._next_pass_ms = 0
        self._spilled: dict[str, int] = {}  # endpoint -> the pass in which it last found no room
        self._away_until_ms = 0

    # -- what others see ----------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        return self._endpoints.held

    @property
    def unrecorded(self) -> int:
        return len(self._results)

    @property
    def spilled(self) -> int:
        """How many endpoints have more in the outbox than memory holds."""
        return len(self._spilled)

    def resting(self) -> int:
        return self._endpoints.resting(self._clock.now_ms())

    def owe(self, rows: Iterable[CallbackRow]) -> None:
        """Takes committed rows in. What finds no room is in the outbox anyway."""
        for row in rows:
            held = self._held(OwedCallback(row, 0))
            may_follow_unseen = not self._is_caught_up and row.sequence > 1
            if may_follow_unseen or held.endpoint in self._spilled or not self._endpoints.admit(held):
                self._spill(held.endpoint)
        self._wake()

    async def run(self) -> None:
        """Sends until drained or cancelled; drained, it writes the last results before it ends."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._workers = {tasks.create_task(self._work()) for _ in range(self._workers_wanted)}
                keeper = tasks.create_task(self._keep_on())
                await asyncio.wait(self._workers)
                keeper.cancel()
            await self._record_all()
        finally:
            self._ended.set()

    async def drain(self, *, ms_max: int) -> None:
        """No new tries; those in flight may end within `ms_max`, then results are written. What is left stays owed."""
        self._is_draining = True
        if not self._workers:
            return
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        await asyncio.wait(self._workers, timeout=ms_max / 1_000)
        for worker in self._workers:
            worker.cancel()
        await self._ended.wait()

    # -- workers ------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while (turn := await self._next_turn()) is not None:
            try:
                reply = Reply(0, "resting") if turn.is_resting else await self._try(turn.held)
            except Exception:  # the callback loop: nothing about one callback may end it
                log.exception("a callback could not be tried", callback_id=turn.held.owed.row.callback_id)
                reply = Reply(0, "internal")
            self._settle(turn, reply)

    async def _next_turn(self) -> Turn | None:
        """The next callback; waits for one. None: draining."""
        while not self._is_draining:
            turn = self._endpoints.next(self._clock.now_ms())
            if turn is not None:
                if self._endpoints.has_turn:
                    self._wake()
                return turn
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        return None

    def _wake(self) -> None:
        """Wakes one worker, which wakes the next if there is more to do."""
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():  # else cancelled, or woken by `drain`
                idle.set_result(None)
                return

    async def _try(self, held: Held) -> Reply:
        row = held.owed.row
        if held.url is None:
            return Reply(0, "refused_url")
        params = read_params(row.params)
        if params is None:
            log.error("a callback's parameters cannot be read", callback_id=row.callback_id)
            return Reply(0, UNREADABLE)
        tokens = self._tokens_of(row.account_id)
        if tokens is None:
            return Reply(0, "no_account")  # never unsigned
        request = render(
            row,
            held.url,
            params,
            tokens=tokens,
            nonce=self._nonce(),
            now_ms=self._clock.now_ms(),
        )
        return await self._sender.send(request.method, request.url, request.headers, request.body)

    def _settle(self, turn: Turn, reply: Reply) -> None:
        now_ms = self._clock.now_ms()
        owed = turn.held.owed
        result = judge(owed, reply, now_ms=now_ms, give_up_after_ms=self._give_up_after_ms)
        self._results.append(result)
        is_alive = reply.problem in OURS if reply.problem else reply.status < 500 and reply.status != TOO_MANY
        self._endpoints.settle(turn, is_alive=is_alive, now_ms=now_ms)
        self._counts.add("failed" if result.state is CallbackState.OWED else result.state.value)
        log.debug("callback tried", callback_id=owed.row.callback_id, tries=result.tries, result=result.last_result)

    def _held(self, owed: OwedCallback) -> Held:
        checked = self._check(owed.row.url)
        return Held(owed, checked if isinstance(checked, CallbackUrl) else None)

    # -- the keeper ---------------------------------------------------------------------------------------------------

    async def _keep_on(self) -> None:
        while True:
            await self.keep()
            await self._clock.sleep_ms(self.ROUND_MS)

    async def keep(self) -> None:
        """One round: writes what results there are, then loads a page if one is due."""
        if self._clock.now_ms() < self._away_until_ms:
            return
        await self._record_all()
        if not self._is_draining and self._clock.now_ms() >= max(self._next_pass_ms, self._away_until_ms):
            await self._load_page()

    async def _record_all(self) -> None:
        """Writes the results there are, in batches; stops when storage is away."""
        for _ in range(0, len(self._results), self.BATCH_ROWS):
            if not await self._record():
                return

    async def _record(self) -> bool:
        """Writes a batch; False: storage is away, and the results are kept."""
        batch = self._results[: self.BATCH_ROWS]
        try:
            async with asyncio.timeout(self.STORAGE_MS_MAX / 1_000):
                await self._outbox.record(batch)
        except Exception as error:  # noqa: BLE001 - the callback loop: whatever storage raises, results are kept
            self._back_off("the results of callbacks could not be written", error)
            return False
        del self._results[: len(batch)]
        self._endpoints.forget(result.callback_id for result in batch)
        return True

    async def _load_page(self) -> None:
        """Goes on with the pass over what is due, while there is room."""
        if self._endpoints.room <= 0:
            return
        now_ms = self._clock.now_ms()
        if self._cursor is None:
            self._pass += 1
            self._pass_began_ms = now_ms
        try:
            async with asyncio.timeout(self.STORAGE_MS_MAX / 1_000):
                page = await self._outbox.load_owed(limit=self.PAGE_ROWS, until_ms=now_ms, after=self._cursor)
        except Exception as error:  # noqa: BLE001 - the callback loop: whatever storage raises, it is tried again
            self._back_off("owed callbacks could not be loaded", error)
            return
        for owed in page:
            self._cursor = (owed.row.next_ms, owed.row.callback_id)
            held = self._held(owed)
            if not self._endpoints.admit(held):
                self._spill(held.endpoint)
        self._wake()
        if len(page) < self.PAGE_ROWS:
            self._end_pass()

    def _end_pass(self) -> None:
        """Endpoints that lacked no room since this pass began have everything that is due in memory."""
        self._cursor = None
        self._is_caught_up = True
        self._spilled = {name: spilled for name, spilled in self._spilled.items() if spilled >= self._pass}
        now_ms = self._clock.now_ms()
        pause_ms = self.SPILLED_PASS_MS if self._spilled else self.PASS_MS
        self._next_pass_ms = now_ms + max(pause_ms, 10 * (now_ms - self._pass_began_ms))

    def _spill(self, endpoint: str) -> None:
        """Notes that a callback of `endpoint` is in the outbox only; the next passes look for it."""
        if endpoint in self._spilled or len(self._spilled) < self.SPILLED_MAX:
            self._spilled[endpoint] = self._pass

    def _back_off(self, what: str, error: Exception) -> None:
        self._away_until_ms = self._clock.now_ms() + self.AWAY_MS
        log.warning(what, error=type(error).__name__, unrecorded=len(self._results))
