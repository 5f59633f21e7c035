"""Of which places a powerpack's long codes are, and how many of which place it lacks.

A number counts for its area code, for its state or province, and for its country; of an area code that lies in several
the first by name counts. So a number bought for an area code serves a count wanted of its region and its country, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from resolver.geography import AREA_CODES, locate
from resolver.model import Word


class Scope(Word):
    """How wide a place is, the narrowest first."""

    AREA_CODE = "area_code"
    REGION = "region"
    COUNTRY = "country"


class Place(NamedTuple):
    """`name` is an area code, the two letters of a state or province, or those of a country."""

    scope: Scope
    name: str


class Lack(NamedTuple):
    """So many more long codes are wanted of a place."""

    place: Place
    more: int


Counts = Counter[Place]


def places_of(number: str) -> tuple[Place, ...]:
    """The places a long code counts for, the narrowest first; about a microsecond."""
    location = locate(number)
    if location is None:
        return ()
    country = Place(Scope.COUNTRY, location.country)
    if not location.area_code:
        return (country,)
    region = min(location.regions, default="")
    area_code = Place(Scope.AREA_CODE, location.area_code)
    return (area_code, Place(Scope.REGION, region), country) if region else (area_code, country)


def count_places(numbers: Iterable[str]) -> Counts:
    """How many of these long codes there are of each place."""
    return Counter(place for number in numbers for place in places_of(number))


def lacks(there_are: Mapping[Place, int], wanted: Mapping[Place, int]) -> list[Lack]:
    """What must be added so that of each place there are as many as wanted: never more than that takes.

    Narrow places come first, so what is added for them counts for the wider ones around.
    """
    counts, found = Counter(there_are), list[Lack]()
    for scope in Scope:
        for place in sorted(each for each in wanted if each.scope is scope):
            count = wanted[place] - counts[place]
            if count > 0:
                found.append(Lack(place, count))
                for around in _around(place):
                    counts[around] += count
    return found


def _around(place: Place) -> tuple[Place, ...]:
    """A place and those it lies in."""
    if place.scope is Scope.AREA_CODE and place.name in AREA_CODES:
        return places_of(f"+1{place.name}")
    region = next((each for each in AREA_CODES.values() if min(each.regions) == place.name), None)
    if place.scope is Scope.REGION and region is not None:
        return (place, Place(Scope.COUNTRY, region.country))
    return (place,)
