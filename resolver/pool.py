"""A powerpack's numbers, indexed by service, priority, type, country, region and area code: the ladder's rungs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from resolver.geography import locate
from resolver.groups import MOVES_MAX, Group, entry_of
from resolver.model import (
    E164,
    Location,
    Message,
    NumberState,
    NumberType,
    PowerpackRow,
    Priority,
    Service,
    Thread,
    Tier,
)
from resolver.preference import NEIGHBORS, type_order
from resolver.queues import Number
from resolver.sticky import Threads

LADDERS_MAX: Final = 5_000
"""Kept per powerpack: about 470 area codes, by service, priority and operator."""


class Rungs:
    """The groups of one number type in one country, for one service and priority."""

    __slots__ = ("_by_order", "_urgent", "areas", "country", "regions", "soonest")

    def __init__(self, by_order: list[Number], *, urgent: bool) -> None:
        self._by_order, self._urgent = by_order, urgent
        self.areas: dict[str, Group] = {}
        self.regions: dict[str, Group] = {}
        self.country = Group(by_order, urgent=urgent, recommended=True)
        # The last resort: recommendation and patience set aside.
        self.soonest = Group(by_order, urgent=urgent, recommended=False)

    def groups_of(self, number: Number) -> Iterator[Group]:
        """Every group the number belongs to here."""
        yield self.country
        yield self.soonest
        if number.row.type is NumberType.LONG_CODE:
            location = locate(number.number)
            if location is not None and location.area_code:
                yield self._of(self.areas, location.area_code)
                for region in sorted(location.regions):
                    yield self._of(self.regions, region)

    def _of(self, groups: dict[str, Group], key: str) -> Group:
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(self._by_order, urgent=self._urgent, recommended=True)
        return group


class Rung:
    """One step of the ladder a recipient's message climbs."""

    __slots__ = ("group", "soonest", "tier", "type")

    def __init__(self, type_: NumberType, tier: Tier, group: Group, soonest: Group | None) -> None:
        self.type = type_
        self.tier = tier
        self.group = group
        self.soonest = soonest  # where this is the widest step of its type and country: the same without recommendation


class Pool:
    """One powerpack in memory: its settings, its numbers and their indexes, its threads."""

    __slots__ = ("_by_order", "_ladders", "backlog", "better", "busy", "index", "numbers", "row", "threads", "touched")

    def __init__(self, row: PowerpackRow, by_order: list[Number], *, threads_max: int) -> None:
        self.row = row
        self._by_order = by_order  # all numbers of the process: an entry names one by its place here
        self.numbers: dict[E164, Number] = {}
        self.busy: dict[Number, None] = {}  # those of them with messages that are not handed over
        self.index: dict[tuple[Service, Priority], dict[tuple[NumberType, str], Rungs]] = {}
        self.threads = Threads(row.powerpack_id, most=threads_max)
        self.better = False  # since the last look, something could leave sooner elsewhere
        self.backlog: Iterator[tuple[Message, int] | None] | None = None  # what is looked at for that (rebinding)
        self.touched: list[Number] = []  # what could leave sooner than its entries say, until the next decision
        self._ladders: dict[tuple[str, str, bool, bool, str], tuple[Rung, ...]] = {}

    def change(self, row: PowerpackRow) -> None:
        """Other settings, from the very next decision on."""
        self.row = row
        self._ladders.clear()

    def thread_of(self, recipient: E164, now_ms: int) -> Thread | None:
        """The recipient's thread while it lives: neither too long silent, nor of a number that has left since.

        A number that comes back is a new one: its threads of before are gone.
        """
        thread = self.threads.find(recipient)
        if thread is None or thread.last_ms + self.row.sticky_life_ms <= now_ms:
            return None
        number = self.numbers.get(thread.number)
        return thread if number is not None and number.row.added_ms <= thread.last_ms else None

    def ladder(self, location: Location, service: Service, urgent: bool, operator: str) -> tuple[Rung, ...]:
        """The steps for a recipient there, nearest first, type by type; those without a number ever are left out."""
        key = (location.country, location.area_code, service is Service.MMS, urgent, operator)  # an Enum's hash is slow
        ladder = self._ladders.get(key)
        if ladder is None:
            if len(self._ladders) >= LADDERS_MAX:
                self._ladders.clear()
            ladder = self._ladders[key] = tuple(self._build_ladder(location, service, urgent, operator))
        return ladder

    def _build_ladder(self, location: Location, service: Service, urgent: bool, operator: str) -> Iterator[Rung]:
        index = self.index.get((service, Priority.URGENT if urgent else Priority.BULK), {})
        for each in type_order(self.row, location.country, service, operator):
            rungs = index.get((each, location.country))
            long_code = each is NumberType.LONG_CODE
            if rungs is not None:
                if long_code and self.row.local_connect:
                    if location.area_code in rungs.areas:
                        yield Rung(each, Tier.AREA, rungs.areas[location.area_code], None)
                    for region in sorted(region for region in location.regions if region in rungs.regions):
                        yield Rung(each, Tier.REGION, rungs.regions[region], None)
                yield Rung(each, Tier.COUNTRY, rungs.country, rungs.soonest)
            neighbor = NEIGHBORS.get(location.country) if long_code else None
            if neighbor is not None and (each, neighbor) in index:
                rungs = index[each, neighbor]
                yield Rung(each, Tier.NEIGHBOR, rungs.country, rungs.soonest)

    def put(self, number: Number) -> None:
        """Index a number, new or changed: O(1), whatever the size of the pool."""
        self.numbers[number.number] = number
        number.busy = self.busy
        number.note_busy(self.busy)
        groups = tuple(self._groups_of(number)) if number.row.state is NumberState.ACTIVE else ()
        if any(group.is_new for group in groups):
            self._ladders.clear()
        _stand_in(number, groups)

    def drop(self, number: Number) -> None:
        """Take a number out; its entries die when they surface."""
        del self.numbers[number.number]
        self.busy.pop(number, None)
        number.busy = None
        _stand_in(number, ())

    def touch(self, number: Number) -> None:
        """The number could leave sooner than its entries say: the next decision sees to it."""
        if not number.is_touched:
            number.is_touched = True
            self.touched.append(number)

    def freshen(self) -> None:
        """Give touched numbers new entries, a bounded part of them."""
        for _ in range(min(len(self.touched), MOVES_MAX)):
            _push_anew(self.touched.pop())

    def _groups_of(self, number: Number) -> Iterator[Group]:
        row = number.row
        if row.type is NumberType.TOLL_FREE and not row.verified:
            return
        # A toll-free number serves both countries of the plan; everything else its own.
        countries = ("US", "CA") if row.type is NumberType.TOLL_FREE else (row.country,)
        for service in sorted(row.services):
            for priority in Priority:
                rungs_by = self.index.setdefault((service, priority), {})
                for country in countries:
                    rungs = rungs_by.get((row.type, country))
                    if rungs is None:
                        rungs = rungs_by[row.type, country] = Rungs(self._by_order, urgent=priority is Priority.URGENT)
                    yield from rungs.groups_of(number)


def _stand_in(number: Number, groups: tuple[Group, ...]) -> None:
    """Let a number stand in these groups and no others."""
    for part in number.parts:
        part.live -= 1
    number.parts = tuple(group.part_of(number.link) for group in groups)
    for part in number.parts:
        part.live += 1
    _push_anew(number)


def _push_anew(number: Number) -> None:
    """Make a number's entries stale and push new ones."""
    number.is_touched = False
    number.version, number.entry = entry_of(number.order, number.version + 1)
    for part in number.parts:
        part.push(number)
