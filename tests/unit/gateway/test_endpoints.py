"""Turns between endpoints, order within a message, rest for what only fails."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import Endpoints, Held, Turn
from gateway.guard import CallbackUrl, check_url
from storage.records import OwedCallback
from tests.fakes.callbacks import START_MS, row

HOUR_MS = 3_600_000


def endpoints(*, places: int = 8, held_max: int = 1_000, endpoint_held_max: int = 1_000) -> Endpoints:
    return Endpoints(
        places=places, held_max=held_max, endpoint_held_max=endpoint_held_max, give_up_after_ms=75 * HOUR_MS
    )


def held(
    number: int, host: str = "a.example", *, message: int | None = None, sequence: int = 1, tries: int = 0
) -> Held:
    made = row(number, url=f"https://{host}/hook", message=message, sequence=sequence)
    url = check_url(made.url)
    assert isinstance(url, CallbackUrl)
    return Held(OwedCallback(made, tries), url)


def numbers(turns: list[Turn]) -> list[int]:
    return [int(turn.held.owed.row.callback_id[-12:]) for turn in turns]


def take(ring: Endpoints, now_ms: int = START_MS) -> list[Turn]:
    """All turns there are now."""
    turns = []
    while (turn := ring.next(now_ms)) is not None:
        turns.append(turn)
    return turns


def settle(ring: Endpoints, turns: list[Turn], *, is_alive: bool = True, now_ms: int = START_MS) -> None:
    for turn in turns:
        ring.settle(turn, is_alive=is_alive, now_ms=now_ms)


def test_an_endpoint_gets_its_places_and_no_more() -> None:
    ring = endpoints(places=3)
    for number in range(5):
        assert ring.admit(held(number))
    first = take(ring)
    assert numbers(first) == [0, 1, 2]
    settle(ring, first[:1])
    assert numbers(take(ring)) == [3]


def test_turns_go_round() -> None:
    ring = endpoints()
    for number in range(4):
        ring.admit(held(number, "a.example"))
    ring.admit(held(10, "b.example"))
    ring.admit(held(20, "c.example"))
    assert numbers(take(ring)) == [0, 10, 20, 1, 2, 3]


def test_scheme_and_port_make_another_endpoint() -> None:
    ring = endpoints(places=1)
    ring.admit(held(1, "a.example"))
    ring.admit(held(2, "a.example:8443"))
    assert len(take(ring)) == 2


def test_a_message_tells_one_thing_after_the_other() -> None:
    ring = endpoints()
    for sequence in (1, 3, 2):
        ring.admit(held(sequence, message=7, sequence=sequence))
    for expected in ([1], [2], [3], []):
        turns = take(ring)
        assert numbers(turns) == expected
        settle(ring, turns)


def test_a_failed_try_lets_the_next_one_go() -> None:
    ring = endpoints()
    ring.admit(held(1, message=7, sequence=1))
    ring.admit(held(2, message=7, sequence=2))
    settle(ring, take(ring), is_alive=False)
    assert numbers(take(ring)) == [2]


def test_a_callback_that_failed_before_holds_nothing_back_and_is_not_held_back() -> None:
    ring = endpoints()
    ring.admit(held(1, message=7, sequence=1, tries=1))
    ring.admit(held(2, message=7, sequence=2))
    ring.admit(held(3, message=7, sequence=3, tries=4))
    assert numbers(take(ring)) == [1, 2, 3]


def test_what_is_held_stays_held_until_it_is_forgotten() -> None:
    ring = endpoints(held_max=2)
    assert ring.admit(held(1))
    assert ring.admit(held(1)), "one held already needs no room"
    assert ring.admit(held(2))
    assert not ring.admit(held(3))
    settle(ring, take(ring))
    assert ring.held == 2
    assert not ring.admit(held(3)), "its result is not durable yet"
    ring.forget([held(1).owed.row.callback_id])
    assert ring.admit(held(3))
    assert numbers(take(ring)) == [3], "and the first was taken once"


def test_one_endpoint_cannot_take_all_the_room() -> None:
    ring = endpoints(held_max=10, endpoint_held_max=4)
    assert [ring.admit(held(number)) for number in range(6)] == [True] * 4 + [False] * 2
    assert ring.admit(held(10, "b.example"))
    settle(ring, take(ring)[:1])
    assert ring.admit(held(6)), "tried is no longer waiting"


def fail(ring: Endpoints, count: int, *, now_ms: int = START_MS, start: int = 0) -> None:
    for number in range(start, start + count):
        ring.admit(held(number))
        settle(ring, take(ring, now_ms), is_alive=False, now_ms=now_ms)


def test_an_endpoint_that_fails_gets_fewer_places_and_one_that_answers_all() -> None:
    ring = endpoints(places=8)
    fail(ring, 1)
    for number in range(20, 40):
        ring.admit(held(number))
    turns = take(ring)
    assert len(turns) == Endpoints.PLACES_WHEN_FAILING
    settle(ring, turns[:1])
    assert len(take(ring)) == 8 - 1


def test_an_endpoint_that_only_fails_rests_and_what_is_due_counts_as_tried() -> None:
    ring = endpoints()
    fail(ring, Endpoints.REST_AFTER)
    assert ring.resting(START_MS) == 1
    for number in range(100, 150):
        ring.admit(held(number))
    ring.admit(held(200, "b.example"))
    turns = take(ring)
    assert len(turns) == 51
    assert [turn.is_resting for turn in turns if turn.held.endpoint != "https://a.example:443"] == [False]
    assert sum(turn.is_resting for turn in turns) == 50
    settle(ring, turns)


def test_what_would_be_given_up_is_never_just_counted() -> None:
    ring = endpoints()
    fail(ring, Endpoints.REST_AFTER)
    old = held(100)
    ring.admit(old._replace(owed=old.owed._replace(row=old.owed.row._replace(created_ms=START_MS - 75 * HOUR_MS))))
    assert [turn.is_resting for turn in take(ring)] == [False]


def test_after_its_rest_one_callback_finds_out_whether_the_endpoint_is_back() -> None:
    ring = endpoints()
    fail(ring, Endpoints.REST_AFTER)
    later = START_MS + Endpoints.REST_MS_FIRST
    for number in range(100, 110):
        ring.admit(held(number))
    turns = take(ring, later)
    assert [turn.is_resting for turn in turns] == [False]
    settle(ring, turns, is_alive=True, now_ms=later)
    assert len(take(ring, later)) == 8


def test_what_was_in_flight_when_the_rest_began_does_not_lengthen_it() -> None:
    ring = endpoints()
    fail(ring, Endpoints.REST_AFTER - 1)
    for number in range(100, 102):
        ring.admit(held(number))
    turns = take(ring)
    assert len(turns) == 2
    settle(ring, turns, is_alive=False)
    assert ring.resting(START_MS + Endpoints.REST_MS_FIRST - 1) == 1
    assert ring.resting(START_MS + Endpoints.REST_MS_FIRST) == 0


def test_what_waits_at_an_endpoint_that_rests_does_not_wait_for_what_is_in_flight() -> None:
    ring = endpoints()
    fail(ring, Endpoints.REST_AFTER - 1)
    for number in range(100, 105):
        ring.admit(held(number))
    first, second = take(ring)
    settle(ring, [first], is_alive=False)
    assert [turn.is_resting for turn in take(ring)] == [True] * 3
    settle(ring, [second], is_alive=False)


def test_rests_grow_up_to_a_bound() -> None:
    ring = endpoints()
    fail(ring, Endpoints.REST_AFTER)
    now_ms, rests = START_MS, []
    for number in range(100, 110):
        began_ms = now_ms
        while ring.resting(now_ms):
            now_ms += 1_000
        rests.append(now_ms - began_ms)
        fail(ring, 1, now_ms=now_ms, start=number)
    assert rests[:4] == [15_000, 30_000, 60_000, 120_000]
    assert set(rests[5:]) == {Endpoints.REST_MS_MOST}


def test_an_endpoint_without_failures_is_forgotten_with_its_last_callback() -> None:
    ring = endpoints()
    for number in range(50):
        ring.admit(held(number, f"h{number}.example"))
    settle(ring, take(ring))
    assert ring._endpoints == {}
    assert ring._behind == {}


class FewEndpoints(Endpoints):
    KNOWN_MAX = 10


def test_endpoints_known_for_their_failures_are_bounded() -> None:
    ring = FewEndpoints(places=8, held_max=100, endpoint_held_max=100, give_up_after_ms=75 * HOUR_MS)
    for number in range(50):
        ring.admit(held(number, f"h{number}.example"))
        settle(ring, take(ring), is_alive=False)
    assert len(ring._endpoints) <= 10


moves = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "next", "next", "answer", "fail", "wait"]),
        st.integers(0, 3),  # endpoint
        st.integers(0, 4),  # message
    ),
    max_size=120,
)


@given(moves=moves, places=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_whatever_happens_places_and_order_hold_and_nothing_is_lost(moves, places: int, seed: int) -> None:
    chance = random.Random(seed)
    ring = endpoints(places=places)
    now_ms, number = START_MS, 0
    sequences: Counter[int] = Counter()
    flying: list[Turn] = []
    tried: dict[int, list[int]] = {}
    admitted: set[int] = set()

    def fly(turn: Turn) -> None:
        made = turn.held.owed.row
        assert not any(other.held.owed.row.message_id == made.message_id for other in flying), "two of one message"
        tried.setdefault(int(made.message_id[-12:]), []).append(made.sequence)
        flying.append(turn)
        here = [other for other in flying if other.held.endpoint == turn.held.endpoint and not other.is_resting]
        assert len(here) <= places

    for move, endpoint, message in moves:
        if move == "admit":
            number, sequences[message] = number + 1, sequences[message] + 1
            assert ring.admit(held(number, f"h{endpoint}.example", message=message, sequence=sequences[message]))
            admitted.add(number)
        elif move == "next":
            turn = ring.next(now_ms)
            if turn is not None:
                fly(turn)
        elif move == "wait":
            now_ms += 20_000
        elif flying:
            turn = flying.pop(chance.randrange(len(flying)))
            ring.settle(turn, is_alive=move == "answer", now_ms=now_ms)
    while flying or ring.has_turn:  # then all answer
        for turn in flying:
            ring.settle(turn, is_alive=True, now_ms=now_ms)
        flying.clear()
        for turn in take(ring, now_ms):
            fly(turn)
    assert sum(map(len, tried.values())) == len(admitted)
    assert all(order == sorted(order) for order in tried.values())
