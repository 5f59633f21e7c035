"""Every decision explains itself: how many candidates each filter left, against the twin's plain walk."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.model import E164, RefusalCode, Request, Tier
from resolver.trace import Step
from tests.unit.resolver.floor import (
    NOW_MS,
    build,
    decided,
    limits,
    long_code,
    recipient,
    request,
    toll_free,
)
from tests.unit.resolver.pack_twin import Asked, NumberTwin
from tests.unit.resolver.test_choosing_model import CODES, OPERATORS, Both, random_request
from tests.unit.resolver.twins import EFFORT


def expected_steps(both: Both, asked: Request, to: E164, operator: str) -> list[Step]:
    """The twin's count of each filter."""
    question = Asked(both.twin, asked, to, both.now_ms, operator)
    steps: list[Step] = []

    def narrow(rule: str, among: list[NumberTwin], kept: list[NumberTwin]) -> list[NumberTwin]:
        steps.append(Step(rule, len(among), len([each for each in among if each in kept])))
        return [each for each in among if each in kept]

    numbers = list(both.twin.numbers.values())
    left = narrow("active", numbers, [each for each in numbers if each.row.state == "active"])
    left = narrow("service", left, [each for each in left if asked.service in each.row.services])
    left = narrow("destination", left, [each for each in left if question.serves(each)])
    left = narrow("link", left, [each for each in left if question.link_of(each).fits(both.now_ms)])
    for kind in question.types():
        typed = narrow(f"type_{kind}", left, [each for each in left if each.row.type is kind])
        for tier, groups in question.rungs(kind):
            rung = narrow(f"{kind}_{tier}", typed, [each for group in groups for each in group])
            rung = narrow("day_recommended", rung, [each for each in rung if each.is_rested(both.now_ms)])
            narrow("patience", rung, [each for each in rung if question.forecast_ms(each) <= question.horizon_ms])
    narrow("validity", left, [each for each in left if question.forecast_ms(each) <= question.latest_ms])
    return steps


@settings(max_examples=40 * EFFORT, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60))
def test_counts_are_those_of_a_plain_walk_and_the_outcome_that_of_a_decision(seed, steps):
    random = Random(seed)
    both = Both(random)
    for _ in range(steps):
        both.step()
    asked, to = random_request(random), recipient(random.choice(CODES), random.randint(0, 3))
    operator = random.choice(OPERATORS)
    trace = both.resolver.explain(asked, to, now_ms=both.now_ms, chance=0.5, operator=operator)
    both.check(trace.outcome, both.twin.decide(asked, to, now_ms=both.now_ms, operator=operator))
    assert trace.steps == expected_steps(both, asked, to, operator)


def test_the_filters_stand_in_the_order_in_which_they_decide():
    resolver = build([long_code(), long_code(line=1, limits=limits(1, 60_000)), toll_free()], patience_ms=1_000)
    resolver.numbers[long_code(line=1).number].charge(1, NOW_MS)
    trace = resolver.explain(request(), recipient(), now_ms=NOW_MS, chance=0.5)
    assert trace.outcome == decided(resolver, recipient())
    shown = ("active", "destination", "type", "longcode_area")
    assert [step for step in trace.steps if step.rule.startswith(shown)] == [
        Step("active", 3, 3), Step("destination", 3, 3), Step("type_shortcode", 3, 0), Step("type_tollfree", 3, 1),
        Step("type_longcode", 3, 2), Step("longcode_area", 2, 2),
    ]  # fmt: skip
    area = trace.steps.index(Step("longcode_area", 2, 2))
    assert trace.steps[area + 1 : area + 3] == [Step("day_recommended", 2, 2), Step("patience", 2, 1)]
    assert trace.steps[-1] == Step("validity", 3, 3)


def test_explaining_charges_nothing():
    resolver = build([long_code()])
    for _ in range(3):
        trace = resolver.explain(request(), recipient(), now_ms=NOW_MS, chance=0.5)
        assert getattr(trace.outcome, "tier", None) is Tier.AREA
    assert resolver.waiting == 0
    assert resolver.numbers[long_code().number].segments == 0


def test_a_question_that_cannot_be_asked_has_its_refusal_and_no_steps():
    resolver = build([long_code()])
    trace = resolver.explain(request(), long_code().number, now_ms=NOW_MS, chance=0.5)
    assert getattr(trace.outcome, "code", None) is RefusalCode.DESTINATION_IS_SOURCE
    assert trace.steps == []
