"""Scenarios for Locust: bulk submission, single sends, report and inbound stream. Run by `python -m loadtests.locusts`.

Runs inside Locust's own environment (requirements-load.lock). The file LOAD_TARGET names says where to send, LOAD_RATE
how many requests a second all users make together; a user that is still waiting for an answer makes none (closed loop).
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from locust import FastHttpUser, constant_throughput, events, task

from loadtests.target import Target, read_target
from loadtests.traffic import (
    JSON,
    NDJSON,
    bulk_body,
    find_fault,
    inbound_body,
    last_to_leave,
    message_body,
    recipients,
    report,
    reports_body,
)

TARGET: Target = read_target(Path(os.environ["LOAD_TARGET"]))
USERS = int(os.environ["LOAD_USERS"])
RATE = float(os.environ["LOAD_RATE"])
LINES = int(os.environ["LOAD_LINES"])
STOCK_EACH = 500
HANDED_S_MAX = 60
SETTLED_S = 2.0

log = logging.getLogger(__name__)


class Sender(FastHttpUser):
    """What all have in common: an equal part of the rate, credentials, recipients of their own."""

    abstract = True
    host = TARGET.base_url
    wait_time = constant_throughput(RATE / USERS)
    connection_timeout = 5.0
    network_timeout = 30.0

    def on_start(self) -> None:
        self.chance = random.Random(random.randrange(1 << 30))
        self.to = recipients(self.chance)

    def post(self, mode: str, path: str, body: bytes, media_type: str, *, name: str, secret: bool = False) -> Any:
        """One request; anything but the answer hoped for is a failure. Gives the body, None after a failure."""
        headers = {"Content-Type": media_type}
        headers.update({"X-Sendpool-Secret": TARGET.secret} if secret else {"Authorization": TARGET.authorization})
        with self.client.post(path, data=body, headers=headers, name=name, catch_response=True) as answer:
            content: bytes = answer.content or b""
            if answer.status_code == 0:  # no answer at all: it has noted why
                return None
            fault = find_fault(mode, answer.status_code, content)
            if fault:
                answer.failure(fault)
                return None
            answer.success()
        return content


class SingleSends(Sender):
    """One message to one recipient in each request."""

    @task
    def send(self) -> None:
        body = message_body(TARGET.powerpack_uuid, list(islice(self.to, 1)))
        self.post("single", TARGET.messages_path, body, JSON, name="single send")


class BulkSubmission(Sender):
    """A stream of lines, a message each, answered at its end."""

    network_timeout = 120.0

    @task
    def submit(self) -> None:
        body = bulk_body(list(islice(self.to, LINES)))
        self.post("bulk", TARGET.bulk_path, body, NDJSON, name=f"bulk of {LINES} lines")


class ReportStream(Sender):
    """Reports on messages that were really handed over, as arrays and as NDJSON in turn; inbound, once it is built."""

    has_said_so = False
    reported = 0

    def on_start(self) -> None:
        super().on_start()
        self.stock: deque[dict[str, object]] = deque()
        self.as_lines = False
        self.takes_inbound = self._takes_inbound()
        self._refill()

    def _takes_inbound(self) -> bool:
        """An empty array moves nothing, and tells whether the route is there."""
        headers = {"Content-Type": JSON, "X-Sendpool-Secret": TARGET.secret}
        path = TARGET.inbound_path
        with self.client.post(
            path, data=b"[]", headers=headers, name="(is inbound built?)", catch_response=True
        ) as got:
            got.success()
            if got.status_code not in (404, 405):
                return True
        if not ReportStream.has_said_so:
            log.warning("inbound is not built into this gateway yet: this run reports only")
        ReportStream.has_said_so = True
        return False

    def _refill(self) -> None:
        """Messages to report on, each sent and then delivered; waits until a carrier has them."""
        to = list(islice(self.to, STOCK_EACH))
        content = self.post(
            "hundred",
            TARGET.messages_path,
            message_body(TARGET.powerpack_uuid, to),
            JSON,
            name="(messages to report on)",
        )
        if content is None:
            return
        answer = orjson.loads(content)
        if self._wait_until_gone(last_to_leave(answer)):
            ids = answer["message_uuid"]
            self.stock.extend(report(each, status) for status in ("sent", "delivered") for each in ids)

    def _wait_until_gone(self, message_id: str) -> bool:
        """Until a carrier has the one that leaves last; others may be a little behind their forecast."""
        headers = {"Authorization": TARGET.authorization}
        for _ in range(HANDED_S_MAX * 2):
            with self.client.get(
                f"{TARGET.messages_path}{message_id}/", headers=headers, name="(handed over?)", catch_response=True
            ) as got:
                got.success()
                if got.status_code == 200 and orjson.loads(got.content)["message_state"] != "queued":
                    time.sleep(SETTLED_S)
                    return True
            time.sleep(0.5)  # Locust's: others go on
        return False

    @task(9)
    def report(self) -> None:
        if len(self.stock) < LINES:
            self._refill()
        if not self.stock:
            return
        self.as_lines = not self.as_lines
        some = [self.stock.popleft() for _ in range(min(LINES, len(self.stock)))]
        body, media_type = reports_body(some, as_lines=self.as_lines), NDJSON if self.as_lines else JSON
        kind = "NDJSON" if self.as_lines else "array"
        ReportStream.reported += len(some)
        self.post("reports", TARGET.reports_path, body, media_type, name=f"{LINES} reports, {kind}", secret=True)

    @task(1)
    def receive(self) -> None:
        if self.takes_inbound:
            numbers = list(islice(self.to, LINES))
            body = inbound_body(numbers, self.chance)
            self.post("inbound", TARGET.inbound_path, body, JSON, name=f"{LINES} inbound", secret=True)


@events.quitting.add_listener
def fail_without_reports(environment: Any, **_more: object) -> None:
    """A stream that never began proves nothing, however well the rest went."""
    if ReportStream in environment.user_classes and not ReportStream.reported:
        log.error("no report was sent: no message was handed over in time to report on; let it run longer")
        environment.process_exit_code = 1
