"""Which kinds of carrier there are: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.carriers import template
from gateway.carriers.carrier import Carrier
from gateway.carriers.http import HttpCarrier, HttpOptions
from gateway.carriers.simulated import SimulatedCarrier
from gateway.carriers.simulated_options import SimulatedOptions
from gateway.clock import Clock
from gateway.settings import CarrierSettings

OPTIONS: Final[Mapping[str, type[Any]]] = {"http": HttpOptions, "simulated": SimulatedOptions}
"""What each kind takes beside what all take; for the manual."""


TABLES: Final[Mapping[str, Mapping[str, type[Any]]]] = {"http": template.TABLES}
"""The tables below a carrier's own that a kind takes; for the manual."""


def make_carrier(settings: CarrierSettings, *, clock: Clock, answer_ms_max: int, public_url: str) -> Carrier:
    """Make a carrier, not yet started; it reports to us below `public_url`, "" where that is not set.

    Raises BadSetting for what its kind does not take.
    """
    if settings.kind == "http":
        return HttpCarrier(settings, clock=clock, answer_ms_max=answer_ms_max, public_url=public_url)
    assert settings.kind == "simulated", settings.kind
    return SimulatedCarrier(settings, clock=clock, answer_ms_max=answer_ms_max)
