from __future__ import annotations

import asyncio
from itertools import permutations

import orjson
import pytest

from gateway.facts import KEEP_AGAIN_MS, Facts, split
from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Message,
    MessageId,
    PowerpackId,
    Request,
    RequestId,
    Tier,
)
from storage.records import (
    CallbackRow,
    CarrierRefRow,
    Entry,
    FactKind,
    JournalUnavailable,
    OutcomeRow,
    Settled,
    State,
    UnmatchedReportRow,
)
from tests.fakes.clock import START_MS, VirtualClock, in_virtual_time
from tests.fakes.gateway_floor import render
from tests.fakes.ids import CountingIds
from tests.fakes.lane_journal import LaneJournal

ACCOUNT = AccountId("MA00000000000000000A")
CARRIER = CarrierName("carrier")


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.journal = LaneJournal(self.clock)
        self.callbacks: list[CallbackRow] = []
        self.facts = Facts(
            self.journal,
            self.clock,
            CountingIds(),
            render_callback=render,
            on_callbacks_committed=self.callbacks.extend,
            awaiting_max=100,
        )

    def entry_of(self, *messages: Message, kind: FactKind = FactKind.EXPIRED) -> Entry:
        entry = Entry()
        for each in messages:
            self.facts.record(entry, each, kind)
        return entry


def message(name: str = "m", *, callback_url: str = "", number: str = "+14155550100") -> Message:
    request = Request(RequestId("r"), ACCOUNT, PowerpackId("p"), "Hello", 3, callback_url=callback_url)
    return Message(MessageId(name), request, E164("+14155550123"), E164(number), Tier.AREA, START_MS + 60_000)


def waits_for(world: World, carrier_ref: str) -> Message | None:
    sent = world.facts.awaiting.find(CARRIER, carrier_ref)
    return sent.message if sent is not None else None


# --- Rows -------------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_fact_says_all_that_is_known() -> None:
    world, entry, sent = World(), Entry(), message()
    await asyncio.sleep(5)
    fact = world.facts.record(
        entry, sent, FactKind.SENT,
        attempt=2, handed_ms=START_MS + 4_000, carrier=CARRIER, carrier_ref="ref", detail="d", charged=True,
    )  # fmt: skip
    assert entry.facts == [fact]
    assert fact._asdict() == {
        "message_id": "m", "account_id": ACCOUNT, "kind": FactKind.SENT, "attempt": 2, "at_ms": START_MS + 5_000,
        "handed_ms": START_MS + 4_000, "number": "+14155550100", "carrier": "carrier", "carrier_ref": "ref",
        "code": "", "detail": "d", "segments": 3, "charged": True,
    }  # fmt: skip
    assert sent.state == State.SENT
    assert entry.carrier_refs == [CarrierRefRow(CARRIER, "ref", sent.message_id, START_MS + 5_000)]
    assert entry.outcomes == []
    assert entry.callbacks == []


@in_virtual_time
async def test_a_message_that_was_refused_has_no_number() -> None:
    world, entry = World(), Entry()
    fact = world.facts.record(entry, message(number=""), FactKind.REFUSED, code="420", detail="no_capacity")
    assert fact.number is None
    assert [(row.state, row.code) for row in entry.outcomes] == [(State.FAILED, "420")]


@pytest.mark.parametrize(
    ("kind", "code", "state", "stored"),
    [
        (FactKind.EXPIRED, "", State.FAILED, "420"),
        (FactKind.CANCELLED, "", State.FAILED, "300"),
        (FactKind.POWERPACK_DELETED, "", State.FAILED, "90"),
        (FactKind.GIVEN_UP, "", State.FAILED, "1000"),
        (FactKind.REJECTED, "30", State.FAILED, "30"),
        (FactKind.DELIVERED, "", State.DELIVERED, "000"),
        (FactKind.UNDELIVERED, "80", State.UNDELIVERED, "80"),
        (FactKind.REPORTED_FAILED, "50", State.FAILED, "50"),
    ],
)
@in_virtual_time
async def test_what_ends_a_message_writes_its_outcome_with_plivos_code(
    kind: FactKind, code: str, state: State, stored: str
) -> None:
    world, entry, ended = World(), Entry(), message()
    world.facts.record(entry, ended, kind, code=code)
    assert entry.outcomes == [OutcomeRow(ended.message_id, ACCOUNT, state, stored, START_MS)]
    assert entry.facts[0].code == stored


