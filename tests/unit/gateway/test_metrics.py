"""Metrics: cheap counts, read when scraped, bounded in their labels."""

from __future__ import annotations

import pytest

from gateway.metrics import LABEL_VALUES_MAX, Metrics


def lines_of(metrics: Metrics) -> list[str]:
    return [line for line in metrics.exposition().decode().splitlines() if line.startswith("gateway_")]


def test_a_counter_counts_by_its_labels() -> None:
    metrics = Metrics()
    sent = metrics.counter("messages", "handed over", "carrier", "result")
    sent.add("a", "sent")
    sent.add("a", "sent", by=4)
    sent.add("b", "throttled")
    assert lines_of(metrics) == [
        'gateway_messages_total{carrier="a",result="sent"} 5.0',
        'gateway_messages_total{carrier="b",result="throttled"} 1.0',
    ]


def test_a_counter_without_labels_is_there_from_the_start() -> None:
    metrics = Metrics()
    metrics.counter("commits", "of the journal")
    assert lines_of(metrics) == ["gateway_commits_total 0.0"]


def test_labels_beyond_the_bound_are_counted_together() -> None:
    metrics = Metrics()
    counter = metrics.counter("answers", "by code", "code")
    for code in range(LABEL_VALUES_MAX + 50):
        counter.add(str(code))
    counter.add("0")  # known ones go on
    assert len(counter.counts) == LABEL_VALUES_MAX + 1
    assert counter.counts["other",] == 50
    assert counter.counts["0",] == 2


def test_a_wrong_number_of_labels_is_a_broken_promise() -> None:
    counter = Metrics().counter("answers", "by code", "code")
    with pytest.raises(AssertionError, match="gateway_answers"):
        counter.add("a", "b")


def test_a_duration_falls_into_the_first_bucket_that_holds_it() -> None:
    metrics = Metrics()
    commit = metrics.histogram("commit_ms", "of the journal")
    for ms in (0.4, 1, 1.1, 29, 99_999):
        commit.observe(ms)
    lines = dict(line.rsplit(" ", 1) for line in lines_of(metrics))
    assert lines['gateway_commit_ms_bucket{le="1"}'] == "2.0"
    assert lines['gateway_commit_ms_bucket{le="2"}'] == "3.0"
    assert lines['gateway_commit_ms_bucket{le="20"}'] == "3.0"
    assert lines['gateway_commit_ms_bucket{le="30"}'] == "4.0"
    assert lines['gateway_commit_ms_bucket{le="10000"}'] == "4.0"
    assert lines['gateway_commit_ms_bucket{le="+Inf"}'] == lines["gateway_commit_ms_count"] == "5.0"
    assert float(lines["gateway_commit_ms_sum"]) == pytest.approx(100_030.5)


def test_a_gauge_is_read_when_scraped_and_only_then() -> None:
    metrics = Metrics()
    waiting = [1]
    metrics.gauge("waiting_messages", "in memory", lambda: waiting[0])
    waiting[0] = 7
    assert lines_of(metrics) == ["gateway_waiting_messages 7.0"]
    waiting[0] = 8
    assert lines_of(metrics) == ["gateway_waiting_messages 8.0"]


def test_a_gauge_can_have_a_value_per_label() -> None:
    metrics = Metrics()
    metrics.gauge("link_up", "whether the link stands", lambda: {"a": 1, "b": 0}, "carrier")
    assert lines_of(metrics) == ['gateway_link_up{carrier="a"} 1.0', 'gateway_link_up{carrier="b"} 0.0']


def test_a_count_somebody_else_keeps_is_shown_as_one() -> None:
    metrics = Metrics()
    metrics.total("clock_steps", "of the wall clock", lambda: 2)
    assert lines_of(metrics) == ["gateway_clock_steps_total 2.0"]


def test_two_metrics_of_one_name_are_a_broken_promise() -> None:
    metrics = Metrics()
    metrics.counter("answers", "by code", "code")
    with pytest.raises(AssertionError, match="gateway_answers"):
        metrics.gauge("answers", "by code", lambda: 0)


def test_the_process_itself_is_told_about_too() -> None:
    text = Metrics().exposition().decode()
    assert "process_resident_memory_bytes" in text
    assert "python_gc_collections_total" in text
