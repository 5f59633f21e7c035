from __future__ import annotations

from gateway.awaiting import Awaiting, Sent
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

ONE, OTHER = CarrierName("one"), CarrierName("other")
REQUEST = Request(RequestId("r"), AccountId("a"), PowerpackId("p"), "Hello", 1)


def message(name: str) -> Message:
    return Message(MessageId(name), REQUEST, E164("+14155550123"), E164("+14155550100"), Tier.AREA, 0)


def message_of(sent: Sent | None) -> Message | None:
    return sent.message if sent is not None else None


def test_a_message_is_found_by_its_carriers_id_and_by_ours() -> None:
    awaiting, sent = Awaiting(10), message("m")
    awaiting.add(sent, ONE, "ref")
    assert message_of(awaiting.find(ONE, "ref")) is sent
    assert awaiting.find(OTHER, "ref") is None
    assert message_of(awaiting.find_message(sent.message_id)) is sent
    assert awaiting.find_message(MessageId("n")) is None


def test_two_carriers_may_use_the_same_id() -> None:
    awaiting, first, second = Awaiting(10), message("m"), message("n")
    awaiting.add(first, ONE, "ref")
    awaiting.add(second, OTHER, "ref")
    awaiting.drop(first.message_id)
    assert awaiting.find(ONE, "ref") is None
    assert message_of(awaiting.find(OTHER, "ref")) is second


def test_the_oldest_is_dropped_when_it_is_full_with_both_its_names() -> None:
    awaiting = Awaiting(2)
    messages = [message(name) for name in "abc"]
    for each in messages:
        awaiting.add(each, ONE, f"ref-{each.message_id}")
    assert len(awaiting) == 2
    assert awaiting.find(ONE, "ref-a") is None
    assert awaiting.find_message(MessageId("a")) is None
    assert message_of(awaiting.find(ONE, "ref-b")) is messages[1]


def test_a_message_added_again_is_the_newest_and_has_its_new_name_only() -> None:
    awaiting, first = Awaiting(2), message("a")
    awaiting.add(first, ONE, "old")
    awaiting.add(message("b"), ONE, "ref-b")
    awaiting.add(first, ONE, "new")
    awaiting.add(message("c"), ONE, "ref-c")
    assert awaiting.find(ONE, "old") is None
    assert message_of(awaiting.find(ONE, "new")) is first
    assert awaiting.find(ONE, "ref-b") is None


def test_an_id_used_twice_by_a_carrier_belongs_to_the_later_message() -> None:
    awaiting, first, second = Awaiting(10), message("a"), message("b")
    awaiting.add(first, ONE, "ref")
    awaiting.add(second, ONE, "ref")
    awaiting.drop(first.message_id)
    assert message_of(awaiting.find(ONE, "ref")) is second


def test_a_message_without_a_carriers_id_is_found_by_ours() -> None:
    awaiting, sent = Awaiting(10), message("m")
    awaiting.add(sent, ONE, "")
    assert message_of(awaiting.find_message(sent.message_id)) is sent
    assert awaiting.find(ONE, "") is None
    awaiting.drop(sent.message_id)
    awaiting.drop(sent.message_id)
    assert len(awaiting) == 0


# --- What was heard of lately -----------------------------------------------------------------------------------------


def test_what_has_ended_is_found_by_both_its_names_and_waits_no_longer() -> None:
    awaiting, sent = Awaiting(10), message("m")
    awaiting.add(sent, ONE, "ref")
    awaiting.end(sent.message_id)
    awaiting.end(sent.message_id)
    assert len(awaiting) == 0
    assert message_of(awaiting.find(ONE, "ref")) is sent
    assert message_of(awaiting.find_message(sent.message_id)) is sent


def test_what_has_ended_makes_no_room_among_those_that_wait_and_is_bounded_itself() -> None:
    awaiting = Awaiting(2, lately_max=2)
    messages = [message(name) for name in "abcde"]
    for each in messages:
        awaiting.add(each, ONE, f"ref-{each.message_id}")
        if each.message_id in "abc":
            awaiting.end(each.message_id)
    assert len(awaiting) == 2
    known = [each.message_id for each in messages if awaiting.find_message(each.message_id)]
    assert known == [each.message_id for each in messages if awaiting.find(ONE, f"ref-{each.message_id}")]
    assert known == ["b", "c", "d", "e"]


def test_what_was_heard_before_the_answer_stays_with_the_message() -> None:
    awaiting, early = Awaiting(10), message("m")
    sent = awaiting.hear(early, ONE, "")
    assert sent is awaiting.hear(early, ONE, "ref")
    assert len(awaiting) == 0
    awaiting.add(early, ONE, "ref")
    assert len(awaiting) == 1
    awaiting.end(early.message_id)
    assert sent is awaiting.find(ONE, "ref") is awaiting.find_message(early.message_id)
    awaiting.drop(early.message_id)
    assert awaiting.find_message(early.message_id) is None
    assert awaiting.find(ONE, "ref") is None


def test_what_was_heard_of_lately_is_bounded() -> None:
    awaiting = Awaiting(10, lately_max=2)
    for name in "abc":
        awaiting.hear(message(name), ONE, f"ref-{name}")
    assert [awaiting.find(ONE, f"ref-{name}") is not None for name in "abc"] == [False, True, True]
