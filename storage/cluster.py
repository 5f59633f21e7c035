"""One folder of PostgreSQL data, and the server on it: made, started, found running, stopped. Blocks; for threads.

Invariants:
* At most one server runs on a folder. Each server inherits the lock on `postgres.lock` from whoever started it, and so
  do all its processes: the lock is free when the last of them is gone, whatever pid files say and whoever was killed.
* Only who holds the lock makes, repairs or starts anything; the lock passes to the server and is let go here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import structlog

from storage.programs import (
    ENVIRONMENT,
    Programs,
    ServerNotStarted,
    ServerUser,
    find_programs,
    make_runnable,
    run,
    server_user,
)

log = structlog.get_logger(__name__)

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",  # the Unix socket alone, in a folder that is ours alone
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "max_connections": "40",
    "shared_buffers": "192MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "wal_compression": "on",
    "max_parallel_workers_per_gather": "0",  # two cores are for the gateway and the journal
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%a ",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    # What people write and whom they write to never goes into a log: no statements, no parameters, no row data.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}
"""For two cores and a gigabyte. Who wants others brings a server of their own."""

SOCKET = ".s.PGSQL.5432"
SOCKET_BYTES_MAX = 107
SUPERUSER = "sendpool"
DATABASE = "sendpool"

INITDB_S_MAX = 120
STOP_STEPS: tuple[tuple[signal.Signals, int], ...] = ((signal.SIGINT, 15_000), (signal.SIGQUIT, 7_000))
POLL_MS = 20
LOG_BYTES_MAX = 8 * 1024 * 1024  # kept twice: the log and the one before


class Cluster:
    """The server of one data folder, as this process sees it."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        """Raises ServerNotStarted."""
        self._child: subprocess.Popen[bytes] | None = None
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ServerNotStarted(f"The data folder cannot be made: {error}") from error
        self._data_dir = data_dir.resolve()
        self.folder = self._data_dir / "postgres"
        self._settings = {**SETTINGS, **settings}
        self._log_path = self._data_dir / "postgres.log"
        self._socket_dir = _socket_dir(self.folder)

    def url(self, database: str = DATABASE) -> str:
        """For asyncpg, over the Unix socket."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._socket_dir), safe='')}"

    def start_if_down(self) -> bool:
        """Start the server if none is there; say whether it was started. Raises ServerNotStarted."""
        self.child_ended()  # else it stays in the table of processes
        try:
            lock = self._try_lock()
            if lock is None:
                self._rotate_log()
                return False
            try:
                if self._pid_of_file() is not None:  # started by hand, without the lock
                    return False
                self._start(lock)
            finally:
                os.close(lock)
        except OSError as error:
            raise ServerNotStarted(f"PostgreSQL cannot be started on {self.folder}: {error}") from error
        return True

    def is_child(self) -> bool:
        """Whether the server was started here, by this process, and runs."""
        return self._child is not None and self._child.poll() is None

    def child_ended(self) -> bool:
        """Whether the server started here has ended."""
        return self._child is not None and self._child.poll() is not None

    def log_tail(self) -> str:
        """The last lines of the server's log, for an error's text."""
        try:
            with self._log_path.open("rb") as file:
                file.seek(max(0, self._log_path.stat().st_size - 2_000))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-8:])

    def stop(self) -> bool:
        """End the server, whoever started it: fast, then at once. Whether it is gone."""
        pid = self._pid()
        for sign, wait_ms in STOP_STEPS:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            if self._wait_until_gone(pid, wait_ms):
                return True
        return False

    def let_go(self) -> None:
        """Leave the server running: it is nobody's child from now on."""
        if self._child is not None and self.is_child():
            self._child.returncode = 0  # else Popen complains, when it is collected, about a child that still runs
        self._child = None

    # --- The lock -----------------------------------------------------------------------------------------------------

    def _try_lock(self) -> int | None:
        """The lock's descriptor, to be closed; None while a server, or somebody about to start one, holds it."""
        lock = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _wait_until_gone(self, pid: int | None, wait_ms: int) -> bool:
        """Whether that server's last process is gone in time, or another's watcher has already put a new one there."""
        until = time.monotonic() + wait_ms / 1000
        while True:
            now = self._pid()
            lock = self._try_lock()
            if lock is not None:
                os.close(lock)
            if now != pid if now is not None else lock is not None:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(POLL_MS / 1000)

    def _pid(self) -> int | None:
        if self._child is not None and self.is_child():
            return self._child.pid
        return self._pid_of_file()

    def _pid_of_file(self) -> int | None:
        """The process that postmaster.pid names, if it is this folder's server and not another with its number."""
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split("\n", 1)[0])
            process = Path(f"/proc/{pid}")
            is_server = (process / "comm").read_text().strip() == "postgres"
            is_owner = process.stat().st_uid == self.folder.stat().st_uid
        except (OSError, ValueError):
            return None
        try:
            return pid if is_server and is_owner and (process / "cwd").samefile(self.folder) else None
        except PermissionError:  # root in a container may not look; the name and the owner have to do
            return pid
        except OSError:
            return None

    # --- Under the lock -----------------------------------------------------------------------------------------------

    def _start(self, lock: int) -> None:
        user = server_user(self.folder)
        major = self._major()
        programs = make_runnable(find_programs(major=major), user)
        if user is not None and not _needs_no_way_in(programs):
            self._data_dir.chmod(stat.S_IMODE(self._data_dir.stat().st_mode) | 0o011)  # to pass, not to look around
        if major is None:
            self._make_folder(programs, user, lock)
        elif user is not None and self.folder.stat().st_uid == 0:
            _give(self.folder, user)
        self._forget_killed_server()
        self._make_socket_dir(user)
        place = "." if self._socket_dir == self.folder else str(self._socket_dir)
        arguments = [programs.path("postgres"), "-D", _own_folder(self.folder, programs, user)]
        own = {
            "unix_socket_directories": place,
            "cluster_name": f"sendpool {self.folder}"[:63],
        }  # for who looks at `ps`
        for name, value in {**self._settings, **own}.items():
            arguments += ["-c", f"{name}={value}"]
        self._spawn(arguments, user, lock)

    def _major(self) -> int | None:
        """The PostgreSQL version that made the folder; None when there is no folder."""
        if not self.folder.exists():
            return None
        try:
            return int((self.folder / "PG_VERSION").read_text().split(".")[0])
        except (FileNotFoundError, ValueError) as error:
            raise ServerNotStarted(f"{self.folder} holds no PostgreSQL data; choose another data folder.") from error

    def _forget_killed_server(self) -> None:
        """Its pid may be another process's by now, and PostgreSQL would take that one for the server."""
        for folder in {self.folder, self._socket_dir}:
            for name in ("postmaster.pid", SOCKET, f"{SOCKET}.lock"):
                (folder / name).unlink(missing_ok=True)

    def _spawn(self, arguments: list[str], user: ServerUser | None, lock: int) -> None:
        """In a session of its own, so that Ctrl-C in a terminal reaches us and not the server before us."""
        log_file = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(log_file, "ab") as file:
            self._child = subprocess.Popen(
                arguments,
                cwd=self.folder,
                env=dict(ENVIRONMENT),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                umask=0o077,
                start_new_session=True,
                pass_fds=(lock,),
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=user.groups if user else None,
            )

    def _make_folder(self, programs: Programs, user: ServerUser | None, lock: int) -> None:
        """Under another name first, so that an interrupted one is made again."""
        half = self.folder.with_name("postgres.new")
        if half.exists():
            shutil.rmtree(half)
        half.mkdir(mode=0o700)
        if user is not None:
            os.chown(half, user.uid, user.gid)
        arguments = [programs.path("initdb"), "-D", _own_folder(half, programs, user), "-U", SUPERUSER]
        arguments += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
        try:
            made = run(arguments, folder=half, user=user, pass_fds=(lock,), seconds_max=INITDB_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise ServerNotStarted(f"initdb took longer than {INITDB_S_MAX} s in {half}.") from error
        if made.returncode != 0:
            raise ServerNotStarted(f"initdb failed in {half}:\n{made.stdout.strip()}")
        half.rename(self.folder)
        _sync_folder(self._data_dir)
        log.info("database folder made", folder=str(self.folder), user=user.name if user else "")

    def _make_socket_dir(self, user: ServerUser | None) -> None:
        if self._socket_dir == self.folder:
            return
        self._socket_dir.mkdir(mode=0o700, exist_ok=True)
        owner = user.uid if user else os.geteuid()
        if user is not None and self._socket_dir.lstat().st_uid == 0:
            os.chown(self._socket_dir, user.uid, user.gid, follow_symlinks=False)
        state = self._socket_dir.lstat()
        if state.st_uid != owner or state.st_mode & 0o7777 != 0o700 or self._socket_dir.is_symlink():
            raise ServerNotStarted(f"{self._socket_dir} is not ours; remove it, or choose a shorter data folder.")

    def _rotate_log(self) -> None:
        """Copied and cut, not renamed: the server has it open, for appending, so it goes on at the start."""
        try:
            if self._log_path.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(self._log_path, self._log_path.with_suffix(".log.1"))
                os.truncate(self._log_path, 0)
        except OSError as error:
            log.warning("server log not rotated", error=str(error))


def _socket_dir(folder: Path) -> Path:
    """The data folder itself, which is its owner's alone; a short one where the path is too long for a socket."""
    if len(os.fsencode(folder / SOCKET)) <= SOCKET_BYTES_MAX:
        return folder
    return Path("/tmp", f"sendpool-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}")  # noqa: S108 - checked


def _needs_no_way_in(programs: Programs) -> bool:
    """Whether a server can live below folders that its user cannot enter (/root).

    Started in its folder it stays there; before 16 the programs left it at once, and could not come back.
    """
    return programs.major >= 16


def _own_folder(folder: Path, programs: Programs, user: ServerUser | None) -> str:
    """How the programs, started in `folder`, are told of it."""
    return str(folder) if user is None or not _needs_no_way_in(programs) else "/proc/self/cwd"


def _give(folder: Path, user: ServerUser) -> None:
    for place, _, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
