"""Choosing one number: the recipient's thread, then the ladder of types and tiers, then the soonest of all.

Reads only. What the order of steps is stands here and nowhere else (RESOLUTION: sticky, order of types, ladder).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from resolver.compliance import destination_takes
from resolver.groups import Candidate, is_sooner
from resolver.model import (
    E164,
    Decision,
    Location,
    NumberState,
    NumberType,
    Priority,
    Refusal,
    RefusalCode,
    Request,
    StickyAtLimit,
    Thread,
    Tier,
)
from resolver.pool import Pool, Rung
from resolver.queues import Number


class Question:
    """What is asked, with everything that follows from it once."""

    __slots__ = (
        "chance", "excluded_networks", "horizon_ms", "latest_ms", "location", "now_ms", "operator", "pool", "recipient",
        "request", "urgent",
    )  # fmt: skip

    def __init__(
        self,
        pool: Pool,
        request: Request,
        recipient: E164,
        location: Location,
        operator: str,
        excluded_networks: frozenset[str],
        *,
        now_ms: int,
        chance: float,
        horizon_ms: int,
        latest_ms: int,
    ) -> None:
        self.pool = pool
        self.request = request
        self.recipient = recipient
        self.location = location
        self.operator = operator
        self.excluded_networks = excluded_networks  # operators that take no toll-free traffic
        self.now_ms = now_ms
        self.chance = chance
        self.urgent = request.priority is Priority.URGENT
        self.horizon_ms = horizon_ms  # the last instant within patience, and within what is left of its validity
        self.latest_ms = latest_ms  # the last instant within the message's validity


NO_THREAD = "no_thread"
"""The rule code of a decision made while Sticky Sender was off: it makes no thread."""


def choose(question: Question) -> Decision | Refusal:
    """One number for one message, or why none. O(log n) in the size of the pool."""
    pool = question.pool
    if not pool.row.sticky_sender:
        found = choose_anew(question)
        return found if isinstance(found, Refusal) else found._replace(rules=(*found.rules, NO_THREAD))
    thread = pool.thread_of(question.recipient, question.now_ms)
    if thread is None:
        return choose_anew(question)
    number = pool.numbers[thread.number]
    decided = _by_thread(question, thread, number)
    if decided is not None:
        return decided
    found = _last_resort(question)
    if isinstance(found, Refusal):
        return found
    if found.forecast_ms is None and serves(question, number) and not number.link.fits(question.now_ms):
        return found._replace(number=number.number, tier=Tier.STICKY, rules=("sticky", *found.rules))
    # The thread's own number cannot serve: it keeps the thread, another one stands in.
    return found._replace(tier=Tier.DETOUR, rules=("sticky", *found.rules))


def choose_anew(question: Question) -> Decision | Refusal:
    """As for a recipient nobody has written to."""
    return _climb(question) or _last_resort(question)


# -- the thread ---------------------------------------------------------------------------------------------------


def _by_thread(question: Question, thread: Thread, number: Number) -> Decision | Refusal | None:
    """Sticky Sender's answer; None when neither its number nor the ladder has one."""
    now_ms, row = question.now_ms, question.pool.row
    at_ms = forecast_of(question, number)
    open_ = serves(question, number) and number.link.fits(now_ms)
    policy = row.sticky_at_limit
    wait_ms = min(row.sticky_wait_ms, question.horizon_ms - now_ms) if policy is StickyAtLimit.WAIT else 0
    if open_ and at_ms - now_ms <= wait_ms:
        return _decision(question, number, Tier.STICKY, at_ms, _STICKY)
    if open_ and policy is StickyAtLimit.REFUSE:
        return Refusal(
            RefusalCode.STICKY_AT_LIMIT,
            "The recipient's number is at its limit, and this powerpack refuses then.",
            binding_window(question, number, at_ms),
            at_ms,
        )
    return _detour(question, thread, number, at_ms, is_open=open_, remap=policy is StickyAtLimit.REMAP)


def _detour(
    question: Question, thread: Thread, first: Number, at_ms: int, *, is_open: bool, remap: bool
) -> Decision | None:
    """A second number while the first is at its limit or may not serve; the first where no other is sooner."""
    rule = "sticky_at_limit" if is_open else "sticky_not_open"
    remap = remap and is_open
    second = question.pool.numbers.get(thread.detour) if thread.detour is not None and not remap else None
    if second is not None and serves(question, second) and second.link.fits(question.now_ms):
        second_ms = forecast_of(question, second)
        if second_ms <= question.horizon_ms and not (is_open and at_ms <= second_ms):
            return _decision(question, second, Tier.DETOUR, second_ms, ("sticky", rule, "detour"))
    found = _climb(question)
    if found is not None and found.number != first.number and not (is_open and at_ms <= (found.forecast_ms or 0)):
        if remap:
            return found._replace(rules=("sticky", rule, "remap", *found.rules))
        return found._replace(tier=Tier.DETOUR, rules=("sticky", rule, *found.rules))
    if is_open and at_ms <= question.latest_ms:
        return _decision(question, first, Tier.STICKY, at_ms, ("sticky", rule))
    return None


def serves(question: Question, number: Number) -> bool:
    """Whether a number may write to this recipient by state, service, type and destination."""
    row = number.row
    return (
        row.state is NumberState.ACTIVE
        and question.request.service in row.services
        and destination_takes(
            row.type, row.country, row.verified, question.location, question.operator, question.excluded_networks
        )
    )


# -- the ladder ---------------------------------------------------------------------------------------------------


