"""Requests made from openapi.yaml, at a whole gateway; `make contract-fuzz SECONDS=600` goes on for longer."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.described import fire

SECONDS = int(os.environ.get("SENDPOOL_TEST_DESCRIBED_S", "45"))


@pytest.mark.timeout(300 + 2 * SECONDS)
def test_what_is_answered_is_what_openapi_yaml_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What one run happened not to reach another one has to."""
    missed: set[str] | None = None
    for name in ("once", "again"):
        seed = random.SystemRandom().randrange(1, 1_000_000)
        (tmp_path / name).mkdir()
        result = fire(tmp_path / name, seconds=SECONDS, examples=15, seed=seed)
        with capsys.disabled():
            print(f"\nseed {seed}: {result.said.partition('Test cases:')[2].partition('Reports:')[0].strip()}")
        assert not result.wrong, "\n".join(result.wrong)
        missed = result.missed if missed is None else missed & result.missed
        if not missed:
            return
    assert not missed, f"never answered well, so nothing is known of: {sorted(missed or ())}"
