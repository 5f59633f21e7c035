"""What the resolver's tests stand on: rows, requests, ids in accept order, and a resolver with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from resolver.core import Resolver, Verdict
from resolver.model import (
    E164,
    AccountId,
    CarrierName,
    Decision,
    Limits,
    Message,
    MessageId,
    NumberRow,
    NumberType,
    PoolId,
    PowerpackId,
    PowerpackRow,
    Priority,
    Refusal,
    Request,
    RequestId,
)

NOW_MS = 1_700_000_000_000
ACCOUNT = AccountId("MAAAAAAAAAAAAAAAAAAA")
POWERPACK = PowerpackId("pack")
CARRIER = CarrierName("carrier")
PLENTY = 1_000_000

# What numbers are made of: area codes with their place, one overlay over two provinces and one over three.
SAN_FRANCISCO, LOS_ANGELES, NEW_YORK = "415", "213", "212"
TORONTO, MONTREAL, MARITIMES, NORTH = "416", "514", "902", "867"

_ids = count(1)


def new_id() -> MessageId:
    """Ids in the order they are asked for, as UUIDv7 are."""
    return MessageId(f"{next(_ids):09d}")


def long_code(area_code: str = SAN_FRANCISCO, line: int = 0, **fields: object) -> NumberRow:
    country = "CA" if area_code in (TORONTO, MONTREAL, MARITIMES, NORTH) else "US"
    return number_row(E164(f"+1{area_code}200{line:04d}"), NumberType.LONG_CODE, country=country, **fields)


def toll_free(line: int = 0, **fields: object) -> NumberRow:
    return number_row(E164(f"+1800200{line:04d}"), NumberType.TOLL_FREE, **{"verified": True, **fields})  # type: ignore[arg-type]


def short_code(country: str = "US", line: int = 0, **fields: object) -> NumberRow:
    return number_row(E164(f"{44_000 + line}"), NumberType.SHORT_CODE, country=country, **fields)


def number_row(number: E164, number_type: NumberType, *, country: str = "US", **fields: object) -> NumberRow:
    """A number in the powerpack, with an approved campaign unless said otherwise."""
    row = NumberRow(number, ACCOUNT, number_type, country, CARRIER, POWERPACK, campaign_approved=True)
    return replace(row, **fields)  # type: ignore[arg-type]


def limits(segments: int = 1, span_ms: int = 1_000, *, recommended: int = 150, day: int | None = None) -> Limits:
    return Limits(segments, span_ms, recommended, day)


def powerpack(**fields: object) -> PowerpackRow:
    return replace(PowerpackRow(POWERPACK, ACCOUNT, PoolId("pool"), "a powerpack"), **fields)  # type: ignore[arg-type]


def request(segments: int = 1, **fields: object) -> Request:
    made = Request(RequestId("request"), ACCOUNT, POWERPACK, "text", segments)
    return replace(made, **fields)  # type: ignore[arg-type]


URGENT = request(priority=Priority.URGENT)


def recipient(area_code: str = SAN_FRANCISCO, line: int = 0) -> E164:
    return E164(f"+1{area_code}555{line:04d}")


def build(
    rows: Iterable[NumberRow], *, segments_per_s: int = PLENTY, now_ms: int = NOW_MS, **fields: object
) -> Resolver:
    """A resolver with one link, one powerpack (`fields` are its settings) and these numbers."""
    resolver = Resolver()
    resolver.put_link(CARRIER, segments_per_s=segments_per_s, now_ms=now_ms)
    resolver.put_powerpack(powerpack(**fields))
    for row in rows:
        resolver.put_number(row, now_ms=now_ms)
    return resolver


def decide(
    resolver: Resolver,
    to: E164,
    asked: Request | None = None,
    *,
    now_ms: int = NOW_MS,
    chance: float = 0.5,
    operator: str = "",
) -> Decision | Refusal:
    return resolver.decide(asked or request(), to, now_ms=now_ms, chance=chance, operator=operator)


def decided(resolver: Resolver, to: E164, asked: Request | None = None, **how: object) -> Decision:
    found = decide(resolver, to, asked, **how)  # type: ignore[arg-type]
    assert isinstance(found, Decision), found
    return found


def refused(resolver: Resolver, to: E164, asked: Request | None = None, **how: object) -> Refusal:
    found = decide(resolver, to, asked, **how)  # type: ignore[arg-type]
    assert isinstance(found, Refusal), found
    return found


def accept(
    resolver: Resolver,
    to: E164,
    asked: Request | None = None,
    *,
    now_ms: int = NOW_MS,
    committed: bool = True,
    **how: object,
) -> Message:
    """Decide, apply, commit."""
    asked = asked or request()
    found = decided(resolver, to, asked, now_ms=now_ms, **how)
    message = resolver.apply(asked, to, found, new_id(), now_ms=now_ms)
    if committed:
        resolver.commit([message])
    return message


def hand_over(
    resolver: Resolver, *, now_ms: int, carrier: CarrierName = CARRIER, lead_ms: int = 0, places: int = 1_000
) -> list[Message]:
    """Release what is due, and let it leave now; answers what left."""
    gone: list[Message] = []
    for message in resolver.release(carrier, now_ms=now_ms, until_ms=now_ms + lead_ms, places=places):
        if resolver.depart(message, now_ms=max(now_ms, message.slot_ms)).verdict == "go":
            gone.append(message)
        else:
            resolver.take_back(message, now_ms=now_ms)
    return gone


def run_lane(
    resolver: Resolver,
    *,
    now_ms: int,
    ms: int,
    carrier: CarrierName = CARRIER,
    every_ms: int = 10,
    lead_ms: int = 100,
    places: int = 1_000,
) -> list[tuple[int, Message]]:
    """Let a lane run for a while; answers what left, and when."""
    claimed: list[Message] = []
    gone: list[tuple[int, Message]] = []
    for at_ms in range(now_ms, now_ms + ms, every_ms):
        claimed += resolver.release(carrier, now_ms=at_ms, until_ms=at_ms + lead_ms, places=places)
        for message in [each for each in claimed if each.slot_ms <= at_ms]:
            departure = resolver.depart(message, now_ms=at_ms)
            if departure.verdict is Verdict.NOT_YET:
                continue
            claimed.remove(message)
            if departure.verdict is Verdict.GO:
                gone.append((at_ms, message))
                resolver.settle_sent(message, now_ms=at_ms)
            elif departure.verdict is Verdict.ENDED:
                resolver.settle_ended(message, now_ms=at_ms)
            else:
                resolver.take_back(message, now_ms=at_ms)
    for message in claimed:
        resolver.take_back(message, now_ms=now_ms + ms)
    return gone
