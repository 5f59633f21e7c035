"""A powerpack's pause, number by number: what waits stays where it is, and nobody waits behind it at the link."""

from __future__ import annotations

from resolver.model import Pause, PowerpackRow
from resolver.pool import Pool
from resolver.queues import Number


def change_powerpack(pool: Pool, row: PowerpackRow) -> bool:
    """Give a powerpack other settings, from the very next decision on. Whether what waits in it may leave again."""
    was_paused = is_paused(pool)
    pool.change(row)
    if is_paused(pool) is was_paused:
        return False
    for number in pool.numbers.values():
        set_paused(number, not was_paused)
    return was_paused


def is_paused(pool: Pool | None) -> bool:
    return pool is not None and pool.row.pause is not Pause.NONE


def set_paused(number: Number, paused: bool) -> None:
    """Let a number's messages of its powerpack stay, or leave again, from the very next release on. O(1) to pause."""
    if number.is_paused is paused:
        return
    if paused:
        number.link.booked_segments -= number.booked_segments
        number.is_paused = True
    else:
        number.resume()
        number.link.booked_segments += number.booked_segments
    number.link.place(number, 0)
