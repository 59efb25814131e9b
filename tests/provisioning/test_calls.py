"""The control plane's calls to agents: on record before and after, renewed in time, against a live agent."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.context import command
from audit.models import Entry
from protocol.persons import Purpose
from provisioning.fleet_keys import fleet_key
from provisioning.models import FleetKey, Operation, Runtime
from provisioning.renewal import renew_certificates
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.services import operation_request
from provisioning.wrapping import wrap
from tests.protocol.people import MEMBER, OWNER, STRANGER, entry, keyring
from tests.provisioning.workers import drain

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


def client(runtime: Runtime) -> RuntimeClient:
    return RuntimeClient.dial(runtime, TESTER)


def calls(since: int) -> list[tuple[str, Any]]:
    found = Entry.objects.filter(pk__gt=since, action__startswith="agent.").order_by("pk")
    return [(row.action, json.loads(row.event)["data"]) for row in found]


def last_entry() -> int:
    return Entry.objects.order_by("-pk").values_list("pk", flat=True)[0]


def test_intent_and_outcome(runtime: Runtime) -> None:
    """One entry before, one after, of the same token; and what was asked is in both."""
    before = last_entry()
    client(runtime).status()
    (asked, first), (answered, second) = calls(before)
    assert (asked, answered) == ("agent.requested", "agent.answered")
    assert first == second
    assert (first["method"], first["path"]) == ("GET", "/v1/status")
    assert Entry.objects.filter(pk__gt=before, tenant_id=runtime.tenant_id).count() == 2


def test_the_intent_stands_when_nobody_answers(runtime: Runtime) -> None:
    """The entry of the intent is committed before the call, and the failure follows."""
    before = last_entry()
    with pytest.raises(AgentUnreachable):
        RuntimeClient(runtime, "127.0.0.1", 9, TESTER).status()
    assert [action for action, _ in calls(before)] == ["agent.requested", "agent.failed"]


def test_no_call_without_an_entry(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1: if the intent cannot be written, the agent is not called."""

    def full(**given: Any) -> None:
        raise OSError("disk full")

    sent: list[Any] = []
    monkeypatch.setattr("provisioning.runtime_client.record", full)
    monkeypatch.setattr(RuntimeClient, "_send", lambda *args, **given: sent.append(args))
    with pytest.raises(OSError, match="disk full"):
        RuntimeClient(runtime, "127.0.0.1", 9, TESTER).set_suspended(True)
    assert sent == []


def test_what_an_owner_signed_is_delivered(runtime: Runtime) -> None:
    """Keyring, consent and suspension through the only code that calls agents; the guest decides."""
    agent = client(runtime)
    tenant_id = str(runtime.tenant_id)
    document = keyring(tenant_id, entry(OWNER.key), entry(MEMBER.key, "member"))
    assert agent.deliver_keyring(document, OWNER.sign(Purpose.KEYRING, document))["version"] == 1
    other = keyring(tenant_id, entry(STRANGER.key))
    with pytest.raises(AgentRefused, match="forked"):
        agent.deliver_keyring(other, STRANGER.sign(Purpose.KEYRING, other))
    consent = {"version": 1, "tenant_id": tenant_id, "agents": True, "always_on": False}
    assert agent.deliver_consents(consent, OWNER.sign(Purpose.CONSENT, consent)) == {"version": 1}
    assert agent.set_suspended(True)["suspended"] is True
    assert agent.end_sessions() == {"ended": 0}
    said = agent.status()
    assert (said["keyring"]["version"], said["consents"]["agents"], said["suspended"]) == (1, True, True)


def test_a_running_guests_certificate_is_renewed(runtime: Runtime) -> None:
    """Past half its life it is replaced, served at once and recorded; a fresh one is left alone."""
    assert renew_certificates() == 0
    Runtime.objects.update(certificate_expires_at=timezone.now() + timedelta(hours=11))
    assert renew_certificates() == 1
    renewed = Runtime.objects.get()
    assert renewed.certificate_serial != runtime.certificate_serial
    said = client(renewed).status()
    assert said["certificate"]["serial"] == renewed.certificate_serial
    assert Entry.objects.filter(action="runtime.certificate_renewed").count() == 1


def test_a_silent_guest_stops_no_renewal(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left as it was, for the next turn."""
    Runtime.objects.update(certificate_expires_at=timezone.now() + timedelta(hours=11))

    def silent(*args: Any, **given: Any) -> None:
        raise AgentUnreachable("No answer.")

    monkeypatch.setattr(RuntimeClient, "_send", silent)
    assert renew_certificates() == 0
    assert Runtime.objects.get().certificate_serial == runtime.certificate_serial


def test_the_control_planes_certificate_is_replaced_in_time(runtime: Runtime) -> None:
    """A month before it lapses; guests know the CA, so they take the new one at once."""
    old = fleet_key(FleetKey.Use.CLIENT)
    FleetKey.objects.filter(pk=old.pk).update(expires_at=timezone.now() + timedelta(days=29))
    assert client(runtime).status()["runtime_id"] == str(runtime.pk)
    assert fleet_key(FleetKey.Use.CLIENT).pk != old.pk
    assert FleetKey.objects.filter(use=FleetKey.Use.CLIENT, state=FleetKey.State.CURRENT).count() == 1


def test_a_spent_secret_is_no_dead_end(runtime: Runtime) -> None:
    """Enrolled, but never confirmed, and then lapsed: the next start gives a fresh secret."""
    spent = wrap(b"s" * 32, identity=f"runtime/{runtime.pk}/enrolment_secret")
    stop = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.STOP)
    assert drain(stop).state == Operation.State.SUCCEEDED
    Runtime.objects.update(enrolment_secret=spent, certificate_expires_at=timezone.now() - timedelta(days=1))
    start = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.START)
    assert drain(start).state == Operation.State.SUCCEEDED
    found = Runtime.objects.get()
    assert (found.certificate_serial != runtime.certificate_serial, found.enrolment_secret) == (True, None)
