"""One run: everything started, load on, struck again and again, load off, settled, stopped, read, checked.

All chance comes from one seed: the strikes' instants, the load, the witness's moods. What the machine makes of it is
not repeated: a seed repeats the pressure, not the schedule.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import asyncpg
import msgspec

from storage.embedded import embedded_server
from tests.acceptance.kill.checker import Case, Law, Violation, check
from tests.acceptance.kill.evidence import Evidence, Shown, read_database, read_hookbox, read_ledger, read_witness
from tests.acceptance.kill.hookbox import Hookbox
from tests.acceptance.kill.ledger import Ledger, Manner
from tests.acceptance.kill.processes import (
    SERVE,
    Gateway,
    HarnessFailed,
    WitnessProcess,
    database_url,
    free_port,
    janitor,
    stop_database,
    witness_process,
)
from tests.acceptance.kill.wire import listening
from tests.acceptance.kill.witness import CALM, TROUBLED, Behaviour
from tests.acceptance.kill.world import SECRET, World, make_world

MOMENT_MS: Final = (50, 3_000)
DATABASE_S_MAX: Final = 60.0
SETTLE_POLL_S: Final = 0.25
LOOKED_AT: Final = 100
SHOWN_MOST: Final = 25

OPEN_MESSAGES = """
    SELECT (SELECT count(*) FROM messages) - (SELECT count(*) FROM outcomes)
        + (SELECT count(*) FROM callbacks WHERE state = 'owed')
"""


class Surroundings:
    """What a run stands on: here a plain folder, and the PostgreSQL that the gateway brings."""

    @contextmanager
    def ground(self, folder: Path) -> Iterator[None]:
        """Before anything is made in `folder`, until nothing of the run is left."""
        yield

    @asynccontextmanager
    async def around(self, world: World) -> AsyncIterator[Mapping[str, str]]:
        """Once the world is made, until its gateways have ended; gives them more of an environment."""
        yield {}


class Plan(NamedTuple):
    """What is to be done in a run."""

    seed: int
    program: Sequence[str] = SERVE
    manner: Manner = Manner()
    behaviour: Behaviour = TROUBLED
    settle_s_max: float = 90.0
    extra: Mapping[str, str] = {}  # environment of the gateway
    surroundings: Surroundings = Surroundings()


class Outcome(NamedTuple):
    """What came of it."""

    seed: int
    violations: list[Violation]
    exit_code: int
    unexpected: list[str]  # answers no client should get
    unknown: int  # outcomes that nobody knows
    summary: str
    log_tail: str
    database_log: str

    @property
    def is_clean(self) -> bool:
        return not self.violations and not self.unexpected and self.exit_code == 0

    @property
    def counts(self) -> str:
        """How many violations of each law."""
        return ", ".join(f"{count} × {law}" for law, count in Counter(each.law for each in self.violations).items())

    @property
    def broken(self) -> set[Law]:
        return {violation.law for violation in self.violations}

    def __str__(self) -> str:
        shown = "\n".join(str(each) for each in self.violations[:SHOWN_MOST])
        said = f"exit code {self.exit_code}, unexpected answers: {self.unexpected[:SHOWN_MOST]}"
        return f"{self.summary}\n{said}, violations: {self.counts}\n{shown}\n--- log\n{self.log_tail}"


class Run:
    """A run in progress, for those who strike."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        world: World,
        witness: WitnessProcess,
        ledger: Ledger,
        environment: Mapping[str, str],
    ) -> None:
        self.plan, self.folder, self.world, self.witness, self.ledger = plan, folder, world, witness, ledger
        self._environment = {**plan.extra, **environment}
        self.random = random.Random(plan.seed)
        self.lives = 0
        self.strikes: Counter[str] = Counter()
        self.others: list[Gateway] = []
        self.gateway = self.start_gateway()

    def end(self) -> None:
        for gateway in (self.gateway, *self.others):
            gateway.end()

    def start_gateway(self, *, port: int | None = None, program: Sequence[str] | None = None) -> Gateway:
        self.lives += 1
        world = self.world
        arguments = ["--config", str(world.config), "--data", str(world.data), "--port", str(port or world.port)]
        return Gateway(
            self.folder,
            arguments,
            base_url=f"http://127.0.0.1:{port or world.port}",
            program=program or self.plan.program,
            extra={**self._environment, "SENDPOOL_TEST_LIFE": str(self.lives)},
        )

    async def moment(self, least_ms: int = MOMENT_MS[0], most_ms: int = MOMENT_MS[1]) -> None:
        await asyncio.sleep(self.random.uniform(least_ms, most_ms) / 1_000)

    async def wait_for_database(self) -> asyncpg.Connection:
        """A connection of our own, as soon as there is one to be had; the caller closes it."""
        async with asyncio.timeout(DATABASE_S_MAX):
            while True:
                try:
                    return await asyncpg.connect(database_url(self.world.data))
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.05)


