"""Arguments in the query and in the body: the body wins, and routes of our own take nothing they do not know."""

from __future__ import annotations

import pytest

from tests.fakes.accept_floor import POWERPACK
from tests.fakes.api_floor import ApiFloor

PAUSE = f"Powerpack/{POWERPACK}/Pause/"


@pytest.mark.parametrize(
    ("query", "body", "refuses"),
    [
        ("", None, False),
        ("?refuse=1", None, True),
        ("?refuse=1", {"refuse": "False"}, False),
        ("?refuse=false", {"refuse": True}, True),
        ("?refuse=true", {"refuse": None}, False),
        ("?refuse=", {}, False),
    ],
)
async def test_the_body_wins_over_the_query(query: str, body: object, refuses: bool) -> None:
    async with ApiFloor().serving() as api:
        got = await api.post(PAUSE + query, body)
    assert (got.status, got.body["refuses_while_paused"]) == (200, refuses)


@pytest.mark.parametrize(
    ("query", "body", "name"),
    [
        ("?refuze=1", {"refuse": True}, "'refuze'"),
        ("", {"refuse": True, "x" * 100_000: 1}, f"'{'x' * 64}'"),
        ("", {"a\n\u2028": 1}, "'a\\n\\u2028'"),
    ],
)
async def test_what_is_not_known_is_named_in_a_bounded_printable_way(query: str, body: object, name: str) -> None:
    async with ApiFloor().serving() as api:
        got = await api.post(PAUSE + query, body)
    assert (got.status, got.body["code"]) == (400, "invalid_parameter")
    assert got.body["error"] == f"{name} is no key of this route, which has refuse"
