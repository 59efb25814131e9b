"""Connector secrets in the registry: who may put and revoke, what is kept, and what no row ever holds."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.context import command
from audit.models import Entry
from protocol.sealed import MAX_SECRET_BYTES, OVERHEAD_BYTES, SealError, unseal
from tenants.models import ConnectorSecret, Tenant
from tenants.selectors import secrets_for
from tenants.services import SecretRefused, secret_revoke, tenant_key_ensure
from tenants.services.secret_states import (
    secret_forgotten,
    secret_held,
    secret_open,
    secret_refused,
    secret_resealed,
)
from tenants.services.secrets import MAX_NAMES
from tenants.tenant_keys import DamagedError, _private
from tests.tenants.conftest import House
from tests.tenants.sealing import GUEST, KEY_ID, MARKER, SEALED, put

pytestmark = pytest.mark.django_db
TESTER = command("test")


@pytest.fixture
def keyed(house: House) -> House:
    tenant_key_ensure(house.tenant.pk)
    return house


def actions() -> list[tuple[str, Any]]:
    rows = Entry.objects.filter(target_type="secret").order_by("pk")
    return [(row.action.removeprefix("secret."), json.loads(row.event)["data"]) for row in rows]


def states(name: str = "GITHUB_TOKEN") -> list[str]:
    found = ConnectorSecret.objects.filter(name=name).order_by("version")
    return [f"{secret.state}{'' if secret.wrapped is None else '+'}" for secret in found]


def revoke(house: House, who: str = "owner", name: str = "GITHUB_TOKEN") -> ConnectorSecret:
    return secret_revoke(actor=house.actor(who), tenant=house.tenant, name=name)


def test_an_owner_puts_a_secret(keyed: House) -> None:
    """The row waits; what it holds opens to the sealed box, and the record has names only."""
    secret = put(keyed)
    assert (secret.version, secret.state, secret.sealing_key) == (1, "waiting", KEY_ID)
    assert secret.identity == f"secret/{keyed.tenant.pk}/GITHUB_TOKEN/1"
    assert secret_open(secret) == SEALED
    about = {"name": "GITHUB_TOKEN", "version": 1}
    assert actions() == [("put", {**about, "connector": "github", "sealing_key": KEY_ID})]


def test_each_put_is_a_version(keyed: House) -> None:
    """Also after a revocation: versions only rise."""
    assert [put(keyed).version, put(keyed).version] == [1, 2]
    revoke(keyed)
    assert put(keyed).version == 3


@pytest.mark.parametrize("who", ["member", "stranger", "operator"])
def test_nobody_else_puts(keyed: House, operator: User, who: str) -> None:
    """Not even staff: a credential comes from whose it is."""
    keyed.people["operator"] = operator
    with pytest.raises(SecretRefused, match="Only the tenant's owners") as refused:
        put(keyed, who=who)
    assert refused.value.code == "not_allowed"
    assert ConnectorSecret.objects.count() == 0


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"name": "lower"}, "bad_name"),
        ({"name": "1ST"}, "bad_name"),
        ({"name": "A" * 65}, "bad_name"),
        ({"name": "A\n"}, "bad_name"),
        ({"name": "A-B"}, "bad_name"),
        ({"name": ""}, "bad_name"),
        ({"connector": "gitlab"}, "bad_connector"),
        ({"sealed": b""}, "bad_value"),
        ({"sealed": b"x" * OVERHEAD_BYTES}, "bad_value"),
        ({"sealed": b"x" * (MAX_SECRET_BYTES + OVERHEAD_BYTES + 1)}, "bad_value"),
        ({"sealing_key": "x"}, "unknown_key"),
        ({"sealing_key": KEY_ID.upper()}, "unknown_key"),
    ],
)
def test_what_is_not_taken(keyed: House, given: Any, code: str) -> None:
    """With a code, and nothing written."""
    with pytest.raises(SecretRefused) as refused:
        put(keyed, **given)
    assert refused.value.code == code
    assert ConnectorSecret.objects.count() == len(actions()) == 0


def test_the_longest_value_is_taken(keyed: House) -> None:
    assert put(keyed, sealed=b"x" * (MAX_SECRET_BYTES + OVERHEAD_BYTES)).version == 1


def test_a_tenant_without_a_key_waits_for_it(house: House) -> None:
    """Web cannot make one."""
    with pytest.raises(SecretRefused, match="is being made") as refused:
        put(house)
    assert refused.value.code == "no_tenant_key"


def test_sixty_four_names(keyed: House) -> None:
    """A new version of a known name is no new name; a revoked one is known still, as the machine has it."""
    for number in range(MAX_NAMES):
        put(keyed, f"S{number}")
    put(keyed, "S0")
    with pytest.raises(SecretRefused) as refused:
        put(keyed, "ONE_MORE")
    assert refused.value.code == "too_many"
    secret_forgotten(revoke(keyed, name="S1"))
    assert put(keyed, "S1").version == 2


def test_two_at_once_do_not_share_a_version(keyed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lock did not help, the unique constraint does; the second is told so."""
    put(keyed)
    monkeypatch.setattr(
        "django.db.models.query.QuerySet.aggregate", lambda self, **given: dict.fromkeys(given)
    )
    with pytest.raises(SecretRefused) as refused:
        put(keyed)
    assert refused.value.code == "busy"
    assert states() == ["waiting+"]


