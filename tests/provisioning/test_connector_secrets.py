"""Connector secrets reach a live guest, are changed and forgotten there, and what it says is noted."""

from pathlib import Path
from typing import Any

import pytest

from provisioning import connector_secrets, tasks
from provisioning.connector_secrets import Vault
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.services import OperationRefused, operation_cancel
from tenants.models import ConnectorSecret, Tenant
from tenants.services.secret_states import secret_open
from tests.provisioning.secret_flows import (
    MARKER,
    TESTER,
    asked,
    bring,
    done,
    noted,
    now,
    opened,
    put,
    revoke,
    states,
)
from tests.provisioning.test_calls import client
from tests.provisioning.workers import created, drain

pytestmark = pytest.mark.django_db(transaction=True)
Kind, State = Operation.Kind, Operation.State


def test_a_secret_is_delivered(owned: Runtime, simulated_host: Host, tmp_path: Path) -> None:
    """Nobody sees another phase; the guest opens the value; what it says is noted."""
    put(owned)
    operation = asked(owned)
    assert now(owned).phase == "ready"
    assert drain(operation).state == State.SUCCEEDED
    assert (now(owned).phase, states()) == ("ready", ["held"])
    assert opened(simulated_host, tmp_path) == MARKER
    assert noted("secret.held") == [{"name": "TOKEN", "version": 1}]
    assert operation.steps.get().detail == "TOKEN delivered."
    done(owned)
    assert len(noted("secret.held")) == 1


