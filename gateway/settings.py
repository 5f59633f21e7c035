"""What can be set: one frozen dataclass per part, read once, checked, then passed as objects.

Flags win over `SENDPOOL_*` variables, variables over `sendpool.toml`, the file over the defaults below, each of which
has its reason beside it. The only module that reads the environment. `docs/settings.md` is printed from these fields.

In the file a section is a table and a setting a key of it (`[journal] linger_ms = 2`); as a variable it is
`SENDPOOL_JOURNAL_LINGER_MS`. What is set most often, the sections `server` and `storage`, goes without the section's
name: `SENDPOOL_PORT`, `SENDPOOL_DATABASE_URL`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.fields import BadSetting, Given, checked, keys_of, nearest, refuse_unknown, setting
from resolver.model import CarrierName

KIB: Final = 1024
MIB: Final = 1024 * KIB
SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
VALIDITY_DAYS_MAX: Final = 4  # three, and one for clocks
REPORT_WAIT_DAYS_MAX: Final = 29  # a start sweeps the last 30

CONFIG_FILE: Final = "sendpool.toml"
PREFIX: Final = "SENDPOOL_"
DEMO_CARRIER: Final = CarrierName("simulated")


# --- The parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the gateway listens, and how much it takes at once."""

    host: str = setting("127.0.0.1", "address to listen on; this machine only, since the gateway speaks plain HTTP")
    port: int = setting(8080, "port to listen on; 0 takes a free one", least=0, most=65_535)
    public_url: str = setting("", "how accounts and carriers reach us, if not by host and port: http(s)://name[:port]")
    demo: bool = setting(False, "make an account and fictional numbers in an empty data folder")
    takeover: bool = setting(True, "take a database over from the process that owns it; else say who does, and stop")
    open_metrics: bool = setting(False, "serve /metrics to more than this machine; it tells how much you send")
    requests_max: int = setting(256, "requests in progress; half for one account, so none can shut out all", least=2)
    body_bytes_max: int = setting(
        256 * KIB, "of a request: 1,000 recipients and the longest text take 20 KiB", least=KIB
    )
    streams_max: int = setting(32, "streams in progress, beside the requests; half for one account", least=2)
    stream_idle_ms: int = setting(
        30 * SECOND_MS, "a stream in which nothing comes, or whose answer nobody reads, ends", least=100
    )
    stream_bytes_min: int = setting(
        128, "that a stream moves in `stream_idle_ms`, so that no trickle holds a place; a line or two", least=1
    )
    wrong_credentials_ms_max: int = setting(
        2 * SECOND_MS,
        "how long the answer to wrong credentials is held back at most, when they come again and again; 0: not at all",
        least=0,
    )
    connections_per_ip_max: int = setting(200, "open connections of one address; SDKs keep a few", least=1)
    connections_max: int = setting(
        10_000, "open connections in all; fewer where the process may not have so many files open", least=1
    )
    backlog: int = setting(1_024, "connections the kernel holds while we are busy", least=1)
    keepalive_ms: int = setting(75 * SECOND_MS, "an idle connection is kept; longer than most proxies do", least=0)
    head_ms_max: int = setting(10 * SECOND_MS, "for a complete request head; slower is no client of ours", least=100)
    body_ms_max: int = setting(30 * SECOND_MS, "for a complete request body", least=100)
    unread_ms_max: int = setting(
        30 * SECOND_MS, "a client may take nothing of its answer; then its connection is cut", least=100
    )
    drain_requests_ms_max: int = setting(10 * SECOND_MS, "stopping: for requests in progress to end", least=0)
    drain_answers_ms_max: int = setting(
        10 * SECOND_MS, "stopping: for carriers to answer what was handed over", least=0
    )
    drain_ms_max: int = setting(
        30 * SECOND_MS, "stopping in all, then we just end; Kubernetes kills after 30 s", least=1
    )


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where things are kept, and for how long."""

    data: Path = setting(  # noqa: RUF009 - a Path is as immutable as a text
        Path("data"), "folder of the embedded PostgreSQL, the sealing key and demo.json"
    )
    database_url: str = setting("", "a PostgreSQL (15 or later) of your own; empty: the embedded one", secret=True)
    master_key: str = setting("", "seals accounts' tokens: 32 bytes in base64; empty: the key file's", secret=True)
    key_file: str = setting("", "holds the master key, made if it is not there; empty: master.key in the data folder")
    allow_unsafe_durability: bool = setting(
        False, "run on a server that may lose what it confirms; never where it counts"
    )
    message_days: int = setting(90, "messages and their facts are kept; as long as Plivo keeps numbers", least=5)
    text_days: int = setting(7, "texts are kept; as long as Plivo does", least=5)
    callback_days: int = setting(7, "callbacks are kept; they are retried for 75 hours", least=5)


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Group commit: what gathered while the last commit ran is committed next."""

    batch_rows_max: int = setting(1_000, "of one transaction: 7 ms of COPY, so nobody waits long for another", least=1)
    batch_bytes_max: int = setting(MIB, "of one transaction", least=KIB)
    linger_ms: int = setting(
        2, "a commit waits for company, under load only; a commit itself takes 1 ms", least=0, most=100
    )
    waiting_rows_max: int = setting(20_000, "not yet committed; more is refused: 503 overloaded", least=1_000)
    waiting_bytes_max: int = setting(32 * MIB, "not yet committed; more is refused: 503 overloaded", least=MIB)
    wait_ms_max: int = setting(
        250, "a request would wait for its commit behind its account's others; more is refused: 503 overloaded", least=1
    )
    hold_ms_max: int = setting(2 * SECOND_MS, "requests wait for an absent database: a restart of PostgreSQL", least=0)
    unknown_ms_max: int = setting(
        4 * SECOND_MS, "to find out whether a cut commit took place; SDKs give up at 5 s", least=1
    )


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """How messages leave: one lane per carrier."""

    claim_lead_ms: int = setting(
        100, "claimed ahead of its instant: a slow commit costs no pace", least=0, most=SECOND_MS
    )
    claim_good_ms: int = setting(5 * SECOND_MS, "a claim is good for; then it is given up and made again", least=100)
    away_ms_max: int = setting(
        5 * SECOND_MS, "claimed messages may leave with the database away", least=0, most=5 * SECOND_MS
    )
    answer_ms_max: int = setting(10 * SECOND_MS, "for a carrier's answer; then the outcome is unknown", least=100)
    retries_max: int = setting(5, "of a message a carrier failed to take; throttling does not count", least=0)
    retry_ms_first: int = setting(SECOND_MS, "until the first retry; doubled each time", least=1)
    retry_ms_most: int = setting(5 * MINUTE_MS, "between two retries; validity is three hours", least=1)
    unknown_wait_ms: int = setting(10 * SECOND_MS, "for a late report, before `on_unknown` decides", least=0)
    report_wait_ms: int = setting(
        72 * HOUR_MS, "for a delivery report; carriers try for two or three days", least=MINUTE_MS
    )
    awaiting_max: int = setting(
        200_000, "sent messages remembered until their report; others are looked up", least=1_000
    )


