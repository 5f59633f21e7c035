"""An open-loop load generator: so many requests a second, come what may, each timed from when it was meant to start.

    python -m loadtests.open_loop --rate 2000 --seconds 15
    python -m loadtests.open_loop --mode bulk --rate 20 --lines 1000
    python -m loadtests.open_loop --target data/demo.json --rate 100

Without --target it starts a gateway of its own, with the simulated carrier, and removes it afterwards. It ends with a
summary, and leaves report.html and result.json in the folder it names. Exit code 1: something was not answered well;
2: it could not run. docs/load-testing.md says how to read it.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import aiohttp
import orjson
import structlog
import uvloop

from benchmarks.gateway import cpu_seconds
from benchmarks.wire import request_bytes
from loadtests.figures import Answered, Figures, conclude
from loadtests.generator import Generator, Outlet
from loadtests.page import own_fault, render
from loadtests.schedule import NS_PER_S, Schedule, even_starts, random_starts
from loadtests.stock import NoStock, send_stock
from loadtests.target import Target, own_target, read_target
from loadtests.traffic import (
    JSON,
    NDJSON,
    bulk_body,
    find_fault,
    message_body,
    recipients,
    report,
    reports_body,
)

MODES: Mapping[str, int] = {"single": 1, "hundred": 100, "bulk": 1_000, "reports": 100}
"""How many messages or reports a request of each mode has, unless told otherwise."""
STARTS_MAX = 5_000_000
PREPARED_MESSAGES_MAX = 50_000  # made before the run, so that making them delays nothing; then they come again
STOCK_HANDED_PER_S = 5_000


async def make_requests(target: Target, options: argparse.Namespace, count: int) -> Iterator[bytes]:
    """Requests of the mode, at least `count`. Raises NoStock."""
    if options.mode == "reports":
        return iter(await _report_requests(target, options, count))
    to = recipients(random.Random(options.seed))
    made: list[bytes] = []
    for _ in range(min(count, max(20, PREPARED_MESSAGES_MAX // options.lines))):
        numbers = list(islice(to, options.lines))
        if options.mode == "bulk":
            path, body, media_type = target.bulk_path, bulk_body(numbers), NDJSON
        else:
            path, body, media_type = target.messages_path, message_body(target.powerpack_uuid, numbers), JSON
        made.append(request_bytes("POST", path, body=body, authorization=target.authorization, media_type=media_type))
    return cycle(made)


async def _report_requests(target: Target, options: argparse.Namespace, count: int) -> list[bytes]:
    """First each message is reported sent, then delivered, so every report is a fact of its own."""
    if not target.secret:
        raise NoStock("reports need the carrier's secret: --secret, as set by SENDPOOL_CARRIERS_…_SECRET")
    total = count * options.lines
    ids = await send_stock(target, -(-total // 2), seed=options.seed)
    reports = [report(each, status) for status in ("sent", "delivered") for each in ids]
    secret, media_type = (("X-Sendpool-Secret", target.secret),), NDJSON if options.ndjson else JSON
    return [
        request_bytes(
            "POST",
            target.reports_path,
            body=reports_body(reports[start : start + options.lines], as_lines=options.ndjson),
            media_type=media_type,
            headers=secret,
        )
        for start in range(0, total, options.lines)
    ]


async def measure(target: Target, options: argparse.Namespace, seen: dict[str, str]) -> Figures:
    """One run; what starts in the first `warm` seconds is sent and not counted. Raises OSError, NoStock."""
    seconds = options.warm + options.seconds
    if options.arrivals == "even":
        starts = list(even_starts(options.rate, seconds))
    else:
        starts = list(random_starts(options.rate, seconds, seed=options.seed))
    requests = await make_requests(target, options, len(starts))
    schedule, warm_ns = Schedule(starts), round(options.warm * NS_PER_S)
    generator = Generator(
        Outlet(target.host, target.port, target.base_url.startswith("https:")),
        schedule,
        partial(next, requests),
        partial(find_fault, options.mode),
        connections=options.connections,
        wait_s_max=options.wait,
    )
    async with watched(target, seen):
        await generator.run()
    counted = sum(intended_ns >= warm_ns for intended_ns in starts)
    return conclude(
        [Answered(each.intended_ns - warm_ns, each.latency_ns) for each in generator.answered if each[0] >= warm_ns],
        generator.faults,
        generator.statuses,
        mode=options.mode,
        messages_per_request=options.lines,
        rate_per_s=options.rate,
        seconds=options.seconds,
        late_ns=schedule.late_ns[len(schedule.late_ns) - counted :],
        queued=generator.queued,
        connections=options.connections,
    )


# --- What the gateway says of itself ----------------------------------------------------------------------------------


async def read_metrics(target: Target) -> dict[str, float]:
    """Its counters by name and labels; empty where they are not shown to us."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{target.base_url}/metrics") as answer:
            lines = (await answer.text()).splitlines() if answer.status == 200 else []
    except aiohttp.ClientError:
        return {}
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


