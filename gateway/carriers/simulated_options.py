"""How the simulated carrier may be set up: its part of sendpool.toml."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.fields import BadSetting, setting


@dataclass(frozen=True, slots=True)
class SimulatedOptions:
    """How the simulated carrier behaves, beyond `segments_per_s` and `places`."""

    seed: int = setting(1, "same seed, same behaviour")
    latency_ms_min: int = setting(20, "until the answer; the far end of a continent", least=0)
    latency_ms_max: int = setting(60, "until the answer", least=0)
    limit_per_s: int = setting(0, "messages in any second, then it throttles; 0: no limit", least=0)
    retry_after_ms: int = setting(1_000, "said when it throttles", least=0)
    throttle_per_mille: int = setting(0, "throttled by chance", least=0, most=1_000)
    reject_per_mille: int = setting(0, "refused for good, by chance", least=0, most=1_000)
    fail_per_mille: int = setting(0, "failed on (500), by chance", least=0, most=1_000)
    loss_per_mille: int = setting(0, "whose answer never comes, by chance", least=0, most=1_000)
    loss_taken_per_mille: int = setting(500, "of these, taken all the same", least=0, most=1_000)
    stalls_s: tuple[str, ...] = setting((), "when it stalls, in seconds after the start: 60-660")
    stall_silent: bool = setting(False, "while it stalls it takes and does not answer; else it cannot be reached")
    reports: bool = setting(True, "sends delivery reports")
    report_ms_min: int = setting(500, "from the answer to the report", least=0)
    report_ms_max: int = setting(3_000, "from the answer to the report", least=0)
    undelivered_per_mille: int = setting(50, "of the reports; numbers go out of service", least=0, most=1_000)
    report_twice_per_mille: int = setting(0, "of the reports, repeated", least=0, most=1_000)
    report_early_per_mille: int = setting(0, "of the reports, before the answer", least=0, most=1_000)
    secret: str = setting("", "of its webhooks, for reports by hand; empty: none are taken", secret=True)

    def __post_init__(self) -> None:
        for name in ("latency_ms", "report_ms"):
            if getattr(self, f"{name}_min") > getattr(self, f"{name}_max"):
                raise BadSetting(f"{name}_min is over {name}_max")
        for span in self.stalls_s:
            if not re.fullmatch(r"[0-9]{1,9}-[0-9]{1,9}", span):
                raise BadSetting(f"stalls_s: {span!r} is not of the form 60-660")
