"""The checker has teeth: a clean run passes, and each planted violation is found under its law and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.acceptance.kill.checker import Law, check
from tests.acceptance.kill.evidence import (
    Arrival,
    Asked,
    Claim,
    Evidence,
    NumberLimits,
    Promise,
    Shown,
    StoredCallback,
    StoredFact,
    StoredMessage,
    StoredOutcome,
    Told,
)

ONE, TWO = "+14155550100", "+14155550101"
ALICE, BOB = "+12125550111", "+12125550122"
T = 1_760_000_000_000  # the gateway's clock at the beginning
BOOT = 5_000_000.0  # the witness's
EPOCH = 7

Change = Callable[[Evidence], Evidence]


def message(message_id: str, *, recipient: str = ALICE, number: str | None = ONE, **changes: Any) -> StoredMessage:
    stored = StoredMessage(
        message_id, f"r-{message_id}", f"ref-{message_id}", "pack", recipient, number, "area", "", 1, T, "http://hook/"
    )
    return stored._replace(**changes)


def fact(message_id: str, kind: str, *, attempt: int = 0, handed_ms: int | None = None, **changes: Any) -> StoredFact:
    stored = StoredFact(
        message_id, kind, attempt, T, handed_ms, ONE, "witness", 1, kind in ("sent", "unknown", "rejected"), EPOCH
    )
    return stored._replace(**changes)


def claim(message_id: str, *, attempt: int = 1, claimed_ms: int = T, **changes: Any) -> Claim:
    return Claim(message_id, attempt, ONE, "witness", 1, claimed_ms, EPOCH)._replace(**changes)


def arrival(message_id: str, after_ms: float, *, attempt: int = 1, **changes: Any) -> Arrival:
    """`after_ms` the beginning; stamps and arrivals differ by half a millisecond."""
    return Arrival(BOOT + after_ms + 0.5, message_id, attempt, ONE, ALICE, "taken")._replace(**changes)


def sent(message_id: str, after_ms: int, *, recipient: str = ALICE) -> Evidence:
    """One message's whole life: asked, promised, stored, claimed, handed over, reported, told."""
    at_ms = T + after_ms
    promise = Promise(message_id, recipient, ONE)
    return Evidence(
        asked=[Asked(f"ref-{message_id}", True, (recipient,), ("accepted",), ((promise,),))],
        messages=[message(message_id, recipient=recipient)],
        claims=[claim(message_id, claimed_ms=at_ms - 50)],
        arrivals=[arrival(message_id, after_ms, recipient=recipient)],
        facts=[fact(message_id, "sent", attempt=1, handed_ms=at_ms), fact(message_id, "delivered")],
        outcomes=[StoredOutcome(message_id, "delivered", "000")],
        callbacks=[
            StoredCallback(message_id, 1, "queued", True),
            StoredCallback(message_id, 2, "sent", True),
            StoredCallback(message_id, 3, "delivered", True),
        ],
        shown=[Shown(message_id, "delivered", recipient)],
        told=[Told(message_id, 2, "sent", False), Told(message_id, 3, "delivered", False)],
    )


def with_rows(evidence: Evidence, name: str, rows: list[Any]) -> Evidence:
    changes: dict[str, Any] = {name: rows}
    return evidence._replace(**changes)


def together(*parts: Evidence) -> Evidence:
    whole = Evidence(
        limits={ONE: NumberLimits(1, 1_020, 4), TWO: NumberLimits(2, 5_100, None)},
        links={"witness": NumberLimits(3, 1_020, None)},
        sticky=frozenset({"pack"}),
    )
    for name in ("asked", "messages", "claims", "arrivals", "facts", "outcomes", "callbacks", "told", "shown"):
        whole = with_rows(whole, name, [row for part in parts for row in getattr(part, name)])
    return whole


def clean() -> Evidence:
    """Three lawful messages from one number, the last after a copy of it was lost in a crash."""
    third = sent("c", 5_000, recipient=BOB)
    third = third._replace(
        claims=[claim("c", claimed_ms=T + 2_000), claim("c", attempt=2, claimed_ms=T + 4_950, epoch=EPOCH + 1)],
        arrivals=[arrival("c", 2_050, recipient=BOB), arrival("c", 5_000, attempt=2, recipient=BOB)],
        facts=[
            fact("c", "unknown", attempt=1, handed_ms=T + 3_900, epoch=EPOCH + 1),
            fact("c", "sent", attempt=2, handed_ms=T + 5_000, epoch=EPOCH + 1),
            fact("c", "delivered"),
        ],
        told=[Told("c", 2, "sent", True), Told("c", 3, "delivered", True)],
    )
    return together(sent("a", 0), sent("b", 1_020), third)


