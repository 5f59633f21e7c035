"""Lines out of chunks, however the chunks are cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.lines import LINE_BYTES_MAX, Lines
from gateway.api.streams import CUT, StreamEnded
from tests.fakes.body import Body


async def read(body: Body, most: int = 500) -> list[bytes | None]:
    lines = Lines(body)
    found: list[bytes | None] = []
    while got := await lines.take(most):
        assert len(got) <= most
        found += got
    return found


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)), st.integers(1, 5), st.booleans())
def test_lines_are_the_bodys_parts_between_its_line_feeds(data: bytes, cuts: list[int], most: int, waits: bool) -> None:
    data = data.replace(b"a", b"\n")  # else there are few
    places = sorted({0, len(data), *(each for each in cuts if each < len(data))})
    chunks = [data[start:end] for start, end in pairwise(places)]
    found = asyncio.run(read(Body(chunks, waits=waits), most))
    expected = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert found == expected


@pytest.mark.parametrize("size", [LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 10 * LINE_BYTES_MAX])
@pytest.mark.parametrize("chunk", [1_000, 65_536])
@pytest.mark.parametrize("end", [b"\n", b"\nlast", b""])
async def test_a_line_that_is_too_long_is_none_and_is_not_kept(size: int, chunk: int, end: bytes) -> None:
    data = b"first\n" + b"x" * size + end
    body = Body([data[at : at + chunk] for at in range(0, len(data), chunk)])
    long = b"x" * size if size <= LINE_BYTES_MAX else None
    assert await read(body) == [b"first", long, *([b"last"] if end == b"\nlast" else [])]


async def test_the_first_is_waited_for_and_no_other() -> None:
    body = Body([b"1\n2\n", b"3\n4", b"\n5\n"], waits=True)
    lines = Lines(body)
    assert [await lines.take(3) for _ in range(4)] == [[b"1", b"2"], [b"3"], [b"4", b"5"], []]


async def test_what_has_come_is_gathered_up_to_what_is_asked_for() -> None:
    lines = Lines(Body([b"1\n2\n", b"3\n4", b"\n5\n"]))
    assert [await lines.take(3) for _ in range(3)] == [[b"1", b"2", b"3"], [b"4", b"5"], []]


async def test_not_more_is_gathered_than_may_be_held() -> None:
    line = b"x" * 60_000 + b"\n"
    lines = Lines(Body([line] * 100))
    assert 4 <= len(await lines.take(500)) <= 6


async def test_whole_lines_come_before_the_trouble_and_half_ones_do_not_come() -> None:
    lines = Lines(Body([b"1\n2\n3"], ends=CUT))
    assert await lines.take(500) == [b"1", b"2"]
    for _ in range(2):
        with pytest.raises(StreamEnded, match=CUT):
            await lines.take(500)
