"""Everything odd but legal that Plivo's clients send, as raw bytes to the real server: one row for each oddity.

Each request is followed by a plain one on the same connection, which must be answered too: nothing an odd request
brings along may be left over for the next.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
import pytest

from resolver.model import NumberType, Pause, Service
from tests.fakes.accept_floor import FIRST, POOL, POWERPACK
from tests.fakes.api_client import ACCOUNT, basic
from tests.fakes.api_floor import ApiFloor

NUMBER, SPARE, FREE_CALL = FIRST[1:], "12065550100", "18885550100"
BASE = f"/v1/Account/{ACCOUNT}"
PACK, MEMBERS = f"{BASE}/Powerpack/{POWERPACK}", f"{BASE}/NumberPool/{POOL}"
JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
SEND = {"dst": "+14155550199", "text": "Hello", "powerpack_uuid": POWERPACK}


class Case(NamedTuple):
    """One request. `wants` are values the answer has, by path; dots go into objects, digits into lists."""

    name: str
    method: str
    target: str
    body: bytes = b""
    headers: tuple[str, ...] = (JSON,)
    status: int = 200
    wants: dict[str, Any] = {}  # noqa: RUF012 - never changed


def form(values: dict[str, Any]) -> bytes:
    return urlencode(values).encode()


def sends(name: str, body: bytes | dict[str, Any], *headers: str, **more: Any) -> Case:
    """A message that is accepted."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    wants: dict[str, Any] = {"message_uuid.#": 1, "decisions.0.to": "14155550199"}
    if b"src" in raw and POWERPACK not in raw.decode():
        wants |= {"decisions.0.from": NUMBER, "decisions.0.tier": "source"}
    case = Case(name, "POST", f"{BASE}/Message/", raw, headers or (JSON,), 202, wants)
    return case._replace(**more)


def reads(title: str, target: str, /, *headers: str, **wants: Any) -> Case:
    return Case(title, "GET", target, b"", headers, 200, wants)


# --- Messages ---------------------------------------------------------------------------------------------------------

