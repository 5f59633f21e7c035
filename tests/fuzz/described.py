"""Requests made from openapi.yaml by Schemathesis, at a whole demo gateway of our own: `make contract-fuzz`, or

    python -m tests.fuzz.described [--seconds 300] [--seed N]

Each operation is tried with what the document allows and what it does not; answers must be no failure of ours, and look
as the document says. Ends with 1 when something was found; how to send it again is then in build/contract.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import yaml

from gateway.api.router import Access, Route
from tests.acceptance.conftest import Gateway
from tests.fuzz.hooks import NDJSON
from tests.fuzz.run import OPEN_DOOR

ROOT: Final = Path(__file__).resolve().parents[2]
DOOMED: Final = 30
STAYING: Final = 5  # of the powerpack's numbers
NEEDS_MORE: Final = {"POST /carriers/{carrier}/reports"}
"""What cannot be answered well here: the demo's carrier has no secret to prove itself by."""
OF_NO_POWERPACK: Final = "12025550100"
TOLL_FREE: Final = [f"18{place}5550100" for place in ("00", "33", "44", "55", "66", "77", "88")]
SHORT_CODES: Final = ["22555", "55501", "55502"]
"""Of the demo's account; one of each is put into its powerpack."""
RECIPIENTS: Final = [f"+1415555{last:04d}" for last in range(150, 190)]
FOR_RENT: Final = [f"+1{code}555019{last}" for code in ("202", "206", "212") for last in range(5)]
"""Of the demo's inventory."""
POWERPACK: Final = "/v1/Account/{auth_id}/Powerpack/{powerpack_uuid}/"
NUMBERS: Final = "/v1/Account/{auth_id}/Number/"
BULK: Final = "/v1/Account/{auth_id}/Message/Bulk/"
CHECKS: Final = ",".join(
    "not_a_server_error status_code_conformance content_type_conformance response_headers_conformance "
    "response_schema_conformance unsupported_method allow_header_conformance ignored_auth use_after_free "
    "ensure_resource_availability".split()
)
"""All but those that ask for 4xx and 2xx by the document alone: SDKs' odd spellings are taken on purpose, and whether a
message is refused depends on the pool."""


class Result(NamedTuple):
    """What came of it."""

    wrong: list[str]
    missed: set[str]  # what was never answered well, so that nothing is known of it
    said: str


def fire(folder: Path, *, seconds: int, examples: int, seed: int) -> Result:
    """Start a gateway below `folder`, let Schemathesis at it for about `seconds`, stop it, judge."""
    gateway = Gateway(folder / "data", "--demo", "--port", "0", env=OPEN_DOOR)
    try:
        demo = gateway.start().demo
        file = folder / "openapi.yaml"
        api = Api(demo)
        document = prepared(api)
        file.write_text(yaml.safe_dump(document), "utf-8")
        code, said = run(demo, file, seconds=seconds, examples=examples, seed=seed)
        missed = never_well(document, api.text("/metrics")) - NEEDS_MORE
        ended = gateway.stop()
    finally:
        gateway.end()
    log = gateway.log()
    wrong = []
    if code:
        wrong.append(f"Schemathesis ended with {code} (seed {seed}):\n{said}")
    if ended:
        wrong.append(f"the gateway ended with {ended}: {log[-500:]}")
    if re.search(r"Traceback|a request failed|never retrieved", log):
        wrong.append(f"its log tells of failures: {log[-2_000:]}")
    return Result(wrong, missed, said)


def run(demo: dict[str, str], file: Path, *, seconds: int, examples: int, seed: int) -> tuple[int, str]:
    """Give Schemathesis's exit code and what it said."""
    arguments = [
        "run", str(file), "--url", demo["base_url"], "--auth", f"{demo['auth_id']}:{demo['auth_token']}",
        "--checks", CHECKS, "--max-time", str(seconds), "--max-examples", str(examples), "--seed", str(seed),
        "--continue-on-failure", "--warnings", "off", "--report", "junit", "--report-dir", "build/contract",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *arguments],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=seconds + 120,
        check=False,
    )
    return done.returncode, done.stdout