@asynccontextmanager
async def watched(target: Target, seen: dict[str, str]) -> AsyncIterator[None]:
    """Fills `seen` with what the gateway used while the block ran."""
    before, began_s = await read_metrics(target), time.monotonic()
    cpu_s = cpu_seconds(target.process_id) if target.process_id else 0.0
    own_s = time.process_time()
    yield
    spent_s = time.monotonic() - began_s
    seen["generator's CPU"] = f"{(time.process_time() - own_s) / spent_s:.2f} of a core"
    if target.process_id:
        seen["gateway's CPU"] = f"{(cpu_seconds(target.process_id) - cpu_s) / spent_s:.2f} of a core"
    after = await read_metrics(target)
    if "process_resident_memory_bytes" in after:
        grown = after["process_resident_memory_bytes"] - before.get("process_resident_memory_bytes", 0)
        seen["gateway's memory"] = (
            f"{after['process_resident_memory_bytes'] / 2**20:,.0f} MiB ({grown / 2**20:+,.0f} MiB during the run)"
        )
    seen["handed over"] = f"{_growth(before, after, 'gateway_handovers_total') / spent_s:,.0f}/s"
    if "gateway_waiting_messages" in after:
        seen["waiting at the end"] = f"{after['gateway_waiting_messages']:,.0f} messages"
    errors = {
        name.partition('code="')[2].partition('"')[0]: count - before.get(name, 0)
        for name, count in after.items()
        if name.startswith("gateway_errors_total") and count > before.get(name, 0)
    }
    seen["its errors"] = ", ".join(f"{code}: {count:,.0f}" for code, count in errors.items()) or "none"