PACK_BYTES = POWERPACK.encode()
MESSAGES = [
    sends(
        "python",
        b'{"dst":"+14155550199","text":"Test Message","type":"sms","method":"POST","log":"true","trackable":false,'
        b'"powerpack_uuid":"%b"}' % PACK_BYTES,
        JSON, "Accept-Encoding: gzip, deflate", "User-Agent: plivo-python/4.63.0", "Connection: keep-alive",
    ),
    sends("node", SEND, JSON, "Accept-Encoding: gzip, compress, deflate, br"),
    sends(
        "go escapes < and ends with a newline",
        b'{"dst":"14155550199\\u003c14155550198","text":"Hi","log":true,"powerpack_uuid":"%b"}\n' % PACK_BYTES,
        JSON, "Accept-Encoding: gzip",
        wants={"message_uuid.#": 2, "decisions.1.to": "14155550198"},
    ),
    sends(
        "ruby sends nulls",
        b'{"src":null,"text":"Test","powerpack_uuid":"%b","dst":"+14155550199","url":"https://a.example/c",'
        b'"method":"POST","media_urls":null,"message_expiry":null,"log":null,"type":null}' % PACK_BYTES,
    ),
    sends(
        "php escapes slashes and sends both names",
        b'{"dst":"+14155550199","powerpackUUID":"%b","text":"Test","url":"https:\\/\\/a.example\\/c",'
        b'"powerpack_uuid":"%b"}' % (PACK_BYTES, PACK_BYTES),
        JSON, "Accept-Encoding: *",
    ),
    sends("powerpackUUID alone", {"dst": "14155550199", "text": "x", "powerpackUUID": POWERPACK}),
    sends(
        ".net sends empty texts",
        b'{"dst":"14155550199","text":"Test","powerpack_uuid":"%b","log":"","type":"","src":"","url":"","method":"",'
        b'"media_urls":[],"message_expiry":"600","trackable":"","unheard_of":{"a":[1,{}]}}' % PACK_BYTES,
    ),
    sends("java omits nulls", SEND, "Content-Type: application/json; charset=UTF-8", "Accept-Encoding: gzip"),
    sends("json with charset", SEND, "Content-Type: application/json;charset=utf-8"),
    sends("no content type", SEND, "Accept: */*"),
    sends("text/plain", SEND, "Content-Type: text/plain"),
    sends("dst is an integer", {**SEND, "dst": 14155550199}),
    sends("numbers with punctuation", {**SEND, "dst": "+1 (415) 555-0199"}),
    sends("trailing <", {**SEND, "dst": "14155550199<"}),
    sends("src alone", {"src": NUMBER, "powerpack_uuid": None, "dst": "14155550199", "text": "x"}),
    sends("src as an integer, the powerpack empty", {**SEND, "src": int(NUMBER), "powerpack_uuid": ""}),
    *(sends(f"log is {said!r}", {**SEND, "log": said}) for said in (True, "True", "TRUE", 1, 0, "0", "false", "")),
    *(sends(f"expiry is {said!r}", {**SEND, "message_expiry": said}) for said in (600, "600", "", None)),
    *(sends(f"method is {said!r}", {**SEND, "method": said}) for said in ("post", "GET", "get", "")),
    sends("type in capitals", {**SEND, "type": "SMS"}),
    sends("blanks around the JSON", b" \r\n" + orjson.dumps(SEND) + b"\r\n \n"),
    sends("no trailing slash", SEND, target=f"{BASE}/Message"),
    sends("two trailing slashes", SEND, target=f"{BASE}/Message//"),
    sends("slashes everywhere", SEND, target=f"//v1//Account/{ACCOUNT}///Message/"),
    sends("absolute form", SEND, target=f"http://api.plivo.com{BASE}/Message/"),
    sends("absolute form with two slashes and a query", SEND, target=f"https://api.plivo.com:443{BASE}/Message//?a=b"),
    sends("junk in the query", SEND, target=f"{BASE}/Message/?&?search=hack"),
    sends("chunked", SEND, JSON, "Transfer-Encoding: chunked"),
    sends("expects 100-continue", SEND, JSON, "Expect: 100-continue"),
    sends("expects 100-continue in capitals", SEND, JSON, "EXPECT: 100-Continue"),
    sends("form", form(SEND), FORM),
    sends("form with charset", form(SEND), "content-type: Application/X-WWW-Form-URLEncoded; charset=UTF-8"),
    sends("form of everything", urlencode({
        **SEND, "log": "True", "trackable": "false", "message_expiry": "600", "patience_ms": "1000", "type": "",
        "priority": "urgent", "url": "https://a.example/c", "method": "GET", "reference": "a&b=c", "media_urls": "",
        "powerpackUUID": POWERPACK, "unheard_of": "1",
    }).encode(), FORM),
    sends("form with a newline at its end", form(SEND) + b"\r\n", FORM),
    sends("form with src", form({"src": f"+{NUMBER}", "dst": "14155550199", "text": "x"}), FORM),
    sends("form with text that is not ASCII", form({**SEND, "text": "Grüße 🙂"}), FORM),
    sends("json that is called a form", SEND, FORM),
    sends("chunked form", form(SEND), FORM, "Transfer-Encoding: chunked"),
]  # fmt: skip


def refuses(name: str, body: bytes, code: str, *headers: str, status: int = 400) -> Case:
    return Case(name, "POST", f"{BASE}/Message/", body, headers or (JSON,), status, {"code": code})


REFUSED = [
    refuses(
        "python's list of recipients", orjson.dumps({**SEND, "dst": "['14155550199', '14155550198']"}),
        "invalid_parameter",
    ),
    refuses("a list of recipients", orjson.dumps({**SEND, "dst": ["14155550199"]}), "invalid_parameter"),
    refuses("nothing", b"", "src_or_powerpack"),
    refuses("two quotes", b'""', "src_or_powerpack"),
    refuses("a newline", b"\n", "src_or_powerpack"),
    refuses("an empty object", b"{}", "src_or_powerpack"),
    refuses("an empty form", b"", "src_or_powerpack", FORM),
    refuses("a form with a recipient twice", b"dst=14155550199&dst=14155550198&text=x", "invalid_parameter", FORM),
    refuses("a form that is not UTF-8", b"dst=1&text=%ff", "invalid_parameter", FORM),
    refuses("a form with raw bytes that are not UTF-8", b"dst=1&text=\xff", "invalid_parameter", FORM),
    refuses("a form of too much", b"&".join(b"a%d=1" % place for place in range(101)), "invalid_parameter", FORM),
    refuses("a form with a NUL", form({**SEND, "text": "a\0b"}), "invalid_character", FORM),
    refuses("mms", orjson.dumps({**SEND, "type": "mms"}), "not_supported_yet"),
    refuses("media in a form", form({**SEND, "media_urls": "https://a.example/b.png"}), "not_supported_yet", FORM),
    refuses("another charset", '{"text":"Grüße"}'.encode("latin-1"), "invalid_json", f"{JSON}; charset=latin1"),
    refuses("multipart", b"--x--", "unsupported_media_type", "Content-Type: multipart/form-data", status=415),
]  # fmt: skip


