"""What a waiting message keeps in memory, so that a million of them fit (docs/limits.md)."""

from __future__ import annotations

import gc
import tracemalloc

from resolver.model import E164, Decision, MessageId, Request, RequestId
from resolver.segments import measure
from tests.fakes.accept_floor import POWERPACK, AcceptFloor
from tests.fakes.api_client import ACCOUNT
from tests.fakes.clock import in_virtual_time

MESSAGES = 4_000
BYTES_MAX = 700  # of one that shares its request, as the setting `waiting_max` says


def wait(floor: AcceptFloor) -> None:
    """Let so many messages wait that share a request, each with a recipient of its own."""
    now_ms = floor.clock.now_ms()
    request = Request(RequestId(floor.ids.new()), ACCOUNT, POWERPACK, "Your table is ready.", now_ms)
    request.segments = measure(request.text).segments
    waiting = []
    for place in range(MESSAGES):
        recipient = E164(f"+1415{2_000_000 + place}")
        decided = floor.resolver.decide(request, recipient, now_ms=now_ms, chance=0.5, operator="")
        assert isinstance(decided, Decision)
        message_id = MessageId(floor.ids.new())
        waiting.append(floor.resolver.apply(request, recipient, decided, message_id, now_ms=now_ms, operator=""))
    floor.resolver.commit(waiting)


@in_virtual_time
async def test_a_waiting_message_takes_no_more_than_is_said() -> None:
    floor = AcceptFloor(numbers=50)
    wait(floor)  # every recipient has a sticky thread, which is bounded by itself
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        wait(floor)
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / MESSAGES
    finally:
        tracemalloc.stop()
    assert floor.resolver.waiting == 2 * MESSAGES
    assert 100 < each <= BYTES_MAX
