"""Threads: which number a recipient hears from, how that changes, and that there are never more than there may be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.model import E164, Message, PowerpackId, Thread, ThreadState, Tier
from resolver.sticky import MADE, ThreadRow, Threads, join_thread, leave_thread
from tests.unit.resolver.floor import NOW_MS, new_id, recipient, request
from tests.unit.resolver.twins import EFFORT

PACK = PowerpackId("pack")
ONE, TWO, THREE = E164("+14152000001"), E164("+14152000002"), E164("+14152000003")
TO = recipient()
LIFE_MS = 1_000


def threads(most: int = 10) -> Threads:
    return Threads(PACK, most=most)


def follow(
    kept: Threads, number: E164, tier: Tier, *, at_ms: int = 0, to: E164 = TO
) -> tuple[Thread, ThreadState | None]:
    return kept.follow(to, number, tier, now_ms=NOW_MS + at_ms, life_ms=LIFE_MS)


def shape(thread: Thread | None) -> tuple[E164, E164 | None, bool, int]:
    assert thread is not None
    return thread.number, thread.detour, thread.used, thread.last_ms - NOW_MS


def test_a_first_decision_makes_a_thread():
    kept = threads()
    thread, before = follow(kept, ONE, Tier.AREA)
    assert kept.find(TO) is thread
    assert shape(thread) == (ONE, None, False, 0)
    assert before == MADE


@pytest.mark.parametrize(
    ("number", "tier", "expected", "before"),
    [
        (ONE, Tier.STICKY, (ONE, None, True, 5), None),
        (TWO, Tier.DETOUR, (ONE, TWO, True, 5), ThreadState(ONE, None, True)),
        (TWO, Tier.AREA, (TWO, None, False, 5), ThreadState(ONE, None, True)),  # remapped, or its number is gone
        (TWO, Tier.STICKY, (TWO, None, False, 5), ThreadState(ONE, None, True)),  # replayed over a thread that moved
    ],
)
def test_a_living_thread_follows_the_decision(number, tier, expected, before):
    kept = threads()
    thread, _ = follow(kept, ONE, Tier.AREA)
    kept.mark_used(thread, TO)
    assert follow(kept, number, tier, at_ms=5) == (thread, before)
    assert shape(thread) == expected


def test_a_detour_ends_with_the_first_decision_for_the_threads_own_number():
    kept = threads()
    thread, _ = follow(kept, ONE, Tier.AREA)
    follow(kept, TWO, Tier.DETOUR, at_ms=1)
    assert follow(kept, TWO, Tier.DETOUR, at_ms=2) == (thread, None)  # goes on as it was
    assert follow(kept, ONE, Tier.STICKY, at_ms=3) == (thread, ThreadState(ONE, TWO, False))
    assert shape(thread) == (ONE, None, False, 3)


def test_a_thread_silent_for_its_life_is_made_anew():
    kept = threads()
    thread, _ = follow(kept, ONE, Tier.AREA)
    kept.mark_used(thread, TO)
    follow(kept, ONE, Tier.STICKY, at_ms=LIFE_MS - 1)  # every message renews it
    assert follow(kept, TWO, Tier.STICKY, at_ms=2 * LIFE_MS - 1) == (thread, MADE)
    assert shape(thread) == (TWO, None, False, 2 * LIFE_MS - 1)


def test_a_decision_that_was_not_stored_is_taken_out_again():
    kept = threads()
    thread, before = follow(kept, ONE, Tier.AREA)
    assert before is not None
    kept.unfollow(TO, thread, before)
    assert kept.find(TO) is None
    thread, _ = follow(kept, ONE, Tier.AREA)
    kept.mark_used(thread, TO)
    _, before = follow(kept, TWO, Tier.AREA, at_ms=1)
    assert before is not None
    kept.unfollow(TO, thread, before)
    assert shape(thread)[:3] == (ONE, None, True)
    kept.unfollow(TO, Thread(THREE, None, False, NOW_MS), MADE)  # of a thread that has been replaced: nothing
    assert kept.find(TO) is thread


def test_a_thread_that_moves_keeps_its_age_and_begins_unused():
    kept = threads()
    thread, _ = follow(kept, ONE, Tier.AREA)
    kept.mark_used(thread, TO)
    kept.restore(recipient(line=1), Thread(ONE, TWO, True, NOW_MS))
    assert follow(kept, THREE, Tier.COUNTRY, at_ms=7)[0] is thread
    assert shape(thread) == (THREE, None, False, 7)
    assert shape(kept.find(recipient(line=1))) == (ONE, TWO, True, 0)


@settings(max_examples=50 * EFFORT)
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 30), st.integers(0, LIFE_MS // 4)), max_size=80))
def test_there_are_never_more_than_may_be_and_the_longest_silent_go_first(most, steps):
    kept, now_ms = threads(most), 0
    latest: dict[E164, int] = {}
    for line, wait_ms in steps:
        now_ms += wait_ms
        to = recipient(line=line)
        follow(kept, ONE, Tier.AREA if kept.find(to) is None else Tier.STICKY, at_ms=now_ms, to=to)
        latest.pop(to, None)
        latest[to] = now_ms
        assert len(kept) <= most
        here = [each for each in latest if kept.find(each) is not None]
        assert here == list(latest)[len(latest) - len(here) :]  # of all there ever were, the latest
        alive = [each for each in list(latest)[-most:] if latest[each] + LIFE_MS > now_ms]
        assert set(alive) <= set(here)


def test_room_is_made_for_many_at_once_where_there_are_many():
    kept = threads(5_000)
    for line in range(5_001):
        follow(kept, ONE, Tier.AREA, to=recipient(line=line))
    assert len(kept) == 5_000 - 5
    for line in range(5_001, 5_006):
        follow(kept, ONE, Tier.AREA, to=recipient(line=line))
        assert len(kept) <= 5_000
    assert kept.find(recipient(line=5)) is None
    assert kept.find(recipient(line=6)) is not None


def test_every_change_is_handed_to_the_write_behind_once_a_bounded_part_at_a_time():
    kept = threads(3)
    for line in range(4):  # the fourth puts the first out
        follow(kept, ONE, Tier.AREA, at_ms=line, to=recipient(line=line))
    rows = [*kept.take_changed(3), *kept.take_changed(3)]
    assert kept.take_changed(3) == []
    assert sorted(rows) == [
        ThreadRow(PACK, recipient(line=0), E164(""), None, False, 0, True),
        *[ThreadRow(PACK, recipient(line=line), ONE, None, False, NOW_MS + line, False) for line in range(1, 4)],
    ]
    thread = kept.find(recipient(line=2))
    assert thread is not None
    kept.mark_used(thread, recipient(line=2))
    kept.mark_used(thread, recipient(line=2))
    assert kept.take_changed(3) == [ThreadRow(PACK, recipient(line=2), ONE, None, True, NOW_MS + 2, False)]


def test_what_waits_by_a_thread_is_known_and_nothing_is_kept_when_nothing_waits():
    thread = Thread(ONE, None, False, NOW_MS)
    messages = [Message(new_id(), request(), TO, ONE, Tier.AREA, 0) for _ in range(2)]
    for message in messages:
        leave_thread(message)  # of no thread
        message.thread = thread
        join_thread(message)
    assert thread.waiting == messages
    leave_thread(messages[0])
    assert thread.waiting == messages[1:]
    leave_thread(messages[1])
    assert thread.waiting is None