# --- Reading ----------------------------------------------------------------------------------------------------------

READING = [
    reads("the account, no slash", BASE, auth_id=ACCOUNT),
    reads("go lists with two slashes", f"{BASE}/Powerpack//?limit=5&offset=0", **{"meta.total_count": 1}),
    reads("go finds with two slashes", f"{PACK}//", uuid=POWERPACK),
    reads("python says JSON on GET", f"{PACK}/", JSON, uuid=POWERPACK),
    reads("node sends two quotes with GET", f"{PACK}/", JSON, uuid=POWERPACK)._replace(body=b'""'),
    reads("a form with GET says nothing", f"{PACK}/", FORM, uuid=POWERPACK)._replace(body=b"uuid=other"),
    reads("chunked GET without a body", f"{PACK}/", "Transfer-Encoding: chunked", uuid=POWERPACK),
    reads("php takes any encoding and decodes none", f"{PACK}/", "Accept-Encoding: *", uuid=POWERPACK),
    reads("node's junk after a question mark", f"{MEMBERS}/Number/?&?search=hack", **{"meta.total_count": 3}),
    reads("node's junk after an ampersand", f"{MEMBERS}/Number/?limit=1&?search=hack", **{"meta.limit": 1}),
    reads("node's junk in the path", f"{MEMBERS}/Tollfree/{FREE_CALL}/&service=sms", number=FREE_CALL),
    reads("junk in the path without a slash", f"{MEMBERS}/Number/{NUMBER}/&service=sms&a=b", number=NUMBER),
    reads("a plus in the path", f"{MEMBERS}/Number/+{NUMBER}/", number=NUMBER),
    reads("an encoded plus in the path", f"{MEMBERS}/Number/%2B{NUMBER}/", number=NUMBER),
    reads("a pool's root", f"{MEMBERS}//", uuid=POOL),
    reads("capitals in an id", f"{BASE}/Powerpack/{POWERPACK.upper()}/", uuid=POWERPACK),
    reads("a limit beyond the most", f"{BASE}/Powerpack/?limit=1000", **{"meta.limit": 20}),
    reads("a limit and an offset that are empty", f"{BASE}/Powerpack/?limit=&offset=", **{"meta.limit": 20}),
    reads("java's names of filters", f"{MEMBERS}/Number/?pattern=415&country_iso=US&id=x", **{"meta.total_count": 2}),
    reads("go's service filter of powerpacks", f"{BASE}/Powerpack/?service=sms", **{"meta.total_count": 1}),
    reads("messages by a number with a bare plus", f"{BASE}/Message/?from_number=+{NUMBER}", **{"meta.total_count": 0}),
    reads("absolute form", f"http://api.plivo.com{PACK}/", uuid=POWERPACK),
    reads("absolute form with a query", f"http://api.plivo.com{BASE}/Powerpack/?limit=3", **{"meta.limit": 3}),
]  # fmt: skip


# --- Powerpacks and their numbers -------------------------------------------------------------------------------------


def posts(title: str, target: str, body: bytes = b"", /, *headers: str, **wants: Any) -> Case:
    return Case(title, "POST", target, body, headers or (JSON,), 200, wants)


