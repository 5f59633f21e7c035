"""The administrator's API: accounts, carriers and numbers, on a listener of its own that only this machine reaches.

Every route asks for the administrator's token (`Authorization: Bearer …`) before its body is read; no account's
credentials open any. Unknown keys are refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gateway import administering
from gateway.accounts import NAME_CHARACTERS_MAX, OVERLAP_HOURS, OVERLAP_HOURS_MAX, AccountEdits
from gateway.api.arguments import read_own
from gateway.api.bodies import Values, read_bool, read_choice, read_integer, read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error, invalid, missing
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import refusal_of
from gateway.api.router import Access, Route
from gateway.api.times import iso
from gateway.clock import Clock
from gateway.edits import EditRefused, refusals
from gateway.pools import Pools
from gateway.settings import Settings
from gateway.stores import Stores
from resolver.model import AccountId, NumberRow, NumberType
from storage.catalog import AccountRow, Change
from storage.sealing import token_hash

ROOT: Final = "/v1/Admin/"
LIMIT_MAX: Final = 1_000
CANCEL_S_MAX: Final = 20  # for the answer; the order is carried out in any case
NUMBER_KEYS: Final = ("number", "type", "carrier", "campaign", "verified", "country", "account", "powerpack")


class Administration:
    """The routes; `carriers` say themselves what they are."""

    def __init__(
        self, token: str, accounts: AccountEdits, pools: Pools, stores: Stores, settings: Settings, *, clock: Clock
    ) -> None:
        self._token_sha256 = token_hash(token)
        self._accounts = accounts
        self._pools = pools
        self._stores = stores
        self._settings = settings
        self._clock = clock

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Handler]] = [
            ("GET", "Account/", self.list_accounts),
            ("POST", "Account/", self.create_account),
            ("GET", "Account/{auth_id}/", self.get_account),
            ("POST", "Account/{auth_id}/", self.change_account),
            ("POST", "Account/{auth_id}/Token/", self.rotate_token),
            ("DELETE", "Account/{auth_id}/Token/", self.revoke_token),
            ("GET", "Carrier/", self.list_carriers),
            ("POST", "Carrier/{carrier}/Pause/", self.pause_carrier),
            ("POST", "Carrier/{carrier}/Resume/", self.resume_carrier),
            ("POST", "Carrier/{carrier}/Cancel/", self.cancel_for_carrier),
            ("GET", "Number/", self.list_numbers),
            ("POST", "Number/", self.add_number),
        ]
        return [
            Route(method, ROOT + path, Access.OWN, self._guarded(handler), weigh=self._check)
            for method, path, handler in table
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(call: Call) -> Reply:
            self._check(call)
            with said():
                return await handler(call)  # type: ignore[return-value]

        return guarded

    def _check(self, call: Call) -> bool:
        """Whether it is the administrator. Raises ApiError (401)."""
        scheme, _, token = call.request.headers.get("Authorization", "").partition(" ")
        matches = hmac.compare_digest(token_hash(token.strip()), self._token_sha256)
        if scheme.lower() != "bearer" or not matches:
            error = api_error("unauthenticated")
            error.headers = {"WWW-Authenticate": 'Bearer realm="Sendpool administration"'}
            raise error
        return True

    # -- accounts -----------------------------------------------------------------------------------------------------

    async def list_accounts(self, call: Call) -> Reply:
        query = read_own(call, ("limit", "offset", "main"))
        rows = [
            row
            for row in self._pools.accounts.values()
            if not row.deleted_ms and query.get("main", "") in ("", row.main_id)
        ]
        rows.sort(key=lambda row: (row.created_ms, row.account_id))
        return self._listed(call, "Account/", [self._account(row) for row in rows])

    async def create_account(self, call: Call) -> Reply:
        values = read_own(call, ("name", "main", "enabled"))
        main, enabled = read_text(values, "main"), read_bool(values, "enabled")
        row = await self._accounts.create(
            needed(values, "name", most=NAME_CHARACTERS_MAX),
            main_id=AccountId(main) if main else None,
            enabled=enabled is not False,
            now_ms=self._clock.now_ms(),
        )
        return call.json({**self._account(row), "auth_token": row.token}, 201)

    async def get_account(self, call: Call) -> Reply:
        read_own(call, ())
        return call.json(self._account(self._find(call)))

    async def change_account(self, call: Call) -> Reply:
        values = read_own(call, ("name", "enabled"))
        name, enabled = read_text(values, "name", most=NAME_CHARACTERS_MAX), read_bool(values, "enabled")
        row = await self._accounts.change(
            self._find(call).account_id, name=name, enabled=enabled, now_ms=self._clock.now_ms()
        )
        return call.json(self._account(row))

    async def rotate_token(self, call: Call) -> Reply:
        values = read_own(call, ("overlap_hours",))
        hours = read_integer(values, "overlap_hours", least=0, most=OVERLAP_HOURS_MAX)
        row = await self._accounts.rotate(
            self._find(call).account_id,
            overlap_hours=OVERLAP_HOURS if hours is None else hours,
            now_ms=self._clock.now_ms(),
        )
        return call.json({**self._account(row), "auth_token": row.token}, 201)

    async def revoke_token(self, call: Call) -> Reply:
        read_own(call, ())
        row = await self._accounts.revoke(self._find(call).account_id, now_ms=self._clock.now_ms())
        return call.json(self._account(row))

    def _find(self, call: Call) -> AccountRow:
        row = self._pools.accounts.get(AccountId(call.params[0]))
        if row is None or row.deleted_ms:
            raise api_error("not_found")
        return row

    def _account(self, row: AccountRow) -> dict[str, object]:
        has_former = len(row.tokens(self._clock.now_ms())) > 1
        return {
            "auth_id": row.account_id,
            "name": row.name,
            "enabled": row.enabled,
            "main": row.main_id,
            "created": iso(row.created_ms),
            "former_token_until": iso(row.former_until_ms) if has_former else None,
        }

    # -- carriers -----------------------------------------------------------------------------------------------------

    async def list_carriers(self, call: Call) -> Reply:
        read_own(call, ("limit", "offset"))
        told = [await self._stores.catalog.find_carrier(name) for name in self._settings.carriers]
        return self._listed(
            call,
            "Carrier/",
            [
                {
                    "carrier": row.carrier,
                    "kind": self._settings.carriers[row.carrier].kind,
                    "segments_per_s": self._settings.carriers[row.carrier].segments_per_s,
                    "paused": row.paused,
                }
                for row in told
            ],
        )

    async def pause_carrier(self, call: Call) -> Reply:
        return await self._set_paused(call, True)

    async def resume_carrier(self, call: Call) -> Reply:
        return await self._set_paused(call, False)

    async def _set_paused(self, call: Call, paused: bool) -> Reply:
        read_own(call, ())
        name = self._carrier(call)
        await administering.pause_carrier(self._stores, self._settings, name, paused)
        await self._pools.follow([Change("carrier", name)])
        return call.json({"carrier": name, "paused": paused})

    async def cancel_for_carrier(self, call: Call) -> Reply:
        """200: it is done; 202: it is ordered, and goes on."""
        read_own(call, ())
        name, now_ms = self._carrier(call), self._clock.now_ms()
        done = await administering.cancel_for_carrier(
            self._stores, self._settings, name, now_ms=now_ms, wait_s=CANCEL_S_MAX
        )
        if done is None:
            return call.json({"carrier": name, "message": "ordered"}, 202)
        return call.json({"carrier": name, "cancelled": done.cancelled, "in_flight": done.in_flight})

    def _carrier(self, call: Call) -> str:
        if call.params[0] not in self._settings.carriers:
            raise api_error("not_found")
        return call.params[0]

    # -- numbers ------------------------------------------------------------------------------------------------------

    async def list_numbers(self, call: Call) -> Reply:
        query = read_own(call, ("limit", "offset", "account", "powerpack"))
        account, powerpack = query.get("account", ""), query.get("powerpack", "")
        rows = [
            row
            for row in self._pools.numbers.values()
            if account in ("", row.account_id) and powerpack in ("", row.powerpack_id)
        ]
        return self._listed(call, "Number/", rows, render_number)

    async def add_number(self, call: Call) -> Reply:
        """The same checks as `sendpool numbers add`."""
        values = read_own(call, NUMBER_KEYS)
        number_type = read_choice(values, "type", NumberType)
        if number_type is None:
            raise missing("type")
        wanted = administering.Wanted(
            needed(values, "number"), number_type, needed(values, "carrier"), read_text(values, "campaign") or "",
            bool(read_bool(values, "verified")), read_text(values, "country") or "US", needed(values, "account"),
            read_text(values, "powerpack") or "", self._clock.now_ms(),
        )  # fmt: skip
        with refusals(number_type):
            row = await administering.add_number(self._stores, self._settings, wanted)
        await self._pools.follow([Change("number", row.number, row.account_id)])
        return call.json(render_number(row), 201)

    def _listed(
        self,
        call: Call,
        path: str,
        rows: list[NumberRow] | list[dict[str, object]],
        render: Callable[..., dict[str, object]] = dict,
    ) -> Reply:
        query = call.query()
        page = read_page(query, limit_max=LIMIT_MAX)
        shown = rows[page.offset : page.offset + page.limit]
        return call.json(paged(ROOT + path, query, page, total=len(rows), objects=[render(row) for row in shown]))


@contextmanager
def said() -> Iterator[None]:
    """Turn what cannot be done into the API's words."""
    try:
        yield
    except EditRefused as refused:
        raise refusal_of(refused) from refused
    except administering.Refused as refused:
        raise invalid("the request", f"cannot be done: {refused}") from refused


def needed(values: Values, name: str, *, most: int = 255) -> str:
    """A text that must be given. Raises ApiError."""
    value = read_text(values, name, most=most)
    if value is None:
        raise missing(name)
    return value


def render_number(row: NumberRow) -> dict[str, object]:
    return {
        "number": row.number,
        "type": row.type,
        "country": row.country,
        "carrier": row.carrier,
        "campaign": "approved" if row.campaign_approved else "",
        "verified": row.verified,
        "state": row.state,
        "powerpack": row.powerpack_id,
        "account": row.account_id,
    }
