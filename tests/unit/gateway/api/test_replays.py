from __future__ import annotations

from gateway.api.replays import KEPT_MS, REPLAYS_MAX, Replays
from resolver.model import CarrierName
from tests.fakes.clock import START_MS, HandClock

ONE, OTHER = CarrierName("one"), CarrierName("other")


def test_a_nonce_belongs_to_the_first_body_that_comes_with_it_per_carrier() -> None:
    kept = Replays(HandClock(START_MS))
    first = kept.bind(ONE, "n", b"body")
    assert first is not None
    assert first.counts is None
    first.counts = {"accepted": 1}
    assert kept.bind(ONE, "n", b"bodz") is None
    assert kept.bind(ONE, "n", b"body") is first
    for other in (kept.bind(OTHER, "n", b"bodz"), kept.bind(ONE, "m", b"bodz")):
        assert other is not None
        assert other.counts is None


def test_it_is_forgotten_after_a_day() -> None:
    clock = HandClock(START_MS)
    kept = Replays(clock)
    first = kept.bind(ONE, "n", b"")
    clock.now += KEPT_MS - 1
    assert kept.bind(ONE, "n", b"") is first
    clock.now += 1
    assert kept.bind(ONE, "n", b"") is not first
    assert len(kept) == 1
    assert KEPT_MS == 86_400_000


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    kept = Replays(HandClock(START_MS))
    bound = [kept.bind(ONE, str(place), b"") for place in range(REPLAYS_MAX + 5)]
    assert len(kept) == REPLAYS_MAX
    assert kept.bind(ONE, "5", b"") is bound[5], "looking takes nobody's place"
    assert kept.bind(ONE, "4", b"") is not bound[4]
    assert kept.bind(ONE, "5", b"") is not bound[5], "whose place it took"
    assert len(kept) == REPLAYS_MAX
