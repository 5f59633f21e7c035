"""openapi.yaml and what is served: the same routes, the same names, the same codes, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.api.around import Around, Readiness
from gateway.api.bodies import read_bool
from gateway.api.composition import KEYS as COMPOSITION_KEYS
from gateway.api.document import document, document_routes, joined
from gateway.api.errors import ERRORS, ApiError
from gateway.api.middleware import Front
from gateway.api.numberpool import NUMBER, SHORTCODE, TOLLFREE, read_filter
from gateway.api.pages import read_page
from gateway.api.recommend import RECOMMEND_KEYS
from gateway.api.reports import CarrierReports
from gateway.api.router import Access, Route, Router
from gateway.api.routes import LATER
from gateway.api.shapes_application import read_application
from gateway.api.shapes_bulk import ANSWERS, IGNORED, KEYS
from gateway.api.shapes_inventory import read_search
from gateway.api.shapes_message import RESOLVE_KEYS
from gateway.api.shapes_number import UNBUILT_FILTERS, read_number_filter
from gateway.api.shapes_powerpack import read_settings
from gateway.api.shapes_stored import NOT_FILTERED, read_filters
from gateway.api.simulate import SIMULATE_KEYS
from gateway.api.windows import KEYS as WINDOWS_KEYS
from gateway.carriers.carrier import Report
from gateway.clock import SystemClock, SystemIds
from gateway.inbound import Taken
from gateway.settings import LimitsSettings, ServerSettings
from resolver.model import AccountId, CarrierName, PoolId, PowerpackId, PowerpackRow, RefusalCode
from storage.catalog import ApplicationRow
from storage.records import FactKind
from tests.fakes.accept_floor import Tally
from tests.fakes.api_client import serving
from tests.fakes.api_floor import ApiFloor

DOCUMENT: dict[str, Any] = yaml.safe_load(document())
METHODS = ("get", "post", "put", "delete", "patch")
NOT_BUILT = {"media_urls", "media_ids", "template", "interactive", "location"}
"""Keys of POST Message that are refused with `not_supported_yet`; the document has them when they are built."""

Operation = tuple[str, str]


def served() -> dict[Operation, Route]:
    """Every route, as `assembly.make_routes` puts them together."""
    around = Around(lambda: Readiness(accepting=True, sending=True), lambda: b"", open_metrics=True)
    reports = CarrierReports(lambda _: None, take, clock=SystemClock(), counts=Tally())
    routes = [*around.routes(), *document_routes(), *reports.routes(), *ApiFloor().routes]
    return {(route.method, route.path): route for route in routes}


async def take(carrier: CarrierName, reports: Sequence[Report]) -> Taken:
    raise AssertionError("nobody reports")


def documented() -> dict[Operation, dict[str, Any]]:
    """Every operation, with the parameters of its path among its own."""
    return {
        (method.upper(), path): {**item[method], "parameters": [*shared(item), *item[method].get("parameters", [])]}
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item
    }


def shared(item: dict[str, Any]) -> list[Any]:
    return list(item.get("parameters", []))


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` stands for."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def parameters(operation: Operation, place: str) -> set[str]:
    """The names of an operation's parameters in the path, the query or the headers."""
    named = [resolved(each) for each in documented()[operation]["parameters"]]
    return {each["name"] for each in named if each["in"] == place}


def keys(schema: dict[str, Any]) -> set[str]:
    """The keys of an object, whatever it is put together from."""
    schema = resolved(schema)
    found = set(schema.get("properties", {}))
    for part in (each for word in ("allOf", "anyOf", "oneOf") for each in schema.get(word, [])):
        found |= keys(part)
    return found


def body_keys(operation: Operation) -> set[str]:
    return keys(documented()[operation]["requestBody"]["content"]["application/json"]["schema"])


def nodes(node: object) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


async def test_every_route_is_documented_once_it_is_built_and_nothing_else_is() -> None:
    later = {(method, path) for method, path, _ in LATER}
    assert set(documented()) == set(served()) - later


async def test_who_may_call_a_route_is_as_documented() -> None:
    security: dict[Access, list[dict[str, list[str]]]] = {
        Access.ACCOUNT: [{"account": []}],
        Access.OWN: [{"carrier": []}],
        Access.OPEN: [],
    }
    said = {operation: each.get("security", DOCUMENT["security"]) for operation, each in documented().items()}
    routes = served()
    assert said == {operation: security[routes[operation].access] for operation in said}


