"""Requests made from openapi.yaml, at a whole gateway; `make contract-fuzz SECONDS=600` goes on for longer."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.described import fire

SECONDS = int(os.environ.get("SENDPOOL_TEST_DESCRIBED_S", "30"))


@pytest.mark.timeout(240 + SECONDS)
def test_what_is_answered_is_what_openapi_yaml_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(1, 1_000_000)
    result = fire(tmp_path, seconds=SECONDS, examples=15, seed=seed)
    with capsys.disabled():
        print(f"\nseed {seed}: {result.said.partition('Test cases:')[2].partition('Reports:')[0].strip()}")
    assert not result.wrong, "\n".join(result.wrong)
