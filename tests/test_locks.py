"""What reaches us from outside is pinned and hashed, and what reaches PostgreSQL is never put together from pieces.

Lock files: no address in them, each file named by its hash, nothing missing that pyproject.toml asks for.
SQL: a statement is a constant or comes by name from a .sql file; values are parameters. Tests may build DDL for
databases of their own and are not looked at.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

# --- Lock files -------------------------------------------------------------------------------------------------------


def distribution(requirement: str) -> str:
    """The name in front of extras, versions and markers, in the form lock files write it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def locked(text: str) -> dict[str, str]:
    """Distribution -> its whole entry. An entry is a line that is not indented, with its continuations."""
    entries = re.findall(r"^[A-Za-z0-9][^\n]*(?:\n[ \t][^\n]*)*", text, flags=re.MULTILINE)
    return {distribution(entry): entry for entry in entries}


def lock_violations(text: str) -> Iterator[str]:
    if "://" in text:
        yield "names an address"
    for line in text.splitlines():
        if line.startswith(("-", "/", ".")):
            yield f"holds an option or a path: {line}"
    for name, entry in locked(text).items():
        if not re.match(r"[A-Za-z0-9._-]+==[^ ]+ ", entry):
            yield f"does not pin {name}"
        if "--hash=sha256:" not in entry:
            yield f"has no hash for {name}"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_names_no_address_and_hashes_everything(name: str) -> None:
    assert list(lock_violations((ROOT / name).read_text("utf-8"))) == []


def test_no_lock_file_of_a_kind_that_names_hosts_is_here() -> None:
    assert [name for name in ("uv.lock", "pylock.toml", "poetry.lock") if (ROOT / name).exists()] == []


NODE = ROOT / "tests" / "acceptance" / "node"


def test_nodes_lock_file_names_no_address_and_hashes_everything() -> None:
    text = (NODE / "package-lock.json").read_text("utf-8")
    assert "://" not in text
    lock, wanted = orjson.loads(text)["packages"], orjson.loads((NODE / "package.json").read_bytes())
    root = lock.pop("")
    assert root["dependencies"] == wanted["dependencies"]
    assert [name for name, package in lock.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name in wanted["dependencies"] if f"node_modules/{name}" not in lock] == []


EXTRAS = PROJECT["project"]["optional-dependencies"]
RUNTIME = PROJECT["project"]["dependencies"]
WANTED = {
    "requirements-build.lock": PROJECT["dependency-groups"]["build"],
    "requirements.lock": RUNTIME,
    "requirements-dev.lock": RUNTIME + EXTRAS["dev"],
    "requirements-load.lock": RUNTIME + EXTRAS["load"],
    "requirements-node.lock": PROJECT["dependency-groups"]["node"],
}


def test_every_lock_file_is_known() -> None:
    assert sorted(WANTED) == LOCKS


@pytest.mark.parametrize("name", WANTED)
def test_everything_the_project_asks_for_is_locked(name: str) -> None:
    entries = locked((ROOT / name).read_text("utf-8"))
    assert [wanted for wanted in WANTED[name] if distribution(wanted) not in entries] == []


def test_what_runs_is_what_was_tested() -> None:
    """One version of a distribution over all lock files; each is resolved for itself, so this does not go by itself."""
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, entry in locked((ROOT / lock).read_text("utf-8")).items():
            versions.setdefault(name, set()).add(entry.split()[0])
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_build_backend_is_the_locked_one() -> None:
    assert PROJECT["build-system"]["requires"] == PROJECT["dependency-groups"]["build"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h11==0.16.0 \\\n    --hash=sha256:00\n    # via sendpool (pyproject.toml)\n", ""),
        ("h11==0.16.0 ; python_version > '3' \\\n    --hash=sha256:00\n", ""),
        ("h11==0.16.0\n", "no hash for h11"),
        ("h11>=0.16.0 \\\n    --hash=sha256:00\n", "does not pin h11"),
        ("h11 @ https://example.org/h11.whl \\\n    --hash=sha256:00\n", "names an address"),
        ("--index-url https://example.org/simple\n", "names an address"),
        ("--extra-index-url example.org\n", "holds an option"),
    ],
)
def test_a_planted_lock_violation_is_found(text: str, found: str) -> None:
    violations = list(lock_violations(text))
    assert bool(violations) == bool(found)
    assert not found or any(found in violation for violation in violations)


