"""Applications as Plivo's SDKs make, read, change and delete them."""

from __future__ import annotations

import pytest

from storage.catalog import ApplicationRow
from tests.fakes.accept_floor import POWERPACK
from tests.fakes.api_client import ACCOUNT, OTHER_ACCOUNT, Client, basic
from tests.fakes.api_floor import ApiFloor

PYTHON_SDK = {
    "app_name": "replies", "answer_url": "http://example.com/answer", "answer_method": "POST", "hangup_method": "POST",
    "fallback_method": "POST", "message_url": "https://example.com/in", "message_method": "GET",
    "default_number_app": False, "default_endpoint_app": False, "log_incoming_messages": True,
}  # fmt: skip
"""What `applications.create` sends, and `update` but for the name."""


async def made(api: Client, **values: object) -> str:
    got = await api.post("Application/", {"app_name": "replies", **values})
    assert (got.status, got.body["message"]) == (201, "created"), got.body
    return str(got.body["app_id"])


async def test_an_application_is_made_and_shown_with_every_field_plivo_has() -> None:
    async with ApiFloor().serving() as api:
        got = await api.post("Application/", PYTHON_SDK)
        app_id = got.body["app_id"]
        shown = (await api.get(f"Application/{app_id}/")).body
    assert (got.status, got.body["message"]) == (201, "created")
    assert app_id.isdigit()
    assert len(app_id) == 17
    shown.pop("api_id")
    assert shown == {
        "answer_method": "POST",
        "answer_url": "http://example.com/answer",
        "app_id": app_id,
        "app_name": "replies",
        "default_app": False,
        "default_endpoint_app": False,
        "enabled": True,
        "fallback_answer_url": "",
        "fallback_method": "POST",
        "hangup_method": "POST",
        "hangup_url": "",
        "log_incoming_messages": True,
        "message_method": "GET",
        "message_url": "https://example.com/in",
        "public_uri": False,
        "resource_uri": f"/v1/Account/{ACCOUNT}/Application/{app_id}/",
        "sip_uri": f"sip:{app_id}@app.sendpool.invalid",
        "sub_account": None,
    }


async def test_a_change_names_what_it_changes_and_an_empty_address_takes_one_away() -> None:
    floor = ApiFloor()
    async with floor.serving() as api:
        path = f"Application/{await made(api, message_url='https://example.com/in', hangup_url='https://x.example')}/"
        got = await api.post(path, {"message_method": "get", "public_uri": "True", "hangup_url": None, "junk": [1]})
        assert (got.status, got.body["message"]) == (202, "changed")
        shown = (await api.get(path)).body
        await api.post(path, {"message_url": "", "log_incoming_messages": "false", "app_name": "answers"})
        cleared = (await api.get(path)).body
    assert (shown["message_url"], shown["message_method"]) == ("https://example.com/in", "GET")
    assert (shown["public_uri"], shown["hangup_url"], shown["app_name"]) == (True, "https://x.example", "replies")
    assert (cleared["message_url"], cleared["message_method"]) == ("", "GET")
    assert (cleared["log_incoming_messages"], cleared["app_name"]) == (False, "answers")


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"answer_url": "https://example.com"}, 400, "missing_parameter"),
        ({"app_name": "with a blank"}, 400, "invalid_parameter"),
        ({"app_name": "päck"}, 400, "invalid_parameter"),
        ({"app_name": "x" * 256}, 400, "invalid_parameter"),
        ({"app_name": "taken"}, 409, "name_taken"),
        ({"app_name": "a", "message_method": "PUT"}, 400, "invalid_parameter"),
        ({"app_name": "a", "message_url": "http://127.0.0.1/in"}, 400, "invalid_url"),
        ({"app_name": "a", "message_url": "nothing"}, 400, "invalid_url"),
        ({"app_name": "a", "message_url": ["https://example.com"]}, 400, "invalid_parameter"),
        ({"app_name": "a", "hangup_url": "https://x.example/\0"}, 400, "invalid_url"),
        ({"app_name": "a", "answer_url": "x" * 2_049}, 400, "invalid_parameter"),
        ({"app_name": "a", "public_uri": "perhaps"}, 400, "invalid_parameter"),
        ({"app_name": "a", "subaccount": "SA00000000000000000B"}, 400, "invalid_parameter"),
    ],
)
async def test_what_makes_no_application_is_refused(values: dict[str, object], status: int, code: str) -> None:
    floor = ApiFloor()
    async with floor.serving() as api:
        await made(api, app_name="taken")
        got = await api.post("Application/", values)
    assert (got.status, got.body["code"]) == (status, code)
    assert [each.name for each in floor.catalog.applications.values()] == ["taken"]


