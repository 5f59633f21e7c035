"""The composition root, second half: starts the parts in order, and stops them in reverse.

Start: port, PostgreSQL, schema, lease, catalog, recovery, journal, callbacks, what runs beside, carriers, lanes, and
last the door. Stop: the door closes first (requests in progress end), lanes drain, facts are stored, callbacks end,
the journal commits what waits, the database goes last. Each step has a deadline and may fail or be skipped: what
counts is in the journal, and a kill is safe at any point.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from gateway.api.around import Around, Readiness
from gateway.assembly import Parts, Surroundings, assemble, guard_policy, make_admin_front
from gateway.carriers.carrier import Carrier
from gateway.carriers.kinds import find_shared, make_carrier
from gateway.clock import SystemClock, SystemIds, seeded_chance
from gateway.compiled import program
from gateway.demo import FILE, Demo, ensure_demo, write_demo_file
from gateway.dials import Dials
from gateway.door import CannotListen, Door, address_of, bind
from gateway.logs import Sink
from gateway.operator_lookup import OperatorLookup
from gateway.pressure import Pressure, measure_room
from gateway.running import Exit, Stopping, Tasks, Watchdog, allow_files, stopped_after
from gateway.settings import Settings, StorageSettings
from gateway.stores import Stores, admin_token, make_data_folder, open_stores
from resolver.core import Resolver
from resolver.model import CarrierName, Message
from storage.catalog import CatalogRows
from storage.database import Database
from storage.records import EpochLost, StorageError
from storage.recovery import Recovered, recover

log = structlog.get_logger(__name__)

FACTS_MS_MAX: Final = 3_000  # stopping: to store the last facts
CALLBACKS_MS_MAX: Final = 2_000  # stopping: for endpoints to answer; the others are told again after the next start
PART_MS_MAX: Final = 6_000  # stopping: any other part; the journal allows itself 5 s
ADMIN_HOST: Final = "127.0.0.1"
ORDERS_AGAIN_MS: Final = 1_000
DAYS_EVERY_MS: Final = 3_600_000
UNMATCHED_MS: Final = 24 * 3_600_000

GC_THRESHOLDS: Final = (50_000, 2, 2_000)
"""Messages are freed by counting references, so looking for cycles finds next to nothing. By default it would stop the
loop for 150 ms and more while half a million messages come in (measured: 148 and 370 ms, each look at everything); so
what is there after the start is frozen, everything is looked at a thousand times more rarely, and what is new only once
most of what a request needs for a moment has gone: 5 % of the core less than with the usual 700 to 5,000."""

Carriers = Mapping[CarrierName, Carrier]


async def serve(settings: Settings, *, announce: Callable[[str], object], sink: Sink | None = None) -> Exit:
    """Run the gateway until it is told to stop, or cannot go on. `announce` gets the lines for who started it."""
    allow_files()
    stopping, watchdog = Stopping(), Watchdog()
    stopping.hear_signals()
    gateway = Gateway(settings, announce=announce, sink=sink)
    running = asyncio.create_task(gateway.run(stopping, watchdog), name="gateway")

    def stop(_: object) -> None:
        watchdog.start(settings.server.drain_ms_max)
        if not gateway.is_started:
            running.cancel()

    stopping.asked.add_done_callback(stop)
    try:
        return await running
    except asyncio.CancelledError:
        if not stopping.asked.done():
            raise
        return Exit.DRAINED  # stopped while it was starting: there was nothing to drain
    except (CannotListen, StorageError) as error:
        say_failure(str(error))
        return Exit.FAILED
    finally:
        watchdog.stop()


def say_failure(said: str) -> None:
    """One line on standard error, past the log: it is for who started us."""
    os.write(2, f"sendpool: {said}\n".encode())


class Gateway:
    """One run of the gateway."""

    def __init__(self, settings: Settings, *, announce: Callable[[str], object], sink: Sink | None) -> None:
        self._settings = settings
        self._announce = announce
        self._clock, self._dials = SystemClock(), Dials()
        self._ids = SystemIds(self._clock.now_ms)
        self._pressure = Pressure(settings.limits, partial(measure_room, settings.storage.data), clock=self._clock)
        self._dials.watch_process(clock=self._clock, pressure=self._pressure, sink=sink)
        self._around = Around(
            self._readiness, self._dials.metrics.exposition, open_metrics=settings.server.open_metrics
        )
        self.tasks = Tasks()
        self._parts: Parts | None = None
        self._base: Surroundings | None = None
        self._lookup: OperatorLookup | None = None
        self._is_accepting = self._is_sending = self._is_in_a_hurry = False
        self.is_started = False

    def _readiness(self) -> Readiness:
        is_stored = self._parts is not None and self._parts.journal.ready
        return Readiness(
            accepting=is_stored and self._is_accepting and not self._pressure.is_high(),
            sending=is_stored and self._is_sending,
        )

    async def run(self, stopping: Stopping, watchdog: Watchdog) -> Exit:
        """Start, go on until something ends it, stop. Raises what makes a start impossible."""
        settings = self._settings
        log.info("starting", program=program())
        for warning in settings.warnings:
            log.warning("a setting is not known", warning=warning)
        carriers = {  # before anything else: a bad option must disturb nobody
            name: make_carrier(
                each,
                clock=self._clock,
                answer_ms_max=settings.lanes.answer_ms_max,
                public_url=settings.server.public_url,
            )
            for name, each in settings.carriers.items()
        }
        for shared in find_shared({name: each.webhooks for name, each in carriers.items()}):
            log.warning("carriers share a secret", warning=shared)
        guard_policy(settings.callbacks)
        if settings.operator_lookup.url:
            self._lookup = OperatorLookup(settings.operator_lookup, clock=self._clock, counts=self._dials.lookups)
        make_data_folder(settings.storage.data)
        token = admin_token(settings) if settings.admin.enabled else ""
        bound = bind(settings.server)
        admin = bind(replace(settings.server, host=ADMIN_HOST, port=settings.admin.port)) if token else None
        base_url = settings.server.public_url or address_of(bound)
        door = Door(settings.server, settings.limits, around=self._around, clock=self._clock, ids=self._ids)
        self._dials.watch_door(door)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(door.listening(bound))
            owner = f"process {os.getpid()} on {socket.gethostname()} at {base_url}"
            stores = await stack.enter_async_context(open_stores(settings.storage, owner=owner))
            demo = await self._own(stores, base_url)
            parts, recovered = await self._remember(stores, carriers)
            await self._start(stack, stores, parts, carriers, lost=recovered.lost)
            await stack.enter_async_context(door.opened(parts.front))
            self._is_accepting = self.is_started = True
            self._say_ready(address_of(bound), demo)
            if admin is not None:
                await self._administer(stack, admin, token, stores, parts)
            code = await self._wait(stopping, stores, parts)
            self._is_accepting = False
            watchdog.start(settings.server.drain_ms_max)
        log.info("stopped", code=int(code))
        return code

    async def _administer(
        self, stack: AsyncExitStack, bound: socket.socket, token: str, stores: Stores, parts: Parts
    ) -> None:
        """Let the administrator's API answer until `stack` ends it."""
        door = Door(self._settings.server, self._settings.limits, around=self._around, clock=self._clock, ids=self._ids)
        assert self._base is not None, "parts come first"
        await stack.enter_async_context(door.listening(bound))
        await stack.enter_async_context(door.opened(make_admin_front(self._base, stores, parts.pools, token)))
        self._announce(f"The administrator's API listens on {address_of(bound)}.")

    # -- starting -------------------------------------------------------------------------------------------------

    async def _own(self, stores: Stores, base_url: str) -> Demo | None:
        """Take the lease: from here on nobody else writes the journal."""
        server, database = self._settings.server, stores.database
        await database.take_over(now_ms=self._clock.now_ms(), force=server.takeover)
        if stores.server is not None:
            stores.server.stop_on_exit = True  # whoever started it
        await database.make_partitions(now_ms=self._clock.now_ms())
        if not server.demo:
            return None
        demo = await ensure_demo(stores.catalog, base_url=base_url, clock=self._clock, ids=self._ids)
        if demo is not None:
            write_demo_file(demo, self._settings.storage.data)
        return demo

    async def _remember(self, stores: Stores, carriers: Carriers) -> tuple[Parts, Recovered]:
        """Bring memory back, set the clock to go on from there, and make every part around it."""
        settings, clock = self._settings, self._clock
        rows: CatalogRows = await stores.catalog.load_all()
        resolver = Resolver(waiting_max=settings.limits.waiting_max, threads_max=settings.limits.threads_max)
        links = {name: each.segments_per_s for name, each in settings.carriers.items()}
        recovered = await recover(stores.database, rows, resolver, now_ms=clock.now_ms(), links=links)
        clock.anchor(recovered.newest_ms)
        base = self._base = Surroundings(
            settings, clock, self._ids, seeded_chance(), self._dials, self._pressure, self._around,
            self._lookup.learn if self._lookup is not None else None, self.tasks.end,
        )  # fmt: skip
        parts = self._parts = assemble(base, stores, resolver, carriers)
        parts.pools.fill(rows)
        await parts.operators.load()
        parts.orders.fill(rows.carriers)
        parts.attempts.adopt_unknown(recovered.unknown)
        return parts, recovered

    async def _start(
        self, stack: AsyncExitStack, stores: Stores, parts: Parts, carriers: Carriers, *, lost: Sequence[Message]
    ) -> None:
        """Start every part; `stack` stops them in reverse."""
        enter, running = stack.enter_async_context, self.tasks.running
        await parts.journal.start()
        await enter(stopped_after("journal", parts.journal.stop, ms_max=PART_MS_MAX))
        await enter(parts.sender)
        await enter(
            running("callbacks", parts.callbacks.run(), drain=partial(parts.callbacks.drain, ms_max=CALLBACKS_MS_MAX))
        )
        await enter(
            stopped_after("facts", partial(parts.facts.drain, ms_max=FACTS_MS_MAX), ms_max=FACTS_MS_MAX + PART_MS_MAX)
        )
        await enter(stopped_after("threads", partial(self._flush_threads, parts), ms_max=PART_MS_MAX))
        await enter(running("threads", parts.threads.run()))
        await enter(running("clock", self._clock.watch()))
        if self._lookup is not None:
            await enter(running("operator look-up", self._lookup.run()))
        await enter(running("pressure", self._pressure.watch()))
        await enter(running("days", self._keep_days(stores.database)))
        await parts.upkeep.end_overdue(lost)
        await parts.cancelling.end_asked()
        while not await parts.orders.work():
            await self._clock.sleep_ms(ORDERS_AGAIN_MS)
        await enter(running("upkeep", parts.upkeep.run()))
        await enter(running("pools", parts.pools.run()))
        await enter(running("carrier orders", parts.orders.run()))
        await enter(running("catalog news", stores.catalog.listen(parts.pools.on_change)))
        since_ms = self._clock.now_ms() - UNMATCHED_MS
        await parts.reports.adopt(await parts.archive.unmatched_reports(since_ms=since_ms))
        for name, carrier in carriers.items():
            await carrier.start(parts.reports.taker(name), parts.lanes[name].on_link)
            await enter(stopped_after(f"carrier {name}", carrier.stop, ms_max=PART_MS_MAX))
        await enter(self._lanes_running(parts))

    @asynccontextmanager
    async def _lanes_running(self, parts: Parts) -> AsyncIterator[None]:
        """Let messages leave while the block runs; at its end wait for what was handed over, all lanes at once."""
        async with AsyncExitStack() as stack:
            for name, lane in parts.lanes.items():
                await stack.enter_async_context(self.tasks.running(f"lane {name}", lane.run()))
            self._is_sending = True
            try:
                yield
            finally:
                self._is_sending = False
                ms_max = 0 if self._is_in_a_hurry else self._settings.server.drain_answers_ms_max
                await asyncio.gather(*(lane.drain(ms_max=ms_max) for lane in parts.lanes.values()))

    async def _flush_threads(self, parts: Parts) -> None:
        if not self._is_in_a_hurry:
            try:
                await parts.threads.flush()
            except StorageError as error:  # then recovery replays what the table lacks
                log.warning("sticky threads not written", error=str(error))

    async def _keep_days(self, database: Database) -> None:
        """Make the days ahead, drop those whose time is over; now and every hour."""
        while True:
            try:
                await database.make_partitions(now_ms=self._clock.now_ms())
                await database.drop_partitions(now_ms=self._clock.now_ms(), keep_days=keep_days(self._settings.storage))
            except EpochLost:
                raise
            except StorageError as error:
                log.warning("partitions cannot be looked after", error=str(error))
            await self._clock.sleep_ms(DAYS_EVERY_MS)

    def _say_ready(self, address: str, demo: Demo | None) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._announce(f"Sendpool listens on {address}. Ctrl-C drains and stops it.")
        if demo is not None:
            self._announce(f"The demo's credentials are in {self._settings.storage.data / FILE}. This sends a message:")
            self._announce(demo.curl())
        elif self._settings.server.demo:
            self._announce("There is no demo, since this database has other accounts.")

    # -- ending ---------------------------------------------------------------------------------------------------

    async def _wait(self, stopping: Stopping, stores: Stores, parts: Parts) -> Exit:
        """Wait for what ends the gateway, and say how it ends."""
        journal, ended = parts.journal, self.tasks.ended
        lost = asyncio.create_task(journal.lost.wait(), name="journal lost")
        ends: list[asyncio.Future[Any]] = [stopping.asked, ended, lost]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        error = journal.lost_reason or (ended.result() if ended.done() else None)
        if error is None:
            return Exit.DRAINED
        self._is_in_a_hurry = True
        if isinstance(error, EpochLost):
            if stores.server is not None:
                stores.server.stop_on_exit = False  # it serves the new owner
            log.error("this database was taken over", error=str(error))
            say_failure(f"this database was taken over: {error}")
            return Exit.TAKEN_OVER
        log.critical("a part has failed", exc_info=error)
        say_failure(f"a part has failed, see the log: {error!r}")
        return Exit.FAILED


def keep_days(storage: StorageSettings) -> Mapping[str, int]:
    """Give how many days each table is kept."""
    journal = ("messages", "bulk_stretches", "handovers", "facts", "outcomes", "carrier_refs")
    return {
        **dict.fromkeys(journal, storage.message_days),
        "bodies": storage.text_days,
        "callbacks": storage.callback_days,
        "idempotency": 1,
        "unmatched_reports": 1,
    }
