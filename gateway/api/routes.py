"""The table of an account's routes. What is not built yet stands here too, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final, Protocol

from aiohttp import web

from gateway.api.account import Accounts
from gateway.api.bulk import Bulk
from gateway.api.call import Call, Handler
from gateway.api.errors import api_error
from gateway.api.messages import Messages
from gateway.api.middleware import ANSWER_MS_MAX
from gateway.api.numberpool import NUMBER, SHORTCODE, TOLLFREE, NumberPool
from gateway.api.powerpacks import Powerpacks
from gateway.api.resolve import Resolve
from gateway.api.router import Access, Route
from gateway.api.sending import Sending
from gateway.api.streams import streamed

ACCOUNT: Final = "/v1/Account/{auth_id}/"
MESSAGE: Final = ACCOUNT + "Message/"
POWERPACK: Final = ACCOUNT + "Powerpack/"
POOL: Final = ACCOUNT + "NumberPool/{pool_uuid}/"

LATER: Final = (
    ("GET", MESSAGE + "{message_uuid}/Media/", "media"),
    ("DELETE", MESSAGE + "{message_uuid}/Media/", "media"),
    ("GET", MESSAGE + "{message_uuid}/Media/{media_id}/", "media"),
    ("GET", ACCOUNT + "Media/", "media"),
    ("POST", ACCOUNT + "Media/", "media"),
    ("GET", ACCOUNT + "Media/{media_id}/", "media"),
)
"""Of Plivo's surface and ours; each answers 400 `not_supported_yet`."""


class Resource(Protocol):
    """Something of an account with routes of its own."""

    def table(self) -> list[tuple[str, str, Handler]]:
        """Method, path below the account, who answers."""
        ...


def account_routes(
    *,
    sending: Sending,
    bulk: Bulk,
    messages: Messages,
    powerpacks: Powerpacks,
    numbers: NumberPool,
    resolve: Resolve,
    accounts: Accounts,
    resources: Iterable[Resource] = (),
    streams: Iterable[tuple[str, str, Handler]] = (),
) -> list[Route]:
    """Give every route under /v1/Account/{auth_id}/; all need the account's credentials."""
    one_message, one_powerpack = MESSAGE + "{message_uuid}/", POWERPACK + "{powerpack_uuid}/"
    table: list[tuple[str, str, Handler]] = [
        ("GET", ACCOUNT, accounts.get),
        ("GET", MESSAGE, messages.list),
        ("DELETE", MESSAGE, messages.cancel_many),
        ("GET", one_message, messages.get),
        ("DELETE", one_message, messages.cancel),
        ("GET", one_message + "Timeline/", messages.timeline),
        ("POST", POWERPACK, powerpacks.create),
        ("GET", POWERPACK, powerpacks.list),
        ("GET", one_powerpack, powerpacks.get),
        ("POST", one_powerpack, powerpacks.change),
        ("DELETE", one_powerpack, powerpacks.delete),
        ("POST", one_powerpack + "Resolve/", resolve.post),
        ("POST", one_powerpack + "Pause/", powerpacks.pause),
        ("POST", one_powerpack + "Resume/", powerpacks.resume),
        ("GET", POOL, numbers.root),
    ]
    for kind in (NUMBER, TOLLFREE, SHORTCODE):
        pool, member = f"{POOL}{kind.name}/", POOL + kind.name + "/{number}/"
        table += [
            ("GET", pool, partial(numbers.list, kind=kind)),
            ("GET", member, partial(numbers.get, kind=kind)),
            ("POST", member, partial(numbers.add, kind=kind)),
            ("DELETE", member, partial(numbers.remove, kind=kind)),
        ]
    table += [(method, ACCOUNT + path, handler) for each in resources for method, path, handler in each.table()]
    table += [(method, path, _later(what)) for method, path, what in LATER]
    routes = [Route(method, path, Access.ACCOUNT, _bounded(handler)) for method, path, handler in table]
    return [  # these have deadlines of their own
        Route("POST", MESSAGE, Access.ACCOUNT, sending.post, adds=True),
        Route("POST", MESSAGE + "Bulk/", Access.ACCOUNT, bulk.post, streamed),
        Route("GET", MESSAGE + "Bulk/{bulk_id}/", Access.ACCOUNT, bulk.get, streamed),
        *(Route(method, ACCOUNT + path, Access.ACCOUNT, handler, streamed) for method, path, handler in streams),
        *routes,
    ]


def _bounded(handler: Handler) -> Handler:
    """Give a handler a deadline for its whole answer. What it waits for has shorter ones; this catches the rest."""

    async def bounded(call: Call) -> web.StreamResponse:
        async with asyncio.timeout(ANSWER_MS_MAX / 1_000):
            return await handler(call)

    return bounded


def _later(what: str) -> Handler:
    async def refuse(_: Call) -> web.StreamResponse:
        raise api_error("not_supported_yet", f"{what} is not built yet")

    return refuse
