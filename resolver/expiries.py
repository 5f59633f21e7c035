"""Which messages run out of validity when; O(1) to add and remove, a second per bucket."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import Final

from resolver.model import Message

BUCKET_MS: Final = 1_000


class Expiries:
    """Messages by the second their validity ends in. At most one bucket per second, kept until its time comes."""

    __slots__ = ("_buckets", "_order")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Message, None]] = {}
        self._order: list[int] = []

    def add(self, message: Message) -> None:
        """Take in a message; one that is in already stays."""
        key = message.expires_ms // BUCKET_MS
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = {}
            heappush(self._order, key)
        bucket[message] = None

    def remove(self, message: Message) -> None:
        """Forget a message, if it is in."""
        key = message.expires_ms // BUCKET_MS
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.pop(message, None)
            if not bucket:
                self._buckets[key] = {}  # an emptied dictionary would keep its room

    def take_expired(self, now_ms: int, most: int) -> list[Message]:
        """Up to `most` messages whose validity has ended, and forget them."""
        found: list[Message] = []
        while self._order and self._order[0] * BUCKET_MS <= now_ms:
            key = self._order[0]
            bucket = self._buckets[key]
            ended = (message for message in bucket if message.expires_ms <= now_ms)
            taken = list(islice(ended, most - len(found)))
            for message in taken:
                del bucket[message]
            found.extend(taken)
            if bucket or (key + 1) * BUCKET_MS > now_ms:
                break  # the rest of this second is still to come, or the call is full
            del self._buckets[key]
            heappop(self._order)
        return found
