"""Reports: in any order, repeated, early or late, each makes the fact it should make, once, and is answered durably."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import NamedTuple

import pytest

from gateway.attempts import AGAIN_MS as RETRY_MS
from gateway.carriers.carrier import TIMED_OUT, UNREACHABLE, Report, SendFailed
from gateway.inbound import PARKED_MS_MAX, STORE_MS_MAX, Reports, Taken
from resolver.model import E164, CarrierName, Message, MessageId, OnUnknown, Phase
from storage.records import (
    EpochLost,
    FactKind,
    JournalUnavailable,
    Settled,
    State,
    UnmatchedReportRow,
    fold,
)
from tests.fakes.clock import in_virtual_time
from tests.fakes.gateway_floor import CARRIER, Floor, Tally

OTHER = CarrierName("other")
DELIVERED, UNDELIVERED = FactKind.DELIVERED, FactKind.UNDELIVERED
REPORTED_SENT, REPORTED_FAILED = FactKind.REPORTED_SENT, FactKind.REPORTED_FAILED
CODES = {DELIVERED: "000", UNDELIVERED: "1000", REPORTED_FAILED: "300", REPORTED_SENT: ""}


class FakeStored(NamedTuple):
    """One message as a database has it."""

    known: Message
    course: State
    sequence: int
    carriers: frozenset[CarrierName]
    kinds: frozenset[FactKind]
    is_broken: bool

    def message(self) -> Message:
        known = self.known
        if self.is_broken:
            raise ValueError("no such tier")
        message = Message(known.message_id, known.request, known.recipient, known.number, known.tier, known.expires_ms)
        message.state, message.sequence = self.course, self.sequence
        return message


class FakeArchive:
    """What a database would find: what the fake journal has committed."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self.messages: dict[MessageId, Message] = {}
        self.calls = 0
        self.is_slow = False
        self.broken = ""

    async def find_refs(self, carrier: CarrierName, carrier_refs: Sequence[str]) -> dict[str, MessageId]:
        await self._answer()
        rows = [row for entry in self._floor.journal.committed for row in entry.carrier_refs]
        return {
            row.carrier_ref: row.message_id for row in rows if row.carrier == carrier if row.carrier_ref in carrier_refs
        }

    async def recall(self, message_ids: Sequence[MessageId]) -> dict[MessageId, FakeStored]:
        await self._answer()
        return {message_id: self._stored(message_id) for message_id in message_ids if message_id in self.messages}

    async def _answer(self) -> None:
        self.calls += 1
        await asyncio.sleep(3_600 if self.is_slow else 0.002)

    def _stored(self, message_id: MessageId) -> FakeStored:
        facts = self._floor.journal.facts_of(message_id)
        state = State.QUEUED
        for fact in facts:
            state = fold(state, fact.kind)
        return FakeStored(
            self.messages[message_id],
            state,
            sum(row.message_id == message_id for row in self._floor.callbacks),
            frozenset(CarrierName(fact.carrier) for fact in facts if fact.carrier),
            frozenset(fact.kind for fact in facts),
            message_id == self.broken,
        )


class Desk(Floor):
    """A lane's floor, and reports beside it."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.archive = FakeArchive(self)
        self.counted = Tally()
        self.reports = self.open_reports()

    def open_reports(self, carrier_of: Callable[[E164], CarrierName | None] | None = None) -> Reports:
        reports = Reports(
            self.facts,
            self.archive,
            clock=self.clock,
            find=self.resolver.find,
            carrier_of=carrier_of or self.resolver.carrier_of,
            reported=self.attempts.reported,
            flush=self.attempts.flush,
            is_ready=lambda: self.journal.ready,
            counts=self.counted,
        )
        self.facts.on_carrier_ref(reports.carrier_ref_known)
        return reports

    async def sent(self, count: int = 1) -> list[Message]:
        """Messages that the carrier took, with that fact stored."""
        messages = self.accept(count, callback_url="https://a.example/")
        await asyncio.sleep(1)
        assert all(message.state == State.SENT for message in messages)
        self.archive.messages.update({message.message_id: message for message in messages})
        return messages

    async def take(self, *reports: Report, carrier: CarrierName = CARRIER) -> Taken:
        return await self.reports.take(carrier, reports)

    def statuses(self, message: Message) -> list[str]:
        """What its callbacks say, in the order in which they were handed on."""
        params = [row.params for row in self.callbacks if row.message_id == message.message_id]
        return [text.decode().split('"Status":"')[1].split('"')[0] for text in params]


def ref(message: Message) -> str:
    """The id the scripted carrier gives to a message's first attempt."""
    return f"ref-{message.message_id[-4:]}-1"