def replaced(evidence: Evidence, name: str, place: int, **changes: Any) -> Evidence:
    rows = list(getattr(evidence, name))
    rows[place] = rows[place]._replace(**changes)
    return with_rows(evidence, name, rows)


def without(evidence: Evidence, name: str, place: int) -> Evidence:
    rows = list(getattr(evidence, name))
    del rows[place]
    return with_rows(evidence, name, rows)


def added(evidence: Evidence, name: str, *rows: object) -> Evidence:
    return with_rows(evidence, name, [*getattr(evidence, name), *rows])


def without_message(evidence: Evidence, message_id: str) -> Evidence:
    """As if its transaction had never been committed."""
    for name in ("messages", "claims", "facts", "outcomes", "callbacks"):
        rows = [row for row in getattr(evidence, name) if row.message_id != message_id]
        evidence = with_rows(evidence, name, rows)
    return evidence


def more(evidence: Evidence, message_id: str, after_ms: int) -> Evidence:
    """One more lawful life."""
    return together(evidence, sent(message_id, after_ms))


def sent_again(evidence: Evidence, message_id: str, after_ms: int) -> Evidence:
    again = Evidence(
        claims=[claim(message_id, attempt=2, claimed_ms=T + after_ms)],
        arrivals=[arrival(message_id, after_ms, attempt=2)],
        facts=[fact(message_id, "sent", attempt=2, handed_ms=T + after_ms)],
    )
    return together(evidence, again)


def unflagged(evidence: Evidence) -> Evidence:
    return evidence._replace(told=[told._replace(is_flagged=False) for told in evidence.told])


class Planted(NamedTuple):
    """One violation: the law it breaks, how, and which laws cannot but complain too."""

    name: str
    law: Law
    change: Change
    also: frozenset[Law] = frozenset()


def plant(name: str, law: Law, change: Change, *also: Law) -> Planted:
    return Planted(name, law, change, frozenset(also))


