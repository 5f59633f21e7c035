"""Which kinds of carrier there are: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.carriers.carrier import Carrier
from gateway.carriers.http import HttpCarrier, HttpOptions
from gateway.carriers.simulated import SimulatedCarrier, SimulatedOptions
from gateway.clock import Clock
from gateway.settings import CarrierSettings

OPTIONS: Final[Mapping[str, type[Any]]] = {"http": HttpOptions, "simulated": SimulatedOptions}
"""What each kind takes beside what all take; for the manual."""


def make_carrier(settings: CarrierSettings, *, clock: Clock, answer_ms_max: int) -> Carrier:
    """Make a carrier, not yet started. Raises BadSetting for what its kind does not take."""
    if settings.kind == "http":
        return HttpCarrier(settings, clock=clock, answer_ms_max=answer_ms_max)
    assert settings.kind == "simulated", settings.kind
    return SimulatedCarrier(settings, clock=clock, answer_ms_max=answer_ms_max)
