"""Pressure: nothing more is accepted while memory, disk or the event loop is short, and no longer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.pressure import Pressure, Room, measure_room
from gateway.settings import MIB, LimitsSettings

PLENTY = Room(memory_percent=30.0, disk_free_bytes=50_000 * MIB, disk_free_percent=40.0)


def pressure(limits: LimitsSettings | None = None) -> Pressure:
    return Pressure(limits or LimitsSettings(), lambda: PLENTY, clock=SystemClock())


def test_with_plenty_of_room_there_is_none() -> None:
    watched = pressure()
    assert not watched.is_high()
    watched.see_room(PLENTY)
    watched.see_lag(5)
    assert not watched.is_high()


@pytest.mark.parametrize(
    ("room", "reason"),
    [
        (PLENTY._replace(memory_percent=80.0), ""),
        (PLENTY._replace(memory_percent=80.1), "memory"),
        (PLENTY._replace(disk_free_bytes=2_048 * MIB), ""),
        (PLENTY._replace(disk_free_bytes=2_048 * MIB - 1), "disk"),
        (PLENTY._replace(disk_free_percent=4.9), "disk"),
    ],
)
def test_too_little_room_is_pressure(room: Room, reason: str) -> None:
    watched = pressure()
    watched.see_room(room)
    assert watched.reason == reason
    assert watched.is_high() == bool(reason)


def test_a_loop_that_comes_late_is_pressure_until_it_keeps_up() -> None:
    watched = pressure()
    watched.see_lag(500)
    assert not watched.is_high()
    watched.see_lag(501)
    assert watched.reason == "event loop"
    watched.see_lag(3)
    assert not watched.is_high()


def test_memory_must_fall_below_its_mark_by_some_before_more_is_accepted() -> None:
    watched = pressure()
    watched.see_room(PLENTY._replace(memory_percent=81.0))
    watched.see_room(PLENTY._replace(memory_percent=78.0))
    assert watched.reason == "memory"
    watched.see_room(PLENTY._replace(memory_percent=74.9))
    assert not watched.is_high()
    watched.see_room(PLENTY._replace(memory_percent=78.0))
    assert not watched.is_high()


def test_a_loop_that_keeps_up_does_not_hide_a_full_disk() -> None:
    watched = pressure()
    watched.see_room(PLENTY._replace(disk_free_bytes=0))
    watched.see_lag(0)
    assert watched.reason == "disk"


def test_a_mark_of_nothing_goes_on_to_the_last_byte() -> None:
    watched = pressure(LimitsSettings(disk_free_mib_min=0))
    watched.see_room(PLENTY._replace(disk_free_bytes=0, disk_free_percent=0.0))
    assert not watched.is_high()


def test_it_is_said_once_when_it_begins_and_once_when_it_ends() -> None:
    watched = pressure()
    with capture_logs() as logs:
        for _ in range(3):
            watched.see_room(PLENTY._replace(memory_percent=99.0))
        for _ in range(3):
            watched.see_room(PLENTY)
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "nothing more is accepted"),
        ("info", "accepting again"),
    ]


async def test_watching_measures_room_and_lag() -> None:
    late_ns = 0

    async def sleep_late(s: float) -> None:
        """Every sleep takes a second longer than asked."""
        nonlocal late_ns
        late_ns += round((s + 1) * 1_000_000_000)
        await asyncio.sleep(0)

    clock = SystemClock(elapsed_ns=lambda: time.monotonic_ns() + late_ns, sleep=sleep_late)
    watched = Pressure(LimitsSettings(), lambda: PLENTY, clock=clock)
    watching = asyncio.create_task(watched.watch())
    with capture_logs():
        while not watched.is_high():
            await asyncio.sleep(0)
    assert watched.reason == "event loop"
    assert watched.room == PLENTY
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def test_this_process_and_this_disk_can_be_measured(tmp_path: Path) -> None:
    room = measure_room(tmp_path)
    assert 0 < room.memory_percent < 100
    assert room.disk_free_bytes > 0
    assert 0 < room.disk_free_percent <= 100
