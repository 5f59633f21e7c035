"""Runs Locust scenarios, headless and bounded, against a gateway of their own or one that is named.

    python -m loadtests.locusts single [--users 50] [--rate 500] [--seconds 30] [--target data/demo.json]
    python -m loadtests.locusts single bulk reports --seconds 10

Locust lives in an environment of its own (.venv-load), since it turns all I/O of a process into its own. It prints its
summary, and leaves report.html and its figures as CSV in the folder that is named at the end. Exit code 1: requests
failed; 2: it could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from loadtests.open_loop import target_of
from loadtests.target import Target, written

ROOT = Path(__file__).resolve().parents[1]
LOCUST = ROOT / ".venv-load" / "bin" / "locust"
STOP_S_MAX = 30


class Scenario(NamedTuple):
    """What it is called in scenarios.py, and what it does unless told otherwise."""

    user_class: str
    what: str
    users: int
    rate: float  # requests a second of all users
    lines: int  # messages or reports in each


SCENARIOS: Mapping[str, Scenario] = {
    "single": Scenario("SingleSends", "one message a request", 50, 300, 1),
    "bulk": Scenario("BulkSubmission", "NDJSON streams to Message/Bulk/", 8, 10, 1_000),
    "reports": Scenario("ReportStream", "delivery reports as arrays and NDJSON; inbound once it is built", 8, 20, 100),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.locusts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = "; ".join(f"{name}: {scenario.what}" for name, scenario in SCENARIOS.items())
    parser.add_argument("scenarios", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help=names)
    parser.add_argument("--users", type=int, help="clients at once, each waits for its answers")
    parser.add_argument("--rate", type=float, help="requests a second of all together")
    parser.add_argument("--seconds", type=int, default=30, help="how long (default %(default)s)")
    parser.add_argument("--lines", type=int, help="messages or reports in each request (bulk: 1000, reports: 100)")
    parser.add_argument("--target", type=Path, help="a demo.json; without it a gateway is started for this run")
    parser.add_argument("--base-url", default="", help="another address than the target's")
    parser.add_argument("--carrier", default="", help="whose reports; the demo's is called simulated")
    parser.add_argument("--secret", default="", help="the carrier's, for reports")
    parser.add_argument("--numbers", type=int, default=10_000, help="of a gateway of its own")
    parser.add_argument("--handed-per-s", type=int, default=2_000, help="rate of its carrier")
    parser.add_argument("--out", type=Path, default=Path("build/load"), help="where reports go (default %(default)s)")
    options = parser.parse_args(arguments)
    if min(each for each in (options.users, options.rate, options.seconds, options.lines) if each is not None) <= 0:
        parser.error("users, rate, seconds and lines are over 0")
    return options


async def run(options: argparse.Namespace) -> int:
    """Everything; the exit code."""
    if not LOCUST.exists():
        print("Locust is not installed: `make load` does it.", file=sys.stderr)
        return 2
    async with target_of(options) as target:
        if "reports" in options.scenarios and not target.secret:
            print("reports need the carrier's secret: --secret", file=sys.stderr)
            return 2
        scratch = Path(tempfile.mkdtemp(prefix="sp-load-"))
        try:
            with written(target, scratch / "target.json") as file:
                codes = [await _run_locust(name, options, target, file) for name in options.scenarios]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return 1 if any(codes) else 0


async def _run_locust(name: str, options: argparse.Namespace, target: Target, file: Path) -> int:
    """One scenario; Locust's exit code."""
    scenario = SCENARIOS[name]
    users, rate = options.users or scenario.users, options.rate or scenario.rate
    folder = options.out / f"locust-{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    print(f"{name}: {users} users, {rate:g} requests/s for {options.seconds} s, to {target.base_url}", flush=True)
    arguments = [
        "--headless", "--locustfile", str(ROOT / "loadtests" / "scenarios.py"), "--host", target.base_url,
        "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{options.seconds}s",
        "--stop-timeout", "10", "--only-summary", "--exit-code-on-error", "1", "--loglevel", "WARNING",
        "--html", str(folder / "report.html"), "--csv", str(folder / "figures"),
        scenario.user_class,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LOAD_TARGET": str(file),
        "LOAD_USERS": str(users),
        "LOAD_RATE": str(rate),
        "LOAD_LINES": str(options.lines or scenario.lines),
    }
    process = await asyncio.create_subprocess_exec(str(LOCUST), *arguments, env=environment)
    try:
        async with asyncio.timeout(options.seconds + 2 * STOP_S_MAX):
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    print(f"Report: {folder}/report.html", flush=True)
    return code


def main() -> None:
    options = parse()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        code = asyncio.run(run(options))
    except (OSError, ValueError) as error:
        print(f"cannot run: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
