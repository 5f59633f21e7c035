"""Stretches of bulks: decided in turn, stored whole or not at all, and never in the way of single requests."""

from __future__ import annotations

import asyncio

import pytest

from gateway.bulks import Bulks
from gateway.submissions import BulkLine, KeyTaken, NotAccepted, Stretch, StretchAnswer, Submission
from resolver.model import E164, Limits, PowerpackId, Request, RequestId
from storage.records import IdempotencyRow, JournalFull, JournalUnavailable, OutcomeUnknown, Settled, StretchRow
from tests.fakes.accept_floor import FIRST, POWERPACK, AcceptFloor
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT
from tests.fakes.clock import in_virtual_time
from tests.fakes.entries import key_row, stretch_row

FEW = Limits(1, 60_000, 1_000_000, None)
"""One segment a minute."""


def bulks(floor: AcceptFloor, *, rows_max: int = 1_000) -> Bulks:
    return Bulks(
        floor.outbound, floor.resolver, floor.facts, floor.journal, clock=floor.clock, ids=floor.ids,
        rows_max=rows_max, commit_wait_ms_max=500,
    )  # fmt: skip


def request(text: str = "Hello", *, powerpack_id: PowerpackId = POWERPACK, **changes: str) -> Request:
    made = Request(RequestId(""), ACCOUNT, powerpack_id, text, 0)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def recipient(place: int) -> E164:
    return E164(f"+1415556{place:04d}")


class Asked:
    """A stretch of one message for each request, and what was heard of it."""

    def __init__(self, *requests: Request, first: int = 0, key: IdempotencyRow | None = None) -> None:
        self.settled: list[Settled] = []
        self.kept: list[StretchAnswer] = []
        self.row = stretch_row()
        self._key = key
        lines = [BulkLine(place + 1, each, recipient(first + place)) for place, each in enumerate(requests)]
        distinct = list({id(each): each for each in requests}.values())
        self.stretch = Stretch(ACCOUNT, lines, distinct, self._keep, self.settled.append)

    def _keep(self, answer: StretchAnswer) -> tuple[StretchRow, IdempotencyRow | None]:
        self.kept.append(answer)
        return self.row, self._key


@in_virtual_time
async def test_a_stretch_is_one_entry_with_its_row_and_a_body_for_each_request() -> None:
    floor = AcceptFloor()
    shared, other = request(), request("Other", callback_url="https://example.com/")
    asked = Asked(shared, other, shared, key=key_row("k"))
    answer = await bulks(floor).submit(asked.stretch)
    (entry,) = floor.journal.committed
    assert entry.stretch is asked.row
    assert entry.idempotency == key_row("k")
    assert [(body.request_id, body.text) for body in entry.bodies] == [
        (shared.request_id, "Hello"), (other.request_id, "Other"),
    ]  # fmt: skip
    assert [(row.line, row.recipient) for row in entry.messages] == [
        (1, recipient(0)),
        (2, recipient(1)),
        (3, recipient(2)),
    ]
    assert [each[:2] for each in answer.stored] == [(row.line, row.message_id) for row in entry.messages]
    assert asked.settled == [Settled.COMMITTED]
    assert len(floor.callbacks) == 1
    assert all(each.committed for each in floor.resolver.open.values())


@in_virtual_time
async def test_lines_are_refused_one_by_one_and_what_they_would_have_shared_is_not_stored() -> None:
    floor = AcceptFloor(numbers=1, limits=FEW)
    nobodys, foreign = request(powerpack_id=PowerpackId(floor.ids.new())), request()
    foreign.account_id = OTHER_ACCOUNT
    many = [request(validity_ms=60_000)] * 5  # type: ignore[arg-type]
    asked = Asked(request(""), nobodys, foreign, request("x" * 1_601), *many)
    answer = await bulks(floor).submit(asked.stretch)
    codes = {each.line: each.code for each in answer.refused}
    assert [codes[line] for line in (1, 2, 3, 4)] == ["invalid_text", "not_found", "not_found", "too_long"]
    assert {codes[line] for line in codes if line > 4} == {"no_capacity"}
    assert all(each.retry_at_ms for each in answer.refused if each.code == "no_capacity")
    (entry,) = floor.journal.committed
    assert len(entry.bodies) == 1
    assert not entry.facts  # a refusal of the pool's state is told, not stored as a message


