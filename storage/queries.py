"""Named SQL: every statement stands in `sql/queries/*.sql`, where it can be read, searched and run by hand.

    -- name: find_number
    -- One number of one account.
    SELECT … WHERE account_id = $1 AND number = $2;

No Python code builds SQL text; what varies is a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

Session: TypeAlias = "Connection[Record] | PoolConnectionProxy[Record]"
"""What runs queries: a connection of one's own, or one out of the pool."""

SQL_FOLDER = Path(__file__).parent / "sql"

_NAME = re.compile(r"^-- name: (.*)$", re.MULTILINE)


def parse_queries(texts: Iterable[str]) -> Mapping[str, str]:
    """Name → statement of all blocks. Raises ValueError on a bad or repeated name, a missing comment, no statement."""
    queries: dict[str, str] = {}
    for text in texts:
        before, *blocks = _NAME.split(text)
        if any(line and not line.startswith("--") for line in before.splitlines()):
            raise ValueError("SQL stands before the first '-- name:'")
        for name, block in zip(blocks[::2], blocks[1::2], strict=True):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"{name!r} is no name for a query")
            if name in queries:
                raise ValueError(f"two queries are named {name}")
            queries[name] = _statement(name, block)
    return MappingProxyType(queries)


def _statement(name: str, block: str) -> str:
    lines = block.strip().splitlines()
    if not lines or not lines[0].startswith("-- "):
        raise ValueError(f"the query {name} has no comment")
    statement = "\n".join(line for line in lines if not line.startswith("--")).strip().removesuffix(";")
    if not statement:
        raise ValueError(f"the query {name} is empty")
    return statement


QUERIES: Mapping[str, str] = parse_queries(
    path.read_text("utf-8") for path in sorted((SQL_FOLDER / "queries").glob("*.sql"))
)
