from __future__ import annotations

from pathlib import Path

import pytest

from gateway.carriers.carrier import (
    FAILURES,
    THROTTLED,
    UNREACHABLE,
    Failure,
    SendFailed,
    Taken,
    read_options,
)
from gateway.carriers.simulated_options import SimulatedOptions
from gateway.carriers.template import WORDS
from gateway.fields import BadSetting
from gateway.settings import CarrierSettings
from resolver.model import CarrierName
from storage.records import FactKind, State, fold

ALL = pytest.mark.parametrize("failure", FAILURES.values(), ids=lambda failure: failure.code)


@ALL
def test_codes_are_words_and_names_of_their_row(failure: Failure) -> None:
    assert FAILURES[failure.code] is failure
    assert failure.code.replace("_", "").isalpha()
    assert failure.shown.endswith(".")
    assert failure.plivo_code.isdecimal()


@ALL
def test_what_ends_a_message_counts_in_the_windows(failure: Failure) -> None:
    """The resolver keeps the charge of what it is told has ended; recovery must read the same."""
    if not failure.may_retry:
        assert failure.keeps_charge


@ALL
def test_what_may_have_been_taken_is_charged_and_counted(failure: Failure) -> None:
    if failure.taken is Taken.MAYBE:
        assert failure.keeps_charge
        assert failure.spends_attempt


@ALL
def test_trouble_of_the_link_costs_a_message_nothing_but_time(failure: Failure) -> None:
    if failure.taken is Taken.NO and not failure.spends_attempt:
        assert failure.may_retry
        assert not failure.keeps_charge
        assert failure.link_after or failure is THROTTLED


def test_a_failed_send_says_which_failure_and_what_the_carrier_said() -> None:
    assert str(SendFailed(UNREACHABLE)) == "unreachable"
    assert str(SendFailed(THROTTLED, "429", retry_after_ms=5)) == "throttled 429"


def settings(**options: object) -> CarrierSettings:
    return CarrierSettings(name=CarrierName("one"), options=options)


def test_options_may_come_as_text_from_the_environment() -> None:
    assert read_options(settings(seed="7", reports="no"), SimulatedOptions) == SimulatedOptions(seed=7, reports=False)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sed": 7}, "seed"),
        ({"seed": "seven"}, r"carriers\.one"),
        ({"loss_per_mille": 1_001}, "1,000 or less"),
        ({"latency_ms_min": 100}, "latency_ms_min is over"),
        ({"stalls_s": ["soon"]}, "60-660"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        read_options(settings(**options), SimulatedOptions)


# --- docs/carriers.md -------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[4] / "docs" / "carriers.md").read_text("utf-8")


@ALL
def test_the_documentation_shows_the_table_of_failures(failure: Failure) -> None:
    if failure.taken is Taken.MAYBE:
        then = "unknown: waits for a report, then `on_unknown`"
    elif not failure.may_retry:
        then = "ends `failed`"
    else:
        then = "tried again, counted" if failure.spends_attempt else "tried again, not counted"
    charge = "stays" if failure.keeps_charge else "given back"
    link = "slowed down" if failure is THROTTLED else "–"
    if failure.link_after:
        link = f"down after {failure.link_after} in a row"
    row = f"| `{failure.code}` | {failure.shown} | {then} | {charge} | {link} | {failure.plivo_code} |"
    assert row in PAGE


@pytest.mark.parametrize(("status", "meaning"), [pair for pair in WORDS.items() if pair[1] is not None])
def test_the_documentation_shows_what_reports_mean(status: str, meaning: tuple[FactKind, str]) -> None:
    kind, code = meaning
    assert f"| `{status}` | `{fold(State.QUEUED, kind)}` | {code + ' ' if code else ''}|" in PAGE


@pytest.mark.parametrize("kind", ["http", "simulated"])
def test_the_documentation_shows_each_kind(kind: str) -> None:
    assert f'## `kind = "{kind}"`' in PAGE