def test_the_braces_of_a_path_are_its_path_parameters() -> None:
    for method, path in documented():
        assert parameters((method, path), "path") == set(re.findall(r"\{(\w+)\}", path)), path


def test_every_operation_has_a_name_of_its_own_a_tag_a_summary_and_an_answer_for_errors() -> None:
    operations = documented()
    assert len({each["operationId"] for each in operations.values()}) == len(operations)
    tags = {each["name"] for each in DOCUMENT["tags"]}
    for operation, each in operations.items():
        assert set(each["tags"]) <= tags, operation
        assert each["summary"], operation
        assert "default" in each["responses"], operation
        assert any(status.startswith("2") for status in each["responses"]), operation


def test_every_code_stands_in_the_error_schema_and_no_other() -> None:
    codes = DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"]
    assert len(codes) == len(set(codes))
    assert set(codes) == {*ERRORS, *(code.value for code in RefusalCode)}


def test_every_kind_of_fact_stands_in_the_schema_of_a_timeline_and_no_other() -> None:
    kinds = DOCUMENT["components"]["schemas"]["Fact"]["properties"]["fact"]["enum"]
    assert sorted(kinds) == sorted(["accepted", *(kind.value for kind in FactKind)])


def test_nothing_is_described_that_nothing_refers_to() -> None:
    referred = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    described = {
        f"#/components/{kind}/{name}"
        for kind in ("parameters", "headers", "responses", "schemas")
        for name in DOCUMENT["components"][kind]
    }
    assert described - referred == {"#/components/schemas/BulkLine"}  # a line of a stream


# --- Names: what is read is what is documented ------------------------------------------------------------------------


