"""Migration files: their names and their order. What they do to a database: tests/integration/test_migrations.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.migrations import load_migrations


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text(f"-- {name}\n")
    return folder


def test_files_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, "0010_pre_b.sql", "0002_post_a.sql", "0001_pre_first.sql")
    found = load_migrations(tmp_path)
    assert [(m.name, m.is_post) for m in found] == [
        ("0001_pre_first", False),
        ("0002_post_a", True),
        ("0010_pre_b", False),
    ]


@pytest.mark.parametrize("name", ["1_pre_x.sql", "0001_during_x.sql", "0001_pre.sql", "0001_pre_X.sql", "first.sql"])
def test_a_file_name_that_does_not_say_when_it_runs_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        load_migrations(write(tmp_path, name))


def test_a_number_is_used_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0001_pre_b"):
        load_migrations(write(tmp_path, "0001_pre_a.sql", "0001_pre_b.sql"))


def test_a_changed_file_is_another_one_by_its_sum(tmp_path: Path) -> None:
    before = load_migrations(write(tmp_path, "0001_pre_a.sql"))[0].sha256
    (tmp_path / "0001_pre_a.sql").write_text("-- something else\n")
    assert load_migrations(tmp_path)[0].sha256 != before


def test_our_own_files_begin_at_one_without_gaps() -> None:
    numbers = [int(migration.name[:4]) for migration in load_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers
