"""What every carrier promises to the lane, run against each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson
import pytest
from multidict import CIMultiDict

from gateway.carriers.carrier import (
    BAD_ROUTE,
    FAILURES,
    GARBLED,
    SAMPLE,
    THROTTLED,
    TIMED_OUT,
    UNREACHABLE,
    Carrier,
    NotSent,
    Outbound,
    Proof,
    Report,
    SendFailed,
    Taken,
    Webhook,
)
from gateway.carriers.http import HttpCarrier
from gateway.carriers.simulated import SimulatedCarrier
from gateway.settings import CarrierSettings
from resolver.model import E164, CarrierName, MessageId
from storage.records import FactKind
from tests.fakes.clock import START_MS, VirtualClock
from tests.fakes.templates import PUBLIC_URL, settings_of
from tests.fakes.vendors import VENDORS
from tests.fakes.wire import Peer, answering, on_a_wire, wire_loop

PLACES = 5
ANSWER_MS = 10_000
LATENCY_MS = 50
SECRET = "s3cret"


class Stand(Protocol):
    """A carrier, and a hand on what is behind it: each mood holds for all messages."""

    carrier: Carrier

    def take(self) -> None: ...

    def throttle(self) -> None: ...

    def refuse(self) -> None: ...

    def say_nothing(self) -> None: ...

    def go_away(self) -> None: ...

    def taken(self) -> int:
        """How many messages were written to it."""

    def report(self, carrier_ref: str, secret: str) -> Webhook:
        """What it posts when a message was delivered."""


class HttpStand:
    """The HTTP carrier on a wire of ours, in the shape of one preset."""

    def __init__(self, preset: str) -> None:
        self.vendor = VENDORS[preset]()
        self.carrier: Carrier = HttpCarrier(
            settings_of(preset, read_ms_max=ANSWER_MS), clock=VirtualClock(), answer_ms_max=ANSWER_MS,
            public_url=PUBLIC_URL, look_up=self._look_up,
        )  # fmt: skip
        self._count = 0
        self._answer: Callable[[], bytes] = self._id
        self.take()

    async def _look_up(self, host: str, port: int) -> list[str]:
        return ["192.0.2.1"]

    def _id(self) -> bytes:
        self._count += 1
        return answering(200, self.vendor.answer(f"id-{self._count}"))

    def _respond(self, peer: Peer, *_: object) -> None:
        answer = self._answer()
        asyncio.get_running_loop().call_later(LATENCY_MS / 1_000, peer.say, answer)

    def _give(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        wire_loop().dial = lambda _: Peer(self._respond)

    def take(self) -> None:
        self._give(self._id)

    def throttle(self) -> None:
        self._give(lambda: answering(429, b"", Retry_After="7"))

    def refuse(self) -> None:
        self._give(lambda: answering(400, self.vendor.refusal()))

    def say_nothing(self) -> None:
        self._give(lambda: b"")

    def go_away(self) -> None:
        wire_loop().dial = lambda _: ConnectionRefusedError()

    def taken(self) -> int:
        return sum(len(peer.requests) for peer in wire_loop().peers)

    def report(self, carrier_ref: str, secret: str) -> Webhook:
        return self.vendor.report(f"{PUBLIC_URL}/carriers/one/reports", carrier_ref, "delivered", now_ms=START_MS)


class SimulatedStand:
    """The simulated carrier; a mood is another one of the same name."""

    def __init__(self) -> None:
        self._asked = 0
        self.carrier: Carrier = self._make()

    def _make(self, **options: object) -> Carrier:
        given = {
            "latency_ms_min": LATENCY_MS, "latency_ms_max": LATENCY_MS, "retry_after_ms": 7_000, "secret": SECRET,
            **options,
        }  # fmt: skip
        settings = CarrierSettings(name=CarrierName("one"), places=PLACES, options=given)
        return SimulatedCarrier(settings, clock=VirtualClock(), answer_ms_max=ANSWER_MS)

    def take(self) -> None:
        self.carrier = self._make()

    def throttle(self) -> None:
        self.carrier = self._make(throttle_per_mille=1_000)

    def refuse(self) -> None:
        self.carrier = self._make(reject_per_mille=1_000)

    def say_nothing(self) -> None:
        self.carrier = self._make(loss_per_mille=1_000)

    def go_away(self) -> None:
        self.carrier = self._make(stalls_s=["0-1000"])

    def taken(self) -> int:
        return Door.said_yes

    def report(self, carrier_ref: str, secret: str) -> Webhook:
        body = orjson.dumps({"id": carrier_ref, "reference": SAMPLE.message_id, "status": "delivered", "at": START_MS})
        return Webhook("/", CIMultiDict({"Authorization": f"Bearer {secret}"}), body)


class Door:
    """What is asked before a write."""

    said_yes = 0

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        Door.said_yes += self.answer
        return self.answer


Case = Callable[[Stand], Awaitable[None]]


KINDS = [*VENDORS, "simulated"]


def for_every_carrier(case: Case) -> Callable[[str], None]:
    @pytest.mark.parametrize("kind", KINDS)
    @on_a_wire
    async def run(kind: str) -> None:
        Door.said_yes = 0
        stand: Stand = SimulatedStand() if kind == "simulated" else HttpStand(kind)
        await case(stand)
        await stand.carrier.stop()

    run.__name__ = case.__name__
    run.__doc__ = case.__doc__
    return run


def outbound(place: int = 0) -> Outbound:
    message_id = MessageId(f"019b76da-a800-7000-8000-{place:012x}")
    return Outbound(message_id, 1, E164("+14155550100"), E164("+14155550123"), "Hello", 1, 60_000)


async def failure_of(stand: Stand, door: Door | None = None) -> SendFailed:
    with pytest.raises(SendFailed) as failed:
        await stand.carrier.send(outbound(), door or Door())
    return failed.value


@for_every_carrier
async def test_a_message_is_taken_and_gets_an_id(stand: Stand) -> None:
    door = Door()
    assert await stand.carrier.send(outbound(), door)
    assert (door.asked, stand.taken()) == (1, 1)


@for_every_carrier
async def test_the_door_is_asked_once_for_each_message_and_no_is_no(stand: Stand) -> None:
    door = Door(answer=False)
    with pytest.raises(NotSent):
        await stand.carrier.send(outbound(), door)
    await asyncio.sleep(1)
    assert (door.asked, stand.taken()) == (1, 0)
    await stand.carrier.send(outbound(), Door())
    assert stand.taken() == 1


@for_every_carrier
async def test_as_many_messages_as_it_has_places_are_on_their_way_at_once(stand: Stand) -> None:
    began_ms = VirtualClock().now_ms()
    refs = await asyncio.gather(*(stand.carrier.send(outbound(place), Door()) for place in range(PLACES)))
    assert len(set(refs)) == PLACES
    assert VirtualClock().now_ms() - began_ms == LATENCY_MS


@for_every_carrier
async def test_throttling_says_for_how_long_and_means_not_taken(stand: Stand) -> None:
    stand.throttle()
    failed = await failure_of(stand)
    assert (failed.failure, failed.retry_after_ms) == (THROTTLED, 7_000)


@for_every_carrier
async def test_a_refusal_is_for_good(stand: Stand) -> None:
    stand.refuse()
    failed = await failure_of(stand)
    assert not failed.failure.may_retry
    assert failed.failure.taken is Taken.NO


@for_every_carrier
async def test_an_answer_that_never_comes_is_given_up_in_time_and_unknown(stand: Stand) -> None:
    stand.say_nothing()
    began_ms = VirtualClock().now_ms()
    failed = await failure_of(stand)
    assert failed.failure is TIMED_OUT
    assert VirtualClock().now_ms() - began_ms == ANSWER_MS
    assert stand.taken() == 1, "nothing is tried again"


@for_every_carrier
async def test_a_carrier_that_cannot_be_reached_is_not_asked_for(stand: Stand) -> None:
    stand.go_away()
    door = Door()
    failed = await failure_of(stand, door)
    assert failed.failure is UNREACHABLE
    assert (door.asked, stand.taken()) == (0, 0)
    stand.take()
    await stand.carrier.send(outbound(), Door())


@for_every_carrier
async def test_whatever_fails_is_in_the_table(stand: Stand) -> None:
    for mood in (stand.throttle, stand.refuse, stand.say_nothing, stand.go_away):
        mood()
        failed = await failure_of(stand)
        assert FAILURES[failed.failure.code] is failed.failure


@for_every_carrier
async def test_a_sender_that_is_cancelled_leaves_the_carrier_usable(stand: Stand) -> None:
    sending = asyncio.create_task(stand.carrier.send(outbound(), Door()))
    await asyncio.sleep(LATENCY_MS / 2_000)
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    assert await stand.carrier.send(outbound(), Door())


@for_every_carrier
async def test_it_starts_and_stops_and_may_be_stopped_twice(stand: Stand) -> None:
    async def take(reports: list[Report]) -> None: ...

    await stand.carrier.start(take, lambda up: None)
    await stand.carrier.send(outbound(), Door())
    await stand.carrier.stop()
    await stand.carrier.stop()


@for_every_carrier
async def test_what_it_posts_is_proved_and_read(stand: Stand) -> None:
    webhook = stand.report("abc-1", SECRET)
    reader = stand.carrier.webhooks
    assert reader.authenticate(webhook, now_ms=START_MS) is not None
    (report,) = reader.read(webhook).reports
    assert (report.carrier_ref, report.kind, report.code) == ("abc-1", FactKind.DELIVERED, "000")


@for_every_carrier
async def test_what_strangers_post_is_not_proved(stand: Stand) -> None:
    webhook = stand.report("abc-1", "guessed")
    reader = stand.carrier.webhooks
    bare = webhook._replace(headers=CIMultiDict({"Content-Type": webhook.headers.get("Content-Type", "")}))
    assert reader.authenticate(bare, now_ms=START_MS) is None
    assert reader.weigh(bare.headers) is Proof.NONE


@for_every_carrier
async def test_it_says_its_name_and_its_places(stand: Stand) -> None:
    assert (stand.carrier.name, stand.carrier.places) == ("one", PLACES)


# --- Hostile carriers, in every preset's shape ------------------------------------------------------------------------


def for_every_preset(case: Callable[[HttpStand], Awaitable[None]]) -> Callable[[str], None]:
    @pytest.mark.parametrize("preset", VENDORS)
    @on_a_wire
    async def run(preset: str) -> None:
        Door.said_yes = 0
        stand = HttpStand(preset)
        await case(stand)
        await stand.carrier.stop()

    run.__name__ = case.__name__
    return run


@for_every_preset
async def test_throttling_without_a_time_and_with_a_date_is_throttling(stand: HttpStand) -> None:
    for headers in ({}, {"Retry_After": "Wed, 31 Dec 2025 00:00:00 GMT"}, {"Retry_After": "soon"}):
        stand._give(lambda headers=headers: answering(429, stand.vendor.refusal(), **headers))  # type: ignore[misc]
        assert (await failure_of(stand)).failure is THROTTLED


@for_every_preset
async def test_garbage_and_errors_inside_a_200_are_never_taken_for_sent(stand: HttpStand) -> None:
    bodies = [b"", b"OK", b"<html>", b"{}", b"[]", b"null", b"\xff", stand.vendor.answer("x")[:-2], b"[" * 90_000]
    for body in [*bodies, stand.vendor.error_inside()]:
        stand._give(lambda body=body: answering(200, body))  # type: ignore[misc]
        failed = await failure_of(stand)
        assert failed.failure is GARBLED or not failed.failure.may_retry, body


@for_every_preset
async def test_an_endless_answer_is_cut_off(stand: HttpStand) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
    stand._give(lambda: head + b"x" * 300_000)
    failed = await failure_of(stand)
    assert failed.failure is GARBLED
    assert wire_loop().peers[0].wire.is_over


@for_every_preset
async def test_an_answer_that_drips_ends_at_the_deadline(stand: HttpStand) -> None:
    loop = wire_loop()

    def drip(peer: Peer, *_: object) -> None:
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        for second in range(1, 60):
            loop.call_later(second, lambda: None if peer.wire.is_over else peer.say(b" "))

    loop.dial = lambda _: Peer(drip)
    began_ms = VirtualClock().now_ms()
    assert (await failure_of(stand)).failure is TIMED_OUT
    assert VirtualClock().now_ms() - began_ms == ANSWER_MS


@for_every_preset
async def test_a_compressed_answer_and_a_redirect_are_not_followed(stand: HttpStand) -> None:
    stand._give(lambda: answering(200, b"\x1f\x8b" + b"\0" * 100, Content_Encoding="gzip"))
    assert (await failure_of(stand)).failure is GARBLED
    for status in (301, 302, 307, 308):
        stand._give(lambda status=status: answering(status, b"", Location="https://elsewhere.example/"))  # type: ignore[misc]
        assert (await failure_of(stand)).failure is BAD_ROUTE
    assert set(wire_loop().dialled) == {"192.0.2.1"}
