"""Numbers for rent: search the inventory, and buy."""

from __future__ import annotations

from typing import Final

from gateway.api.bodies import read_object
from gateway.api.call import Call, Handler, Reply
from gateway.api.numberpool import read_number
from gateway.api.numbers import read_application_id
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import refusal_of
from gateway.api.shapes_inventory import read_search, render_offer
from gateway.edits import EditRefused
from gateway.numbers import Numbers
from gateway.pools import Pools
from storage.catalog_inventory import Found

NOTHING: Final = Found([], 0)


class PhoneNumbers:
    """/v1/Account/{auth_id}/PhoneNumber/ and one of them."""

    def __init__(self, pools: Pools, numbers: Numbers) -> None:
        self._pools = pools
        self._numbers = numbers

    def table(self) -> list[tuple[str, str, Handler]]:
        return [("GET", "PhoneNumber/", self.search), ("POST", "PhoneNumber/{number}/", self.buy)]

    async def search(self, call: Call) -> Reply:
        query = call.query()
        page, search = read_page(query), read_search(query)
        found = NOTHING
        if search is not None:
            found = await self._numbers.search(call.account_id, search, limit=page.limit, offset=page.offset)
        objects = [render_offer(row, account_id=call.account_id) for row in found.rows]
        path = f"/v1/Account/{call.account_id}/PhoneNumber/"
        return call.json(paged(path, query, page, total=found.total, objects=objects))

    async def buy(self, call: Call) -> Reply:
        """Rent a number; one the account has already is answered alike, so a call whose answer was lost is repeated.

        What else Plivo takes with it, regulators and caller names, means nothing here.
        """
        application_id = read_application_id(read_object(call.body)) or ""
        number = read_number(call.params[1])
        row = self._pools.numbers.get(number)
        try:
            if row is None or row.account_id != call.account_id:
                await self._numbers.rent(call.account_id, number, application_id=application_id)
            elif application_id:
                await self._numbers.label(call.account_id, number, alias=None, application_id=application_id)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        bought = {"number": number.removeprefix("+"), "status": "Success"}
        return call.json({"message": "created", "numbers": [bought], "status": "fulfilled"}, 201)
