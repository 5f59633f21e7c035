"""Windows: what may leave a powerpack's numbers now, and when there is room again."""

from __future__ import annotations

from typing import Final

from gateway.api.arguments import read_own
from gateway.api.bodies import read_text
from gateway.api.call import Call, Handler, Reply
from gateway.api.errors import api_error
from gateway.api.numberpool import read_number
from gateway.api.pages import paged, read_page
from gateway.api.powerpacks import find_powerpack
from gateway.api.times import utc
from gateway.clock import Clock
from gateway.pools import Pools
from resolver.core import Resolver
from resolver.links import Link
from resolver.queues import Number
from resolver.standings import Standing, standing_of_link, standings_of

LIMIT_MAX: Final = 1_000
KEYS: Final = ("number", "limit", "offset")


class Windows:
    """GET /v1/Account/{auth_id}/Powerpack/{uuid}/Windows/: by number, in the order they joined; the links they use."""

    def __init__(self, resolver: Resolver, pools: Pools, *, clock: Clock) -> None:
        self._resolver = resolver
        self._pools = pools
        self._clock = clock

    def table(self) -> list[tuple[str, str, Handler]]:
        return [("GET", "Powerpack/{powerpack_uuid}/Windows/", self.list)]

    async def list(self, call: Call) -> Reply:
        row, query = find_powerpack(self._pools, call), call.query()
        values = read_own(call, KEYS)
        page = read_page(query, limit_max=LIMIT_MAX)
        members = list(self._pools.members.get(row.powerpack_id, {}))
        only = read_text(values, "number")
        if only:
            members = [each for each in members if each == read_number(only)]
            if not members:
                raise api_error("not_found", "the powerpack has no such number")
        numbers = [self._resolver.numbers[each] for each in members[page.offset : page.offset + page.limit]]
        now_ms = self._clock.now_ms()
        path = f"/v1/Account/{call.account_id}/Powerpack/{row.powerpack_id}/Windows/"
        answer = paged(path, query, page, total=len(members), objects=[_shown_number(each, now_ms) for each in numbers])
        links = {number.link.carrier: number.link for number in numbers}
        return call.json({**answer, "links": [_shown_link(link, now_ms) for link in links.values()]})


def _shown_number(number: Number, now_ms: int) -> dict[str, object]:
    link, row = number.link, number.row
    may_leave = link.down_since_ms is None and not number.is_paused
    return {
        "number": row.number.removeprefix("+"),
        "type": row.type,
        "state": row.state,
        "carrier": row.carrier,
        "waiting_messages": number.messages,
        "waiting_segments": number.segments,
        "next_at": utc(number.forecast_ms(False, 1, now_ms)) if may_leave else None,
        "windows": [_shown(each) for each in standings_of(number, now_ms)],
    }


def _shown_link(link: Link[Number], now_ms: int) -> dict[str, object]:
    is_up = link.down_since_ms is None
    return {"carrier": link.carrier, "up": is_up, "windows": [_shown(standing_of_link(link, now_ms))]}


def _shown(standing: Standing) -> dict[str, object]:
    return {
        "scope": standing.scope,
        "window": standing.name,
        "unit": standing.unit,
        "limit": standing.limit,
        "span_ms": standing.span_ms,
        "used": standing.used,
        "room": standing.room,
        "free_at": utc(standing.free_ms),
        "law": standing.is_law,
    }
