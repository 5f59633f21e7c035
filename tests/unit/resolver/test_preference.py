"""The order of number types: country priority, and the operator's rule before it."""

import pytest

from resolver.model import NumberType, Service
from resolver.preference import NEIGHBORS, type_order
from tests.unit.resolver.floor import powerpack

SHORT, FREE, LONG = NumberType.SHORT_CODE, NumberType.TOLL_FREE, NumberType.LONG_CODE

OPERATORS = {"verizon": LONG, "bell": SHORT}


@pytest.mark.parametrize(
    ("country", "priority", "operator", "expected"),
    [
        # the defaults (RESOLUTION 3)
        ("US", {}, "", (SHORT, FREE, LONG)),
        ("CA", {}, "", (SHORT, LONG, FREE)),
        ("GB", {}, "", (SHORT, FREE, LONG)),
        # editable, per country and service
        ("US", {("US", Service.SMS): (LONG, FREE, SHORT)}, "", (LONG, FREE, SHORT)),
        ("US", {("US", Service.MMS): (LONG, FREE, SHORT)}, "", (SHORT, FREE, LONG)),
        ("CA", {("US", Service.SMS): (LONG, FREE, SHORT)}, "", (SHORT, LONG, FREE)),
        # taken at its word when it names some types only; nothing named is the default; each once
        ("US", {("US", Service.SMS): (LONG,)}, "", (LONG,)),
        ("US", {("US", Service.SMS): ()}, "", (SHORT, FREE, LONG)),
        ("US", {("US", Service.SMS): (LONG, LONG, FREE)}, "", (LONG, FREE)),
        # the operator's type first, the rest by priority; also one that the priority does not name
        ("US", {}, "verizon", (LONG, SHORT, FREE)),
        ("CA", {}, "verizon", (LONG, SHORT, FREE)),
        ("US", {}, "bell", (SHORT, FREE, LONG)),
        ("US", {("US", Service.SMS): (FREE,)}, "verizon", (LONG, FREE)),
        # an operator without a rule changes nothing
        ("US", {}, "tmobile", (SHORT, FREE, LONG)),
    ],
)
def test_types_are_tried_in_this_order(country, priority, operator, expected):
    row = powerpack(priority=priority, operator_types=OPERATORS)
    assert type_order(row, country, Service.SMS, operator) == expected


def test_the_neighbors_are_each_others():
    assert all(NEIGHBORS[NEIGHBORS[country]] == country for country in NEIGHBORS)
