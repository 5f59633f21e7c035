"""Subaccounts: a main account creates, reads, changes, deletes and lists its own, and may read their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.accounts import NAME_CHARACTERS_MAX, AccountEdits
from gateway.api.arguments import read_flag
from gateway.api.bodies import read_bool, read_object, read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error, missing
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import refusal_of
from gateway.api.times import utc
from gateway.clock import Clock
from gateway.edits import EditRefused
from resolver.model import AccountId
from storage.catalog import AccountRow

IS_MAIN: Final = "MA"  # how ids of main accounts begin


class SubaccountRoutes:
    """/v1/Account/{auth_id}/Subaccount/ and one of them. `subaccounts_of` gives those that are there, oldest first."""

    def __init__(
        self, edits: AccountEdits, subaccounts_of: Callable[[AccountId], list[AccountRow]], *, clock: Clock
    ) -> None:
        self._edits = edits
        self._subaccounts_of = subaccounts_of
        self._clock = clock

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "Subaccount/", self.create),
            ("GET", "Subaccount/", self.list),
            ("GET", "Subaccount/{subauth_id}/", self.get),
            ("POST", "Subaccount/{subauth_id}/", self.change),
            ("DELETE", "Subaccount/{subauth_id}/", self.delete),
        ]

    async def create(self, call: Call) -> Reply:
        """Shut out unless `enabled` says otherwise, as at Plivo. Raises ApiError: main_account_only."""
        values = read_object(call.body)
        name, enabled = read_text(values, "name", most=NAME_CHARACTERS_MAX), bool(read_bool(values, "enabled"))
        if not call.account_id.startswith(IS_MAIN):
            raise api_error("main_account_only")
        if name is None:
            raise missing("name")
        try:
            row = await self._edits.create(name, main_id=call.account_id, enabled=enabled, now_ms=self._clock.now_ms())
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"message": "created", "auth_id": row.account_id, "auth_token": row.token}, 201)

    async def get(self, call: Call) -> Reply:
        return call.json(render_subaccount(self._find(call)))

    async def change(self, call: Call) -> Reply:
        values, row = read_object(call.body), self._find(call)
        name, enabled = read_text(values, "name", most=NAME_CHARACTERS_MAX), read_bool(values, "enabled")
        try:
            await self._edits.change(row.account_id, name=name, enabled=enabled, now_ms=self._clock.now_ms())
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"message": "changed"}, 202)

    async def delete(self, call: Call) -> Reply:
        """Its numbers and applications become the main account's; with `cascade` they go too."""
        cascade, row = read_flag(call, "cascade"), self._find(call)
        try:
            await self._edits.delete_subaccount(
                call.account_id, row.account_id, cascade=cascade, now_ms=self._clock.now_ms()
            )
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({}, 204)

    async def list(self, call: Call) -> Reply:
        query = call.query()
        page = read_page(query)
        rows = self._subaccounts_of(call.account_id)
        shown = rows[page.offset : page.offset + page.limit]
        path = f"/v1/Account/{call.account_id}/Subaccount/"
        return call.json(paged(path, query, page, total=len(rows), objects=[render_subaccount(row) for row in shown]))

    def _find(self, call: Call) -> AccountRow:
        for row in self._subaccounts_of(call.account_id):
            if row.account_id == call.params[1]:
                return row
        raise api_error("not_found")


def render_subaccount(row: AccountRow) -> dict[str, object]:
    """Give the Subaccount resource."""
    return {
        "account": f"/v1/Account/{row.main_id}/",
        "auth_id": row.account_id,
        "auth_token": row.token,
        "created": utc(row.created_ms).date().isoformat(),
        "enabled": row.enabled,
        "modified": utc(row.modified_ms).date().isoformat() if row.modified_ms else None,
        "name": row.name,
        "resource_uri": f"/v1/Account/{row.main_id}/Subaccount/{row.account_id}/",
    }
