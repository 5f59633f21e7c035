"""From a request's path to its handler, without redirects.

A path is cut at its slashes and empty parts fall out, so `…//` (Go, Ruby, Node) and a missing trailing slash name the
same route. Finding one is a walk down a tree: as many dictionary look-ups as the path has parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.api.call import Call, Handler
from gateway.api.errors import ApiError, api_error

PATH_LENGTH_MAX = 1_024
TARGET_LENGTH_MAX = 8_192  # with its query
PARAMETER = "/"  # stands for a brace in the tree: no part of a path can be called so
FOUND_MAX = 1_000


class Access(StrEnum):
    """Who may call a route. There is no default: a route without a policy cannot be written."""

    ACCOUNT = "account"  # HTTP Basic; the path's account must be the caller's
    OWN = "own"  # the handler checks for itself: a carrier's secret
    OPEN = "open"  # everybody: healthz


class Route(NamedTuple):
    """One line of the table. `path` is as documented: `/v1/Account/{auth_id}/Message/{message_uuid}/`.

    A call for which `streams` says so has `call.stream` in place of a body, may answer with a StreamReply, and is
    counted and bounded as a stream; see streams.py. `adds`: it adds work that is refused while there is too much.
    `weigh`: what can be known from a call's head, before its body is read: whether it proves who calls. It raises
    ApiError for who can prove nothing.
    """

    method: str
    path: str
    access: Access
    handler: Handler
    streams: Callable[[Call], bool] | None = None
    adds: bool = False
    weigh: Callable[[Call], bool] | None = None

    @property
    def kind(self) -> str:
        """What kind of request it is, for the metrics: `POST Message/`."""
        return f"{self.method} {self.path.removeprefix('/v1/Account/{auth_id}/') or 'Account/'}"


class _Node:
    __slots__ = ("below", "routes")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.routes: dict[str, Route] = {}


class Router:
    """The routes as a tree. A literal part goes before a parameter."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        self._found: dict[tuple[str, str], tuple[Route, tuple[str, ...]]] = {}
        for route in self.routes:
            node = self._root
            for part in route.path.split("/"):
                if part:
                    name = PARAMETER if part.startswith("{") else part
                    node = node.below.setdefault(name, _Node())
            assert route.method not in node.routes, f"{route.method} {route.path} stands in the table twice"
            node.routes[route.method] = route

    def find(self, method: str, raw_path: str) -> tuple[Route, tuple[str, ...]]:
        """Give the route and what stood in its braces, percent-decoded. Raises ApiError: 404, 405.

        A GET's route answers HEAD too. Paths that name an account alone are remembered: the one messages are sent to.
        """
        known = self._found.get((method, raw_path))
        if known is not None:
            return known
        found = self._walk(method, raw_path)
        if len(found[1]) == 1:
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            self._found[method, raw_path] = found
        return found

    def _walk(self, method: str, raw_path: str) -> tuple[Route, tuple[str, ...]]:
        path = raw_path.partition("?")[0]
        if len(raw_path) > TARGET_LENGTH_MAX or len(path) > PATH_LENGTH_MAX:
            raise api_error("not_found")
        node, params = self._root, []
        for part in path.split("/"):
            if not part or part[0] == "&":  # Node's SDK writes …/Tollfree/{number}/&service=sms
                continue
            below = node.below.get(part)
            if below is None:
                below = node.below.get(PARAMETER)
                if below is None:
                    raise api_error("not_found")
                params.append(part if part.isascii() and "%" not in part else _decoded(part))
            node = below
        route = node.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            raise _not_allowed(node)
        return route, tuple(params)


def _decoded(part: str) -> str:
    """Text that a database can be asked for; nothing of ours is called by any other."""
    try:
        text = unquote_to_bytes(part.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        raise api_error("not_found") from None
    if "\0" in text:
        raise api_error("not_found")
    return text


def _not_allowed(node: _Node) -> ApiError:
    if not node.routes:
        return api_error("not_found")
    error = api_error("method_not_allowed")
    error.headers = {"Allow": ", ".join(sorted(node.routes))}
    return error
