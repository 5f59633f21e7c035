"""The check: set algebra over what the ledger was promised, what the witness saw, what was told, and what is stored.

Pure. Every law is one function that yields its violations; `check` runs them all. test_checker.py plants one violation
for each, so a law that has gone blind fails too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import Final, NamedTuple

from tests.acceptance.kill.evidence import (
    Arrival,
    Asked,
    Claim,
    Evidence,
    StoredFact,
    StoredMessage,
    by_message,
)
from tests.acceptance.kill.spans import (
    LATE_MS,
    LATE_SHARE_MAX,
    Attempt,
    Charge,
    Jitter,
    Overfull,
    Stamp,
    find_over_limits,
    find_overfull,
    measure_jitter,
)
from tests.acceptance.kill.witness import Fate

CLAIM_GOOD_MS: Final = 5_000
SETTLES: Final = frozenset({"sent", "rejected", "returned", "unknown"})
REPORTS: Final = {"delivered": "delivered", "undelivered": "undelivered", "reported_failed": "failed"}
FAILS: Final = frozenset({"rejected", "refused", "expired", "cancelled", "powerpack_deleted", "given_up"})
OWN_TIERS: Final = frozenset({"detour", "none"})
"""Decisions that do not say which number a thread has."""


class Law(StrEnum):
    """What may be broken."""

    KEPT = "what was answered 202 is stored"
    NOTHING_ELSE = "what was refused is not stored, and a key stores once"
    ONE_END = "each message ends once, in the state its facts say"
    CLAIMED = "nothing is handed over without a claim that is stored"
    FRESH = "a claim is used within five seconds"
    ATTEMPTS = "an attempt is claimed, handed over and settled once, by what happened"
    COPIES = "copies only after an unknown outcome, and flagged"
    STAMPS = "no window holds more than its limit, by hand-over stamps"
    ARRIVALS = "no window holds more than its limit, by arrivals"
    JITTER = "arrivals can be told apart"
    STICKY = "a recipient hears from one number"
    TOLD = "each end is told, and nothing else"
    SHOWN = "the API shows what is stored"


class Violation(NamedTuple):
    law: Law
    what: str

    def __str__(self) -> str:
        return f"[{self.law}] {self.what}"


class Case:
    """The evidence, sorted for the laws."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.messages = {each.message_id: each for each in evidence.messages}
        self.facts = by_message(evidence.facts)
        self.claims: dict[Attempt, list[Claim]] = {}
        for claim in evidence.claims:
            self.claims.setdefault((claim.message_id, claim.attempt), []).append(claim)
        self.arrivals: dict[Attempt, list[Arrival]] = {}
        for arrival in evidence.arrivals:
            self.arrivals.setdefault((arrival.message_id, arrival.attempt), []).append(arrival)
        self.settled: dict[Attempt, list[StoredFact]] = {}
        for fact in evidence.facts:
            if fact.kind in SETTLES:
                self.settled.setdefault((fact.message_id, fact.attempt), []).append(fact)
        self.taken: dict[str, list[Arrival]] = {}
        for arrival in evidence.arrivals:
            if arrival.is_taken:
                self.taken.setdefault(arrival.message_id, []).append(arrival)

    @cached_property
    def observed(self) -> list[tuple[StoredFact, Claim]]:
        """Attempts settled by the process that handed them over: only its stamp is an observation."""
        found = []
        for attempt, facts in self.settled.items():
            for fact in facts:
                claims = self.claims.get(attempt, [])
                if fact.handed_ms is not None and claims and claims[0].epoch == fact.epoch:
                    found.append((fact, claims[0]))
        return found

    @cached_property
    def jitter(self) -> Jitter:
        stamps = {(fact.message_id, fact.attempt): Stamp(fact.handed_ms or 0, fact.epoch) for fact, _ in self.observed}
        return measure_jitter(self.evidence.arrivals, stamps)


# --- What is stored ---------------------------------------------------------------------------------------------------