def report(kind: FactKind, *, of: Message | None = None, by: Message | None = None, carrier_ref: str = "") -> Report:
    """`of`: names our message id; `by`: only the carrier's."""
    return Report(
        ref(by) if by is not None else carrier_ref, of.message_id if of is not None else "", kind, CODES[kind], 0
    )


# --- The straight way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_reference", [True, False])
@pytest.mark.parametrize(
    ("kind", "state", "code"),
    [(DELIVERED, "delivered", "000"), (UNDELIVERED, "undelivered", "1000"), (REPORTED_FAILED, "failed", "300")],
)
@in_virtual_time
async def test_a_report_ends_its_message(by_reference: bool, kind: FactKind, state: str, code: str) -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        taken = await desk.take(report(kind, of=message) if by_reference else report(kind, by=message))
        assert taken == Taken(accepted=1, unknown=0)
        assert message.state == state
        assert desk.kinds(message) == ["sent 1", kind]
        assert [(row.state, row.code) for row in desk.journal.outcomes()] == [(state, code)]
        assert desk.statuses(message) == ["sent", state]
        assert desk.counted.counts == {(str(kind),): 1}


@in_virtual_time
async def test_it_is_answered_when_its_fact_is_durable_and_not_before() -> None:
    desk = Desk(commit_ms=40)
    async with desk.running():
        (message,) = await desk.sent()
        taking = asyncio.create_task(desk.take(report(DELIVERED, by=message)))
        await asyncio.sleep(0.039)
        assert not taking.done()
        assert desk.kinds(message) == ["sent 1"]
        await asyncio.sleep(0.002)
        assert taking.done()
        assert desk.kinds(message) == ["sent 1", "delivered"]
        await taking


@in_virtual_time
async def test_a_batch_is_one_entry() -> None:
    desk = Desk()
    async with desk.running():
        messages = await desk.sent(5)
        before = desk.journal.appended
        await desk.take(*(report(DELIVERED, by=message) for message in messages))
        assert desk.journal.appended == before + 1


@in_virtual_time
async def test_nothing_costs_nothing() -> None:
    desk = Desk()
    assert await desk.take() == Taken(0, 0)
    assert (desk.archive.calls, desk.journal.appended) == (0, 0)


# --- Repeated ---------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_repeated_report_is_stored_once() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        for _ in range(3):
            same = report(DELIVERED, by=message)
            assert await desk.take(same, same) == Taken(accepted=2, unknown=0)
        assert desk.kinds(message) == ["sent 1", "delivered"]
        assert len(desk.journal.outcomes()) == 1
        assert desk.statuses(message) == ["sent", "delivered"]
        assert desk.archive.calls == 0, "it is remembered"


@in_virtual_time
async def test_a_repeated_report_that_moves_nothing_is_stored_once_too() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        for _ in range(3):
            await desk.take(report(REPORTED_SENT, by=message), report(REPORTED_SENT, of=message))
        await desk.take(report(DELIVERED, by=message))
        await desk.take(report(UNDELIVERED, by=message))
        await desk.take(report(UNDELIVERED, by=message))
        assert desk.kinds(message) == ["sent 1", "reported_sent", "delivered", "undelivered"]
        assert message.state == State.DELIVERED
        assert len(desk.journal.outcomes()) == 1


