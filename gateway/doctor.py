"""`sendpool doctor`: looks at everything that must be right before messages leave, and says what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from gateway.carriers.carrier import WebhookReader
from gateway.carriers.http import compile_carrier
from gateway.carriers.kinds import find_shared, make_carrier
from gateway.clock import SystemClock
from gateway.compiled import is_compiled, program
from gateway.fields import BadSetting
from gateway.pressure import measure_room
from gateway.settings import MIB, CarrierSettings, Settings
from gateway.stores import find_owner, make_data_folder, open_stores
from resolver.model import CarrierName, NumberType, Pause
from storage.catalog import CatalogRows
from storage.records import StorageError


class Level(StrEnum):
    """How a finding is to be taken."""

    WELL = "ok"
    NOTE = "note"  # worth knowing; may be meant so
    BAD = "BAD"  # something will not work


class Finding(NamedTuple):
    """What was looked at, and what was found."""

    level: Level
    what: str
    said: str


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; raises nothing that says something about the installation."""
    findings = [*_program(), *_settings(settings), *_carriers(settings)]
    try:
        make_data_folder(settings.storage.data)
        findings.extend(_disk(settings))
        async with open_stores(settings.storage) as stores:
            place = "your own" if stores.server is None else "embedded"
            findings.append(Finding(Level.WELL, "database", f"{place}; its settings are safe, its schema is current"))
            owner, sessions = await find_owner(stores.database)
            findings.append(Finding(Level.WELL, "gateway", f"{owner} is at work" if sessions else "none is running"))
            findings.extend(_catalog(settings, await stores.catalog.load_all()))
    except (BadSetting, StorageError) as error:
        findings.append(Finding(Level.BAD, "database", str(error)))
    return findings


def _program() -> Iterator[Finding]:
    yield Finding(Level.WELL if is_compiled() else Level.NOTE, "program", program())


def _settings(settings: Settings) -> Iterator[Finding]:
    for warning in settings.warnings:
        yield Finding(Level.NOTE, "settings", warning)
    if settings.server.demo:
        yield Finding(Level.NOTE, "settings", "a demo: private callback addresses are allowed, carriers are simulated")
    if settings.storage.allow_unsafe_durability:
        yield Finding(Level.BAD, "settings", "allow_unsafe_durability: what was confirmed may be lost")
    if settings.server.host not in ("127.0.0.1", "::1", "localhost") and not settings.server.public_url:
        said = f"listening on {settings.server.host} in plain HTTP; put a TLS proxy before it and set public_url"
        yield Finding(Level.NOTE, "settings", said)
    yield Finding(Level.WELL, "settings", "every value can be used")


def _carriers(settings: Settings) -> Iterator[Finding]:
    readers: dict[CarrierName, WebhookReader] = {}
    for carrier in settings.carriers.values():
        what = f"carrier {carrier.name}"
        try:
            made = make_carrier(
                carrier, clock=SystemClock(), answer_ms_max=settings.lanes.answer_ms_max,
                public_url=settings.server.public_url,
            )  # fmt: skip
        except (BadSetting, ValueError) as error:
            yield Finding(Level.BAD, what, str(error))
            continue
        readers[carrier.name] = made.webhooks
        yield from _webhooks(settings, carrier)
        said = f"{carrier.kind}, {carrier.segments_per_s} segments/s, {carrier.places} places"
        is_simulated = carrier.kind == "simulated"
        yield Finding(Level.NOTE if is_simulated else Level.WELL, what, said + "; reaches nobody" * is_simulated)
    for shared in find_shared(readers):
        yield Finding(Level.NOTE, "carriers", shared)
    if not settings.carriers:
        yield Finding(Level.BAD, "carriers", "none; add a table [carriers.NAME] to sendpool.toml")


def _webhooks(settings: Settings, carrier: CarrierSettings) -> Iterator[Finding]:
    """Whether an HTTP carrier can report to us."""
    if carrier.kind != "http":
        return
    compiled = compile_carrier(carrier, public_url=settings.server.public_url)
    if not compiled.takes_webhooks:
        yield Finding(Level.NOTE, f"carrier {carrier.name}", "no secret is set, so none of its reports are taken")
    elif not settings.server.public_url:
        said = "public_url is not set, so it is not told where to report"
        yield Finding(Level.NOTE, f"carrier {carrier.name}", said)


def _disk(settings: Settings) -> Iterator[Finding]:
    room = measure_room(settings.storage.data)
    free_mib = room.disk_free_bytes // MIB
    is_short = free_mib < settings.limits.disk_free_mib_min
    said = f"{settings.storage.data}, {free_mib:,} MiB free"
    if is_short:
        said += f", less than disk_free_mib_min ({settings.limits.disk_free_mib_min:,}): nothing would be accepted"
    yield Finding(Level.BAD if is_short else Level.WELL, "data folder", said)


def _catalog(settings: Settings, rows: CatalogRows) -> Iterator[Finding]:
    if not rows.accounts:
        yield Finding(Level.NOTE, "accounts", "none; make one: sendpool accounts create NAME")
    if not rows.numbers:
        yield Finding(Level.NOTE, "numbers", "none; add some: sendpool numbers add E164 --type … --carrier …")
        return
    by_type = Counter(each.type for each in rows.numbers)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(by_type.items()))
    yield Finding(Level.WELL, "numbers", counts)
    yield from _without_carrier(settings, (each.carrier for each in rows.numbers))
    unapproved = sum(each.type is NumberType.LONG_CODE and not each.campaign_approved for each in rows.numbers)
    if unapproved:
        yield Finding(Level.NOTE, "numbers", f"{unapproved:,} long codes without campaign: 150 messages a day each")
    unverified = sum(each.type is NumberType.TOLL_FREE and not each.verified for each in rows.numbers)
    if unverified:
        yield Finding(Level.NOTE, "numbers", f"{unverified:,} toll-free numbers are not verified, and send nothing")
    members = {each.powerpack_id for each in rows.numbers}
    for powerpack in rows.powerpacks:
        if powerpack.powerpack_id not in members:
            yield Finding(Level.NOTE, f"powerpack {powerpack.name}", "has no numbers")
        if powerpack.pause is not Pause.NONE:
            yield Finding(Level.NOTE, f"powerpack {powerpack.name}", "is paused")
    for carrier in rows.carriers:
        if carrier.paused and carrier.carrier in settings.carriers:
            said = f"is paused; sendpool carriers resume {carrier.carrier} lets messages leave again"
            yield Finding(Level.NOTE, f"carrier {carrier.carrier}", said)


def _without_carrier(settings: Settings, carriers: Iterable[CarrierName]) -> Iterator[Finding]:
    for carrier, count in sorted(Counter(carriers).items()):
        if carrier not in settings.carriers:
            said = f"{count:,} are on {carrier!r}, which the settings do not have; they send nothing"
            yield Finding(Level.BAD, "numbers", said)
