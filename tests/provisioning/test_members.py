"""Keyrings and consents reach the guest in their order; what it states is noted; what it refuses is told once."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.context import command
from audit.models import Entry
from protocol.persons import Purpose
from provisioning import members, tasks
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.services import operation_request
from tenants.models import KeyringVersion, Tenant
from tests.protocol.people import OWNER, RECOVERY, STRANGER, entry, keyring
from tests.provisioning.test_calls import client
from tests.provisioning.workers import created, drain
from tests.tenants.conftest import House

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


@pytest.fixture
def house(tenant: Tenant, owner: User) -> House:
    return House(tenant, {"owner": owner})


def noted(action: str) -> list[Any]:
    rows = Entry.objects.filter(action=action).order_by("pk")
    return [json.loads(row.event)["data"] for row in rows]


def two_versions(house: House) -> KeyringVersion:
    """Two keyrings and, between them, a consent by an owner whom the second no longer names."""
    first = house.found()
    house.agree()
    house.register(public_key=STRANGER.key.public_key, name="New")
    return house.accept(house.next(first, entry(STRANGER.key)))


def test_a_new_machine_gets_all_that_was_signed(
    simulated_host: Host, house: House, image: GuestImage
) -> None:
    """While it starts: every version, and the consent while its signer is an owner; then it states them."""
    newest = two_versions(house)
    runtime = created(house.tenant)
    said = client(runtime).status()
    assert (said["keyring"]["version"], said["keyring"]["hash"]) == (2, newest.hash)
    assert said["consents"]["agents"] is True
    (stated,) = noted("guest.stated")
    assert stated == {
        "keyring": {
            "version": 2,
            "hash": newest.hash,
            "fingerprints": [STRANGER.key.fingerprint],
            "recovery": RECOVERY.key.fingerprint,
        },
        "consents": {"version": 1, "agents": True, "always_on": False},
        "sealing_public_key": runtime.sealing_public_key,
    }
    assert (runtime.stated, runtime.members_refused) == (stated, "")
    assert (runtime.keyring_told, runtime.consents_told) == (2, 1)
    assert list(members.unconfirmed()) == []


def test_a_machine_without_a_keyring_states_that(runtime: Runtime) -> None:
    """Nothing to deliver; its sealing key is on record all the same, and nothing is due."""
    (stated,) = noted("guest.stated")
    assert (stated["keyring"], stated["sealing_public_key"]) == (None, runtime.sealing_public_key)
    assert list(members.unconfirmed()) == []


def test_what_is_signed_later_is_sent_at_once(
    runtime: Runtime, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task goes out when the transaction is committed; a second delivery says nothing new."""
    sent: list[Any] = []
    monkeypatch.setattr(
        "celery.current_app.send_task", lambda name, args: sent.append((name.rpartition(".")[2], args))
    )
    house.found()
    house.agree()
    assert sent == [("members_apply", [str(runtime.pk)])] * 2
    assert list(members.unconfirmed()) == [runtime]
    tasks.members_apply(str(runtime.pk))
    assert client(runtime).status()["consents"]["version"] == 1
    assert list(members.unconfirmed()) == []
    count = len(noted("guest.stated"))
    tasks.members_apply(str(runtime.pk))
    assert len(noted("guest.stated")) == count == 2


def test_a_guest_that_does_not_answer_is_asked_again(
    runtime: Runtime, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task fails softly; the sweeper sends it again until the guest has answered."""
    house.found()

    def silent(*args: Any, **given: Any) -> None:
        raise AgentUnreachable("No answer.")

    def busy(*args: Any, **given: Any) -> None:
        raise AgentRefused(429, "too_many_requests")

    sent: list[str] = []
    for name, failing in (("_send", silent), ("deliver_keyring", busy)):
        with monkeypatch.context() as patch:
            patch.setattr(RuntimeClient, name, failing)
            tasks.members_apply(str(runtime.pk))
    assert Runtime.objects.get().members_refused == ""
    monkeypatch.setattr(tasks.members_apply, "delay", sent.append)
    tasks.operations_sweep()
    assert sent == [str(runtime.pk)]
    tasks.members_apply(str(runtime.pk))
    tasks.operations_sweep()
    assert sent == [str(runtime.pk)]
    assert Runtime.objects.get().stated["keyring"]["version"] == 1


def test_a_guest_that_is_off_is_told_at_its_start(runtime: Runtime, house: House) -> None:
    """The boot's own step delivers."""
    stop = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.STOP)
    assert drain(stop).state == Operation.State.SUCCEEDED
    house.found()
    members.apply(runtime.pk)
    assert Runtime.objects.get().stated["keyring"] is None
    assert list(members.unconfirmed()) == []
    start = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.START)
    assert drain(start).state == Operation.State.SUCCEEDED
    assert Runtime.objects.get().stated["keyring"]["version"] == 1