def kept(case: Case) -> Iterator[str]:
    for asked in case.evidence.asked:
        for promise in (each for promises in asked.promises for each in promises):
            message = case.messages.get(promise.message_id)
            if message is None:
                yield f"{promise.message_id} ({asked.reference}) was promised and is not there"
                continue
            number = "" if message.refusal else message.number  # the source that was named, if it was refused
            if (message.recipient, number or "") != (promise.recipient, promise.number):
                yield f"{promise.message_id} was promised to {promise.recipient} from {promise.number}: {message}"


def nothing_else(case: Case) -> Iterator[str]:
    stored: dict[str, list[StoredMessage]] = {}
    for message in case.evidence.messages:
        stored.setdefault(message.reference, []).append(message)
    for asked in case.evidence.asked:
        yield from _excess(asked, stored.pop(asked.reference, []))
    for reference, messages in stored.items():
        yield f"{len(messages)} messages are stored for {reference!r}, which nobody asked for"


def _excess(asked: Asked, stored: list[StoredMessage]) -> Iterator[str]:
    ids = {each.message_id for each in stored}
    requests = {each.request_id for each in stored}
    if len(requests) > 1:
        yield f"{asked.reference} is stored {len(requests)} times"
    for promises in asked.promises:
        if ids - {each.message_id for each in promises}:
            yield f"{asked.reference}: more is stored than one of its answers says"
    if asked.promises or not stored:
        return
    if asked.ends and set(asked.ends) <= {"refused"}:
        yield f"{asked.reference} was refused, and {len(stored)} messages of it are stored"
    elif sorted(each.recipient for each in stored) != sorted(asked.recipients):
        yield f"{asked.reference} is stored in part: {len(stored)} of {len(asked.recipients)}"


def one_end(case: Case) -> Iterator[str]:
    outcomes: dict[str, list[str]] = {}
    for outcome in case.evidence.outcomes:
        outcomes.setdefault(outcome.message_id, []).append(outcome.state)
    for message_id in case.messages:
        ends = outcomes.pop(message_id, [])
        folded = _fold([fact.kind for fact in case.facts.get(message_id, [])])
        if len(ends) != 1:
            yield f"{message_id} has {len(ends)} ends: {ends}, by its facts {folded}"
        elif ends[0] != folded:
            yield f"{message_id} ended {ends[0]}, by its facts {folded}"
    for message_id in outcomes:
        yield f"{message_id} ended, and is not there"


def _fold(kinds: list[str]) -> str:
    """The naive twin of the gateway's fold: a message's end, or "" while it has none."""
    sent = False
    for kind in kinds:
        if kind in REPORTS:
            return REPORTS[kind]
        if kind in ("sent", "reported_sent"):
            sent = True
        elif kind == "unreported" and sent:
            return "sent"
        elif kind in FAILS and not sent:
            return "failed"
    return ""


# --- Handing over -----------------------------------------------------------------------------------------------------


def claimed(case: Case) -> Iterator[str]:
    for (message_id, attempt), arrivals in case.arrivals.items():
        message = case.messages.get(message_id)
        if message is None:
            yield f"{message_id} was handed over, and is not stored"
        elif message.recipient != arrivals[0].recipient:
            yield f"{message_id} went to {arrivals[0].recipient} instead of {message.recipient}"
        claims = case.claims.get((message_id, attempt), [])
        if not any(claim.number == arrivals[0].number for claim in claims):
            yield f"{message_id} was handed over from {arrivals[0].number} as attempt {attempt}; claims: {claims}"


def fresh(case: Case) -> Iterator[str]:
    for fact, claim in case.observed:
        age_ms = (fact.handed_ms or 0) - claim.claimed_ms
        if not 0 <= age_ms <= CLAIM_GOOD_MS:
            yield f"{fact.message_id} was handed over {age_ms} ms after its claim {claim.attempt}"


