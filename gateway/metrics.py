"""Counts and durations for Prometheus: plain integers while the gateway works, turned into families when scraped.

A part is handed the one counter it needs, or is read when somebody asks (`gauge`). No lock, since everything
counts on the event loop's thread; a count costs about 0.1 µs. Labels are codes from our own tables, so their number is
bounded: never an account, a number or anything else that comes from outside.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol, TypeVar

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import CollectorRegistry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
NAME: Final = "gateway_"
LABEL_VALUES_MAX: Final = 1_000  # some 70 kinds of requests, each with a handful of statuses
OTHER: Final = ("other",)

LATENCY_MS: Final = (1, 2, 5, 10, 20, 30, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
"""Buckets, fine where our figures lie: p50 5 ms, p99 30 ms, p99.9 250 ms."""


class Counts(Protocol):
    """What a part needs to count something: `add("sent")`, `add("throttled", by=3)`."""

    def add(self, *labels: str, by: int = 1) -> None: ...


class Durations(Protocol):
    """What a part needs to tell how long something took."""

    def observe(self, ms: float) -> None: ...


class Counter:
    """A count per combination of labels; combinations beyond the bound are counted as `other`."""

    def __init__(self, name: str, why: str, labels: tuple[str, ...]) -> None:
        self.name, self.why, self.labels = name, why, labels
        self.counts: dict[tuple[str, ...], int] = {} if labels else {(): 0}

    def add(self, *labels: str, by: int = 1) -> None:
        counts = self.counts
        if labels not in counts:
            assert len(labels) == len(self.labels), f"{self.name} has the labels {self.labels}, not {labels}"
            if len(counts) >= LABEL_VALUES_MAX:
                labels = OTHER * len(labels)
        counts[labels] = counts.get(labels, 0) + by

    def family(self) -> Metric:
        family = CounterMetricFamily(self.name, self.why, labels=self.labels)
        for labels, count in self.counts.items():
            family.add_metric(labels, count)
        return family


class Histogram:
    """How many durations, or sizes, fell into each bucket, and their sum."""

    def __init__(self, name: str, why: str, buckets: tuple[int, ...] = LATENCY_MS) -> None:
        self.name, self.why, self.buckets = name, why, buckets
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0

    def observe(self, ms: float) -> None:
        self.counts[bisect.bisect_left(self.buckets, ms)] += 1
        self.sum += ms

    def family(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.why)
        total, buckets = 0, []
        for limit, count in zip([*map(str, self.buckets), "+Inf"], self.counts, strict=True):
            total += count
            buckets.append((limit, total))
        family.add_metric([], buckets, self.sum)
        return family


Read = Callable[[], float | Mapping[str, float]]


class Gauge:
    """What is read when scraped: a number, or one per value of its label. `counts`: it only ever grows."""

    def __init__(self, name: str, why: str, read: Read, label: str = "", *, counts: bool = False) -> None:
        self.name, self.why, self.read, self.label, self.counts = name, why, read, label, counts

    def family(self) -> Metric:
        kind = CounterMetricFamily if self.counts else GaugeMetricFamily
        family = kind(self.name, self.why, labels=[self.label] if self.label else [])
        value = self.read()
        if isinstance(value, Mapping):
            for label, number in value.items():
                family.add_metric([label], number)
        else:
            family.add_metric([], value)
        return family


F = TypeVar("F", Counter, Histogram, Gauge)


class Metrics:
    """All families of this process. Names are `gateway_<thing>_<unit>`; counters get `_total` by the exposition.

    No subclass of the library's `Collector`, which asks for no more than `collect` and `describe`: a wheel is compiled
    where libraries are not installed, and of a class that is not known mypyc makes one that breaks.
    """

    def __init__(self) -> None:
        self._families: dict[str, Counter | Histogram | Gauge] = {}
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(self)

    def counter(self, name: str, why: str, *labels: str) -> Counter:
        return self._keep(Counter(NAME + name, why, labels))

    def histogram(self, name: str, why: str, buckets: tuple[int, ...] = LATENCY_MS) -> Histogram:
        return self._keep(Histogram(NAME + name, why, buckets))

    def gauge(self, name: str, why: str, read: Read, label: str = "") -> Gauge:
        return self._keep(Gauge(NAME + name, why, read, label))

    def total(self, name: str, why: str, read: Read, label: str = "") -> Gauge:
        """Like `gauge`, for a count that a part keeps for itself."""
        return self._keep(Gauge(NAME + name, why, read, label, counts=True))

    def _keep(self, family: F) -> F:
        assert family.name not in self._families, f"two metrics are called {family.name}"
        self._families[family.name] = family
        return family

    def described(self) -> list[tuple[str, str, str, str]]:
        """List name, kind, labels and meaning of every family, as docs/metrics.md does; reads nothing."""
        rows = []
        for family in self._families.values():
            if isinstance(family, Gauge):
                kind, labels = "counter" if family.counts else "gauge", family.label
            elif isinstance(family, Counter):
                kind, labels = "counter", ", ".join(family.labels)
            else:
                kind, labels = "histogram", ""
            rows.append((family.name + "_total" * (kind == "counter"), kind, labels, family.why))
        return sorted(rows)

    def collect(self) -> Iterable[Metric]:
        return [family.family() for family in self._families.values()]

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: the registry would read every gauge while parts are still being made."""
        return iter(())

    def exposition(self) -> bytes:
        """Give the text Prometheus scrapes; about a millisecond."""
        return generate_latest(self._registry)
