"""A pytest plugin: with `python -m pytest -p tests.compiled` tests meet the compiled modules, where there are any."""

from __future__ import annotations

from gateway.compiled import program, use_compiled

use_compiled()


def pytest_report_header() -> str:
    return f"program: {program()}"
