"""A carrier that is not there: latency, loss, throttling, stalls and reports, from settings and a seed.

It is for the demo, for benchmarks and for simulations. Same seed, same clock, same order of sends: same answers,
always. It knows no real recipient, so nothing that is sent through it leaves the machine. What it would still report
when the process ends is forgotten: such messages stay `sent` until they end unreported.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random

import structlog

from gateway.carriers.carrier import (
    FAILING,
    REJECTED,
    SPAM,
    THROTTLED,
    TIMED_OUT,
    UNREACHABLE,
    Answer,
    Failure,
    Go,
    NotSent,
    OnAnswers,
    OnLink,
    OnReports,
    Outbound,
    PromptCarrier,
    Report,
    SendFailed,
    WebhookReader,
    read_options,
)
from gateway.carriers.simulated_options import SimulatedOptions
from gateway.carriers.webhooks import json_webhooks
from gateway.clock import Clock
from gateway.settings import CarrierSettings
from resolver.model import MessageId
from storage.records import FactKind, StorageError

log = structlog.get_logger(__name__)

REPORTS_MAX = 200_000
"""Reports it has in mind at most; what comes above is never reported."""
REPORTS_PER_CALL_MAX = 500
REPORTS_PACE_MS = 10
REPORTS_RETRY_MS = 1_000


Waiting = tuple[int, int, MessageId, "str | SendFailed", "asyncio.Future[str] | None"]
"""An answer on its way: due when, in which order, about what, which, and who awaits it (else `hear_answers` does)."""


class SimulatedCarrier:
    """The carrier, a `PromptCarrier`; a few microseconds a message."""

    def __init__(self, settings: CarrierSettings, *, clock: Clock, answer_ms_max: int) -> None:
        self.name = settings.name
        self.places = settings.places
        self._options = read_options(settings, SimulatedOptions)
        self.webhooks: WebhookReader = json_webhooks(self._options.secret, f"carriers.{self.name}")
        self._answer_ms_max = answer_ms_max
        self._clock = clock
        self._random = Random(self._options.seed)
        started_ms = clock.now_ms()
        self._prefix = f"{self.name}-{started_ms:x}-"  # ids differ from those of former processes
        self._count = 0
        self._stalls = [
            (started_ms + int(begin) * 1_000, started_ms + int(end) * 1_000)
            for begin, _, end in (span.partition("-") for span in self._options.stalls_s)
        ]
        options = self._options
        self._is_tame = not (
            options.limit_per_s or options.throttle_per_mille or options.reject_per_mille or options.fail_per_mille
            or options.loss_per_mille
        )  # fmt: skip
        self._recent: deque[int] = deque()  # instants of the last second, for `limit_per_s`
        self._answers: list[Waiting] = []  # heap
        self._on_answers: OnAnswers = _nobody
        self._bell: asyncio.TimerHandle | None = None
        self._bell_ms = 0
        self._reports: list[tuple[int, int, Report]] = []
        self._soonest = asyncio.Event()  # a report is due before those that were known
        self._reporter: asyncio.Task[None] | None = None

    @property
    def prompt(self) -> PromptCarrier:
        return self

    async def start(self, on_reports: OnReports, on_link: OnLink) -> None:
        if self._options.reports:
            self._reporter = asyncio.get_running_loop().create_task(self._report(on_reports))

    async def stop(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.wait([self._reporter])
            self._reporter = None

    def stall(self, *, until_ms: int) -> None:
        """Stall from now on; for demonstrations and tests."""
        self._stalls.append((self._clock.now_ms(), until_ms))

    async def send(self, outbound: Outbound, go: Go) -> str:
        trouble = self.trouble()
        if trouble is not None:
            raise trouble
        if not go():
            raise NotSent
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._take(outbound, self._clock.now_ms(), answered)
        self._set_bell()
        return await answered

    def hear_answers(self, on_answers: OnAnswers) -> None:
        self._on_answers = on_answers

    def trouble(self) -> SendFailed | None:
        stalls = bool(self._stalls) and not self._options.stall_silent and self._is_stalling(self._clock.now_ms())
        return SendFailed(UNREACHABLE, "stalled") if stalls else None

    def write(self, outbounds: Sequence[Outbound]) -> None:
        now_ms = self._clock.now_ms()
        for outbound in outbounds:
            self._take(outbound, now_ms, None)
        self._set_bell()

    # -- what happens to a message --------------------------------------------------------------------------------

    def _take(self, outbound: Outbound, now_ms: int, answered: asyncio.Future[str] | None) -> None:
        """Draw what happens to a message that was written, and plan its answer and its reports."""
        options = self._options
        least, most = options.latency_ms_min, options.latency_ms_max
        latency_ms = least if least == most else least + int(self._random.random() * (most - least + 1))
        self._count += 1
        carrier_ref = f"{self._prefix}{self._count:x}"
        answer: str | SendFailed = carrier_ref
        taken = True
        if not self._is_tame or self._stalls:
            failure, taken = self._draw(now_ms)
            if failure is not None:
                wait_ms = options.retry_after_ms if failure is THROTTLED else None
                answer = SendFailed(failure, "simulated", retry_after_ms=wait_ms)
            if failure is TIMED_OUT:
                latency_ms = self._answer_ms_max
        if taken and options.reports:
            self._plan_reports(carrier_ref, outbound, now_ms=now_ms, answer_ms=now_ms + latency_ms)
        heappush(self._answers, (now_ms + latency_ms, self._count, outbound.message_id, answer, answered))

    def _draw(self, now_ms: int) -> tuple[Failure | None, bool]:
        """How it fails, if it does, and whether it is taken."""
        options = self._options
        if self._is_over_limit(now_ms) or self._happens(options.throttle_per_mille):
            return THROTTLED, False
        if self._happens(options.reject_per_mille):
            return SPAM if self._happens(500) else REJECTED, False
        if self._happens(options.fail_per_mille):
            return FAILING, False
        if self._is_stalling(now_ms) or self._happens(options.loss_per_mille):
            return TIMED_OUT, self._happens(options.loss_taken_per_mille)
        return None, True

    def _set_bell(self) -> None:
        """One timer, for the answer that is due next."""
        if not self._answers:
            return
        due_ms = self._answers[0][0]
        if self._bell is not None:
            if self._bell_ms <= due_ms:
                return
            self._bell.cancel()
        self._bell_ms = due_ms
        wait_ms = max(0, due_ms - self._clock.now_ms())
        self._bell = asyncio.get_running_loop().call_later(wait_ms / 1_000, self._answer)

    def _answer(self) -> None:
        """Tell what is due, all at once."""
        self._bell = None
        now_ms = self._clock.now_ms()
        waiting, told = self._answers, list[Answer]()
        while waiting and waiting[0][0] <= now_ms:
            _, _, message_id, answer, answered = heappop(waiting)
            if answered is None:
                told.append((message_id, answer))
            elif not answered.done():  # else whoever sent it was cancelled
                if isinstance(answer, SendFailed):
                    answered.set_exception(answer)
                else:
                    answered.set_result(answer)
        self._set_bell()
        if told:
            self._on_answers(told)

    def _happens(self, per_mille: int) -> bool:
        return per_mille > 0 and self._random.random() * 1_000 < per_mille

    def _is_stalling(self, now_ms: int) -> bool:
        return any(begin <= now_ms < end for begin, end in self._stalls)

    def _is_over_limit(self, now_ms: int) -> bool:
        limit, recent = self._options.limit_per_s, self._recent
        if not limit:
            return False
        while recent and recent[0] <= now_ms - 1_000:
            recent.popleft()
        if len(recent) >= limit:
            return True
        recent.append(now_ms)
        return False

    # -- reports --------------------------------------------------------------------------------------------------

    def _plan_reports(self, carrier_ref: str, outbound: Outbound, *, now_ms: int, answer_ms: int) -> None:
        options = self._options
        least, most = options.report_ms_min, options.report_ms_max
        due_ms = answer_ms + least + int(self._random.random() * (most - least + 1))
        if self._happens(options.report_early_per_mille):
            due_ms = now_ms
        kind, code = FactKind.DELIVERED, "000"
        if self._happens(options.undelivered_per_mille):
            kind, code = FactKind.UNDELIVERED, "80"
        report = Report(carrier_ref, outbound.message_id, kind, code, due_ms)
        self._plan(report, due_ms)
        if self._happens(options.report_twice_per_mille):
            self._plan(report, due_ms + REPORTS_RETRY_MS)

    def _plan(self, report: Report, due_ms: int) -> None:
        if len(self._reports) >= REPORTS_MAX:
            return
        self._count += 1
        heappush(self._reports, (due_ms, self._count, report))
        if self._reports[0][1] == self._count:
            self._soonest.set()

    async def _report(self, on_reports: OnReports) -> None:
        """Tell what is due, in batches; again a second later what could not be taken."""
        while True:
            now_ms = self._clock.now_ms()
            due: list[Report] = []
            while self._reports and self._reports[0][0] <= now_ms and len(due) < REPORTS_PER_CALL_MAX:
                due.append(heappop(self._reports)[2])
            if not due:
                await self._wait_for_report(now_ms)
                continue
            try:
                await on_reports(due)
            except StorageError as error:
                log.debug("reports not taken", carrier=self.name, reports=len(due), error=type(error).__name__)
                for report in due:
                    self._plan(report, now_ms + REPORTS_RETRY_MS)

    async def _wait_for_report(self, now_ms: int) -> None:
        self._soonest.clear()
        if not self._reports:
            await self._soonest.wait()
            return
        wait_ms = self._reports[0][0] - now_ms
        if wait_ms < REPORTS_PACE_MS:
            await asyncio.sleep(REPORTS_PACE_MS / 1_000)
            return
        try:
            async with asyncio.timeout(wait_ms / 1_000):
                await self._soonest.wait()
        except TimeoutError:
            pass


def _nobody(_answers: list[Answer]) -> None:
    """Nothing is written by `write` before somebody wants to hear answers."""