@in_virtual_time
async def test_a_repetition_is_answered_no_sooner_than_the_first_is_durable() -> None:
    desk = Desk(commit_ms=40)
    async with desk.running():
        (message,) = await desk.sent()
        tasks = [asyncio.create_task(desk.take(report(DELIVERED, by=message))) for _ in range(3)]
        await asyncio.sleep(0.039)
        assert not any(task.done() for task in tasks)
        await asyncio.sleep(0.002)
        assert [task.result() for task in tasks] == [Taken(1, 0)] * 3
        assert desk.kinds(message) == ["sent 1", "delivered"]


@in_virtual_time
async def test_commits_of_different_batches_overlap() -> None:
    desk = Desk(commit_ms=40)
    async with desk.running():
        messages = await desk.sent(4)
        began_ms = desk.clock.now_ms()
        await asyncio.gather(*(desk.take(report(DELIVERED, by=message)) for message in messages))
        assert desk.clock.now_ms() - began_ms == 40


# --- In any order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [DELIVERED, UNDELIVERED, REPORTED_FAILED])
@in_virtual_time
async def test_every_order_of_the_same_reports_comes_to_the_same_end(end: FactKind) -> None:
    ends = set()
    for order in permutations([REPORTED_SENT, REPORTED_SENT, end, end]):
        desk = Desk()
        async with desk.running():
            (message,) = desk.accept()
            await asyncio.sleep(0.01)
            assert message.phase is Phase.DEPARTED, "written, and not answered yet"
            for kind in order:
                await desk.take(report(kind, of=message))
            await asyncio.sleep(1)
            ends.add(message.state)
            facts = desk.kinds(message)
            assert sorted(facts) == sorted(["sent 1", "reported_sent", end])
            assert len(desk.journal.outcomes()) == 1
    assert len(ends) == 1


@in_virtual_time
async def test_a_report_before_the_answer_finds_its_message_by_our_id() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = desk.accept(callback_url="https://a.example/")
        await asyncio.sleep(0.01)
        assert await desk.take(report(DELIVERED, of=message)) == Taken(1, 0)
        await asyncio.sleep(1)
        assert desk.kinds(message) == ["delivered", "sent 1"]
        assert desk.statuses(message) == ["delivered"]
        assert message.phase is Phase.DONE


@in_virtual_time
async def test_a_report_before_the_answer_that_names_only_the_carriers_id_is_kept_until_that_is_known() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = desk.accept(callback_url="https://a.example/")
        await asyncio.sleep(0.01)
        for _ in range(2):
            assert await desk.take(report(DELIVERED, by=message)) == Taken(accepted=0, unknown=1)
        kept = [row for entry in desk.journal.committed for row in entry.unmatched]
        assert [(row.carrier, row.carrier_ref, row.kind) for row in kept] == [(CARRIER, ref(message), DELIVERED)]
        assert desk.reports.parked == 1
        await asyncio.sleep(1)
        assert desk.kinds(message) == ["sent 1", "delivered"]
        assert desk.statuses(message) == ["sent", "delivered"]
        assert desk.reports.parked == 0
        assert await desk.take(report(DELIVERED, by=message)) == Taken(accepted=1, unknown=0)
        assert desk.kinds(message) == ["sent 1", "delivered"]


@in_virtual_time
async def test_a_kept_report_also_finds_its_message_by_a_later_report_that_names_both() -> None:
    desk = Desk()
    desk.scripted.answers = lambda outbound: SendFailed(TIMED_OUT)
    async with desk.running():
        (message,) = desk.accept(on_unknown=OnUnknown.AWAIT_REPORT)
        await asyncio.sleep(0.01)
        assert await desk.take(report(DELIVERED, carrier_ref="x-1")) == Taken(0, 1)
        assert await desk.take(report(REPORTED_SENT, of=message)._replace(carrier_ref="x-1")) == Taken(1, 0)
        await asyncio.sleep(1)
        assert message.state == State.DELIVERED


@in_virtual_time
async def test_sent_is_told_before_what_a_quick_report_says() -> None:
    """Facts of hand-overs gather for some milliseconds; a report in between must not overtake them."""
    desk = Desk()
    async with desk.running():
        (message,) = desk.accept(callback_url="https://a.example/")
        while message.state != State.SENT:
            await asyncio.sleep(0.001)
        assert desk.kinds(message) == [], "not stored yet"
        await desk.take(report(DELIVERED, by=message))
        assert desk.kinds(message) == ["sent 1", "delivered"]
        assert desk.statuses(message) == ["sent", "delivered"]


