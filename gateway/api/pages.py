"""Lists as Plivo pages them: `limit` up to 20, `offset`, and a `meta` with relative addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlencode

from gateway.api.bodies import read_integer

PLIVO_LIMIT_MAX: Final = 20
OFFSET_MAX: Final = 10_000_000  # the database walks over what is skipped


class Page(NamedTuple):
    """Which part of a list is asked for."""

    limit: int
    offset: int


def read_page(query: Mapping[str, str], *, limit_max: int = PLIVO_LIMIT_MAX) -> Page:
    """Read `limit` and `offset`; a larger limit is clamped, not refused. Raises ApiError."""
    limit = read_integer(query, "limit", least=1, most=2**31)
    offset = read_integer(query, "offset", least=0, most=OFFSET_MAX)
    return Page(min(limit or limit_max, limit_max), offset or 0)


def paged(
    path: str, query: Mapping[str, str], page: Page, *, total: int, objects: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """Give the body of a list. Filters stand in the addresses of its neighbours; `None` where there is none."""
    filters = {name: value for name, value in query.items() if name not in ("limit", "offset")}

    def address(offset: int) -> str:
        return f"{path}?{urlencode({**filters, 'limit': page.limit, 'offset': offset})}"

    after, before = page.offset + page.limit, max(0, page.offset - page.limit)
    meta = {
        "limit": page.limit,
        "offset": page.offset,
        "total_count": total,
        "next": address(after) if after < total else None,
        "previous": address(before) if page.offset else None,
    }
    return {"meta": meta, "objects": list(objects)}
