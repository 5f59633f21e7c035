"""The numbers of a powerpack, under the three names Plivo has for them: Number, Tollfree, Shortcode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gateway.api.arguments import read_flag
from gateway.api.bodies import one_of, read_bool, read_choice, read_object
from gateway.api.call import Call, Reply
from gateway.api.errors import api_error, invalid
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import refusal_of
from gateway.api.shapes_powerpack import pool_path, render_number
from gateway.edits import EditRefused
from gateway.pools import Pools
from resolver.model import E164, NumberRow, NumberType, PoolId, PowerpackRow, Service

PREFIXES_MAX: Final = 10
LOOKED_AT_IN_A_ROW: Final = 10_000  # numbers between two turns of the loop: about 2 ms

FIXED: Final = frozenset({NumberType.LONG_CODE})
TYPES: Final[Mapping[str, frozenset[NumberType]]] = {
    "fixed": FIXED,
    "local": FIXED,
    "mobile": frozenset(),  # we do not tell mobile from fixed: in North America nobody can
    "tollfree": frozenset({NumberType.TOLL_FREE}),
    "toll-free": frozenset({NumberType.TOLL_FREE}),
}


class Kind(NamedTuple):
    """One of the three: its name in the path, and which numbers it shows."""

    name: str
    shows: frozenset[NumberType]


NUMBER: Final = Kind("Number", frozenset({NumberType.LONG_CODE, NumberType.TOLL_FREE}))
TOLLFREE: Final = Kind("Tollfree", frozenset({NumberType.TOLL_FREE}))
SHORTCODE: Final = Kind("Shortcode", frozenset({NumberType.SHORT_CODE}))


class NumberPool:
    """/v1/Account/{auth_id}/NumberPool/{pool_uuid}/."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

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
        page = read_page(query)
        wanted = read_filter(query, kind)
        found: list[NumberRow] = []
        for place, number in enumerate(list(self._pools.members.get(row.powerpack_id, {}).values())):
            if place % LOOKED_AT_IN_A_ROW == LOOKED_AT_IN_A_ROW - 1:
                await asyncio.sleep(0)
            if wanted(number):
                found.append(number)
        shown = found[page.offset : page.offset + page.limit]
        objects = [self._shown(row, number) for number in shown]
        return call.json(paged(f"{pool_path(row)}{kind.name}/", query, page, total=len(found), objects=objects))

    async def get(self, call: Call, kind: Kind) -> Reply:
        row = self._powerpack(call)
        return call.json(self._shown(row, self._member(row, call, kind)))

    async def add(self, call: Call, kind: Kind) -> Reply:
        """Add a number the account has. `service` may take MMS away from one that can do both, never give it."""
        row, values = self._powerpack(call), read_object(call.body)
        if read_bool(values, "rent"):
            raise api_error("not_supported_yet", "renting numbers is not built yet; add numbers the account has")
        service = read_choice(values, "service", Service) or Service.SMS
        number = self._pools.numbers.get(read_number(call.params[2]))
        if number is None or number.account_id != call.account_id:
            raise api_error("not_found", "the account has no such number")
        if number.type not in kind.shows:
            raise api_error("wrong_number_type", f"the number is a {number.type}, which {kind.name} does not hold")
        if service not in number.services:
            raise invalid("service", f"{service} is not what this number can do")
        try:
            joined = await self._pools.add_number(row, number.number)
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


def read_number(written: str) -> E164:
    """Read one of our numbers from a path: with or without its plus; short codes have none."""
    digits = written.strip().removeprefix("+")
    return E164(digits if len(digits) <= 6 else f"+{digits}")


def read_filter(query: Mapping[str, str], kind: Kind) -> Callable[[NumberRow], bool]:
    """Plivo's filters, with the names Java's SDK has for them. `starts_with` is without the country code."""
    country = (query.get("country_iso2") or query.get("country_iso") or "").upper()
    types = _read_types(query, kind)
    service = read_choice(query, "service", Service)
    starts_with = query.get("starts_with") or query.get("pattern") or ""
    prefixes = tuple(each.strip() for each in starts_with.split(",") if each.strip())
    if len(prefixes) > PREFIXES_MAX:
        raise invalid("starts_with", f"has more than {PREFIXES_MAX} prefixes")

    def wanted(number: NumberRow) -> bool:
        return (
            number.type in types
            and (not country or number.country == country)
            and (service is None or service in number.services)
            and (not prefixes or _national(number).startswith(prefixes))
        )

    return wanted


def _read_types(query: Mapping[str, str], kind: Kind) -> frozenset[NumberType]:
    word = (query.get("type") or "").lower() if kind is NUMBER else ""
    if not word:
        return kind.shows
    if word not in TYPES:
        raise invalid("type", one_of(list(TYPES)))
    return TYPES[word] & kind.shows


def _national(number: NumberRow) -> str:
    return number.number.removeprefix("+1") if number.country in ("US", "CA") else number.number.removeprefix("+")
