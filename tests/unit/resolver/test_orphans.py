"""Messages that no number holds: given out in accept order, once their decision is durable."""

from resolver.model import E164, Message, Tier
from resolver.orphans import Orphans
from tests.unit.resolver.floor import new_id, recipient, request


def message(*, committed: bool = True) -> Message:
    return Message(new_id(), request(), recipient(), E164("+14152000000"), Tier.AREA, 0, committed=committed)


def test_they_are_given_in_accept_order_a_bounded_part_at_a_time():
    orphans, messages = Orphans(), [message() for _ in range(5)]
    for each in reversed(messages):
        orphans.add(each)
    assert orphans.take(2) == messages[:2]
    assert list(orphans) == list(reversed(messages))  # they are orphans until they are moved or ended
    assert orphans.take(9) == messages[2:]
    assert orphans.take(9) == []
    assert len(orphans) == 5


def test_those_that_left_are_not_given():
    orphans, messages = Orphans(), [message() for _ in range(3)]
    for each in messages:
        orphans.add(each)
    assert orphans.discard(messages[0])
    assert not orphans.discard(messages[0])
    assert messages[0] not in orphans
    assert messages[1] in orphans
    assert orphans.take(9) == messages[1:]


def test_one_that_is_not_durable_is_given_once_it_is():
    orphans, waiting = Orphans(), message(committed=False)
    orphans.add(waiting)
    assert orphans.take(9) == []
    waiting.committed = True
    orphans.add(waiting)
    assert orphans.take(9) == [waiting]


def test_one_that_comes_back_is_given_again():
    orphans, restless = Orphans(), message()
    orphans.add(restless)
    orphans.discard(restless)
    orphans.add(restless)
    assert orphans.take(9)[0] is restless
