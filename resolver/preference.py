"""The order in which number types are tried: operator rule, then country priority (the Powerpack introduction)."""

from __future__ import annotations

from resolver.model import NumberType, PowerpackRow, Service

DEFAULT_PRIORITY: dict[str, tuple[NumberType, ...]] = {
    "US": (NumberType.SHORT_CODE, NumberType.TOLL_FREE, NumberType.LONG_CODE),
    "CA": (NumberType.SHORT_CODE, NumberType.LONG_CODE, NumberType.TOLL_FREE),
}
"""Plivo's defaults for a new powerpack; other countries follow the US order."""

NEIGHBORS: dict[str, str] = {"US": "CA", "CA": "US"}
"""Whose long codes stand in when a country has none of its own left."""


def type_order(row: PowerpackRow, country: str, service: Service, operator: str) -> tuple[NumberType, ...]:
    """The types to try, first one first, each once. An unknown operator (`""`) or one without a rule changes nothing.

    A priority that names only some types is taken at its word: the others are not tried, but for the operator's.
    """
    order = row.priority.get((country, service)) or DEFAULT_PRIORITY.get(country, DEFAULT_PRIORITY["US"])
    first = row.operator_types.get(operator) if operator else None
    return tuple(dict.fromkeys(order if first is None else (first, *order)))
