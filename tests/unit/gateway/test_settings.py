"""Settings: flags over variables over the file over defaults; a bad one gives one line that names its place."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.fields import BadSetting
from gateway.settings import SECTIONS, Settings, read_settings, variable_of


def read(
    tmp_path: Path, toml: str = "", environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> Settings:
    file = tmp_path / "sendpool.toml"
    file.write_text(toml, "utf-8")
    return read_settings(flags, config=file, environ=environ or {})


def complaint(
    tmp_path: Path, toml: str = "", environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> str:
    with pytest.raises(BadSetting) as raised:
        read(tmp_path, toml, environ, flags)
    said = str(raised.value)
    assert "\n" not in said
    return said.replace(f"{tmp_path}/", "")


def test_reports_may_not_be_waited_for_longer_than_messages_are_kept(tmp_path: Path) -> None:
    days = 86_400_000
    said = complaint(tmp_path, f"[lanes]\nreport_wait_ms = {40 * days}")
    assert said.startswith("sendpool.toml [lanes] report_wait_ms: reports would be waited for 40 days, but at most 29")
    assert "at most 2 are possible" in complaint(tmp_path, "[storage]\nmessage_days = 6")
    assert read(tmp_path, "[storage]\nmessage_days = 7").storage.message_days == 7


# --- Where a setting comes from ---------------------------------------------------------------------------------------


def test_nothing_set_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings(environ={})
    assert settings == Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.storage.data == Path("data")
    assert not settings.carriers


def test_the_file_wins_over_the_default(tmp_path: Path) -> None:
    assert read(tmp_path, "[server]\nport = 81").server.port == 81


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "[server]\nport = 81", {"SENDPOOL_PORT": "82"}).server.port == 82


def test_a_flag_wins_over_a_variable(tmp_path: Path) -> None:
    settings = read(tmp_path, "[server]\nport = 81", {"SENDPOOL_PORT": "82"}, {"server.port": 83})
    assert settings.server.port == 83


def test_a_flag_that_was_not_given_wins_over_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "[server]\nport = 81", flags={"server.port": None}).server.port == 81


def test_the_file_in_the_current_folder_is_read_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sendpool.toml").write_text("[server]\nport = 81", "utf-8")
    assert read_settings(environ={}).server.port == 81


def test_a_variable_names_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 84", "utf-8")
    assert read_settings(environ={"SENDPOOL_CONFIG": str(other)}).server.port == 84


def test_the_environment_of_the_process_is_the_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENDPOOL_PORT", "85")
    assert read_settings().server.port == 85


@pytest.mark.parametrize(
    ("section", "key", "variable"),
    [
        ("server", "port", "SENDPOOL_PORT"),
        ("storage", "database_url", "SENDPOOL_DATABASE_URL"),
        ("journal", "linger_ms", "SENDPOOL_JOURNAL_LINGER_MS"),
    ],
)
def test_a_variable_is_named_after_its_setting(section: str, key: str, variable: str) -> None:
    assert variable_of(section, key) == variable


def test_no_two_settings_share_a_variable() -> None:
    names = [
        variable_of(section, field.name) for section, part in SECTIONS.items() for field in dataclasses.fields(part)
    ]
    assert len(names) == len(set(names))


# --- Reading each type ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("Yes", True), ("on", True), ("false", False), ("0", False), ("No", False)],
)
def test_a_variable_says_yes_or_no_in_any_usual_way(tmp_path: Path, text: str, value: bool) -> None:
    assert read(tmp_path, environ={"SENDPOOL_DEMO": text}).server.demo is value


def test_a_list_is_separated_by_commas_in_a_variable(tmp_path: Path) -> None:
    settings = read(tmp_path, environ={"SENDPOOL_LIMITS_COUNTRIES": "US, CA,GB"})
    assert settings.limits.countries == ("US", "CA", "GB")


def test_a_list_is_a_list_in_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, '[limits]\ncountries = ["US", "GB"]').limits.countries == ("US", "GB")


def test_a_path_is_a_path_from_everywhere(tmp_path: Path) -> None:
    assert read(tmp_path, '[storage]\ndata = "a"').storage.data == Path("a")
    assert read(tmp_path, environ={"SENDPOOL_DATA": "b"}).storage.data == Path("b")
    assert read(tmp_path, flags={"storage.data": Path("c")}).storage.data == Path("c")


def test_a_variable_may_group_its_digits_and_have_blanks_around(tmp_path: Path) -> None:
    assert read(tmp_path, environ={"SENDPOOL_LIMITS_WAITING_MAX": " 2_000_000 "}).limits.waiting_max == 2_000_000


# --- What is refused --------------------------------------------------------------------------------------------------

BAD_FILES = [
    ("[server]\nport = 65536", "sendpool.toml [server] port: must be 65,535 or less, not 65536"),
    ("[server]\nport = -1", "sendpool.toml [server] port: must be 0 or more, not -1"),
    ('[server]\nport = "80"', "sendpool.toml [server] port: must be a whole number, not '80'"),
    ("[server]\nport = true", "sendpool.toml [server] port: must be a whole number, not True"),
    ("[server]\nport = 80.0", "sendpool.toml [server] port: must be a whole number, not 80.0"),
    ("[server]\nhost = 1", "sendpool.toml [server] host: must be a text, not 1"),
    ("[server]\ndemo = 1", "sendpool.toml [server] demo: must be true or false, not 1"),
    ('[limits]\ncountries = "US"', "sendpool.toml [limits] countries: must be a list of texts, not 'US'"),
    ("[limits]\ncountries = [1]", "sendpool.toml [limits] countries: must be a list of texts, not [1]"),
    ('[storage]\ndata = ""', "sendpool.toml [storage] data: must be a path, not ''"),
    ('[log]\nlevel = "loud"', "sendpool.toml [log] level: must be one of debug, info, warning, error, not 'loud'"),
    ("[server]\nprot = 1", "sendpool.toml [server]: there is no setting 'prot'; is it 'port'?"),
    ("[serve]\nport = 1", "sendpool.toml: there is no section 'serve'; is it 'server'?"),
    ("port = 1", "sendpool.toml: there is no section 'port'"),
    ("server = 1", "sendpool.toml [server]: must be a table"),
    ("carriers = 1", "sendpool.toml [carriers]: must be a table"),
    ("[carriers]\nx = 1", "sendpool.toml [carriers.x]: must be a table"),
    ("[carriers.X]", "sendpool.toml [carriers.X]: a carrier's name is a to z, 0 to 9, - and _, at most 32 characters"),
    ('[carriers.x]\nname = "y"', "sendpool.toml [carriers.x] name: a carrier's name is that of its table"),
    ('[carriers.x]\nkind = "pigeon"', "sendpool.toml [carriers.x] kind: must be one of simulated, http, not 'pigeon'"),
    ("[carriers.x]\nplaces = 0", "sendpool.toml [carriers.x] places: must be 1 or more, not 0"),
    (
        '[server]\npublic_url = "https://x/y"',
        "sendpool.toml [server] public_url: 'https://x/y' is no http(s)://name[:port] without a path",
    ),
]


@pytest.mark.parametrize(("toml", "said"), BAD_FILES)
def test_a_bad_file_gives_one_line_with_the_place(tmp_path: Path, toml: str, said: str) -> None:
    assert complaint(tmp_path, toml) == said


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("SENDPOOL_PORT", "tcp://10.0.0.1:80", "SENDPOOL_PORT: must be a whole number, not 'tcp://10.0.0.1:80'"),
        ("SENDPOOL_PORT", "", "SENDPOOL_PORT: must be a whole number, not ''"),
        ("SENDPOOL_PORT", "٨٠", "SENDPOOL_PORT: must be a whole number, not '٨٠'"),
        ("SENDPOOL_PORT", "99999", "SENDPOOL_PORT: must be 65,535 or less, not 99999"),
        ("SENDPOOL_DEMO", "maybe", "SENDPOOL_DEMO: must be true or false, not 'maybe'"),
        ("SENDPOOL_LANES_CLAIM_LEAD_MS", "2000", "SENDPOOL_LANES_CLAIM_LEAD_MS: must be 1,000 or less, not 2000"),
    ],
)
def test_a_bad_variable_gives_one_line_with_its_name(tmp_path: Path, variable: str, text: str, said: str) -> None:
    assert complaint(tmp_path, environ={variable: text}) == said


def test_a_bad_flag_gives_one_line_with_the_flag(tmp_path: Path) -> None:
    assert complaint(tmp_path, flags={"server.port": 70_000}) == "--port: must be 65,535 or less, not 70000"


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(BadSetting, match=r"missing\.toml: cannot be read: No such file or directory"):
        read_settings(config=missing, environ={})


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    said = complaint(tmp_path, "[server]\nport = \n")
    assert said.startswith("sendpool.toml: is no TOML:")
    assert "line 2" in said


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sendpool.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match="is no TOML"):
        read_settings(config=file, environ={})


def test_a_variable_no_setting_has_is_a_warning_since_others_set_variables_too(tmp_path: Path) -> None:
    settings = read(tmp_path, environ={"SENDPOOL_PROT": "1", "SENDPOOL_SERVICE_HOST": "10.0.0.1", "OTHER": "x"})
    assert len(settings.warnings) == 2
    assert "SENDPOOL_PROT" in settings.warnings[0]
    assert "'SENDPOOL_PORT'?" in settings.warnings[0]


def test_variables_of_the_tests_are_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path, environ={"SENDPOOL_TEST_CYCLES": "30"}).warnings == ()


# --- Secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_is_shown_by_nobody(tmp_path: Path) -> None:
    toml = '[carriers.x]\nkind = "http"\ntoken = "canary"'
    settings = read(tmp_path, toml, {"SENDPOOL_DATABASE_URL": "postgres://u:canary@h/d"})
    assert settings.storage.database_url.endswith("canary@h/d")
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings.storage)


# --- Carriers and the demo --------------------------------------------------------------------------------------------


def test_a_carrier_is_a_table_and_its_kind_gets_what_only_it_knows(tmp_path: Path) -> None:
    toml = '[carriers.east-1]\nkind = "http"\nsegments_per_s = 50\nurl = "https://c.example/"\nnested = {a = 1}'
    carrier = read(tmp_path, toml).carriers["east-1"]  # type: ignore[index]
    assert (carrier.name, carrier.kind, carrier.segments_per_s) == ("east-1", "http", 50)
    assert carrier.options == {"url": "https://c.example/", "nested": {"a": 1}}


def test_a_variable_adds_to_a_carrier_of_the_file_so_that_its_secrets_need_not_stand_there(tmp_path: Path) -> None:
    toml = "[carriers.east]\n[carriers.east-1]\n"
    environ = {"SENDPOOL_CARRIERS_EAST_1_TOKEN": "t1", "SENDPOOL_CARRIERS_EAST_PLACES": "7"}
    settings = read(tmp_path, toml, environ)
    assert settings.carriers["east-1"].options == {"token": "t1"}  # type: ignore[index]
    assert settings.carriers["east"].places == 7  # type: ignore[index]
    assert settings.warnings == ()


def test_a_variable_makes_no_carrier(tmp_path: Path) -> None:
    settings = read(tmp_path, environ={"SENDPOOL_CARRIERS_WEST_TOKEN": "t"})
    assert not settings.carriers
    assert "SENDPOOL_CARRIERS_WEST_TOKEN" in settings.warnings[0]


def test_the_demo_brings_its_carrier_and_reaches_endpoints_on_this_machine(tmp_path: Path) -> None:
    settings = read(tmp_path, flags={"server.demo": True})
    assert settings.carriers["simulated"].kind == "simulated"  # type: ignore[index]
    assert settings.callbacks.allow_private
    assert settings.callbacks.allow_http


def test_without_the_demo_private_addresses_and_plain_http_are_not_called(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert not settings.callbacks.allow_private
    assert not settings.callbacks.allow_http


def test_what_was_set_wins_over_the_demo(tmp_path: Path) -> None:
    toml = "[carriers.simulated]\nplaces = 3\n[callbacks]\nallow_private = false"
    settings = read(tmp_path, toml, flags={"server.demo": True})
    assert settings.carriers["simulated"].places == 3  # type: ignore[index]
    assert not settings.callbacks.allow_private
    assert settings.callbacks.allow_http


# --- The declarations themselves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_why_and_its_default_is_within_its_bounds(section: str) -> None:
    for field in dataclasses.fields(SECTIONS[section]):
        facts = field.metadata
        assert facts["why"], field.name
        assert facts["least"] is None or field.default >= facts["least"], field.name
        assert facts["most"] is None or field.default <= facts["most"], field.name
        assert not facts["one_of"] or field.default in facts["one_of"], field.name


@pytest.mark.parametrize("section", SECTIONS)
def test_settings_do_not_change(section: str) -> None:
    part = SECTIONS[section]()
    name = dataclasses.fields(part)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(part, name, None)


@pytest.mark.parametrize("section", SECTIONS)
def test_no_setting_is_there_that_nobody_reads(section: str) -> None:
    code = "\n".join(
        path.read_text("utf-8")
        for path in (Path(__file__).resolve().parents[3] / "gateway").rglob("*.py")
        if path.name not in ("settings.py", "fields.py")
    )
    unread = [
        field.name for field in dataclasses.fields(SECTIONS[section]) if not re.search(rf"\.{field.name}\b", code)
    ]
    assert unread == []
