"""Answers are looked up promptly, or the journal decides."""

from __future__ import annotations

import asyncio

import pytest

from gateway import kept_answers
from gateway.kept_answers import KeptAnswers
from resolver.model import AccountId
from storage.records import IdempotencyRow, JournalUnavailable

ACCOUNT = AccountId("MA1")
ROW = IdempotencyRow(ACCOUNT, "k", b"hash", b"{}", 0)


async def find_row(_account: AccountId, key: str) -> IdempotencyRow | None:
    return ROW if key == "k" else None


async def find_nothing_for_ever(_account: AccountId, _key: str) -> IdempotencyRow | None:
    await asyncio.Event().wait()
    raise AssertionError


async def test_what_is_there_is_found() -> None:
    answers = KeptAnswers(find_row, is_ready=lambda: True)
    assert await answers.find(ACCOUNT, "k") == ROW
    assert await answers.find(ACCOUNT, "other") is None


async def test_nobody_is_asked_while_the_journal_takes_nothing() -> None:
    answers = KeptAnswers(find_nothing_for_ever, is_ready=lambda: False)
    with pytest.raises(JournalUnavailable):
        await asyncio.wait_for(answers.find(ACCOUNT, "k"), 0.5)


async def test_a_silent_database_is_not_waited_for() -> None:
    answers = KeptAnswers(find_nothing_for_ever, is_ready=lambda: True)
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(JournalUnavailable):
        await answers.find(ACCOUNT, "k")
    assert asyncio.get_running_loop().time() - began_s < kept_answers.FIND_MS_MAX / 1_000 + 1
