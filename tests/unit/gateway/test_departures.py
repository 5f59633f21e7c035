from __future__ import annotations

import asyncio

from gateway.departures import Claimed, Departures
from resolver.model import E164, AccountId, Message, MessageId, PowerpackId, Request, RequestId, Tier
from tests.fakes.clock import START_MS, VirtualClock, in_virtual_time

REQUEST = Request(RequestId("r"), AccountId("a"), PowerpackId("p"), "Hello", 1)


def claimed(name: str) -> Claimed:
    return Message(MessageId(name), REQUEST, E164("+14155550123"), E164("+14155550100"), Tier.AREA, 0), 1


class Workers:
    """Workers that note when they got what, and are busy for a while."""

    def __init__(self, count: int, *, busy_ms: int = 0) -> None:
        self.departures = Departures(VirtualClock())
        self.left: list[tuple[str, int]] = []
        self.busy_ms = busy_ms
        self.tasks = [asyncio.create_task(self._work()) for _ in range(count)]

    async def _work(self) -> None:
        while True:
            message, _ = await self.departures.next()
            self.left.append((message.message_id, VirtualClock().now_ms() - START_MS))
            await asyncio.sleep(self.busy_ms / 1_000)

    def push(self, **at_ms: int) -> None:
        for name, ms in at_ms.items():
            self.departures.push(START_MS + ms, claimed(name))
        self.departures.dispatch()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


@in_virtual_time
async def test_each_leaves_at_its_slot_however_they_came() -> None:
    workers = Workers(2)
    await asyncio.sleep(0)
    workers.push(c=30, a=10)
    workers.push(b=20, d=30)
    await asyncio.sleep(0.1)
    assert workers.left == [("a", 10), ("b", 20), ("c", 30), ("d", 30)]
    await workers.stop()


@in_virtual_time
async def test_a_sooner_slot_moves_the_alarm_forward() -> None:
    workers = Workers(1)
    await asyncio.sleep(0)
    workers.push(later=5_000)
    await asyncio.sleep(1)
    workers.push(sooner=1_500)
    await asyncio.sleep(10)
    assert workers.left == [("sooner", 1_500), ("later", 5_000)]
    await workers.stop()


@in_virtual_time
async def test_what_is_due_waits_for_a_worker_that_becomes_free() -> None:
    workers = Workers(2, busy_ms=100)
    workers.push(a=0, b=0, c=0, d=0, e=150)
    await asyncio.sleep(1)
    assert workers.left == [("a", 0), ("b", 0), ("c", 100), ("d", 100), ("e", 200)]
    await workers.stop()


@in_virtual_time
async def test_what_is_taken_out_does_not_leave() -> None:
    workers = Workers(2)
    await asyncio.sleep(0)
    workers.push(a=10, c=30, b=20)
    await asyncio.sleep(0.015)
    assert [(at_ms - START_MS, message.message_id) for at_ms, (message, _) in workers.departures.take_all()] == [
        (20, "b"),
        (30, "c"),
    ]
    assert len(workers.departures) == 0
    await asyncio.sleep(1)
    workers.push(d=1_200)
    await asyncio.sleep(1)
    assert workers.left == [("a", 10), ("d", 1_200)]
    await workers.stop()


@in_virtual_time
async def test_a_worker_that_was_cancelled_loses_nothing() -> None:
    workers = Workers(2)
    await asyncio.sleep(0)
    workers.tasks[1].cancel()
    workers.push(a=0)
    await asyncio.sleep(0)
    workers.push(b=10)
    await asyncio.sleep(0.1)
    assert workers.left == [("a", 0), ("b", 10)]
    await workers.stop()
