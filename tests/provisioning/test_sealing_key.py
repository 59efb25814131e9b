"""The guest's sealing key changes without losing a secret, whatever dies; what a guest states is checked first."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from audit.context import Actor
from protocol.sealed import key_id
from provisioning import connector_secrets, members
from provisioning.connector_secrets import Vault
from provisioning.models import Host, Operation, Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient
from provisioning.services import OperationRefused, operation_request
from tenants.models import ConnectorSecret
from tenants.services.secret_states import secret_open
from tests.provisioning.secret_flows import MARKER, asked, done, noted, now, opened, put, revoke, states
from tests.provisioning.test_calls import client
from tests.provisioning.workers import drain, let_lease_lapse

pytestmark = pytest.mark.django_db(transaction=True)
Kind, State = Operation.Kind, Operation.State


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


def test_owners_ask_for_a_new_sealing_key(
    owned: Runtime, owner: User, make_user: Callable[..., User]
) -> None:
    """Members and strangers do not; a delivery is the portal's own affair."""
    for person in (make_user("stranger"), owner):
        with pytest.raises(OperationRefused, match="may not"):
            operation_request(actor=Actor.of(person), runtime_id=owned.pk, kind=Kind.DELIVER)
    assert operation_request(actor=Actor.of(owner), runtime_id=owned.pk, kind=Kind.RESEAL).active


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