def test_a_guest_that_pins_another_keyring(runtime: Runtime, house: House, tenant: Tenant) -> None:
    """The portal's is not taken: on record once, kept for people to see, not tried again until there is news."""
    other = keyring(str(tenant.pk), entry(STRANGER.key))
    client(runtime).deliver_keyring(other, STRANGER.sign(Purpose.KEYRING, other))
    first = house.found()
    for _ in range(3):
        members.apply(runtime.pk)
    assert noted("guest.keyring_refused") == [{"code": "forked", "keyring": 1, "consents": 0}]
    found = Runtime.objects.get()
    assert found.members_refused == "forked"
    assert found.stated["keyring"]["fingerprints"] == [STRANGER.key.fingerprint]
    assert list(members.unconfirmed()) == []
    house.accept(house.next(first, entry(OWNER.key, name="Renamed")))
    assert list(members.unconfirmed()) == [runtime]
    members.apply(runtime.pk)
    assert len(noted("guest.keyring_refused")) == 2
    restart = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.RESTART)
    assert drain(restart).state == Operation.State.SUCCEEDED
    assert len(noted("guest.keyring_refused")) == 2


def test_a_refused_consent_is_told_too(runtime: Runtime, house: House) -> None:
    """The guest was past the signer's keyring before the consent came: it keeps to what it has."""
    first = house.found()
    house.agree()
    second = house.next(first, entry(STRANGER.key))
    agent = client(runtime)
    agent.deliver_keyring(first.document, first.signature)
    agent.deliver_keyring(second, OWNER.sign(Purpose.KEYRING, second))
    house.register(public_key=STRANGER.key.public_key, name="New")
    house.accept(second)
    members.apply(runtime.pk)
    assert noted("guest.keyring_refused") == [{"code": "not_an_owner", "keyring": 2, "consents": 1}]


def test_another_workers_delivery_is_no_refusal(
    runtime: Runtime, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once: the slower one is refused as rolled back, asks again, and finds the guest ahead."""
    first = house.found()
    real = RuntimeClient.deliver_keyring

    def overtaken(self: RuntimeClient, document: Any, signature: Any) -> Any:
        real(self, document, signature)
        second = house.next(first, entry(OWNER.key, name="Renamed"))
        house.accept(second)
        real(self, second, OWNER.sign(Purpose.KEYRING, second))
        return real(self, document, signature)

    monkeypatch.setattr(RuntimeClient, "deliver_keyring", overtaken)
    members.apply(runtime.pk)
    found = Runtime.objects.get()
    assert (found.members_refused, found.stated["keyring"]["version"]) == ("", 2)
    assert noted("guest.keyring_refused") == []


def test_an_older_answer_is_not_noted(runtime: Runtime, house: House) -> None:
    """Of two workers, the one that asked last counts."""
    stated_at = Runtime.objects.get().stated_at
    assert stated_at is not None
    before = Runtime.objects.get().stated
    old = stated_at.replace(year=stated_at.year - 1)
    members._note(runtime, (7, 7), {"keyring": None}, old, "forked")
    found = Runtime.objects.get()
    assert (found.stated, found.keyring_told, found.members_refused) == (before, 0, "")


@pytest.mark.parametrize(
    "lie",
    [
        {"keyring": {}},
        {"keyring": {"version": True}},
        {"keyring": "x"},
        {"consents": None},
        {"sealing_public_key": "x" * 10_000},
        {"sealing_public_key": None},
    ],
)
def test_a_malformed_statement_is_not_kept(lie: Any) -> None:
    """The guest is the tenant's: what it says is checked before it is noted."""
    good = {
        "keyring": None,
        "consents": {"version": 0, "agents": False, "always_on": False},
        "sealing_public_key": "ab" * 32,
    }
    assert members.statement({**good, "more": 1}) == good
    with pytest.raises(AgentUnreachable, match="malformed"):
        members.statement({**good, **lie})


def test_without_an_entry_nothing_is_noted(
    runtime: Runtime, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 1: the statement and its entry are one transaction."""
    house.found()
    before = Runtime.objects.values().get()

    def full(**given: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("provisioning.members.record", full)
        with pytest.raises(OSError, match="disk full"):
            members.apply(runtime.pk)
    assert Runtime.objects.values().get() == before
