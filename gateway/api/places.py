"""Places in requests and answers: area codes, states and provinces, countries, and how many of which."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Final

from gateway.api.bodies import Values
from gateway.api.errors import invalid
from gateway.pools import Pools
from resolver.composition import Counts, Place, Scope, count_places
from resolver.geography import AREA_CODES, calling_code
from resolver.model import NumberType, PowerpackRow

COUNT_MAX: Final = 100_000
COUNTED_IN_A_ROW: Final = 10_000
NAMES: Final[Mapping[str, Scope]] = {
    "area_codes": Scope.AREA_CODE, "regions": Scope.REGION, "countries": Scope.COUNTRY,
}  # fmt: skip
COUNTRY_OF_REGION: Final = {region: each.country for each in AREA_CODES.values() for region in each.regions}


def read_places(values: Values) -> dict[Place, int]:
    """How many of which place: objects under `area_codes`, `regions`, `countries`. Raises ApiError."""
    found: dict[Place, int] = {}
    for key, scope in NAMES.items():
        said = values.get(key)
        if said is None:
            continue
        if not isinstance(said, dict):
            raise invalid(key, "must be an object: how many of which")
        for name, count in said.items():
            if type(count) is not int or not 0 <= count <= COUNT_MAX:
                raise invalid(key, f"must have counts from 0 to {COUNT_MAX}")
            found[read_place(key, scope, str(name))] = count
    return found


def read_place(key: str, scope: Scope, name: str) -> Place:
    """Raises ApiError for a place that there is not."""
    place = Place(scope, name.strip().upper())
    if not country_of(place):
        raise invalid(key, f"names {name[:20]!a}, which is none")
    return place


def country_of(place: Place) -> str:
    """Its country; "" for what is no place."""
    if place.scope is Scope.AREA_CODE:
        return AREA_CODES[place.name].country if place.name in AREA_CODES else ""
    if place.scope is Scope.REGION:
        return COUNTRY_OF_REGION.get(place.name, "")
    return place.name if calling_code(place.name) else ""


def area_codes_of(place: Place) -> list[str]:
    """The area codes that lie in a place; none of a country that has none."""
    if place.scope is Scope.AREA_CODE:
        return [place.name]
    if place.scope is Scope.REGION:
        return [code for code, each in AREA_CODES.items() if place.name in each.regions]
    return [code for code, each in AREA_CODES.items() if each.country == place.name]


async def count_members(pools: Pools, row: PowerpackRow) -> Counts:
    """A powerpack's long codes by place; other requests get their turn meanwhile."""
    counts: Counts = count_places(())
    members = iter(list(pools.members[row.powerpack_id].values()))
    while some := list(islice(members, COUNTED_IN_A_ROW)):
        counts.update(count_places(each.number for each in some if each.type is NumberType.LONG_CODE))
        await asyncio.sleep(0)
    return counts