def _growth(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    return sum(value - before.get(key, 0) for key, value in after.items() if key.startswith(name))


# --- What is shown ----------------------------------------------------------------------------------------------------


def summarize(figures: Figures, seen: Mapping[str, str]) -> str:
    """For a terminal."""
    shown = "  ".join(f"{name} {ms:.1f}" for name, ms in figures.latency_ms.items())
    each = figures.messages_per_request
    faults = ", ".join(f"{what}: {count:,}" for what, count in figures.faults.items()) or "nothing"
    lines = [
        f"  good       {figures.good:,} of {figures.intended:,}: {figures.achieved_per_s:,.0f}/s of "
        f"{figures.intended_per_s:,.0f}/s" + (f", {figures.achieved_per_s * each:,.0f} messages/s" if each > 1 else ""),
        f"  latency    {shown} ms, from the intended start",
        f"  not good   {faults}",
        f"  generator  own lateness p50 {figures.own_lateness_ms['p50']:.1f} p99 {figures.own_lateness_ms['p99']:.1f} "
        f"max {figures.own_lateness_ms['max']:.1f} ms; {figures.late_share:.2%} of the starts over 5 ms late; "
        f"{figures.queued:,} found no free connection of {figures.connections}",
        *(f"  {name:<17} {value}" for name, value in seen.items()),
    ]
    if figures.is_own_fault:
        lines.append(f"  {own_fault(figures)}")
    return "\n".join(lines)


def write(figures: Figures, about: Mapping[str, str], folder: Path) -> None:
    """report.html and result.json."""
    folder.mkdir(parents=True, exist_ok=True)
    title = f"Open loop: {figures.mode}, {figures.intended_per_s:,.0f}/s"
    (folder / "report.html").write_text(render(figures, title=title, about=about), "utf-8")
    values = {**figures._asdict(), "slices": [each._asdict() for each in figures.slices], "about": dict(about)}
    (folder / "result.json").write_bytes(orjson.dumps(values, option=orjson.OPT_INDENT_2))


def machine() -> str:
    """What it ran on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return (
        f"{os.cpu_count()} cores {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []


# --- The command ------------------------------------------------------------------------------------------------------


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.open_loop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable[..., object] = parser.add_argument
    add("--mode", choices=MODES, default="single", help="what a request is")
    add("--rate", type=float, default=2_000, help="requests a second (default %(default)s)")
    add("--seconds", type=float, default=15, help="how long (default %(default)s)")
    add("--warm", type=float, default=2, help="seconds before, sent and not counted (default %(default)s)")
    add("--wait", type=float, default=10, help="seconds for what is unanswered at the end (default %(default)s)")
    add("--lines", type=int, help="messages or reports in each request (hundred: 100, bulk: 1000, reports: 100)")
    add("--ndjson", action="store_true", help="reports as NDJSON instead of an array")
    add("--connections", type=int, default=100, help="open connections (default %(default)s; a gateway allows 200)")
    add("--arrivals", choices=("even", "random"), default="even", help="random: as of many strangers (Poisson)")
    add("--seed", type=int, default=1, help="of recipients and random arrivals")
    add("--target", type=Path, help="a demo.json; without it a gateway is started for this run")
    add("--base-url", default="", help="another address than the target's")
    add("--carrier", default="", help="whose reports; the demo's is called simulated")
    add("--secret", default="", help="the carrier's")
    add("--numbers", type=int, default=10_000, help="of a gateway of its own (default %(default)s)")
    add("--handed-per-s", type=int, help="rate of its carrier (2000; reports: 5000)")
    add("--out", type=Path, default=Path("build/load"), help="where reports go (default %(default)s)")
    options = parser.parse_args(arguments)
    options.lines = options.lines or MODES[options.mode]
    options.handed_per_s = options.handed_per_s or (STOCK_HANDED_PER_S if options.mode == "reports" else 2_000)
    if options.mode == "single" and options.lines != 1:
        parser.error("--mode single has one message in each request; --mode hundred takes --lines")
    if min(options.rate, options.seconds, options.lines, options.connections) <= 0 or options.warm < 0:
        parser.error("rate, seconds, lines and connections are over 0")
    if options.rate * (options.seconds + options.warm) > STARTS_MAX:
        parser.error(f"more than {STARTS_MAX:,} requests in one run")
    return options


@asynccontextmanager
async def target_of(options: argparse.Namespace) -> AsyncIterator[Target]:
    if options.target is None:
        async with own_target(numbers=options.numbers, handed_per_s=options.handed_per_s) as target:
            yield target
    else:
        given = {"base_url": options.base_url, "carrier": options.carrier, "secret": options.secret}
        yield read_target(options.target, **given)


async def run(options: argparse.Namespace) -> int:
    """Everything; the exit code."""
    async with target_of(options) as target:
        each = f", {options.lines:,} in each" if options.lines > 1 else ""
        print(
            f"{options.mode}: {options.rate:,.0f}/s for {options.seconds:g} s{each}, {options.arrivals} arrivals, "
            f"to {target.base_url}",
            flush=True,
        )
        seen: dict[str, str] = {}
        figures = await measure(target, options, seen)
    folder = options.out / f"{options.mode}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    about = {"command": " ".join(sys.argv[1:]) or "(defaults)", "machine": machine(), **seen}
    write(figures, about, folder)
    print(summarize(figures, seen))
    print(f"Report: {folder}/report.html, {folder}/result.json")
    return 1 if figures.faults or not figures.good else 0


def main() -> None:
    options = parse()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        code = uvloop.run(run(options))
    except (OSError, ValueError, NoStock) as error:
        print(f"cannot run: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
