"""Both ways of handing over, by themselves; what they do in a lane is in test_lanes.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.carriers.carrier import DISCONNECTED, UNREACHABLE, Outbound, SendFailed
from gateway.hands import TURN_MESSAGES_MAX, Hands, Relay, Workers, hands_of
from resolver.model import E164, AccountId, Message, MessageId, PowerpackId, Request, RequestId, Tier
from tests.fakes.carrier import ScriptedCarrier
from tests.fakes.clock import START_MS, VirtualClock, in_virtual_time

REQUEST = Request(RequestId("r"), AccountId("a"), PowerpackId("p"), "Hello", 1)


def message(name: str) -> Message:
    return Message(MessageId(name), REQUEST, E164("+14155550123"), E164("+14155550100"), Tier.AREA, START_MS + 60_000)


class Keeper:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.barred: set[str] = set()
        self.asked: list[tuple[str, int]] = []
        self.told: list[tuple[str, str]] = []

    def may_go(self, message: Message, attempt: int, now_ms: int) -> bool:
        self.asked.append((message.message_id, now_ms - START_MS))
        return message.message_id not in self.barred

    def sent(self, message: Message, carrier_ref: str, now_ms: int) -> None:
        self.told.append((message.message_id, "sent"))

    def failed(self, message: Message, failed: SendFailed, begun_ms: int) -> None:
        self.told.append((message.message_id, failed.failure.code))


class Quay:
    """Hands that run, over a scripted carrier."""

    def __init__(self, *, prompt: bool, places: int = 2, latency_ms: int = 100) -> None:
        clock = VirtualClock()
        self.carrier = ScriptedCarrier(clock, places=places, latency_ms=latency_ms, prompt=prompt)
        self.keeper = Keeper()
        self.hands: Hands = hands_of(self.carrier, self.keeper, clock)
        self.task = asyncio.create_task(self.hands.run())

    def push(self, **at_ms: int) -> None:
        for name, ms in at_ms.items():
            self.hands.push(START_MS + ms, (message(name), 1))
        self.hands.dispatch()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


both_ways = pytest.mark.parametrize("prompt", [False, True], ids=["workers", "relay"])


@in_virtual_time
async def test_the_carrier_says_which_way_suits_it() -> None:
    for prompt, kind in ((False, Workers), (True, Relay)):
        quay = Quay(prompt=prompt)
        assert type(quay.hands) is kind
        await quay.stop()


@both_ways
@in_virtual_time
async def test_what_is_due_waits_for_a_place_that_becomes_free(prompt: bool) -> None:
    quay = Quay(prompt=prompt)
    await asyncio.sleep(0)
    quay.push(a=0, b=0, c=0, d=0, e=150)
    await asyncio.sleep(0.05)
    assert (quay.hands.flying, len(quay.hands)) == (2, 3)
    await asyncio.sleep(1)
    assert quay.keeper.asked == [("a", 0), ("b", 0), ("c", 100), ("d", 100), ("e", 200)]
    assert quay.keeper.told == [(name, "sent") for name in "abcde"]
    assert (quay.hands.flying, len(quay.hands)) == (0, 0)
    await quay.stop()


@both_ways
@in_virtual_time
async def test_what_may_not_go_is_not_written_and_takes_no_place(prompt: bool) -> None:
    quay = Quay(prompt=prompt, places=1)
    quay.keeper.barred = {"a", "b"}
    quay.push(a=0, b=0, c=0)
    await asyncio.sleep(0.05)
    assert [write.outbound.message_id for write in quay.carrier.writes] == ["c"]
    assert quay.hands.flying == 1
    await asyncio.sleep(0.1)
    assert quay.keeper.told == [("c", "sent")]
    await quay.stop()


@both_ways
@in_virtual_time
async def test_a_carrier_that_cannot_be_written_to_is_not_and_the_door_is_not_asked(prompt: bool) -> None:
    quay = Quay(prompt=prompt)
    quay.carrier.before = lambda _: SendFailed(UNREACHABLE)
    quay.push(a=0, b=0, c=0)
    await asyncio.sleep(0.05)
    assert (quay.keeper.asked, quay.carrier.writes) == ([], [])
    assert quay.keeper.told == [(name, "unreachable") for name in "abc"]
    await quay.stop()


@in_virtual_time
async def test_a_worker_that_was_cancelled_loses_nothing() -> None:
    quay = Quay(prompt=False)
    await asyncio.sleep(0.001)
    waiting = quay.hands._idle[-1]  # type: ignore[attr-defined]
    waiting.cancel()
    quay.push(a=0, b=10)
    await asyncio.sleep(0.5)
    assert quay.keeper.told == [("a", "sent"), ("b", "sent")]
    await quay.stop()


# --- The relay --------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_what_is_due_together_is_written_together_a_turns_part_at_a_time() -> None:
    quay = Quay(prompt=True, places=1_000)
    sizes: list[int] = []
    write = quay.carrier.write

    def count(outbounds: Sequence[Outbound]) -> None:
        sizes.append(len(outbounds))
        write(outbounds)

    quay.carrier.write = count  # type: ignore[method-assign]
    quay.push(**{f"m{place:03d}": 0 for place in range(2 * TURN_MESSAGES_MAX + 7)})
    await asyncio.sleep(0.05)
    assert sizes == [TURN_MESSAGES_MAX, TURN_MESSAGES_MAX, 7]
    await asyncio.sleep(1)
    assert len(quay.keeper.told) == 2 * TURN_MESSAGES_MAX + 7
    await quay.stop()


@in_virtual_time
async def test_a_carrier_that_breaks_while_writing_leaves_what_it_was_given_unknown_and_goes_on() -> None:
    quay = Quay(prompt=True)
    write = quay.carrier.write

    def broken(outbounds: Sequence[Outbound]) -> None:
        raise OSError("the carrier's code is broken")

    quay.carrier.write = broken  # type: ignore[method-assign]
    quay.push(a=0, b=0)
    await asyncio.sleep(0.05)
    assert quay.keeper.told == [("a", DISCONNECTED.code), ("b", DISCONNECTED.code)]
    quay.carrier.write = write  # type: ignore[method-assign]
    quay.push(c=100)
    await asyncio.sleep(1)
    assert quay.keeper.told[2:] == [("c", "sent")]
    await quay.stop()


@in_virtual_time
async def test_an_answer_to_nothing_is_passed_over() -> None:
    quay = Quay(prompt=True)
    quay.push(a=0, b=160)
    await asyncio.sleep(0.15)
    assert quay.carrier._on_answers is not None
    quay.carrier._on_answers([(MessageId("a"), "again"), (MessageId("x"), "never asked")])
    await asyncio.sleep(0.5)
    assert quay.keeper.told[:2] == [("a", "sent"), ("b", "sent")]
    assert not quay.task.done()
    await quay.stop()


@in_virtual_time
async def test_a_broken_promise_of_our_own_ends_it() -> None:
    quay = Quay(prompt=True)

    def broken(outbounds: Sequence[Outbound]) -> None:
        raise AssertionError("ours")

    quay.carrier.write = broken  # type: ignore[method-assign]
    quay.push(a=0)
    await asyncio.wait([quay.task])
    with pytest.raises(AssertionError, match="ours"):
        quay.task.result()
