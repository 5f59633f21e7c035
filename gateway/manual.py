"""docs/settings.md, printed from the fields: `sendpool settings > docs/settings.md`. A test holds the two equal."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.carriers.kinds import OPTIONS, TABLES
from gateway.settings import SECTIONS, CarrierSettings, variable_of

HEAD: Final = """\
# Settings

Printed by `sendpool settings` from `gateway/settings.py`; do not edit.

Flags of `sendpool serve` win over variables, variables over the file, the file over the defaults. The file is
`sendpool.toml` where the gateway is started, or what `--config` or `SENDPOOL_CONFIG` names. A section is a table of it.
Units stand last in a name: `_ms` are milliseconds, `_bytes` bytes. `sendpool doctor` checks them all.
"""

CARRIERS: Final = """
## `[carriers.NAME]`

One table per carrier; numbers name their carrier by NAME. These keys are for every kind; then come those of the kind.
The variable of a key is `SENDPOOL_CARRIERS_NAME_KEY`, for secrets that are not to stand in a file.
"""


ERRORS: Final = """
### `[carriers.NAME.errors]`

The carrier's error codes, as texts, and what they mean: one of our [failures](carriers.md#what-failures-do), a number
of Plivo's, or `taken` for a code that is no error. They are looked up in answers and in reports."""


def settings_page() -> str:
    """Give the whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD.rstrip()
    for section, part in SECTIONS.items():
        yield f"\n## `[{section}]`\n\n{inspect.cleandoc(part.__doc__ or '')}\n"
        yield "| key | default | what and why | variable |\n|---|---|---|---|"
        yield from (f"{row} `{variable_of(section, name)}` |" for name, row in _rows(part))
    yield CARRIERS
    yield "| key | default | what and why |\n|---|---|---|"
    yield from (row for _, row in _rows(CarrierSettings))
    for kind, options in OPTIONS.items():
        yield f'\n### `kind = "{kind}"`\n\n{inspect.cleandoc(options.__doc__ or "")}\n'
        yield "| key | default | what and why |\n|---|---|---|"
        yield from (row for _, row in _rows(options))
        for name, table in TABLES.get(kind, {}).items():
            yield f"\n### `[carriers.NAME.{name}]`\n\n{inspect.cleandoc(table.__doc__ or '')}\n"
            yield "| key | default | what and why |\n|---|---|---|"
            yield from (row for _, row in _rows(table))
        if kind in TABLES:
            yield ERRORS


def _rows(part: type[Any]) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(part):
        if field.metadata:  # else it is no setting: a carrier's name, its options
            default = () if field.default is dataclasses.MISSING else field.default  # a table, empty
            yield field.name, f"| `{field.name}` | {_shown(default)} | {_explained(field.metadata)} |"


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ", ".join(f"`{each}`" for each in default) or "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int):
        return f"{default:,}" if default >= 10_000 else str(default)
    return f"`{default}`" if str(default) else "empty"


def _explained(facts: Mapping[str, Any]) -> str:
    least, most, one_of = facts["least"], facts["most"], facts["one_of"]
    bounds = ""
    if one_of:
        bounds = " One of " + ", ".join(f"`{each}`" for each in one_of) + "."
    elif least is not None and most is not None:
        bounds = f" {least:,} to {most:,}."
    elif least is not None and least > 0:
        bounds = f" At least {least:,}."
    return f"{facts['why']}.{bounds}{' Secret.' if facts['secret'] else ''}"
