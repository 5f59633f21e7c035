"""Whole processes: a gateway as it is started by hand, Plivo's own SDK to drive it, an endpoint to be called back."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import orjson
import plivo
import plivo.rest.client
import pytest

START_S_MAX = 60  # a first start makes a database; CI machines are slow
STOP_S_MAX = 40
WAIT_S_MAX = 20

QUIET_CARRIER = """
[carriers.simulated]
kind = "simulated"
latency_ms_min = 5
latency_ms_max = 10
report_ms_min = 50
report_ms_max = 100
undelivered_per_mille = 0
"""
"""The demo's carrier, quick and without bad luck."""


@pytest.fixture(scope="session", autouse=True)
def _bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the processes keep what they compile, or each start would compile everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("pycache")))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of its own; a full disk of the machine is not what is tested."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SENDPOOL_")}
    return {**kept, "SENDPOOL_LIMITS_DISK_FREE_MIB_MIN": "0", **more}


def sendpool(*arguments: str) -> list[str]:
    """Give the command line; `-m` rather than the script, so that it is surely this tree."""
    return [sys.executable, "-m", "gateway", *arguments]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Give a function that says what was measured, also where everything is well."""

    def say(words: str) -> None:
        with capsys.disabled():
            print(f"\n{words}")

    return say


class Gateway:
    """A `sendpool serve` of its own."""

    def __init__(
        self,
        data: Path,
        *arguments: str,
        config: str = QUIET_CARRIER,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> None:
        self.data = data
        self._log_path = data.with_name(f"{data.name}.log")
        self._config = data.with_name(f"{data.name}.toml")
        self._config.write_text(config, "utf-8")
        command = sendpool("serve", "--data", str(data), "--config", str(self._config), *arguments)
        self._arguments = [*before, *command]  # `before`: what starts it in its stead
        self._env = environment(**(env or {}))
        self._lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Gateway:
        """Start it and wait for its ready line."""
        self.spawn()
        self.wait_for_line("Sendpool listens on")
        return self

    def spawn(self) -> Gateway:
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments, env=self._env, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.data.parent
            )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))

    def wait_for_line(self, part: str, seconds_max: float = START_S_MAX) -> str:
        """Wait until it prints a line with `part` in it."""
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=0.1)
            except queue.Empty:
                assert self.process is not None
                assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
                continue
            self.said.append(line)
            if part in line:
                return line
        raise AssertionError(f"no line {part!r} within {seconds_max} s; said {self.said}:\n{self.log()}")

    def log(self) -> str:
        return self._log_path.read_text("utf-8", "replace")

    @property
    def demo(self) -> dict[str, str]:
        found: dict[str, str] = orjson.loads((self.data / "demo.json").read_bytes())
        return found

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds_max: float = STOP_S_MAX) -> int:
        assert self.process is not None
        return self.process.wait(seconds_max)

    def stop(self) -> int:
        """SIGTERM, as a service manager does; gives the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """Leave nothing behind, however the test went."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        end_database(self.data)


def database_pids(data: Path) -> list[int]:
    """Give the processes of the embedded PostgreSQL of `data`, whatever their pid files say."""
    folder = (data / "postgres").resolve()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().startswith("postgres") and (process / "cwd").resolve() == folder:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def end_database(data: Path) -> None:
    for pid in database_pids(data):
        try:
            os.kill(pid, signal.SIGQUIT)
        except ProcessLookupError:
            continue


StartGateway = Callable[..., Gateway]


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Give a function that starts a gateway in a folder below this test's own."""
    begun: list[Gateway] = []

    def start(name: str = "data", *arguments: str, wait: bool = True, **more: Any) -> Gateway:
        gateway = Gateway(tmp_path / name, *(arguments or ("--demo", "--port", "0")), **more)
        begun.append(gateway)
        return gateway.start() if wait else gateway.spawn()

    yield start
    for gateway in begun:
        gateway.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A demo gateway for all tests of a module that leave it as it is."""
    gateway = Gateway(tmp_path_factory.mktemp("running") / "data", "--demo", "--port", "0")
    try:
        yield gateway.start()
    finally:
        gateway.end()


def run(
    *arguments: str, data: Path, env: Mapping[str, str] | None = None, config: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command beside a gateway, or without one; with the gateway's settings unless others are named."""
    file = data.with_name(config or f"{data.name}.toml")
    if not file.exists():
        file.write_text(QUIET_CARRIER, "utf-8")
    return subprocess.run(
        sendpool(*arguments, "--data", str(data), "--config", str(file)),
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=START_S_MAX,
        cwd=data.parent,
        check=False,
    )


# --- The SDK ----------------------------------------------------------------------------------------------------------


def client_for(demo: Mapping[str, str]) -> plivo.RestClient:
    """Give Plivo's client, pointed at a gateway; it takes its address from these four names and from nowhere else."""
    for name in (
        "PLIVO_API_BASE_URI",
        "API_VOICE_BASE_URI",
        "API_VOICE_BASE_URI_FALLBACK_1",
        "API_VOICE_BASE_URI_FALLBACK_2",
    ):
        setattr(plivo.rest.client, name, demo["base_url"] + "/v1/Account")
    return plivo.RestClient(demo["auth_id"], demo["auth_token"])


@pytest.fixture
def client(running: Gateway) -> plivo.RestClient:
    return client_for(running.demo)


def wait_until(true: Callable[[], Any], what: str, seconds_max: float = WAIT_S_MAX) -> Any:
    """Ask again and again until it is so; gives the answer."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        answer = true()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds_max} s: {what}")


def wait_for_state(client: plivo.RestClient, message_uuid: str, *states: str) -> Any:
    """Wait until a message is in one of these states; gives the message."""

    def found() -> Any:
        message = client.messages.get(message_uuid)
        return message if message.message_state in states else None

    return wait_until(found, f"{message_uuid} is {' or '.join(states)}")


# --- An account's endpoint --------------------------------------------------------------------------------------------


class Called(NamedTuple):
    """One callback as it came."""

    method: str
    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]


class Endpoint:
    """An account's endpoint on this machine: keeps what it is told, answers as it is set to."""

    def __init__(self) -> None:
        self.called: list[Called] = []
        self.status = 200
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                self._take("POST", dict(parse_qsl(body, keep_blank_values=True)))

            def do_GET(self) -> None:
                self._take("GET", dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)))

            def _take(self, method: str, params: dict[str, str]) -> None:
                url = f"http://{self.headers['Host']}{self.path}"
                endpoint.called.append(Called(method, url, dict(self.headers.items()), params))
                self.send_response(endpoint.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/status"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def of(self, message_uuid: str) -> list[Called]:
        """Give what was told of a message, each callback once, in the order of its sequence."""
        by_id = {each.headers["Webhook-Id"]: each for each in self.called if each.params["MessageUUID"] == message_uuid}
        return sorted(by_id.values(), key=lambda each: int(each.headers["Sendpool-Sequence"]))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    there = Endpoint()
    yield there
    there.close()
