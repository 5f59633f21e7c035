"""Callbacks: what is owed is told, whatever endpoints, the database and the process do. Time is moved by hand."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest
from plivo.utils.signature_v3 import validate_v3_signature
from structlog.testing import capture_logs

from gateway.callbacks import Callbacks
from gateway.endpoints import Endpoints
from gateway.guard import GuardPolicy, Reply
from gateway.settings import CallbackSettings
from gateway.signatures import Tokens
from resolver.model import AccountId
from storage.records import CallbackRow, CallbackState
from tests.fakes.callbacks import ACCOUNT, START_MS, TOKEN, FakeOutbox, FakeSender, HandClock, Sent, row

HOUR_MS = 3_600_000
DEAD = "https://dead.example/hook"
SETTINGS = CallbackSettings(in_flight_max=16, endpoint_in_flight_max=4)


class FakeCounts:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, *labels: str, by: int = 1) -> None:
        self.counts[labels[0]] += by


class World:
    """One process's callbacks between an outbox and endpoints that outlive it."""

    def __init__(self, *, held_max: int = 1_000, endpoint_held_max: int = 500, page_rows: int = 100) -> None:
        self.clock = HandClock()
        self.outbox = FakeOutbox()
        self.sender = FakeSender(self.clock)
        self.counts = FakeCounts()
        self.held_max, self.endpoint_held_max, self.page_rows = held_max, endpoint_held_max, page_rows
        self._nonces = count(1)
        self.callbacks = self.build()
        self.running: asyncio.Task[None] | None = None

    def build(self) -> Callbacks:
        class Pages(Callbacks):
            PAGE_ROWS = self.page_rows
            BATCH_ROWS = self.page_rows

        return Pages(
            self.outbox,
            self.sender,
            settings=SETTINGS,
            policy=GuardPolicy(),
            clock=self.clock,
            tokens_of={ACCOUNT: Tokens((TOKEN,), (TOKEN,))}.get,
            nonce=lambda: f"{next(self._nonces):020d}",
            counts=self.counts,
            held_max=self.held_max,
            endpoint_held_max=self.endpoint_held_max,
        )

    def start(self) -> None:
        self.callbacks = self.build()
        self.running = asyncio.get_running_loop().create_task(self.callbacks.run())

    async def kill(self) -> None:
        """The process dies: nothing is written any more."""
        assert self.running is not None
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running

    def commit(self, *rows: CallbackRow) -> None:
        """What facts do: rows are in the outbox, then the callbacks hear of them."""
        self.callbacks.owe(self.outbox.insert(*rows))

    async def settle(self) -> None:
        """Until nothing moves any more without time."""
        quiet, before = 0, None
        while quiet < 8:
            await asyncio.sleep(0)
            now = (len(self.sender.sent), self.outbox.calls, self.callbacks.unrecorded, self.sender.in_flight[""])
            quiet = quiet + 1 if now == before else 0
            before = now

    async def jump(self, ms: int) -> None:
        self.clock.jump(ms)
        await self.settle()

    async def live(self, until_ms: int, *, step_ms_max: int = 10 * 60_000) -> None:
        """Lets time pass, from one thing that is due to the next."""
        while self.clock.time_ms < until_ms:
            due_ms = self.outbox.next_due_ms()
            wait_ms = step_ms_max if due_ms is None else min(max(due_ms - self.clock.time_ms, 1_000), step_ms_max)
            await self.jump(wait_ms)

    def state(self, number: int) -> CallbackState:
        return self.outbox.state(row(number).callback_id)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    world.start()
    await world.settle()
    try:
        yield world
    finally:
        await world.kill()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running(World()) as made:
        yield made


def fails_until(ms: int, reply: Reply = Reply(503, "")) -> Callable[[Sent], Reply]:  # noqa: B008 - a tuple
    return lambda sent: reply if sent.at_ms < ms else Reply(200, "")


def in_order(sent: list[Sent]) -> bool:
    """Whether the first tries of each message's callbacks went in order."""
    first: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for each in sent:
        if each.id not in seen:
            seen.add(each.id)
            first[each.params["MessageUUID"]].append(int(each.headers["Sendpool-Sequence"]))
    return all(sequences == sorted(sequences) for sequences in first.values())