async def test_a_change_may_not_take_another_s_name_and_may_keep_its_own() -> None:
    async with ApiFloor().serving() as api:
        await made(api, app_name="one")
        path = f"Application/{await made(api, app_name='two')}/"
        assert (await api.post(path, {"app_name": "one"})).body["code"] == "name_taken"
        assert (await api.post(path, {"app_name": "two"})).status == 202


async def test_a_list_is_paged_and_narrowed_by_how_names_begin() -> None:
    async with ApiFloor().serving() as api:
        for place in range(25):
            await made(api, app_name=f"{'in' if place % 2 else 'out'}-{place}")
        first = (await api.get("Application/")).body
        second = (await api.get("Application/?limit=20&offset=20")).body
        ins = (await api.get("Application/?app_name=in-&limit=5")).body
        none = (await api.get("Application/?app_name=n-")).body
    assert [len(each["objects"]) for each in (first, second, ins, none)] == [20, 5, 5, 0]
    assert [each["meta"]["total_count"] for each in (first, second, ins, none)] == [25, 25, 12, 0]
    assert (first["objects"][0]["app_name"], second["objects"][-1]["app_name"]) == ("out-0", "out-24")
    assert all(each["app_name"].startswith("in-") for each in ins["objects"])
    assert ins["meta"]["next"] == f"/v1/Account/{ACCOUNT}/Application/?app_name=in-&limit=5&offset=5"


async def test_at_most_one_application_is_what_new_numbers_get() -> None:
    async with ApiFloor().serving() as api:
        ids = [await made(api, app_name=name, default_number_app=True) for name in ("one", "two")]
        assert [(await api.get(f"Application/{each}/")).body["default_app"] for each in ids] == [False, True]
        await api.post(f"Application/{ids[0]}/", {"default_number_app": True})
        assert [(await api.get(f"Application/{each}/")).body["default_app"] for each in ids] == [True, False]


@pytest.mark.parametrize("body", [None, {"cascade": False, "new_endpoint_application": "1"}, {"cascade": True}])
async def test_a_deleted_application_is_gone_and_its_powerpacks_have_none(body: object) -> None:
    floor = ApiFloor()
    async with floor.serving() as api:
        app_id = await made(api)
        pack = f"Powerpack/{POWERPACK}/"
        attached = (await api.post(pack, {"application_id": app_id, "application_type": "xml"})).body
        got = await api.delete(f"Application/{app_id}/", body)
        detached = (await api.get(pack)).body
        again = await api.delete(f"Application/{app_id}/")
        refused = await api.post(pack, {"application_id": app_id})
    assert (attached["application_id"], attached["application_type"]) == (app_id, "XML")
    assert got.status == 204
    assert (detached["application_id"], detached["application_type"]) == ("", "")
    assert again.status == 404
    assert (refused.status, refused.body["code"]) == (400, "application_not_found")
    assert floor.pools.powerpacks[POWERPACK].application_id == ""


async def test_an_application_of_another_account_is_absent() -> None:
    floor = ApiFloor()
    row = ApplicationRow("20468599130939380", OTHER_ACCOUNT, "theirs")
    floor.catalog.applications[row.application_id] = row
    floor.fill()
    async with floor.serving() as api:
        path = f"Application/{row.application_id}/"
        answers = [await api.get(path), await api.post(path, {"app_name": "mine"}), await api.delete(path)]
        assert (await api.get("Application/")).body["meta"]["total_count"] == 0
        theirs = await api.get(f"/v1/Account/{OTHER_ACCOUNT}/{path}", authorization=basic(OTHER_ACCOUNT))
    assert [each.status for each in answers] == [404, 404, 404]
    assert theirs.body["app_name"] == "theirs"
    assert floor.catalog.applications == {row.application_id: row}