ORDER = [{"country_iso": "US", "service_type": "SMS", "priority": {"priority1": "tollfree"}}]
EDITING = [
    posts("python creates with everything", f"{BASE}/Powerpack/", orjson.dumps({
        "name": "pp1", "sticky_sender": True, "local_connect": True, "application_type": "", "application_id": "",
        "number_priority": [],
    }), name="pp1"),
    posts("ruby updates with two slashes and nulls", f"{PACK}//", b'{"name":null,"sticky_sender":false}',
          name="pack", sticky_sender=False),
    *(
        posts(f"local_connect is {said!r}", f"{PACK}/", orjson.dumps({"local_connect": said}), local_connect=False)
        for said in (False, "false", "False", "FALSE", 0, "0")
    ),
    *(
        posts(f"local_connect for {said!r}", f"{PACK}/", orjson.dumps({"local_connect": said}), local_connect=True)
        for said in (True, "true", "True", 1, "1", "", None)
    ),
    posts("an update of nothing", f"{PACK}/", b"", name="pack"),
    posts("an update of two quotes", f"{PACK}/", b'""', name="pack"),
    posts("a form", f"{PACK}/", b"name=other&sticky_sender=False&local_connect=1&unheard_of=", FORM,
          name="other", sticky_sender=False, local_connect=True),
    posts("a form with a list in JSON", f"{PACK}/", form({"number_priority": orjson.dumps(ORDER)}), FORM,
          **{"number_priority.0.priority.priority1": "tollfree"}),
    posts("resolving by form", f"{PACK}/Resolve/", form({"dst": "14155550199", "steps": "0"}), FORM,
          tier="area"),
    posts("resolving a list by form", f"{PACK}/Resolve/", form({"messages": '[{"dst":"14155550199"}]'}), FORM,
          **{"decisions.0.tier": "area"}),
    posts("pausing by query, no body", f"{PACK}/Pause?refuse=True", b"", refuses_while_paused=True),
    posts("pausing by form", f"{PACK}/Pause/", b"refuse=0", FORM, paused=True, refuses_while_paused=False),
    posts("resuming what is not paused", f"{PACK}//Resume//", b'""', paused=False),
    posts("an empty POST adds a number", f"{MEMBERS}/Number/{SPARE}/", b"", number=SPARE),
    posts("an empty POST without a content type", f"{MEMBERS}/Number/{SPARE}/", b"", "Accept: */*", number=SPARE),
    posts("an empty chunked POST", f"{MEMBERS}/Number/{SPARE}/", b"", JSON, "Transfer-Encoding: chunked", number=SPARE),
    posts("node says it does not rent", f"{MEMBERS}/Number/{SPARE}/", b'{"rent":"false"}', number=SPARE),
    posts("go says which service", f"{MEMBERS}/Number/{SPARE}/", b'{"service":"sms"}\n', number=SPARE),
    posts("a form says it does not rent", f"{MEMBERS}/Number/{SPARE}/", b"rent=0&service=SMS", FORM, number=SPARE),
    posts("adding what is there", f"{MEMBERS}/Tollfree/{FREE_CALL}/", b"", tollfree=FREE_CALL),
]  # fmt: skip


def deletes(name: str, target: str, body: bytes = b"", *headers: str, wants: dict[str, Any] | None = None) -> Case:
    return Case(name, "DELETE", target, body, headers or (JSON,), 200, wants or {"response": "success"})


DELETING = {
    "kept": [
        deletes("node deletes with two quotes", f"{MEMBERS}/Number/{NUMBER}/", b'""'),
        deletes("nothing said", f"{MEMBERS}/Number/{NUMBER}//"),
        deletes("php: both, the body wins", f"{MEMBERS}/Number/{NUMBER}/?unrent=1", b'{"unrent":false}'),
        deletes("php: query 0 and an empty body", f"{MEMBERS}/Number/{NUMBER}/?unrent=0", b"{}"),
        deletes("a form", f"{MEMBERS}/Number/{NUMBER}/", b"unrent=False", FORM),
        deletes("null", f"{MEMBERS}/Number/{NUMBER}/", b'{"unrent":null}'),
        deletes("the powerpack alone", f"{PACK}//", b'{"unrent_numbers":"false"}'),
    ],
    "gone": [
        deletes("the query", f"{MEMBERS}/Number/{NUMBER}/?unrent=True"),
        deletes("the query and an empty body", f"{MEMBERS}/Number/{NUMBER}/?unrent=1", b"{}"),
        deletes("the body", f"{MEMBERS}/Number/{NUMBER}/", b'{"unrent":"true"}\n'),
        deletes("ruby's object", f"{MEMBERS}/Number/{NUMBER}/", b'{"unrent":{"unrent":true}}'),
        deletes("a form", f"{MEMBERS}/Number/{NUMBER}/", b"unrent=1", FORM),
        deletes("the powerpack, by query", f"{PACK}/?unrent_numbers=true", b'""'),
        deletes("the powerpack, by body", f"{PACK}/", b'{"unrent_numbers":1}'),
    ],
}
CANCELLING = [
    deletes("many by query", f"{BASE}/Message?powerpack_uuid={POWERPACK}", b'""', wants={"cancelled": 0}),
    deletes("many by form", f"{BASE}/Message//", b"reference=a", FORM, wants={"cancelled": 0}),
    deletes("many by body", f"{BASE}/Message/", b'{"reference":"a","powerpack_uuid":null}', wants={"cancelled": 0}),
]


