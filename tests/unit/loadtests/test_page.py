"""The page of a run."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from loadtests.figures import Answered, Figures, conclude
from loadtests.page import render

MS, S = 1_000_000, 1_000_000_000


def figures(answered: list[Answered], late_ns: list[int]) -> Figures:
    return conclude(
        answered, Counter({"503 <overloaded>": 2}), Counter({"202": len(answered)}), mode="single",
        messages_per_request=1, rate_per_s=100, seconds=3.0, late_ns=late_ns, queued=0, connections=10,
    )  # fmt: skip


@pytest.mark.parametrize(
    "answered", [[], [Answered(0, MS)], [Answered(place * 10 * MS, (1 + place) * MS) for place in range(300)]]
)
def test_the_page_stands_alone_and_is_well_formed(answered: list[Answered]) -> None:
    page = render(figures(answered, [0] * 300), title="Open & loop", about={"command": "--rate 100 <x>"})
    assert "<script" not in page
    assert not re.search(r"(src|href)=", page)
    assert "503 &lt;overloaded&gt;" in page
    assert "Open &amp; loop" in page
    ElementTree.fromstring(re.sub(r'<!doctype html>|<meta charset="utf-8">', "", page))


def test_all_answers_are_in_the_histogram() -> None:
    answered = [Answered(place * 10 * MS, (1 + place) * MS) for place in range(300)]
    page = render(figures(answered, [0] * 300), title="", about={})
    assert sum(int(count.replace(",", "")) for count in re.findall(r"up to [\d.]+ ms: ([\d,]+)<", page)) == 300


def test_a_generator_that_was_late_is_named() -> None:
    assert "the bottleneck" in render(figures([Answered(0, MS)], [0, 20 * MS]), title="", about={})
    assert "the bottleneck" not in render(figures([Answered(0, MS)], [0, MS]), title="", about={})
