"""Rows in memory by their id, and those of one account in the order they came, without a look at the others'."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from resolver.model import AccountId


class Owned(Protocol):
    """A row of one account."""

    @property
    def account_id(self) -> AccountId: ...


Key = TypeVar("Key", bound=str)
Row = TypeVar("Row", bound=Owned)


class Shelf(Generic[Key, Row]):
    """`rows` is for looking up only: every change goes by the methods."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self._of: dict[AccountId, dict[Key, Row]] = {}

    def put(self, key: Key, row: Row) -> None:
        """Take a row in; one that is there already keeps its place, unless its account is another now."""
        was = self.rows.get(key)
        if was is not None and was.account_id != row.account_id:
            self.drop(key)
        self.rows[key] = row
        self._of.setdefault(row.account_id, {})[key] = row

    def drop(self, key: Key) -> Row | None:
        """Give the row that was there."""
        row = self.rows.pop(key, None)
        if row is not None:
            mine = self._of[row.account_id]
            del mine[key]
            if not mine:
                del self._of[row.account_id]
        return row

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Drop every other row."""
        for gone in self.rows.keys() - set(keys):
            self.drop(gone)

    def of(self, account_id: AccountId) -> list[Row]:
        """An account's rows, the first to come first."""
        return list(self._of.get(account_id, {}).values())
