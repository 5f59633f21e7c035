"""`Idempotency-Key`: a request that is repeated is answered as it was answered first, and stored once.

The key's row is stored in the transaction of what it stands for, and the database lets one of two win; so a repeat is
safe even while nobody knows whether the first was stored. What runs in this process is known at once, for a clear 409.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Final

from gateway.api.call import Call, Reply
from gateway.api.errors import api_error
from resolver.model import AccountId
from storage.records import IdempotencyRow

HEADER: Final = "Idempotency-Key"
KEPT_STATUS: Final = 202  # other answers leave no key

_is_key = re.compile(r"[\x21-\x7e]{1,255}").fullmatch

FindAnswer = Callable[[AccountId, str], Awaitable[IdempotencyRow | None]]


class Held:
    """A key while its request runs; and longer, where what the request stores is not settled yet."""

    __slots__ = ("_account_id", "_body_hash", "_key", "_release", "_unsettled", "has_ended")

    def __init__(self, account_id: AccountId, key: str, body_hash: bytes, release: Callable[[], object]) -> None:
        self._account_id, self._key, self._body_hash = account_id, key, body_hash
        self._release = release
        self._unsettled = 0
        self.has_ended = False

    def is_for(self, body_hash: bytes) -> bool:
        return self._body_hash == body_hash

    def row(self, answer: bytes, now_ms: int) -> IdempotencyRow:
        """Make what is stored for the key."""
        return IdempotencyRow(self._account_id, self._key, self._body_hash, answer, now_ms)

    def begin(self) -> None:
        """Something of the request is with the journal: whoever repeats it must wait for the truth."""
        self._unsettled += 1

    def settle(self) -> None:
        """The truth about it is known."""
        self._unsettled -= 1
        self.end_if_settled()

    def end_if_settled(self) -> None:
        if self.has_ended and not self._unsettled:
            self._release()


class Keys:
    """The keys of requests in progress, and the look-up of those that are stored."""

    def __init__(self, find_answer: FindAnswer) -> None:
        self._find_answer = find_answer
        self._running: dict[tuple[AccountId, str], Held] = {}

    @contextmanager
    def running(self, account_id: AccountId, key: str, body_hash: bytes) -> Iterator[Held]:
        """Hold a key while its request runs. Raises ApiError (409) when another one does."""
        named = account_id, key
        other = self._running.get(named)
        if other is not None:
            raise api_error("idempotency_key_running" if other.is_for(body_hash) else "idempotency_key_reused")
        held = self._running[named] = Held(account_id, key, body_hash, partial(self._running.pop, named))
        try:
            yield held
        finally:
            held.has_ended = True
            held.end_if_settled()

    async def find(self, account_id: AccountId, key: str, body_hash: bytes) -> bytes | None:
        """Give the first answer again; None when there was none. Raises ApiError (409) for another request's key."""
        row = await self._find_answer(account_id, key)
        if row is None:
            return None
        if row.body_hash != body_hash:
            raise api_error("idempotency_key_reused")
        return row.answer


def replayed(answer: bytes) -> Reply:
    """Answer as the first request was answered."""
    return Reply(answer, KEPT_STATUS, {"Idempotent-Replayed": "true"})


def read_key(call: Call) -> str | None:
    """Give the request's key, if it has one. Raises ApiError."""
    key = call.request.headers.get(HEADER)
    if key is not None and not _is_key(key):
        raise api_error("invalid_idempotency_key")
    return key


def hash_request(call: Call) -> bytes:
    """Hash all that makes a request what it is: query, `Prefer`, body."""
    prefer = call.request.headers.get("Prefer", "")
    head = f"{call.query_text}\0{prefer}\0".encode("utf-8", "surrogateescape")
    return sha256(head + call.body).digest()