def attempts(case: Case) -> Iterator[str]:
    for (message_id, attempt), arrivals in case.arrivals.items():
        if len(arrivals) > 1:
            yield f"attempt {attempt} of {message_id} arrived {len(arrivals)} times"
    for (message_id, attempt), claims in case.claims.items():
        facts = case.settled.get((message_id, attempt), [])
        if len(claims) > 1:
            yield f"attempt {attempt} of {message_id} was claimed {len(claims)} times"
        if len(facts) != 1:
            yield f"attempt {attempt} of {message_id} was settled by {[fact.kind for fact in facts]}"
            continue
        arrived = case.arrivals.get((message_id, attempt))
        lawful = _lawful_facts(arrived[0] if arrived else None)
        if message_id in case.taken:  # then a report may have been quicker than the answer, and wins
            lawful |= {"sent"}
        if facts[0].kind not in lawful:
            fate = arrived[0].fate if arrived else "never seen"
            yield f"attempt {attempt} of {message_id} was {fate} and settled as {facts[0].kind}"
    for message_id, attempt in case.settled.keys() - case.claims.keys():
        yield f"attempt {attempt} of {message_id} was settled and never claimed"


def _lawful_facts(arrival: Arrival | None) -> set[str]:
    """How an attempt may be settled, by what the witness did with it; unknown where nobody heard the answer."""
    if arrival is None:
        return {"returned", "unknown"}
    if arrival.is_taken:
        return {"sent", "unknown"}
    return {"rejected" if arrival.fate == Fate.REJECTED else "returned", "unknown"}


def copies(case: Case) -> Iterator[str]:
    flagged = {told.message_id for told in case.evidence.told if told.is_flagged}
    for message_id, arrivals in case.taken.items():
        facts = case.facts.get(message_id, [])
        unknown = {fact.attempt for fact in facts if fact.kind == "unknown"}
        if len(arrivals) > 1 + len(unknown):
            yield f"{message_id} was taken {len(arrivals)} times with {len(unknown)} unknown outcomes"
        known = {arrival.attempt for arrival in arrivals} - unknown
        if len(arrivals) > 1 and len(known) > 1:
            yield f"{message_id} was taken as attempts {sorted(known)}, all with a known outcome"
        message = case.messages.get(message_id)
        if len(arrivals) > 1 and message is not None and message.callback_url and message_id not in flagged:
            yield f"{message_id} was taken {len(arrivals)} times, and no callback says possible duplicate"


# --- Windows ----------------------------------------------------------------------------------------------------------


def stamps(case: Case) -> Iterator[str]:
    charges: dict[str, list[Charge]] = {}
    carriers: dict[str, list[Charge]] = {}
    for fact, claim in case.observed:
        if fact.charged:
            name = f"{fact.message_id}/{fact.attempt}"
            charge = Charge(fact.handed_ms or 0, fact.segments, 0.0, name)
            charges.setdefault(claim.number, []).append(charge)
            carriers.setdefault(claim.carrier, []).append(charge)
    for number, limits in case.evidence.limits.items():
        for window, found in find_over_limits(charges.get(number, []), limits, by_arrival=False):
            yield _complain(number, window, found)
    for carrier, limits in case.evidence.links.items():
        for found in find_overfull(carriers.get(carrier, []), limit=limits.segments, span_ms=limits.span_ms):
            yield _complain(carrier, "link", found)


def arrivals(case: Case) -> Iterator[str]:
    charges: dict[str, list[Charge]] = {}
    for arrival in case.evidence.arrivals:
        message = case.messages.get(arrival.message_id)
        if arrival.is_charged:
            delay_ms = case.jitter.delay_of(arrival)
            segments = message.segments if message is not None else 1
            name = f"{arrival.message_id}/{arrival.attempt}"
            charges.setdefault(arrival.number, []).append(Charge(arrival.at_ms, segments, delay_ms, name))
    for number, limits in case.evidence.limits.items():
        for window, found in find_over_limits(charges.pop(number, []), limits, by_arrival=True):
            yield _complain(number, window, found)
    for number in charges:
        yield f"{number} is no number of ours"


def _complain(where: str, window: str, found: Overfull) -> str:
    late = f", the first up to {found.first.delay_ms:.0f} ms late" if found.first.delay_ms else ""
    return f"{where} {window}: {found.first.name} to {found.last.name} within {found.gap_ms:.0f} ms{late}"


