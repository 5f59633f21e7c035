"""Named SQL: what a file may hold, and that code and files name the same statements."""

from __future__ import annotations

import ast

import pytest

from storage.queries import QUERIES, SQL_FOLDER, parse_queries

STORAGE = SQL_FOLDER.parent


def test_a_statement_is_known_by_its_name_without_comment_and_semicolon() -> None:
    text = "-- Numbers.\n\n-- name: count_numbers\n-- How many.\n-- All of them.\nSELECT count(*)\nFROM numbers;\n"
    assert parse_queries([text]) == {"count_numbers": "SELECT count(*)\nFROM numbers"}


def test_statements_of_all_files_stand_in_one_list() -> None:
    texts = ["-- name: one\n-- x\nSELECT 1;\n-- name: two\n-- x\nSELECT 2;", "-- name: three\n-- x\nSELECT 3"]
    assert list(parse_queries(texts)) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;", "before the first"),
        ("-- name: One\n-- x\nSELECT 1;", "no name"),
        ("-- name: one two\n-- x\nSELECT 1;", "no name"),
        ("-- name: one\nSELECT 1;", "no comment"),
        ("-- name: one\n", "no comment"),
        ("-- name: one\n-- x\n;", "is empty"),
        ("-- name: one\n-- x\nSELECT 1;\n-- name: one\n-- x\nSELECT 2;", "two queries"),
    ],
)
def test_a_file_that_is_not_in_form_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_queries([text])


def test_the_list_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        parse_queries([])["one"] = "SELECT 1"  # type: ignore[index]


def named(tree: ast.AST) -> set[str]:
    """The names in QUERIES["…"], a choice of two included."""
    return {
        text
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "QUERIES"
        for text in texts(node.slice)
    }


def texts(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


TREES = [ast.parse(path.read_text("utf-8")) for path in STORAGE.glob("*.py")]


def test_every_statement_that_the_code_names_is_there() -> None:
    assert set().union(*map(named, TREES)) - set(QUERIES) == set()


def test_every_statement_is_named_somewhere_in_the_code() -> None:
    assert set(QUERIES) - set().union(*map(texts, TREES)) == set()