@in_virtual_time
async def test_what_may_leave_at_once_is_claimed_with_its_decision() -> None:
    floor = AcceptFloor(numbers=2, places=10)
    await bulks(floor).submit(Asked(*[request()] * 5).stretch)
    (entry,) = floor.journal.committed
    assert len(entry.handovers[0].message_ids) == len(floor.lane.taken) > 0


@pytest.mark.parametrize(
    ("verdict", "raises"),
    [
        (Settled.FAILED, JournalUnavailable),
        (Settled.POISONED, NotAccepted),
        (Settled.REPLAYED, KeyTaken),
    ],
)
def test_a_stretch_that_was_not_stored_leaves_nothing_and_can_be_tried_again(
    verdict: Settled, raises: type[Exception]
) -> None:
    @in_virtual_time
    async def run() -> None:
        floor = AcceptFloor()
        floor.journal.verdicts.append(verdict)
        asked = Asked(*[request()] * 3)
        with pytest.raises(raises):
            await bulks(floor).submit(asked.stretch)
        assert asked.settled == [verdict]
        assert not floor.resolver.open
        assert len((await bulks(floor).submit(asked.stretch)).stored) == 3
        assert len(floor.journal.committed) == 1

    run()


@in_virtual_time
async def test_a_full_journal_takes_nothing_and_moves_nothing() -> None:
    floor = AcceptFloor()
    floor.journal.full = True
    asked = Asked(request())
    with pytest.raises(JournalFull):
        await bulks(floor).submit(asked.stretch)
    assert asked.settled == [Settled.FAILED]
    assert not floor.resolver.open


@in_virtual_time
async def test_a_fault_before_a_stretch_is_kept_leaves_nothing_and_settles_nothing() -> None:
    floor = AcceptFloor()
    asked = Asked(*[request()] * 3)

    def fail(_: StretchAnswer) -> tuple[StretchRow, IdempotencyRow | None]:
        raise LookupError

    with pytest.raises(LookupError):
        await bulks(floor).submit(asked.stretch._replace(keep=fail))
    assert asked.settled == []
    assert not floor.resolver.open
    assert len((await bulks(floor).submit(asked.stretch)).stored) == 3
    assert asked.settled == [Settled.COMMITTED]


@in_virtual_time
async def test_the_truth_comes_also_to_who_was_told_that_nothing_is_known() -> None:
    floor = AcceptFloor()
    floor.journal.answers_late = True
    asked = Asked(request())
    with pytest.raises(OutcomeUnknown):
        await bulks(floor).submit(asked.stretch)
    assert asked.settled == []
    await asyncio.sleep(2)
    assert asked.settled == [Settled.COMMITTED]


@in_virtual_time
async def test_stretches_are_decided_in_different_turns_of_the_loop() -> None:
    floor = AcceptFloor(commit_ms=50)
    store = bulks(floor)
    asked = [Asked(request(), first=10 * place) for place in range(4)]
    tasks = [asyncio.create_task(store.submit(each.stretch)) for each in asked]
    while (before := len(floor.resolver.open)) < 4:
        await asyncio.sleep(0)
        assert len(floor.resolver.open) - before <= 1
    await asyncio.gather(*tasks)


@in_virtual_time
async def test_no_other_message_has_an_id_among_those_of_a_stretch() -> None:
    """That is how what became of a stretch is found again."""
    floor = AcceptFloor(commit_ms=5)
    store = bulks(floor)
    asked = [Asked(*[request()] * 20, first=20 * place) for place in range(4)]
    singles = (floor.outbound.submit(Submission(request(), [recipient(900 + place)])) for place in range(30))
    await asyncio.gather(*(store.submit(each.stretch) for each in asked), *singles)
    assert len(floor.resolver.open) == 4 * 20 + 30
    ids = sorted(floor.resolver.open)
    for each in asked:
        own = [stored.message_id for stored in each.kept[0].stored]
        assert own == ids[ids.index(own[0]) : ids.index(own[-1]) + 1]


