"""The command `sendpool`: serve, and what an administrator does beside it.

The commands work while a gateway runs on the same data folder (it hears of their edits at once) and when none does:
then they start its PostgreSQL for themselves and stop it again.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop

from gateway import administering, app, commands_accounts, commands_numbers, commands_operators, rehearsals
from gateway.clock import SystemClock
from gateway.commands import Config, Data, logging_to_stderr, print_table, settings_of, with_stores
from gateway.doctor import Level, examine
from gateway.edits import EditRefused
from gateway.fields import BadSetting
from gateway.logs import hold_standard_files
from gateway.manual import settings_page
from gateway.settings import read_settings
from resolver.model import NumberType
from storage.records import StorageError

FAILED = 1
BAD_SETTING = 2
INTERRUPTED = 130  # as shells have it

cli = typer.Typer(
    help="A self-hosted number-pool messaging gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
numbers = typer.Typer(help="The numbers you send from.", no_args_is_help=True)
carriers = typer.Typer(help="Whom messages are handed to: pause, resume, cancel what waits.", no_args_is_help=True)
cli.add_typer(commands_accounts.accounts, name="accounts")
cli.add_typer(numbers, name="numbers")
cli.add_typer(carriers, name="carriers")
cli.add_typer(commands_operators.operators, name="operators")


def main() -> None:
    """Run a command; a wrong setting or a failing database is one line and an exit code, no traceback."""
    hold_standard_files()
    if not __debug__:
        _fail("python -O is not supported: assertions guard what may never happen", FAILED)
    try:
        cli()
    except BadSetting as error:
        _fail(str(error), BAD_SETTING)
    except (StorageError, administering.Refused, EditRefused) as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)


def _fail(said: str, code: int) -> NoReturn:
    typer.echo(f"sendpool: {said}", err=True)
    sys.exit(code)


# --- The gateway ------------------------------------------------------------------------------------------------------


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8080]; 0 takes a free one.")] = None,
    data: Data = None,
    with_demo: Annotated[bool, typer.Option("--demo", help="Make demo data in an empty data folder.")] = False,
    config: Config = None,
    no_takeover: Annotated[bool, typer.Option("--no-takeover", help="Stop if another process owns the data.")] = False,
) -> None:
    """Run the gateway; Ctrl-C drains and stops it."""
    flags = {
        "server.host": host,
        "server.port": port,
        "storage.data": data,
        "server.demo": True if with_demo else None,
        "server.takeover": False if no_takeover else None,
    }
    settings = read_settings(flags, config=config)
    with (
        logging_to_stderr(settings, level=settings.log.level),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        code = runner.run(app.serve(settings, announce=typer.echo))
    sys.exit(code)


@cli.command()
def doctor(data: Data = None, config: Config = None) -> None:
    """Check settings, database, numbers and carriers; say what is wrong and what to do."""
    settings = settings_of(data, config)
    with logging_to_stderr(settings):
        findings = asyncio.run(examine(settings))
    for finding in findings:
        typer.echo(f"{finding.level:<4}  {finding.what}: {finding.said}")
    if any(finding.level is Level.BAD for finding in findings):
        sys.exit(FAILED)


@cli.command()
def resolve(
    recipient: str,
    powerpack: Annotated[str | None, typer.Option(help="Its uuid; not needed if there is one.")] = None,
    text: Annotated[str, typer.Option(help="What would be sent.")] = "Hello",
    url: Annotated[str | None, typer.Option(help="Where the gateway is, if not where the settings say.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Ask the running gateway which number it would send from, and why; nothing is sent."""
    settings = settings_of(data, config)
    typer.echo(
        with_stores(settings, lambda stores: administering.resolve(stores, settings, url, recipient, powerpack, text))
    )


@cli.command("settings")
def print_settings() -> None:
    """Print everything that can be set, as Markdown."""
    typer.echo(settings_page(), nl=False)


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("sendpool"))


