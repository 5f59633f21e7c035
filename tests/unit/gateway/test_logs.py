"""Logs: one line of JSON per event, no secrets, never blocking, never failing."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog

from gateway.logs import Sink, configure_logs, hide_secrets, masked


@pytest.fixture(autouse=True)
def _put_logging_back() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = handlers, level


def lines_of(file: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+14155551234", "+1415***1234"),
        ("+4915112345678", "+4915***5678"),
        ("44444", "44***"),
        ("+1415", "+1***"),
        ("", "***"),
    ],
)
def test_a_masked_number_can_be_found_again_but_not_known(number: str, shown: str) -> None:
    assert masked(number) == shown


def test_an_event_is_one_line_of_json() -> None:
    file = io.StringIO()
    sink = configure_logs(file, level="info", console=False)
    structlog.get_logger("here").warning("the carrier\nis away", carrier="c", since_ms=12)
    sink.close()
    (line,) = lines_of(file)
    assert line["event"] == "the carrier\nis away"
    assert (line["level"], line["carrier"], line["since_ms"]) == ("warning", "c", 12)
    assert line["timestamp"].endswith("Z")


def test_events_below_the_level_are_not_written() -> None:
    file = io.StringIO()
    sink = configure_logs(file, level="warning", console=False)
    structlog.get_logger("here").info("not this")
    logging.getLogger("library").info("nor this")
    structlog.get_logger("here").error("this")
    sink.close()
    assert [line["event"] for line in lines_of(file)] == ["this"]


def test_secrets_and_recipients_do_not_pass_under_their_names() -> None:
    event = hide_secrets(None, "info", {"token": "t0ken", "text": "hello", "recipient": "+14155551234", "code": "420"})
    assert event == {"token": "(hidden)", "text": "(hidden)", "recipient": "+1415***1234", "code": "420"}


def test_an_exception_is_written_with_its_traceback_in_the_same_line() -> None:
    file = io.StringIO()
    sink = configure_logs(file, level="info", console=False)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("here").exception("it failed")
    sink.close()
    (line,) = lines_of(file)
    assert "ValueError: broken" in line["exception"]


def test_what_libraries_log_comes_in_the_same_form() -> None:
    file = io.StringIO()
    sink = configure_logs(file, level="info", console=False)
    logging.getLogger("aiohttp.server").error("boom %d", 7)
    sink.close()
    (line,) = lines_of(file)
    assert (line["library"], line["what"], line["level"]) == ("aiohttp.server", "boom 7", "error")


def test_a_value_json_does_not_know_is_written_all_the_same() -> None:
    file = io.StringIO()
    sink = configure_logs(file, level="info", console=False)
    structlog.get_logger("here").info("odd", value=range(3))
    sink.close()
    assert lines_of(file)[0]["value"] == "range(0, 3)"


def test_on_a_console_a_line_is_for_people() -> None:
    file = io.StringIO()
    sink = configure_logs(file, level="info", console=True)
    structlog.get_logger("here").info("listening", port=8080)
    sink.close()
    assert "listening" in file.getvalue()
    assert not file.getvalue().startswith("{")


class Stuck(io.StringIO):
    """A file whose reader sleeps until it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = threading.Event()

    def write(self, line: str) -> int:
        self.woken.wait(30)
        return super().write(line)


def test_a_reader_that_sleeps_holds_nobody_up_and_what_is_too_much_is_counted() -> None:
    file = Stuck()
    sink = Sink(file, lines_max=10)
    for number in range(100):
        sink.write(f"{number}\n")  # would wait 30 s if it waited
    assert sink.dropped >= 89  # ten in the queue, at most one with the thread
    file.woken.set()
    sink.close()
    assert file.getvalue().splitlines()[:5] == ["0", "1", "2", "3", "4"]
    assert len(file.getvalue().splitlines()) + sink.dropped == 100


class Full(io.StringIO):
    """A disk without room, until some is made."""

    is_full = True

    def write(self, line: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(line)


def test_a_full_disk_ends_nothing() -> None:
    file = Full()
    sink = Sink(file)
    sink.write("lost\n")
    while sink.dropped == 0:
        pass  # until the thread has met the full disk
    file.is_full = False
    sink.write("written\n")
    sink.close()
    assert file.getvalue() == "written\n"
    assert sink.dropped == 1
