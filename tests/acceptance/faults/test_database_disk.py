"""A full disk, and a disk that fails: rows 16 and 17 of the fault catalogue.

They need root, a tmpfs of their own, and strace; where the machine does not give them they are skipped, and say so.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time

import pytest

from tests.acceptance.faults.surroundings import AWAY_CODES, SmallDisk, can_mount, plan
from tests.acceptance.faults.timeline import Timeline, timeline, wait_for_accepted
from tests.acceptance.kill.harness import Run, strike_and_check
from tests.acceptance.kill.strikes import BACKENDS

DISK_MIB = 256
MARK_MIB = 64
FULL_S = 3.0
LOOK_S = 1.0  # the gateway looks at the space every second
TRACED_S_MAX = 20.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def _may_mount() -> None:
    if not can_mount():
        pytest.skip("NOT TESTED: a full disk. This machine does not let us mount a tmpfs (it takes root).")


@pytest.mark.usefixtures("_may_mount")
async def test_a_full_disk_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """First it is nearly full, and nothing more is accepted; then it is full to the last byte, at once."""
    disk, found = SmallDisk(DISK_MIB), list[Timeline]()

    async def nearly_fill(run: Run) -> None:
        await asyncio.sleep(1.0)
        disk.fill(leave_mib=MARK_MIB // 2)
        await asyncio.sleep(LOOK_S + 1.0)
        began_s = time.monotonic()
        await asyncio.sleep(1.0)
        found.append(timeline(run).begun(began_s, time.monotonic()))
        disk.free()
        await wait_for_accepted(run, time.monotonic(), within_s=LOOK_S + 3.0)

    async def fill(run: Run) -> None:
        await asyncio.sleep(LOOK_S)
        began_s = time.monotonic()
        disk.fill(leave_mib=0)
        await asyncio.sleep(FULL_S)
        found.append(timeline(run).begun(began_s, time.monotonic()))
        disk.free()
        await wait_for_accepted(run, time.monotonic())

    extra = {"SENDPOOL_LIMITS_DISK_FREE_MIB_MIN": str(MARK_MIB)}
    outcome = await strike_and_check(plan(16, disk, extra=extra), [nearly_fill, fill, fill])
    with capsys.disabled():
        print(f"\n{outcome.summary}\n{[dict(each.codes) for each in found]}")
    assert outcome.is_clean, str(outcome)
    assert "No space left on device" in outcome.database_log, "the disk was never full"
    nearly, *full = found
    assert set(nearly.codes) == {"503 overloaded"}, "what cannot be stored for long is not accepted"
    for each in (nearly, *full):
        assert not each.without_retry_after()
    for each in full:
        assert set(each.codes) <= AWAY_CODES | {"503 overloaded", "503 outcome_unknown"}


def can_trace() -> bool:
    """Whether strace is there and may attach to a process of another user."""
    if shutil.which("strace") is None:
        return False
    sleeper = subprocess.Popen(["sleep", "5"], start_new_session=True)
    try:
        tracer = subprocess.Popen(
            ["strace", "-e", "trace=none", "-p", str(sleeper.pid)], stderr=subprocess.PIPE, text=True
        )
        assert tracer.stderr is not None
        attached = "attached" in tracer.stderr.readline()
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=5)
        return attached
    finally:
        sleeper.kill()
        sleeper.wait()


async def test_a_disk_that_does_not_sync_makes_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """PostgreSQL panics and recovers from its log; whoever was not answered is looked up or told to come again."""
    if not can_trace():
        pytest.skip("NOT TESTED: a disk that fails. strace is not installed, or may not attach (it takes ptrace).")
    found: list[Timeline] = []

    async def fail(run: Run, errno: str) -> None:
        await asyncio.sleep(0.7)
        began_s = time.monotonic()
        connection = await run.wait_for_database()
        pids = [row["pid"] for row in await connection.fetch(BACKENDS)]
        connection.terminate()
        traced = trace(pids, errno)
        await asyncio.to_thread(traced.wait, TRACED_S_MAX)  # it ends with the last of them
        await (await run.wait_for_database()).close()
        await wait_for_accepted(run, time.monotonic())
        found.append(timeline(run).begun(began_s, time.monotonic()))

    async def break_disk(run: Run) -> None:
        await fail(run, "EIO")

    async def fill_disk(run: Run) -> None:
        await fail(run, "ENOSPC")

    strikes = [break_disk, fill_disk, break_disk]
    outcome = await strike_and_check(plan(17), strikes)
    with capsys.disabled():
        print(f"\n{outcome.summary}\n{[dict(each.codes) for each in found]}")
    assert outcome.is_clean, str(outcome)
    assert outcome.database_log.count("PANIC") >= len(strikes), f"no sync failed:\n{outcome.database_log[-2_000:]}"
    for each in found:
        assert not each.without_retry_after()


def trace(pids: list[int], errno: str) -> subprocess.Popen[bytes]:
    """Let every fsync and fdatasync of these processes fail from now on."""
    arguments = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]
    arguments += ["-e", f"inject=fsync,fdatasync:error={errno}"]
    for pid in pids:
        arguments += ["-p", str(pid)]
    return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
