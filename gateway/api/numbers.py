"""The numbers an account has: list, read, label, give up."""

from __future__ import annotations

from typing import Final

from gateway.api.bodies import Values, read_object, read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error, invalid, missing
from gateway.api.numberpool import read_number
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import refusal_of
from gateway.api.shapes_number import read_number_filter, render_number
from gateway.edits import EditRefused
from gateway.listings import page, total
from gateway.numbers import Numbers
from gateway.pools import Pools
from resolver.model import E164, AccountId, NumberRow, NumberType

NUMBERS_MAX: Final = 100


class NumberRoutes:
    """/v1/Account/{auth_id}/Number/ and one of them."""

    def __init__(self, pools: Pools, numbers: Numbers) -> None:
        self._pools = pools
        self._numbers = numbers

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "Number/", self.list),
            ("POST", "Number/", self.bring),
            ("GET", "Number/{number}/", self.get),
            ("POST", "Number/{number}/", self.change),
            ("DELETE", "Number/{number}/", self.give_up),
        ]

    async def list(self, call: Call) -> Reply:
        query = call.query()
        where = read_page(query)
        prefixes = read_number_filter(query)
        owner = self._subaccount(call, query.get("subaccount")) or call.account_id
        spans = self._pools.lists.of_account(owner, query.get("alias") or "").pick(prefixes)
        found = page(spans, offset=where.offset, limit=where.limit)
        objects = [self._shown(call, self._pools.numbers[number]) for number in found]
        path = f"/v1/Account/{call.account_id}/Number/"
        return call.json(paged(path, query, where, total=total(spans), objects=objects))

    async def bring(self, call: Call) -> Reply:
        """Take in numbers of one's own: those the administrator has set up for the account are there already.

        A number works only through a carrier it is set up at, and carriers are the administrator's.
        """
        values = read_object(call.body)
        application_id = read_application_id(values)
        numbers = _read_numbers(values)
        for number in numbers:
            row = self._pools.numbers.get(number)
            if row is None or row.account_id != call.account_id:
                raise api_error("administrator_only")
        try:
            for number in numbers if application_id is not None else ():
                await self._numbers.label(call.account_id, number, alias=None, application_id=application_id)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"message": "changed"}, 202)

    async def get(self, call: Call) -> Reply:
        return call.json(self._shown(call, self._find(call)))

    async def change(self, call: Call) -> Reply:
        """`verification_info` is for regulators elsewhere, and means nothing."""
        values, number = read_object(call.body), self._find(call)
        alias, application_id = _read_alias(values), read_application_id(values)
        if (read_text(values, "cnam_lookup") or "disabled").lower() != "disabled":
            raise invalid("cnam_lookup", "can be disabled only: there are no calls")
        to = self._subaccount(call, read_text(values, "subaccount"))
        try:
            await self._numbers.label(call.account_id, number.number, alias=alias, application_id=application_id)
            if to is not None:
                await self._numbers.give(call.account_id, number.number, to=to)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"message": "changed"}, 202)

    def _subaccount(self, call: Call, name: str | None) -> AccountId | None:
        """The subaccount that is named, if one is. Raises ApiError when it is none of the caller's."""
        if not name:
            return None
        if all(row.account_id != name for row in self._pools.subaccounts_of(call.account_id)):
            raise invalid("subaccount", "is none of the account's")
        return AccountId(name)

    async def give_up(self, call: Call) -> Reply:
        """Never a short code: an account cannot get it back, and it costs as much as a car."""
        row = self._find(call)
        if row.type is NumberType.SHORT_CODE:
            raise api_error("administrator_only", "short codes are taken from an account by the administrator only")
        try:
            await self._numbers.give_up(call.account_id, row.number)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({}, 204)

    def _find(self, call: Call) -> NumberRow:
        row = self._pools.numbers.get(read_number(call.params[1]))
        if row is None or row.account_id != call.account_id:
            raise api_error("not_found")
        return row

    def _shown(self, call: Call, row: NumberRow) -> dict[str, object]:
        return render_number(row, self._pools.application_of(row), asked_by=call.account_id)


def _read_alias(values: Values) -> str | None:
    """An empty one takes it away."""
    return "" if values.get("alias") == "" else read_text(values, "alias")


def _read_numbers(values: Values) -> list[E164]:
    """Several are a list, or joined by commas."""
    said = values.get("numbers")
    written = said.split(",") if isinstance(said, str) else said
    if not isinstance(written, list) or not all(isinstance(each, str) for each in written):
        raise missing("numbers") if said is None else invalid("numbers", "must be numbers joined by commas")
    numbers = list(dict.fromkeys(read_number(each) for each in written if each.strip()))
    if not 0 < len(numbers) <= NUMBERS_MAX:
        raise invalid("numbers", f"must be 1 to {NUMBERS_MAX} numbers")
    return numbers


def read_application_id(values: Values) -> str | None:
    """Read `app_id`: `none`, or `null` as a text, takes it away."""
    said = read_text(values, "app_id", most=64)
    return "" if said is not None and said.lower() in ("none", "null") else said
