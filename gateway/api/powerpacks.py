"""Powerpacks: create, read, change, delete, list."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gateway.api.arguments import read_flag, read_own
from gateway.api.bodies import read_bool, read_object
from gateway.api.call import Call, Reply
from gateway.api.errors import ApiError, api_error, missing
from gateway.api.pages import paged, read_page
from gateway.api.shapes_powerpack import read_settings, render_powerpack
from gateway.clock import Clock, Ids
from gateway.edits import EditRefused
from gateway.pools import Pools
from resolver.model import Pause, PoolId, PowerpackId, PowerpackRow


class Powerpacks:
    """/v1/Account/{auth_id}/Powerpack/ and one of them."""

    def __init__(self, pools: Pools, *, clock: Clock, ids: Ids) -> None:
        self._pools = pools
        self._clock = clock
        self._ids = ids

    async def create(self, call: Call) -> Reply:
        values = read_object(call.body)
        fresh = PowerpackRow(
            PowerpackId(self._ids.new()),
            call.account_id,
            PoolId(self._ids.new()),
            "",
            created_ms=self._clock.now_ms(),
        )
        row = read_settings(values, fresh)
        if not row.name:
            raise missing("name")
        try:
            await self._pools.create_powerpack(row)
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json(render_powerpack(row))

    async def get(self, call: Call) -> Reply:
        return call.json(render_powerpack(find_powerpack(self._pools, call)))

    async def change(self, call: Call) -> Reply:
        values = read_object(call.body)
        powerpack_id = find_powerpack(self._pools, call).powerpack_id
        try:
            row = await self._pools.change_powerpack(powerpack_id, partial(read_settings, values))
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json(render_powerpack(row))

    async def pause(self, call: Call) -> Reply:
        """Let what waits stay. New messages wait, too; with `refuse` they are refused."""
        values = read_own(call, ("refuse",))
        return await self._set_pause(call, Pause.REFUSE if read_bool(values, "refuse") else Pause.WAIT)

    async def resume(self, call: Call) -> Reply:
        """Let what waits leave, within its windows."""
        read_own(call, ())
        return await self._set_pause(call, Pause.NONE)

    async def _set_pause(self, call: Call, pause: Pause) -> Reply:
        powerpack_id = find_powerpack(self._pools, call).powerpack_id
        try:
            row = await self._pools.change_powerpack(powerpack_id, lambda row: replace(row, pause=pause))
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json(render_powerpack(row))

    async def delete(self, call: Call) -> Reply:
        row = find_powerpack(self._pools, call)
        try:
            await self._pools.delete_powerpack(row, with_numbers=read_flag(call, "unrent_numbers"))
        except EditRefused as refused:
            raise refusal_of(refused) from refused
        return call.json({"response": "success"})

    async def list(self, call: Call) -> Reply:
        query = call.query()
        page = read_page(query)
        rows = self._pools.powerpacks_of(call.account_id)
        shown = rows[page.offset : page.offset + page.limit]
        path = f"/v1/Account/{call.account_id}/Powerpack/"
        return call.json(paged(path, query, page, total=len(rows), objects=[render_powerpack(row) for row in shown]))


def find_powerpack(pools: Pools, call: Call) -> PowerpackRow:
    """Give the powerpack the path names; another account's is absent. Raises ApiError."""
    row = pools.powerpacks.get(PowerpackId(call.params[1].lower()))
    if row is None or row.account_id != call.account_id:
        raise api_error("not_found")
    return row


def refusal_of(refused: EditRefused) -> ApiError:
    """Answer an edit that the catalog does not allow."""
    return api_error(refused.code, refused.detail)
