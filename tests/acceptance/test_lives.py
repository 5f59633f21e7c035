"""The lives of a gateway: started, stopped, started again, taken over; with its own PostgreSQL and with another."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import plivo
import pytest

from storage.embedded import embedded_server
from tests.acceptance.conftest import (
    QUIET_CARRIER,
    StartGateway,
    client_for,
    database_pids,
    end_database,
    run,
    wait_for_state,
    wait_until,
)

SLOW_CARRIER = QUIET_CARRIER.replace("latency_ms_min = 5", "latency_ms_min = 1500").replace(
    "latency_ms_max = 10", "latency_ms_max = 1500"
)
STALLED_CARRIER = QUIET_CARRIER + 'stalls_s = ["0-3600"]\n'


def send(client: plivo.RestClient, powerpack_uuid: str, recipient: str, **more: object) -> str:
    sent = client.messages.create(powerpack_uuid=powerpack_uuid, dst=recipient, text="Hello", **more)
    return str(sent.message_uuid[0])


def test_a_second_start_finds_everything_again(start_gateway: StartGateway) -> None:
    first = start_gateway()
    demo = first.demo
    client = client_for(demo)
    delivered = send(client, demo["powerpack_uuid"], "+14155550140")
    before = wait_for_state(client, delivered, "delivered")
    client.powerpacks.create(name="kept")
    assert first.stop() == 0
    assert database_pids(first.data) == []

    second = start_gateway()
    again = second.demo
    assert {**again, "base_url": ""} == {**demo, "base_url": ""}
    client = client_for(again)
    after = client.messages.get(delivered)
    assert (after.message_state, after.from_number) == ("delivered", before.from_number)
    assert "kept" in [each.name for each in client.powerpacks.list().objects]
    wait_for_state(client, send(client, again["powerpack_uuid"], "+14155550141"), "delivered")
    # The recipient of before hears from the same number: its thread was kept.
    assert client.messages.get(send(client, again["powerpack_uuid"], "+14155550140")).from_number == before.from_number


def test_what_waits_leaves_after_a_restart(start_gateway: StartGateway) -> None:
    first = start_gateway("data", config=STALLED_CARRIER)
    client = client_for(first.demo)
    waiting = [send(client, first.demo["powerpack_uuid"], f"+14155550{line}") for line in range(150, 160)]
    assert {client.messages.get(uuid).message_state for uuid in waiting} == {"queued"}
    assert first.stop() == 0
    second = start_gateway()
    client = client_for(second.demo)
    for uuid in waiting:
        wait_for_state(client, uuid, "delivered")


def test_a_message_expires_when_its_time_is_over(start_gateway: StartGateway) -> None:
    gateway = start_gateway("data", config=STALLED_CARRIER)
    client = client_for(gateway.demo)
    short = send(client, gateway.demo["powerpack_uuid"], "+14155550142", message_expiry=5)
    long = send(client, gateway.demo["powerpack_uuid"], "+12125550142")
    message = wait_for_state(client, short, "failed", "sent", "delivered")
    assert (message.message_state, message.error_code) == ("failed", "420")
    assert client.messages.get(long).message_state == "queued"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_waits_for_the_carriers_answers_and_leaves_nothing_behind(
    start_gateway: StartGateway, number: signal.Signals
) -> None:
    gateway = start_gateway("data", config=SLOW_CARRIER)
    client = client_for(gateway.demo)
    handed_over = [
        send(client, gateway.demo["powerpack_uuid"], f"+1{area}5550143") for area in ("206", "212", "312", "415")
    ]
    time.sleep(0.5)  # they are with the carrier, which takes 1.5 s to answer
    gateway.signal(number)
    assert gateway.wait() == 0, gateway.log()
    assert database_pids(gateway.data) == []
    assert "stopping took" not in gateway.log()

    again = start_gateway()
    client = client_for(again.demo)
    for message in [client.messages.get(uuid) for uuid in handed_over]:
        assert message.message_state in ("sent", "delivered"), "its answer was not waited for, or not stored"
        assert not message.possible_duplicate


def test_a_second_signal_ends_it_at_once(start_gateway: StartGateway) -> None:
    gateway = start_gateway("data", config=SLOW_CARRIER.replace("1500", "9000"))
    send(client_for(gateway.demo), gateway.demo["powerpack_uuid"], "+14155550144")
    time.sleep(0.5)
    gateway.signal(signal.SIGINT)
    time.sleep(0.5)
    began = time.monotonic()
    gateway.signal(signal.SIGINT)
    assert gateway.wait(5) == 4
    assert time.monotonic() - began < 2
    # Its PostgreSQL may be left; the next start uses it, and stops it at its own end.
    again = start_gateway()
    assert again.stop() == 0
    assert database_pids(again.data) == []


def test_a_killed_gateway_is_started_again_on_what_it_left(start_gateway: StartGateway) -> None:
    first = start_gateway("data", config=STALLED_CARRIER)
    client = client_for(first.demo)
    waiting = send(client, first.demo["powerpack_uuid"], "+14155550145")
    first.signal(signal.SIGKILL)
    first.wait()
    second = start_gateway()
    wait_for_state(client_for(second.demo), waiting, "delivered")
    assert second.stop() == 0
    assert database_pids(second.data) == []


def test_a_port_in_use_costs_nobody_anything(start_gateway: StartGateway) -> None:
    first = start_gateway()
    port = first.demo["base_url"].rpartition(":")[2]
    second = run("serve", "--port", port, data=first.data)
    assert second.returncode == 1
    # The log has a thread of its own, so its last line may come after this one.
    assert f"sendpool: cannot listen on 127.0.0.1 port {port}: Address already in use" in second.stderr.splitlines()
    assert "Traceback" not in second.stderr
    wait_for_state(
        client_for(first.demo), send(client_for(first.demo), first.demo["powerpack_uuid"], "+14155550146"), "delivered"
    )


def test_a_second_gateway_takes_over_and_the_first_one_goes(start_gateway: StartGateway) -> None:
    first = start_gateway()
    demo = first.demo
    second = start_gateway()
    assert first.wait() == 3
    assert "taken over" in first.log()
    assert second.demo["base_url"] != demo["base_url"]
    client = client_for(second.demo)
    wait_for_state(client, send(client, demo["powerpack_uuid"], "+14155550147"), "delivered")
    assert second.stop() == 0
    assert database_pids(second.data) == []


def test_told_not_to_take_over_it_says_who_owns_the_database(start_gateway: StartGateway) -> None:
    first = start_gateway()
    second = run("serve", "--no-takeover", "--port", "0", data=first.data)
    assert second.returncode == 1
    assert first.process is not None
    assert f"process {first.process.pid}" in second.stderr
    assert first.demo["base_url"] in second.stderr
    wait_for_state(
        client_for(first.demo), send(client_for(first.demo), first.demo["powerpack_uuid"], "+14155550148"), "delivered"
    )


def test_before_it_is_ready_it_says_so(start_gateway: StartGateway) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gateway = start_gateway("data", "--demo", "--port", str(port), wait=False)
    seen: set[tuple[str, int]] = set()

    def look() -> bool:
        for path in ("/healthz", "/readyz", "/v1/Account/MA/Message/"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    seen.add((path, answer.status))
            except urllib.error.HTTPError as error:
                seen.add((path, error.code))
            except OSError:
                return False
        return ("/readyz", 200) in seen

    wait_until(look, "ready", 60)
    assert {("/healthz", 200), ("/readyz", 503), ("/v1/Account/MA/Message/", 503)} <= seen
    gateway.wait_for_line("Sendpool listens on")


def test_stopped_while_it_starts_it_leaves_nothing_behind(start_gateway: StartGateway) -> None:
    gateway = start_gateway("data", "--demo", "--port", "0", wait=False)
    wait_until(lambda: database_pids(gateway.data), "PostgreSQL is being started", 30)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0, gateway.log()
    assert database_pids(gateway.data) == []
    assert start_gateway().stop() == 0


def test_stopping_that_takes_too_long_is_cut_short(start_gateway: StartGateway) -> None:
    gateway = start_gateway("data", config=SLOW_CARRIER.replace("1500", "9000"), env={"SENDPOOL_DRAIN_MS_MAX": "1000"})
    send(client_for(gateway.demo), gateway.demo["powerpack_uuid"], "+14155550151")
    time.sleep(0.5)
    began = time.monotonic()
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(10) == 4
    assert 0.9 < time.monotonic() - began < 3
    assert "stopping took over 1000 ms, ended at once" in gateway.log()


def test_a_database_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    url = "postgres://sendpool:canary@127.0.0.1:9/none"
    ended = run("serve", "--port", "0", data=tmp_path / "data", env={"SENDPOOL_DATABASE_URL": url})
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]  # beside what the log says of the start
    assert re.fullmatch(r"sendpool: The database .*Connection refused.*", last), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "canary" not in ended.stderr


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "data.toml"
    config.write_text("[server]\nprot = 1\n")
    ended = run("serve", data=tmp_path / "data")
    assert ended.returncode == 2
    assert ended.stderr == f"sendpool: {config} [server]: there is no setting 'prot'; is it 'port'?\n"
    assert not (tmp_path / "data").exists()


# --- A PostgreSQL of one's own ----------------------------------------------------------------------------------------


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL that is not the gateway's."""
    folder = tmp_path / "another"
    ready, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with embedded_server(folder) as server:
            found.append(server.url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    yield found[0]
    stop.set()
    thread.join()
    end_database(folder)


def test_it_works_with_a_database_of_ones_own_and_leaves_it_running(
    start_gateway: StartGateway, database_url: str, tmp_path: Path
) -> None:
    env = {"SENDPOOL_DATABASE_URL": database_url}
    first = start_gateway(env=env)
    client = client_for(first.demo)
    uuid = send(client, first.demo["powerpack_uuid"], "+14155550149")
    wait_for_state(client, uuid, "delivered")
    assert first.stop() == 0
    assert not (first.data / "postgres").exists()
    assert database_pids(tmp_path / "another"), "it is not ours to stop"
    second = start_gateway(env=env)
    assert client_for(second.demo).messages.get(uuid).message_state == "delivered"
