"""Which kinds of carrier there are: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.carriers import template
from gateway.carriers.carrier import Carrier, WebhookReader
from gateway.carriers.http import HttpCarrier, HttpOptions
from gateway.carriers.simulated import SimulatedCarrier
from gateway.carriers.simulated_options import SimulatedOptions
from gateway.clock import Clock
from gateway.settings import CarrierSettings
from resolver.model import CarrierName

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


def find_shared(readers: Mapping[CarrierName, WebhookReader]) -> Iterator[str]:
    """Say which carriers take each other's webhooks, since one credential proves both. Never says the credential."""
    sharing: dict[str, list[CarrierName]] = {}
    for name, reader in readers.items():
        if reader.credential:
            sharing.setdefault(reader.credential, []).append(name)
    for names in sharing.values():
        if len(names) > 1:
            joined = ", ".join(names[:-1])
            yield f"{joined} and {names[-1]} take each other's webhooks: what proves them is the same secret or key"
