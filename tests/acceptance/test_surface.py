"""Plivo's surface for managing pools, driven by Plivo's own SDK against a whole gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plivo
import pytest
from plivo.exceptions import InvalidRequestError, PlivoRestError, ResourceNotFoundError, ValidationError

from tests.acceptance.conftest import Gateway

# --- Applications -----------------------------------------------------------------------------------------------------


def make_application(client: plivo.RestClient, name: str, **more: Any) -> str:
    created = client.applications.create(app_name=name, **more)
    assert created.message == "created"
    return str(created.app_id)


def test_an_application_lives_as_the_sdk_wants_it(client: plivo.RestClient) -> None:
    app_id = make_application(
        client, "lives", answer_url="https://example.com/answer", message_url="https://example.com/in",
        message_method="GET", log_incoming_messages=False,
    )  # fmt: skip
    shown = client.applications.get(app_id)
    assert (shown.app_name, shown.message_url, shown.message_method) == ("lives", "https://example.com/in", "GET")
    assert (shown.answer_url, shown.log_incoming_messages) == ("https://example.com/answer", False)
    assert shown.id == app_id
    changed = client.applications.update(app_id, answer_url="https://example.com/else", message_method="POST")
    assert changed.message == "changed"
    shown = client.applications.get(app_id)
    assert (shown.answer_url, shown.message_url) == ("https://example.com/else", "https://example.com/in")
    client.applications.delete(app_id, cascade=False)
    with pytest.raises(ResourceNotFoundError):
        client.applications.get(app_id)


def test_applications_are_listed_by_name_and_walked_over(client: plivo.RestClient) -> None:
    made = [make_application(client, f"walk-{place}") for place in range(3)]
    listed = client.applications.list(app_name="walk-", limit=2)
    assert (listed.meta.total_count, len(listed.objects)) == (3, 2)
    assert listed.meta.next.startswith("/v1/Account/")
    assert [each.app_id for each in client.applications if each.app_name.startswith("walk-")] == made
    with pytest.raises(InvalidRequestError):
        make_application(client, "walk-0")
    with pytest.raises(ValidationError):
        make_application(client, "with a blank")
    for app_id in made:
        client.applications.delete(app_id)


# --- Powerpacks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def powerpack(client: plivo.RestClient) -> Iterator[Any]:
    """An empty one of the test's own."""
    made = client.powerpacks.create(name="surface")
    shown = client.powerpacks.get(made.uuid)
    yield shown
    shown.delete()


def test_a_powerpack_has_an_application_until_that_is_deleted(
    running: Gateway, client: plivo.RestClient, powerpack: Any
) -> None:
    app_id = make_application(client, "attached")
    powerpack.update({"application_type": "xml", "application_id": app_id})
    shown = client.powerpacks.get(powerpack.uuid)
    assert (shown.application_id, shown.application_type) == (app_id, "XML")
    client.applications.delete(app_id)
    shown = client.powerpacks.get(powerpack.uuid)
    assert (shown.application_id, shown.application_type) == ("", "")


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_are_listed_narrowed_and_walked_over(client: plivo.RestClient) -> None:
    listed = client.numbers.list(number_startswith="1212", type="local", services="sms", limit=5)
    assert len(listed.objects) == 5
    assert listed.meta.total_count > 5
    assert all(each.number.startswith("1212") for each in listed.objects)
    assert [each.number for each in client.numbers.list(number_startswith="1212", limit=1, offset=4)] == [
        listed.objects[4].number
    ]
    assert client.numbers.list(renewal_date__gte="2026-01-01").meta.total_count == 0
    walked = [each.number for each, _ in zip(client.numbers, range(45), strict=False)]
    assert walked == sorted(walked)
    assert len(set(walked)) == 45


def test_a_number_gets_an_alias_and_an_application(client: plivo.RestClient) -> None:
    number = client.numbers.list(type="local", limit=1).objects[0].number
    app_id = make_application(client, "of-a-number")
    assert client.numbers.update(number, app_id=app_id, alias="front desk").message == "changed"
    shown = client.numbers.get(number)
    assert (shown.alias, shown.application.split("/")[-2]) == ("front desk", app_id)
    assert [each.number for each in client.numbers.list(alias="front desk")] == [number]
    client.applications.delete(app_id)
    assert client.numbers.get(number).application is None


def test_a_number_is_given_up_and_none_is_brought(client: plivo.RestClient) -> None:
    number = client.numbers.list(type="local", limit=1).objects[0].number
    client.numbers.delete(number)
    with pytest.raises(ResourceNotFoundError):
        client.numbers.get(number)
    with pytest.raises(ResourceNotFoundError):
        client.numbers.delete(number)
    with pytest.raises(PlivoRestError):
        client.numbers.create(numbers=number, carrier="mine", region="US")


# --- Numbers for rent -------------------------------------------------------------------------------------------------


def test_a_number_is_searched_bought_and_given_back(client: plivo.RestClient) -> None:
    found = client.numbers.search("US", type="local", pattern="907", region="Alaska", services="sms", limit=2)
    number = found.objects[0]["number"]
    assert (number[:4], found.meta["total_count"]) == ("1907", 5)
    bought = client.numbers.buy(number)
    assert (bought.status, bought.numbers[0]["status"]) == ("fulfilled", "Success")
    assert client.numbers.buy(number).status == "fulfilled"
    assert client.numbers.get(number).number == number
    assert client.numbers.search("US", pattern="907").meta["total_count"] == 4
    client.numbers.delete(number)
    assert client.numbers.search("US", pattern="907").objects[0]["number"] == number
    with pytest.raises(ResourceNotFoundError):
        client.numbers.buy("19075559999")