# --- Unknown outcomes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DELIVERED, UNDELIVERED, REPORTED_FAILED, REPORTED_SENT])
@in_virtual_time
async def test_a_message_whose_outcome_was_unknown_is_not_sent_again_after_a_report(kind: FactKind) -> None:
    desk = Desk()
    desk.scripted.answers = lambda outbound: SendFailed(TIMED_OUT)
    async with desk.running():
        (message,) = desk.accept()
        await asyncio.sleep(1)
        assert message in desk.resolver.open.values()
        assert desk.kinds(message) == ["unknown 1"]
        assert await desk.take(report(kind, of=message)) == Taken(1, 0)
        assert desk.resolver.find(message.message_id) is None
        await asyncio.sleep(300)
        assert len(desk.scripted.writes) == 1
        assert desk.kinds(message) == ["unknown 1", kind]


@in_virtual_time
async def test_without_a_report_it_is_sent_again() -> None:
    """So the test above can fail."""
    desk = Desk()
    desk.scripted.answers = lambda outbound: SendFailed(TIMED_OUT)
    async with desk.running():
        desk.accept()
        await asyncio.sleep(300)
        assert len(desk.scripted.writes) > 1


@in_virtual_time
async def test_a_message_that_waits_to_be_tried_again_is_not_when_a_report_says_it_arrived() -> None:
    desk = Desk()
    desk.scripted.answers = lambda outbound: SendFailed(UNREACHABLE)
    async with desk.running():
        (message,) = desk.accept()
        await asyncio.sleep(0.1)
        assert message.phase is Phase.ASIDE
        await desk.take(report(DELIVERED, of=message))
        await asyncio.sleep(10 * RETRY_MS / 1_000)
        assert len(desk.scripted.writes) == 1


# --- Whose message ----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_another_carrier_cannot_move_a_message() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        for forged in (report(DELIVERED, of=message), report(DELIVERED, by=message)):
            assert await desk.take(forged, carrier=OTHER) == Taken(accepted=0, unknown=1)
        desk.facts.awaiting.drop(message.message_id)
        for forged in (report(DELIVERED, of=message), report(DELIVERED, by=message)):
            assert await desk.take(forged, carrier=OTHER) == Taken(accepted=0, unknown=1)
        assert message.state == State.SENT
        assert desk.kinds(message) == ["sent 1"]
        assert await desk.take(report(DELIVERED, by=message)) == Taken(1, 0)


@in_virtual_time
async def test_a_carrier_that_got_a_message_before_its_number_moved_is_believed_and_the_new_one_is_not() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        desk.reports = desk.open_reports(carrier_of=lambda _: OTHER)
        assert await desk.take(report(DELIVERED, of=message), carrier=OTHER) == Taken(accepted=0, unknown=1)
        assert await desk.take(report(DELIVERED, of=message)) == Taken(1, 0)
        assert desk.kinds(message) == ["sent 1", "delivered"]


@in_virtual_time
async def test_a_message_that_was_never_handed_over_cannot_be_reported() -> None:
    desk = Desk()
    (message,) = desk.accept(wake=False)
    assert await desk.take(report(DELIVERED, of=message)) == Taken(accepted=0, unknown=1)
    assert message.state == State.QUEUED
    (released,) = desk.resolver.release(CARRIER, now_ms=desk.clock.now_ms(), until_ms=desk.clock.now_ms(), places=1)
    assert (released, released.phase) == (message, Phase.RELEASED)
    assert await desk.take(report(DELIVERED, of=message)) == Taken(accepted=0, unknown=1)
    assert message.state == State.QUEUED


@in_virtual_time
async def test_a_report_that_names_no_carriers_id_and_no_message_of_ours_is_counted_and_not_kept() -> None:
    desk = Desk()
    stranger = Report("", "0193a1b2-0000-7000-8000-ffffffffffff", DELIVERED, "000", 0)
    assert await desk.take(stranger) == Taken(accepted=0, unknown=1)
    assert desk.journal.appended == 0
    assert desk.reports.parked == 0
    assert desk.counted.counts == {("unknown",): 1}


