"""How a process runs and ends: the first signal asks, the second ends; tasks that end are told; nothing hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from structlog.testing import capture_logs

from gateway.running import STOP_SIGNALS, Exit, Stopping, Tasks, Watchdog, stopped_after


async def test_the_first_wish_asks_and_the_second_ends_at_once() -> None:
    ended: list[str] = []
    stopping = Stopping(end=ended.append)
    with capture_logs():
        stopping.ask("SIGTERM")
    assert stopping.asked.result() == "SIGTERM"
    assert ended == []
    stopping.ask("SIGINT")
    assert ended == ["SIGINT again, ended at once"]


@pytest.mark.parametrize("number", STOP_SIGNALS)
async def test_every_wish_to_stop_is_heard(number: signal.Signals) -> None:
    stopping = Stopping(end=lambda _: None)
    before = signal.signal(number, signal.SIG_DFL)  # who starts the tests in the background lets them ignore SIGINT
    stopping.hear_signals()
    try:
        with capture_logs():
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                assert await stopping.asked == number.name
    finally:
        for each in STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)
        signal.signal(number, before)


async def test_a_signal_that_is_to_be_ignored_stays_so() -> None:
    stopping = Stopping(end=lambda _: None)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stopping.hear_signals()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        assert not stopping.asked.done()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
        for each in STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)


def test_a_watchdog_bites_when_it_is_not_stopped_in_time() -> None:
    bitten = threading.Event()
    watchdog = Watchdog(end=lambda _: bitten.set())
    watchdog.start(1)
    assert bitten.wait(5)


def test_a_watchdog_that_was_stopped_does_not_bite() -> None:
    bitten = threading.Event()
    watchdog = Watchdog(end=lambda _: bitten.set())
    watchdog.start(60_000)
    watchdog.stop()
    assert all(thread.name != "watchdog" or not thread.is_alive() for thread in threading.enumerate())
    assert not bitten.is_set()


def test_only_the_first_start_of_a_watchdog_counts() -> None:
    bitten = threading.Event()
    watchdog = Watchdog(end=lambda _: bitten.set())
    watchdog.start(1)
    watchdog.start(60_000)
    assert bitten.wait(5)


async def test_a_task_that_fails_is_told() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    tasks = Tasks()
    async with tasks.running("lane", fail()):
        error = await asyncio.wait_for(tasks.ended, 5)
    assert isinstance(error, ValueError)


async def test_a_task_that_just_ends_is_a_failure_too() -> None:
    async def end() -> None:
        return

    tasks = Tasks()
    async with tasks.running("lane", end()):
        error = await asyncio.wait_for(tasks.ended, 5)
    assert str(error) == "lane has ended by itself"


async def test_only_the_first_that_ends_is_told() -> None:
    async def fail(text: str) -> None:
        raise ValueError(text)

    tasks = Tasks()
    async with tasks.running("one", fail("one")), tasks.running("two", fail("two")):
        assert str(await asyncio.wait_for(tasks.ended, 5)) == "one"
        await asyncio.sleep(0)


async def test_when_its_block_ends_a_task_is_cancelled_and_that_is_no_failure() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            cancelled.set()

    tasks = Tasks()
    async with tasks.running("lane", work()):
        await asyncio.sleep(0)
    assert cancelled.is_set()
    assert not tasks.ended.done()


async def test_draining_lets_a_task_end_by_itself() -> None:
    stop = asyncio.Event()
    finished: list[str] = []

    async def work() -> None:
        await stop.wait()
        finished.append("work")

    async def drain() -> None:
        stop.set()
        await asyncio.sleep(0)

    tasks = Tasks()
    async with tasks.running("lane", work(), drain=drain):
        await asyncio.sleep(0)
    assert finished == ["work"]
    assert not tasks.ended.done()


async def test_a_task_that_has_failed_is_not_drained() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async def drain() -> None:
        raise AssertionError("drained")

    tasks = Tasks()
    async with tasks.running("lane", fail(), drain=drain):
        await asyncio.wait_for(tasks.ended, 5)


async def test_a_part_that_does_not_stop_holds_up_nobody() -> None:
    stopped: list[str] = []

    async def quick() -> None:
        stopped.append("quick")

    async def hang() -> None:
        await asyncio.sleep(3_600)

    with capture_logs() as logs:
        async with stopped_after("quick", quick, ms_max=1_000), stopped_after("stuck", hang, ms_max=1):
            pass
    assert stopped == ["quick"]
    assert [(line["event"], line["part"]) for line in logs] == [("a part did not stop in time", "stuck")]


async def test_a_part_is_stopped_also_when_the_work_fails() -> None:
    stopped: list[str] = []

    async def stop() -> None:
        stopped.append("part")

    with pytest.raises(ValueError, match="broken"):
        async with stopped_after("part", stop, ms_max=1_000):
            raise ValueError("broken")
    assert stopped == ["part"]


def test_exit_codes_are_those_of_the_documentation() -> None:
    assert {each.name: each.value for each in Exit} == {
        "DRAINED": 0,
        "FAILED": 1,
        "BAD_SETTING": 2,
        "TAKEN_OVER": 3,
        "CUT_SHORT": 4,
    }