@pytest.mark.parametrize("kind", [FactKind.RETURNED, FactKind.UNKNOWN, FactKind.REBOUND, FactKind.UNREPORTED])
@in_virtual_time
async def test_what_moves_nothing_writes_a_fact_and_nothing_else(kind: FactKind) -> None:
    world, entry, waiting = World(), Entry(), message(callback_url="https://a.example/")
    world.facts.record(entry, waiting, kind)
    assert entry.rows() == 1
    assert waiting.state == State.QUEUED


@in_virtual_time
async def test_a_message_has_one_outcome_however_often_it_is_reported() -> None:
    world, entry, sent = World(), Entry(), message(callback_url="https://a.example/")
    for kind in (FactKind.SENT, FactKind.DELIVERED, FactKind.DELIVERED, FactKind.UNDELIVERED, FactKind.SENT):
        world.facts.record(entry, sent, kind, carrier=CARRIER)
    assert len(entry.facts) == 5
    assert [row.state for row in entry.outcomes] == [State.DELIVERED]
    assert [orjson.loads(row.params)["Status"] for row in entry.callbacks] == ["sent", "delivered"]
    assert sent.state == State.DELIVERED


@in_virtual_time
async def test_sent_and_never_reported_ends_in_sent_without_a_callback() -> None:
    world, entry, sent = World(), Entry(), message(callback_url="https://a.example/")
    world.facts.record(entry, sent, FactKind.SENT, carrier=CARRIER, carrier_ref="ref")
    world.facts.record(entry, sent, FactKind.UNREPORTED)
    assert [row.state for row in entry.outcomes] == [State.SENT]
    assert len(entry.callbacks) == 1
    assert len(world.facts.awaiting) == 0


@in_virtual_time
async def test_the_order_of_reports_does_not_matter() -> None:
    world = World()
    kinds = (FactKind.SENT, FactKind.REPORTED_SENT, FactKind.DELIVERED, FactKind.DELIVERED)
    for order in permutations(kinds):
        entry, sent = Entry(), message()
        for kind in order:
            world.facts.record(entry, sent, kind, carrier=CARRIER, carrier_ref="ref")
        assert (sent.state, len(entry.outcomes), len(world.facts.awaiting)) == (State.DELIVERED, 1, 0), order


# --- Callbacks --------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_each_change_of_state_owes_a_callback_from_queued_on_numbered_in_order() -> None:
    world, entry = World(), Entry()
    sent = message(callback_url="https://a.example/")
    sent.request.callback_method = "GET"
    world.facts.record_accepted(entry, sent)
    world.facts.record(entry, sent, FactKind.SENT, carrier=CARRIER)
    world.facts.record(entry, sent, FactKind.UNDELIVERED, code="80")
    assert [orjson.loads(row.params) for row in entry.callbacks] == [
        {"Status": "queued", "Sequence": "1", "ErrorCode": ""},
        {"Status": "sent", "Sequence": "2", "ErrorCode": ""},
        {"Status": "undelivered", "Sequence": "3", "ErrorCode": "80"},
    ]
    first = entry.callbacks[0]
    assert first._replace(params=b"") == CallbackRow(
        first.callback_id, ACCOUNT, sent.message_id, 1, "https://a.example/", "GET", b"", START_MS, START_MS
    )
    assert len({row.callback_id for row in entry.callbacks}) == 3


@in_virtual_time
async def test_without_a_url_nothing_is_owed() -> None:
    world, entry, sent = World(), Entry(), message()
    world.facts.record_accepted(entry, sent)
    world.facts.record(entry, sent, FactKind.DELIVERED)
    assert entry.callbacks == []
    assert sent.sequence == 0