# --- The straight way -------------------------------------------------------------------------------------------------


async def test_what_is_committed_is_sent_at_once_and_then_marked_told(world: World) -> None:
    world.commit(row(1))
    await world.settle()
    assert [sent.id for sent in world.sender.sent] == [row(1).callback_id]
    assert world.state(1) is CallbackState.OWED, "nothing was written yet"
    await world.jump(Callbacks.ROUND_MS)
    assert world.state(1) is CallbackState.TOLD
    assert world.callbacks.held == 0
    assert world.counts.counts == {"told": 1}


async def test_what_is_sent_validates_with_the_sdk(world: World) -> None:
    world.commit(row(1, url="https://a.example:8443/hook?x=1"))
    await world.settle()
    (sent,) = world.sender.sent
    nonce, signature = sent.headers["X-Plivo-Signature-V3-Nonce"], sent.headers["X-Plivo-Signature-V3"]
    assert nonce == "00000000000000000001"
    assert validate_v3_signature("POST", sent.url, nonce, TOKEN, signature, dict(sent.params))
    assert not validate_v3_signature("POST", sent.url, nonce, "another-token", signature, dict(sent.params))


async def test_each_try_has_its_own_nonce_and_time_but_one_id(world: World) -> None:
    world.sender.answer = fails_until(START_MS + 60_000)
    world.commit(row(1))
    await world.settle()
    await world.jump(Callbacks.ROUND_MS)
    await world.jump(60_000)
    first, second = world.sender.sent
    assert first.id == second.id
    assert first.headers["X-Plivo-Signature-V3-Nonce"] != second.headers["X-Plivo-Signature-V3-Nonce"]
    assert int(second.headers["Webhook-Timestamp"]) - int(first.headers["Webhook-Timestamp"]) == 60


async def test_many_are_told_with_bounded_places(world: World) -> None:
    world.commit(*(row(number, url=f"https://h{number % 5}.example/") for number in range(400)))
    await world.settle()
    assert len(world.sender.sent) == 400
    assert max(world.sender.most_in_flight[f"h{number}.example"] for number in range(5)) == 4
    assert world.sender.most_in_flight[""] == 16
    await world.jump(Callbacks.ROUND_MS)
    assert world.outbox.states() == {"told": 400}


# --- Trying again -----------------------------------------------------------------------------------------------------


async def test_a_failure_is_tried_again_after_60_120_and_240_seconds_and_then_growing(world: World) -> None:
    world.sender.answer = lambda sent: Reply(302, "")
    world.commit(row(1))
    await world.live(START_MS + 3 * HOUR_MS)
    waits = [
        round((later.at_ms - sooner.at_ms) / 60_000)
        for sooner, later in zip(world.sender.sent, world.sender.sent[1:], strict=False)
    ]
    assert waits[:7] == [1, 2, 4, 8, 16, 32, 64]


async def test_after_seventy_five_hours_it_is_given_up(world: World) -> None:
    world.sender.answer = lambda sent: Reply(0, "timeout")
    world.commit(row(1))
    await world.live(START_MS + 80 * HOUR_MS)
    assert world.state(1) is CallbackState.GIVEN_UP
    assert len(world.sender.sent) == 16
    assert 0 <= world.sender.sent[-1].at_ms - (START_MS + 75 * HOUR_MS) <= 2_000
    assert world.outbox.results[row(1).callback_id].last_result == "timeout"
    assert world.counts.counts == {"failed": 15, "given_up": 1}


async def test_gone_is_not_tried_again(world: World) -> None:
    world.sender.answer = lambda sent: Reply(410, "")
    world.commit(row(1))
    await world.live(START_MS + HOUR_MS)
    assert world.state(1) is CallbackState.GIVEN_UP
    assert len(world.sender.sent) == 1


