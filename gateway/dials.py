"""Every metric of the gateway, by name: what parts count, and what is read off them when Prometheus asks."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.attempts import LaneMetrics
from gateway.callbacks import Callbacks
from gateway.clock import SystemClock
from gateway.facts import Facts
from gateway.inbound import Reports
from gateway.lanes import Lane
from gateway.logs import Sink
from gateway.metrics import Counter, Metrics
from gateway.pressure import Pressure
from resolver.core import Resolver
from resolver.model import CarrierName
from storage.journal import Journal


class Dials:
    """The counters that parts are handed. `metrics` exposes them."""

    def __init__(self) -> None:
        self.metrics = metrics = Metrics()
        self.accepted: Counter = metrics.counter("accepted_messages", "decided and stored, by tier", "tier")
        self.refused: Counter = metrics.counter("refused_messages", "not to be sent, by refusal", "code")
        self.reports: Counter = metrics.counter("reports", "delivery reports, by what became of them", "result")
        self.errors: Counter = metrics.counter("errors", "requests answered with an error, by its code", "code")
        self.callbacks: Counter = metrics.counter("callbacks", "tries to tell an account, by result", "result")
        self.lanes = LaneMetrics(
            handed_over=metrics.counter("handovers", "messages written to a carrier", "carrier"),
            settled=metrics.counter("attempts", "attempts settled, by outcome", "carrier", "outcome"),
        )

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


def links_up(resolver: Resolver) -> Mapping[str, float]:
    """Give each carrier's state; also of carriers that numbers name and the settings do not have."""
    return {name: link.down_since_ms is None for name, link in resolver.links.items()}
