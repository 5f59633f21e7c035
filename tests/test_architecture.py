"""The architecture, as one list that is also the order to read the code in.

A module may import only modules above it. Whoever adds, renames or splits a module edits READING_ORDER and nothing
else here. Below the list stand the other walls: what the resolver may touch, sizes, names, who reads the environment.
Each check gives the violations it found; the table at the end plants one for every rule, so a check that has gone
blind fails too.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

READING_ORDER: tuple[str, ...] = tuple(
    """
    resolver.model
    resolver.limits
    resolver.area_codes
    resolver.geography
    resolver.composition
    resolver.sizing
    resolver.segments
    resolver.compliance
    resolver.windows
    resolver.links
    resolver.queues
    resolver.sticky
    resolver.preference
    resolver.groups
    resolver.pool
    resolver.pausing
    resolver.choosing
    resolver.alone
    resolver.trace
    resolver.expiries
    resolver.registry
    resolver.orphans
    resolver.standings
    resolver.memory
    resolver.rebinding
    resolver.core
    resolver.simulation

    storage.records
    storage.queries
    storage.programs
    storage.cluster
    storage.embedded
    storage.migrations
    storage.partitions
    storage.database
    storage.sealing
    storage.changes
    storage.catalog_rows
    storage.catalog_edits
    storage.catalog_accounts
    storage.catalog_applications
    storage.catalog_powerpacks
    storage.catalog_numbers
    storage.catalog_inventory
    storage.catalog_operators
    storage.catalog_carriers
    storage.catalog
    storage.backlog
    storage.feed
    storage.transaction
    storage.writer
    storage.journal
    storage.threads
    storage.history
    storage.messages
    storage.bulks
    storage.outbox
    storage.recovery

    gateway.compiled
    gateway.fields
    gateway.settings
    gateway.clock
    gateway.metrics
    gateway.logs
    gateway.signatures
    gateway.carriers.carrier
    gateway.carriers.placeholders
    gateway.carriers.paths
    gateway.carriers.presets
    gateway.carriers.template
    gateway.carriers.submits
    gateway.carriers.answers
    gateway.carriers.readings
    gateway.carriers.checks
    gateway.carriers.webhooks
    gateway.carriers.simulated_options
    gateway.carriers.simulated
    gateway.carriers.connection
    gateway.carriers.http
    gateway.carriers.kinds
    gateway.manual
    gateway.awaiting
    gateway.facts
    gateway.deposits
    gateway.pace
    gateway.attempts
    gateway.departures
    gateway.hands
    gateway.claims
    gateway.lanes
    gateway.upkeep
    gateway.guard
    gateway.endpoints
    gateway.tries
    gateway.callbacks
    gateway.stores
    gateway.demo
    gateway.administering
    gateway.csv_lines
    gateway.number_files
    gateway.operators
    gateway.operator_lookup
    gateway.cancelling
    gateway.carrier_orders
    gateway.edits
    gateway.endings
    gateway.shelves
    gateway.listings
    gateway.pools
    gateway.applications
    gateway.numbers
    gateway.threads
    gateway.accounts
    gateway.submissions
    gateway.rows
    gateway.outbound
    gateway.bulks
    gateway.kept_answers
    gateway.inbound
    gateway.pressure
    gateway.api.errors
    gateway.api.times
    gateway.api.bodies
    gateway.api.forms
    gateway.api.pages
    gateway.api.call
    gateway.api.streams
    gateway.api.arguments
    gateway.api.lines
    gateway.api.router
    gateway.api.credentials
    gateway.api.guesses
    gateway.api.crowd
    gateway.api.framing
    gateway.api.connections
    gateway.api.intake
    gateway.api.middleware
    gateway.api.shapes_message
    gateway.api.shapes_accepted
    gateway.api.shapes_powerpack
    gateway.api.shapes_application
    gateway.api.shapes_number
    gateway.api.shapes_inventory
    gateway.api.idempotency
    gateway.api.requests
    gateway.api.sending
    gateway.api.shapes_stored
    gateway.api.shapes_bulk
    gateway.api.bulk_run
    gateway.api.bulk
    gateway.api.messages
    gateway.api.powerpacks
    gateway.api.applications
    gateway.api.numberpool
    gateway.api.windows
    gateway.api.numbers
    gateway.api.phone_numbers
    gateway.api.places
    gateway.api.composition
    gateway.api.shapes_advice
    gateway.api.recommend
    gateway.api.simulate
    gateway.api.resolve
    gateway.api.replays
    gateway.api.report_stream
    gateway.api.sticky
    gateway.api.reports
    gateway.api.account
    gateway.api.subaccounts
    gateway.api.administration
    gateway.api.around
    gateway.api.document
    gateway.api.routes
    gateway.door
    gateway.running
    gateway.dials
    gateway.sweeping
    gateway.assembly
    gateway.app
    gateway.doctor
    gateway.rehearsals
    gateway.commands
    gateway.commands_accounts
    gateway.commands_files
    gateway.commands_numbers
    gateway.commands_operators
    gateway.cli
    gateway.__main__
    """.split()
)

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("resolver", "storage", "gateway")
OUTSIDE = ("tests", "benchmarks", "examples", "loadtests")

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
NAMES_WITHOUT_A_NOUN = frozenset({"base", "common", "helper", "helpers", "misc", "util", "utils"})

# The resolver is called between two awaits and must give the same answer in a simulation: no clock, no chance, no I/O.
# An allow list, so that what is not thought of is refused too.
RESOLVER_MAY_IMPORT = frozenset(
    "__future__ abc array bisect collections dataclasses enum fractions functools hashlib heapq itertools math "
    "operator re struct types typing phonenumbers".split()
)
RESOLVER_MAY_NOT_CALL = frozenset({"__import__", "breakpoint", "eval", "exec", "input", "open", "print"})

READS_THE_ENVIRONMENT = "gateway.settings"
ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"})

SENDS_SQL = frozenset({"cursor", "execute", "executemany", "fetch", "fetchrow", "fetchval", "prepare"})
IS_SQL = re.compile(
    r"\s*(ALTER|BEGIN|COPY|CREATE|DELETE|DROP|GRANT|INSERT|SELECT|SET|TRUNCATE|UPDATE|WITH)\s+([A-Za-z(*$]|$)"
).match

Trees = Mapping[str, ast.Module]


# --- The checks: each gives its violations as sentences ---------------------------------------------------------------


def imports(tree: ast.Module, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and full name of each imported module, wherever it stands: in a function, under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield node.lineno, inner if inner in known else module


def order_violations(trees: Trees, order: tuple[str, ...]) -> Iterator[str]:
    position = {name: index for index, name in enumerate(order)}
    known = frozenset(order) | frozenset(trees)
    for name, tree in trees.items():
        for line, target in imports(tree, known):
            top = target.partition(".")[0]
            if top in OUTSIDE:
                yield f"{name}:{line} imports {target}, which is not shipped"
            elif top in PACKAGES and target not in position:
                yield f"{name}:{line} imports {target}, which is not a module of the reading order"
            elif top in PACKAGES and position[target] >= position.get(name, len(order)):
                yield f"{name}:{line} imports {target}, which does not stand above it"


def cycle_violations(trees: Trees) -> Iterator[str]:
    known = frozenset(trees)
    graph = {name: {target for _, target in imports(tree, known)} & known for name, tree in trees.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield "these import each other: " + " -> ".join(reversed(error.args[1]))


def relative_import_violations(trees: Trees) -> Iterator[str]:
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{name}:{node.lineno} imports relatively"


def resolver_violations(trees: Trees) -> Iterator[str]:
    for name, tree in trees.items():
        if not name.startswith("resolver."):
            continue
        for line, target in imports(tree, frozenset()):
            if target.partition(".")[0] not in RESOLVER_MAY_IMPORT | {"resolver"}:
                yield f"{name}:{line} imports {target}: the resolver has no clock, no chance, no I/O"
        for node in ast.walk(tree):
            match node:
                case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                    yield f"{name}:{node.lineno} is async: the resolver is called between two awaits"
                case ast.comprehension(is_async=1):
                    yield f"{name}:{node.target.lineno} is async: the resolver is called between two awaits"
                case ast.Call(func=ast.Name(id=called)) if called in RESOLVER_MAY_NOT_CALL:
                    yield f"{name}:{node.lineno} calls {called}(): the resolver does no I/O"


def environment_violations(trees: Trees) -> Iterator[str]:
    for name, tree in trees.items():
        if name == READS_THE_ENVIRONMENT:
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id="os"), attr=attribute) if attribute in ENVIRONMENT:
                    yield f"{name}:{node.lineno} uses os.{attribute}"
                case ast.ImportFrom(module="os", names=aliases) if any(alias.name in ENVIRONMENT for alias in aliases):
                    yield f"{name}:{node.lineno} imports the environment from os"
                case ast.Import() | ast.ImportFrom() if "pydantic_settings" in ast.unparse(node):
                    yield f"{name}:{node.lineno} imports pydantic_settings, which reads the environment"
                case ast.keyword(arg="envvar"):
                    yield f"{name}:{node.lineno} lets the command line read the environment"


def sql_violations(trees: Trees) -> Iterator[str]:
    """SQL put together from pieces, in a call to the database or before it: statements stand in storage/sql."""
    for name, tree in trees.items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr=called), args=[first, *_]) if called in SENDS_SQL:
                    if is_put_together(first):
                        yield f"{name}:{node.lineno} {called}() is given SQL that is put together: use parameters"
                case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if IS_SQL(text):
                    yield f"{name}:{node.lineno} puts SQL together: use parameters"
                case ast.BinOp(left=ast.Constant(value=str(text))) if IS_SQL(text):
                    yield f"{name}:{node.lineno} puts SQL together: use parameters"
                case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)))) if IS_SQL(text):
                    yield f"{name}:{node.lineno} puts SQL together: use parameters"


def is_put_together(node: ast.expr) -> bool:
    match node:
        case ast.JoinedStr() | ast.BinOp(op=ast.Add() | ast.Mod()):
            return True
        case ast.Call(func=ast.Attribute(attr=called)):
            return called in ("format", "format_map", "join", "replace", "substitute")
    return False


def long_function_violations(trees: Trees) -> Iterator[str]:
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > FUNCTION_LINES_MAX:
                    yield f"{name}:{node.lineno} {node.name} has {count} lines, over {FUNCTION_LINES_MAX}"


def long_file_violations(line_counts: Mapping[str, int]) -> Iterator[str]:
    for name, count in line_counts.items():
        if count > FILE_LINES_MAX:
            yield f"{name} has {count} lines, over {FILE_LINES_MAX}: split it by noun"


def name_violations(names: Mapping[str, object] | Trees) -> Iterator[str]:
    for name in names:
        for part in NAMES_WITHOUT_A_NOUN & set(name.split(".")):
            yield f"{name}: {part!r} is no noun; name it after what it holds"


def package_violations(packages: Trees) -> Iterator[str]:
    """A package's own file holds its one sentence and no code, so that the list of modules is the whole truth."""
    for name, tree in packages.items():
        if any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in tree.body):
            yield f"{name}/__init__.py holds code"


