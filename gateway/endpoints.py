"""Which callback goes next: what is held in memory, in turn by endpoint, in order by message. No I/O, no clock.

Invariants
* A held callback is in one place: waiting at its endpoint, behind an earlier one of its message, in flight, or tried
  and not yet recorded. It stays held until its result is durable, so it is never loaded a second time meanwhile.
* An endpoint is in the ring at most once, and whenever it can give a callback. So turns go round, and a slow or dead
  endpoint costs the others nothing but its own places.
* Of one message at most one callback that was never tried is waiting or in flight. A callback that has failed once no
  longer holds the next one back: the sequence number shows the order.

An endpoint that only fails gets fewer places, then rests: what is due meanwhile counts as tried without a connection
(as if refused at once) and comes again by its own schedule. So a dead endpoint neither fills memory nor places.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.guard import CallbackUrl
from resolver.model import MessageId
from storage.records import OwedCallback


class Held(NamedTuple):
    """A callback in memory; `url` is None when its address is refused now."""

    owed: OwedCallback
    url: CallbackUrl | None

    @property
    def endpoint(self) -> str:
        return self.url.endpoint if self.url is not None else ""


class Turn(NamedTuple):
    held: Held
    is_resting: bool  # its endpoint rests: count it as failed, do not connect


@dataclass(slots=True, eq=False)
class Endpoint:
    name: str
    waiting: deque[Held] = field(default_factory=deque)
    held: int = 0  # waiting, behind others, or in flight
    in_flight: int = 0
    failures: int = 0  # in a row
    rest_ms: int = 0  # how long the latest rest was meant to be
    rest_until_ms: int = 0
    is_offered: bool = False  # it is in the ring


class Endpoints:
    """The ring of endpoints and what they hold. Cost of each call: a few µs, whatever is held."""

    PLACES_WHEN_FAILING = 2
    REST_AFTER = 10  # failures in a row
    REST_MS_FIRST, REST_MS_MOST = 15_000, 300_000
    KNOWN_MAX = 10_000  # endpoints remembered for their failures alone

    def __init__(self, *, places: int, held_max: int, endpoint_held_max: int, give_up_after_ms: int) -> None:
        self._places = places
        self._held_max = held_max
        self._endpoint_held_max = endpoint_held_max
        self._give_up_after_ms = give_up_after_ms
        self._endpoints: dict[str, Endpoint] = {}
        self._ring: deque[Endpoint] = deque()
        self._ids: set[str] = set()
        self._behind: dict[MessageId, list[Held]] = {}  # by the message whose first tries must go one by one

    @property
    def held(self) -> int:
        return len(self._ids)

    @property
    def room(self) -> int:
        """How many more may be held."""
        return self._held_max - len(self._ids)

    @property
    def has_turn(self) -> bool:
        return bool(self._ring)

    def holds(self, callback_id: str) -> bool:
        return callback_id in self._ids

    def resting(self, now_ms: int) -> int:
        """How many endpoints rest, for the metrics."""
        return sum(now_ms < endpoint.rest_until_ms for endpoint in self._endpoints.values())

    def admit(self, held: Held) -> bool:
        """Takes a callback in; False when there is no room, in all or for its endpoint. One held already is taken."""
        row = held.owed.row
        if row.callback_id in self._ids:
            return True
        endpoint = self._endpoints.get(held.endpoint)
        if self.room <= 0 or (endpoint is not None and endpoint.held >= self._endpoint_held_max):
            return False
        if endpoint is None:
            endpoint = self._endpoints[held.endpoint] = Endpoint(held.endpoint)
        self._ids.add(row.callback_id)
        endpoint.held += 1
        if held.owed.tries == 0:
            behind = self._behind.get(row.message_id)
            if behind is not None:
                insort(behind, held, key=_sequence)
                return True
            self._behind[row.message_id] = []
        endpoint.waiting.append(held)
        self._offer(endpoint)
        return True

    def next(self, now_ms: int) -> Turn | None:
        """The next callback to try; it is in flight until `settle`."""
        while self._ring:
            endpoint = self._ring.popleft()
            endpoint.is_offered = False
            turn = self._take(endpoint, now_ms)
            if turn is not None:
                self._offer(endpoint)
                return turn
        return None

    def settle(self, turn: Turn, *, is_alive: bool, now_ms: int) -> None:
        """A try has ended. `is_alive`: the endpoint itself is in order, whatever it said to this callback."""
        row = turn.held.owed.row
        endpoint = self._endpoints[turn.held.endpoint]
        endpoint.held -= 1
        if not turn.is_resting:
            endpoint.in_flight -= 1
            self._judge(endpoint, is_alive=is_alive, now_ms=now_ms)
        if turn.held.owed.tries == 0:
            self._let_follow(row.message_id)
        self._offer(endpoint)
        self._drop_unused(endpoint)

    def forget(self, callback_ids: Iterable[str]) -> None:
        """Their results are durable."""
        self._ids.difference_update(callback_ids)

    def _take(self, endpoint: Endpoint, now_ms: int) -> Turn | None:
        if not endpoint.waiting:
            return None
        if now_ms < endpoint.rest_until_ms and not self._is_last_try(endpoint.waiting[0], now_ms):
            return Turn(endpoint.waiting.popleft(), is_resting=True)
        if endpoint.in_flight >= self._places_of(endpoint):
            return None
        endpoint.in_flight += 1
        return Turn(endpoint.waiting.popleft(), is_resting=False)

    def _is_last_try(self, held: Held, now_ms: int) -> bool:
        """What would be given up after this try is never just counted."""
        return now_ms >= held.owed.row.created_ms + self._give_up_after_ms

    def _places_of(self, endpoint: Endpoint) -> int:
        if endpoint.failures == 0:
            return self._places
        if endpoint.failures < self.REST_AFTER:
            return min(self.PLACES_WHEN_FAILING, self._places)
        return 1  # it may have come back: one callback finds out

    def _judge(self, endpoint: Endpoint, *, is_alive: bool, now_ms: int) -> None:
        if is_alive:
            endpoint.failures = endpoint.rest_ms = endpoint.rest_until_ms = 0
            return
        endpoint.failures += 1
        if endpoint.failures >= self.REST_AFTER and now_ms >= endpoint.rest_until_ms:
            endpoint.rest_ms = min(max(2 * endpoint.rest_ms, self.REST_MS_FIRST), self.REST_MS_MOST)
            endpoint.rest_until_ms = now_ms + endpoint.rest_ms

    def _let_follow(self, message_id: MessageId) -> None:
        behind = self._behind[message_id]
        if not behind:
            del self._behind[message_id]
            return
        follower = behind.pop(0)
        endpoint = self._endpoints[follower.endpoint]
        endpoint.waiting.append(follower)
        self._offer(endpoint)

    def _offer(self, endpoint: Endpoint) -> None:
        has_place = endpoint.in_flight < self._places_of(endpoint) or endpoint.rest_until_ms > 0
        if endpoint.waiting and has_place and not endpoint.is_offered:
            endpoint.is_offered = True
            self._ring.append(endpoint)

    def _drop_unused(self, endpoint: Endpoint) -> None:
        if endpoint.held == 0 and (endpoint.failures == 0 or len(self._endpoints) > self.KNOWN_MAX):
            del self._endpoints[endpoint.name]


def _sequence(held: Held) -> int:
    return held.owed.row.sequence
