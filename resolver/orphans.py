"""Messages that wait and that no number holds, until they are decided again, in accept order.

Invariant: a committed orphan has an entry in the heap; entries of those that have gone are dropped when they surface.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from resolver.model import Message


class Orphans:
    """See above. All calls O(log n)."""

    __slots__ = ("_heap", "_messages", "_order")

    def __init__(self) -> None:
        self._messages: dict[Message, None] = {}
        self._heap: list[tuple[str, int, Message]] = []
        self._order = 0  # unique: breaks ties

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __contains__(self, message: Message) -> bool:
        return message in self._messages

    def add(self, message: Message) -> None:
        """Take in a message; also to be called when the decision of one that is in is committed."""
        self._messages[message] = None
        if message.committed:
            self._order += 1
            heappush(self._heap, (message.message_id, self._order, message))

    def discard(self, message: Message) -> bool:
        """Let a message go; False when it was none of these."""
        if message not in self._messages:
            return False
        del self._messages[message]
        return True

    def take(self, most: int) -> list[Message]:
        """The first `most` whose decision is durable: each must be decided now, or end, or be added again."""
        found: list[Message] = []
        while self._heap and len(found) < most:
            message = heappop(self._heap)[2]
            if message in self._messages:
                found.append(message)
        return found