@in_virtual_time
async def test_callbacks_go_only_once_their_facts_are_committed() -> None:
    world = World()
    for store in (world.facts.append, world.facts.keep):
        entry = world.entry_of(message(callback_url="https://a.example/"))
        store(entry)
        await asyncio.sleep(0.002)
        assert world.callbacks == []
        await asyncio.sleep(0.002)
        assert world.callbacks == entry.callbacks
        world.callbacks.clear()


@in_virtual_time
async def test_callbacks_of_an_entry_that_failed_do_not_go() -> None:
    world = World()
    world.journal.verdicts.append(Settled.FAILED)
    settled: list[Settled] = []
    entry = world.entry_of(message(callback_url="https://a.example/"))
    assert await world.facts.append(entry, settled.append) is Settled.FAILED
    assert (world.callbacks, settled) == ([], [Settled.FAILED])


@in_virtual_time
async def test_who_appends_hears_of_the_end_before_the_callbacks_do() -> None:
    world = World()
    heard: list[int] = []
    entry = world.entry_of(message(callback_url="https://a.example/"))
    await world.facts.append(entry, lambda _: heard.append(len(world.callbacks)))
    assert (heard, len(world.callbacks)) == ([0], 1)


# --- Waiting for reports ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_sent_message_waits_for_its_report_until_it_ends() -> None:
    world, entry, sent = World(), Entry(), message()
    world.facts.record(entry, sent, FactKind.SENT, carrier=CARRIER, carrier_ref="ref")
    assert waits_for(world, "ref") is sent
    world.facts.record(entry, sent, FactKind.REPORTED_SENT, carrier=CARRIER)
    assert waits_for(world, "ref") is sent
    world.facts.record(entry, sent, FactKind.DELIVERED)
    assert len(world.facts.awaiting) == 0
    assert waits_for(world, "ref") is sent, "for a while a repeated report need not be looked up"


@in_virtual_time
async def test_what_ended_unreported_is_forgotten_so_that_a_late_report_is_told_by_what_is_stored() -> None:
    world, entry, sent = World(), Entry(), message()
    world.facts.record(entry, sent, FactKind.SENT, carrier=CARRIER, carrier_ref="ref")
    world.facts.record(entry, sent, FactKind.UNREPORTED)
    assert waits_for(world, "ref") is None


@in_virtual_time
async def test_a_report_may_be_the_first_to_name_the_carriers_id() -> None:
    world, entry, sent = World(), Entry(), message()
    world.facts.record(entry, sent, FactKind.REPORTED_SENT, carrier=CARRIER, carrier_ref="ref")
    world.facts.record(entry, sent, FactKind.REPORTED_SENT, carrier=CARRIER, carrier_ref="ref")
    assert len(entry.carrier_refs) == 1
    world.facts.record(entry, sent, FactKind.SENT, carrier=CARRIER, detail="by_report")
    assert waits_for(world, "ref") is sent


@in_virtual_time
async def test_a_message_reported_before_its_answer_does_not_wait() -> None:
    world, entry, sent = World(), Entry(), message()
    world.facts.record(entry, sent, FactKind.DELIVERED)
    world.facts.record(entry, sent, FactKind.SENT, carrier=CARRIER, carrier_ref="ref")
    assert len(world.facts.awaiting) == 0
    assert len(entry.carrier_refs) == 1, "a late copy of the report finds its message"


@in_virtual_time
async def test_those_who_hold_early_reports_hear_each_carriers_id_as_it_is_known() -> None:
    world, entry, sent = World(), Entry(), message()
    heard: list[tuple[str, str, Message]] = []
    world.facts.on_carrier_ref(lambda *known: heard.append(known))
    world.facts.record(entry, sent, FactKind.RETURNED, carrier=CARRIER)
    world.facts.record(entry, sent, FactKind.SENT, carrier=CARRIER, carrier_ref="ref")
    assert heard == [(CARRIER, "ref", sent)]


# --- Keeping ----------------------------------------------------------------------------------------------------------


def stored(world: World) -> list[str]:
    return [fact.message_id for fact in world.journal.facts()]


