"""Messages that were sent and wait for their report: found by the carrier's id and by ours.

Bounded: the oldest are dropped, and are then looked up in the journal (`carrier_refs`).
"""

from __future__ import annotations

from collections import OrderedDict

from resolver.model import CarrierName, Message, MessageId


class Awaiting:
    """See above; every call costs about a microsecond."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._messages: OrderedDict[MessageId, tuple[Message, CarrierName, str]] = OrderedDict()
        self._refs: dict[tuple[CarrierName, str], Message] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Message, carrier: CarrierName, carrier_ref: str) -> None:
        self.drop(message.message_id)
        self._messages[message.message_id] = (message, carrier, carrier_ref)
        if carrier_ref:
            self._refs[carrier, carrier_ref] = message
        if len(self._messages) > self._most:
            self.drop(next(iter(self._messages)))

    def find(self, carrier: CarrierName, carrier_ref: str) -> Message | None:
        return self._refs.get((carrier, carrier_ref))

    def find_message(self, message_id: MessageId) -> Message | None:
        known = self._messages.get(message_id)
        return known[0] if known is not None else None

    def drop(self, message_id: MessageId) -> None:
        known = self._messages.pop(message_id, None)
        if known is not None:
            message, carrier, carrier_ref = known
            if self._refs.get((carrier, carrier_ref)) is message:
                del self._refs[carrier, carrier_ref]
