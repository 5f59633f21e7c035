"""What the gateway says while it runs: one line per event on standard error, JSON unless a person is looking.

A line is a fixed phrase with facts as keywords. Never in it, at no level: message texts, tokens, whole recipient
numbers. Whoever logs masks; a last belt here hides what slipped through under a telling name.

Writing never blocks and never fails: lines go through a bounded queue to a thread of its own, and are dropped and
counted when nobody reads them or the disk is full.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO, cast

import orjson
import structlog

LINES_MAX: Final = 10_000  # waiting for the thread; half a second of a disk at its worst
FLUSH_S_MAX: Final = 2.0

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
HIDDEN: Final = frozenset({"auth_token", "authorization", "body", "params", "password", "secret", "text", "token"})
MASKED: Final = frozenset({"recipient", "to", "dst"})

Event = MutableMapping[str, Any]


def masked(number: str) -> str:
    """Show enough of a recipient's number to find it again, and too little to know it: `+1415***1234`."""
    return f"{number[:5]}***{number[-4:]}" if len(number) >= 11 else f"{number[:2]}***"


class Sink:
    """A text file that takes lines without waiting; a thread writes them."""

    def __init__(self, file: TextIO, *, lines_max: int = LINES_MAX) -> None:
        self._file = file
        self._lines: queue.Queue[str | None] = queue.Queue(lines_max)
        self.dropped = 0  # lines lost, for the metrics
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()

    def write(self, line: str) -> int:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1
        return len(line)

    def flush(self) -> None:
        """Nothing: the thread flushes after what it found in the queue."""

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        try:
            self._lines.put(None, timeout=FLUSH_S_MAX)
        except queue.Full:
            return
        self._thread.join(FLUSH_S_MAX)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._file.write(line)
                if self._lines.empty():
                    self._file.flush()
            except (OSError, ValueError):  # disk full, reader gone, file closed
                self.dropped += 1


def hold_standard_files() -> None:
    """Open what whoever started us has closed of standard input, output and error, to nowhere.

    Else the next socket would get that number, and whatever is said to people would be said to whom it leads.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the end
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def configure_logs(file: TextIO, *, level: str, console: bool) -> Sink:
    """Send this process's log, that of the libraries included, to `file`; give the sink, to be closed at the end."""
    sink = Sink(file)
    renderer = structlog.dev.ConsoleRenderer(colors=True) if console else structlog.processors.JSONRenderer(_json)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
            if console
            else structlog.processors.TimeStamper(fmt="iso", utc=True),
            hide_secrets,
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", sink)),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Relay()], level=max(LEVELS[level], logging.INFO), force=True)
    return sink


def hide_secrets(_logger: object, _method: str, event: Event) -> Event:
    """Replace what must not be written, by its name: the belt beneath everybody's own care."""
    for key in event.keys() & HIDDEN:
        event[key] = "(hidden)"
    for key in event.keys() & MASKED:
        event[key] = masked(str(event[key]))
    return event


def _json(event: Event, **_: object) -> str:
    return orjson.dumps(event, default=repr).decode()


class _Relay(logging.Handler):
    """Passes on what libraries log, so that there is one stream of one form."""

    def emit(self, record: logging.LogRecord) -> None:
        say: Callable[..., object] = structlog.get_logger(record.name).log
        say(record.levelno, "a library says", library=record.name, what=record.getMessage(), exc_info=record.exc_info)
