"""Applications: create, read, change, delete, list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.api.arguments import read_flag
from gateway.api.bodies import Values, read_object, read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error, invalid, missing
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import refusal_of
from gateway.api.shapes_application import read_application, render_application
from gateway.applications import Applications
from gateway.clock import Clock
from gateway.edits import EditRefused
from gateway.guard import GuardPolicy, check_url
from storage.catalog import ApplicationRow

FIRST_ID: Final = 10**16
IDS: Final = 9 * FIRST_ID
"""Ids have 17 digits, as Plivo's; one that was given is not given again."""


class ApplicationRoutes:
    """/v1/Account/{auth_id}/Application/ and one of them. `random_below(n)` gives an integer from 0 to n - 1."""

    def __init__(
        self, applications: Applications, policy: GuardPolicy, *, clock: Clock, random_below: Callable[[int], int]
    ) -> None:
        self._applications = applications
        self._policy = policy
        self._clock = clock
        self._random_below = random_below

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "Application/", self.create),
            ("GET", "Application/", self.list),
            ("GET", "Application/{app_id}/", self.get),
            ("POST", "Application/{app_id}/", self.change),
            ("DELETE", "Application/{app_id}/", self.delete),
        ]

    async def create(self, call: Call) -> Reply:
        values = read_object(call.body)
        _check_subaccount(values)
        application_id = str(FIRST_ID + self._random_below(IDS))
        fresh = ApplicationRow(application_id, call.account_id, "", created_ms=self._clock.now_ms())
        row = read_application(values, fresh, self._check_url)
        if not row.name:
            raise missing("app_name")
        try:
            await self._applications.create(row)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"message": "created", "app_id": row.application_id}, 201)

    async def get(self, call: Call) -> Reply:
        return call.json(render_application(self._find(call)))

    async def change(self, call: Call) -> Reply:
        values = read_object(call.body)
        _check_subaccount(values)
        try:
            await self._applications.change(
                call.account_id, call.params[1], lambda row: read_application(values, row, self._check_url)
            )
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"message": "changed"}, 202)

    async def delete(self, call: Call) -> Reply:
        """`cascade` and `new_endpoint_application` speak of SIP endpoints, of which there are none."""
        read_flag(call, "cascade")
        try:
            await self._applications.delete(call.account_id, self._find(call).application_id)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({}, 204)

    async def list(self, call: Call) -> Reply:
        query = call.query()
        page = read_page(query)
        _check_subaccount(query)
        prefix = query.get("app_name") or ""
        rows = [row for row in self._applications.of(call.account_id) if row.name.startswith(prefix)]
        shown = rows[page.offset : page.offset + page.limit]
        path = f"/v1/Account/{call.account_id}/Application/"
        return call.json(paged(path, query, page, total=len(rows), objects=[render_application(row) for row in shown]))

    def _find(self, call: Call) -> ApplicationRow:
        row = self._applications.find(call.account_id, call.params[1])
        if row is None:
            raise api_error("not_found")
        return row

    def _check_url(self, url: str) -> str:
        checked = check_url(url, self._policy)
        if isinstance(checked, str):
            raise api_error("invalid_url", f"message_url: {checked}")
        return checked.text


def _check_subaccount(values: Values) -> None:
    if read_text(values, "subaccount"):
        raise invalid("subaccount", "is none of the account's")
