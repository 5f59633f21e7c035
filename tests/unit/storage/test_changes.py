"""What is heard of the catalog: each thing once, in order, never without bound. Over a real connection: integration."""

from __future__ import annotations

import orjson

from storage.changes import ALL, HEARD_MAX, Change, Ear


def heard(ear: Ear, *changes: Change) -> None:
    for change in changes:
        ear.hear(None, 1, "channel", orjson.dumps(change._asdict()).decode())


def test_changes_come_in_order_and_each_once() -> None:
    ear, one, two = Ear(), Change("number", "+14155550100", "MA1"), Change("powerpack", "p", "MA1")
    heard(ear, one, two, one)
    assert ear.take() == [one, two]
    assert ear.take() == []


def test_a_change_after_it_was_taken_is_told_again() -> None:
    ear, one = Ear(), Change("number", "+14155550100", "MA1")
    heard(ear, one)
    ear.take()
    heard(ear, one)
    assert ear.take() == [one]


def test_more_than_can_be_kept_become_everything() -> None:
    ear = Ear()
    heard(ear, *(Change("number", str(n)) for n in range(HEARD_MAX)))
    assert len(ear.heard) == HEARD_MAX
    heard(ear, Change("number", "one more"))
    assert ear.take() == [ALL]


def test_news_in_no_form_we_know_means_everything() -> None:
    for payload in ("", "nonsense", "{}", "[]", "1", '{"kind":"number"}'):
        ear = Ear()
        ear.hear(None, 1, "channel", payload)
        assert ear.take() == [ALL], payload


async def test_waiting_ends_with_news_with_the_end_and_with_its_time() -> None:
    ear = Ear()
    assert not await ear.wait(1)
    heard(ear, ALL)
    assert await ear.wait(60_000)
    ear.take()
    assert not await ear.wait(1)
    ear.end(None)
    assert ear.ended
    assert await ear.wait(60_000)
