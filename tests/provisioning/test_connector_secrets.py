"""Connector secrets reach a live guest, are changed and forgotten there, and what it says is noted."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from audit.context import Actor, command
from audit.models import Entry
from guest.agent.keys import load_or_create_keys
from guest.agent.vault import Vault as GuestVault
from protocol.sealed import key_id, seal
from provisioning import connector_secrets, members, tasks
from provisioning.connector_secrets import Vault
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.services import OperationRefused, operation_cancel, operation_request
from tenants.models import ConnectorSecret, Tenant
from tenants.services import secret_put, secret_revoke
from tenants.services.secret_states import secret_open
from tests.provisioning.test_calls import client
from tests.provisioning.workers import created, drain, let_lease_lapse

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
MARKER = b"ghp_marker-7f3a9c51e2d84b06"
Kind, State = Operation.Kind, Operation.State


@pytest.fixture
def owned(runtime: Runtime, owner: User) -> Runtime:
    """A ready runtime whose tenant has an owner."""
    return runtime


def now(runtime: Runtime) -> Runtime:
    return Runtime.objects.select_related("tenant", "host", "image").get(pk=runtime.pk)


def put(runtime: Runtime, value: bytes = MARKER, name: str = "TOKEN", **given: Any) -> ConnectorSecret:
    """As the tenant's owner, sealed to the key that the portal shows."""
    public = bytes.fromhex(now(runtime).sealing_public_key)
    owner = User.objects.get(username="owner")
    defaults = {"connector": "github", "sealing_key": key_id(public), "sealed": seal(public, value)}
    return secret_put(actor=Actor.of(owner), tenant=runtime.tenant, name=name, **{**defaults, **given})


def revoke(runtime: Runtime, name: str = "TOKEN") -> ConnectorSecret:
    owner = User.objects.get(username="owner")
    return secret_revoke(actor=Actor.of(owner), tenant=runtime.tenant, name=name)


def asked(runtime: Runtime, kind: str = Kind.DELIVER, **given: Any) -> Operation:
    return operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind, **given)


def done(runtime: Runtime, kind: str = Kind.DELIVER, **given: Any) -> Operation:
    """Ask for an operation and carry it out."""
    finished = drain(asked(runtime, kind, **given))
    assert finished.state == State.SUCCEEDED, finished.error_message
    return finished


def opened(host: Host, tmp_path: Path, name: str = "TOKEN") -> bytes:
    """What the guest's own vault opens: read from a copy of its data folder."""
    (folder,) = Path(host.pool_path).rglob(f"data/{Runtime.objects.get().pk}")
    copy = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
    return GuestVault(copy, load_or_create_keys(copy)).open_secret(name)


def states(name: str = "TOKEN") -> list[str]:
    found = ConnectorSecret.objects.filter(name=name).order_by("version")
    return [secret.state for secret in found]


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


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


def bring(runtime: Runtime, secret: ConnectorSecret, sealed: bytes) -> None:
    import base64

    client(now(runtime)).deliver_secret(
        name=secret.name,
        version=secret.version,
        key_id=secret.sealing_key,
        sealed=base64.b64encode(sealed).decode(),
    )


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


def test_rotation_of_the_sealing_key(owned: Runtime, simulated_host: Host, tmp_path: Path) -> None:
    """A new key in the guest; the portal shows it and keeps what is sealed to it; the old one is destroyed."""
    secret = put(owned)
    done(owned)
    put(owned, b"waits", "LATER")
    before = now(owned).sealing_public_key
    done(owned, Kind.RESEAL)
    after = now(owned)
    vault = Vault.ask(client(after))
    assert after.sealing_public_key == after.stated["sealing_public_key"] == vault.current != before
    assert vault.previous is None
    kept = ConnectorSecret.objects.get(pk=secret.pk)
    assert (kept.state, kept.sealing_key) == ("held", vault.current_id)
    assert states("LATER") == ["held"], "it was sealed to the key before, and delivered in time"
    assert opened(simulated_host, tmp_path) == MARKER
    assert noted("runtime.sealing_key_changed") == [
        {"before": before, "sealing_public_key": after.sealing_public_key}
    ]
    assert len(noted("secret.resealed")) == 2
    done(owned, Kind.RESTART)
    assert states() == ["held"]