@carriers.command("check")
def check_carrier(
    name: Annotated[str, typer.Argument(help="The carrier: [carriers.NAME] of the settings.")],
    answer: Annotated[Path | None, typer.Option(help="A file with the body of an answer: what would it mean?")] = None,
    status: Annotated[int, typer.Option(help="The HTTP status that goes with --answer.")] = 200,
    report: Annotated[Path | None, typer.Option(help="A file with the body of a report: what would it mean?")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show the request a message would be handed over with, secrets masked; nothing is sent."""
    settings = settings_of(data, config)
    now_ms = SystemClock().now_ms()
    if answer is not None:
        typer.echo(rehearsals.read_sample_answer(settings, name, status, _content(answer), now_ms=now_ms))
    if report is not None:
        for line in rehearsals.read_sample_reports(settings, name, _content(report)):
            typer.echo(line)
    if answer is None and report is None:
        for line in rehearsals.show_submit(settings, name, now_ms=now_ms):
            typer.echo(line)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise BadSetting(f"{path}: cannot be read: {error.strerror}") from error


# --- The catalog ------------------------------------------------------------------------------------------------------


@numbers.command("add")
def add_number(
    number: Annotated[str, typer.Argument(help="E.164 (+14155550100), or a short code's digits.")],
    type_: Annotated[NumberType, typer.Option("--type", help="What kind of number it is.")],
    carrier: Annotated[str, typer.Option(help="The carrier it is provisioned on: [carriers.NAME] of the settings.")],
    campaign: Annotated[str, typer.Option(help="`approved`: its 10DLC campaign is; no daily limit then.")] = "",
    verified: Annotated[bool, typer.Option("--verified", help="A toll-free number's verification is through.")] = False,
    country: Annotated[str, typer.Option(help="Of a short code.")] = "US",
    account: Annotated[str, typer.Option(help="Its auth_id; not needed if there is one.")] = "",
    powerpack: Annotated[str, typer.Option(help="The uuid of the powerpack it joins.")] = "",
    data: Data = None,
    config: Config = None,
) -> None:
    """Tell which number you have, and where it is provisioned."""
    settings = settings_of(data, config)
    wanted = administering.Wanted(
        number, type_, carrier, campaign, verified, country, account, powerpack, SystemClock().now_ms()
    )  # fmt: skip
    row = with_stores(settings, lambda stores: administering.add_number(stores, settings, wanted))
    typer.echo(f"{row.number} is a {row.type} of {row.country} on {row.carrier}, of account {row.account_id}")


@numbers.command("list")
def list_numbers(
    account: Annotated[str, typer.Option(help="Of this auth_id only.")] = "",
    powerpack: Annotated[str, typer.Option(help="Of this powerpack only.")] = "",
    data: Data = None,
    config: Config = None,
) -> None:
    """List your numbers."""
    rows = with_stores(settings_of(data, config), lambda stores: stores.catalog.load_all())
    print_table(
        "number type country carrier campaign verified state powerpack account",
        [
            (
                each.number, each.type, each.country, each.carrier, "approved" if each.campaign_approved else "",
                "yes" if each.verified else "", each.state, each.powerpack_id or "", each.account_id,
            )
            for each in rows.numbers
            if account in ("", each.account_id) and powerpack in ("", each.powerpack_id)
        ],
    )  # fmt: skip


numbers.command("import")(commands_numbers.import_file)
numbers.command("export")(commands_numbers.export_file)


@carriers.command("list")
def list_carriers(data: Data = None, config: Config = None) -> None:
    """List the carriers of the settings, and which of them are paused."""
    settings = settings_of(data, config)
    rows = with_stores(settings, lambda stores: stores.catalog.load_all())
    paused = {each.carrier for each in rows.carriers if each.paused}
    print_table(
        "carrier kind segments_per_s paused numbers",
        [
            (
                name, each.kind, str(each.segments_per_s), "yes" if name in paused else "no",
                str(sum(number.carrier == name for number in rows.numbers)),
            )
            for name, each in settings.carriers.items()
        ],
    )  # fmt: skip


@carriers.command("pause")
def pause_carrier(name: str, data: Data = None, config: Config = None) -> None:
    """Let nothing leave by a carrier until it is resumed; what waits stays, within its validity."""
    settings = settings_of(data, config)
    with_stores(settings, lambda stores: administering.pause_carrier(stores, settings, name, True))
    typer.echo(f"{name} is paused")


@carriers.command("resume")
def resume_carrier(name: str, data: Data = None, config: Config = None) -> None:
    """Let messages leave by a carrier again."""
    settings = settings_of(data, config)
    with_stores(settings, lambda stores: administering.pause_carrier(stores, settings, name, False))
    typer.echo(f"{name} is resumed")


@carriers.command("cancel")
def cancel_for_carrier(name: str, data: Data = None, config: Config = None) -> None:
    """Cancel everything that waits for a carrier now, of all accounts."""
    settings, now_ms = settings_of(data, config), SystemClock().now_ms()
    done = with_stores(
        settings, lambda stores: administering.cancel_for_carrier(stores, settings, name, now_ms=now_ms)
    )  # fmt: skip
    if done is None:
        typer.echo("ordered; the gateway does it as soon as it can, or at its next start before anything leaves")
    else:
        typer.echo(f"{done.cancelled} messages cancelled; {done.in_flight} had been handed over without an answer yet")


if __name__ == "__main__":
    main()