def _ladder(question: Question) -> tuple[Rung, ...]:
    pool, request, operator = question.pool, question.request, question.operator
    ladder = pool.ladder(question.location, request.service, question.urgent, operator)
    if operator and operator in question.excluded_networks:
        return tuple(rung for rung in ladder if rung.type is not NumberType.TOLL_FREE)
    return ladder


def _climb(question: Question) -> Decision | None:
    """The first type and tier with a number within recommendation and patience; the soonest of it wins."""
    pool = question.pool
    if pool.touched:
        pool.freshen()
    now_ms, chance, horizon_ms = question.now_ms, question.chance, question.horizon_ms
    units = question.request.segments
    best: Candidate | None = None
    best_rung: Rung | None = None
    for rung in _ladder(question):
        # The regions of an overlay code stand side by side: they are one tier.
        if best_rung is not None and (rung.tier is not best_rung.tier or rung.type is not best_rung.type):
            break
        found = rung.group.pick(units, now_ms, horizon_ms, chance)
        if found is not None and (best is None or is_sooner(found, best)):
            best, best_rung = found, rung
    if best is None or best_rung is None:
        return None
    return _decision(question, best[0], best_rung.tier, best[1], _RULES[best_rung.type])


def _last_resort(question: Question) -> Decision | Refusal:
    """Nobody within recommendation and patience: the soonest of all eligible, or a link that is down, or a refusal."""
    units, now_ms, chance = question.request.segments, question.now_ms, question.chance
    groups = [rung.soonest for rung in _ladder(question) if rung.soonest is not None]
    best = _soonest(group.pick(units, now_ms, _NEVER_MS, chance) for group in groups)
    if best is not None and best[1] <= question.latest_ms:
        return _decision(question, best[0], Tier.SOONEST, best[1], ("soonest",))
    for rung in _ladder(question):
        found = rung.group.pick_behind_links(units, now_ms, question.horizon_ms, chance)
        if found is not None:
            return Decision(found[0].number, rung.tier, None, (*_RULES[rung.type], LINK_DOWN), LINK_DOWN)
    down = _soonest(group.pick_behind_links(units, now_ms, _NEVER_MS, chance) for group in groups)
    if down is not None and down[1] <= question.latest_ms:
        return Decision(down[0].number, Tier.SOONEST, None, ("soonest", LINK_DOWN), LINK_DOWN)
    best = best or down
    if best is None:
        return Refusal(RefusalCode.NO_NUMBER, "The powerpack has no number that may send to this destination.")
    return no_capacity(question, best)


def _soonest(candidates: Iterable[Candidate | None]) -> Candidate | None:
    best: Candidate | None = None
    for candidate in candidates:
        if candidate is not None and (best is None or is_sooner(candidate, best)):
            best = candidate
    return best


def no_capacity(question: Question, best: Candidate) -> Refusal:
    """Which window binds, when it next has room, and how many numbers would have been enough."""
    (number, at_ms), validity_ms = best, question.latest_ms - question.now_ms
    window = binding_window(question, number, at_ms)
    is_links = window == number.link.window.name
    return Refusal(
        RefusalCode.NO_CAPACITY,
        f"No number could send this within {validity_ms // 1000} seconds: {window} binds.",
        window,
        at_ms - validity_ms,
        None if is_links else _numbers_enough(question, number),
    )


def _numbers_enough(question: Question, like: Number) -> int:
    """How many numbers like this one would carry what waits, and this message, within its validity.

    Counted over the numbers that serve the destination; in pools of more than `COUNTED_MAX`, which are not walked for
    a refusal, one more than there are: a new number is free at once.
    """
    numbers, units = question.pool.numbers, question.request.segments
    if len(numbers) > COUNTED_MAX:
        return len(numbers) + 1
    serving = [number for number in numbers.values() if serves(question, number)]
    spans = (question.latest_ms - question.now_ms) // like.rate.span_ms + 1
    segments = units + sum(number.segments for number in serving)
    enough = -(-segments // (spans * like.rate.limit))
    if like.day_law is not None:
        messages = 1 + sum(number.messages for number in serving)
        enough = max(enough, -(-messages // like.day_law.limit))
    return max(len(serving) + 1, enough)


# -- small things -------------------------------------------------------------------------------------------------

COUNTED_MAX: Final = 1_000
LINK_DOWN: Final = "link_down"
PAUSED: Final = "paused"

_NEVER_MS: Final = 1 << 62
_STICKY: Final = ("sticky",)
_RULES: Final[dict[NumberType, tuple[str, ...]]] = {each: ("priority", each.value) for each in NumberType}


def wait_for_resume(found: Decision | Refusal) -> Decision | Refusal:
    """As it is decided in a powerpack that is paused: the message waits at the number it would have had."""
    if isinstance(found, Refusal):
        return found
    return found._replace(forecast_ms=None, rules=(*found.rules, PAUSED), window=PAUSED)


def forecast_of(question: Question, number: Number) -> int:
    """When the message is expected to leave from this number over its link."""
    units = question.request.segments
    at_ms = number.forecast_ms(question.urgent, units, question.now_ms)
    return max(at_ms, number.link.free_ms(units, question.now_ms))


def binding_window(question: Question, number: Number, at_ms: int) -> str:
    """The window that sets the forecast `at_ms`."""
    units = question.request.segments
    if number.link.free_ms(units, question.now_ms) >= at_ms:
        return number.link.window.name
    return number.binding_window(urgent=question.urgent, units=units, now_ms=question.now_ms)


def _decision(question: Question, number: Number, tier: Tier, at_ms: int, rules: tuple[str, ...]) -> Decision:
    window = "" if at_ms <= question.now_ms else binding_window(question, number, at_ms)
    return Decision(number.number, tier, at_ms, rules, window)