async def test_after_a_day_without_endpoint_everything_arrives_in_order(world: World) -> None:
    back_ms = START_MS + 24 * HOUR_MS
    world.sender.answer = fails_until(back_ms, Reply(0, "unreachable"))
    numbers = count()
    for hour in range(24):
        world.commit(
            *(
                row(next(numbers), message=hour * 10 + message, sequence=sequence, at_ms=world.clock.time_ms)
                for message in range(10)
                for sequence in (1, 2, 3)
            )
        )
        await world.live(START_MS + (hour + 1) * HOUR_MS)
    await world.live(back_ms + 13 * HOUR_MS)
    assert world.outbox.states() == {"told": 720}
    assert in_order(world.sender.sent)
    told = [sent for sent in world.sender.sent if sent.at_ms >= back_ms]
    assert len(told) == 720, "each once"


async def test_an_endpoint_that_is_down_is_not_hammered(world: World) -> None:
    world.sender.answer = lambda sent: Reply(0, "unreachable")
    world.commit(*(row(number) for number in range(400)))
    await world.live(START_MS + HOUR_MS)
    assert len(world.sender.sent) < 100, "400 callbacks were due seven times each"
    assert world.outbox.states() == {"owed": 400}
    assert world.callbacks.held == 0, "they wait in the outbox, not in memory"


# --- Isolation --------------------------------------------------------------------------------------------------------


async def test_a_silent_endpoint_does_not_hold_up_the_others(world: World) -> None:
    world.sender.silent = {"dead.example"}
    world.commit(*(row(number, url=DEAD) for number in range(300)))
    await world.settle()
    assert len(world.sender.of("dead.example")) == 4, "its places, and it stands on all of them"
    world.commit(*(row(1_000 + number, url=f"https://h{number % 3}.example/") for number in range(300)))
    await world.settle()
    assert sum(len(world.sender.of(f"h{number}.example")) for number in range(3)) == 300
    assert world.clock.time_ms == START_MS


async def test_a_full_endpoint_leaves_room_for_the_others() -> None:
    async with running(World(held_max=60, endpoint_held_max=20)) as world:
        world.sender.silent = {"dead.example"}
        world.commit(*(row(number, url=DEAD) for number in range(300)))
        await world.settle()
        assert world.callbacks.held == 20
        assert world.callbacks.spilled == 1
        world.commit(*(row(1_000 + number) for number in range(20)))
        await world.settle()
        assert len(world.sender.of("a.example")) == 20


# --- Order ------------------------------------------------------------------------------------------------------------


async def test_the_next_callback_of_a_message_waits_for_the_answer_to_the_one_before(world: World) -> None:
    world.sender.silent = {"a.example"}
    world.commit(row(1, message=1, sequence=1), row(2, message=1, sequence=2))
    await world.settle()
    assert [sent.headers["Sendpool-Sequence"] for sent in world.sender.sent] == ["1"]
    world.sender.speak(Reply(200, ""))
    await world.settle()
    assert [sent.headers["Sendpool-Sequence"] for sent in world.sender.sent] == ["1", "2"]


async def test_but_not_longer_than_its_first_try(world: World) -> None:
    world.sender.answer = lambda sent: Reply(500, "") if sent.headers["Sendpool-Sequence"] == "1" else Reply(200, "")
    world.commit(row(1, message=1, sequence=1), row(2, message=1, sequence=2))
    await world.settle()
    await world.jump(Callbacks.ROUND_MS)
    assert (world.state(1), world.state(2)) == (CallbackState.OWED, CallbackState.TOLD)


# --- Bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_rows", [7, 100])
async def test_what_finds_no_room_waits_in_the_outbox_and_is_told_in_order(page_rows: int) -> None:
    async with running(World(held_max=50, endpoint_held_max=30, page_rows=page_rows)) as world:
        held = []
        for sequence in (1, 2, 3):
            for message in range(100):
                number = sequence * 1_000 + message
                world.commit(row(number, url=f"https://h{message % 3}.example/", message=message, sequence=sequence))
                held.append(world.callbacks.held)
            await world.jump(Callbacks.ROUND_MS)
        for _ in range(200):
            await world.jump(Callbacks.SPILLED_PASS_MS)
            held.append(world.callbacks.held)
        assert max(held) == 50
        assert world.outbox.states() == {"told": 300}
        assert len(world.sender.sent) == 300
        assert in_order(world.sender.sent)
        assert world.callbacks.spilled == 0


