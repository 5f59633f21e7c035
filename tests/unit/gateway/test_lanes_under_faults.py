"""Lanes in a bad world, from a seed: carriers that fail in every way, a journal that comes and goes, cancels, reports.

Then the faults stop and everything must settle. The laws are checked from what was written and what was stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from random import Random

import pytest

from gateway.carriers.carrier import FAILURES, Outbound, SendFailed
from resolver.model import Limits, Message, OnUnknown, Phase
from storage.records import ENDS, SETTLES, Entry, FactKind, Settled, State
from tests.fakes.carrier import take_all
from tests.fakes.clock import in_virtual_time
from tests.fakes.gateway_floor import CARRIER, Floor

SEEDS = range(10)
BAD_S = 120
SETTLE_S = 4_000
PER_NUMBER, PER_LINK = 2, 15


class World:
    """A floor and its misfortunes."""

    def __init__(self, seed: int, *, prompt: bool) -> None:
        self.random = Random(seed)
        self.is_bad = True
        self.floor = Floor(
            numbers=self.random.randint(1, 8),
            limits=Limits(PER_NUMBER, 1_000, 1_000_000, None),
            segments_per_s=PER_LINK,
            commit_ms=self.random.choice([1, 20, 150]),
            places=self.random.choice([1, 4, 40]),
            prompt=prompt,
        )
        self.messages: list[Message] = []
        self.claimed_before_write: set[tuple[str, int]] = set()
        carrier = self.floor.scripted
        carrier.answers, carrier.before = self.answer, self.before
        carrier.hangs = lambda: self.random.choice([0, 0, 50, 3_000]) if self.is_bad else 0
        self.trouble = self.random.choice([0.02, 0.2, 0.9])

    def happens(self, chance: float) -> bool:
        return self.is_bad and self.random.random() < chance

    def before(self, outbound: Outbound) -> Exception | None:
        self.floor.scripted.connect_ms = self.random.choice([0, 0, 30, 800]) if self.is_bad else 0
        return SendFailed(FAILURES["unreachable"]) if self.happens(self.trouble / 3) else None

    def answer(self, outbound: Outbound) -> str | Exception:
        if not self.happens(self.trouble):
            return take_all(outbound)
        if self.happens(0.05):
            return OSError("the carrier's code is broken")
        failure = self.random.choice([each for each in FAILURES.values() if each.code != "unreachable"])
        return SendFailed(failure, retry_after_ms=self.random.choice([None, 500, 7_000]))

    async def run(self) -> None:
        async with self.floor.running():
            for _ in range(BAD_S):
                self.accept()
                self.shake_journal()
                self.meddle()
                await asyncio.sleep(1)
            self.is_bad = False
            self.floor.journal.come_back()
            self.floor.journal.full = False
            self.floor.lane.on_link(True)
            await asyncio.sleep(SETTLE_S)

    def accept(self) -> None:
        self.messages += self.floor.accept(
            self.random.randint(0, 4),
            recipient=lambda place: f"+1415556{place % 7:04d}",
            on_unknown=self.random.choice([None, *OnUnknown]),
            validity_ms=self.random.choice([20_000, 3_000_000]),
            callback_url=self.random.choice(["", "https://account.example/"]),
            may_refuse=True,
        )

    def shake_journal(self) -> None:
        journal = self.floor.journal
        journal.verdicts.clear()
        if self.happens(0.1):
            journal.verdicts.extend([Settled.FAILED] * 3)
        journal.answers_late = self.happens(0.1)
        journal.full = self.happens(0.05)
        if self.happens(0.05):
            journal.go_away()
        elif self.random.random() < 0.3:
            journal.come_back()

    def meddle(self) -> None:
        """People cancel, carriers report, and say that their link came or went."""
        if self.happens(0.1):
            self.floor.lane.on_link(False)
        elif self.random.random() < 0.5:
            self.floor.lane.on_link(True)
        if not self.messages:
            return
        message = self.random.choice(self.messages[-30:])
        now_ms = self.floor.clock.now_ms()
        if self.happens(0.1) and self.floor.resolver.cancel(message, now_ms=now_ms):
            if message.phase is Phase.DONE:
                self.record(message, FactKind.CANCELLED)
        elif self.happens(0.3) and message.attempt and message.phase is not Phase.RELEASED:
            kinds = [FactKind.DELIVERED, FactKind.UNDELIVERED, FactKind.REPORTED_SENT, FactKind.REPORTED_FAILED]
            self.record(message, self.random.choice(kinds))
            self.floor.attempts.reported(message)

    def record(self, message: Message, kind: FactKind) -> None:
        self.floor.attempts.flush()
        entry = Entry()
        self.floor.facts.record(entry, message, kind)
        self.floor.facts.keep(entry)


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
@in_virtual_time
async def test_every_law_holds_and_everything_settles(seed: int, prompt: bool) -> None:
    world = World(seed, prompt=prompt)
    await world.run()
    check_attempts(world)
    check_ends(world)
    check_windows(world)
    check_nothing_is_left(world)
    assert world.floor.scripted.writes


def check_attempts(world: World) -> None:
    """One durable claim, one write at most, one settling fact for each attempt; copies only where flagged."""
    journal, writes = world.floor.journal, world.floor.scripted.writes
    claims = Counter(claim for row in journal.handovers() for claim in zip(row.message_ids, row.attempts, strict=True))
    settled = Counter((fact.message_id, fact.attempt) for fact in journal.facts() if fact.kind in SETTLES)
    written = Counter((write.outbound.message_id, write.outbound.attempt) for write in writes)
    assert set(claims.values()) == {1}
    assert settled == claims, "every attempt is settled by one fact naming it"
    assert set(written.values()) == {1}
    assert set(written) <= set(claims)
    handed = Counter(
        (fact.message_id, fact.attempt)
        for fact in journal.facts()
        if fact.kind in SETTLES and fact.handed_ms is not None
    )
    assert handed == written, "and the fact says whether and when it was written"
    possible_copies = Counter(
        fact.message_id for fact in journal.facts() if fact.kind in SETTLES and fact.handed_ms and fact.charged
    )
    for message in world.messages:
        if possible_copies[message.message_id] > 1 and not message.possible_duplicate:
            details = {fact.detail for fact in journal.facts_of(message.message_id) if fact.kind is FactKind.RETURNED}
            assert "failing" in details, "the carrier said that it failed: decision 4"


def check_ends(world: World) -> None:
    """Each message is in one state, told once, and final unless it waits for its report."""
    journal = world.floor.journal
    outcomes = {row.message_id: row.state for row in journal.outcomes()}
    assert len(outcomes) == len(journal.outcomes())
    for message in world.messages:
        assert message.phase is Phase.DONE
        assert message.state in (*ENDS, State.SENT)
        assert outcomes.get(message.message_id, State.SENT) == message.state
    told = defaultdict(list)
    for callback in world.floor.callbacks:
        told[callback.message_id].append(callback.sequence)
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in told.values())
    with_url = [message for message in world.messages if message.request.callback_url]
    assert all(len(told[message.message_id]) == message.sequence >= 1 for message in with_url)


def check_windows(world: World) -> None:
    """No sliding second holds more charged hand-overs than it may, for a number or the link."""
    charged = defaultdict(list)
    for fact in world.floor.journal.facts():
        if fact.kind in SETTLES and fact.charged:
            assert fact.handed_ms is not None
            charged[str(fact.number)].append(fact.handed_ms)
            charged[CARRIER].append(fact.handed_ms)
    for name, times in charged.items():
        limit = PER_LINK if name == CARRIER else PER_NUMBER
        times.sort()
        assert all(later - earlier >= 1_000 for earlier, later in zip(times, times[limit:], strict=False)), name


def check_nothing_is_left(world: World) -> None:
    floor = world.floor
    link = floor.resolver.links[CARRIER]
    assert (floor.lane.held, floor.resolver.waiting, link.released_segments) == (0, 0, 0)
    for number in floor.resolver.numbers.values():
        assert (number.segments, number.messages, number.released_segments) == (0, 0, 0)
    assert not floor.facts.is_behind
    assert floor.lane.free_places() == floor.scripted.places or floor.lane.free_places() >= 2
