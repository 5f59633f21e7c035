"""`sendpool accounts`: who uses the API, and with which tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from gateway.accounts import OVERLAP_HOURS, OVERLAP_HOURS_MAX, AccountEdits
from gateway.api.times import iso
from gateway.clock import SystemClock
from gateway.commands import Config, Data, print_table, settings_of, with_stores
from gateway.edits import EditRefused
from resolver.model import AccountId
from storage.catalog import AccountRow, CatalogRows

accounts = typer.Typer(help="Who uses the API: accounts, their subaccounts, their tokens.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(help="Its auth_id.", metavar="AUTH_ID")]


@accounts.command("create")
def create_account(
    name: str,
    main: Annotated[str, typer.Option(help="The auth_id of the account it is to be a subaccount of.")] = "",
    data: Data = None,
    config: Config = None,
) -> None:
    """Make an account and print its credentials, once."""
    main_id = AccountId(main) if main else None
    print_credentials(edited(data, config, lambda edits, now_ms: edits.create(name, main_id=main_id, now_ms=now_ms)))


@accounts.command("list")
def list_accounts(
    main: Annotated[str, typer.Option(help="The subaccounts of this auth_id only.")] = "",
    data: Data = None,
    config: Config = None,
) -> None:
    """List all accounts, without their tokens."""
    rows = with_stores(settings_of(data, config), lambda stores: stores.catalog.load_all())
    print_table(
        "auth_id name enabled powerpacks numbers main",
        [
            (each.account_id, each.name, enabled(each), *counts(rows, each), each.main_id or "")
            for each in rows.accounts
            if not each.deleted_ms and main in ("", each.main_id)
        ],
    )


@accounts.command("show")
def show_account(auth_id: Account, data: Data = None, config: Config = None) -> None:
    """Show one account, without its tokens."""
    rows = with_stores(settings_of(data, config), lambda stores: stores.catalog.load_all())
    row = next((each for each in rows.accounts if each.account_id == auth_id and not each.deleted_ms), None)
    if row is None:
        raise EditRefused("not_found", f"there is no account {auth_id!r}")
    has_former = len(row.tokens(SystemClock().now_ms())) > 1
    powerpacks, numbers = counts(rows, row)
    shown = {
        "auth_id": row.account_id,
        "name": row.name,
        "enabled": enabled(row),
        "main": row.main_id or "",
        "subaccounts": str(sum(each.main_id == auth_id and not each.deleted_ms for each in rows.accounts)),
        "powerpacks": powerpacks,
        "numbers": numbers,
        "created": iso(row.created_ms),
        "former_token_until": iso(row.former_until_ms) if has_former else "",
    }
    for name, value in shown.items():
        typer.echo(f"{name + ':':<20}{value}".rstrip())


@accounts.command("enable")
def enable_account(auth_id: Account, data: Data = None, config: Config = None) -> None:
    """Let an account in again, and its subaccounts that are enabled."""
    row = edited(data, config, lambda edits, now: edits.change(AccountId(auth_id), enabled=True, now_ms=now))
    typer.echo(f"{row.account_id} is enabled")


@accounts.command("disable")
def disable_account(auth_id: Account, data: Data = None, config: Config = None) -> None:
    """Shut an account out, and its subaccounts; what it has sent leaves, and is reported, as ever."""
    row = edited(data, config, lambda edits, now: edits.change(AccountId(auth_id), enabled=False, now_ms=now))
    typer.echo(f"{row.account_id} is disabled")


@accounts.command("rotate")
def rotate_token(
    auth_id: Account,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=OVERLAP_HOURS_MAX, help="How long the token before stays good; 0: not at all.")
    ] = OVERLAP_HOURS,
    data: Data = None,
    config: Config = None,
) -> None:
    """Give an account a new token and print it, once; the one before stays good for a while."""
    row = edited(
        data,
        config,
        lambda edits, now: edits.rotate(AccountId(auth_id), overlap_hours=overlap_hours, now_ms=now),
    )
    print_credentials(row)
    if overlap_hours:
        typer.echo(f"The token before is good until {iso(row.former_until_ms)}.", err=True)


@accounts.command("revoke")
def revoke_token(auth_id: Account, data: Data = None, config: Config = None) -> None:
    """Let only an account's newest token be good; to replace that one at once: rotate --overlap-hours 0."""
    row = edited(data, config, lambda edits, now: edits.revoke(AccountId(auth_id), now_ms=now))
    typer.echo(f"only the newest token of {row.account_id} is good")


def edited(
    data: Path | None, config: Path | None, edit: Callable[[AccountEdits, int], Awaitable[AccountRow]]
) -> AccountRow:
    """Do an edit of one account; a gateway that runs hears of it at once."""
    now_ms = SystemClock().now_ms()
    return with_stores(settings_of(data, config), lambda stores: edit(AccountEdits(stores.catalog), now_ms))


def print_credentials(row: AccountRow) -> None:
    """The only time a token is shown."""
    typer.echo(f"auth_id:    {row.account_id}\nauth_token: {row.token}")
    typer.echo("The token is not shown again.", err=True)


def enabled(row: AccountRow) -> str:
    if row.enabled and not row.main_enabled:
        return "no, its main account is not"
    return "yes" if row.enabled else "no"


def counts(rows: CatalogRows, account: AccountRow) -> tuple[str, str]:
    """How many powerpacks and numbers an account has."""
    account_id = account.account_id
    return (
        str(sum(each.account_id == account_id for each in rows.powerpacks)),
        str(sum(each.account_id == account_id for each in rows.numbers)),
    )
