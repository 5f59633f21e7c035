"""Rows by id, and an account's in the order they came."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.shelves import Shelf
from resolver.model import AccountId

MINE, OTHERS = AccountId("MA1"), AccountId("MA2")


@dataclass(frozen=True)
class Thing:
    name: str
    account_id: AccountId = MINE


def test_an_account_has_its_own_rows_in_the_order_they_came() -> None:
    shelf: Shelf[str, Thing] = Shelf()
    for name in "cab":
        shelf.put(name, Thing(name))
    shelf.put("x", Thing("x", OTHERS))
    shelf.put("a", replace(shelf.rows["a"], name="changed"))
    assert [each.name for each in shelf.of(MINE)] == ["c", "changed", "b"]
    assert [each.name for each in shelf.of(OTHERS)] == ["x"]
    assert shelf.of(AccountId("nobody")) == []


def test_what_is_dropped_or_given_away_is_gone() -> None:
    shelf: Shelf[str, Thing] = Shelf()
    for name in "abc":
        shelf.put(name, Thing(name))
    assert shelf.drop("a") == Thing("a")
    assert shelf.drop("a") is None
    shelf.put("b", Thing("b", OTHERS))
    assert [each.name for each in shelf.of(MINE)] == ["c"]
    assert [each.name for each in shelf.of(OTHERS)] == ["b"]
    shelf.keep_only(["b", "unknown"])
    assert (list(shelf.rows), shelf.of(MINE)) == (["b"], [])
