"""What a request tells the record about where it comes from."""

import json
import uuid
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from audit.context import session_name
from audit.models import Entry
from tests.audit.opened import opened
from tests.portal.conftest import World

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
PAGE = "/t/acme/operations/"


def newest(action: str) -> tuple[Entry, dict[str, Any]]:
    entry = Entry.objects.filter(action=action).latest("pk")
    return entry, json.loads(entry.event)


def sign_in(client: Client, name: str = "owner-of-acme", password: str = PASSWORD, **more: Any) -> Any:
    return client.post("/sign-in/", {"username": name, "password": password}, **more)


def test_a_sign_in_is_of_the_session_that_it_makes(world: World) -> None:
    """Not of the one before; what is done in it names the same, and so does its end. The cookie is not in it."""
    client = Client()
    sign_in(client)
    key = client.cookies["__Host-session"].value
    began, said = newest("session.began")
    assert said["session"] == session_name(key)
    client.post(PAGE, {"kind": "stop"})
    assert newest("operation.requested")[1]["session"] == session_name(key)
    client.post("/sign-out/")
    assert newest("session.ended")[1]["session"] == session_name(key)
    assert key not in "".join(Entry.objects.values_list("event", flat=True))
    assert opened(began) == {"actor": "owner-of-acme", "address": "127.0.0.1"}


def test_a_session_ends_with_its_entry_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction: a session whose row cannot be removed has no entry of its end."""
    client = Client(raise_request_exception=False)
    sign_in(client)

    def fails(self: SessionStore, session_key: str | None = None) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(SessionStore, "delete", fails)
    assert client.post("/sign-out/").status_code == 500
    assert not Entry.objects.filter(action="session.ended").exists()


def test_a_made_up_session_is_not_recorded(world: World) -> None:
    """A cookie can be any text; nobody has a session by that name."""
    client = Client()
    client.cookies["__Host-session"] = "mariamuster"
    sign_in(client, password="wrong")
    said = newest("session.refused")[1]
    assert (said["session"], said["actor"]["kind"]) == ("", "anonymous")


def test_a_strangers_address_is_kept_by_commitment(world: World) -> None:
    """As nginx tells it; in no column and no event."""
    sign_in(Client(), password="wrong", headers={"Portal-Address": "192.0.2.17"})
    entry, said = newest("session.refused")
    assert opened(entry) == {"address": "192.0.2.17"}
    assert "192.0.2.17" not in entry.event
    assert said["personal"].keys() == {"address"}


@pytest.mark.parametrize(
    "given", ["b5c3b14c-6f6c-4f0e-9d0f-1d1c2e3f4a5b", "maria.muster@example.com", "x" * 500]
)
def test_a_callers_own_request_id_is_not_taken(world: World, given: str) -> None:
    """It could be any text, or another's request; the portal makes one for each."""
    for _ in range(2):
        sign_in(Client(), headers={"X-Request-ID": given})
    entries = list(Entry.objects.filter(action="session.began"))
    assert given not in "".join(entry.event for entry in entries)
    assert [json.loads(entry.event)["request"] for entry in entries] == [e.request_id for e in entries]
    assert len({uuid.UUID(entry.request_id) for entry in entries}) == 2


def test_the_next_request_knows_nothing_of_it(world: World) -> None:
    """The same process, another caller."""
    sign_in(Client(), headers={"Portal-Address": "192.0.2.17"})
    sign_in(Client(), name="member", headers={"Portal-Address": "192.0.2.18"})
    entry = newest("session.began")[0]
    assert opened(entry) == {"actor": "member", "address": "192.0.2.18"}