async def test_what_was_spilled_while_a_pass_was_under_way_is_not_overtaken_after_its_end() -> None:
    async with running(World(held_max=60, endpoint_held_max=4, page_rows=5)) as world:
        await world.jump(Callbacks.PASS_MS)
        world.outbox.insert(*(row(number, url=f"https://h{number}.example/") for number in range(100, 112)))
        world.sender.silent = {"a.example"}
        world.commit(*(row(number) for number in range(4)))  # it is full
        await world.jump(Callbacks.PASS_MS)  # the pass reads its first page
        first = row(10, message=10, sequence=1)  # spilled, behind the cursor
        world.commit(first)
        world.sender.silent = set()
        world.sender.speak(Reply(200, ""))
        for _ in range(3):  # to its end
            await world.jump(Callbacks.ROUND_MS)
        assert world.callbacks.spilled == 1
        world.commit(row(11, message=10, sequence=2))
        for _ in range(5):
            await world.jump(Callbacks.PASS_MS)
        assert world.outbox.states() == {"told": 18}
        assert in_order(world.sender.sent)
        assert world.callbacks.spilled == 0


async def test_a_silent_endpoints_backlog_in_the_outbox_does_not_hide_what_is_due_behind_it() -> None:
    async with running(World(held_max=60, endpoint_held_max=20, page_rows=10)) as world:
        world.sender.silent = {"dead.example"}
        world.commit(*(row(number, url=DEAD) for number in range(300)))
        world.outbox.insert(*(row(1_000 + number, at_ms=START_MS + 1) for number in range(5)))
        for _ in range(60):
            await world.jump(Callbacks.PASS_MS)
        assert len(world.sender.of("a.example")) == 5


# --- Storage away -----------------------------------------------------------------------------------------------------


async def test_results_are_kept_while_the_database_is_away_and_nothing_is_sent_twice(world: World) -> None:
    world.commit(*(row(number) for number in range(10)))
    world.outbox.is_away = True
    await world.settle()
    calls = world.outbox.calls
    for _ in range(200):
        await world.jump(Callbacks.ROUND_MS)
    assert (world.callbacks.unrecorded, world.callbacks.held) == (10, 10)
    assert world.outbox.calls - calls <= 10, "it is asked once a second"
    world.outbox.is_away = False
    await world.jump(Callbacks.AWAY_MS)
    assert world.outbox.states() == {"told": 10}
    assert (world.callbacks.unrecorded, world.callbacks.held) == (0, 0)
    assert len(world.sender.sent) == 10


async def test_what_is_owed_is_loaded_once_the_database_is_there() -> None:
    world = World()
    world.outbox.insert(row(1))
    world.outbox.is_away = True
    async with running(world):
        await world.jump(10_000)
        assert world.sender.sent == []
        world.outbox.is_away = False
        await world.jump(Callbacks.AWAY_MS)
        await world.jump(Callbacks.ROUND_MS)
        assert world.outbox.states() == {"told": 1}


# --- Kills and drains -------------------------------------------------------------------------------------------------


async def test_what_was_owed_when_the_process_died_is_told_by_the_next() -> None:
    world = World()
    async with running(world):
        world.sender.silent = {"dead.example"}
        world.commit(*(row(number, url=DEAD) for number in range(50)))
        await world.settle()
    world.sender.silent = set()
    async with running(world):
        await world.jump(Callbacks.ROUND_MS)
        assert world.outbox.states() == {"told": 50}


async def test_what_was_told_and_not_yet_written_is_told_again_with_the_same_id() -> None:
    world = World()
    async with running(world):
        world.commit(row(1))
        await world.settle()
    async with running(world):
        await world.jump(Callbacks.ROUND_MS)
    assert [sent.id for sent in world.sender.sent] == [row(1).callback_id] * 2
    assert world.state(1) is CallbackState.TOLD


