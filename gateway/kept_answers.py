"""Looks up the answers that idempotency keys stand for, promptly or not at all.

It is asked only to save work: whoever is not told of a key stores it with the message, and then the key's own row
decides. So a database that is away or silent must not hold a request here; the journal knows first, and refuses or
waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from resolver.model import AccountId
from storage.records import IdempotencyRow, JournalUnavailable

FIND_MS_MAX: Final = 1_000  # a row by its primary key; beside the 4 s an answer may take, and SDKs give up at 5

FindAnswer = Callable[[AccountId, str], Awaitable[IdempotencyRow | None]]


class KeptAnswers:
    """`find` is the archive's, with a deadline, and only while the journal takes anything."""

    def __init__(self, find_answer: FindAnswer, *, is_ready: Callable[[], bool]) -> None:
        self._find_answer = find_answer
        self._is_ready = is_ready

    async def find(self, account_id: AccountId, key: str) -> IdempotencyRow | None:
        """The row of a key; None when there is none. Raises JournalUnavailable, and storage's errors."""
        if not self._is_ready():
            raise JournalUnavailable("the database is away")
        try:
            async with asyncio.timeout(FIND_MS_MAX / 1_000):
                return await self._find_answer(account_id, key)
        except TimeoutError as error:
            raise JournalUnavailable("keys cannot be looked up now") from error