Strike = Callable[[Run], Awaitable[None]]


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Run]:
    """Everything but the check; nothing of it is left when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="sp-kill-", dir="/tmp"))
    async with AsyncExitStack() as stack:
        stack.enter_context(janitor(folder))
        if not os.environ.get("SENDPOOL_TEST_KEEP"):
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(plan.surroundings.ground(folder))
        hookbox = Hookbox(folder / "hookbox.txt")
        stack.callback(hookbox.close)
        hookbox_port = await stack.enter_async_context(listening(hookbox.handle))
        port = free_port()
        reports_url = f"http://127.0.0.1:{port}/carriers/witness/reports"
        witness = await stack.enter_async_context(
            witness_process(folder, reports_url=reports_url, secret=SECRET, seed=plan.seed)
        )
        stack.callback(stop_database, folder / "data")
        world = await make_world(folder, port=port, witness_port=witness.port, hookbox_port=hookbox_port)
        environment = await stack.enter_async_context(plan.surroundings.around(world))
        ledger = Ledger(folder / "ledger.txt", world.account, plan.manner, seed=plan.seed)
        run = Run(plan, folder, world, witness, ledger, environment)
        stack.callback(run.end)
        yield run


async def settle(run: Run) -> bool:
    """Until every message has ended, all is reported and told; False when that takes too long."""
    until_s = time.monotonic() + run.plan.settle_s_max
    connection: asyncpg.Connection | None = None
    try:
        while time.monotonic() < until_s:
            try:
                if connection is None:
                    connection = await run.wait_for_database()
                is_open = await connection.fetchval(OPEN_MESSAGES)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = None
                continue
            if not is_open and not (await run.witness.status())["reports_due"]:
                return True
            await asyncio.sleep(SETTLE_POLL_S)
        return False
    finally:
        if connection is not None:
            connection.terminate()


async def look_at_some(run: Run) -> list[Shown]:
    """A sample of what was promised, as the API shows it."""
    asked = read_ledger(run.folder / "ledger.txt")
    promised = sorted({each.message_id for one in asked for promises in one.promises for each in promises})
    return await run.ledger.look_at(run.random.sample(promised, min(LOOKED_AT, len(promised))))


async def collect(run: Run) -> Evidence:
    """All that is left of a run whose gateway has ended."""
    world, folder = run.world, run.folder
    evidence = Evidence(
        asked=read_ledger(folder / "ledger.txt"),
        arrivals=read_witness(run.witness.file),
        told=read_hookbox(folder / "hookbox.txt"),
        limits=world.limits,
        links=world.links,
        sticky=world.sticky,
    )
    async with embedded_server(world.data) as server:
        return await read_database(server.url, evidence)


async def strike_and_check(plan: Plan, strikes: Sequence[Strike]) -> Outcome:
    """The whole of it. Raises HarnessFailed, with the seed, when the run itself goes wrong."""
    async with running(plan) as run:
        try:
            return await _strike_and_check(run, strikes)
        except (HarnessFailed, TimeoutError, ExceptionGroup, aiohttp.ClientError) as error:
            raise HarnessFailed(f"seed {plan.seed}: {error!r}\n{run.gateway.log_tail()}") from error


async def _strike_and_check(run: Run, strikes: Sequence[Strike]) -> Outcome:
    await run.witness.behave(msgspec.json.encode(run.plan.behaviour))
    await run.gateway.wait_until_ready()
    async with load_on(run):
        for strike in strikes:
            await strike(run)
            run.strikes[strike.__name__] += 1
        await run.gateway.wait_until_ready()
    await run.witness.behave(msgspec.json.encode(CALM))
    began_s = time.monotonic()
    settled = await settle(run)
    took_s = time.monotonic() - began_s
    late_ms = (await run.witness.status())["loop_late_ms"]
    shown = await look_at_some(run)
    code = await run.gateway.stop()
    evidence = (await collect(run))._replace(shown=shown)
    words = f"{'' if settled else 'not '}settled within {took_s:.0f} s, witness's loop at most {late_ms} ms late"
    return Outcome(
        run.plan.seed,
        check(evidence),
        code,
        run.ledger.unexpected,
        sum(fact.kind == "unknown" for fact in evidence.facts),
        summarize(run, evidence, words),
        run.gateway.log_tail(),
        (run.world.data / "postgres.log").read_text("utf-8", "replace"),
    )


@asynccontextmanager
async def load_on(run: Run) -> AsyncIterator[None]:
    """Load, as long as the block runs; then what must be known is asked for until it is."""
    load = asyncio.create_task(run.ledger.run(), name="the load")
    try:
        yield
        run.ledger.stop()
        await load
    finally:
        load.cancel()
        await asyncio.wait([load])


def summarize(run: Run, evidence: Evidence, more: str) -> str:
    """What happened, so that a run that proves nothing is seen to."""
    case = Case(evidence)
    copies = sum(len(arrivals) > 1 for arrivals in case.taken.values())
    unknown = Counter(fact.kind for fact in evidence.facts)["unknown"]
    fates = dict(Counter(arrival.fate for arrival in evidence.arrivals))
    ends = dict(Counter(outcome.state for outcome in evidence.outcomes))
    return "\n".join(
        (
            f"seed {run.plan.seed}: {dict(run.strikes)}, {run.lives} lives; {more}",
            f"{run.ledger.promised} ids promised; tries: {dict(run.ledger.ends)}",
            f"{len(evidence.messages)} messages stored: {ends}; fates: {fates}",
            f"{len(evidence.claims)} claims, {unknown} unknown outcomes, {copies} messages taken twice or more",
            f"{len(case.jitter.delays_ms)} arrivals with a stamp, up to {case.jitter.measured_ms:.1f} ms later",
            f"{len(evidence.told)} callbacks heard",
        )
    )
