"""Every decision explains itself: candidate counts around each filter, counted plainly, without the indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from resolver.choosing import Question, forecast_of, serves
from resolver.geography import locate
from resolver.model import Decision, NumberState, NumberType, Refusal
from resolver.preference import NEIGHBORS, type_order
from resolver.queues import Number


class Step(NamedTuple):
    """One filter: its rule code, and how many numbers there were before and after it."""

    rule: str
    before: int
    after: int


class Trace(NamedTuple):
    """What was decided, and the filters on the way, in order."""

    outcome: Decision | Refusal
    steps: list[Step]


def explain(question: Question, outcome: Decision | Refusal) -> Trace:
    """Count what each filter leaves. The filters of the powerpack narrow; those of a type and tier stand beside each
    other, each counted from what the powerpack's filters left."""
    numbers = list(question.pool.numbers.values())
    steps: list[Step] = []

    def narrow(rule: str, keeps: Callable[[Number], bool], among: list[Number]) -> list[Number]:
        kept = [each for each in among if keeps(each)]
        steps.append(Step(rule, len(among), len(kept)))
        return kept

    now_ms, request, location = question.now_ms, question.request, question.location
    horizon_ms = question.horizon_ms
    numbers = narrow("active", lambda each: each.row.state is NumberState.ACTIVE, numbers)
    numbers = narrow("service", lambda each: request.service in each.row.services, numbers)
    numbers = narrow("destination", lambda each: serves(question, each), numbers)
    numbers = narrow("link", lambda each: each.link.fits(now_ms), numbers)
    for number_type in type_order(question.pool.row, location.country, request.service, question.operator):
        typed = narrow(f"type_{number_type}", lambda each, wanted=number_type: each.row.type is wanted, numbers)  # type: ignore[misc]
        for tier, belongs in _tiers(question, number_type):
            rung = narrow(f"{number_type}_{tier}", belongs, typed)
            rung = narrow("day_recommended", lambda each: not each.rested_ms(now_ms), rung)
            narrow("patience", lambda each: forecast_of(question, each) <= horizon_ms, rung)
    latest_ms = question.latest_ms
    narrow("validity", lambda each: forecast_of(question, each) <= latest_ms, numbers)
    return Trace(outcome, steps)


def _tiers(question: Question, number_type: NumberType) -> list[tuple[str, Callable[[Number], bool]]]:
    location = question.location
    tiers: list[tuple[str, Callable[[Number], bool]]] = []
    long_code = number_type is NumberType.LONG_CODE
    if long_code and question.pool.row.local_connect:
        tiers.append(("area", lambda each: _place(each)[1] == location.area_code))
        tiers.append(("region", lambda each: bool(_place(each)[0] & location.regions)))
    if number_type is NumberType.TOLL_FREE:
        tiers.append(("country", lambda _: True))
    else:
        tiers.append(("country", lambda each: each.row.country == location.country))
    neighbor = NEIGHBORS.get(location.country)
    if long_code and neighbor is not None:
        tiers.append(("neighbor", lambda each: each.row.country == neighbor))
    return tiers


def _place(number: Number) -> tuple[frozenset[str], str]:
    location = locate(number.number)
    return (location.regions, location.area_code) if location is not None else (frozenset(), "")
