"""Composition: of which places a powerpack's long codes are, and buying what is wanting, told with its price first."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from gateway.api.arguments import read_own
from gateway.api.bodies import one_of, read_bool, read_choice, read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error, invalid, missing
from gateway.api.places import COUNTRY_OF_REGION, NAMES, count_members, read_places
from gateway.api.powerpacks import find_powerpack
from gateway.edits import EditRefused
from gateway.numbers import Numbers
from gateway.pools import Pools
from resolver.composition import Counts, Lack, Place, Scope, lacks
from resolver.geography import AREA_CODES, calling_code
from resolver.model import AccountId, NumberType, PowerpackRow, Service
from storage.catalog_inventory import InventoryRow, Search

BOUGHT_MAX: Final = 100  # of one request
KEYS: Final = (*NAMES, "service", "confirm", "setup_rate", "monthly_rate")


class Composition:
    """/v1/Account/{auth_id}/Powerpack/{powerpack_uuid}/Composition/."""

    def __init__(self, pools: Pools, numbers: Numbers) -> None:
        self._pools = pools
        self._numbers = numbers

    def table(self) -> list[tuple[str, str, Handler]]:
        path = "Powerpack/{powerpack_uuid}/Composition/"
        return [("GET", path, self.get), ("POST", path, self.fill)]

    async def get(self, call: Call) -> Reply:
        read_own(call, ())
        row = find_powerpack(self._pools, call)
        return call.json(_shown(await count_members(self._pools, row)))

    async def fill(self, call: Call) -> Reply:
        """Say what it takes to have what is wanted and, with `confirm`, buy it. What is there counts, so it repeats."""
        values = read_own(call, KEYS)
        row = find_powerpack(self._pools, call)
        wanted = read_places(values)
        if not wanted:
            raise missing(one_of(tuple(NAMES)).removeprefix("must be "))
        service = read_choice(values, "service", Service) or Service.SMS
        confirmed = bool(read_bool(values, "confirm"))
        found = lacks(await count_members(self._pools, row), wanted)
        if sum(lack.more for lack in found) > BOUGHT_MAX:
            raise invalid("the composition", f"lacks more than {BOUGHT_MAX} numbers; ask for it in steps")
        offers, short = await self._offers(call.account_id, found, service)
        setup, monthly = _total(each.setup_rate for each in offers), _total(each.monthly_rate for each in offers)
        for name, rate in (("setup_rate", setup), ("monthly_rate", monthly)):
            told = read_text(values, name)
            if confirmed and told is not None and _decimal(name, told) != Decimal(rate):
                raise api_error("price_changed", f"its {name} is {rate} now; nothing was bought")
        statuses = await self._buy(row, offers) if confirmed else ["offered"] * len(offers)
        answer: dict[str, object] = {
            "powerpack_uuid": row.powerpack_id,
            "confirmed": confirmed,
            "setup_rate": setup,
            "monthly_rate": monthly,
            "numbers": [_shown_offer(offer, status) for offer, status in zip(offers, statuses, strict=True)],
            "short": [{"scope": lack.place.scope, "name": lack.place.name, "count": lack.more} for lack in short],
        }
        return call.json(answer)

    async def _offers(
        self, account_id: AccountId, found: list[Lack], service: Service
    ) -> tuple[list[InventoryRow], list[Lack]]:
        """Numbers for rent that fill what is lacking, each once; and what nobody offers."""
        offers: dict[str, InventoryRow] = {}
        short: list[Lack] = []
        for lack in found:
            search = _search_of(lack.place, service)
            page = await self._numbers.search(account_id, search, limit=lack.more + len(offers), offset=0)
            fresh = [each for each in page.rows if each.number not in offers][: lack.more]
            offers |= {each.number: each for each in fresh}
            if len(fresh) < lack.more:
                short.append(Lack(lack.place, lack.more - len(fresh)))
        return list(offers.values()), short

    async def _buy(self, row: PowerpackRow, offers: list[InventoryRow]) -> list[str]:
        """Rent each into the powerpack; what became of each, in order."""
        statuses: list[str] = []
        for offer in offers:
            try:
                await self._numbers.rent(row.account_id, offer.number, powerpack=row)
                statuses.append("Success")
            except EditRefused as refused:  # somebody else was first, or the powerpack is gone
                statuses.append(refused.code)
        return statuses


def _search_of(place: Place, service: Service) -> Search:
    types, services = (NumberType.LONG_CODE,), (service,)
    if place.scope is Scope.AREA_CODE:
        return Search(AREA_CODES[place.name].country, types, f"+1{place.name}", services)
    if place.scope is Scope.REGION:
        return Search(COUNTRY_OF_REGION[place.name], types, "+1", services, place.name)
    return Search(place.name, types, f"+{calling_code(place.name)}", services)


def _total(rates: Iterable[str]) -> str:
    return f"{sum(map(Decimal, rates), Decimal()):.5f}"


def _decimal(name: str, written: str) -> Decimal:
    try:
        price = Decimal(written)
    except ArithmeticError:
        price = Decimal("NaN")
    if not price.is_finite():
        raise invalid(name, "must be a decimal number, as it was told")
    return price


def _shown(counts: Counts) -> dict[str, object]:
    by_scope: dict[str, list[dict[str, object]]] = {name: [] for name in NAMES}
    for place, count in sorted(counts.items()):
        key = next(name for name, scope in NAMES.items() if scope is place.scope)
        by_scope[key].append({"name": place.name, "count": count})
    total = sum(count for place, count in counts.items() if place.scope is Scope.COUNTRY)
    return {"long_codes": total, **by_scope}


def _shown_offer(offer: InventoryRow, status: str) -> dict[str, object]:
    return {
        "number": offer.number.removeprefix("+"),
        "country_iso2": offer.country,
        "region": offer.region,
        "setup_rate": offer.setup_rate,
        "monthly_rate": offer.monthly_rate,
        "status": status,
    }
