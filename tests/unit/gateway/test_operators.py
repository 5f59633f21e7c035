"""The operator look-up in memory, and what a file of prefixes says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.administering import Refused
from gateway.csv_lines import BadLine
from gateway.operators import Operators, read_prefixes
from resolver.model import E164
from storage.catalog_operators import OperatorsStamp
from tests.fakes.catalog import MemoryCatalog

DIGITS = st.text("123", min_size=1, max_size=6)


class Prefixes(MemoryCatalog):
    def __init__(self, prefixes: dict[str, str]) -> None:
        super().__init__()
        self.prefixes, self.imported_ms, self.reads = prefixes, 1, 0

    async def operators_stamp(self) -> OperatorsStamp:
        return OperatorsStamp(len(self.prefixes), self.imported_ms)

    async def operator_pages(self) -> AsyncIterator[dict[str, str]]:
        self.reads += 1
        yield self.prefixes


async def loaded(prefixes: dict[str, str]) -> Operators:
    operators = Operators(Prefixes(prefixes))
    await operators.load()
    return operators


async def test_the_longest_prefix_counts_and_what_none_has_is_unknown() -> None:
    operators = await loaded({"1415": "Verizon", "1415555": "T-Mobile", "1": "other"})
    assert operators.find(E164("+14155550123")) == "T-Mobile"
    assert operators.find(E164("+14154440123")) == "Verizon"
    assert operators.find(E164("+12065550123")) == "other"
    assert operators.find(E164("+4915112345678")) == ""
    assert (await loaded({})).find(E164("+14155550123")) == ""


async def test_a_table_that_is_read_anew_replaces_the_former_one() -> None:
    catalog = Prefixes({"1": "old"})
    operators = Operators(catalog)
    await operators.load()
    catalog.prefixes, catalog.imported_ms = {"2": "new"}, 2
    await operators.load()
    await operators.load()
    assert catalog.reads == 2, "as it was, it is not read again"
    assert (operators.find(E164("+1555")), operators.find(E164("+2555")), len(operators)) == ("", "new", 1)


@given(st.dictionaries(DIGITS, DIGITS, max_size=20), DIGITS)
def test_it_finds_what_a_look_at_every_prefix_finds(prefixes: dict[str, str], digits: str) -> None:
    operators = asyncio.run(loaded(prefixes))
    matching = [prefix for prefix in prefixes if digits.startswith(prefix)]
    assert operators.find(E164(f"+{digits}")) == (prefixes[max(matching, key=len)] if matching else "")


def test_a_file_is_read_line_by_line_and_bad_ones_are_named() -> None:
    lines = [
        "prefix, Operator\n",
        "1415,Verizon\n",
        "+1206,AT&T\n",
        "\n",
        "x,y\n",
        "0155,y\n",
        "1,\n",
        "1,a,b\n",
        "1" * 16 + ",y\n",
    ]
    read = list(read_prefixes(lines))
    assert read[:2] == [("1415", "Verizon"), ("1206", "AT&T")]
    assert [each.line for each in read[2:] if isinstance(each, BadLine)] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("header", ["", "1415,Verizon\n", "operator,prefix\n"])
def test_a_file_must_have_its_header(header: str) -> None:
    with pytest.raises(Refused, match="prefix,operator"):
        list(read_prefixes([header]))
