"""`Idempotency-Key`: a request that is repeated is answered as it was answered first, and stored once.

The key's row is stored in the transaction of what it stands for, and the database lets one of two win; so a repeat is
safe even while nobody knows whether the first was stored. What runs in this process is known at once, for a clear 409.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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


class Keys:
    """The keys of requests in progress, and the look-up of those that are stored."""

    def __init__(self, find_answer: FindAnswer) -> None:
        self._find_answer = find_answer
        self._running: dict[tuple[AccountId, str], bytes] = {}

    @contextmanager
    def running(self, account_id: AccountId, key: str, body_hash: bytes) -> Iterator[None]:
        """Hold a key while its request runs. Raises ApiError (409) when another one does."""
        held = self._running.get((account_id, key))
        if held is not None:
            raise api_error("idempotency_key_running" if held == body_hash else "idempotency_key_reused")
        self._running[account_id, key] = body_hash
        try:
            yield
        finally:
            del self._running[account_id, key]

    async def find(self, account_id: AccountId, key: str, body_hash: bytes) -> Reply | None:
        """Give the first answer again; None when there was none. Raises ApiError (409) for another request's key."""
        row = await self._find_answer(account_id, key)
        if row is None:
            return None
        if row.body_hash != body_hash:
            raise api_error("idempotency_key_reused")
        return Reply(row.answer, KEPT_STATUS, {"Idempotent-Replayed": "true"})


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