@dataclass(frozen=True, slots=True)
class CallbackSettings:
    """What is told to accounts."""

    allow_private: bool = setting(False, "callbacks to private addresses and this machine; --demo allows them")
    allow_http: bool = setting(False, "callbacks without TLS, readable by all on the way; --demo allows them")
    allow_networks: tuple[str, ...] = setting((), "networks that may be called too, such as 10.1.0.0/16")
    answer_ms_max: int = setting(8 * SECOND_MS, "for an endpoint's answer; as Plivo", least=100)
    answer_bytes_max: int = setting(64 * KIB, "read of an endpoint's answer; we only need its status", least=0)
    in_flight_max: int = setting(128, "callbacks on their way at once", least=1)
    endpoint_in_flight_max: int = setting(
        16, "of these to one endpoint, so that a slow one costs others nothing", least=1
    )
    retry_hours: int = setting(75, "a callback is retried; outlasts a weekend, as the Standard Webhooks say", least=1)


@dataclass(frozen=True, slots=True)
class LimitsSettings:
    """What is bounded, and which recipients are written to at all."""

    countries: tuple[str, ...] = setting(("US", "CA"), "recipients' countries (ISO 3166-1 alpha-2); others are barred")
    waiting_max: int = setting(1_000_000, "messages waiting in memory, 700 bytes each; more is refused", least=1)
    threads_max: int = setting(1_000_000, "sticky threads in memory; made by replies alone go first", least=1)
    account_requests_per_5_s: int = setting(0, "of one account, then 429; 0: no limit; Plivo's is 300", least=0)
    memory_percent_max: int = setting(
        80, "of what this process may use; above it nothing more is accepted", least=1, most=100
    )
    disk_free_mib_min: int = setting(2_048, "in the data folder; below it nothing more is accepted", least=0)
    loop_lag_ms_max: int = setting(500, "the event loop is late; above it nothing more is accepted", least=10)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is written to standard error."""

    level: str = setting("info", "least level written; debug has a line per message", one_of="debug info warning error")
    format: str = setting("auto", "auto: lines for people on a terminal, else JSON", one_of="auto json console")


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The administrator's API, on a listener of its own; it listens on 127.0.0.1 only, whatever `host` is."""

    enabled: bool = setting(False, "serve it; the commands do the same without it")
    port: int = setting(8081, "its port; 0 takes a free one", least=0, most=65_535)
    token: str = setting("", "what it asks for; empty: that in admin.token of the data folder", secret=True)


