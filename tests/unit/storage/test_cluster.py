"""A data folder without a real server: its lock, its paths, its log, and who is taken for its server."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from storage import cluster as module
from storage.cluster import Cluster
from storage.programs import ServerNotStarted

LONG = "long" * 30


def socket_of(cluster: Cluster) -> Path:
    return Path(parse_qs(urlsplit(cluster.url()).query)["host"][0], ".s.PGSQL.5432")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data", {})


@pytest.fixture
def held_lock(cluster: Cluster) -> Iterator[int]:
    lock = os.open(cluster.folder.parent / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    os.close(lock)


def test_the_data_folder_is_made_for_its_owner_alone(cluster: Cluster) -> None:
    assert cluster.folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerNotStarted, match="file"):
        Cluster(tmp_path / "file" / "data", {})


def test_the_socket_lies_in_the_folder(tmp_path: Path) -> None:
    assert socket_of(Cluster(tmp_path, {})).parent == tmp_path / "postgres"


def test_a_path_too_long_for_a_socket_gets_a_short_one_of_its_own(tmp_path: Path) -> None:
    one, other = (socket_of(Cluster(tmp_path / LONG / name, {})) for name in ("one", "other"))
    assert len(os.fsencode(one)) <= 107
    assert one != other
    assert one == socket_of(Cluster(tmp_path / LONG / "one", {}))


def test_a_path_is_too_long_from_the_108th_byte_on(tmp_path: Path) -> None:
    room = 107 - len(os.fsencode(tmp_path / "x" / "postgres" / ".s.PGSQL.5432")) + 1
    assert socket_of(Cluster(tmp_path / ("x" * room), {})).is_relative_to(tmp_path)
    assert not socket_of(Cluster(tmp_path / ("x" * (room + 1)), {})).is_relative_to(tmp_path)


def test_nothing_is_started_while_somebody_holds_the_lock(cluster: Cluster, held_lock: int) -> None:
    assert not cluster.start_if_down()
    assert not cluster.folder.exists()
    assert not cluster.is_child()


def test_a_folder_with_something_else_in_it_is_left_alone(cluster: Cluster) -> None:
    cluster.folder.mkdir()
    (cluster.folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ServerNotStarted, match="no PostgreSQL data"):
        cluster.start_if_down()
    assert os.listdir(cluster.folder) == ["thesis.txt"]


def test_another_version_s_folder_is_left_alone(cluster: Cluster) -> None:
    cluster.folder.mkdir()
    (cluster.folder / "PG_VERSION").write_text("11\n")
    with pytest.raises(ServerNotStarted, match="made by PostgreSQL 11"):
        cluster.start_if_down()


def test_a_pid_file_that_names_another_program_names_no_server(cluster: Cluster) -> None:
    cluster.folder.mkdir()
    (cluster.folder / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.folder}\n")
    assert cluster.stop()  # must not end this process


def test_a_process_of_the_right_name_in_another_folder_is_not_ours(cluster: Cluster, tmp_path: Path) -> None:
    cluster.folder.mkdir()
    if os.geteuid() == 0:
        os.chown(cluster.folder, 0, 0)
    program = tmp_path / "postgres"
    program.symlink_to(sys.executable)
    stranger = subprocess.Popen(
        [program, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == b"up\n"
        assert Path(f"/proc/{stranger.pid}/comm").read_text() == "postgres\n"
        (cluster.folder / "postmaster.pid").write_text(f"{stranger.pid}\n")
        assert cluster.stop()
        assert stranger.poll() is None
        assert stranger.stdin is not None
        stranger.stdin.close()


@pytest.mark.parametrize("text", ["", "\n", "not a number\n", "99999999\n"])
def test_a_pid_file_that_names_nobody_names_no_server(cluster: Cluster, text: str) -> None:
    cluster.folder.mkdir()
    (cluster.folder / "postmaster.pid").write_text(text)
    assert cluster.stop()


def test_a_log_over_its_bound_is_cut_and_kept_once(cluster: Cluster, held_lock: int) -> None:
    log = cluster.folder.parent / "postgres.log"
    log.write_bytes(b"x" * module.LOG_BYTES_MAX)
    cluster.start_if_down()
    assert log.stat().st_size == module.LOG_BYTES_MAX
    with log.open("ab") as server:
        server.write(b"y")
        server.flush()
        cluster.start_if_down()
        assert log.stat().st_size == 0
        server.write(b"goes on")
        server.flush()
    assert log.read_bytes() == b"goes on"
    assert (cluster.folder.parent / "postgres.log.1").stat().st_size == module.LOG_BYTES_MAX + 1


def test_the_tail_of_the_log_is_its_last_lines(cluster: Cluster) -> None:
    assert cluster.log_tail() == ""
    (cluster.folder.parent / "postgres.log").write_text("\n".join(f"line {n}" for n in range(2_000)))
    assert cluster.log_tail().splitlines() == [f"line {n}" for n in range(1_992, 2_000)]
