"""From paths to handlers: every spelling the SDKs have for one route, and none for what is not there."""

from __future__ import annotations

import pytest
from aiohttp import web

from gateway.api.call import Call
from gateway.api.errors import ApiError
from gateway.api.router import Access, Route, Router


async def nothing(call: Call) -> web.StreamResponse:
    raise AssertionError("nobody calls it")


def route(method: str, path: str) -> Route:
    return Route(method, path, Access.ACCOUNT, nothing)


ROUTER = Router(
    [
        route("GET", "/v1/Account/{auth_id}/"),
        route("POST", "/v1/Account/{auth_id}/Message/"),
        route("GET", "/v1/Account/{auth_id}/Message/{uuid}/"),
        route("POST", "/v1/Account/{auth_id}/Message/Bulk/"),
        route("GET", "/v1/Account/{auth_id}/NumberPool/{pool}/Tollfree/{number}/"),
        route("POST", "/carriers/{carrier}/reports"),
    ]
)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/Account/MA1/", ("MA1",)),
        ("/v1/Account/MA1", ("MA1",)),
        ("/v1/Account/MA1//", ("MA1",)),
        ("//v1//Account/MA1/?limit=1", ("MA1",)),
        ("/v1/Account/MA1/Message/abc/", ("MA1", "abc")),
        ("/v1/Account/*/Message/*/", ("*", "*")),
        ("/v1/Account/{}/Message/%2A/", ("{}", "*")),
        ("/v1/Account/MA1/Message/abc?x=/Timeline/", ("MA1", "abc")),
        ("/v1/Account/MA1/NumberPool/p/Tollfree/18005550100/&service=sms", ("MA1", "p", "18005550100")),
        ("/v1/Account/MA1/NumberPool/p/Tollfree/%2B18005550100/", ("MA1", "p", "+18005550100")),
        ("/v1/Account/MA1/Message/%2F/", ("MA1", "/")),
    ],
)
def test_a_route_is_found_in_every_spelling(path: str, params: tuple[str, ...]) -> None:
    assert ROUTER.find("GET", path)[1] == params


def test_a_literal_part_goes_before_a_parameter() -> None:
    assert ROUTER.find("POST", "/v1/Account/MA1/Message/Bulk/")[0].path.endswith("Bulk/")


def test_a_get_answers_head_too() -> None:
    assert ROUTER.find("HEAD", "/v1/Account/MA1/")[0].method == "GET"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", "not_found"),
        ("GET", "", "not_found"),
        ("GET", "/v1/", "not_found"),
        ("GET", "/v1/Account/", "not_found"),
        ("GET", "/v2/Account/MA1/", "not_found"),
        ("GET", "/v1/account/MA1/", "not_found"),
        ("GET", "/v1/Account/MA1/Message/abc/def/", "not_found"),
        ("GET", "/v1/Account/%FF/", "not_found"),
        ("GET", "/v1/Account/%00/", "not_found"),
        ("GET", "/v1/Account/MA1%00/", "not_found"),
        ("GET", "/v1/Account/\udcff/", "not_found"),
        ("GET", "/v1/Account/" + "a" * 2_000, "not_found"),
        ("GET", "/v1/Account/../Account/MA1/", "not_found"),
        ("PUT", "/v1/Account/MA1/", "method_not_allowed"),
        ("BREW", "/v1/Account/MA1/", "method_not_allowed"),
        ("HEAD", "/carriers/x/reports", "method_not_allowed"),
    ],
)
def test_what_is_no_route_is_404_or_405(method: str, path: str, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        ROUTER.find(method, path)
    assert refused.value.code == code


def test_a_405_names_the_methods_there_are() -> None:
    with pytest.raises(ApiError) as refused:
        ROUTER.find("DELETE", "/v1/Account/MA1/Message/")
    assert refused.value.headers == {"Allow": "POST"}


def test_a_route_that_stands_in_the_table_twice_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="twice"):
        Router([route("GET", "/a/{x}/"), route("GET", "/a/{y}/")])