@dataclass(frozen=True, slots=True)
class OperatorLookupSettings:
    """A service that knows whose recipient a number is, asked where operator rules need it: docs/operators.md."""

    url: str = setting("", "what is asked, with {number} for the recipient's digits; empty: nobody")
    authorization: str = setting("", "the Authorization header it wants, such as `Bearer …`", secret=True)
    operator: str = setting("", "path to the operator's name in the JSON answer, such as data.carrier.name")
    wait_ms_max: int = setting(300, "a message waits for its answer; then it has no operator", least=1, most=10_000)
    answer_ms_max: int = setting(2_000, "an answer may take; late ones serve the next message", least=1)
    in_flight_max: int = setting(16, "requests to it at once", least=1, most=1_000)
    cache_max: int = setting(100_000, "answers in memory, about 600 bytes each", least=1, most=5_000_000)
    cache_s: int = setting(86_400, "an answer counts; people change networks rarely", least=1)
    unknown_cache_s: int = setting(600, "an answer without an operator counts", least=1)


@dataclass(frozen=True, slots=True)
class CarrierSettings:
    """A carrier link: `[carriers.NAME]`. `options` are what its kind takes beyond these, checked by that kind."""

    name: CarrierName  # the table's; numbers name their carrier by it
    kind: str = setting("simulated", "how messages leave", one_of="simulated http")
    segments_per_s: int = setting(
        1_000, "the link's rate as agreed with the carrier; a window like a number's", least=1
    )
    places: int = setting(64, "hand-overs without an answer at once", least=1, most=10_000)
    options: Mapping[str, object] = field(default_factory=dict, repr=False)  # hold credentials


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that was set; `warnings` are for whoever starts the gateway."""

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    journal: JournalSettings = JournalSettings()
    lanes: LaneSettings = LaneSettings()
    callbacks: CallbackSettings = CallbackSettings()
    limits: LimitsSettings = LimitsSettings()
    log: LogSettings = LogSettings()
    admin: AdminSettings = AdminSettings()
    operator_lookup: OperatorLookupSettings = OperatorLookupSettings()
    carriers: Mapping[CarrierName, CarrierSettings] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "server": ServerSettings,
    "storage": StorageSettings,
    "journal": JournalSettings,
    "lanes": LaneSettings,
    "callbacks": CallbackSettings,
    "limits": LimitsSettings,
    "log": LogSettings,
    "admin": AdminSettings,
    "operator_lookup": OperatorLookupSettings,
}
WITHOUT_PREFIX: Final = ("server", "storage")


def variable_of(section: str, key: str) -> str:
    """Give the name of the environment variable for a setting."""
    return (PREFIX + key if section in WITHOUT_PREFIX else f"{PREFIX}{section}_{key}").upper()


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_settings(
    flags: Mapping[str, object] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read everything once. `flags` are `section.key` → value; None values were not given.

    `config` must exist if given; without it `SENDPOOL_CONFIG` counts, then `sendpool.toml` here if there is one.
    Relative folders are relative to where the program was started. Raises BadSetting.
    """
    environ = os.environ if environ is None else environ
    tables, file = _load_file(config, environ)
    given: dict[str, dict[str, Given]] = {name: dict(_from_file(tables, name, file)) for name in SECTIONS}
    carriers = _carriers_from_file(tables, file)
    refuse_unknown(tables, [*SECTIONS, "carriers"], file, "section")
    unknown = _add_variables(given, carriers, environ)
    for flag, value in (flags or {}).items():
        section, _, key = flag.partition(".")
        if value is not None:
            given[section][key] = Given(value, "--" + key.replace("_", "-"))
    sections = {name: checked(part, given[name], name) for name, part in SECTIONS.items()}
    return _complete(Settings(**sections, warnings=unknown), carriers, given)