def test_a_key_that_the_guest_states_by_the_way(owned: Runtime) -> None:
    """Whoever asks the guest for its status notes a new key too: in the row, and as a leaf of the record."""
    before = now(owned).sealing_public_key
    agent = client(now(owned))
    agent.rotate_sealing_key(key_id(bytes.fromhex(before)))
    stated = Vault.ask(agent).current
    members.apply(owned.pk)
    members.apply(owned.pk)
    found = now(owned)
    assert found.sealing_public_key == found.stated["sealing_public_key"] == stated
    assert noted("runtime.sealing_key_changed") == [{"before": before, "sealing_public_key": stated}]


def test_the_key_before_stays_while_something_is_sealed_to_it(
    owned: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that came at the last moment is not lost: the next delivery takes it, and retires the key."""
    real = RuntimeClient.secrets
    late: list[ConnectorSecret] = []
    public = now(owned).sealing_public_key

    def slow(self: RuntimeClient) -> Any:
        answer = real(self)
        if answer["sealing"]["previous"] and not late:
            late.append(put(owned))
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(RuntimeClient, "secrets", slow)
        patch.setattr(connector_secrets, "_settle", lambda *given: None)
        done(owned, Kind.RESEAL)
    assert key_id(bytes.fromhex(public)) == late[0].sealing_key
    vault = Vault.ask(client(now(owned)))
    assert vault.previous == public
    done(owned)
    assert states() == ["held"]
    assert Vault.ask(client(now(owned))).previous is None


CALLS = (
    "secrets",
    "deliver_secret",
    "revoke_secret",
    "rotate_sealing_key",
    "export_secret",
    "retire_sealing_key",
)
NOTES = ("secret_held", "secret_forgotten", "secret_resealed")


class Killed(BaseException):
    """The worker dies here."""


def deadly(patch: pytest.MonkeyPatch, place: Any, name: str, when: str) -> list[str]:
    real: Callable[..., Any] = getattr(place, name)
    met: list[str] = []

    def dies(*args: Any, **given: Any) -> Any:
        met.append(name)
        if when == "before":
            raise Killed
        real(*args, **given)
        raise Killed

    patch.setattr(place, name, dies)
    return met


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", [*CALLS, *NOTES])
def test_killed_anywhere_the_next_worker_finishes(
    owned: Runtime,
    simulated_host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    when: str,
) -> None:
    """At each call of the guest and each note: a rotation with one to deliver, one held, one to revoke."""
    put(owned, b"held", "HELD")
    put(owned, b"goes", "GOES")
    done(owned)
    put(owned)
    revoke(owned, "GOES")
    before = now(owned).sealing_public_key
    operation = asked(owned, Kind.RESEAL)
    with monkeypatch.context() as patch:
        met = deadly(patch, RuntimeClient if name in CALLS else connector_secrets, name, when)
        with pytest.raises(Killed):
            drain(operation)
        assert met == [name]
    let_lease_lapse(operation.pk)
    assert drain(operation).state == State.SUCCEEDED
    assert (states(), states("HELD"), states("GOES")) == (["held"], ["held"], ["revoked"])
    vault = Vault.ask(client(now(owned)))
    assert vault.secrets == {"GOES": (1, "revoked"), "HELD": (1, "held"), "TOKEN": (1, "held")}
    assert (vault.previous, vault.current) == (None, now(owned).sealing_public_key)
    assert vault.current != before
    assert opened(simulated_host, tmp_path) == MARKER
    assert opened(simulated_host, tmp_path, "HELD") == b"held"
    for secret in ConnectorSecret.objects.filter(state="held"):
        assert secret.sealing_key == vault.current_id


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


def test_owners_ask_for_a_new_sealing_key(
    owned: Runtime, owner: User, make_user: Callable[..., User]
) -> None:
    """Members and strangers do not; a delivery is the portal's own affair."""
    for person in (make_user("stranger"), owner):
        with pytest.raises(OperationRefused, match="may not"):
            operation_request(actor=Actor.of(person), runtime_id=owned.pk, kind=Kind.DELIVER)
    assert operation_request(actor=Actor.of(owner), runtime_id=owned.pk, kind=Kind.RESEAL).active


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


GOOD: Any = {
    "sealing": {"current": {"id": "x", "public_key": "ab" * 32}, "previous": None},
    "secrets": [{"name": "A", "version": 1, "state": "held", "key_id": None}],
}


@pytest.mark.parametrize(
    "lie",
    [
        {"sealing": None},
        {"sealing": {"current": None, "previous": None}},
        {"sealing": {"current": {"public_key": "AB" * 32}, "previous": None}},
        {"sealing": {"current": {"public_key": "ab" * 32}, "previous": {}}},
        {"secrets": None},
        {"secrets": {}},
        {"secrets": [1]},
        {"secrets": [{"name": "a", "version": 1, "state": "held"}]},
        {"secrets": [{"name": "A", "version": 0, "state": "held"}]},
        {"secrets": [{"name": "A", "version": True, "state": "held"}]},
        {"secrets": [{"name": "A", "version": 2**40, "state": "held"}]},
        {"secrets": [{"name": "A", "version": 1, "state": "x"}]},
        {"secrets": [{"name": "A", "version": 1, "state": []}]},
        {"secrets": GOOD["secrets"] * 5000},
    ],
)
def test_a_malformed_statement_is_not_believed(lie: Any) -> None:
    """The guest is the tenant's: what it says is checked first."""
    assert Vault.parse(GOOD).secrets == {"A": (1, "held")}
    with pytest.raises(AgentUnreachable, match="malformed"):
        Vault.parse({**GOOD, **lie})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["sealing", "current", "previous", "public_key", "secrets", "name", "version"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_statement_is_a_fault_of_ours(answer: Any) -> None:
    """Whatever JSON a guest answers with: understood, or refused in words."""
    with suppress(AgentUnreachable):
        Vault.parse(answer)


@pytest.mark.parametrize(
    "export", [{"sealed": "!"}, {"sealed": None}, {"sealed": ""}, {"version": 9}, {"key_id": ""}]
)
def test_a_malformed_export_replaces_nothing(
    owned: Runtime, monkeypatch: pytest.MonkeyPatch, export: Any
) -> None:
    """The stored copy stays as it was."""
    secret = put(owned)
    done(owned)
    before = secret_open(secret)
    real = RuntimeClient.export_secret
    monkeypatch.setattr(RuntimeClient, "export_secret", lambda self, name: {**real(self, name), **export})
    drain(asked(owned, Kind.RESEAL))
    assert secret_open(secret) == before
    assert Vault.ask(client(now(owned))).previous is not None


def test_the_value_is_nowhere_on_this_side(
    owned: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule 3: put, delivered, resealed, revoked; then every table, log line and task is searched."""
    sent: list[Any] = []
    monkeypatch.setattr("celery.current_app.send_task", lambda name, args: sent.append((name, args)))
    secret = put(owned)
    seen = [secret_open(secret)]
    done(owned)
    done(owned, Kind.RESEAL)
    seen.append(secret_open(secret))
    revoke(owned)
    done(owned)
    rows = repr([list(model._default_manager.values()) for model in apps.get_models()])
    text = rows + caplog.text + repr(sent)
    import base64

    for held in (MARKER, *seen):
        for form in (repr(held)[2:-1], held.hex(), base64.b64encode(held).decode()):
            assert form[:24] not in text