def test_a_held_version_replaces_those_before(keyed: House) -> None:
    """Their ciphertext goes in the same transaction."""
    first, second, third = put(keyed), put(keyed), put(keyed)
    secret_held(first)
    assert states() == ["held+", "waiting+", "waiting+"]
    secret_held(third)
    assert states() == ["superseded", "superseded", "held+"]
    secret_held(second)
    assert states() == ["superseded", "superseded", "held+"]
    assert [action for action, _ in actions()][3:] == ["held", "held"]


def test_revocation_erases_at_once(keyed: House) -> None:
    """Before the machine has confirmed, and whatever was waiting."""
    secret_held(put(keyed))
    put(keyed)
    found = revoke(keyed)
    assert (found.version, found.state, found.wrapped) == (2, "revoking", None)
    assert states() == ["superseded", "revoking"]
    assert revoke(keyed).state == "revoking"
    assert [action for action, _ in actions()].count("revoked") == 1
    assert secret_forgotten(found)
    assert states() == ["superseded", "revoked"]
    assert revoke(keyed).state == "revoked"


@pytest.mark.parametrize("who", ["owner", "operator"])
def test_owners_and_operators_revoke(keyed: House, operator: User, who: str) -> None:
    keyed.people["operator"] = operator
    put(keyed)
    assert revoke(keyed, who).state == "revoking"


@pytest.mark.parametrize("who", ["member", "stranger"])
def test_nobody_else_revokes(keyed: House, who: str) -> None:
    put(keyed)
    with pytest.raises(SecretRefused, match="owners and operators"):
        revoke(keyed, who)
    assert states() == ["waiting+"]


def test_a_name_that_never_was(keyed: House) -> None:
    with pytest.raises(ConnectorSecret.DoesNotExist):
        revoke(keyed)


def test_a_refused_version_keeps_the_one_before(keyed: House) -> None:
    """The machine still holds that; revoking the name takes both."""
    first, second = put(keyed), put(keyed)
    secret_held(first)
    secret_refused(second, "cannot_open")
    assert states() == ["held+", "refused"]
    second.refresh_from_db()
    assert second.refusal == "cannot_open"
    assert revoke(keyed).version == 1
    assert states() == ["revoking", "revoked"]


def test_only_refused_versions_are_dropped_at_once(keyed: House) -> None:
    """The machine never took them, so nothing is left to confirm."""
    secret_refused(put(keyed), "cannot_open")
    assert revoke(keyed).state == "revoked"
    assert states() == ["revoked"]


