"""Where PostgreSQL's programs are looked for, and as whom they would run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import programs
from storage.programs import ENVIRONMENT, Programs, ServerNotStarted, find_programs, make_runnable, run, server_user

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a server to another user")


def test_the_wheel_comes_first_and_brings_a_server_that_runs() -> None:
    found = make_runnable(find_programs(major=None), None)
    assert programs.WHEEL in str(found.folder)
    assert (
        f"PostgreSQL) {found.major}."
        in run([found.path("postgres"), "--version"], folder=Path("/"), user=None, seconds_max=20).stdout
    )


def test_a_version_that_is_not_here_is_named_with_those_that_are() -> None:
    with pytest.raises(ServerNotStarted, match=r"made by PostgreSQL 11; found here: .*18"):
        find_programs(major=11)


def test_programs_see_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGDATA", "/somewhere")
    seen = run(["/usr/bin/env"], folder=tmp_path, user=None, seconds_max=20).stdout.split()
    assert set(seen) - {"PWD", "SHLVL", "_"} == {f"{name}={value}" for name, value in ENVIRONMENT.items()}


def test_programs_that_do_not_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerNotStarted, match=str(tmp_path)):
        make_runnable(Programs(tmp_path, 18), None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root gives the server away")
def test_an_ordinary_user_runs_the_server_itself(tmp_path: Path) -> None:
    assert server_user(tmp_path) is None


@AS_ROOT
def test_root_gives_the_server_to_another_user(tmp_path: Path) -> None:
    user = server_user(tmp_path / "not there yet")
    assert user is not None
    assert user.name in programs.USERS
    assert user.uid != 0
    assert user.gid != 0


@AS_ROOT
def test_root_gives_a_folder_s_server_to_the_folder_s_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 23_456)
    assert server_user(tmp_path) == ("12345", 12_345, 23_456, ())


@pytest.fixture
def closed_programs(tmp_path: Path) -> Programs:
    """A tiny wheel below a folder that only root can enter: a program that needs the library folder beside it."""
    closed = tmp_path / "root only" / "site-packages"
    installation = closed / "wheel" / "pginstall18"
    (installation / "bin").mkdir(parents=True)
    (installation / "include").mkdir()
    (installation / "include" / "big.h").write_text("not needed")
    (closed / "wheel.libs").mkdir()
    (closed / "wheel.libs" / "lib.so").write_text("library")
    for name in ("postgres", "initdb"):
        program = installation / "bin" / name
        program.write_text('#!/bin/sh\ncat "$(dirname "$0")/../../../wheel.libs/lib.so"\n')
        program.chmod(0o700)
    (tmp_path / "root only").chmod(0o700)
    return Programs(installation / "bin", 18)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A place for copies in a folder that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "copies")


@AS_ROOT
def test_programs_that_the_user_cannot_read_are_copied_with_what_they_need(
    closed_programs: Programs, open_folder: Path
) -> None:
    user = server_user(Path("/nowhere"))
    copied = make_runnable(closed_programs, user, (open_folder,))
    assert copied.folder.is_relative_to(open_folder)
    assert run([copied.path("initdb")], folder=Path("/"), user=user, seconds_max=20).stdout == "library"
    assert not list(open_folder.rglob("big.h"))
    assert (copied.folder / "postgres").owner() == "root"


@AS_ROOT
def test_a_copy_is_used_again(closed_programs: Programs, open_folder: Path) -> None:
    user = server_user(Path("/nowhere"))
    first = make_runnable(closed_programs, user, (open_folder,))
    made = (first.folder / "postgres").stat().st_ino
    assert make_runnable(closed_programs, user, (open_folder,)) == first
    assert (first.folder / "postgres").stat().st_ino == made
    assert len(list(open_folder.iterdir())) == 1


@AS_ROOT
def test_a_place_that_somebody_else_could_write_to_is_not_used(closed_programs: Programs, open_folder: Path) -> None:
    open_folder.mkdir()
    open_folder.chmod(0o777)
    with pytest.raises(ServerNotStarted, match="cannot be copied"):
        make_runnable(closed_programs, server_user(Path("/nowhere")), (open_folder,))


@AS_ROOT
def test_the_second_place_is_used_where_the_first_cannot_be(closed_programs: Programs, open_folder: Path) -> None:
    (open_folder.parent / "a file").write_text("")
    copied = make_runnable(closed_programs, server_user(Path("/nowhere")), (open_folder.parent / "a file", open_folder))
    assert copied.folder.is_relative_to(open_folder)