# --- SQL --------------------------------------------------------------------------------------------------------------

# asyncpg's methods whose first argument is a statement; the same names on a pool, a connection or our own wrapper.
TAKES_A_STATEMENT = frozenset(
    {"copy_from_query", "cursor", "execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "prepare"}
)
BUILDS_TEXT = frozenset({"format", "format_map", "join", "replace", "substitute", "safe_substitute"})


def is_built(node: ast.expr, assigned: dict[str, list[ast.expr]]) -> bool:
    """Whether `node` is text put together here, also by way of a name assigned in the same file."""
    match node:
        case ast.BinOp(left=ast.Constant(value=int())) | ast.BinOp(right=ast.Constant(value=int())):
            return False  # a count of rows: cursor.fetch(limit + 1)
        case ast.JoinedStr() | ast.BinOp(op=ast.Add() | ast.Mod()):
            return True
        case ast.Call(func=ast.Attribute(attr=attribute)) if attribute in BUILDS_TEXT:
            return True
        case ast.IfExp(body=one, orelse=other):
            return is_built(one, assigned) or is_built(other, assigned)
        case ast.NamedExpr(value=value) | ast.Await(value=value):
            return is_built(value, assigned)
        case ast.Name(id=name):
            rest = {other: values for other, values in assigned.items() if other != name}  # x = x + y ends here
            return any(is_built(value, rest) for value in assigned.get(name, []))
    return False


def sql_violations(source: str, name: str) -> Iterator[str]:
    tree = ast.parse(source, name)
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        assigned.setdefault(target.id, []).append(value)
            case ast.AnnAssign(target=ast.Name(id=target_name), value=ast.expr() as value):
                assigned.setdefault(target_name, []).append(value)
            case ast.AugAssign(target=ast.Name(id=target_name), value=value):
                built = ast.BinOp(left=ast.Name(id=target_name), op=node.op, right=value)
                assigned.setdefault(target_name, []).append(built)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TAKES_A_STATEMENT:
            statements = node.args[:1] + [keyword.value for keyword in node.keywords if keyword.arg == "query"]
            if any(is_built(statement, assigned) for statement in statements):
                yield f"{name}:{node.lineno} gives {node.func.attr}() a statement put together from pieces"


def test_no_statement_is_put_together_from_pieces() -> None:
    folders = ("resolver", "storage", "gateway", "benchmarks", "examples", "loadtests")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [sql_violations(path.read_text("utf-8"), str(path.relative_to(ROOT))) for path in paths]
    assert [violation for violations in found for violation in violations] == []


@pytest.mark.parametrize(
    ("source", "is_violation"),
    [
        ("await connection.execute('select 1')", False),
        ("await connection.fetchrow(QUERIES['message_by_id'], message_id)", False),
        ("await connection.execute('select 1 ' 'where true')", False),
        ("statement = 'select 1'\nawait connection.execute(statement)", False),
        ("log.info(f'took {ms}')", False),
        ("await cursor.fetch(limit + 1)", False),
        ("await connection.execute(f'select {column}')", True),
        ("await connection.fetch('select ' + column)", True),
        ("await connection.fetchval('select %s' % column)", True),
        ("await connection.fetchrow('select {}'.format(column))", True),
        ("await connection.execute(query=f'select {column}')", True),
        ("await connection.executemany(' '.join(parts), rows)", True),
        ("await connection.execute(TEMPLATE.replace('@', column))", True),
        ("statement = f'select {column}'\nawait connection.execute(statement)", True),
        ("statement: str = 'select ' + column\nawait connection.execute(statement)", True),
        ("statement = 'select 1'\nstatement += column\nawait connection.execute(statement)", True),
        ("await connection.execute('select 1' if one else f'select {column}')", True),
        ("async for row in connection.cursor(f'select {column}'): pass", True),
    ],
)
def test_a_planted_statement_is_judged(source: str, is_violation: bool) -> None:
    assert bool(list(sql_violations(source, "planted"))) == is_violation
