"""The catalog's edits; and that a resolver made from what is stored is the one that lived through it."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core import Resolver
from resolver.model import (
    CarrierName,
    Message,
    MessageId,
    Priority,
    Refusal,
    Tier,
)
from tests.unit.resolver.floor import (
    CARRIER,
    LOS_ANGELES,
    PLENTY,
    POWERPACK,
    SAN_FRANCISCO,
    TORONTO,
    decide,
    limits,
    long_code,
    new_id,
    powerpack,
    recipient,
    request,
    toll_free,
)
from tests.unit.resolver.laws import check_counts
from tests.unit.resolver.twins import DAY_MS, EFFORT
from tests.unit.resolver.worlds import World

OTHER = CarrierName("other")

# --- restore(stored) equals fold(apply) -------------------------------------------------------------------------------

ROWS = (
    long_code(SAN_FRANCISCO),
    long_code(SAN_FRANCISCO, 1, limits=limits(3, 5_000, recommended=4)),
    long_code(LOS_ANGELES, limits=limits(1, 1_000, recommended=3, day=6), carrier=OTHER),
    long_code(TORONTO, limits=limits(5, 20_000, recommended=10)),
    toll_free(carrier=OTHER),
)
RECIPIENTS = [recipient(code, line) for code in (SAN_FRANCISCO, TORONTO) for line in range(4)]
ASKED = [
    request(segments, priority=priority, patience_ms=patience_ms)
    for segments in (1, 2, 7)
    for priority in Priority
    for patience_ms in (None, 0)
]


def live(random: Random, steps: int) -> World:
    """A random life without crashes, at whose end nothing is under way."""
    world = World(
        random.sample(ROWS, random.randint(2, len(ROWS))),
        random=random,
        rates={CARRIER: PLENTY, OTHER: PLENTY},
        powerpack=powerpack(sticky_life_ms=random.choice([60_000, DAY_MS]), sticky_wait_ms=random.choice([0, 3_000])),
    )
    for _ in range(steps):
        for _ in range(random.choice([0, 1, 1, 3])):
            world.accept(random.choice(ASKED), random.choice(RECIPIENTS))
        world.commit()
        for carrier in world.rates:
            world.release(carrier, claim=random.random() < 0.9)
        world.now_ms += random.choice([0, 100, 1_020, 5_100, 40_000, 43_200_000])
        world.depart()
        for message in list(world.away):
            world.answer(
                message, random.choice(["sent", "sent", "returned", "returned charged", "rejected"]), retry_ms=9_000
            )
        if random.random() < 0.1:
            world.cancel(random.choice(list(world.resolver.open.values()) or [world_message()]))
        if random.random() < 0.1:
            number = random.choice(ROWS)
            if number.number in world.rows:
                world.drop_number(number.number)
            else:
                world.put_number(number)
        if random.random() < 0.1:
            world.set_sticky(random.random() < 0.7)
        world.rebind()
        world.expire()
    for message in world.claimed:
        world.resolver.take_back(message, now_ms=world.now_ms)
        world.attempts[message.message_id, message.attempt].settled = True
    return world


def world_message() -> Message:
    return Message(new_id(), request(), recipient(), ROWS[0].number, Tier.AREA, 0)


@settings(max_examples=60 * EFFORT, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60))
def test_what_is_restored_from_the_journal_is_what_lived_through_it(seed, steps):
    world = live(Random(seed), steps)
    lived, restored, now_ms = world.resolver, world.restored(), world.now_ms
    check_counts(restored)
    for one in lived.numbers.values():
        if one.number in restored.numbers:
            other = restored.numbers[one.number]
            for units in (1, 2, 7):
                assert max(now_ms, one.lawful_ms(units)) == max(now_ms, other.lawful_ms(units))
            assert one.rested_ms(now_ms) == other.rested_ms(now_ms)
    for carrier, link in lived.links.items():
        assert max(now_ms, link.window.lawful_ms(1)) == max(now_ms, restored.links[carrier].window.lawful_ms(1))
    # What was tried or moved before goes first, or behind another, in life; restored it stands in accept order.
    out_of_order = world.went_back | world.moved
    for number in lived.numbers.values():
        out_of_order.update(each.message_id for behind in (number.aside or {}).values() for each in behind)
    assert waiting_by_number(lived, out_of_order) == waiting_by_number(restored, out_of_order)
    assert threads_of(lived, now_ms) == threads_of(restored, now_ms)
    for to in RECIPIENTS:
        for asked in ASKED:
            assert answer(lived, to, asked, now_ms) == answer(restored, to, asked, now_ms)


def waiting_by_number(
    resolver: Resolver, out_of_order: set[MessageId]
) -> dict[str, tuple[list[MessageId], list[MessageId]]]:
    """What waits where: in the order of its queues, and what may stand anywhere."""
    found: dict[str, tuple[list[MessageId], list[MessageId]]] = {}
    for number in resolver.numbers.values():
        waiting = {message.message_id for message in number.waiting_messages()}
        queues = (number.front, number.urgent, number.bulk, *(number.aside or {}).values())
        ids = [message.message_id for queue in queues for message in queue or () if message.message_id in waiting]
        if ids:
            ordered = [each for each in dict.fromkeys(ids) if each not in out_of_order]
            found[number.number] = ordered, sorted(waiting & out_of_order)
    return found


def threads_of(resolver: Resolver, now_ms: int) -> dict[str, tuple[object, ...]]:
    pool = resolver.pools[POWERPACK]
    found: dict[str, tuple[object, ...]] = {}
    for to in RECIPIENTS:
        thread = pool.threads.find(to)
        if thread is not None and thread.last_ms + pool.row.sticky_life_ms > now_ms:
            found[to] = (thread.number, thread.detour, thread.used)
    return found


def answer(resolver: Resolver, to: str, asked: object, now_ms: int) -> tuple[object, ...]:
    found = decide(resolver, to, asked, now_ms=now_ms)  # type: ignore[arg-type]
    if isinstance(found, Refusal):
        return found.code, found.retry_at_ms
    return found.tier, found.forecast_ms
