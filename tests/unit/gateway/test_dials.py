"""The metrics by name: what docs/metrics.md lists is what is served, and reading it costs little."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from gateway.clock import SystemClock
from gateway.dials import SAMPLE_MAX, Dials, by_priority
from gateway.fields import keys_of
from gateway.logs import Sink
from gateway.metrics import LABEL_VALUES_MAX, NAME
from gateway.pressure import Pressure, Room
from gateway.settings import SECTIONS, LimitsSettings
from resolver.core import Resolver
from resolver.model import Priority
from tests.fakes.accept_floor import AcceptFloor

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


class Shut(NamedTuple):
    """A door nobody stands at."""

    connections: int = 0
    turned_away: dict[str, int] = {}  # noqa: RUF012 - nobody changes it
    in_progress: int = 0
    streams: int = 0


def all_dials() -> Dials:
    dials, clock, nobody = Dials(), SystemClock(), cast("Any", None)
    pressure = Pressure(LimitsSettings(), lambda: Room(0.0, 0, 100.0), clock=clock)
    dials.watch_process(clock=clock, pressure=pressure, sink=Sink(io.StringIO()))
    dials.watch_door(Shut())
    callbacks = cast("Any", SimpleNamespace(resting=lambda: 0))
    dials.watch_parts(
        resolver=Resolver(), journal=nobody, facts=nobody, callbacks=callbacks, reports=nobody, lanes={}
    )  # fmt: skip
    return dials


def test_the_document_lists_what_is_served() -> None:
    table = "\n".join(
        f"| `{name}` | {kind} | {labels} | {why} |" for name, kind, labels, why in all_dials().metrics.described()
    )
    assert table in DOCUMENT.read_text("utf-8"), f"docs/metrics.md lacks:\n{table}"


def test_a_name_says_what_and_in_which_unit() -> None:
    for name, kind, _, why in all_dials().metrics.described():
        assert name.startswith(NAME)
        assert name.endswith("_total") is (kind == "counter")
        assert why


async def test_what_waits_is_told_by_priority() -> None:
    floor = AcceptFloor()
    for priority, count in ((Priority.URGENT, 2), (Priority.BULK, 3)):
        for line in range(count):
            submission = floor.submission(f"+1415555{line}1{count}0")
            submission.request.priority = priority
            await floor.outbound.submit(submission)
    assert by_priority(floor.resolver) == {"urgent": 2, "bulk": 3}


async def test_a_commit_is_counted_by_its_size_and_its_time() -> None:
    dials = Dials()
    dials.committed(300, 7.5)
    families = {family.name: family for family in dials.metrics.collect()}
    for name, value in (("gateway_commit_rows", 300), ("gateway_commit_ms", 7.5)):
        assert [each.value for each in families[name].samples if each.name.endswith("_sum")] == [value]


async def test_looking_at_what_waits_is_bounded() -> None:
    floor = AcceptFloor()
    await floor.outbound.submit(floor.submission())
    (message,) = floor.resolver.open.values()
    crowd = cast("Resolver", type("Crowd", (), {"open": dict.fromkeys(range(10**6), message), "waiting": 10**6}))
    began = time.process_time()
    assert by_priority(crowd) == {"urgent": 0, "bulk": 10**6}
    assert time.process_time() - began < 0.1, f"it looks at {SAMPLE_MAX}"


@pytest.mark.parametrize("label", ["a", "b"])
def test_labels_are_bounded(label: str) -> None:
    dials = Dials()
    for number in range(2 * LABEL_VALUES_MAX):
        dials.rejections.add(f"{label}{number}")
    assert len(dials.rejections.counts) == LABEL_VALUES_MAX + 1


# --- docs/limits.md ---------------------------------------------------------------------------------------------------

LIMITS_PAGE = DOCUMENT.with_name("limits.md").read_text("utf-8")
ROWS = re.findall(r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", LIMITS_PAGE, re.MULTILINE)
UNITS = {"s": 1_000, "ms": 1, "KiB": 1_024, "MiB": 2**20, "GiB": 1_024}  # disk_free_mib_min is in MiB


def test_the_limits_are_the_settings() -> None:
    checked = 0
    for default, names, _ in ROWS[1:]:
        figures = re.findall(r"([0-9][0-9,]*) ?(s|ms|KiB|MiB|GiB)?\b", default)
        for name, (figure, unit) in zip(re.findall(r"`(\w+)`", names), figures, strict=False):
            values = [getattr(part(), name) for part in SECTIONS.values() if name in keys_of(part)]
            if values:
                assert int(figure.replace(",", "")) * UNITS.get(unit, 1) == values[0], name
                checked += 1
    assert checked >= 17


def test_every_bound_that_is_counted_is_explained() -> None:
    said = set(re.findall(r"`(\w+)`", " ".join(bound for _, _, bound in ROWS)))
    code = "\n".join(path.read_text("utf-8") for path in (DOCUMENT.parents[1] / "gateway").rglob("*.py"))
    used = set(re.findall(r'bound=?"(\w+)"', code)) | set(re.findall(r'_turn_away\("(\w+)"\)', code))
    used |= {"head_ms", "unread_ms", "commit_wait", "waiting_messages", "account_requests", "requests"}
    used |= {"memory", "disk", "event_loop"}
    assert said - {"bound"} == used
