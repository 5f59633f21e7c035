"""Better chances are taken: messages that no number holds, and those that could leave at least a minute sooner.

After numbers were added, limits raised or a carrier came back, a powerpack's backlog is looked at once, in accept
order, a bounded part at a time. A sticky recipient's waiting messages move together and take the thread along, or none
moves; a thread already used for a hand-over moves only when its number is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Final

from resolver.alone import decide_alone
from resolver.choosing import Question, choose, choose_anew, wait_for_resume
from resolver.geography import locate
from resolver.memory import Memory
from resolver.model import E164, CarrierName, Decision, Message, Phase, Priority, Refusal, Tier
from resolver.pausing import is_paused
from resolver.pool import Pool
from resolver.queues import Number
from resolver.windows import Window

WORTH_MS: Final = 60_000
"""A message moves when it is forecast more than this ahead, would leave this much sooner, and rested as long."""

TOGETHER_MAX: Final = 1_000
"""The most messages of one recipient that move together; where more wait, none moves."""

IDLE_LOOKS: Final = 100
"""How many numbers without a backlog count as one message looked at."""


@dataclass(slots=True)
class Booked:
    """What waits for one link, while a backlog is walked in accept order."""

    window: Window
    waits_long: bool
    segments: int = 0

    def pass_by(self, units: int, now_ms: int) -> int:
        """The link's forecast for the next message that waits for it."""
        at_ms = self.window.forecast_ms(self.segments, units, now_ms)
        self.segments += units
        return at_ms


Moved = list[tuple[Message, Decision | Refusal]]


def rebind(memory: Memory, *, now_ms: int, chance: float, most: int) -> Moved:
    """Decide again, orphans first; at most `most` messages, numbers with a backlog, or powerpacks are looked at."""
    moved: Moved = []
    orphans = memory.orphans.take(most)
    for message in orphans:
        _settle_orphan(memory, message, moved, now_ms=now_ms, chance=chance)
    left = most - len(orphans)
    while memory.improving and left > 0:
        pool = memory.improving.popleft()
        if memory.pools.get(pool.row.powerpack_id) is not pool:
            continue
        if is_paused(pool):  # nothing leaves sooner now; who resumes it has it looked at again
            pool.backlog, pool.better = None, False
            continue
        if pool.backlog is None:
            pool.better = False
            pool.backlog = _backlog(pool, now_ms)
            left -= 1
        for item in pool.backlog:
            left -= 1
            if item is not None:
                _look_at(memory, pool, *item, moved, now_ms=now_ms, chance=chance)
            if left <= 0:
                break
        else:
            pool.backlog = None
        if pool.better or pool.backlog is not None:
            memory.improving.append(pool)
    return moved


def _settle_orphan(memory: Memory, message: Message, moved: Moved, *, now_ms: int, chance: float) -> None:
    if message.expires_ms <= now_ms:
        return  # its validity ends it
    if message.request.source:
        found = decide_alone(
            memory.numbers, message.request, message.recipient, operator=message.operator,
            excluded_networks=memory.excluded_networks, now_ms=now_ms, latest_ms=message.expires_ms,
        )  # fmt: skip
    else:
        pool = memory.pools.get(message.request.powerpack_id)
        question = _question(memory, pool, message, now_ms, chance) if pool is not None else None
        if pool is None or question is None:
            return  # who deleted its powerpack ends it
        found = wait_for_resume(choose(question)) if is_paused(pool) else choose(question)
    if isinstance(found, Refusal):
        memory.leave(message)
    else:
        memory.move(message, found, now_ms=now_ms)
    moved.append((message, found))


def _backlog(pool: Pool, now_ms: int) -> Iterator[tuple[Message, int] | None]:
    """What is forecast more than `WORTH_MS` ahead, in accept order, each with its forecast as of now.

    None: a part of the work is done. Over copies of queues and windows, since they change while this is looked at.
    """
    links: dict[CarrierName, Booked] = {}
    queues: list[Iterator[tuple[Message, int]]] = []
    for count, number in enumerate(list(pool.busy)):
        link = number.link
        if link.carrier not in links:
            links[link.carrier] = Booked(link.window.copy(), link.free_ms(1, now_ms) > now_ms + WORTH_MS)
        waits_long = links[link.carrier].waits_long or number.forecast_ms(False, 1, now_ms) > now_ms + WORTH_MS
        if number.messages and waits_long:
            queues.extend(_forecasts(number, queue, now_ms) for queue in (number.urgent, number.bulk) if queue)
            yield None
        elif count % IDLE_LOOKS == IDLE_LOOKS - 1:
            yield None
    for message, number_ms in merge(*queues, key=_accept_order_of_item):
        found = pool.numbers.get(message.number)
        booked = links.get(found.link.carrier) if found is not None and message.booked else None
        at_ms = max(number_ms, booked.pass_by(message.request.segments, now_ms)) if booked is not None else number_ms
        if at_ms > now_ms + WORTH_MS:
            yield message, at_ms
        if booked is not None and found is not None and _has_gone_elsewhere(message, found.number):
            booked.segments -= message.request.segments