class Api:
    """The demo's account, asked by HTTP."""

    def __init__(self, demo: dict[str, str]) -> None:
        self.demo = demo
        self._base = f"{demo['base_url']}/v1/Account/{demo['auth_id']}/"
        token = f"{demo['auth_id']}:{demo['auth_token']}"
        self._headers = {
            "Authorization": "Basic " + b64encode(token.encode()).decode(),
            "Content-Type": "application/json",
        }

    def __call__(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else orjson.dumps(body)
        request = urllib.request.Request(self._base + path, data, self._headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = orjson.loads(answer.read())
        return found

    def text(self, path: str) -> str:
        """What anybody gets at `path`."""
        with urllib.request.urlopen(self.demo["base_url"] + path, timeout=30) as answer:
            return str(answer.read(), "utf-8")

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.text("/openapi.yaml"))
        return found


def prepared(api: Api) -> dict[str, Any]:
    """The document as it is served, with what there is in place of ids that nobody could guess."""
    document, known, doomed = api.document(), known_ids(api), doomed_ids(api)
    for path, item in document["paths"].items():
        names = re.findall(r"(\w+/\{(\w+)\})", path)
        item["parameters"] = [parameter(name, known.get(place)) for place, name in names]
        if "delete" in item and names and path.endswith(f"{names[-1][0]}/"):
            place, name = names[-1]
            values = doomed.get(place)
            if values and place == "Number/{number}":  # what is taken out of its pool, and what is given up
                values = values["NumberPool" in path :: 2]
            item["delete"].setdefault("parameters", []).append(parameter(name, values))
    message = document["components"]["schemas"]["NewMessage"]["properties"]
    message["dst"] = {"anyOf": [{"enum": RECIPIENTS}, message["dst"]]}
    message["powerpack_uuid"] = {"anyOf": [{"enum": known["Powerpack/{powerpack_uuid}"]}, message["powerpack_uuid"]]}
    brought = document["paths"][NUMBERS]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    brought["numbers"] = {"anyOf": [{"enum": known["Number/{number}"]}, brought["numbers"]]}
    set_by_hand = document["paths"][f"{POWERPACK}Sticky/{{recipient}}/"]["put"]["requestBody"]["content"]
    set_by_hand["application/json"]["schema"]["properties"]["number"] = {"enum": known["Number/{number}"]}
    brought = document["paths"][f"{POWERPACK}Sticky/"]["post"]["requestBody"]["content"][NDJSON]
    brought["schema"] = {"type": "array", "items": brought["schema"]}
    content = document["paths"][BULK]["post"]["requestBody"]["content"][NDJSON]
    content["schema"] = {"type": "array", "items": {"$ref": "#/components/schemas/NewMessage"}}
    del content["examples"]  # they are lines already
    close_answers(document)
    return document


def close_answers(document: dict[str, Any]) -> None:
    """Let answers have no key but those that are described. The document allows more, so that more may come."""
    schemas = document["components"]["schemas"]
    asked = {name for name in schemas if f"/schemas/{name}'" in str(requests_of(document, schemas))}
    for path in document["paths"].values():
        for operation in (each for each in path.values() if isinstance(each, dict)):
            close_values(operation["responses"])
    close_values(document["components"]["responses"])
    for name, schema in schemas.items():
        if name not in asked:
            close_values(schema)


def requests_of(document: dict[str, Any], schemas: dict[str, Any]) -> list[Any]:
    """All bodies of requests, with the schemas they name, and so on."""
    found: list[Any] = [
        operation["requestBody"]
        for path in document["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict) and "requestBody" in operation
    ]
    named: set[str] = set()
    while more := set(re.findall(r"#/components/schemas/(\w+)", str(found))) - named:
        named |= more
        found += [schemas[name] for name in sorted(more)]
    return found


def close_values(node: object) -> None:
    """Close each schema that stands for a whole value: of a body, a key, an item. Parts of an `allOf` are none."""
    if isinstance(node, list):
        for each in node:
            close_values(each)
    if not isinstance(node, dict):
        return
    for word in ("schema", "items"):
        if isinstance(node.get(word), dict):
            node[word] = closed(node[word])
    if isinstance(node.get("properties"), dict):
        node["properties"] = {name: closed(each) for name, each in node["properties"].items()}
    for each in node.values():
        close_values(each)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without room for other keys, where it says anything of keys."""
    if "additionalProperties" in schema or not schema.keys() & {"$ref", "allOf", "anyOf", "oneOf", "properties"}:
        return schema
    return {**schema, "unevaluatedProperties": False}


def parameter(name: str, values: list[str] | None) -> dict[str, Any]:
    """A part of a path: one of `values`, and anything where there are none."""
    return {"name": name, "in": "path", "required": True, "schema": {"enum": values} if values else {"type": "string"}}


def known_ids(api: Api) -> dict[str, list[str]]:
    """What the demo has, by the place in a path where it is named. Nothing here is ever deleted."""
    powerpack = api("GET", f"Powerpack/{api.demo['powerpack_uuid']}/")
    pool = powerpack["number_pool"].split("/")[5]
    sent = api("POST", "Message/", {"powerpack_uuid": powerpack["uuid"], "dst": "<".join(RECIPIENTS), "text": "Hello"})
    staying = long_codes(api, pool)[:STAYING]
    for recipient in RECIPIENTS:  # their threads go with their number
        api("PUT", f"Powerpack/{powerpack['uuid']}/Sticky/{recipient}/", {"number": staying[0]})
    for kind, number in (("Tollfree", TOLL_FREE[0]), ("Shortcode", SHORT_CODES[0])):
        api("POST", f"NumberPool/{pool}/{kind}/{number}/")
    bulk = api("POST", f"Message/Bulk/?powerpack_uuid={powerpack['uuid']}", {"dst": RECIPIENTS[0], "text": "Hello"})
    return {
        "Account/{auth_id}": [api.demo["auth_id"]],
        "Powerpack/{powerpack_uuid}": [powerpack["uuid"]],
        "NumberPool/{pool_uuid}": [pool],
        "Message/{message_uuid}": sent["message_uuid"],
        "Bulk/{bulk_id}": [bulk["bulk_id"]],
        "Application/{app_id}": [api.demo["application_id"]],
        "Subaccount/{subauth_id}": [api("POST", "Subaccount/", {"name": "known"})["auth_id"]],
        "carriers/{carrier}": ["simulated"],
        "PhoneNumber/{number}": FOR_RENT,
        "Sticky/{recipient}": RECIPIENTS[::2],
        "Number/{number}": staying,
        "Tollfree/{number}": TOLL_FREE,
        "Shortcode/{number}": SHORT_CODES,
    }


def doomed_ids(api: Api) -> dict[str, list[str]]:
    """What may be deleted, by the place in a path where it is named; the rest would miss it."""
    powerpack = api("GET", f"Powerpack/{api.demo['powerpack_uuid']}/")
    pool = powerpack["number_pool"].split("/")[5]
    still = api("POST", "Powerpack/", {"name": "still"})
    api("POST", f"NumberPool/{still['number_pool'].split('/')[5]}/Number/{OF_NO_POWERPACK}/")
    api("POST", f"Powerpack/{still['uuid']}/Pause/")
    waiting = api("POST", "Message/", {"powerpack_uuid": still["uuid"], "dst": "<".join(RECIPIENTS), "text": "Hello"})
    return {
        "Powerpack/{powerpack_uuid}": [
            api("POST", "Powerpack/", {"name": f"doomed {place}"})["uuid"] for place in range(DOOMED)
        ],
        "Subaccount/{subauth_id}": [
            api("POST", "Subaccount/", {"name": f"doomed {place}"})["auth_id"] for place in range(DOOMED)
        ],
        "Message/{message_uuid}": waiting["message_uuid"],
        "Number/{number}": long_codes(api, pool)[STAYING:],
        "Tollfree/{number}": TOLL_FREE,
        "Shortcode/{number}": SHORT_CODES,
        "Sticky/{recipient}": RECIPIENTS[1::2],
    }


def long_codes(api: Api, pool: str) -> list[str]:
    return [each["number"] for each in api("GET", f"NumberPool/{pool}/Number/?type=fixed")["objects"]]


def never_well(document: dict[str, Any], exposition: str) -> set[str]:
    """Operations that were never answered well: what they answer was not looked at."""
    counted = re.findall(
        r'^gateway_requests_total\{kind="([^"]+)",status="2[0-9]{2}"\} [1-9]', exposition, re.MULTILINE
    )
    operations = [
        Route(method.upper(), path, Access.OWN, not_called)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    ]
    return {each.kind for each in operations} - set(counted)


async def not_called(_: object) -> Any:
    raise AssertionError("only its name is asked for")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fire requests made from openapi.yaml at a gateway of its own.")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sp-contract-", ignore_cleanup_errors=True) as folder:
        result = fire(Path(folder), seconds=arguments.seconds, examples=arguments.examples, seed=arguments.seed)
    print("\n".join(result.wrong or [result.said]))
    if result.missed:
        print(f"never answered well, so nothing is known of (seed {arguments.seed}): {sorted(result.missed)}")
    return 1 if result.wrong or result.missed else 0


if __name__ == "__main__":
    sys.exit(main())