def test_a_put_wakes_a_worker(owned: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task carries the runtime's id alone; a worker asks for the delivery, once."""
    sent: list[Any] = []
    monkeypatch.setattr("celery.current_app.send_task", lambda name, args: sent.append((name, args)))
    put(owned)
    assert sent == [("provisioning.tasks.secrets_apply", [str(owned.pk)])]
    tasks.secrets_apply(str(owned.pk))
    tasks.secrets_apply(str(owned.pk))
    assert Operation.objects.filter(kind=Kind.DELIVER).count() == 1
    drain(Operation.objects.get(kind=Kind.DELIVER))
    tasks.secrets_apply(str(owned.pk))
    assert Operation.objects.filter(kind=Kind.DELIVER).count() == 1


def test_the_sweeper_finds_what_waits(owned: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that was put during another operation; not again at once where a delivery has failed."""
    sent: list[str] = []
    monkeypatch.setattr(tasks.secrets_apply, "delay", sent.append)
    restart = asked(owned, Kind.RESTART)
    put(owned)
    tasks.secrets_apply(str(owned.pk))
    assert list(connector_secrets.due()) == []
    assert drain(restart).state == State.SUCCEEDED
    assert states() == ["held"], "the restart itself delivers"
    put(owned)
    tasks.operations_sweep()
    assert sent == [str(owned.pk)]

    def silent(*args: Any, **given: Any) -> None:
        raise AgentUnreachable("No answer.")

    with monkeypatch.context() as patch:
        patch.setattr(RuntimeClient, "secrets", silent)
        failed = drain(asked(owned))
    assert (failed.state, failed.error_code) == (State.FAILED, "not_delivered")
    assert now(owned).phase == "ready"
    tasks.operations_sweep()
    assert sent == [str(owned.pk)]
    assert list(connector_secrets.unsettled()) == [owned]


def test_a_new_version_replaces_the_old(owned: Runtime, simulated_host: Host, tmp_path: Path) -> None:
    put(owned)
    done(owned)
    put(owned, b"second")
    put(owned, b"third")
    done(owned)
    assert states() == ["superseded", "superseded", "held"]
    assert opened(simulated_host, tmp_path) == b"third"


def test_revocation_is_confirmed(owned: Runtime, simulated_host: Host, tmp_path: Path) -> None:
    """The guest forgets, and takes nothing old any more; then a new version is taken."""
    secret = put(owned)
    sealed = secret_open(secret)
    done(owned)
    revoke(owned)
    assert list(connector_secrets.due()) == [owned]
    done(owned)
    assert states() == ["revoked"]
    assert noted("secret.forgotten") == [{"name": "TOKEN", "version": 1}]
    with pytest.raises(KeyError):
        opened(simulated_host, tmp_path)
    put(owned, sealed=sealed)
    put(owned, b"new")
    done(owned)
    assert states() == ["revoked", "superseded", "held"]


def test_a_box_that_was_revoked_does_not_come_back(owned: Runtime) -> None:
    """Not as a later version either: the guest knows it, and the row says what to do."""
    sealed = secret_open(put(owned))
    done(owned)
    revoke(owned)
    done(owned)
    put(owned, sealed=sealed)
    done(owned)
    assert states() == ["revoked", "refused"]
    assert ConnectorSecret.objects.get(version=2).refusal == "rolled_back"


def test_what_was_revoked_before_delivery_is_never_taken(owned: Runtime) -> None:
    """The guest is told all the same, so that nobody can bring that version later."""
    secret = put(owned)
    sealed = secret_open(secret)
    revoke(owned)
    done(owned)
    assert Vault.ask(client(now(owned))).secrets == {"TOKEN": (1, "revoked")}
    with pytest.raises(AgentRefused, match="rolled_back"):
        bring(owned, secret, sealed)


def test_a_guest_that_is_ahead_forgets_too(owned: Runtime) -> None:
    """The portal was restored from a backup, and revokes an older version than the guest holds."""
    secret = put(owned)
    done(owned)
    ahead = ConnectorSecret(name="TOKEN", version=5, sealing_key=secret.sealing_key)
    bring(owned, ahead, secret_open(secret))
    revoke(owned)
    done(owned)
    assert Vault.ask(client(now(owned))).secrets == {"TOKEN": (5, "revoked")}


def test_a_machine_that_is_off_gets_it_at_its_start(
    owned: Runtime, simulated_host: Host, tmp_path: Path
) -> None:
    done(owned, Kind.STOP)
    put(owned)
    assert list(connector_secrets.due()) == []
    done(owned, Kind.START)
    assert states() == ["held"]
    assert opened(simulated_host, tmp_path) == MARKER


def test_what_the_guest_refuses_blocks_nothing(owned: Runtime) -> None:
    """It starts; the row says why; what it can take it takes."""
    put(owned, sealed=b"x" * 90)
    put(owned, name="OTHER")
    done(owned, Kind.RESTART)
    assert (states(), states("OTHER")) == (["refused"], ["held"])
    refused = ConnectorSecret.objects.get(name="TOKEN")
    assert (refused.refusal, refused.wrapped) == ("cannot_open", None)
    assert noted("secret.refused") == [{"name": "TOKEN", "version": 1, "code": "cannot_open"}]


def test_a_refused_version_leaves_the_one_before(owned: Runtime) -> None:
    put(owned)
    done(owned)
    put(owned, sealed=b"x" * 90)
    done(owned)
    assert states() == ["held", "refused"]
    assert Vault.ask(client(now(owned))).secrets == {"TOKEN": (1, "held")}


def test_an_older_version_counts_while_the_newer_is_refused(
    owned: Runtime, simulated_host: Host, tmp_path: Path
) -> None:
    put(owned)
    put(owned, sealed=b"x" * 90)
    done(owned)
    assert states() == ["held", "refused"]
    assert opened(simulated_host, tmp_path) == MARKER


def test_sealed_to_a_key_that_is_gone(owned: Runtime) -> None:
    """The guest has destroyed that key: seal it again, says the row."""
    put(owned)
    agent = client(now(owned))
    before = Vault.ask(agent).current_id
    agent.rotate_sealing_key(before)
    agent.retire_sealing_key(before)
    done(owned)
    assert ConnectorSecret.objects.get().refusal == "unknown_key"
    put(owned)
    done(owned)
    assert states() == ["refused", "held"]


def test_a_row_that_somebody_changed(owned: Runtime) -> None:
    """It is not delivered in another's place."""
    first, second = put(owned), put(owned, name="OTHER")
    ConnectorSecret.objects.filter(pk=second.pk).update(wrapped=first.wrapped)
    done(owned)
    assert ConnectorSecret.objects.get(name="OTHER").refusal == "damaged"
    assert Vault.ask(client(now(owned))).secrets == {"TOKEN": (1, "held")}


def test_a_wrong_wrapping_key_erases_nothing(owned: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operation fails; the secret still waits for a worker with the right one."""
    from tenants.derivation import WrappingError

    def wrong(*args: Any) -> None:
        raise WrappingError("wrapped under another key")

    put(owned)
    with monkeypatch.context() as patch:
        patch.setattr("tenants.tenant_keys._private", wrong)
        assert drain(asked(owned)).state == State.FAILED
    assert states() == ["waiting"]


def test_people_do_not_wait_for_a_delivery(owned: Runtime) -> None:
    """Whoever asks for something else gets it; the delivery ends, and is made up for."""
    put(owned)
    delivery = asked(owned)
    for kind in (Kind.DELIVER, Kind.RESEAL):
        with pytest.raises(OperationRefused, match="still going on"):
            asked(owned, kind)
    restart = asked(owned, Kind.RESTART)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error_code) == (State.FAILED, "superseded")
    with pytest.raises(OperationRefused):
        asked(owned)
    assert drain(restart).state == State.SUCCEEDED
    assert states() == ["held"]


def test_a_superseded_worker_notes_nothing(owned: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has lost its lease between the guest's answer and the note."""
    put(owned)
    operation = asked(owned)
    real = RuntimeClient.deliver_secret

    def overtaken(self: RuntimeClient, **given: Any) -> Any:
        answer = real(self, **given)
        asked(owned, Kind.STOP)
        return answer

    monkeypatch.setattr(RuntimeClient, "deliver_secret", overtaken)
    drain(operation)
    assert states() == ["waiting"]
    drain(Operation.objects.get(kind=Kind.STOP))
    done(owned, Kind.START)
    assert states() == ["held"]


def test_a_delivery_can_be_cancelled(owned: Runtime) -> None:
    """Nothing is undone, and the machine stays ready."""
    put(owned)
    operation = asked(owned)
    operation_cancel(actor=TESTER, operation_id=operation.pk)
    assert drain(operation).state == State.CANCELLED
    assert (now(owned).phase, states()) == ("ready", ["waiting"])


def test_revoked_while_it_is_delivered(owned: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The revocation wins: the next delivery has the guest forget it."""
    put(owned)
    real = RuntimeClient.deliver_secret

    def slow(self: RuntimeClient, **given: Any) -> Any:
        answer = real(self, **given)
        revoke(owned)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(RuntimeClient, "deliver_secret", slow)
        done(owned)
    assert states() == ["revoking"]
    done(owned)
    assert states() == ["revoked"]


def test_a_machine_whose_system_is_too_old(owned: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts; a delivery says what to do, and is not tried six times."""

    def unknown(self: RuntimeClient) -> None:
        raise AgentRefused(404, "not_found")

    monkeypatch.setattr(RuntimeClient, "secrets", unknown)
    put(owned)
    done(owned, Kind.RESTART)
    for kind in (Kind.DELIVER, Kind.RESEAL):
        failed = drain(asked(owned, kind))
        assert failed.state == State.FAILED
        assert "Rebuild it" in failed.error_message
        assert failed.steps.order_by("index")[0].attempts == 1
    assert states() == ["waiting"]


def test_with_its_machine_a_secret_is_gone(owned: Runtime) -> None:
    """The key that opens it was on the volume. A new machine states another one."""
    put(owned)
    put(owned, name="OTHER")
    done(owned)
    revoke(owned, "OTHER")
    done(owned, Kind.DELETE, reason="because of a test")
    assert now(owned).sealing_public_key == ""
    gone = ConnectorSecret.objects.get(name="TOKEN")
    assert (gone.state, gone.refusal, gone.wrapped) == ("refused", "machine_deleted", None)
    assert states("OTHER") == ["revoked"]


def test_older_tenants_get_a_key(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a worker, as soon as the sweeper has seen that they have none; and the next when it is wanted."""
    sent: list[str] = []
    monkeypatch.setattr(tasks.tenant_key_apply, "delay", sent.append)
    tasks.operations_sweep()
    assert sent == [str(tenant.pk)]
    tasks.tenant_key_apply(str(tenant.pk))
    tasks.tenant_key_apply(str(tenant.pk))
    assert tenant.keys.count() == 1
    tenant.keys.update(rotation_wanted=True)
    tasks.tenant_key_apply(str(tenant.pk))
    tasks.operations_sweep()
    assert list(tenant.keys.values_list("version", "state")) == [(2, "current"), (1, "destroyed")]
    assert len(sent) == 1


def test_a_new_runtime_brings_the_tenants_key(
    simulated_host: Host, tenant: Tenant, image: GuestImage
) -> None:
    created(tenant)
    assert tenant.keys.get().state == "current"
