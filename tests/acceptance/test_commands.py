"""The commands: beside a running gateway, which hears of them at once, and without one."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import plivo
import pytest

from tests.acceptance.conftest import Gateway, client_for, database_pids, end_database, run, wait_for_state, wait_until


def created(data: Path, name: str = "Example Inc.") -> dict[str, str]:
    made = run("accounts", "create", name, data=data)
    assert made.returncode == 0, made.stderr
    match = re.fullmatch(r"auth_id:    (MA[A-Z0-9]{18})\nauth_token: (\S{40})\n", made.stdout)
    assert match is not None, made.stdout
    return {"auth_id": match[1], "auth_token": match[2]}


def test_without_a_gateway_they_start_its_database_and_stop_it_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    try:
        account = created(data)
        assert database_pids(data) == []
        added = run(
            "numbers", "add", "+14155550101", "--type", "longcode", "--carrier", "simulated", "--campaign", "approved",
            data=data,
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
        listed = run("numbers", "list", data=data).stdout.splitlines()
        assert listed[1].split("\t")[:5] == ["+14155550101", "longcode", "US", "simulated", "approved"]
        accounts = run("accounts", "list", data=data).stdout
        assert account["auth_id"] in accounts
        assert account["auth_token"] not in accounts
        assert database_pids(data) == []
    finally:
        end_database(data)


def test_a_running_gateway_hears_of_new_accounts_and_numbers_at_once(running: Gateway) -> None:
    account = created(running.data)
    client = client_for({**account, "base_url": running.demo["base_url"]})

    def powerpack_uuid() -> str:
        try:
            client.powerpacks.create(name="mine")
        except plivo.exceptions.AuthenticationError:
            return ""
        return str(client.powerpacks.list().objects[0].uuid)

    uuid = wait_until(powerpack_uuid, "the new account is let in", 5)
    added = run(
        "numbers", "add", "+19075550199", "--type", "longcode", "--carrier", "simulated",
        "--account", account["auth_id"], "--powerpack", uuid, data=running.data,
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    wait_until(lambda: client.powerpacks.get(uuid).count_numbers() == 1, "the new number is there", 5)
    sent = client.messages.create(powerpack_uuid=uuid, dst="+19075550177", text="Hello")
    assert wait_for_state(client, sent.message_uuid[0], "delivered").from_number == "19075550199"


def test_the_database_of_a_running_gateway_is_not_stopped(running: Gateway) -> None:
    before = database_pids(running.data)
    assert run("accounts", "list", data=running.data).returncode == 0
    assert set(before) & set(database_pids(running.data))


def test_resolve_says_which_number_and_why_and_sends_nothing(running: Gateway) -> None:
    answered = run("resolve", "+14155550177", "--powerpack", running.demo["powerpack_uuid"], data=running.data)
    assert answered.returncode == 0, answered.stderr
    assert '"tier": "area"' in answered.stdout
    assert "+1415" in answered.stdout or "1415555" in answered.stdout
    client = client_for(running.demo)
    assert not client.messages.list(to_number="14155550177").objects


def test_a_paused_carrier_keeps_what_waits_until_it_is_cancelled_or_resumed(running: Gateway) -> None:
    def told(command: str) -> str:
        done = run("carriers", command, *([] if command == "list" else ["simulated"]), data=running.data)
        assert done.returncode == 0, done.stderr
        return done.stdout

    client = client_for(running.demo)

    def send() -> str:
        sent = client.messages.create(
            powerpack_uuid=running.demo["powerpack_uuid"], dst="+14155550166", text="Hello"
        )  # fmt: skip
        return str(sent.message_uuid[0])

    assert told("pause") == "simulated is paused\n"
    try:
        assert told("list").splitlines()[1].split("\t")[:4] == ["simulated", "simulated", "1000", "yes"]
        waiting = [send() for _ in range(3)]
        assert told("cancel") == "3 messages cancelled; 0 had been handed over without an answer yet\n"
        assert {client.messages.get(each).error_code for each in waiting} == {"300"}
        later = send()
    finally:
        assert told("resume") == "simulated is resumed\n"
    wait_for_state(client, later, "delivered")
    refused = run("carriers", "pause", "nobody", data=running.data)
    assert refused.returncode == 1
    assert "the settings have no carrier 'nobody'" in refused.stderr


def test_a_number_that_cannot_be_is_refused_in_one_line(running: Gateway) -> None:
    refused = run("numbers", "add", "4155550101", "--type", "longcode", "--carrier", "simulated", data=running.data)
    assert refused.returncode == 1
    assert refused.stderr == "sendpool: '4155550101' is no number in E.164, such as +14155550100\n"


def test_the_doctor_sees_the_gateway_and_what_is_wrong(running: Gateway) -> None:
    examined = run("doctor", data=running.data)
    assert re.search(r"^ok    gateway: process \d+ .* is at work$", examined.stdout, re.MULTILINE), examined.stdout
    assert re.search(r"^ok    numbers: [0-9,]+ longcode, 3 shortcode, 7 tollfree$", examined.stdout, re.MULTILINE)
    assert examined.returncode == 0, examined.stdout


def test_the_doctor_knows_a_demo_without_being_told(running: Gateway) -> None:
    (running.data.with_name("empty.toml")).write_text("")
    examined = run("doctor", data=running.data, config="empty.toml")
    assert examined.returncode == 0, examined.stdout
    assert "note  settings: a demo" in examined.stdout
    assert "reaches nobody" in examined.stdout


def test_the_doctor_says_so_when_there_is_no_carrier(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (tmp_path / "data.toml").write_text("")
    try:
        examined = run("doctor", data=data)
    finally:
        end_database(data)
    assert examined.returncode == 1
    assert "BAD   carriers: none" in examined.stdout


@pytest.mark.parametrize(
    "command", ["serve", "accounts", "numbers", "carriers", "resolve", "doctor", "settings", "version"]
)
def test_every_command_explains_itself(command: str) -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "gateway", command, "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    assert helped.returncode == 0
    assert "Usage:" in helped.stdout


def test_it_does_not_run_without_its_assertions() -> None:
    refused = subprocess.run(
        [sys.executable, "-O", "-m", "gateway", "version"], capture_output=True, text=True, timeout=30, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("sendpool: python -O is not supported")


def test_it_knows_its_version_and_its_settings() -> None:
    def said(command: str) -> str:
        arguments = [sys.executable, "-m", "gateway", command]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True).stdout

    assert said("version").strip() == importlib.metadata.version("sendpool")
    page = Path(__file__).resolve().parents[2] / "docs/settings.md"
    assert said("settings") == page.read_text("utf-8")
