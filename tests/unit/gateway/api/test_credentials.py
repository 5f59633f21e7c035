"""Who is let in, by which token, and until when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.api.credentials import Credentials, read_basic
from gateway.api.errors import ApiError
from storage.catalog_rows import AccountRow
from storage.sealing import token_hash
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, TOKEN, basic
from tests.fakes.clock import HandClock

FORMER = "the-token-before"
ROW = AccountRow(ACCOUNT, "n", token_hash(TOKEN), TOKEN)


def is_let_in(credentials: Credentials, header: str) -> bool:
    try:
        return credentials.check(header) == ACCOUNT
    except ApiError as error:
        if (error.status, error.code) != (401, "unauthenticated"):
            raise
        return False


def test_the_token_before_is_good_until_its_time_is_over_and_the_new_one_all_along() -> None:
    clock = HandClock()
    until_ms = clock.now + 1_000
    row = replace(ROW, former_sha256=token_hash(FORMER), former=FORMER, former_until_ms=until_ms)
    credentials = Credentials({ACCOUNT: row}, clock)
    for now_ms, former_is_good in ((until_ms - 1, True), (until_ms, False), (until_ms + 1, False)):
        clock.now = now_ms
        for _ in range(2):  # what was right once is remembered
            assert is_let_in(credentials, basic(token=TOKEN))
            assert is_let_in(credentials, basic(token=FORMER)) is former_is_good


def test_a_token_that_was_revoked_is_refused_from_the_next_request_on() -> None:
    clock = HandClock()
    row = replace(ROW, former_sha256=token_hash(FORMER), former=FORMER, former_until_ms=clock.now + 1_000)
    accounts = {ACCOUNT: row}
    credentials = Credentials(accounts, clock)
    assert is_let_in(credentials, basic(token=FORMER))
    accounts[ACCOUNT] = replace(row, former_sha256=b"", former="", former_until_ms=0)
    assert not is_let_in(credentials, basic(token=FORMER))
    accounts[ACCOUNT] = replace(ROW, token_sha256=token_hash("new"), token="new")
    assert not is_let_in(credentials, basic(token=TOKEN))


@pytest.mark.parametrize("change", [{"enabled": False}, {"main_enabled": False}])
@pytest.mark.parametrize("known", [True, False])
def test_who_is_shut_out_or_whose_main_account_is_gets_in_with_no_token(change: dict[str, bool], known: bool) -> None:
    clock = HandClock()
    row = replace(ROW, former_sha256=token_hash(FORMER), former=FORMER, former_until_ms=clock.now + 1_000)
    accounts = {ACCOUNT: row}
    credentials = Credentials(accounts, clock)
    if known:
        assert is_let_in(credentials, basic())
    accounts[ACCOUNT] = replace(row, **change)  # type: ignore[arg-type]
    for token in (TOKEN, FORMER):
        assert not is_let_in(credentials, basic(token=token))


@pytest.mark.parametrize("token", ["", "\0" * 32, "a", TOKEN[:-1], TOKEN + "x"])
@pytest.mark.parametrize("user", [ACCOUNT, OTHER_ACCOUNT, ""])
def test_no_other_token_is_good_for_anybody(user: str, token: str) -> None:
    assert not is_let_in(Credentials({ACCOUNT: ROW}, HandClock()), basic(user, token))


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (basic("a", "b:c"), ("a", "b:c")),
        (basic("a", "b").replace("Basic", "BASIC"), ("a", "b")),
        (basic("ä", "b"), ("", "")),
        ("Bearer abc", ("", "")),
        ("Basic ###", ("", "")),
        ("", ("", "")),
    ],
)
def test_what_a_header_holds(header: str, read: tuple[str, str]) -> None:
    assert read_basic(header) == read