@in_virtual_time
async def test_a_stretch_cancelled_while_it_waits_for_its_turn_leaves_nothing() -> None:
    floor = AcceptFloor(commit_ms=50)
    store = bulks(floor)
    asked = [Asked(request(), first=place) for place in range(3)]
    tasks = [asyncio.create_task(store.submit(each.stretch)) for each in asked]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (asked[1].kept, asked[1].settled) == ([], [])
    assert len(floor.resolver.open) == 2


@in_virtual_time
async def test_bulks_wait_before_single_requests_would_be_refused() -> None:
    floor = AcceptFloor()
    store = bulks(floor, rows_max=100)
    floor.resolver.waiting_max = 1_000

    async def short(asked: Asked) -> type[Exception] | None:
        try:
            await store.submit(asked.stretch)
        except (JournalFull, JournalUnavailable) as error:
            assert asked.kept == []
            store.give_up(asked.stretch)
            return type(error)
        return None

    assert await short(Asked(*[request()] * 981)) is JournalFull
    assert await short(Asked(*[request()] * 980)) is None
    assert await short(Asked(request(), first=1_000)) is JournalFull
    assert await short(Asked()) is None
    floor.journal.waiting_rows = 101
    assert await short(Asked()) is JournalFull
    floor.journal.waiting_rows, floor.journal.commit_wait_ms = 100, {ACCOUNT: 501}
    assert await short(Asked()) is JournalFull
    floor.journal.commit_wait_ms = {OTHER_ACCOUNT: 501}
    assert await short(Asked()) is None
    floor.journal.go_away()
    assert await short(Asked()) is JournalUnavailable


@in_virtual_time
async def test_a_long_stretch_that_found_no_room_goes_before_short_ones_that_came_later() -> None:
    floor = AcceptFloor()
    store = bulks(floor)
    floor.resolver.waiting_max = 100
    await store.submit(Asked(*[request()] * 90).stretch)
    long, short = Asked(*[request()] * 50, first=100), Asked(request(), first=200)
    for _ in range(2):
        for asked in (long, short):
            with pytest.raises(JournalFull):
                await store.submit(asked.stretch)
    floor.resolver.waiting_max = 200
    with pytest.raises(JournalFull):
        await store.submit(short.stretch)
    assert len((await store.submit(long.stretch)).stored) == 50
    assert len((await store.submit(short.stretch)).stored) == 1


@in_virtual_time
async def test_who_gives_up_or_waits_behind_itself_keeps_nobody_waiting() -> None:
    floor = AcceptFloor()
    store = bulks(floor)
    floor.resolver.waiting_max = 100
    gone, slow, other = Asked(*[request()] * 99), Asked(request(), first=100), Asked(request(), first=200)
    other.stretch = other.stretch._replace(account_id=OTHER_ACCOUNT)
    for asked in (gone, slow):
        with pytest.raises(JournalFull):
            await store.submit(asked.stretch)
    store.give_up(gone.stretch)
    floor.journal.waiting_rows, floor.journal.commit_wait_ms = 1, {ACCOUNT: 501}
    with pytest.raises(JournalFull):
        await store.submit(slow.stretch)
    await store.submit(other.stretch)
    floor.journal.commit_wait_ms = {}
    assert len((await store.submit(slow.stretch)).stored) == 1


@in_virtual_time
async def test_recipients_are_checked_and_counted_as_for_a_single_request() -> None:
    floor = AcceptFloor()
    store = bulks(floor)
    assert store.check_recipient("1 (415) 555-0100") == FIRST
    assert not isinstance(store.check_recipient("x"), str)
    assert floor.refused.counts == {("invalid_destination",): 1}
