"""The load tests, run as their commands against a gateway that runs already."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.acceptance.conftest import Gateway, environment

ROOT = Path(__file__).resolve().parents[2]
RUN_S_MAX = 60


def open_loop(running: Gateway, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    target = ("--target", str(running.data / "demo.json"), "--out", str(out))
    return subprocess.run(
        [sys.executable, "-m", "loadtests.open_loop", *target, *arguments],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=RUN_S_MAX, check=False,
    )  # fmt: skip


def result_of(said: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The figures, found as the last line says; there is a page beside them."""
    match = re.search(r"^Report: (\S+)/report\.html, (\S+/result\.json)$", said.stdout, re.MULTILINE)
    assert match is not None, said.stdout + said.stderr
    assert "<h2>Second by second</h2>" in Path(match[1], "report.html").read_text("utf-8")
    found: dict[str, Any] = orjson.loads(Path(match[2]).read_bytes())
    return found


@pytest.mark.parametrize(
    ("arguments", "requests"),
    [
        (("--rate", "100", "--seconds", "1.5", "--warm", "0.5"), 150),
        (("--mode", "hundred", "--rate", "10", "--seconds", "1", "--warm", "0", "--arrivals", "even"), 10),
    ],
)
def test_an_open_loop_run_ends_with_figures(
    running: Gateway, tmp_path: Path, arguments: tuple[str, ...], requests: int
) -> None:
    said = open_loop(running, tmp_path, *arguments)
    assert said.returncode == 0, said.stdout + said.stderr
    result = result_of(said)
    assert result["good"] == result["intended"] == requests
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"] <= result["latency_ms"]["max"]
    assert set(result["statuses"]) == {"202"}


def test_what_is_refused_makes_it_fail_and_is_named(running: Gateway, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.json"
    stranger.write_bytes(orjson.dumps({**running.demo, "auth_token": "wrong"}))
    said = open_loop(running, tmp_path, "--target", str(stranger), "--rate", "20", "--seconds", "0.5", "--warm", "0")
    assert said.returncode == 1
    result = result_of(said)
    assert result["faults"] == {"401 unauthenticated": 10}
    assert "401 unauthenticated: 10" in said.stdout
    assert result["good"] == 0


def test_nobody_there_is_said_in_a_line(running: Gateway, tmp_path: Path) -> None:
    said = open_loop(running, tmp_path, "--base-url", "http://127.0.0.1:9", "--rate", "1", "--seconds", "1")
    assert said.returncode == 2
    assert said.stderr.startswith("cannot run: ")


def test_reports_without_the_secret_say_what_is_missing(running: Gateway, tmp_path: Path) -> None:
    said = open_loop(running, tmp_path, "--mode", "reports", "--rate", "1", "--seconds", "1")
    assert said.returncode == 2
    assert "--secret" in said.stderr
