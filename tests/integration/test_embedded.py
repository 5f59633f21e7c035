"""The embedded server for real: started, found again, killed, restarted, given to another user, stopped."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from storage.cluster import DATABASE, SUPERUSER
from storage.embedded import EmbeddedServer, ServerNotStarted, embedded_server
from storage.programs import DEBIAN, Programs, make_runnable, run, server_user

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a server to another user")
RESTART_S_MAX = 10  # a second is what is meant; this machine may be busy


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Short, since a socket lies in it."""
    folder = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder)


def pid_of(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    """Whether it runs: what ended and was not yet collected by its parent does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def ask(server: EmbeddedServer, statement: str) -> object:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def ask_until_answered(server: EmbeddedServer, statement: str) -> object:
    async with asyncio.timeout(RESTART_S_MAX):
        while True:
            try:
                return await ask(server, statement)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.02)


async def test_a_second_start_finds_the_data_and_nothing_runs_in_between(data_dir: Path) -> None:
    async with embedded_server(data_dir) as server:
        await ask(server, "CREATE TABLE t AS SELECT 42 AS n")
        pid = pid_of(data_dir)
    assert not is_alive(pid)
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    async with embedded_server(data_dir) as server:
        assert await ask(server, "SELECT n FROM t") == 42


async def test_the_server_is_safe_private_and_says_nothing_of_what_is_written(data_dir: Path) -> None:
    async with embedded_server(data_dir) as server:
        connection = await asyncpg.connect(server.url)
        shown = {row["name"]: row["setting"] for row in await connection.fetch("SELECT name, setting FROM pg_settings")}
        await connection.execute("CREATE TABLE t (secret text PRIMARY KEY)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO t VALUES ($1), ($1)", "canary-1")
        with pytest.raises(asyncpg.CharacterNotInRepertoireError):
            await connection.execute("INSERT INTO t VALUES ($1)", "canary-2\0")
        with pytest.raises(asyncpg.PostgresError):
            await connection.copy_records_to_table("t", records=[("canary-4",), ("canary-5\0",)])
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("INSERT INTO nowhere VALUES ('canary-3')")
        await connection.close()
        assert (data_dir / "postgres").stat().st_mode & 0o777 == 0o700
    assert (shown["listen_addresses"], shown["fsync"], shown["full_page_writes"]) == ("", "on", "on")
    assert (shown["synchronous_commit"], shown["commit_delay"], shown["data_checksums"]) == ("on", "0", "on")
    assert (shown["server_encoding"], shown["log_parameter_max_length_on_error"]) == ("UTF8", "0")
    log = (data_dir / "postgres.log").read_text()
    assert "does not exist" in log
    assert "canary" not in log


async def test_a_killed_server_is_back_with_all_that_was_committed(data_dir: Path) -> None:
    async with embedded_server(data_dir) as server:
        await ask(server, "CREATE TABLE t AS SELECT 42 AS n")
        for _ in range(2):
            killed = pid_of(data_dir)
            os.kill(killed, signal.SIGKILL)
            assert await ask_until_answered(server, "SELECT n FROM t") == 42
            assert pid_of(data_dir) != killed


async def test_a_killed_session_brings_the_server_back_by_itself(data_dir: Path) -> None:
    async with embedded_server(data_dir) as server:
        pid = pid_of(data_dir)
        connection = await asyncpg.connect(server.url)
        os.kill(connection.get_server_pid(), signal.SIGKILL)
        assert await ask_until_answered(server, "SELECT 1") == 1
        assert pid_of(data_dir) == pid
        await connection.close()


async def test_a_server_that_runs_already_is_used_and_left_running_unless_taken_over(data_dir: Path) -> None:
    async with embedded_server(data_dir) as first:
        pid = pid_of(data_dir)
        assert first.stop_on_exit
        async with embedded_server(data_dir) as second:
            assert pid_of(data_dir) == pid
            assert second.url == first.url
            assert not second.stop_on_exit
        assert await ask(first, "SELECT 1") == 1
        first.stop_on_exit = False
    assert is_alive(pid)
    async with embedded_server(data_dir) as third:
        assert pid_of(data_dir) == pid
        third.stop_on_exit = True
    assert not is_alive(pid)


async def test_two_that_start_at_once_share_one_server(data_dir: Path) -> None:
    together = asyncio.Barrier(4)
    seen: list[tuple[int, bool]] = []

    async def start() -> None:
        async with embedded_server(data_dir) as server:
            await ask(server, "SELECT 1")
            seen.append((pid_of(data_dir), server.stop_on_exit))
            await together.wait()  # all have the server before anyone stops it

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(start())
    assert len({pid for pid, _ in seen}) == 1
    assert sorted(starter for _, starter in seen) == [False, False, False, True]
    assert not is_alive(seen[0][0])


async def test_a_pid_that_another_process_has_by_now_is_no_hindrance(data_dir: Path) -> None:
    async with embedded_server(data_dir) as server:
        await ask(server, "CREATE TABLE t AS SELECT 42 AS n")
    folder = data_dir / "postgres"
    owner = folder.stat()
    other = subprocess.Popen(["sleep", "600"], user=owner.st_uid if os.geteuid() == 0 else None)
    try:
        (folder / "postmaster.pid").write_text(f"{other.pid}\n{folder}\n1\n5432\n.\n\n  1 1\nready   \n")
        (folder / ".s.PGSQL.5432.lock").write_text(f"{other.pid}\n{folder}\n1\n5432\n.\n")
        for file in (folder / "postmaster.pid", folder / ".s.PGSQL.5432.lock"):
            os.chown(file, owner.st_uid, owner.st_gid)
        async with embedded_server(data_dir) as server:
            assert await ask(server, "SELECT n FROM t") == 42
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_no_server_is_started_while_one_process_of_the_last_is_left(data_dir: Path) -> None:
    async with embedded_server(data_dir) as server:
        connection = await asyncpg.connect(server.url)
        left = connection.get_server_pid()
        os.kill(left, signal.SIGSTOP)
        try:
            os.kill(pid_of(data_dir), signal.SIGKILL)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await ask_until_answered(server, "SELECT 1")
            with (data_dir / "postgres.lock").open() as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert "starting PostgreSQL" not in (data_dir / "postgres.log").read_text().partition("ready to accept")[2]
        finally:
            os.kill(left, signal.SIGCONT)
        assert await ask_until_answered(server, "SELECT 1") == 1
        connection.terminate()


async def test_an_interrupted_making_of_the_folder_is_begun_again(data_dir: Path) -> None:
    half = data_dir / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with embedded_server(data_dir) as server:
        assert await ask(server, "SELECT 1") == 1
    assert not half.exists()


async def test_a_server_that_does_not_come_up_says_why(data_dir: Path) -> None:
    with pytest.raises(ServerNotStarted, match="shared_buffers"):
        async with embedded_server(data_dir, settings={"shared_buffers": "plenty"}):
            pytest.fail("it came up")


async def test_a_server_that_does_not_answer_in_time_is_stopped(data_dir: Path) -> None:
    async with embedded_server(data_dir):
        pass
    with pytest.raises(ServerNotStarted, match="did not answer within 0 s"):
        async with embedded_server(data_dir, start_ms_max=1):
            pytest.fail("it came up")
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


async def test_a_path_too_long_for_a_socket_is_no_hindrance(data_dir: Path) -> None:
    async with embedded_server(data_dir / ("long" * 30)) as server:
        assert await ask(server, "SELECT 1") == 1
        (socket_dir,) = Path("/tmp").glob("sendpool-*/.s.PGSQL.5432")
        assert socket_dir.parent.stat().st_mode & 0o7777 == 0o700
    shutil.rmtree(socket_dir.parent)


async def test_the_server_does_not_hear_the_terminal_s_ctrl_c(data_dir: Path) -> None:
    async with embedded_server(data_dir):
        assert os.getsid(pid_of(data_dir)) != os.getsid(0)
        assert os.getpgid(pid_of(data_dir)) != os.getpgid(0)


SERVE = textwrap.dedent(
    """
    import asyncio, pathlib, sys
    from storage.embedded import embedded_server

    async def main():
        async with embedded_server(pathlib.Path(sys.argv[1])) as server:
            print(server.url, flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
    """
)


def serve(data_dir: Path, **options: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", SERVE, str(data_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True, **options
    )
    assert isinstance(process, subprocess.Popen)
    for line in process.stdout or ():
        if line.startswith("postgresql:"):
            return process
    raise AssertionError(f"it ended with {process.wait()}")


async def test_a_server_whose_gateway_was_killed_is_found_and_used(data_dir: Path) -> None:
    with serve(data_dir) as process:
        process.kill()
    pid = pid_of(data_dir)
    assert is_alive(pid)
    async with embedded_server(data_dir) as server:
        assert pid_of(data_dir) == pid
        assert await ask(server, "SELECT 1") == 1
        os.kill(pid, signal.SIGKILL)
        assert await ask_until_answered(server, "SELECT 1") == 1
        assert pid_of(data_dir) != pid
        server.stop_on_exit = True
    assert not is_alive(pid)


def test_ctrl_c_stops_the_gateway_and_then_the_server(data_dir: Path) -> None:
    with serve(data_dir) as process:
        pid = pid_of(data_dir)
        process.send_signal(signal.SIGINT)
    assert not is_alive(pid)


def test_ctrl_c_at_any_moment_of_the_start_leaves_nothing_running(data_dir: Path) -> None:
    for wait_ms in (250, 400, 600, 900):
        with subprocess.Popen(
            [sys.executable, "-c", SERVE, str(data_dir)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(wait_ms / 1000)
            process.send_signal(signal.SIGINT)
        found = subprocess.run(["pgrep", "-f", str(data_dir)], capture_output=True, text=True, check=False)
        assert found.stdout == ""
        assert not (data_dir / "postgres" / "postmaster.pid").exists()


@AS_ROOT
async def test_root_s_server_runs_as_somebody_else_even_where_that_user_cannot_go(data_dir: Path) -> None:
    closed = data_dir / "root only"
    closed.mkdir(parents=True, mode=0o700)
    async with embedded_server(closed / "data") as server:
        assert Path(f"/proc/{pid_of(closed / 'data')}").stat().st_uid != 0
        assert await ask(server, "SELECT 1") == 1
        os.kill(pid_of(closed / "data"), signal.SIGKILL)
        assert await ask_until_answered(server, "SELECT 1") == 1


@AS_ROOT
async def test_a_folder_that_root_copied_is_given_back_to_the_server_s_user(data_dir: Path) -> None:
    async with embedded_server(data_dir) as server:
        await ask(server, "CREATE TABLE t AS SELECT 42 AS n")
    copy = data_dir.parent / "copy"
    subprocess.run(["cp", "-r", data_dir, copy], check=True)
    assert (copy / "postgres").owner() == "root"
    async with embedded_server(copy) as server:
        assert await ask(server, "SELECT n FROM t") == 42


@AS_ROOT
def test_an_ordinary_user_starts_a_server_of_its_own(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.parent.chmod(0o755)
    os.chown(data_dir, 65_534, 65_534)
    nobody = {"user": 65_534, "group": 65_534, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import asyncpg, storage"], check=True, cwd=ROOT, **nobody)  # type: ignore[call-overload]
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("an ordinary user cannot use this Python environment")
    with serve(data_dir, **nobody) as process:
        pid = pid_of(data_dir)
        assert Path(f"/proc/{pid}").stat().st_uid == 65_534
        process.send_signal(signal.SIGINT)
    assert not is_alive(pid)


@pytest.mark.skipif(not list(DEBIAN.glob("15/bin/postgres")), reason="Debian's PostgreSQL 15 is not installed")
async def test_a_folder_made_by_debian_s_postgresql_is_served_by_it(data_dir: Path) -> None:
    folder = data_dir / "postgres"
    folder.mkdir(parents=True)
    user = server_user(folder)
    if user is not None:
        os.chown(folder, user.uid, user.gid)
        data_dir.parent.chmod(0o755)
    programs = make_runnable(Programs(DEBIAN / "15" / "bin", 15), user)
    made = run(
        [programs.path("initdb"), "-D", str(folder), "-U", SUPERUSER, "--auth=trust", "--locale=C", "--encoding=UTF8"],
        folder=folder,
        user=user,
        seconds_max=60,
    )
    assert made.returncode == 0, made.stdout
    async with embedded_server(data_dir) as server:
        assert str(await ask(server, "SHOW server_version")).startswith("15.")
        assert await ask(server, "SELECT current_database()") == DATABASE