@in_virtual_time
async def test_a_wrong_reference_beside_a_right_carriers_id_does_no_harm() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        wrong = Report(ref(message), "0193a1b2-0000-7000-8000-ffffffffffff", DELIVERED, "000", 0)
        assert await desk.take(wrong) == Taken(1, 0)
        assert message.state == State.DELIVERED


def moved(kind: FactKind, message: Message, *, to: Message) -> Report:
    """A report whose URL, which is not signed, was made to name another message."""
    return report(kind, of=to, by=message)._replace(is_proven=False)


@pytest.mark.parametrize("has_left", [False, True])
@in_virtual_time
async def test_a_reference_that_is_not_proven_moves_no_report_to_another_message(has_left: bool) -> None:
    desk = Desk()
    async with desk.running():
        message, other = await desk.sent(2)
        if has_left:
            desk.facts.awaiting.drop(message.message_id)
        assert await desk.take(moved(DELIVERED, message, to=other)) == Taken(1, 0)
        assert (desk.kinds(message), desk.kinds(other)) == (["sent 1", "delivered"], ["sent 1"])
        assert desk.archive.calls <= 2


@in_virtual_time
async def test_a_reference_that_is_proven_goes_before_an_id_that_a_carrier_may_use_again() -> None:
    desk = Desk()
    async with desk.running():
        message, other = await desk.sent(2)
        assert await desk.take(moved(DELIVERED, message, to=other)._replace(is_proven=True)) == Taken(1, 0)
        assert (message.state, other.state) == (State.SENT, State.DELIVERED)


@in_virtual_time
async def test_a_reference_that_is_not_proven_is_believed_where_nobody_has_the_carriers_id() -> None:
    """The answer to an attempt was lost; a later one of the same message may have got another id."""
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        lost = report(DELIVERED, of=message, carrier_ref="lost")._replace(is_proven=False)
        assert await desk.take(lost) == Taken(1, 0)
        assert message.state == State.DELIVERED


@in_virtual_time
async def test_a_message_whose_number_is_gone_is_still_reported_by_our_id() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        desk.reports = desk.open_reports(carrier_of=lambda number: None)
        assert await desk.take(report(DELIVERED, of=message)) == Taken(1, 0)
        assert message.state == State.DELIVERED, "the message in memory, not a copy"
        assert desk.kinds(message) == ["sent 1", "delivered"]


# --- Out of memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_reference", [True, False])
@in_virtual_time
async def test_a_message_that_has_left_memory_is_found_in_the_archive(by_reference: bool) -> None:
    desk = Desk()
    async with desk.running():
        messages = await desk.sent(3)
        for message in messages:
            desk.facts.awaiting.drop(message.message_id)
        reports = [
            report(DELIVERED, of=message) if by_reference else report(DELIVERED, by=message) for message in messages
        ]
        assert await desk.take(*reports) == Taken(3, 0)
        assert desk.archive.calls <= 2, "all of a batch at once"
        for message in messages:
            assert desk.kinds(message) == ["sent 1", "delivered"]
            rows = [row.sequence for row in desk.callbacks if row.message_id == message.message_id]
            assert rows == [1, 2], "the sequence goes on"
        calls = desk.archive.calls
        assert await desk.take(*reports) == Taken(3, 0)
        assert desk.archive.calls == calls, "what ended lately is remembered"
        assert len(desk.journal.outcomes()) == 3


@in_virtual_time
async def test_after_a_restart_a_repeated_report_makes_no_second_fact() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        await desk.take(report(REPORTED_SENT, by=message))
        await desk.take(report(DELIVERED, by=message))
        desk.facts.awaiting.drop(message.message_id)
        desk.reports = desk.open_reports()
        assert await desk.take(report(DELIVERED, by=message), report(REPORTED_SENT, by=message)) == Taken(2, 0)
        assert desk.kinds(message) == ["sent 1", "reported_sent", "delivered"]


