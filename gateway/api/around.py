"""What stands around the API: is it alive, is it ready, what does it count.

* `/healthz`: the process answers. Restart it when it does not.
* `/readyz`: two flags. *accepting*: messages are taken (what decides is back in memory). *sending*: they also leave
  (the queues are back, the epoch is ours). 200 while it accepts, since what it accepts is safe; 503 else, and while it
  drains, so that a load balancer looks elsewhere.
* `/metrics`: for Prometheus; to this machine only unless the settings open it, since it tells how much is sent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import web

from gateway.api.call import Call, Reply
from gateway.api.errors import api_error
from gateway.api.router import Access, Route
from gateway.metrics import CONTENT_TYPE

FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
"""Said by proxies. Behind one on this machine everybody seems to be of this machine."""


class Readiness(NamedTuple):
    """What the gateway can do at the moment."""

    accepting: bool
    sending: bool


class Around:
    """The routes nobody needs credentials for."""

    def __init__(
        self, readiness: Callable[[], Readiness], exposition: Callable[[], bytes], *, open_metrics: bool
    ) -> None:
        self._readiness = readiness
        self._exposition = exposition
        self._open_metrics = open_metrics

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", Access.OPEN, self._healthz),
            Route("GET", "/readyz", Access.OPEN, self._readyz),
            Route("GET", "/metrics", Access.OPEN, self._metrics),
        ]

    async def _healthz(self, call: Call) -> web.StreamResponse:
        return call.json({"alive": True})

    async def _readyz(self, call: Call) -> web.StreamResponse:
        ready = self._readiness()
        return call.json({"accepting": ready.accepting, "sending": ready.sending}, 200 if ready.accepting else 503)

    async def _metrics(self, call: Call) -> web.StreamResponse:
        if not self._open_metrics and not is_of_this_machine(call.request):
            raise api_error("not_found")
        return Reply(self._exposition(), content_type=CONTENT_TYPE)


def is_of_this_machine(request: web.BaseRequest) -> bool:
    """Whether a request was made on this machine, and not passed on by a proxy here. In doubt it was not."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.remote or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
