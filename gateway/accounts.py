"""What is done to accounts: by command, by the administrator's API, and by main accounts to their subaccounts.

An edit is durable, and memory has followed it, before it is answered: who is shut out, or whose token was replaced, is
refused from then on. By command memory follows as soon as it hears of the edit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.edits import EditRefused
from resolver.model import AccountId
from storage.catalog import AccountRow, Catalog, Change, NotFound

NAME_CHARACTERS_MAX: Final = 128
OVERLAP_HOURS: Final = 24
"""How long the token before stays good: time to give the new one to whatever sends."""
OVERLAP_HOURS_MAX: Final = 30 * 24
HOUR_MS: Final = 3_600_000


async def nobody_follows(_: list[Change]) -> None:
    """Where there is no memory: a command."""


class AccountEdits:
    """`follow` brings memory up to an edit; gateway/pools.py has it.

    Everything raises EditRefused (not_found, invalid_parameter) and storage's errors.
    """

    def __init__(self, catalog: Catalog, follow: Callable[[list[Change]], Awaitable[None]] = nobody_follows) -> None:
        self._catalog = catalog
        self._follow = follow

    async def create(
        self, name: str, *, now_ms: int, main_id: AccountId | None = None, enabled: bool = True
    ) -> AccountRow:
        """Make an account, or a subaccount of `main_id`."""
        _check_name(name)
        try:
            row = await self._catalog.create_account(name, now_ms=now_ms, main_id=main_id, enabled=enabled)
        except NotFound as error:
            raise EditRefused("not_found", f"there is no main account {main_id!r}") from error
        await self._follow([Change("account", row.account_id, row.account_id)])
        return row

    async def change(
        self, account_id: AccountId, *, now_ms: int, name: str | None = None, enabled: bool | None = None
    ) -> AccountRow:
        """Rename an account, shut it out with its subaccounts, or let them in again."""
        if name is not None:
            _check_name(name)
        return await self._edited(
            account_id, self._catalog.update_account(account_id, name=name, enabled=enabled, now_ms=now_ms)
        )

    async def rotate(self, account_id: AccountId, *, overlap_hours: int, now_ms: int) -> AccountRow:
        """Give it a new token; the one before stays good for so long, none before that one."""
        if not 0 <= overlap_hours <= OVERLAP_HOURS_MAX:
            raise EditRefused("invalid_parameter", f"the overlap is 0 to {OVERLAP_HOURS_MAX} hours")
        until_ms = now_ms + overlap_hours * HOUR_MS
        return await self._edited(
            account_id, self._catalog.rotate_token(account_id, former_until_ms=until_ms, now_ms=now_ms)
        )

    async def revoke(self, account_id: AccountId, *, now_ms: int) -> AccountRow:
        """Let only its newest token be good."""
        return await self._edited(account_id, self._catalog.end_former_token(account_id, now_ms=now_ms))

    async def delete_subaccount(self, main_id: AccountId, account_id: AccountId, *, cascade: bool, now_ms: int) -> None:
        """What waits in its powerpacks ends; its numbers and applications become the main account's, or go too."""
        await self._edited(
            account_id, self._catalog.delete_subaccount(main_id, account_id, cascade=cascade, now_ms=now_ms)
        )

    async def _edited(self, account_id: AccountId, edit: Awaitable[list[Change]]) -> AccountRow:
        try:
            changes = await edit
        except NotFound as error:
            raise EditRefused("not_found", f"there is no account {account_id!r}") from error
        await self._follow(changes)
        row = await self._catalog.find_account(account_id)
        assert row is not None, "rows of accounts stay"
        return row


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise EditRefused("invalid_parameter", f"an account's name is 1 to {NAME_CHARACTERS_MAX} printable characters")
