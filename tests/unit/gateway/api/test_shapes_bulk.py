"""Lines to requests: what is shared, and what must not gather. What a line may hold is tested by way of the route."""

from __future__ import annotations

import orjson
import pytest

from gateway.api.errors import ApiError
from gateway.api.requests import RequestReader
from gateway.api.shapes_bulk import SAMPLES_MAX, Defaults, LineReader, refused_line, render_lines
from gateway.guard import GuardPolicy
from resolver.model import E164, AccountId, MessageId
from storage.bulks import BulkMessage

PACK = "0193a1b2-0000-7000-8000-00000000000a"


def reader() -> LineReader:
    defaults = Defaults((("powerpack_uuid", PACK),), False)
    return LineReader(RequestReader(GuardPolicy()), defaults, account_id=AccountId("a"), requester_ip="192.0.2.1")


def line(**values: object) -> bytes:
    return orjson.dumps({"dst": "+14155550199", "text": "Hello", **values})


def test_lines_of_a_stretch_share_a_request_where_they_say_the_same_and_no_further() -> None:
    lines = reader()
    lines.begin_stretch()
    first, same, other_text, other_reference = (
        lines.read(each)[0] for each in (line(), line(dst="+14155550198"), line(text="x"), line(reference="r"))
    )
    assert first is same
    assert lines.requests() == [first, other_text, other_reference]
    assert (other_text.text, other_reference.text, other_reference.reference) == ("x", "Hello", "r")
    lines.begin_stretch()
    assert lines.read(line())[0] is not first


def test_a_refusal_that_comes_again_and_again_does_not_grow() -> None:
    lines = reader()
    lines.begin_stretch()
    depths = set()
    for _ in range(10):
        with pytest.raises(ApiError) as caught:
            lines.read(line(priority="high"))
        depths.add(len(list(caught.traceback)))
    assert len(depths) == 1


def test_what_is_remembered_of_lines_that_all_differ_is_bounded() -> None:
    lines = reader()
    for place in range(3 * SAMPLES_MAX):
        if place % 500 == 0:
            lines.begin_stretch()
        assert lines.read(line(reference=f"r{place}"))[0].reference == f"r{place}"
        assert len(lines._samples) <= SAMPLES_MAX + 500


def test_answers_stand_in_the_order_of_their_lines_and_errors_can_be_stored() -> None:
    messages = [
        BulkMessage(place, MessageId(f"m{place}"), E164("+14155550100"), "area", 1, None, "link_down")
        for place in (1, 3)
    ]
    refused = [refused_line(2, "invalid_json", "a\0b\ud800" + "x" * 1_000)]
    shown = [orjson.loads(each) for each in render_lines(messages, refused).splitlines()]
    assert [each["line"] for each in shown] == [1, 2, 3]
    assert shown[0] == {
        "line": 1, "message_uuid": "m1", "from": "14155550100", "tier": "area", "segments": 1, "send_at": None,
        "reason": "link_down",
    }  # fmt: skip
    assert shown[1]["error"].startswith("a b?x")
    assert len(shown[1]["error"]) == 300