# --- The tests --------------------------------------------------------------------------------------------------------


def bytes_of(case: Case) -> bytes:
    chunked = any(each.lower().startswith("transfer-encoding") for each in case.headers)
    body, length = case.body, f"Content-Length: {len(case.body)}"
    if chunked:
        length = ""
        body = (b"%x\r\n%b\r\n" % (len(case.body), case.body) if case.body else b"") + b"0\r\n\r\n"
    elif not case.body and case.method == "GET":
        length = ""
    head = [f"{case.method} {case.target} HTTP/1.1", "Host: a", f"Authorization: {basic()}", *case.headers, length]
    return "\r\n".join([*(line for line in head if line), "", ""]).encode() + body


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, Any]]:
    """The next answer that is none of the 1xx."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(head[0].split(" ")[1])
        if status >= 200:
            break
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return status, headers, orjson.loads(await reader.readexactly(int(headers["content-length"])))


def value_at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = len(value) if part == "#" else value[int(part)] if part.isdigit() else value[part]
    return value


async def play(case: Case) -> ApiFloor:
    floor = ApiFloor()
    floor.add_number(f"+{SPARE}")
    floor.add_number(f"+{FREE_CALL}", number_type=NumberType.TOLL_FREE, powerpack_id=POWERPACK)
    row = floor.catalog.powerpacks[POWERPACK]
    long_codes = {("US", Service.SMS): (NumberType.LONG_CODE,)}
    floor.catalog.powerpacks[POWERPACK] = replace(row, priority=long_codes)
    floor.fill()
    async with floor.serving() as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        try:
            async with asyncio.timeout(10):
                writer.write(bytes_of(case))
                status, headers, body = await answer_of(reader)
                if headers.get("connection") != "close":
                    writer.write(bytes_of(Case("after it", "GET", f"{BASE}/", headers=())))
                    after = await answer_of(reader)
                    assert (after[0], after[2]["auth_id"]) == (200, ACCOUNT)
                else:
                    assert status >= 400
        finally:
            writer.close()
    assert status == case.status, body
    assert headers["content-type"] == "application/json"
    assert "content-encoding" not in headers
    assert "location" not in headers
    assert len(body["api_id"]) == 36
    assert {path: value_at(body, path) for path in case.wants} == case.wants
    return floor


def named(cases: list[Case]) -> Any:
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    return pytest.mark.parametrize("case", cases, ids=names)


@named(MESSAGES)
async def test_a_message_is_accepted_however_it_is_sent(case: Case) -> None:
    floor = await play(case)
    assert sum(len(entry.messages) for entry in floor.journal.committed) == case.wants["message_uuid.#"]


@named(REFUSED)
async def test_what_means_nothing_is_refused_and_stores_nothing(case: Case) -> None:
    assert not (await play(case)).journal.committed


@named([*READING, *EDITING, *CANCELLING])
async def test_it_is_answered_as_it_is_meant(case: Case) -> None:
    await play(case)


@named([case._replace(name=f"{kept}: {case.name}") for kept, cases in DELETING.items() for case in cases])
async def test_a_delete_s_argument_counts_wherever_it_stands(case: Case) -> None:
    floor = await play(case)
    assert (FIRST in floor.pools.numbers) is case.name.startswith("kept")
    assert (POWERPACK in floor.pools.powerpacks) is ("powerpack" not in case.name)


async def test_a_form_says_what_the_same_keys_say_in_json() -> None:
    values = {
        **SEND,
        "text": "Grüße & mehr = 100 % 🙂+1",
        "url": "https://a.example/c?d=e",
        "reference": "a b+c",
        "log": "False",
    }
    stored = []
    for raw, header in ((orjson.dumps(values), JSON), (form(values), FORM)):
        floor = await play(sends("", raw, header))
        (entry,) = floor.journal.committed
        stored.append((entry.messages[0][4:14], entry.bodies[0][1:]))
    assert stored[0] == stored[1]
    assert stored[0][1][1] == values["text"]


async def test_who_expects_100_continue_is_told_to_go_on_before_the_body_is_sent() -> None:
    floor = ApiFloor()
    whole = bytes_of(sends("", SEND, JSON, "Expect: 100-continue"))
    head, _, body = whole.partition(b"\r\n\r\n")
    async with floor.serving() as client, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        status, _, _ = await answer_of(reader)
        writer.close()
    assert status == 202
    assert floor.pools.powerpacks[POWERPACK].pause is Pause.NONE
