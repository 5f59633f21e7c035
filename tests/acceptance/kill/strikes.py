"""What is done to a run: each strike waits for its moment, strikes, and leaves a gateway that runs or is starting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Final

from gateway.running import Exit
from tests.acceptance.kill.harness import Run
from tests.acceptance.kill.points import POINTS
from tests.acceptance.kill.processes import HarnessFailed, free_port, postmaster_pid

SHORT_LIFE: Final = 0.2  # share of lives that may end before the gateway is ready
FREEZE_MS: Final = (1_000, 7_000)
PAUSE_S: Final = 9.0
BACKENDS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'sendpool:%'"


async def kill_gateway(run: Run) -> None:
    """At any moment of a life, starting up included; the next one begins at once."""
    if run.random.random() >= SHORT_LIFE:
        await run.gateway.wait_until_ready()
    await run.moment()
    run.gateway.kill()
    run.gateway = run.start_gateway()


async def kill_at_point(run: Run) -> None:
    """A life that ends by itself at one of the points of points.py, then the next one."""
    point, count = run.random.choice(sorted(POINTS)), run.random.choice((1, 3, 10, 30, 80))
    run.gateway.kill()
    run.gateway = run.start_gateway(program=(sys.executable, "-m", "tests.acceptance.kill.points", f"{point}:{count}"))
    await run.gateway.wait_until_killed()
    run.gateway = run.start_gateway()


async def kill_postmaster(run: Run) -> None:
    """Its backends find out and end; the gateway starts the server anew."""
    await run.gateway.wait_until_ready()
    await (await run.wait_for_database()).close()
    await run.moment()
    pid = postmaster_pid(run.world.data)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


async def kill_backend(run: Run) -> None:
    """One of the gateway's sessions; PostgreSQL ends all others and recovers by itself."""
    await run.gateway.wait_until_ready()
    connection = await run.wait_for_database()
    await run.moment()
    try:
        pids = [row["pid"] for row in await connection.fetch(BACKENDS)]
        if pids:
            os.kill(run.random.choice(pids), signal.SIGKILL)
    finally:
        connection.terminate()


async def freeze_sessions(run: Run) -> None:
    """The gateway's sessions stand still for a while, as on a disk that hangs: commits whose outcome nobody knows."""
    await run.gateway.wait_until_ready()
    connection = await run.wait_for_database()
    await run.moment()
    frozen = [row["pid"] for row in await connection.fetch(BACKENDS)]
    connection.terminate()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        await run.moment(*FREEZE_MS)
    finally:
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def kill_both(run: Run) -> None:
    """Gateway and PostgreSQL at the same moment, as when a machine is switched off; the next gateway starts both."""
    await run.gateway.wait_until_ready()
    await (await run.wait_for_database()).close()
    await run.moment()
    pid = postmaster_pid(run.world.data)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    run.gateway.kill()
    run.gateway = run.start_gateway()


async def drain_gateway(run: Run) -> None:
    """SIGTERM; it ends by itself with 0, and the next one begins."""
    await run.gateway.wait_until_ready()
    await run.moment(1_000)
    code = await run.gateway.stop()
    if code != Exit.DRAINED:
        raise HarnessFailed(f"the drained gateway ended with {code}")
    run.gateway = run.start_gateway()


async def drain_in_vain(run: Run) -> None:
    """SIGTERM, and soon after a second signal that ends it at once: as safe as a kill at that moment."""
    await run.gateway.wait_until_ready()
    await run.moment(1_000)
    run.gateway.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(run.random.uniform(0, 0.3))
    run.gateway.process.send_signal(run.random.choice((signal.SIGTERM, signal.SIGKILL)))
    await run.gateway.wait_until_gone()
    run.gateway = run.start_gateway()


async def pause_gateway(run: Run) -> None:
    """The machine stands still for some seconds, as a paused virtual one does."""
    await run.gateway.wait_until_ready()
    await run.moment(1_000)
    run.gateway.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(run.random.uniform(PAUSE_S / 3, PAUSE_S))
    run.gateway.process.send_signal(signal.SIGCONT)
    await run.moment(1_000)


async def take_over(run: Run) -> None:
    """A second gateway beside the first, which ends and says why; then a third on the first one's port."""
    await run.gateway.wait_until_ready()
    await run.moment(1_000)
    for port in (free_port(), run.world.port):
        other = run.start_gateway(port=port)
        run.others.append(other)
        code = await run.gateway.wait_until_gone()
        if code != Exit.TAKEN_OVER:
            raise HarnessFailed(f"the gateway that was taken over ended with {code}")
        await other.wait_until_ready()
        run.gateway = other
        await run.moment(500, 1_000)
