"""A powerpack's naive twin: it walks all numbers for each decision and says what the law says, step by step.

Of the numbers that are equally good it gives the set; which of them is drawn is the resolver's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from resolver.compliance import destination_takes
from resolver.geography import locate
from resolver.limits import default_limits, padded_span_ms
from resolver.model import (
    E164,
    CarrierName,
    Limits,
    Location,
    NumberRow,
    NumberState,
    NumberType,
    PowerpackRow,
    Priority,
    RefusalCode,
    Request,
    StickyAtLimit,
    Tier,
)
from tests.unit.resolver.twins import DAY_MS, WindowTwin

GRACE_MS = 5_000
NEIGHBOR = {"US": "CA", "CA": "US"}
SHORT, FREE, LONG = NumberType.SHORT_CODE, NumberType.TOLL_FREE, NumberType.LONG_CODE
DEFAULT_ORDER = {"US": (SHORT, FREE, LONG), "CA": (SHORT, LONG, FREE)}
NO_LIMIT = 1 << 30


@dataclass(eq=False)
class Waiting:
    """A message that was decided for a number and has not been handed over."""

    units: int
    urgent: bool
    booked: bool
    released: bool = False


@dataclass(eq=False)
class LinkTwin:
    window: WindowTwin
    down_since_ms: int | None = None

    def fits(self, now_ms: int) -> bool:
        return self.down_since_ms is None or now_ms < self.down_since_ms + GRACE_MS


@dataclass(eq=False)
class NumberTwin:
    row: NumberRow
    rate: WindowTwin
    day: WindowTwin
    waiting: list[Waiting] = field(default_factory=list)
    used_ms: int = 0

    @classmethod
    def of(cls, row: NumberRow) -> NumberTwin:
        limits = limits_of(row)
        rate = WindowTwin(limits.segments, padded_span_ms(limits.span_ms))
        return cls(row, rate, WindowTwin(limits.day_limit or NO_LIMIT, DAY_MS))

    def change(self, row: NumberRow) -> None:
        limits = limits_of(row)
        self.row = row
        self.rate.limit, self.rate.span_ms = limits.segments, padded_span_ms(limits.span_ms)
        self.day.limit = limits.day_limit or NO_LIMIT

    def forecast_ms(self, request: Request, now_ms: int) -> int:
        """Behind what waits; an urgent one only behind the urgent, what holds a slot, and each fifth bulk one."""
        before = list(self.waiting)
        ahead = sum(each.units for each in before)
        if request.priority is Priority.URGENT:
            before = [each for each in self.waiting if each.urgent]
            urgent = sum(each.units for each in before)
            first = urgent + sum(each.units for each in self.waiting if each.released and not each.urgent)
            ahead = first + min(ahead - first, urgent // 4)
        rate_ms = self.rate.forecast_ms(ahead, request.segments, now_ms)
        return max(rate_ms, self.day.forecast_ms(len(before), 1, now_ms)) if self.day.limit < NO_LIMIT else rate_ms

    def idle_since_ms(self) -> int:
        return max(self.rate.lawful_ms(1), self.day.lawful_ms(1))

    def is_rested(self, now_ms: int) -> bool:
        """Whether what it handed over in 24 hours and what waits at it is below its recommendation."""
        in_day = sum(each > now_ms - DAY_MS for each in self.day.charges)
        return in_day + len(self.waiting) < limits_of(self.row).day_recommended


@dataclass
class ThreadTwin:
    number: E164
    detour: E164 | None
    last_ms: int


@dataclass
class Expected:
    """What a decision must be: one of `numbers`, or a refusal."""

    tier: Tier = Tier.NONE
    forecast_ms: int | None = None
    numbers: frozenset[E164] = frozenset()
    refusal: RefusalCode | None = None
    retry_at_ms: int | None = None


@dataclass(eq=False)
class PackTwin:
    """See above."""

    row: PowerpackRow
    links: dict[CarrierName, LinkTwin]
    numbers: dict[E164, NumberTwin] = field(default_factory=dict)
    threads: dict[E164, ThreadTwin] = field(default_factory=dict)
    excluded_networks: frozenset[str] = frozenset()

    # -- one decision ---------------------------------------------------------------------------------------------

    def decide(self, request: Request, to: E164, *, now_ms: int, operator: str = "") -> Expected:
        if to in self.numbers:
            return Expected(refusal=RefusalCode.DESTINATION_IS_SOURCE)
        asked = Asked(self, request, to, now_ms, operator)
        thread = self.threads.get(to) if self.row.sticky_sender else None
        if thread is None or thread.last_ms + self.row.sticky_life_ms <= now_ms or thread.number not in self.numbers:
            return asked.climb() or asked.last_resort()
        return asked.by_thread(thread)

    def follow(self, to: E164, number: E164, tier: Tier, *, now_ms: int) -> None:
        """What an accepted decision does to the thread."""
        thread = self.threads.get(to)
        if (
            thread is None
            or thread.last_ms + self.row.sticky_life_ms <= now_ms
            or tier not in (Tier.STICKY, Tier.DETOUR)
        ):
            self.threads[to] = ThreadTwin(number, None, now_ms)
        else:
            thread.detour = number if tier is Tier.DETOUR else None
            thread.last_ms = now_ms


@dataclass
class Asked:
    """One decision's question, and the steps to its answer."""

    pack: PackTwin
    request: Request
    to: E164
    now_ms: int
    operator: str

    def __post_init__(self) -> None:
        location = locate(self.to)
        assert location is not None
        self.location: Location = location
        patience_ms = self.pack.row.patience_ms if self.request.patience_ms is None else self.request.patience_ms
        self.latest_ms = self.now_ms + self.request.validity_ms
        self.horizon_ms = min(self.latest_ms, self.now_ms + patience_ms)
        self.known: dict[object, int] = {}  # forecasts, since simulating takes its time

    # -- what a number can do -------------------------------------------------------------------------------------

    def serves(self, number: NumberTwin) -> bool:
        row = number.row
        return (
            row.state is NumberState.ACTIVE
            and self.request.service in row.services
            and destination_takes(
                row.type, row.country, row.verified, self.location, self.operator, self.pack.excluded_networks
            )
        )

    def link_of(self, number: NumberTwin) -> LinkTwin:
        return self.pack.links[number.row.carrier]

    def link_ms(self, number: NumberTwin) -> int:
        """When the number's link is free, behind what waits for it."""
        if number.row.carrier not in self.known:
            self.known[number.row.carrier] = self.simulated_link_ms(number)
        return self.known[number.row.carrier]

    def simulated_link_ms(self, number: NumberTwin) -> int:
        on_it = [each for each in self.pack.numbers.values() if each.row.carrier == number.row.carrier]
        ahead = sum(waiting.units for each in on_it for waiting in each.waiting if waiting.booked)
        return self.link_of(number).window.forecast_ms(ahead, self.request.segments, self.now_ms)

    def forecast_ms(self, number: NumberTwin) -> int:
        return max(self.by_number(number), self.link_ms(number))

    # -- the ladder -----------------------------------------------------------------------------------------------

    def types(self) -> list[NumberType]:
        country, row = self.location.country, self.pack.row
        order = list(row.priority.get((country, self.request.service)) or DEFAULT_ORDER[country])
        first = row.operator_types.get(self.operator)
        return order if first is None else [first, *[each for each in order if each is not first]]

    def rungs(self, number_type: NumberType) -> list[tuple[Tier, list[list[NumberTwin]]]]:
        """Each tier with its groups: only the regions of an overlay are more than one."""
        place = self.location
        mine = [each for each in self.pack.numbers.values() if each.row.type is number_type and self.serves(each)]
        if number_type is NumberType.TOLL_FREE:
            return [(Tier.COUNTRY, [mine])]
        home = [each for each in mine if each.row.country == place.country]
        tiers: list[tuple[Tier, list[list[NumberTwin]]]] = [(Tier.COUNTRY, [home])]
        if number_type is NumberType.LONG_CODE:
            if self.pack.row.local_connect:
                area = [each for each in home if area_of(each) == place.area_code]
                regions = [[each for each in home if region in regions_of(each)] for region in sorted(place.regions)]
                tiers = [(Tier.AREA, [area]), (Tier.REGION, regions), *tiers]
            tiers.append((Tier.NEIGHBOR, [[each for each in mine if each.row.country == NEIGHBOR.get(place.country)]]))
        return tiers

    def climb(self) -> Expected | None:
        for number_type in self.types():
            for tier, groups in self.rungs(number_type):
                numbers = {each.row.number: each for group in groups for each in group}.values()
                found = [
                    each for each in numbers if self.link_of(each).fits(self.now_ms) and each.is_rested(self.now_ms)
                ]
                expected = self.best(tier, found, self.horizon_ms)
                if expected is not None:
                    return expected
        return None

    def best(self, tier: Tier, numbers: Sequence[NumberTwin], latest_ms: int) -> Expected | None:
        """The soonest; of those that could leave now the never used, else the least recently used."""
        if not numbers:
            return None
        soonest_ms = min(map(self.forecast_ms, numbers))
        if soonest_ms > latest_ms:
            return None
        good = [each for each in numbers if self.forecast_ms(each) == soonest_ms]
        if soonest_ms == self.now_ms:
            fresh = [each for each in good if not each.used_ms and not each.waiting]
            least = min(each.used_ms for each in good)
            idle_ms = min(each.idle_since_ms() for each in good)  # used until its last text was paid for: as good
            good = fresh or [each for each in good if each.used_ms == least or each.idle_since_ms() == idle_ms]
        return Expected(tier, soonest_ms, names(good))

    def last_resort(self) -> Expected:
        everything = [
            each for kind in self.types() for _, groups in self.rungs(kind) for group in groups for each in group
        ]
        up = [each for each in everything if self.link_of(each).fits(self.now_ms)]
        down = [each for each in everything if each not in up]
        found = self.best(Tier.SOONEST, up, self.latest_ms) or self.behind_links(down)
        if found is not None:
            return found
        if not everything:
            return Expected(refusal=RefusalCode.NO_NUMBER)
        soonest_ms = min(self.forecast_ms(each) for each in up) if up else min(self.by_number(each) for each in down)
        return Expected(refusal=RefusalCode.NO_CAPACITY, retry_at_ms=soonest_ms - self.request.validity_ms)

    def behind_links(self, down: list[NumberTwin]) -> Expected | None:
        """Where it would have gone, were the links not down: by the numbers alone."""
        for kind in self.types():
            for tier, groups in self.rungs(kind):
                for group in groups:
                    found = [each for each in group if each in down and each.is_rested(self.now_ms)]
                    if found and min(map(self.by_number, found)) <= self.horizon_ms:
                        return Expected(tier, None, self.soonest_by_number(found))
        if down and min(map(self.by_number, down)) <= self.latest_ms:
            return Expected(Tier.SOONEST, None, self.soonest_by_number(down))
        return None

    def by_number(self, number: NumberTwin) -> int:
        if number not in self.known:
            self.known[number] = number.forecast_ms(self.request, self.now_ms)
        return self.known[number]

    def soonest_by_number(self, numbers: list[NumberTwin]) -> frozenset[E164]:
        least = min(map(self.by_number, numbers))
        return names(each for each in numbers if self.by_number(each) == least)

    # -- the thread -----------------------------------------------------------------------------------------------

    def by_thread(self, thread: ThreadTwin) -> Expected:
        policy, first = self.pack.row.sticky_at_limit, self.pack.numbers[thread.number]
        first_ms = self.forecast_ms(first)
        link_fits = self.link_of(first).fits(self.now_ms)
        is_open = self.serves(first) and link_fits
        its_own = Expected(Tier.STICKY, first_ms, names([first]))
        wait_ms = (
            min(self.pack.row.sticky_wait_ms, self.horizon_ms - self.now_ms) if policy is StickyAtLimit.WAIT else 0
        )
        if is_open and first_ms - self.now_ms <= wait_ms:
            return its_own
        if is_open and policy is StickyAtLimit.REFUSE:
            return Expected(refusal=RefusalCode.STICKY_AT_LIMIT, retry_at_ms=first_ms)
        remap = is_open and policy is StickyAtLimit.REMAP
        second = self.pack.numbers.get(thread.detour) if thread.detour is not None and not remap else None
        if second is not None and self.serves(second) and self.link_of(second).fits(self.now_ms):
            second_ms = self.forecast_ms(second)
            if second_ms <= self.horizon_ms and not (is_open and first_ms <= second_ms):
                return Expected(Tier.DETOUR, second_ms, names([second]))
        found = self.climb()
        if found is not None and not (is_open and first_ms <= (found.forecast_ms or 0)):
            return Expected(found.tier if remap else Tier.DETOUR, found.forecast_ms, found.numbers)
        if is_open and first_ms <= self.latest_ms:
            return its_own
        found = self.last_resort()
        if found.refusal is not None:
            return found
        if found.forecast_ms is None and self.serves(first) and not link_fits:
            return Expected(Tier.STICKY, None, names([first]))
        return Expected(Tier.DETOUR, found.forecast_ms, found.numbers)


def names(numbers: Iterable[NumberTwin]) -> frozenset[E164]:
    return frozenset(each.row.number for each in numbers)


def limits_of(row: NumberRow) -> Limits:
    return row.limits or default_limits(row.type, row.country, row.campaign_approved)


def area_of(number: NumberTwin) -> str:
    location = locate(number.row.number)
    return location.area_code if location is not None else ""


def regions_of(number: NumberTwin) -> frozenset[str]:
    location = locate(number.row.number)
    return location.regions if location is not None else frozenset()