def jitter(case: Case) -> Iterator[str]:
    measured = case.jitter
    if case.evidence.arrivals and measured.late_share > LATE_SHARE_MAX:
        yield (
            f"{measured.late_share:.0%} of {len(measured.delays_ms)} arrivals with a stamp were over {LATE_MS:.0f} ms "
            f"late, up to {measured.measured_ms:.0f}: nothing can be told by arrivals"
        )


# --- Threads, callbacks -----------------------------------------------------------------------------------------------


def sticky(case: Case) -> Iterator[str]:
    rebound = {fact.message_id for fact in case.evidence.facts if fact.kind == "rebound"}
    numbers: dict[tuple[str | None, str], Counter[str | None]] = {}
    moved: set[tuple[str | None, str]] = set()
    for message in case.evidence.messages:
        thread = (message.powerpack_id, message.recipient)
        if message.message_id in rebound:
            moved.add(thread)
        if message.powerpack_id in case.evidence.sticky and message.tier not in OWN_TIERS:
            numbers.setdefault(thread, Counter())[message.number] += 1
    for thread, counts in numbers.items():
        if len(counts) > 1 and thread not in moved:
            yield f"{thread[1]} hears from {dict(counts)}"
    for message in case.evidence.messages:
        if (message.tier == "source") is not (message.powerpack_id is None) and not message.refusal:
            yield f"{message.message_id} of powerpack {message.powerpack_id} was decided as {message.tier}"
        if message.powerpack_id is None and message.message_id in rebound:
            yield f"{message.message_id} named its number and was moved"
    for (message_id, _), claims in case.claims.items():
        stored = case.messages.get(message_id)
        if stored is not None and message_id not in rebound and claims[0].number != stored.number:
            yield f"{message_id} was decided for {stored.number} and claimed for {claims[0].number}"


def told(case: Case) -> Iterator[str]:
    stored: dict[tuple[str, int], str] = {}
    for callback in case.evidence.callbacks:
        key = (callback.message_id, callback.sequence)
        if stored.setdefault(key, callback.status) != callback.status:
            yield f"callback {callback.sequence} of {callback.message_id} is stored twice"
        if not callback.is_told:
            yield f"callback {callback.sequence} of {callback.message_id} is still owed"
    heard: dict[str, set[str]] = {}
    for each in case.evidence.told:
        heard.setdefault(each.message_id, set()).add(each.status)
        if stored.get((each.message_id, each.sequence)) != each.status:
            yield f"{each.message_id} was told to be {each.status} ({each.sequence}), which is not stored"
    for outcome in case.evidence.outcomes:
        message = case.messages.get(outcome.message_id)
        wanted = message is not None and message.callback_url
        if wanted and outcome.state not in heard.get(outcome.message_id, ()):
            yield f"{outcome.message_id} ended {outcome.state}, and its account was not told"


def shown(case: Case) -> Iterator[str]:
    ends: dict[str, set[str]] = {}
    for outcome in case.evidence.outcomes:
        ends.setdefault(outcome.message_id, set()).add(outcome.state)
    for each in case.evidence.shown:
        message = case.messages.get(each.message_id)
        if message is None or each.message_id not in ends:
            continue  # other laws complain
        if each.state not in ends[each.message_id] or each.recipient != message.recipient:
            yield f"{each} is not what is stored: {message}, {ends[each.message_id]}"


LAWS: Final[dict[Law, Callable[[Case], Iterator[str]]]] = {
    Law.KEPT: kept,
    Law.NOTHING_ELSE: nothing_else,
    Law.ONE_END: one_end,
    Law.CLAIMED: claimed,
    Law.FRESH: fresh,
    Law.ATTEMPTS: attempts,
    Law.COPIES: copies,
    Law.STAMPS: stamps,
    Law.ARRIVALS: arrivals,
    Law.JITTER: jitter,
    Law.STICKY: sticky,
    Law.TOLD: told,
    Law.SHOWN: shown,
}


def check(evidence: Evidence) -> list[Violation]:
    """Everything that is wrong with a run; an empty list is the proof."""
    case = Case(evidence)
    return [Violation(law, what) for law, find in LAWS.items() for what in find(case)]
