"""The processes of a run: started, killed by their ids, and never left behind.

Gateways and the witness are killed by the kernel when the test's process ends, however that ends. The embedded
PostgreSQL is nobody's child; `stop_database` ends it whoever started it, and a janitor does so for a test that was
killed itself.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import aiohttp

from storage.cluster import Cluster
from tests.acceptance.kill.witness import end_with_parent

ROOT: Final = Path(__file__).resolve().parents[3]
SERVE: Final = (str(Path(sys.executable).with_name("sendpool")),)
START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 40.0
LIFE_S_MAX: Final = 5.0  # of a gateway that is to end at a point it may never come to
POLL_S: Final = 0.02
LOG_TAIL_BYTES: Final = 6_000


class HarnessFailed(Exception):
    """The run itself went wrong: a process did not start, or ended by itself."""


def free_port() -> int:
    """A port of this machine that nobody has. Somebody may take it before we do; then the start fails, loudly."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def environment(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would set the gateway; bytecode is cached, or each of its starts would compile everything."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SENDPOOL_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "pycache"), **extra}


class Gateway:
    """One life of the gateway."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        base_url: str,
        program: Sequence[str] = SERVE,
        extra: Mapping[str, str],
    ) -> None:
        self._url = base_url
        self.log = folder / "gateway.log"
        self.began_s = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*program, "serve", *arguments],
                cwd=ROOT,
                env=environment(folder, extra),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=functools.partial(end_with_parent, signal.SIGKILL),
            )

    async def wait_until_ready(self) -> None:
        """Until it accepts. Raises HarnessFailed when it ends instead."""
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.timeout(START_S_MAX):
            while True:
                if self.process.poll() is not None:
                    raise HarnessFailed(f"the gateway ended with {self.process.returncode}:\n{self.log_tail()}")
                try:
                    async with session.get(f"{self._url}/readyz") as answer:
                        if answer.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """-9, and gone when this returns."""
        if self.process.poll() is not None:
            raise HarnessFailed(f"the gateway had ended by itself with {self.process.returncode}:\n{self.log_tail()}")
        self.process.kill()
        self.process.wait()

    async def wait_until_killed(self) -> None:
        """Until it has ended by SIGKILL; when it takes too long, that is done here."""
        until_s = time.monotonic() + LIFE_S_MAX
        while self.process.poll() is None and time.monotonic() < until_s:
            await asyncio.sleep(POLL_S)
        if self.process.poll() is None:
            self.kill()
        if self.process.returncode != -signal.SIGKILL:
            raise HarnessFailed(f"the gateway ended with {self.process.returncode}:\n{self.log_tail()}")

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code, however long it takes up to the wall."""
        self.process.send_signal(sign)
        return await self.wait_until_gone()

    async def wait_until_gone(self) -> int:
        until_s = time.monotonic() + STOP_S_MAX
        while (code := self.process.poll()) is None:
            if time.monotonic() > until_s:
                raise HarnessFailed(f"the gateway does not end:\n{self.log_tail()}")
            await asyncio.sleep(POLL_S)
        return code

    def end(self) -> None:
        """Whatever state it is in; safe to call twice."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log_tail(self) -> str:
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")


class WitnessProcess:
    """The witness as the harness sees it."""

    def __init__(self, file: Path, process: subprocess.Popen[str], port: int) -> None:
        self.file, self.port = file, port
        self._process = process

    async def behave(self, body: bytes) -> None:
        url = f"http://127.0.0.1:{self.port}/behave"
        async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
            answer.raise_for_status()

    async def status(self) -> dict[str, float]:
        url = f"http://127.0.0.1:{self.port}/status"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found: dict[str, float] = await answer.json()
            return found


@contextmanager
def janitor(folder: Path) -> Iterator[None]:
    """See janitor.py."""
    keep = {name: os.environ[name] for name in ("SENDPOOL_TEST_KEEP",) if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.kill.janitor", str(folder)],
        cwd=ROOT,
        env=environment(folder, keep),
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@asynccontextmanager
async def witness_process(folder: Path, *, reports_url: str, secret: str, seed: int) -> AsyncIterator[WitnessProcess]:
    """Runs until the block ends."""
    file = folder / "witness.txt"
    arguments = ["--file", str(file), "--reports-url", reports_url, "--secret", secret, "--seed", str(seed)]
    with (folder / "witness.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.kill.witness", *arguments],
            cwd=ROOT,
            env=environment(folder, {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            raise HarnessFailed(f"the witness did not start:\n{(folder / 'witness.log').read_text()}")
        yield WitnessProcess(file, process, int(line))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def postmaster_pid(data: Path) -> int | None:
    """The process id of the PostgreSQL of this data folder; None while there is none."""
    try:
        pid = int((data / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        return pid if Path(f"/proc/{pid}/comm").read_text().strip() == "postgres" else None
    except (OSError, ValueError):
        return None


def database_url(data: Path) -> str:
    return Cluster(data, {}).url()


def stop_database(data: Path) -> None:
    """End the PostgreSQL of this data folder, whoever started it."""
    if data.exists() and not Cluster(data, {}).stop():
        raise HarnessFailed(f"PostgreSQL on {data} does not end")
