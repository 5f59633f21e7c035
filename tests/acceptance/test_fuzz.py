"""A hundred thousand odd and hostile requests at a whole gateway; `make fuzz COUNT=1000000` fires more."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.run import fuzz

COUNT = int(os.environ.get("SENDPOOL_TEST_FUZZ", "100000"))


@pytest.mark.timeout(60 + COUNT // 500)
def test_nothing_that_is_sent_is_answered_with_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(1, 1_000_000)
    result = fuzz(tmp_path, count=COUNT, seed=seed, connections=24, failures=Path("build/fuzz"))
    with capsys.disabled():
        print(f"\n{result.said}")
    assert not result.wrong, result.said
    assert result.tally.shots >= COUNT