def _forecasts(number: Number, queue: deque[Message], now_ms: int) -> Iterator[tuple[Message, int]]:
    """What waits in one of a number's queues, with its forecasts by the number's windows."""
    behind_urgent = queue is number.bulk
    ahead = number.released_segments + (number.urgent_segments if behind_urgent else 0)
    count = number.released_messages + (number.urgent_messages if behind_urgent else 0)
    rate, day_law = number.rate.copy(), number.day_law.copy() if number.day_law is not None else None
    waiting = [each for each in queue if each.phase is Phase.WAITING and each.number == number.number]

    def walk(ahead: int, count: int) -> Iterator[tuple[Message, int]]:
        for message in waiting:
            at_ms = rate.forecast_ms(ahead, message.request.segments, now_ms)
            if day_law is not None:
                at_ms = max(at_ms, day_law.forecast_ms(count, 1, now_ms))
            yield message, at_ms
            if not _has_gone_elsewhere(message, number.number):
                ahead += message.request.segments
                count += 1

    return walk(ahead, count)


def _has_gone_elsewhere(message: Message, number: E164) -> bool:
    """Whether a message has left a number's queue otherwise than by its turn, so that others need not wait for it."""
    return message.number != number or (message.phase is Phase.DONE and not message.attempt)


def _look_at(
    memory: Memory, pool: Pool, message: Message, at_ms: int, moved: Moved, *, now_ms: int, chance: float
) -> None:
    """Move a message, with those that go with it, if that is worth it. `at_ms`: its forecast when the look began."""
    number = pool.numbers.get(message.number)
    if number is None or not message.committed or message.phase is not Phase.WAITING or message in memory.orphans:
        return
    if message.request.source:
        return  # it stays with the number it named
    tail_ms = number.forecast_ms(message.request.priority is Priority.URGENT, 1, now_ms)
    at_ms = min(at_ms, max(tail_ms, number.link.free_ms(1, now_ms)))  # others may have gone out of its way
    if (
        message.expires_ms <= now_ms
        or at_ms <= now_ms + WORTH_MS
        or (message.rebound_ms and message.rebound_ms + WORTH_MS > now_ms)
    ):
        return
    together = _together(pool, message)
    question = _question(memory, pool, message, now_ms, chance) if together else None
    if question is None:
        return
    found = choose_anew(question)
    if isinstance(found, Refusal) or found.forecast_ms is None or found.number == message.number:
        return
    if found.forecast_ms + WORTH_MS > at_ms:
        return
    for each in together:
        memory.move(each, found, now_ms=now_ms)
        moved.append((each, found))


def _together(pool: Pool, message: Message) -> list[Message]:
    """The messages that move with this one, itself among them; none when it may not move."""
    if not pool.row.sticky_sender:
        return [message]
    thread = message.thread
    if thread is None or thread.waiting is None:
        return [message]
    if thread.used or thread.number != message.number or message.tier is Tier.DETOUR:
        return []
    others = thread.waiting
    if len(others) > TOGETHER_MAX:
        return []
    if all(each.committed and each.phase is Phase.WAITING and each.number == message.number for each in others):
        return sorted(others, key=_accept_order)
    return []


def _question(memory: Memory, pool: Pool, message: Message, now_ms: int, chance: float) -> Question | None:
    location = locate(message.recipient)
    if location is None:
        return None
    request = message.request
    patience_ms = pool.row.patience_ms if request.patience_ms is None else request.patience_ms
    return Question(
        pool, request, message.recipient, location, message.operator, memory.excluded_networks,
        now_ms=now_ms, chance=chance, horizon_ms=min(now_ms + patience_ms, message.expires_ms),
        latest_ms=message.expires_ms,
    )  # fmt: skip


def _accept_order(message: Message) -> str:
    return message.message_id


def _accept_order_of_item(item: tuple[Message, int]) -> str:
    return item[0].message_id
