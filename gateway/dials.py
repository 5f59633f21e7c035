"""Every metric of the gateway, by name: what parts count, and what is read off them when Prometheus asks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final, Protocol

from gateway.attempts import LaneMetrics
from gateway.callbacks import Callbacks
from gateway.clock import SystemClock
from gateway.facts import Facts
from gateway.inbound import Reports
from gateway.lanes import Lane
from gateway.logs import Sink
from gateway.metrics import Counter, Histogram, Metrics
from gateway.pressure import Pressure
from resolver.core import Resolver
from resolver.model import CarrierName, Priority
from storage.journal import Journal

COMMIT_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
SAMPLE_MAX: Final = 100_000


class DoorState(Protocol):
    """What is asked of the door."""

    @property
    def connections(self) -> int: ...

    @property
    def turned_away(self) -> Mapping[str, int]: ...

    @property
    def in_progress(self) -> int: ...

    @property
    def streams(self) -> int: ...


class Dials:
    """The counters that parts are handed. `metrics` exposes them."""

    def __init__(self) -> None:
        self.metrics = metrics = Metrics()
        self.accepted: Counter = metrics.counter("accepted_messages", "decided and stored, by tier", "tier")
        self.refused: Counter = metrics.counter("refused_messages", "not to be sent, by refusal", "code")
        self.reports: Counter = metrics.counter("reports", "delivery reports, by what became of them", "result")
        self.lookups: Counter = metrics.counter("operator_lookups", "recipients, by what came of them", "result")
        self.binding: Counter = metrics.counter(
            "binding_windows", "accepted messages that wait, by the window that lets them", "window"
        )
        self.requests: Counter = metrics.counter("requests", "requests answered, by kind and status", "kind", "status")
        self.webhooks: Counter = metrics.counter(
            "webhooks", "posted by carriers, by what became of them", "carrier", "result"
        )
        self.errors: Counter = metrics.counter("errors", "requests answered with an error, by its code", "code")
        self.rejections: Counter = metrics.counter(
            "rejections", "requests refused for what is too much, by the bound they met", "bound"
        )
        self.commit_ms: Histogram = metrics.histogram("commit_ms", "from a batch's first row to its commit")
        self.commit_rows: Histogram = metrics.histogram("commit_rows", "rows of a committed batch", COMMIT_ROWS)
        self.callbacks: Counter = metrics.counter("callbacks", "tries to tell an account, by result", "result")
        self.lanes = LaneMetrics(
            handed_over=metrics.counter("handovers", "messages written to a carrier", "carrier"),
            settled=metrics.counter("attempts", "attempts settled, by outcome", "carrier", "outcome"),
        )

    def committed(self, rows: int, took_ms: float) -> None:
        """Take note of a commit."""
        self.commit_rows.observe(rows)
        self.commit_ms.observe(took_ms)

    def watch_door(self, door: DoorState) -> None:
        """Read what the door holds open."""
        metrics = self.metrics
        metrics.gauge("connections", "open, of clients and carriers", lambda: door.connections)
        metrics.total(
            "connections_turned_away", "closed by us, by the bound they met", lambda: door.turned_away, "bound"
        )
        metrics.gauge("requests_in_progress", "streams included", lambda: door.in_progress)
        metrics.gauge("streams_in_progress", "bulk and report streams", lambda: door.streams)

    def watch_process(self, *, clock: SystemClock, pressure: Pressure, sink: Sink | None) -> None:
        """Read the machinery that every process has."""
        metrics = self.metrics
        metrics.total("clock_steps", "steps of the wall clock, which are not followed", lambda: clock.steps)
        metrics.gauge("clock_behind_ms", "behind the wall clock; negative: ahead of it", clock.behind_ms)
        metrics.gauge("loop_lag_ms", "how late the event loop came at the last look", lambda: pressure.lag_ms)
        metrics.gauge("memory_percent", "used of what may be used", lambda: pressure.room.memory_percent)
        metrics.gauge("disk_free_bytes", "in the data folder", lambda: pressure.room.disk_free_bytes)
        metrics.gauge("under_pressure", "1: nothing more is accepted", pressure.is_high)
        if sink is not None:
            metrics.total("log_lines_dropped", "nobody read them, or the disk is full", lambda: sink.dropped)

    def watch_parts(
        self,
        *,
        resolver: Resolver,
        journal: Journal,
        facts: Facts,
        callbacks: Callbacks,
        reports: Reports,
        lanes: Mapping[CarrierName, Lane],
    ) -> None:
        """Read how much is in each part: what grows here without end is on its way to trouble."""
        gauge = self.metrics.gauge
        gauge("waiting_messages", "in memory, not taken by a carrier yet", lambda: resolver.waiting)
        gauge(
            "waiting_by_priority_messages",
            f"waiting, told from the {SAMPLE_MAX:,} oldest",
            lambda: by_priority(resolver),
            "priority",
        )
        gauge("awaiting_messages", "sent, without a report yet, in memory", lambda: len(facts.awaiting))
        gauge("journal_ready", "1: a connection stands and the epoch is ours", lambda: journal.ready)
        gauge("journal_waiting_rows", "not committed yet", lambda: journal.waiting_rows)
        gauge("facts_owed_rows", "facts that could not be stored yet", lambda: facts.owed_rows)
        self.metrics.total("poisoned_facts", "facts the database refused for good", lambda: facts.poisoned)
        gauge("callbacks_held", "owed, in memory", lambda: callbacks.held)
        gauge("callbacks_unrecorded", "told, not yet noted in the outbox", lambda: callbacks.unrecorded)
        gauge("callback_endpoints_spilled", "with more in the outbox than memory holds", lambda: callbacks.spilled)
        gauge("callback_endpoints_resting", "left alone for a while, since they fail", callbacks.resting)
        gauge("reports_parked", "whose message is not known yet", lambda: reports.parked)
        gauge(
            "lane_held_messages",
            "claimed, or with the carrier",
            lambda: {n: x.held for n, x in lanes.items()},
            "carrier",
        )
        gauge("link_up", "1: the carrier's link may be used", lambda: links_up(resolver), "carrier")


def by_priority(resolver: Resolver) -> Mapping[str, float]:
    """Give how many messages wait, by priority. Looking at the first thousands takes some milliseconds, not more."""
    seen = urgent = 0
    for message in islice(resolver.open.values(), SAMPLE_MAX):
        seen += 1
        urgent += message.request.priority is Priority.URGENT
    urgents = round(urgent * resolver.waiting / seen) if seen else 0
    return {Priority.URGENT: urgents, Priority.BULK: resolver.waiting - urgents}


def links_up(resolver: Resolver) -> Mapping[str, float]:
    """Give each carrier's state; also of carriers that numbers name and the settings do not have."""
    return {name: link.down_since_ms is None for name, link in resolver.links.items()}