def _complete(
    settings: Settings, carriers: Mapping[str, Mapping[str, Given]], given: Mapping[str, Mapping[str, Given]]
) -> Settings:
    """Add the carriers, and what follows from `--demo` unless it was set otherwise."""
    found = {CarrierName(name): _carrier(name, values) for name, values in carriers.items()}
    callbacks = settings.callbacks
    if settings.server.demo:
        found.setdefault(DEMO_CARRIER, CarrierSettings(name=DEMO_CARRIER))
        callbacks = dataclasses.replace(
            callbacks,
            allow_private=callbacks.allow_private or "allow_private" not in given["callbacks"],
            allow_http=callbacks.allow_http or "allow_http" not in given["callbacks"],
        )
    _check_report_wait(settings, given)
    url = settings.server.public_url
    if url and not re.fullmatch(r"https?://[^/\s?#@]+", url):
        place = given["server"]["public_url"].place
        raise BadSetting(f"{place}: {url!r} is no http(s)://name[:port] without a path")
    return dataclasses.replace(settings, carriers=types.MappingProxyType(found), callbacks=callbacks)


def _check_report_wait(settings: Settings, given: Mapping[str, Mapping[str, Given]]) -> None:
    """A message must still be stored when its report is no longer waited for: else it would have no end."""
    wait_days = settings.lanes.report_wait_ms / DAY_MS
    most_days = min(settings.storage.message_days - VALIDITY_DAYS_MAX, REPORT_WAIT_DAYS_MAX)
    if wait_days > most_days:
        found = given["lanes"].get("report_wait_ms") or given["storage"].get("message_days")
        place = found.place if found is not None else "[lanes] report_wait_ms"
        raise BadSetting(
            f"{place}: reports would be waited for {wait_days:.0f} days, but at most {most_days} are possible: messages"
            f" are kept {settings.storage.message_days} days (message_days), and may wait for {VALIDITY_DAYS_MAX}"
        )


def _load_file(config: Path | None, environ: Mapping[str, str]) -> tuple[dict[str, object], str]:
    named = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    path = named or Path(CONFIG_FILE)
    if named is None and not path.is_file():
        return {}, str(path)
    try:
        return tomllib.loads(path.read_text("utf-8")), str(path)
    except OSError as error:
        raise BadSetting(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path}: is no TOML: {error}") from error


def _table(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadSetting(f"{place}: must be a table")
    return value


def _from_file(tables: Mapping[str, object], section: str, file: str) -> Iterator[tuple[str, Given]]:
    place = f"{file} [{section}]"
    table = _table(tables.get(section, {}), place)
    refuse_unknown(table, keys_of(SECTIONS[section]), place, "setting")
    for key, value in table.items():
        yield key, Given(value, f"{place} {key}")


def _carriers_from_file(tables: Mapping[str, object], file: str) -> dict[str, dict[str, Given]]:
    found: dict[str, dict[str, Given]] = {}
    for name, table in _table(tables.get("carriers", {}), f"{file} [carriers]").items():
        place = f"{file} [carriers.{name}]"
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
            raise BadSetting(f"{place}: a carrier's name is a to z, 0 to 9, - and _, at most 32 characters")
        found[name] = {key: Given(value, f"{place} {key}") for key, value in _table(table, place).items()}
    return found


def _carrier(name: str, values: Mapping[str, Given]) -> CarrierSettings:
    if "name" in values:
        raise BadSetting(f"{values['name'].place}: a carrier's name is that of its table")
    ours = {key: given for key, given in values.items() if key in keys_of(CarrierSettings)}
    options = {key: given.value for key, given in values.items() if key not in ours}
    ours["name"] = Given(name, f"[carriers.{name}]")
    return dataclasses.replace(
        checked(CarrierSettings, ours, f"carriers.{name}"), options=types.MappingProxyType(options)
    )


def _add_variables(
    given: Mapping[str, dict[str, Given]], carriers: Mapping[str, dict[str, Given]], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Add what the environment says to `given` and `carriers`; answer with warnings about what nothing is called."""
    known = {variable_of(section, key): (section, key) for section, part in SECTIONS.items() for key in keys_of(part)}
    warnings = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == PREFIX + "CONFIG":
            continue
        if variable in known:
            section, key = known[variable]
            given[section][key] = Given(text, variable, is_text=True)
        elif (carrier := _carrier_of(variable, carriers)) is not None:
            key = variable.removeprefix(_carrier_prefix(carrier)).lower()
            carriers[carrier][key] = Given(text, variable, is_text=True)
        elif not variable.startswith(PREFIX + "TEST_"):  # ours, for the tests
            warnings.append(f"{variable} is set, but no setting has that name{nearest(variable, known)}")
    return tuple(warnings)


def _carrier_prefix(name: str) -> str:
    return f"{PREFIX}CARRIERS_{name.replace('-', '_')}_".upper()


def _carrier_of(variable: str, carriers: Mapping[str, object]) -> str | None:
    fits = [name for name in carriers if variable.startswith(_carrier_prefix(name))]
    return max(fits, key=len, default=None)
