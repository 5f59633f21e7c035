"""Simulate: what would become of a plan in a powerpack as it is, on a copy that nothing is sent from."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from random import Random
from typing import Final

from gateway.api.arguments import read_own
from gateway.api.bodies import Values, read_choice, read_integer, read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error, api_error_of, invalid, missing
from gateway.api.places import NAMES, area_codes_of, read_places
from gateway.api.powerpacks import find_powerpack
from gateway.api.shapes_advice import SEGMENTS_MAX, read_rate, render_course
from gateway.api.shapes_message import EXPIRY_S_DEFAULT, EXPIRY_S_MAX, EXPIRY_S_MIN, PATIENCE_MS_MAX
from gateway.api.times import read_filter
from gateway.clock import Clock
from gateway.pools import Pools
from resolver.compliance import check_recipient
from resolver.composition import Place
from resolver.core import Resolver
from resolver.model import E164, PowerpackRow, Priority, Refusal, Request, RequestId, Service
from resolver.simulation import Arrival, Simulation, copy_into, dissolve

DAY_MS: Final = 86_400_000
MESSAGES_MAX: Final = 50_000  # of a plan: about 20 µs each
RECIPIENTS_MAX: Final = 10_000
NUMBERS_MAX: Final = 20_000  # of a powerpack that is copied: about 20 µs each
BACKLOG_MAX: Final = 50_000
SPAN_MS_MAX: Final = 7 * DAY_MS
STEPS_IN_A_ROW: Final = 100  # between two turns of the loop
SIMULATE_KEYS: Final = (
    *NAMES, "recipients", "segments", "type", "priority", "patience_ms", "message_expiry", "start_at", "per_second",
)  # fmt: skip


class Simulate:
    """POST /v1/Account/{auth_id}/Powerpack/{powerpack_uuid}/Simulate/."""

    def __init__(self, resolver: Resolver, pools: Pools, *, clock: Clock, allowed_countries: frozenset[str]) -> None:
        self._resolver = resolver
        self._pools = pools
        self._clock = clock
        self._allowed_countries = allowed_countries
        self._running = asyncio.Lock()

    def table(self) -> list[tuple[str, str, Handler]]:
        return [("POST", "Powerpack/{powerpack_uuid}/Simulate/", self.post)]

    async def post(self, call: Call) -> Reply:
        """Run a plan on a copy, in turns of the loop; one plan at a time."""
        row, values = find_powerpack(self._pools, call), read_own(call, SIMULATE_KEYS)
        request, now_ms = _read_request(row, values), self._clock.now_ms()
        recipients = list(self._read_recipients(row, values))
        starts_ms, gap_ms = _read_start(values, now_ms), _read_gap(values, len(recipients))
        waiting = self._check_size(row)
        if self._running.locked():
            raise api_error("overloaded", "another plan is being simulated; try again")
        plan = (Arrival(starts_ms + int(place * gap_ms), each) for place, each in enumerate(recipients))
        named = recipients if "recipients" in values else ()
        async with self._running:
            copy = Resolver()
            try:
                for step, _ in enumerate(copy_into(copy, self._resolver, row.powerpack_id, named, now_ms=now_ms)):
                    if step % STEPS_IN_A_ROW == 0:
                        await asyncio.sleep(0)
                draw = Random(0).random  # noqa: S311  # same plan, same answer
                simulation = Simulation(copy, request, plan, now_ms=now_ms, draw=draw)
                while simulation.run(STEPS_IN_A_ROW):  # noqa: ASYNC110  # others get their turn
                    await asyncio.sleep(0)
                recommended = {number.number: number.day_recommended for number in copy.numbers.values()}
            finally:
                dissolve(copy)
        shown = render_course(simulation.course, recommended, starts_ms=starts_ms)
        return call.json({**shown, "waiting_before": waiting})

    def _check_size(self, row: PowerpackRow) -> int:
        """How many messages wait in the powerpack. Raises ApiError for one that is too large to be copied."""
        pool = self._resolver.pools[row.powerpack_id]
        if len(pool.numbers) > NUMBERS_MAX:
            raise invalid("the powerpack", f"has more than {NUMBERS_MAX} numbers, too many to be copied")
        waiting = sum(number.messages for number in pool.busy)
        if waiting > BACKLOG_MAX:
            raise invalid("the powerpack", f"has more than {BACKLOG_MAX} messages waiting, too many to be copied")
        return waiting

    def _read_recipients(self, row: PowerpackRow, values: Values) -> Iterator[E164]:
        """Whom the plan writes to, in order; those of places are made up, and come in turn."""
        said, places = values.get("recipients"), read_places(values)
        if (said is None) is not bool(places):
            raise missing("area_codes, regions, countries or recipients")
        if said is None:
            if sum(places.values()) > MESSAGES_MAX:
                raise api_error("too_many_recipients", f"a plan has at most {MESSAGES_MAX} messages")
            yield from _made_up(places, set(self._pools.members.get(row.powerpack_id, {})))
            return
        if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
            raise invalid("recipients", "must be a list of numbers")
        if len(said) > RECIPIENTS_MAX:
            raise api_error("too_many_recipients", f"recipients has {len(said)} entries; at most {RECIPIENTS_MAX}")
        for each in said:
            checked = check_recipient(each, self._allowed_countries)
            if isinstance(checked, Refusal):
                raise api_error_of(checked)
            yield checked


def _made_up(places: Mapping[Place, int], ours: set[E164]) -> Iterator[E164]:
    """Numbers of each place, no two alike and none of ours, evenly mixed."""
    turns = sorted(
        ((turn + 0.5) / count, place.scope, place.name, turn)
        for place, count in places.items()
        for turn in range(count)
    )
    codes = {place: area_codes_of(place) for place in places}
    lines: Counter[str] = Counter()
    for _, scope, name, turn in turns:
        among = codes[Place(scope, name)]
        if not among:
            raise invalid("countries", f"has {name}, of which no area codes are known: name recipients")
        code = among[turn % len(among)]
        while True:
            lines[code] += 1
            number = E164(f"+1{code}{2_000_000 + lines[code]}")
            if number not in ours:
                break
        yield number


def _read_request(row: PowerpackRow, values: Values) -> Request:
    expiry_s = read_integer(values, "message_expiry", least=EXPIRY_S_MIN, most=EXPIRY_S_MAX)
    return Request(
        RequestId(""),
        row.account_id,
        row.powerpack_id,
        "",
        read_integer(values, "segments", least=1, most=SEGMENTS_MAX) or 1,
        service=read_choice(values, "type", Service) or Service.SMS,
        priority=read_choice(values, "priority", Priority) or Priority.BULK,
        patience_ms=read_integer(values, "patience_ms", least=0, most=PATIENCE_MS_MAX),
        validity_ms=(EXPIRY_S_DEFAULT if expiry_s is None else expiry_s) * 1_000,
    )


def _read_start(values: Values, now_ms: int) -> int:
    said = read_text(values, "start_at")
    if not said:
        return now_ms
    at_ms = read_filter(said)
    if at_ms is None or not now_ms - DAY_MS <= at_ms <= now_ms + SPAN_MS_MAX:
        raise invalid("start_at", "must be written YYYY-MM-DD HH:MM[:ss], in UTC, and lie within seven days")
    return max(at_ms, now_ms)


def _read_gap(values: Values, count: int) -> Fraction:
    """Milliseconds between two messages; 0: all at once."""
    rate = read_rate(values, "per_second")
    gap_ms = 1_000 / rate if rate is not None else Fraction(0)
    if gap_ms * count > SPAN_MS_MAX:
        raise invalid("per_second", "lets the plan take more than seven days")
    return gap_ms
