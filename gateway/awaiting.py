"""Messages that carriers have, for their reports: found by the carrier's id and by ours.

Two crowds, both bounded: those that wait for a report, and those of which a report was heard lately, so that a repeated
one costs no look-up. The oldest are dropped, and are then looked up in the journal (`carrier_refs`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from resolver.model import CarrierName, Message, MessageId
from storage.records import FactKind

LATELY_MAX: Final = 100_000

Done = asyncio.Future[None]
"""Resolves when something is durable; raises EpochLost when another process owns the journal."""


class Sent:
    """A message that a carrier has.

    `told`: the facts its reports made, and when each is durable (None: it is); None before the first. `is_over`: it
    ended unreported, and no report moves it.
    """

    __slots__ = ("carrier", "carrier_ref", "is_over", "message", "told")

    def __init__(self, message: Message, carrier: CarrierName, carrier_ref: str) -> None:
        self.message = message
        self.carrier = carrier
        self.carrier_ref = carrier_ref
        self.told: list[tuple[FactKind, Done | None]] | None = None
        self.is_over = False


class Awaiting:
    """See above; every call costs about a microsecond. Its length is that of the first crowd."""

    def __init__(self, most: int, *, lately_max: int = LATELY_MAX) -> None:
        self._most = most
        self._lately_max = lately_max
        self._waiting: OrderedDict[MessageId, Sent] = OrderedDict()
        self._lately: OrderedDict[MessageId, Sent] = OrderedDict()
        self._refs: dict[tuple[CarrierName, str], Sent] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Message, carrier: CarrierName, carrier_ref: str) -> None:
        """It was sent, and waits for its report; known already, it is the newest and has this id only."""
        sent = self._take(message.message_id)
        if sent is None:
            sent = Sent(message, carrier, carrier_ref)
        else:
            sent.carrier, sent.carrier_ref = carrier, carrier_ref
        self._put(self._waiting, sent, self._most)

    def end(self, message_id: MessageId) -> None:
        """It waits for no report any more."""
        sent = self._waiting.pop(message_id, None)
        if sent is not None:
            self._lately[message_id] = sent
            if len(self._lately) > self._lately_max:
                self._drop_oldest(self._lately)

    def hear(self, message: Message, carrier: CarrierName, carrier_ref: str) -> Sent:
        """A report of it was heard, which may be the first we know of it: before its answer, or long after."""
        sent = self.find_message(message.message_id)
        if sent is None:
            sent = Sent(message, carrier, carrier_ref)
            self._put(self._lately, sent, self._lately_max)
        return sent

    def find(self, carrier: CarrierName, carrier_ref: str) -> Sent | None:
        return self._refs.get((carrier, carrier_ref))

    def find_message(self, message_id: MessageId) -> Sent | None:
        return self._waiting.get(message_id) or self._lately.get(message_id)

    def drop(self, message_id: MessageId) -> None:
        """Forget it altogether."""
        self._take(message_id)

    def _take(self, message_id: MessageId) -> Sent | None:
        sent = self._waiting.pop(message_id, None) or self._lately.pop(message_id, None)
        if sent is not None:
            self._forget_ref(sent)
        return sent

    def _put(self, crowd: OrderedDict[MessageId, Sent], sent: Sent, most: int) -> None:
        crowd[sent.message.message_id] = sent
        if sent.carrier_ref:
            self._refs[sent.carrier, sent.carrier_ref] = sent
        if len(crowd) > most:
            self._drop_oldest(crowd)

    def _drop_oldest(self, crowd: OrderedDict[MessageId, Sent]) -> None:
        _, sent = crowd.popitem(last=False)
        self._forget_ref(sent)

    def _forget_ref(self, sent: Sent) -> None:
        if sent.carrier_ref and self._refs.get((sent.carrier, sent.carrier_ref)) is sent:
            del self._refs[sent.carrier, sent.carrier_ref]