class Asked(Mapping[str, str]):
    """Values of which nothing is given; notes what is asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def read_by(*readers: Callable[[Asked], object]) -> set[str]:
    """The names that are asked for."""
    asked = Asked()
    for reader in readers:
        reader(asked)
    return asked.names


def read_inventory(values: Mapping[str, str]) -> None:
    """All filters are read before the one that must be there is missed."""
    with pytest.raises(ApiError):
        read_search(values)


ACCOUNT = "/v1/Account/{auth_id}/"
MESSAGES, POWERPACKS = f"{ACCOUNT}Message/", f"{ACCOUNT}Powerpack/"
POWERPACK, POOL = f"{POWERPACKS}{{powerpack_uuid}}/", f"{ACCOUNT}NumberPool/{{pool_uuid}}/"
BARE = PowerpackRow(PowerpackId("p"), AccountId("MA"), PoolId("q"), "")
SETTINGS = read_by(lambda values: read_settings(values, BARE))
APPLICATIONS = f"{ACCOUNT}Application/"
BARE_APPLICATION = ApplicationRow("1", AccountId("MA"), "")
APPLICATION = read_by(lambda values: read_application(values, BARE_APPLICATION, str)) | {"subaccount"}
NUMBERS, PHONE_NUMBERS = f"{ACCOUNT}Number/", f"{ACCOUNT}PhoneNumber/"
REFUSED = set(NOT_FILTERED)
SUBACCOUNTS = f"{ACCOUNT}Subaccount/"

QUERIES: dict[Operation, set[str]] = {
    ("GET", MESSAGES): read_by(read_page, read_filters) - REFUSED | {"subaccount"},
    ("GET", SUBACCOUNTS): read_by(read_page),
    ("DELETE", f"{SUBACCOUNTS}{{subauth_id}}/"): {"cascade"},
    ("GET", POWERPACKS): read_by(read_page),
    ("GET", APPLICATIONS): read_by(read_page) | {"app_name", "subaccount"},
    ("DELETE", f"{APPLICATIONS}{{app_id}}/"): {"cascade"},
    ("GET", PHONE_NUMBERS): read_by(read_page, read_inventory),
    ("GET", NUMBERS): read_by(read_page, read_number_filter) - UNBUILT_FILTERS | {"alias", "subaccount"},
    ("POST", f"{MESSAGES}Bulk/"): {*KEYS, ANSWERS, *IGNORED} - NOT_BUILT,
    ("DELETE", MESSAGES): {"powerpack_uuid", "reference"},
    ("DELETE", POWERPACK): {"unrent_numbers"},
    ("GET", f"{POWERPACK}Windows/"): set(WINDOWS_KEYS),
    ("GET", f"{POWERPACKS}Recommend/"): set(RECOMMEND_KEYS),
    ("DELETE", f"{POOL}Number/{{number}}/"): {"unrent"},
    ("DELETE", f"{POOL}Tollfree/{{number}}/"): {"unrent"},
    ("POST", "/carriers/{carrier}/reports"): {"answers"},
    **{
        ("GET", f"{POOL}{kind.name}/"): read_by(read_page, lambda query, kind=kind: read_filter(query, kind))  # type: ignore[misc]
        for kind in (NUMBER, TOLLFREE, SHORTCODE)
    },
}
"""What each operation reads from its query; those that are not listed read nothing."""

ADD = {"service", "rent"}
BODIES: dict[Operation, set[str]] = {
    ("POST", MESSAGES): {*KEYS, "trackable"} - NOT_BUILT,
    ("DELETE", MESSAGES): {"powerpack_uuid", "reference"},
    ("POST", POWERPACKS): SETTINGS,
    ("POST", POWERPACK): SETTINGS,
    ("DELETE", POWERPACK): {"unrent_numbers"},
    ("POST", APPLICATIONS): APPLICATION,
    ("POST", f"{APPLICATIONS}{{app_id}}/"): APPLICATION,
    ("DELETE", f"{APPLICATIONS}{{app_id}}/"): {"cascade"},
    ("POST", SUBACCOUNTS): {"name", "enabled"},
    ("POST", f"{SUBACCOUNTS}{{subauth_id}}/"): {"name", "enabled"},
    ("DELETE", f"{SUBACCOUNTS}{{subauth_id}}/"): {"cascade"},
    ("POST", NUMBERS): {"numbers", "app_id"},
    ("POST", f"{PHONE_NUMBERS}{{number}}/"): {"app_id"},
    ("POST", f"{NUMBERS}{{number}}/"): {"app_id", "alias", "subaccount", "cnam_lookup"},
    ("POST", f"{POWERPACK}Resolve/"): {*RESOLVE_KEYS, "messages"},
    ("POST", f"{POWERPACK}Pause/"): {"refuse"},
    ("POST", f"{POWERPACK}Composition/"): set(COMPOSITION_KEYS),
    ("POST", f"{POWERPACK}Simulate/"): set(SIMULATE_KEYS),
    ("PUT", f"{POWERPACK}Sticky/{{recipient}}/"): {"number"},
    ("DELETE", f"{POOL}Number/{{number}}/"): {"unrent"},
    ("DELETE", f"{POOL}Tollfree/{{number}}/"): {"unrent"},
    **{("POST", f"{POOL}{kind.name}/{{number}}/"): ADD for kind in (NUMBER, TOLLFREE, SHORTCODE)},
}
"""What each operation reads from a JSON object."""


@pytest.mark.parametrize("operation", documented(), ids=" ".join)
def test_a_query_has_the_parameters_that_are_read(operation: Operation) -> None:
    assert parameters(operation, "query") == QUERIES.get(operation, set())


@pytest.mark.parametrize("operation", documented(), ids=" ".join)
def test_a_body_has_the_keys_that_are_read(operation: Operation) -> None:
    content = documented()[operation].get("requestBody", {}).get("content", {})
    if "application/json" not in content or operation == ("POST", "/carriers/{carrier}/reports"):
        assert operation not in BODIES
        return
    assert body_keys(operation) == BODIES[operation]


def test_what_notes_the_names_notes_them() -> None:
    assert read_by(lambda values: read_bool(values, "a"), lambda values: values.get("b")) == {"a", "b"}
    assert "limit" in read_by(read_page)
    with pytest.raises(ApiError):
        read_page({"limit": "x"})


# --- As it is served --------------------------------------------------------------------------------------------------


async def test_everybody_gets_the_document() -> None:
    front = Front(
        Router(document_routes()), {}, clock=SystemClock(), ids=SystemIds(), server=ServerSettings(),
        limits=LimitsSettings(),
    )  # fmt: skip
    async with serving(front) as api:
        answer = await api.raw(b"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/yaml\r\n")
    assert body == document()


# --- One document of several files ------------------------------------------------------------------------------------


def test_files_become_one_document() -> None:
    one = "# said of the file\nopenapi: 3.1.1\n\npaths:\n  /a/:\n    get: {}\nschemas:\n  A: {type: string}\n"
    two = "paths:\n  /b/:\n    get: {}  # stays\nschemas:\n  B: {type: integer}\n"
    text = joined([one, two])
    assert yaml.safe_load(text) == {
        "openapi": "3.1.1",
        "paths": {"/a/": {"get": {}}, "/b/": {"get": {}}},
        "components": {"schemas": {"A": {"type": "string"}, "B": {"type": "integer"}}},
    }
    assert "# stays" in text
    assert "# said of the file" not in text
