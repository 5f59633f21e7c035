from __future__ import annotations

from gateway.api import replays
from gateway.api.replays import KEPT_MS, REPLAYS_MAX, Replays, digest_of
from resolver.model import CarrierName
from tests.fakes.clock import START_MS, HandClock

ONE, OTHER = CarrierName("one"), CarrierName("other")


def test_a_webhook_is_remembered_per_carrier_with_its_body() -> None:
    kept = Replays(HandClock(START_MS))
    kept.remember(ONE, "n", b"body", {"accepted": 1})
    found = kept.find(ONE, "n")
    assert found is not None
    assert (found.counts, found.digest) == ({"accepted": 1}, digest_of(b"body"))
    assert digest_of(b"body") != digest_of(b"bodz")
    assert kept.find(OTHER, "n") is None
    assert kept.find(ONE, "m") is None


def test_it_is_forgotten_after_ten_minutes() -> None:
    clock = HandClock(START_MS)
    kept = Replays(clock)
    kept.remember(ONE, "n", b"", {})
    clock.now += KEPT_MS - 1
    assert kept.find(ONE, "n") is not None
    clock.now += 1
    assert kept.find(ONE, "n") is None
    assert len(kept) == 0
    assert KEPT_MS == 600_000


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    kept = Replays(HandClock(START_MS))
    for place in range(REPLAYS_MAX + 5):
        kept.remember(ONE, str(place), b"", {})
    assert len(kept) == replays.REPLAYS_MAX
    assert kept.find(ONE, "4") is None
    assert kept.find(ONE, "5") is not None