@in_virtual_time
async def test_facts_are_kept_while_the_database_is_away_and_stored_in_order_when_it_is_back() -> None:
    world = World()
    world.journal.go_away()
    for name in "abc":
        assert world.facts.keep(world.entry_of(message(name, callback_url="https://a.example/"))) is None
    assert world.facts.is_behind
    assert world.facts.owed_rows == 9
    await asyncio.sleep(60)
    assert world.facts.is_behind
    world.journal.come_back()
    await asyncio.sleep(KEEP_AGAIN_MS / 1_000 + 0.01)
    assert stored(world) == ["a", "b", "c"]
    assert len(world.callbacks) == 3
    assert not world.facts.is_behind


@in_virtual_time
async def test_what_comes_later_does_not_overtake_what_is_owed() -> None:
    world = World()
    world.journal.full = True
    world.facts.keep(world.entry_of(message("a")))
    world.journal.full = False
    world.facts.keep(world.entry_of(message("b")))
    await asyncio.sleep(1)
    assert stored(world) == ["a", "b"]


@in_virtual_time
async def test_a_commit_that_failed_is_tried_again_until_it_does_not() -> None:
    world = World()
    world.journal.verdicts.extend([Settled.FAILED] * 3)
    future = world.facts.keep(world.entry_of(message("a", callback_url="https://a.example/")))
    assert future is not None
    assert await future is Settled.FAILED
    assert world.facts.is_behind
    await asyncio.sleep(1)
    assert stored(world) == ["a"]
    assert len(world.callbacks) == 1


@in_virtual_time
async def test_a_commit_whose_outcome_is_not_known_in_time_is_not_stored_twice() -> None:
    world = World()
    world.journal.answers_late = True
    world.facts.keep(world.entry_of(message("a")))
    await asyncio.sleep(5)
    assert stored(world) == ["a"]
    assert world.journal.appended == 1


@in_virtual_time
async def test_one_bad_row_costs_its_own_message_only() -> None:
    world = World()
    world.journal.poison = lambda entry: any(fact.message_id == "b" for fact in entry.facts)
    world.facts.keep(world.entry_of(*map(message, "abc")))
    await asyncio.sleep(1)
    assert sorted(stored(world)) == ["a", "c"]
    assert world.facts.poisoned == 1
    assert not world.facts.is_behind


@in_virtual_time
async def test_a_lost_epoch_ends_the_trying() -> None:
    world = World()
    world.journal.owns_epoch = False
    assert world.facts.keep(world.entry_of(message("a"))) is None
    assert not world.facts.is_behind
    await asyncio.sleep(1)
    assert world.journal.appended == 0


@in_virtual_time
async def test_draining_waits_until_all_is_stored_or_the_time_is_over() -> None:
    world = World()
    assert await world.facts.drain(ms_max=0)
    world.facts.keep(world.entry_of(message("a")))
    assert await world.facts.drain(ms_max=100)
    assert stored(world) == ["a"]
    world.journal.verdicts.append(Settled.FAILED)
    world.facts.keep(world.entry_of(message("b")))
    assert await world.facts.drain(ms_max=1_000)
    assert stored(world) == ["a", "b"]
    world.journal.go_away()
    world.facts.keep(world.entry_of(message("c")))
    assert not await world.facts.drain(ms_max=1_000)


@in_virtual_time
async def test_appending_refuses_as_the_journal_does() -> None:
    world = World()
    world.journal.go_away()
    with pytest.raises(JournalUnavailable):
        await world.facts.append(Entry())


@in_virtual_time
async def test_an_entry_is_split_by_message() -> None:
    world = World()
    messages = [message(name, callback_url="https://a.example/") for name in "ab"]
    entry = world.entry_of(*messages, kind=FactKind.DELIVERED)
    world.facts.record(entry, messages[0], FactKind.SENT, carrier=CARRIER, carrier_ref="ref")
    entry.unmatched.append(UnmatchedReportRow(CARRIER, "x", FactKind.DELIVERED, "", START_MS))
    parts = split(entry)
    assert [part.rows() for part in parts] == [5, 3, 1]
    assert sum(part.rows() for part in parts) == entry.rows()
    assert {row.message_id for row in parts[0].callbacks} == {row.message_id for row in parts[0].facts} == {"a"}
