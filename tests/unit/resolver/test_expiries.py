"""Validity's end, second by second, against a list that is searched."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.expiries import Expiries
from resolver.model import E164, Message, Tier
from tests.unit.resolver.floor import NOW_MS, new_id, recipient, request
from tests.unit.resolver.twins import EFFORT


def message(expires_ms: int) -> Message:
    return Message(new_id(), request(), recipient(), E164("+14152000000"), Tier.AREA, expires_ms)


STEPS = st.lists(st.tuples(st.sampled_from("aaart"), st.integers(0, 4_000), st.integers(0, 9)), max_size=60)


@settings(max_examples=100 * EFFORT)
@given(STEPS)
def test_it_gives_what_has_expired_and_nothing_else(steps):
    expiries, kept, now_ms = Expiries(), [], NOW_MS
    for what, ms, which in steps:
        if what == "a":
            kept.append(message(now_ms + ms - 1_000))
            expiries.add(kept[-1])
            expiries.add(kept[-1])  # once is enough
        elif what == "r" and which < len(kept):
            expiries.remove(kept[which])
            expiries.remove(kept.pop(which))
        elif what == "t":
            now_ms += ms
            due = [each for each in kept if each.expires_ms <= now_ms]
            found = expiries.take_expired(now_ms, which)
            assert len(found) == min(len(due), which)
            assert set(found) <= set(due)
            kept = [each for each in kept if each not in found]
    assert set(expiries.take_expired(now_ms + 10_000, 1_000)) == set(kept)
    assert expiries.take_expired(now_ms + 10_000, 1_000) == []


def test_messages_that_come_and_go_within_a_second_leave_nothing_that_grows():
    expiries = Expiries()
    for _ in range(1_000):
        brief = message(NOW_MS)
        expiries.add(brief)
        expiries.remove(brief)
    assert len(expiries._order) == len(expiries._buckets) == 1
    assert expiries.take_expired(NOW_MS + 2_000, 10) == []
    assert len(expiries._order) == len(expiries._buckets) == 0


def test_one_that_is_added_when_its_second_is_over_is_given_all_the_same():
    expiries = Expiries()
    assert expiries.take_expired(NOW_MS + 5_000, 10) == []
    late = message(NOW_MS)
    expiries.add(late)
    assert expiries.take_expired(NOW_MS + 5_000, 10) == [late]
