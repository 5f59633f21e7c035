"""The numbers of a powerpack, under the three names Plivo has for them: Number, Tollfree, Shortcode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from gateway.api.arguments import read_flag
from gateway.api.bodies import read_bool, read_choice, read_object
from gateway.api.call import Call, Reply
from gateway.api.errors import api_error, invalid, missing
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import refusal_of
from gateway.api.shapes_number import Prefixes, read_type
from gateway.api.shapes_powerpack import pool_path, render_number
from gateway.edits import EditRefused
from gateway.listings import Facets, page, total
from gateway.numbers import Numbers
from gateway.pools import Pools
from resolver.geography import calling_code
from resolver.model import E164, NumberRow, NumberType, PoolId, PowerpackRow, Service
from storage.catalog_inventory import InventoryRow

PREFIXES_MAX: Final = 10

_is_digits = re.compile(r"[0-9]{1,15}").fullmatch


class Kind(NamedTuple):
    """One of the three: its name in the path, and which numbers it shows."""

    name: str
    shows: frozenset[NumberType]


NUMBER: Final = Kind("Number", frozenset({NumberType.LONG_CODE, NumberType.TOLL_FREE}))
TOLLFREE: Final = Kind("Tollfree", frozenset({NumberType.TOLL_FREE}))
SHORTCODE: Final = Kind("Shortcode", frozenset({NumberType.SHORT_CODE}))


class NumberPool:
    """/v1/Account/{auth_id}/NumberPool/{pool_uuid}/."""

    def __init__(self, pools: Pools, numbers: Numbers) -> None:
        self._pools = pools
        self._numbers = numbers

    async def root(self, call: Call) -> Reply:
        row = self._powerpack(call)
        path = pool_path(row)
        return call.json(
            {
                "uuid": row.pool_id,
                "numbers": f"{path}Number/",
                "shortcodes": f"{path}Shortcode/",
                "tollfree": f"{path}Tollfree/",
            }
        )

    async def list(self, call: Call, kind: Kind) -> Reply:
        row, query = self._powerpack(call), call.query()
        where = read_page(query)
        spans = self._pools.lists.of_powerpack(row.powerpack_id).pick(read_filter(query, kind))
        found = page(spans, offset=where.offset, limit=where.limit)
        objects = [self._shown(row, self._pools.numbers[number]) for number in found]
        return call.json(paged(f"{pool_path(row)}{kind.name}/", query, where, total=total(spans), objects=objects))

    async def get(self, call: Call, kind: Kind) -> Reply:
        row = self._powerpack(call)
        return call.json(self._shown(row, self._member(row, call, kind)))

    async def add(self, call: Call, kind: Kind) -> Reply:
        """Add a number the account has or, with `rent`, one that is for rent: it is rented and added, or neither.

        `service`: it is refused if it cannot do that; what it can do it does.
        """
        row, values = self._powerpack(call), read_object(call.body)
        service = read_choice(values, "service", Service) or Service.SMS
        number = read_number(call.params[2])
        owned = self._pools.numbers.get(number)
        is_own = owned is not None and owned.account_id == call.account_id
        if not is_own and not read_bool(values, "rent"):
            raise api_error("not_found", "the account has no such number")
        try:
            if is_own and owned is not None:
                _check_fits(owned, kind, service)
                joined = await self._pools.add_number(row, number)
            else:
                _check_fits(await self._numbers.offered(call.account_id, number), kind, service)
                joined = await self._numbers.rent(call.account_id, number, powerpack=row)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json(self._shown(row, joined))

    async def remove(self, call: Call, kind: Kind) -> Reply:
        """Take a number out. `unrent` gives it up for good, but never a short code (Plivo)."""
        row = self._powerpack(call)
        number = self._member(row, call, kind)
        gives_up = kind is not SHORTCODE and read_flag(call, "unrent")
        try:
            await self._pools.remove_number(row, number.number, gives_up=gives_up)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"response": "success"})

    def _powerpack(self, call: Call) -> PowerpackRow:
        powerpack_id = self._pools.powerpack_of_pool.get(PoolId(call.params[1].lower()))
        row = self._pools.powerpacks.get(powerpack_id) if powerpack_id is not None else None
        if row is None or row.account_id != call.account_id:
            raise api_error("not_found")
        return row

    def _member(self, row: PowerpackRow, call: Call, kind: Kind) -> NumberRow:
        number = self._pools.members.get(row.powerpack_id, {}).get(read_number(call.params[2]))
        if number is None or number.type not in kind.shows:
            raise api_error("not_found")
        return number

    def _shown(self, row: PowerpackRow, number: NumberRow) -> dict[str, object]:
        return render_number(number, account_id=row.account_id, pool_id=row.pool_id)


def _check_fits(number: NumberRow | InventoryRow, kind: Kind, service: Service) -> None:
    """Raises ApiError for a number of another type, or one that cannot do what it is meant for."""
    if number.type not in kind.shows:
        raise api_error("wrong_number_type", f"the number is a {number.type}, which {kind.name} does not hold")
    if service not in number.services:
        raise invalid("service", f"{service} is not what this number can do")


def read_number(written: str) -> E164:
    """Read one of our numbers from a path: with or without its plus; short codes have none."""
    digits = written.strip().removeprefix("+")
    return E164(digits if len(digits) <= 6 else f"+{digits}")


def read_filter(query: Mapping[str, str], kind: Kind) -> Prefixes:
    """Plivo's filters, with the names Java's SDK has for them.

    `starts_with` is without the country code, and needs to be told the country. Raises ApiError.
    """
    country = (query.get("country_iso2") or query.get("country_iso") or "").upper()
    asked = read_type(query) if kind is NUMBER else None
    types = kind.shows if asked is None else kind.shows & asked
    service = read_choice(query, "service", Service)
    begins = _read_prefixes(query, country)

    def prefixes(facets: Facets) -> Iterable[str]:
        if facets.type not in types or (service is not None and service not in facets.services):
            return ()
        if country and facets.country != country:
            return ()
        code = "" if facets.type is NumberType.SHORT_CODE or begins == ("",) else f"+{calling_code(country)}"
        return [code + each for each in begins]

    return prefixes


def _read_prefixes(query: Mapping[str, str], country: str) -> tuple[str, ...]:
    """How numbers begin that are wanted: ("",) is anyhow. None of them begins like another."""
    said = query.get("starts_with") or query.get("pattern") or ""
    prefixes = sorted({each.strip() for each in said.split(",")} - {""})
    if not prefixes:
        return ("",)
    if len(prefixes) > PREFIXES_MAX:
        raise invalid("starts_with", f"has more than {PREFIXES_MAX} prefixes")
    if not all(map(_is_digits, prefixes)):
        raise invalid("starts_with", "must be digits, without the country code")
    if not country:
        raise missing("country_iso2")
    if not calling_code(country):
        raise invalid("country_iso2", "is no country")
    found: list[str] = []
    for prefix in prefixes:
        if not found or not prefix.startswith(found[-1]):
            found.append(prefix)
    return tuple(found)