def test_what_is_revoked_meanwhile_stays_revoked(keyed: House) -> None:
    """A delivery that ends after the revocation began changes nothing of it."""
    secret = put(keyed)
    revoke(keyed)
    assert not secret_held(secret)
    secret_refused(secret, "cannot_open")
    assert states() == ["revoking"]
    with pytest.raises(ConnectorSecret.DoesNotExist):
        secret_open(secret)


def test_resealing_replaces_the_copy(keyed: House) -> None:
    """Once, and only of what the machine holds under the key before."""
    secret = put(keyed)
    assert not secret_resealed(secret, "f" * 16, b"y" * 60)
    secret_held(secret)
    assert secret_resealed(secret, "f" * 16, b"y" * 60)
    assert not secret_resealed(secret, "e" * 16, b"z" * 60)
    secret.refresh_from_db()
    assert secret.sealing_key == "f" * 16
    assert secret_open(secret) == b"y" * 60


def test_a_ciphertext_of_another_version_does_not_open(keyed: House) -> None:
    """Whoever can write the table cannot roll a secret back."""
    first, second = put(keyed), put(keyed)
    ConnectorSecret.objects.filter(pk=second.pk).update(wrapped=first.wrapped)
    with pytest.raises(DamagedError):
        secret_open(second)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "revoked"},
        {"state": "superseded"},
        {"wrapped": None},
        {"tenant_key": None},
        {"connector": "gitlab"},
        {"version": 0},
        {"state": "refused", "wrapped": None, "tenant_key": None},
        {"refusal": "x"},
    ],
)
def test_the_database_refuses(keyed: House, change: Any) -> None:
    """What nobody may deliver any more has no ciphertext; a refusal has a code; one connector."""
    secret = put(keyed)
    with pytest.raises(IntegrityError), transaction.atomic():
        ConnectorSecret.objects.filter(pk=secret.pk).update(**change)


def test_one_version_is_held(keyed: House) -> None:
    secret_held(put(keyed))
    second = put(keyed)
    with pytest.raises(IntegrityError), transaction.atomic():
        ConnectorSecret.objects.filter(pk=second.pk).update(state="held")


def test_names_are_scoped(
    keyed: House, operator: User, make_user: Callable[..., User], make_tenant: Callable[..., Tenant]
) -> None:
    """Members and operators see them; strangers see nothing."""
    make_tenant("other")
    put(keyed)
    for who, count in (("owner", 1), ("member", 1), ("stranger", 0)):
        assert secrets_for(keyed.people[who]).count() == count
    assert secrets_for(operator).count() == 1


@pytest.mark.parametrize("deed", [put, revoke, lambda house: secret_held(ConnectorSecret.objects.get())])
def test_without_its_entry_nothing_changes(
    keyed: House, monkeypatch: pytest.MonkeyPatch, deed: Callable[[House], Any]
) -> None:
    """Rule 1."""
    put(keyed)
    before = list(ConnectorSecret.objects.values())

    def full(**given: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tenants.services.secrets.record", full)
    with pytest.raises(OSError, match="disk full"), transaction.atomic():
        deed(keyed)
    assert list(ConnectorSecret.objects.values()) == before


def test_nothing_that_the_portal_has_opens_a_secret(keyed: House, settings: Any) -> None:
    """The stolen portal: every row and every key leads to the sealed box, and only the guest opens that."""
    secret = put(keyed)
    sealed = secret_open(secret)
    assert sealed == SEALED
    assert MARKER not in sealed
    rows = repr([list(model.objects.values()) for model in (ConnectorSecret, Entry, Tenant)])
    assert not any(
        form in rows for form in (MARKER.decode(), MARKER.hex(), base64.b64encode(MARKER).decode())
    )
    key = secret.tenant_key
    assert key is not None
    for candidate in (settings.WRAPPING_KEY, settings.ROUTE_KEY, _private(key).private_bytes_raw()):
        with pytest.raises(SealError):
            unseal(candidate, sealed)
    assert unseal(bytes(GUEST), sealed) == MARKER
