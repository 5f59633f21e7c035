"""Who asks: HTTP Basic, with an account's id and one of its tokens.

A token is looked up by its account and compared by its hash, in constant time. Who is unknown, or shut out, costs as
much as a wrong token, and hears the same.
"""

from __future__ import annotations

import hmac
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Final

from gateway.api.errors import ApiError, api_error
from gateway.clock import Clock
from resolver.model import AccountId
from storage.catalog_rows import AccountRow
from storage.sealing import token_hash

PROVEN_MAX, PROVEN_LENGTH_MAX = 2_000, 256
"""Headers that were right are remembered: proving one costs 3 µs. An account's change makes another row of it."""
NOBODY: Final = bytes(32)  # compared with where there is nothing to compare with, so that it takes as long


class Credentials:
    """Knows accounts by what they send."""

    def __init__(self, accounts: Mapping[AccountId, AccountRow], clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._proven: dict[str, AccountRow] = {}  # by header; good as long as the account's row is the same

    def check(self, header: str) -> AccountId:
        """Give the account that an Authorization header proves. Raises ApiError (401)."""
        known = self._proven.get(header)
        if known is not None and self._accounts.get(known.account_id) is known and known.enabled and known.main_enabled:
            return known.account_id
        user, token = read_basic(header)
        account = self._accounts.get(AccountId(user))
        sent = token_hash(token)
        own, former = (NOBODY, NOBODY) if account is None else (account.token_sha256, account.former_sha256 or NOBODY)
        is_own, is_former = hmac.compare_digest(sent, own), hmac.compare_digest(sent, former)
        if account is None or not (account.enabled and account.main_enabled):
            raise _unauthenticated()
        if is_own:
            if len(header) <= PROVEN_LENGTH_MAX:
                if len(self._proven) >= PROVEN_MAX:
                    self._proven.clear()
                self._proven[header] = account
        elif not is_former or self._clock.now_ms() >= account.former_until_ms:
            raise _unauthenticated()
        return account.account_id


def read_basic(header: str) -> tuple[str, str]:
    """Read user and password of HTTP Basic; two empty texts where the header holds none."""
    if header[:6].lower() != "basic ":
        return "", ""
    try:
        user, _, password = a2b_base64(header[6:]).partition(b":")
        return user.decode("ascii"), password.decode("utf-8", "replace")
    except (Base64Error, ValueError):  # ValueError: not ASCII
        return "", ""


def _unauthenticated() -> ApiError:
    error = api_error("unauthenticated")
    error.headers = {"WWW-Authenticate": 'Basic realm="Sendpool"'}
    return error
