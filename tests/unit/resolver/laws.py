"""What must hold whatever happens: the law at each hand-over, and every counter equal to what a walk finds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from resolver.core import Resolver
from resolver.model import Pause, Phase, Priority


@dataclass
class Law:
    """What one number, one day or one link was handed, and the limit that holds now."""

    limit: int
    span_ms: int
    handed: list[tuple[int, int, list[int]]] = field(default_factory=list)
    """When, units, and the instants these count at by the limit of then (RESOLUTION 5)."""

    def charge(self, units: int, at_ms: int) -> None:
        """Check that `units` may leave now, and count them."""
        charges = [each for _, _, instants in self.handed for each in instants]
        in_span = sum(each > at_ms - self.span_ms for each in charges)
        assert in_span + min(units, self.limit) <= self.limit, (in_span, units, self.limit, self.span_ms)
        self.handed.append((at_ms, units, self._instants(units, at_ms)))

    def give_back(self, units: int, at_ms: int) -> None:
        self.handed.remove(next(each for each in self.handed if each[:2] == (at_ms, units)))

    def read_again(self) -> None:
        """Count everything by the limit of now: all that a restart knows."""
        self.handed = [(at_ms, units, self._instants(units, at_ms)) for at_ms, units, _ in self.handed]

    def _instants(self, units: int, at_ms: int) -> list[int]:
        return [at_ms + unit // self.limit * self.span_ms for unit in range(units)]


def check_counts(resolver: Resolver) -> None:
    """Every counter is what a walk over the open messages finds; nothing durable is stuck."""
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for message in resolver.open.values():
        units, number = message.request.segments, message.number
        if message.thread is not None:
            held = message.thread.waiting or []
            assert (message in held) == (message.phase in (Phase.WAITING, Phase.ASIDE, Phase.RELEASED))
        if message in resolver.orphans:
            assert message.phase is Phase.WAITING
            assert not message.booked
            continue
        if message.phase not in (Phase.WAITING, Phase.ASIDE, Phase.RELEASED):
            assert not message.booked
            continue
        urgent = message.request.priority is Priority.URGENT
        found[number, "segments"] += units
        found[number, "messages"] += 1
        found[number, "urgent_segments"] += units * urgent
        found[number, "urgent_messages"] += urgent
        found[number, "booked_segments"] += units * message.booked
        found[number, "own_segments"] += units * bool(message.request.source)
        found[number, "own_messages"] += bool(message.request.source)
        if message.phase is Phase.RELEASED:
            found[number, "released_segments"] += units
            found[number, "released_messages"] += 1
            found[number, "released_bulk_segments"] += units * (not urgent)
    for each in resolver.numbers.values():
        for name in COUNTS:
            assert getattr(each, name) == found[each.number, name], (each.number, name)
        head = each.head()
        pool = resolver.pools.get(each.row.powerpack_id) if each.row.powerpack_id is not None else None
        assert each.busy is (pool.busy if pool is not None else None)
        assert each.is_paused is (pool is not None and pool.row.pause is not Pause.NONE)
        assert each.is_paused or each.stayed is None
        assert head is None or head.request.source or not each.is_paused
        assert all(kept.phase is Phase.WAITING and kept.number == each.number for kept in each.stayed or ())
        if head is not None and head.committed:
            assert each.placed is not None or each.must_wait(head.request.segments), f"{each.number} is stuck"
    for pack in resolver.pools.values():
        assert set(pack.busy) == {number for number in pack.numbers.values() if number.messages}
    for link in resolver.links.values():
        on_it = [each for each in resolver.numbers.values() if each.link is link]
        assert link.booked_segments == sum(each.booked_segments for each in on_it if not each.is_paused)
        assert link.released_segments == sum(each.released_segments for each in on_it)


COUNTS = (
    "segments", "messages", "urgent_segments", "urgent_messages", "released_segments", "released_messages",
    "released_bulk_segments", "booked_segments", "own_segments", "own_messages",
)  # fmt: skip
