"""Plivo's surface for managing pools, driven by Plivo's own SDK against a whole gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plivo
import pytest
from plivo.exceptions import InvalidRequestError, ResourceNotFoundError, ValidationError

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