# --- The tree as it is ------------------------------------------------------------------------------------------------


def sources() -> dict[str, str]:
    """Dotted name -> text of each Python file of the three packages; packages end in `.__init__`."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in paths}


SOURCES = sources()
MODULES: Trees = {name: ast.parse(text, name) for name, text in SOURCES.items() if not name.endswith(".__init__")}
PACKAGE_FILES: Trees = {
    name.removesuffix(".__init__"): ast.parse(text, name)
    for name, text in SOURCES.items()
    if name.endswith(".__init__")
}


def expect_none(violations: Iterable[str]) -> None:
    found = sorted(violations)
    assert not found, "\n  ".join(["", *found])


def test_every_module_of_the_reading_order_exists() -> None:
    expect_none([name for name in READING_ORDER if name not in MODULES])


def test_every_module_stands_in_the_reading_order_once() -> None:
    expect_none([name for name in MODULES if name not in READING_ORDER])
    assert len(set(READING_ORDER)) == len(READING_ORDER)


def test_the_packages_follow_each_other_in_the_reading_order() -> None:
    tops = [name.partition(".")[0] for name in READING_ORDER]
    assert tops == sorted(tops, key=PACKAGES.index)


def test_every_folder_with_modules_is_a_package() -> None:
    expect_none({name.rpartition(".")[0] for name in MODULES} - set(PACKAGE_FILES))


def test_a_module_imports_only_modules_above_it() -> None:
    expect_none(order_violations(MODULES, READING_ORDER))


def test_no_modules_import_each_other_in_a_circle() -> None:
    expect_none(cycle_violations(MODULES))


def test_imports_are_absolute() -> None:
    expect_none(relative_import_violations({**MODULES, **PACKAGE_FILES}))


def test_package_files_hold_no_code() -> None:
    expect_none(package_violations(PACKAGE_FILES))


def test_the_resolver_has_no_clock_no_chance_and_no_io() -> None:
    expect_none(resolver_violations(MODULES))


def test_only_the_settings_read_the_environment() -> None:
    expect_none(environment_violations(MODULES))


def test_no_sql_is_put_together_from_pieces() -> None:
    expect_none(sql_violations(MODULES))


def test_no_function_is_longer_than_a_screen() -> None:
    expect_none(long_function_violations(MODULES))


def test_no_file_is_longer_than_the_wall() -> None:
    expect_none(long_file_violations({name: len(text.splitlines()) for name, text in SOURCES.items()}))


def test_every_module_is_named_after_a_noun() -> None:
    expect_none(name_violations(MODULES))


# --- The checks can fail: one planted violation each, beside the nearest lawful thing ---------------------------------

ORDER = ("resolver.model", "resolver.core", "storage.journal", "gateway.settings", "gateway.api.shapes", "gateway.app")


def order_check(trees: Trees) -> Iterator[str]:
    return order_violations(trees, ORDER)


def body(lines: int) -> str:
    return "def f():\n" + "    pass\n" * (lines - 1)


# check, module, source, part of the one violation it must give ("" = lawful)
PLANTED: tuple[tuple[Callable[[Trees], Iterator[str]], str, str, str], ...] = (
    (order_check, "storage.journal", "from resolver.model import E164", ""),
    (order_check, "storage.journal", "import asyncpg", ""),
    (order_check, "resolver.model", "from resolver.core import Resolver", "does not stand above"),
    (order_check, "resolver.model", "from resolver import core", "does not stand above"),
    (order_check, "resolver.core", "import storage.journal", "does not stand above"),
    (order_check, "storage.journal", "def f():\n    from gateway import app", "does not stand above"),
    (order_check, "storage.journal", "if TYPE_CHECKING:\n    import gateway.app", "does not stand above"),
    (order_check, "gateway.app", "import gateway.app", "does not stand above"),
    (order_check, "gateway.app", "from gateway.api import shapes", ""),
    (order_check, "gateway.app", "from gateway.api import routes", "not a module of the reading order"),
    (order_check, "gateway.app", "from tests.fakes import clock", "not shipped"),
    (relative_import_violations, "gateway.app", "from gateway import settings", ""),
    (relative_import_violations, "gateway.app", "from . import settings", "relatively"),
    (relative_import_violations, "gateway.app", "from .api import shapes", "relatively"),
    (sql_violations, "storage.journal", 'connection.execute(QUERIES["a"], value)', ""),
    (sql_violations, "storage.journal", 'connection.execute(f"{table} is no statement")', "execute() is given SQL"),
    (sql_violations, "storage.journal", 'connection.fetch(QUERIES["a"] + where)', "fetch() is given SQL"),
    (sql_violations, "storage.journal", 'connection.fetchval(QUERIES["a"] % value)', "fetchval() is given SQL"),
    (sql_violations, "storage.journal", 'connection.fetchrow(QUERIES["a"].format(value))', "fetchrow() is given SQL"),
    (sql_violations, "storage.journal", 'x = f"SELECT {name}"', "puts SQL together"),
    (sql_violations, "storage.journal", 'x = "DELETE FROM a WHERE b = %s" % value', "puts SQL together"),
    (sql_violations, "gateway.app", 'x = "DROP TABLE {}".format(value)', "puts SQL together"),
    (sql_violations, "gateway.app", 'x = f"Delete what {name} has"', ""),
    (resolver_violations, "resolver.core", "import heapq\nfrom resolver.model import E164", ""),
    (resolver_violations, "resolver.core", "import time", "imports time"),
    (resolver_violations, "resolver.core", "from random import Random", "imports random"),
    (resolver_violations, "resolver.core", "from datetime import datetime", "imports datetime"),
    (resolver_violations, "resolver.core", "import asyncio", "imports asyncio"),
    (resolver_violations, "resolver.core", "import logging", "imports logging"),
    (resolver_violations, "resolver.core", "import os.path", "imports os.path"),
    (resolver_violations, "resolver.core", "import socket", "imports socket"),
    (resolver_violations, "resolver.core", "def f():\n    import structlog", "imports structlog"),
    (resolver_violations, "resolver.core", "async def decide(): pass", "is async"),
    (resolver_violations, "resolver.core", "x = (n async for n in numbers)", "is async"),
    (resolver_violations, "resolver.core", "open('numbers.txt')", "calls open()"),
    (resolver_violations, "storage.journal", "import time\nasync def append(): await f()", ""),
    (environment_violations, "gateway.settings", "import os\nos.environ['SENDPOOL_PORT']", ""),
    (environment_violations, "gateway.cli", "import os\nos.getpid()", ""),
    (environment_violations, "gateway.cli", "import os\nos.environ['SENDPOOL_PORT']", "os.environ"),
    (environment_violations, "gateway.cli", "import os\nos.getenv('SENDPOOL_PORT')", "os.getenv"),
    (environment_violations, "storage.embedded", "from os import environ", "environment from os"),
    (environment_violations, "gateway.app", "from pydantic_settings import BaseSettings", "pydantic_settings"),
    (environment_violations, "gateway.cli", "typer.Option(8080, envvar='SENDPOOL_PORT')", "command line"),
    (long_function_violations, "gateway.app", body(60), ""),
    (long_function_violations, "gateway.app", body(61), "f has 61 lines"),
    (
        long_function_violations,
        "gateway.app",
        "class C:\n    async " + body(61).replace("    ", "        "),
        "61 lines",
    ),
    (name_violations, "gateway.clock", "", ""),
    (name_violations, "gateway.utils", "", "'utils' is no noun"),
    (name_violations, "gateway.carriers.base", "", "'base' is no noun"),
    (package_violations, "gateway.api", '"""One file per resource."""', ""),
    (package_violations, "gateway.api", "from gateway.api.shapes import Message", "holds code"),
)


@pytest.mark.parametrize(("check", "module", "source", "found"), PLANTED)
def test_a_planted_violation_is_found(
    check: Callable[[Trees], Iterator[str]], module: str, source: str, found: str
) -> None:
    violations = list(check({module: ast.parse(source)}))
    assert len(violations) == (1 if found else 0), violations
    assert all(found in violation and violation.startswith(module) for violation in violations)


def test_a_planted_circle_is_found() -> None:
    straight = {"resolver.model": ast.parse(""), "resolver.core": ast.parse("from resolver import model")}
    assert list(cycle_violations(straight)) == []
    circle = {**straight, "resolver.model": ast.parse("def f():\n    from resolver.core import Resolver")}
    assert "resolver.model" in next(cycle_violations(circle))


def test_a_planted_long_file_is_found() -> None:
    assert list(long_file_violations({"gateway.app": FILE_LINES_MAX})) == []
    assert "401 lines" in next(long_file_violations({"gateway.app": FILE_LINES_MAX + 1}))