def test_a_number_is_bought_into_a_pool(client: plivo.RestClient, powerpack: Any) -> None:
    number = client.numbers.search("US", pattern="206").objects[0]["number"]
    assert powerpack.buy_add_number(number=number).number == number
    assert powerpack.count_numbers() == 1
    assert powerpack.remove_number(number, unrent=True).response == "success"
    assert client.numbers.search("US", pattern="206").objects[0]["number"] == number


# --- Pools ------------------------------------------------------------------------------------------------------------


def test_numbers_come_into_a_pool_and_leave_it(client: plivo.RestClient, powerpack: Any) -> None:
    one, two, three = [each.number for each in client.numbers.list(number_startswith="1907", limit=3)]
    for number in (one, two, three):
        assert powerpack.add_number(number).number == number
    assert powerpack.count_numbers() == 3
    assert powerpack.count_numbers(country_iso2="US", starts_with="907") == 3
    assert powerpack.count_numbers(type="tollfree") == 0
    assert [each.number for each in powerpack.list_numbers(limit=2).objects] == sorted([one, two, three])[:2]
    assert powerpack.find_number(one).number == one
    assert client.numbers.get(one).powerpack_uuid == powerpack.uuid
    assert powerpack.remove_number(one).response == "success"
    assert client.numbers.get(one).powerpack_uuid is None
    assert powerpack.remove_number(two, unrent=True).response == "success"
    with pytest.raises(ResourceNotFoundError):
        client.numbers.get(two)
    client.numbers.delete(three)
    assert powerpack.count_numbers() == 0
    with pytest.raises(ResourceNotFoundError):
        powerpack.find_number(three)


def test_a_pool_has_one_toll_free_number(client: plivo.RestClient, powerpack: Any) -> None:
    one, two = [each.number for each in client.numbers.list(type="tollfree", limit=2)]
    assert powerpack.add_tollfree(one).number == one
    with pytest.raises(ValidationError):
        powerpack.add_tollfree(two)
    assert powerpack.find_tollfree(one).tollfree == one
    assert [
        each["number"] if isinstance(each, dict) else each.number for each in powerpack.list_tollfree().objects
    ] == [one]
    assert powerpack.remove_tollfree(one).response == "success"
    assert client.numbers.get(one).number == one


def test_a_pool_has_one_short_code_of_each_country(running: Gateway, client: plivo.RestClient, powerpack: Any) -> None:
    found = client.numbers.list(type="shortcode").objects
    code = next(each.number for each in found if each.country_iso2 == "US")
    added = client.request("POST", ("NumberPool", powerpack.get_numberpooluuid(), "Shortcode", code), {})
    assert added.shortcode == code
    assert powerpack.find_shortcode(code).shortcode == code
    assert powerpack.list_shortcodes().meta.total_count == 1
    assert powerpack.remove_shortcode(code).response == "success"
    with pytest.raises(ResourceNotFoundError):
        powerpack.find_shortcode(code)


# --- Settings rule the very next decision -----------------------------------------------------------------------------


def resolved(client: plivo.RestClient, powerpack: Any, recipient: str) -> Any:
    """What would be chosen now, by our route beside Plivo's."""
    return client.request("POST", ("Powerpack", powerpack.uuid, "Resolve"), {"dst": recipient, "steps": False})


def test_priorities_are_merged_and_rule_at_once(client: plivo.RestClient, powerpack: Any) -> None:
    toll_free = client.numbers.list(type="tollfree", limit=1).objects[0].number
    local = client.numbers.list(number_startswith="1907", limit=1).objects[0].number
    powerpack.add_number(local)
    powerpack.add_tollfree(toll_free)
    assert resolved(client, powerpack, "+19075550199")["from"] == toll_free
    places = {"priority1": "longcode", "priority2": "tollfree", "priority3": "shortcode"}
    powerpack.update({"number_priority": [{"country_iso": "US", "service_type": "SMS", "priority": places}]})
    assert resolved(client, powerpack, "+19075550199")["from"] == local
    shown = client.powerpacks.get(powerpack.uuid).number_priority
    assert len(shown) == 4
    ruled = [each for each in shown if (each["country_iso"], each["service_type"]) == ("US", "SMS")]
    assert {name: ruled[0]["priority"][name] for name in places} == places
    others = [each["priority"] for each in shown if each not in ruled]
    assert all(each["priority1"] == "shortcode" for each in others)


def test_every_toggle_is_seen_and_stays(client: plivo.RestClient, powerpack: Any) -> None:
    for wanted in ({"sticky_sender": False}, {"local_connect": False}, {"sticky_sender": True, "local_connect": True}):
        powerpack.update(wanted)
        shown = client.powerpacks.get(powerpack.uuid)
        assert {name: getattr(shown, name) for name in wanted} == wanted
    powerpack.update({"name": "surface again"})
    assert client.powerpacks.get(powerpack.uuid).name == "surface again"
    with pytest.raises(InvalidRequestError):
        client.powerpacks.create(name="surface again")
    assert any(each["uuid"] == powerpack.uuid for each in client.powerpacks.list(limit=20).objects)


def test_the_account_is_there(running: Gateway, client: plivo.RestClient) -> None:
    account = client.account.get()
    assert (account.auth_id, account.billing_mode) == (running.demo["auth_id"], "prepaid")