@in_virtual_time
async def test_what_ended_unreported_keeps_a_late_report_and_does_not_move() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        entry = desk.journal.committed[-1]
        desk.facts.awaiting.drop(message.message_id)
        entry.facts.append(entry.facts[0]._replace(kind=FactKind.UNREPORTED, message_id=message.message_id))
        for _ in range(2):
            assert await desk.take(report(DELIVERED, by=message)) == Taken(1, 0)
        assert await desk.take(report(UNDELIVERED, by=message)) == Taken(1, 0), "remembered now, and over all the same"
        assert desk.kinds(message)[-2:] == ["delivered", "undelivered"]
        assert desk.journal.outcomes() == []
        assert desk.statuses(message) == ["sent"]


@in_virtual_time
async def test_what_was_stored_before_a_message_left_memory_is_not_stored_again_when_it_is_back() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        await desk.take(report(REPORTED_SENT, by=message))
        desk.facts.awaiting.drop(message.message_id)
        assert await desk.take(report(DELIVERED, by=message)) == Taken(1, 0)
        assert await desk.take(report(REPORTED_SENT, by=message)) == Taken(1, 0)
        assert desk.kinds(message) == ["sent 1", "reported_sent", "delivered"]
        assert desk.archive.calls == 2, "one look-up by the carrier's id, one of the message"


@in_virtual_time
async def test_an_archive_that_does_not_answer_refuses_the_batch_and_moves_nothing() -> None:
    desk = Desk()
    async with desk.running():
        (here, gone) = await desk.sent(2)
        desk.facts.awaiting.drop(gone.message_id)
        desk.archive.is_slow = True
        with pytest.raises(JournalUnavailable):
            await desk.take(report(DELIVERED, by=here), report(DELIVERED, by=gone))
        assert here.state == State.SENT
        desk.archive.is_slow = False
        assert await desk.take(report(DELIVERED, by=here), report(DELIVERED, by=gone)) == Taken(2, 0)


@in_virtual_time
async def test_a_stored_message_that_makes_no_sense_costs_its_own_report_only() -> None:
    desk = Desk()
    async with desk.running():
        (bad, good) = await desk.sent(2)
        desk.facts.awaiting.drop(bad.message_id)
        desk.facts.awaiting.drop(good.message_id)
        desk.archive.broken = bad.message_id
        assert await desk.take(report(DELIVERED, by=bad), report(DELIVERED, by=good)) == Taken(1, 1)
        assert desk.kinds(good) == ["sent 1", "delivered"]


# --- Before this start ------------------------------------------------------------------------------------------------


def parked(message: Message, *, at_ms: int, kind: FactKind = DELIVERED) -> UnmatchedReportRow:
    return UnmatchedReportRow(CARRIER, ref(message), kind, CODES[kind], at_ms)


@in_virtual_time
async def test_what_was_parked_before_a_start_is_applied_when_its_message_is_known() -> None:
    desk = Desk()
    async with desk.running():
        known, unknown = await desk.sent(2)
        desk.facts.awaiting.drop(known.message_id)
        desk.facts.awaiting.drop(unknown.message_id)
        strange = UnmatchedReportRow(CARRIER, "x-1", UNDELIVERED, "1000", desk.clock.now_ms())
        for _ in range(2):  # two starts in a row
            desk.reports = desk.open_reports()
            await desk.reports.adopt([parked(known, at_ms=desk.clock.now_ms()), strange])
            assert desk.reports.parked == 1
        assert desk.kinds(known) == ["sent 1", "delivered"]
        assert desk.kinds(unknown) == ["sent 1"]
        assert [row for entry in desk.journal.committed for row in entry.unmatched] == [], "its row is there already"


@in_virtual_time
async def test_what_was_parked_before_a_start_waits_for_its_message() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = desk.accept()
        await desk.reports.adopt([parked(message, at_ms=desk.clock.now_ms())])
        await asyncio.sleep(1)
        assert desk.kinds(message) == ["sent 1", "delivered"]


