"""Recommend: how many long codes a volume needs, where, and what a powerpack lacks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Final, Protocol

from gateway.api.arguments import read_own
from gateway.api.bodies import Values, read_integer, read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error, invalid, missing
from gateway.api.places import NAMES, count_members, country_of, read_place
from gateway.api.shapes_advice import SEGMENTS_MAX, read_rate, render_need
from gateway.clock import Clock
from gateway.pools import Pools
from resolver.composition import Place, Scope, lacks, places_of
from resolver.model import AccountId, PowerpackId, PowerpackRow
from resolver.sizing import Need, size, spread

DAY_MS: Final = 86_400_000
DAILY_MAX: Final = 100_000_000
OBSERVED_DAYS_MAX: Final = 30
RECOMMEND_KEYS: Final = (
    "daily_us", "daily_ca", "peak_per_second", "segments", "area_codes", "regions", "observed_days", "powerpack_uuid",
)  # fmt: skip


class Destinations(Protocol):
    """What is needed of the archive: to which area codes the account wrote, of its newest messages."""

    async def destinations(
        self, account_id: AccountId, powerpack_id: PowerpackId | None, *, since_ms: int
    ) -> Mapping[str, int]: ...


class Recommend:
    """GET /v1/Account/{auth_id}/Powerpack/Recommend/."""

    def __init__(self, pools: Pools, archive: Destinations, *, clock: Clock) -> None:
        self._pools = pools
        self._archive = archive
        self._clock = clock

    def table(self) -> list[tuple[str, str, Handler]]:
        return [("GET", "Powerpack/Recommend/", self.get)]

    async def get(self, call: Call) -> Reply:
        values = read_own(call, RECOMMEND_KEYS)
        needs = _read_needs(values)
        row = self._named(call, values)
        shares, mix = _read_shares(values), "given"
        days = read_integer(values, "observed_days", least=1, most=OBSERVED_DAYS_MAX)
        if not shares:
            shares, mix = Counter[Place](), "none"
            if days is not None:
                since_ms = self._clock.now_ms() - days * DAY_MS
                powerpack_id = row.powerpack_id if row is not None else None
                seen = await self._archive.destinations(call.account_id, powerpack_id, since_ms=since_ms)
                shares, mix = _regions_of(seen), "observed"
        elif days is not None:
            raise invalid("observed_days", "cannot go with a mix that is given")
        wanted: dict[Place, int] = {}
        for need in needs:
            wanted |= spread(need.numbers, {each: count for each, count in shares.items() if _is_in(each, need)})
            wanted[Place(Scope.COUNTRY, need.country)] = need.numbers
        answer: dict[str, object] = {
            "numbers": sum(need.numbers for need in needs),
            "countries": [render_need(need) for need in needs],
            "mix": mix,
            "composition": _by_name(wanted),
        }
        if row is not None:
            found = lacks(await count_members(self._pools, row), wanted)
            answer["lacks"] = _by_name({lack.place: lack.more for lack in found})
        return call.json(answer)

    def _named(self, call: Call, values: Values) -> PowerpackRow | None:
        powerpack_id = read_text(values, "powerpack_uuid")
        if not powerpack_id:
            return None
        row = self._pools.powerpacks.get(PowerpackId(powerpack_id.lower()))
        if row is None or row.account_id != call.account_id:
            raise api_error("not_found", "there is no such powerpack")
        return row


def _read_needs(values: Values) -> list[Need]:
    daily = {
        country: read_integer(values, f"daily_{country.lower()}", least=0, most=DAILY_MAX) or 0
        for country in ("US", "CA")
    }
    if not any(daily.values()):
        raise missing("daily_us or daily_ca")
    peak = read_rate(values, "peak_per_second") or Fraction(0)
    segments = read_integer(values, "segments", least=1, most=SEGMENTS_MAX) or 1
    whole = sum(daily.values())
    return [
        size(country, daily=count, peak_per_s=peak * count / whole, segments=segments)
        for country, count in daily.items()
        if count
    ]


def _read_shares(values: Values) -> Counter[Place]:
    """`regions=CA:60,NY:40` or `area_codes=415:3,212:1`; the parts are relative."""
    shares: Counter[Place] = Counter()
    for key in ("area_codes", "regions"):
        for part in filter(None, (read_text(values, key) or "").split(",")):
            name, _, share = part.partition(":")
            if not (share.isascii() and share.isdecimal() and len(share) <= 9):
                raise invalid(key, "must be written place:share, as in CA:60,NY:40")
            shares[read_place(key, NAMES[key], name)] += int(share)
    if len({place.scope for place in shares}) > 1:
        raise invalid("regions", "cannot go with area_codes")
    return shares


def _regions_of(seen: Mapping[str, int]) -> Counter[Place]:
    """By state or province, from how the recipients' numbers begin."""
    shares: Counter[Place] = Counter()
    for prefix, count in seen.items():
        for place in places_of(prefix):
            if place.scope is Scope.REGION:
                shares[place] += count
    return shares


def _is_in(place: Place, need: Need) -> bool:
    return country_of(place) == need.country


def _by_name(counts: Mapping[Place, int]) -> dict[str, dict[str, int]]:
    """As Composition/ takes it."""
    return {
        name: {place.name: count for place, count in counts.items() if place.scope is scope and count}
        for name, scope in NAMES.items()
    }
