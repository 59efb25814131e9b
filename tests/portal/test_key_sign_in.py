"""Signing in with a device key: one nonce, one session, one entry; and nothing else gets in."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import Entry
from protocol.persons import Purpose
from tenants.models import Membership
from tests.portal.conftest import World, device_of
from tests.portal.test_rule_1 import break_record, everything
from tests.protocol.people import Device

pytestmark = pytest.mark.django_db(transaction=True)
OWNER = "owner-of-acme"


def ask(client: Client) -> Any:
    answer = client.post("/api/v1/sign-in/challenge/", content_type="application/json")
    assert answer.status_code == 200
    return answer.json()


def answer(client: Client, document: Any, device: Device, **changes: Any) -> Any:
    body = {
        "fingerprint": device.key.fingerprint,
        "nonce": document["nonce"],
        "signature": device.sign(Purpose.PORTAL, document),
        **changes,
    }
    return client.post("/api/v1/sign-in/", body, content_type="application/json")


@pytest.fixture
def stranger(world: World) -> Client:
    return world.client("anonymous", csrf=True)


def signed_in(client: Client) -> bool:
    return client.get("/api/v1/runtimes/").status_code == 200


def test_a_device_key_begins_a_session(world: World, stranger: Client) -> None:
    """204, a session of its holder with an entry, and a CSRF token for what comes next."""
    document = ask(stranger)
    assert document == {"nonce": document["nonce"], "origin": "http://portal.localhost:8000"}
    before = stranger.cookies["__Host-session"].value
    assert answer(stranger, document, device_of(OWNER)).status_code == 204
    assert stranger.cookies["__Host-session"].value != before
    entry = Entry.objects.latest("pk")
    assert (entry.action, entry.actor_id) == ("session.began", str(world.people["owner"].pk))
    assert stranger.get("/api/v1/tenants/acme/keyring/").json()["registered"][0]["mine"] is True
    token = {"X-CSRFToken": stranger.cookies["__Host-csrf"].value}
    path = "/api/v1/tenants/acme/keys/options/"
    assert stranger.post(path, content_type="application/json").status_code == 403
    assert stranger.post(path, content_type="application/json", headers=token).status_code == 200


def test_a_nonce_is_good_once_in_its_session_and_for_two_minutes(
    world: World, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spent by a failure too."""
    device, other = device_of(OWNER), world.client("anonymous")
    document = ask(stranger)
    assert answer(other, document, device).json()["code"] == "nonce_unknown"
    assert answer(stranger, document, device, signature={}).json()["code"] == "refused"
    assert answer(stranger, document, device).json()["code"] == "nonce_unknown"
    with monkeypatch.context() as patch:
        patch.setattr("portal.api.sign_in.NONCE_SECONDS", 0)
        late = ask(stranger)
    assert answer(stranger, late, device).json()["code"] == "nonce_unknown"
    document = ask(stranger)
    assert answer(stranger, document, device).status_code == 204
    assert answer(stranger, document, device).json()["code"] == "nonce_unknown"


def test_who_does_not_get_in(world: World, stranger: Client) -> None:
    """Another purpose, another key, one that is not registered, an inactive person, one who left the tenant."""
    device, far = device_of(OWNER), device_of("nobody")
    document = ask(stranger)
    for purpose in (Purpose.SESSION, Purpose.KEYRING):
        assert answer(stranger, document, device, signature=device.sign(purpose, document)).status_code == 403
        document = ask(stranger)
    theirs = far.sign(Purpose.PORTAL, document)
    assert answer(stranger, document, device, signature=theirs).status_code == 403
    assert answer(stranger, ask(stranger), far).json()["code"] == "refused"
    User.objects.filter(username=OWNER).update(is_active=False)
    assert answer(stranger, ask(stranger), device).json()["code"] == "refused"
    User.objects.filter(username=OWNER).update(is_active=True)
    Membership.objects.filter(user__username=OWNER).delete()
    assert answer(stranger, ask(stranger), device).json()["code"] == "refused"
    assert not signed_in(stranger)
    assert set(Entry.objects.filter(action__startswith="session.").values_list("action", flat=True)) == {
        "session.refused"
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "x"},
        {"nonce": "\x00"},
        {"nonce": ["a"]},
        {"signature": "x"},
        {"signature": None},
        {"fingerprint": None},
    ],
)
def test_nonsense_is_a_bad_request(world: World, stranger: Client, changes: Any) -> None:
    """And spends nothing."""
    document = ask(stranger)
    assert answer(stranger, document, device_of(OWNER), **changes).status_code == 400
    assert answer(stranger, document, device_of(OWNER)).status_code == 204


def test_without_its_entry_there_is_no_session(
    world: World, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 1: the record refuses, so nobody is signed in, and the session row is as it was."""
    document = ask(stranger)
    before = everything()
    with monkeypatch.context() as patch:
        break_record(patch)
        stranger.raise_request_exception = False
        assert answer(stranger, document, device_of(OWNER)).status_code == 500
    assert everything() == before
    assert not signed_in(stranger)


def test_strangers_are_slowed_down(world: World, stranger: Client) -> None:
    """Twenty tries a minute from one address; a made-up header makes no other address."""
    for number in range(20):
        stranger.post(
            "/api/v1/sign-in/challenge/",
            content_type="application/json",
            headers={"X-Forwarded-For": f"192.0.2.{number}"},
        )
    late = stranger.post("/api/v1/sign-in/challenge/", content_type="application/json")
    assert late.status_code == 429