@in_virtual_time
async def test_what_nobody_knows_for_a_day_is_forgotten() -> None:
    desk = Desk()
    await desk.take(report(DELIVERED, carrier_ref="x-1"), report(DELIVERED, carrier_ref="x-2"))
    await asyncio.sleep(PARKED_MS_MAX / 1_000 - 1)
    await desk.take(report(DELIVERED, carrier_ref="x-3"))
    assert desk.reports.parked == 3
    await asyncio.sleep(2)
    await desk.take(report(DELIVERED, carrier_ref="x-4"))
    assert desk.reports.parked == 2


# --- Storage away -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_with_the_journal_away_nothing_is_taken_and_nothing_moves() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        desk.journal.go_away()
        with pytest.raises(JournalUnavailable):
            await desk.take(report(DELIVERED, by=message), report(DELIVERED, carrier_ref="x-1"))
        assert message.state == State.SENT
        assert desk.archive.calls == 0, "nothing is looked up in vain"
        desk.journal.come_back()
        assert await desk.take(report(DELIVERED, by=message)) == Taken(1, 0)
        assert desk.kinds(message) == ["sent 1", "delivered"]


@in_virtual_time
async def test_a_commit_that_failed_is_made_again_before_the_answer() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        desk.journal.verdicts.extend([Settled.FAILED, Settled.FAILED])
        assert await desk.take(report(DELIVERED, by=message)) == Taken(1, 0)
        assert desk.kinds(message) == ["sent 1", "delivered"]
        assert desk.statuses(message) == ["sent", "delivered"]


@in_virtual_time
async def test_a_report_whose_commit_fails_on_and_on_is_refused_until_it_is_durable() -> None:
    desk = Desk()
    async with desk.running():
        first, second = await desk.sent(2)
        desk.journal.verdicts.append(Settled.FAILED)
        taking = asyncio.create_task(desk.take(report(DELIVERED, by=first)))
        await asyncio.sleep(0.01)
        desk.journal.full = True
        with pytest.raises(JournalUnavailable):
            await desk.take(report(DELIVERED, by=second))
        assert second.state == State.SENT, "nothing more moves while something is not stored"
        await asyncio.sleep(STORE_MS_MAX / 1_000)
        with pytest.raises(JournalUnavailable):
            await taking
        with pytest.raises(JournalUnavailable):
            await desk.take(report(DELIVERED, by=first))
        assert desk.kinds(first) == ["sent 1"]
        desk.journal.full = False
        await asyncio.sleep(1)
        assert desk.kinds(first) == ["sent 1", "delivered"], "it was kept"
        assert await desk.take(report(DELIVERED, by=first), report(DELIVERED, by=second)) == Taken(2, 0)
        assert desk.kinds(first) == ["sent 1", "delivered"]


@in_virtual_time
async def test_a_truth_that_comes_late_is_waited_for() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        desk.journal.answers_late = True
        assert await desk.take(report(DELIVERED, by=message)) == Taken(1, 0)
        assert desk.kinds(message) == ["sent 1", "delivered"]


@in_virtual_time
async def test_a_lost_epoch_is_raised() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        desk.journal.owns_epoch = False
        with pytest.raises(EpochLost):
            await desk.take(report(DELIVERED, by=message))
        desk.journal.owns_epoch = True


@in_virtual_time
async def test_a_poisoned_fact_costs_its_own_message_only() -> None:
    desk = Desk()
    async with desk.running():
        messages = await desk.sent(4)
        bad = messages[1].message_id
        desk.journal.poison = lambda entry: any(fact.message_id == bad for fact in entry.facts)
        assert await desk.take(*(report(DELIVERED, by=message) for message in messages)) == Taken(4, 0)
        delivered = [message.message_id for message in messages if "delivered" in desk.kinds(message)]
        assert delivered == [message.message_id for message in messages if message.message_id != bad]


@in_virtual_time
async def test_a_carriers_own_reports_come_the_same_way() -> None:
    desk = Desk()
    async with desk.running():
        (message,) = await desk.sent()
        await desk.reports.taker(CARRIER)([report(DELIVERED, by=message)])
        assert desk.kinds(message) == ["sent 1", "delivered"]