PLANTED = [
    plant("a promised message is not there", Law.KEPT, lambda e: without_message(e, "a"), Law.CLAIMED, Law.TOLD),
    plant(
        "it is for somebody else", Law.KEPT, lambda e: replaced(e, "messages", 0, recipient=BOB), Law.CLAIMED, Law.SHOWN
    ),
    plant("it is from another number", Law.KEPT, lambda e: replaced(e, "messages", 0, number=TWO), Law.STICKY),
    plant(
        "a refused request is stored",
        Law.NOTHING_ELSE,
        lambda e: replaced(e, "asked", 0, ends=("refused",), promises=()),
    ),
    plant(
        "a cut request is stored in part",
        Law.NOTHING_ELSE,
        lambda e: replaced(e, "asked", 0, ends=("cut",), promises=(), recipients=(ALICE, BOB)),
    ),
    plant(
        "a key stored its request twice",
        Law.NOTHING_ELSE,
        lambda e: added(e, "messages", message("a2", reference="ref-a", callback_url="")),
        Law.ONE_END,
    ),
    plant("nobody asked for it", Law.NOTHING_ELSE, lambda e: e._replace(asked=e.asked[1:])),
    plant("a message never ended", Law.ONE_END, lambda e: without(e, "outcomes", 0)),
    plant(
        "a message ended twice",
        Law.ONE_END,
        lambda e: added(e, "outcomes", StoredOutcome("a", "failed", "420")),
        Law.TOLD,
    ),
    plant(
        "an end does not follow from the facts",
        Law.ONE_END,
        lambda e: replaced(e, "outcomes", 0, state="undelivered"),
        *(Law.TOLD, Law.SHOWN),
    ),
    plant("a hand-over has no claim", Law.CLAIMED, lambda e: without(e, "claims", 0), Law.ATTEMPTS),
    plant("a claim names another number", Law.CLAIMED, lambda e: replaced(e, "arrivals", 0, number=TWO)),
    plant(
        "what is not stored was handed over",
        Law.CLAIMED,
        lambda e: without_message(e, "b"),
        Law.KEPT,
        Law.TOLD,
    ),
    plant("it went to somebody else", Law.CLAIMED, lambda e: replaced(e, "arrivals", 0, recipient=BOB)),
    plant("a claim was six seconds old", Law.FRESH, lambda e: replaced(e, "claims", 0, claimed_ms=T - 6_000)),
    plant("a claim came after the hand-over", Law.FRESH, lambda e: replaced(e, "claims", 0, claimed_ms=T + 1)),
    plant(
        "an attempt arrived twice",
        Law.ATTEMPTS,
        lambda e: added(e, "arrivals", arrival("a", 9_000)),
        *(Law.COPIES, Law.JITTER, Law.ARRIVALS),
    ),
    plant("an attempt was claimed twice", Law.ATTEMPTS, lambda e: added(e, "claims", claim("a"))),
    plant("an attempt was never settled", Law.ATTEMPTS, lambda e: without(e, "facts", 0)),
    plant("an attempt was settled twice", Law.ATTEMPTS, lambda e: added(e, "facts", fact("a", "returned", attempt=1))),
    plant("what was taken came back", Law.ATTEMPTS, lambda e: replaced(e, "facts", 0, kind="returned", charged=False)),
    plant("what was refused was sent", Law.ATTEMPTS, lambda e: replaced(e, "arrivals", 0, fate="busy")),
    plant("what never arrived was sent", Law.ATTEMPTS, lambda e: without(e, "arrivals", 0)),
    plant("it was sent again although it was known", Law.COPIES, lambda e: sent_again(e, "a", 9_000), Law.ARRIVALS),
    plant("a copy is not flagged", Law.COPIES, unflagged),
    plant("two stamps are 1,019 ms apart", Law.STAMPS, lambda e: replaced(e, "facts", 2, handed_ms=T + 1_019)),
    plant("a text of two segments does not pay", Law.STAMPS, lambda e: replaced(e, "facts", 0, segments=2)),
    plant("a day has five", Law.STAMPS, lambda e: more(more(e, "d", 20_000), "e", 40_000), Law.ARRIVALS),
    plant(
        "a link is over its rate",
        Law.STAMPS,
        lambda e: e._replace(links={"witness": NumberLimits(1, 4_000, None)}),
    ),
    plant(
        "after a crash a number goes on at once",
        Law.ARRIVALS,
        lambda e: replaced(e, "arrivals", 2, at_ms=BOOT + 1_500),
    ),
    plant("a number is not ours", Law.ARRIVALS, lambda e: e._replace(limits={TWO: e.limits[TWO]})),
    plant("an arrival came a second late", Law.JITTER, lambda e: replaced(e, "arrivals", 1, at_ms=BOOT + 2_020)),
    plant("a recipient hears from two", Law.STICKY, lambda e: replaced(e, "messages", 1, number=TWO), Law.KEPT),
    plant(
        "a claim is not for the decided number",
        Law.STICKY,
        lambda e: replaced(e, "claims", 0, number=TWO),
        Law.CLAIMED,
    ),
    plant("an end was not told", Law.TOLD, lambda e: without(e, "told", 1)),
    plant("a callback is still owed", Law.TOLD, lambda e: replaced(e, "callbacks", 0, is_told=False)),
    plant("the API shows another state", Law.SHOWN, lambda e: replaced(e, "shown", 0, state="sent")),
    plant("what is not stored was told", Law.TOLD, lambda e: added(e, "told", Told("a", 4, "failed", False))),
]


def test_a_lawful_run_passes():
    assert check(clean()) == []


def test_a_refused_message_may_keep_the_source_that_was_named():
    asked = Asked("ref-d", True, (ALICE,), ("accepted",), ((Promise("d", ALICE, ""),),))
    stored = message("d", number=TWO, tier="none", refusal="no_capacity", powerpack_id="")
    refused = Evidence(
        asked=[asked],
        messages=[stored._replace(callback_url="")],
        facts=[fact("d", "refused")],
        outcomes=[StoredOutcome("d", "failed", "420")],
    )
    assert check(together(clean(), refused)) == []
    assert {
        each.law for each in check(together(clean(), refused._replace(messages=[stored._replace(refusal="")])))
    } >= {Law.KEPT}


def test_nothing_at_all_passes():
    assert check(Evidence()) == []


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_violation_is_found(planted: Planted):
    found = {violation.law for violation in check(planted.change(clean()))}
    assert planted.law in found
    assert found <= {planted.law} | planted.also


def test_every_law_has_a_violation_planted():
    assert {planted.law for planted in PLANTED} == set(Law)
