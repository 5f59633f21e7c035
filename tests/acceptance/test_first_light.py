"""First light: a message from curl or Plivo's SDK to a carrier, a report, and the account's endpoint; for real."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import plivo
import pytest
from plivo.utils import validate_signature
from plivo.utils.signature_v3 import validate_v3_signature

from tests.acceptance.conftest import Endpoint, Gateway, client_for, wait_for_state, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def send(client: plivo.RestClient, gateway: Gateway, recipient: str, text: str = "Hello", **more: Any) -> list[str]:
    sent = client.messages.create(powerpack_uuid=gateway.demo["powerpack_uuid"], dst=recipient, text=text, **more)
    return list(sent.message_uuid)


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


# --- The demo ---------------------------------------------------------------------------------------------------------


def test_the_curl_line_works_exactly_as_printed(running: Gateway, client: plivo.RestClient) -> None:
    assert shutil.which("curl"), "the line that is printed needs curl, and so does this test"
    (line,) = [line for line in running.said if line.startswith("curl ")] or [running.wait_for_line("curl ")]
    answered = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20, check=False)
    assert answered.returncode == 0, answered.stderr
    body = orjson.loads(answered.stdout)
    assert body["message"] == "message(s) queued"
    (message_uuid,) = body["message_uuid"]
    assert wait_for_state(client, message_uuid, "delivered").error_code == "000"


def test_the_demos_file_is_for_its_owner_alone(running: Gateway) -> None:
    assert stat.S_IMODE((running.data / "demo.json").stat().st_mode) == 0o600
    assert set(running.demo) == {"base_url", "auth_id", "auth_token", "powerpack_uuid", "application_id"}


def test_it_is_alive_ready_and_counts(running: Gateway, client: plivo.RestClient) -> None:
    base_url = running.demo["base_url"]
    wait_for_state(client, send(client, running, "+12125550111")[0], "delivered")
    assert get(f"{base_url}/healthz")[0] == 200
    status, body = get(f"{base_url}/readyz")
    assert (status, orjson.loads(body)["accepting"], orjson.loads(body)["sending"]) == (200, True, True)
    metrics = get(f"{base_url}/metrics")[1].decode()
    assert re.search(r'^gateway_handovers_total\{carrier="simulated"\} [1-9]', metrics, re.MULTILINE)
    assert re.search(r'^gateway_accepted_messages_total\{tier="area"\} [1-9]', metrics, re.MULTILINE)


def test_secrets_stand_in_no_log_and_no_metric(running: Gateway, client: plivo.RestClient) -> None:
    canary, recipient = "a canary in a text", "+13125550177"
    wait_for_state(client, send(client, running, recipient, canary)[0], "delivered")
    everything = running.log() + get(f"{running.demo['base_url']}/metrics")[1].decode()
    for secret in (canary, recipient, recipient[1:], running.demo["auth_token"]):
        assert secret not in everything


# --- Sending with the SDK ---------------------------------------------------------------------------------------------


def test_a_message_is_delivered_from_a_number_of_the_recipients_area_code(
    running: Gateway, client: plivo.RestClient
) -> None:
    for recipient in ("+14155550133", "+12065550133", "+15145550133"):
        message = wait_for_state(client, send(client, running, recipient)[0], "delivered")
        assert message.from_number[1:4] == recipient[2:5]
        assert message.to_number == recipient[1:]
        assert message.units == 1


def test_the_endpoint_is_told_every_state_in_order_with_valid_signatures(
    running: Gateway, client: plivo.RestClient, endpoint: Endpoint
) -> None:
    (message_uuid,) = send(client, running, "+14155550134", url=endpoint.url + "?from=test")
    wait_until(lambda: [each.params["Status"] for each in endpoint.of(message_uuid)][-1:] == ["delivered"], "told")
    told = endpoint.of(message_uuid)
    assert [each.params["Status"] for each in told] == ["queued", "sent", "delivered"]
    assert [each.headers["Sendpool-Sequence"] for each in told] == ["1", "2", "3"]
    token = running.demo["auth_token"]
    for each in told:
        headers = each.headers
        assert validate_signature(
            each.url, headers["X-Plivo-Signature-V2-Nonce"], headers["X-Plivo-Signature-V2"], token
        )
        assert validate_v3_signature(
            each.method, each.url, headers["X-Plivo-Signature-V3-Nonce"], token, headers["X-Plivo-Signature-V3"],
            dict(each.params),
        )  # fmt: skip
        assert not validate_signature(
            each.url, headers["X-Plivo-Signature-V2-Nonce"], headers["X-Plivo-Signature-V2"], token + "x"
        )
        assert (each.params["To"], each.params["PowerpackUUID"]) == ("14155550134", running.demo["powerpack_uuid"])


def test_the_endpoint_is_told_by_get_if_it_wants(
    running: Gateway, client: plivo.RestClient, endpoint: Endpoint
) -> None:
    (message_uuid,) = send(client, running, "+14155550135", url=endpoint.url, method="GET")
    wait_until(lambda: any(each.params["Status"] == "delivered" for each in endpoint.of(message_uuid)), "told")
    told = endpoint.of(message_uuid)
    assert {each.method for each in told} == {"GET"}
    for each in told:
        headers = each.headers
        assert validate_v3_signature(
            "GET", each.url, headers["X-Plivo-Signature-V3-Nonce"], running.demo["auth_token"],
            headers["X-Plivo-Signature-V3"], {},
        )  # fmt: skip


def test_joined_recipients_get_a_message_each_in_their_order(running: Gateway, client: plivo.RestClient) -> None:
    recipients = [f"1{area}55501{line}" for area in ("206", "212", "312", "415") for line in range(40, 65)]
    uuids = send(client, running, "<".join(recipients))
    assert len(uuids) == len(set(uuids)) == 100
    assert [client.messages.get(uuid).to_number for uuid in uuids[::9]] == recipients[::9]
    wait_for_state(client, uuids[0], "delivered")


def test_a_thousand_recipients_are_one_request(running: Gateway, client: plivo.RestClient) -> None:
    recipients = [f"1{area}55530{line:02}" for area in ("206", "212", "303", "305", "312") for line in range(100)]
    recipients += [f"1{area}55531{line:02}" for area in ("206", "212", "303", "305", "312") for line in range(100)]
    uuids = send(client, running, "<".join(recipients), message_expiry=3_600)
    assert len(set(uuids)) == 1_000


def test_a_wrong_recipient_is_named_and_the_others_are_sent(running: Gateway, client: plivo.RestClient) -> None:
    sent = client.messages.create(
        powerpack_uuid=running.demo["powerpack_uuid"], dst="+14155550136<1111<+14155550136", text="Hello"
    )
    assert len(sent.message_uuid) == 1
    assert sent.invalid_number == ["1111"]


def test_what_is_wrong_raises_what_the_sdk_documents(running: Gateway, client: plivo.RestClient) -> None:
    with pytest.raises(plivo.exceptions.ValidationError, match="not a valid"):
        send(client, running, "1111")
    with pytest.raises(plivo.exceptions.ResourceNotFoundError):
        client.messages.get("0197a000-0000-7000-8000-000000000001")
    stranger = client_for({**running.demo, "auth_token": "wrong"})
    with pytest.raises(plivo.exceptions.AuthenticationError):
        stranger.messages.get("0197a000-0000-7000-8000-000000000001")


def test_messages_are_listed_newest_first_and_filtered(running: Gateway, client: plivo.RestClient) -> None:
    uuids = [send(client, running, f"+161755501{line}")[0] for line in range(60, 65)]
    for uuid in uuids:
        wait_for_state(client, uuid, "delivered")
    newest = client.messages.list(limit=5)
    assert [message.message_uuid for message in newest.objects] == uuids[::-1]
    page = client.messages.list(limit=2, offset=1, message_state="delivered")
    assert [message.message_uuid for message in page.objects] == uuids[::-1][1:3]
    assert client.messages.list(to_number="16175550162").objects[0].message_uuid == uuids[2]


# --- Powerpacks -------------------------------------------------------------------------------------------------------


def test_a_powerpack_can_be_made_filled_used_and_emptied(running: Gateway, client: plivo.RestClient) -> None:
    client.powerpacks.create(name="made by test", sticky_sender=True, local_connect=True)
    (uuid,) = [each.uuid for each in client.powerpacks.list().objects if each.name == "made by test"]
    powerpack = client.powerpacks.get(uuid)
    for number in ("14085550101", "17025550101", "17025550102"):
        assert powerpack.add_number(number).number == number
    assert powerpack.count_numbers() == 3
    assert {each.number for each in powerpack.list_numbers().objects} == {"14085550101", "17025550101", "17025550102"}

    sent = client.messages.create(powerpack_uuid=uuid, dst="+17025550177", text="Hello")
    assert wait_for_state(client, sent.message_uuid[0], "delivered").from_number in ("17025550101", "17025550102")

    powerpack.remove_number("17025550101")
    powerpack.remove_number("17025550102")
    assert powerpack.count_numbers() == 1
    sent = client.messages.create(powerpack_uuid=uuid, dst="+17025550177", text="Hello again")
    assert wait_for_state(client, sent.message_uuid[0], "delivered").from_number == "14085550101"
    powerpack.delete()
    with pytest.raises(plivo.exceptions.ResourceNotFoundError):
        client.powerpacks.get(uuid)


def test_sticky_sender_and_local_connect_can_be_switched(running: Gateway, client: plivo.RestClient) -> None:
    client.powerpacks.create(name="switched", sticky_sender=True, local_connect=True)
    (uuid,) = [each.uuid for each in client.powerpacks.list().objects if each.name == "switched"]
    powerpack = client.powerpacks.get(uuid)
    numbers = [f"1{area}5550103" for area in ("201", "203", "239", "240", "248", "252", "256", "260")]
    for number in numbers:
        powerpack.add_number(number)

    def sender_of(recipient: str) -> str:
        sent = client.messages.create(powerpack_uuid=uuid, dst=recipient, text="Hello")
        return str(client.messages.get(sent.message_uuid[0]).from_number)

    # Local Connect: the one number of the recipient's area code. Sticky Sender: the same again, whatever is idle.
    assert sender_of("+12485550177") == "12485550103"
    assert {sender_of("+12015550178") for _ in range(3)} == {"12015550103"}

    powerpack.update(params={"sticky_sender": False, "local_connect": False})
    assert (client.powerpacks.get(uuid).sticky_sender, client.powerpacks.get(uuid).local_connect) == (False, False)
    # Neither: least recently used first, so eight messages to one recipient come from more than one number.
    assert len({sender_of("+12485550179") for _ in range(8)}) > 1

    powerpack.update(params={"sticky_sender": True, "local_connect": False})
    assert len({sender_of("+12485550180") for _ in range(4)}) == 1


# --- The examples -----------------------------------------------------------------------------------------------------


def test_the_examples_do_what_they_say(running: Gateway) -> None:
    demo_file = str(running.data / "demo.json")
    endpoint = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "callback_endpoint.py"), "--port", "0", "--demo-file", demo_file],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert endpoint.stdout is not None
        url = endpoint.stdout.readline().strip()
        sent = subprocess.run(
            [sys.executable, str(EXAMPLES / "send.py"), "+14165550177<+15145550178", "Hello",
             "--callback", f"{url}status", "--demo-file", demo_file],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
        lines = sent.stdout.splitlines()
        assert len(lines) == 2
        assert all(line.endswith(": delivered") for line in lines)
        told = [endpoint.stdout.readline() for _ in range(6)]
        assert sum("to 14165550177: delivered" in line for line in told) == 1
        assert sum("to 15145550178: delivered" in line for line in told) == 1
    finally:
        endpoint.kill()
        endpoint.wait()
        if endpoint.stdout is not None:
            endpoint.stdout.close()


# --- From a number that is named --------------------------------------------------------------------------------------


def test_a_message_is_sent_from_the_number_that_is_named(
    running: Gateway, client: plivo.RestClient, endpoint: Endpoint
) -> None:
    """One that is in the powerpack, and a toll-free number that is in none."""
    powerpack = client.powerpacks.get(running.demo["powerpack_uuid"])
    member = powerpack.find_number("16175550100")  # of an area code where no other test leaves a queue
    for src in (member.number, "+18885550100"):
        sent = client.messages.create(src=src, dst="+12125550144", text="Hello", url=endpoint.url)
        (message_uuid,) = sent.message_uuid
        message = wait_for_state(client, message_uuid, "delivered")
        assert (message.from_number, message.to_number) == (src.removeprefix("+"), "12125550144")
        assert message.powerpack_id is None
        wait_until(lambda: len(endpoint.of(message_uuid)) == 3, "told")  # noqa: B023 - called at once
        assert {each.params["PowerpackUUID"] for each in endpoint.of(message_uuid)} == {""}
    with pytest.raises(plivo.exceptions.ValidationError, match="caller ID is not allowed"):
        client.messages.create(src="+14155559999", dst="+12125550144", text="Hello")
