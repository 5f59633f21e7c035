"""Wrong credentials wait longer each time; who forgets about them is forgotten, and memory is bounded."""

from __future__ import annotations

from gateway.api.guesses import FORGOTTEN_MS, FREE, KEPT_MAX, Guesses
from tests.fakes.clock import HandClock

HERE, MINE = "192.0.2.1", "MA00000000000000000A"
MOST_MS = 2_000


def test_the_first_cost_nothing_then_each_waits_twice_as_long_up_to_a_bound() -> None:
    guesses = Guesses(HandClock(), most_ms=MOST_MS)
    waits = [guesses.count(HERE, MINE) for _ in range(FREE + 8)]
    assert waits == [0] * FREE + [100, 200, 400, 800, 1_600, MOST_MS, MOST_MS, MOST_MS]


def test_an_address_is_counted_whatever_account_it_names_and_an_account_wherever_it_is_named() -> None:
    guesses = Guesses(HandClock(), most_ms=MOST_MS)
    for place in range(FREE):
        guesses.count(HERE, f"MA{place}")
    assert guesses.count(HERE, "MA99") > 0
    for place in range(FREE):
        guesses.count(f"192.0.2.{place + 10}", MINE)
    assert guesses.count("192.0.2.99", MINE) > 0
    assert guesses.count("192.0.2.100", "MA77") == 0


def test_after_a_quiet_time_it_begins_anew() -> None:
    clock = HandClock()
    guesses = Guesses(clock, most_ms=MOST_MS)
    for _ in range(FREE + 5):
        guesses.count(HERE, MINE)
    clock.now += FORGOTTEN_MS
    assert guesses.count(HERE, MINE) == 0


def test_the_latest_are_remembered_and_no_more_than_so_many() -> None:
    guesses = Guesses(HandClock(), most_ms=MOST_MS)
    for _ in range(FREE + 1):
        guesses.count(HERE, MINE)
    for place in range(2 * KEPT_MAX):
        guesses.count(f"2001:db8::{place:x}", "A" * 5_000 + str(place))
    assert len(guesses._addresses) == KEPT_MAX
    assert guesses.count(HERE, "MA0") == 0
    assert max(map(len, guesses._accounts)) <= 40


async def test_who_must_wait_waits() -> None:
    clock = HandClock()
    guesses = Guesses(clock, most_ms=MOST_MS)
    begun_ms = clock.now
    for _ in range(FREE + 3):
        await guesses.hold(HERE, MINE)
    assert clock.now - begun_ms == 100 + 200 + 400


def test_an_administrator_may_have_nobody_wait() -> None:
    guesses = Guesses(HandClock(), most_ms=0)
    assert {guesses.count(HERE, MINE) for _ in range(20)} == {0}