async def test_what_may_follow_something_not_yet_loaded_waits_for_it() -> None:
    world = World(page_rows=10)
    world.outbox.insert(*(row(number, message=number, at_ms=START_MS - 5) for number in range(40)))
    world.outbox.is_away = True
    async with running(world):
        world.commit(row(100, message=30, sequence=2))
        world.commit(row(101, message=101, sequence=1, url="https://b.example/"))
        await world.settle()
        assert [sent.id for sent in world.sender.sent] == [row(101).callback_id], "nothing can come before a first one"
        world.outbox.is_away = False
        for _ in range(40):
            await world.jump(Callbacks.PASS_MS)
    assert world.outbox.states() == {"told": 42}
    assert in_order(world.sender.sent)


async def test_drained_it_ends_what_is_in_flight_and_begins_nothing(world: World) -> None:
    world.sender.silent = {"a.example"}
    world.commit(*(row(number) for number in range(20)))
    await world.settle()
    draining = asyncio.get_running_loop().create_task(world.callbacks.drain(ms_max=5_000))
    await world.settle()
    world.commit(row(100, url="https://b.example/"))
    world.sender.speak(Reply(200, ""))
    await draining
    assert len(world.sender.sent) == 4
    assert world.outbox.states() == {"told": 4, "owed": 17}
    assert world.running is not None
    await asyncio.wait_for(world.running, 1)


async def test_a_drain_cuts_off_what_takes_too_long_and_it_stays_owed(world: World) -> None:
    world.sender.silent = {"dead.example"}
    world.commit(row(1, url=DEAD), row(2))
    await world.settle()
    await world.callbacks.drain(ms_max=1)
    assert (world.state(1), world.state(2)) == (CallbackState.OWED, CallbackState.TOLD)
    assert world.sender.in_flight[""] == 0


async def test_a_part_that_never_ran_drains_at_once() -> None:
    await World().callbacks.drain(ms_max=1)


# --- What cannot be sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://a.example/", "https://127.0.0.1/", "https://a.example:22/", "nonsense", ""])
async def test_a_refused_address_gets_no_request(world: World, url: str) -> None:
    world.commit(row(1, url=url), row(2))
    await world.settle()
    await world.jump(Callbacks.ROUND_MS)
    assert [sent.id for sent in world.sender.sent] == [row(2).callback_id]
    assert world.outbox.results[row(1).callback_id].last_result == "refused_url"
    assert world.state(1) is CallbackState.OWED, "the administrator may allow it"


async def test_refused_addresses_do_not_make_a_common_endpoint_rest(world: World) -> None:
    world.commit(*(row(number, url="https://127.0.0.1/") for number in range(3 * Endpoints.REST_AFTER)))
    await world.settle()
    assert world.callbacks.resting() == 0


async def test_without_the_accounts_token_nothing_is_sent_unsigned(world: World) -> None:
    world.commit(row(1, account=AccountId("MA00000000000000000B")))
    await world.settle()
    await world.jump(Callbacks.ROUND_MS)
    assert world.sender.sent == []
    assert world.outbox.results[row(1).callback_id].last_result == "no_account"


async def test_unreadable_parameters_cost_their_own_callback_only(world: World) -> None:
    world.commit(row(1)._replace(params=b"\xff"), row(2))
    await world.settle()
    await world.jump(Callbacks.ROUND_MS)
    assert (world.state(1), world.state(2)) == (CallbackState.GIVEN_UP, CallbackState.TOLD)


async def test_a_sender_that_raises_ends_no_worker(world: World) -> None:
    def explode(sent: Sent) -> Reply:
        raise RuntimeError("boom")

    world.sender.answer = explode
    world.commit(*(row(number, url=f"https://h{number}.example/") for number in range(40)))
    with capture_logs() as logs:
        await world.settle()
    assert sum(log["log_level"] == "error" for log in logs) == 40
    await world.jump(Callbacks.ROUND_MS)
    assert {result.last_result for result in world.outbox.results.values()} == {"internal"}
    world.sender.answer = lambda sent: Reply(200, "")
    await world.jump(61_000)
    await world.jump(Callbacks.ROUND_MS)
    assert world.outbox.states() == {"told": 40}
