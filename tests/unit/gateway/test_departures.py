from __future__ import annotations

import asyncio

from gateway.departures import Claimed, Departures
from resolver.model import E164, AccountId, Message, MessageId, PowerpackId, Request, RequestId, Tier
from tests.fakes.clock import START_MS, VirtualClock, in_virtual_time

REQUEST = Request(RequestId("r"), AccountId("a"), PowerpackId("p"), "Hello", 1)


def claimed(name: str) -> Claimed:
    return Message(MessageId(name), REQUEST, E164("+14155550123"), E164("+14155550100"), Tier.AREA, 0), 1


class Platform:
    """Takes what is due when the alarm rings, and notes when."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.departures = Departures(self.clock, self.leave)
        self.left: list[tuple[str, int]] = []
        self.rings = 0

    def leave(self) -> None:
        self.rings += 1
        now_ms = self.clock.now_ms()
        while (due := self.departures.pop_due(now_ms)) is not None:
            self.left.append((due[0].message_id, now_ms - START_MS))
        self.departures.set_alarm()

    def push(self, **at_ms: int) -> None:
        for name, ms in at_ms.items():
            self.departures.push(START_MS + ms, claimed(name))
        self.departures.set_alarm()


@in_virtual_time
async def test_each_leaves_at_its_slot_however_they_came() -> None:
    platform = Platform()
    platform.push(c=30, a=10)
    platform.push(b=20, d=30)
    await asyncio.sleep(0.1)
    assert platform.left == [("a", 10), ("b", 20), ("c", 30), ("d", 30)]
    assert platform.rings == 3, "one for each instant"


@in_virtual_time
async def test_nothing_leaves_from_inside_a_push() -> None:
    platform = Platform()
    platform.push(a=0)
    assert platform.left == []
    await asyncio.sleep(0.001)
    assert platform.left == [("a", 0)]


@in_virtual_time
async def test_a_sooner_slot_moves_the_alarm_forward() -> None:
    platform = Platform()
    platform.push(later=5_000)
    await asyncio.sleep(1)
    platform.push(sooner=1_500)
    await asyncio.sleep(10)
    assert platform.left == [("sooner", 1_500), ("later", 5_000)]


@in_virtual_time
async def test_what_is_taken_out_does_not_leave() -> None:
    platform = Platform()
    platform.push(a=10, c=30, b=20)
    await asyncio.sleep(0.015)
    assert [(at_ms - START_MS, message.message_id) for at_ms, (message, _) in platform.departures.take_all()] == [
        (20, "b"),
        (30, "c"),
    ]
    assert len(platform.departures) == 0
    await asyncio.sleep(1)
    platform.push(d=1_200)
    await asyncio.sleep(1)
    assert platform.left == [("a", 10), ("d", 1_200)]
