"""A tenant's own keys: what they wrap, how they change, and that nothing brings a destroyed one back."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, transaction

from audit.context import Actor, command
from audit.models import Entry
from tenants.derivation import WrappingError
from tenants.models import ConnectorSecret, Tenant, TenantKey
from tenants.selectors import current_key, keys_due
from tenants.services import TenantError, tenant_key_ask_rotation, tenant_key_ensure, tenant_key_rotate
from tenants.services.secret_states import secret_open
from tenants.tenant_keys import DamagedError, new_pair, unwrap, wrap
from tests.tenants.conftest import House
from tests.tenants.sealing import SEALED, put

pytestmark = pytest.mark.django_db
TESTER = command("test")


@pytest.fixture
def key(tenant: Tenant) -> TenantKey:
    return tenant_key_ensure(tenant.pk)


def entries(action: str) -> list[Any]:
    rows = Entry.objects.filter(action=action).order_by("pk")
    return [json.loads(row.event)["data"] for row in rows]


def test_round_trip(key: TenantKey) -> None:
    """What is wrapped for a row opens for that row; the same twice looks different."""
    wrapped = wrap(key, b"sealed", identity="secret/a/B/1")
    assert unwrap(key, wrapped, identity="secret/a/B/1") == b"sealed"
    assert wrap(key, b"sealed", identity="secret/a/B/1") != wrapped


@pytest.mark.parametrize("identity", ["secret/a/B/2", "secret/a/C/1", "secret/b/B/1", ""])
def test_moved_to_another_row_it_does_not_open(key: TenantKey, identity: str) -> None:
    wrapped = wrap(key, b"sealed", identity="secret/a/B/1")
    with pytest.raises(DamagedError):
        unwrap(key, wrapped, identity=identity)


@pytest.mark.parametrize("damage", [lambda w: w[:-1], lambda w: b"", lambda w: w[:-1] + bytes([w[-1] ^ 1])])
def test_damaged_bytes_do_not_open(key: TenantKey, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DamagedError):
        unwrap(key, damage(wrap(key, b"sealed", identity="x")), identity="x")


def test_another_tenants_key_does_not_open_it(key: TenantKey, make_tenant: Callable[..., Tenant]) -> None:
    other = tenant_key_ensure(make_tenant("other").pk)
    with pytest.raises(DamagedError):
        unwrap(other, wrap(key, b"sealed", identity="x"), identity="x")


def test_a_private_half_moved_to_another_row_does_not_open(
    key: TenantKey, make_tenant: Callable[..., Tenant]
) -> None:
    """Fernet binds no identity; the keys that are derived for each row do."""
    other = tenant_key_ensure(make_tenant("other").pk)
    wrapped = wrap(other, b"sealed", identity="x")
    key.private_key, key.public_key = other.private_key, other.public_key
    with pytest.raises(WrappingError, match="for another row"):
        unwrap(key, wrapped, identity="x")


def test_a_public_half_of_somebody_elses_is_seen(key: TenantKey) -> None:
    """Whoever can write the table could have web wrap to a key of their own; the worker sees it."""
    wrapped = wrap(key, b"sealed", identity="x")
    key.public_key, _ = new_pair(key.identity)
    with pytest.raises(WrappingError, match="Look who changed it"):
        unwrap(key, wrapped, identity="x")


def test_web_wraps_and_cannot_unwrap(key: TenantKey, settings: Any) -> None:
    """Without the wrapping key nothing opens and nothing is made; with SECRET_KEY alone neither."""
    settings.WRAPPING_KEY = b""
    wrapped = wrap(key, b"sealed", identity="x")
    with pytest.raises(WrappingError, match="no wrapping key"):
        unwrap(key, wrapped, identity="x")
    with pytest.raises(WrappingError, match="no wrapping key"):
        new_pair("tenant/x/key/1")


def test_another_wrapping_key_or_secret_key(key: TenantKey, settings: Any) -> None:
    """SECRET_KEY may change; the wrapping key may not."""
    wrapped = wrap(key, b"sealed", identity="x")
    settings.SECRET_KEY = "another" * 10
    assert unwrap(key, wrapped, identity="x") == b"sealed"
    settings.WRAPPING_KEY = os.urandom(32)
    with pytest.raises(WrappingError, match="under another key"):
        unwrap(key, wrapped, identity="x")


def test_a_key_is_made_once(tenant: Tenant) -> None:
    """With an entry that holds its public half only."""
    key = tenant_key_ensure(tenant.pk)
    assert tenant_key_ensure(tenant.pk) == key
    assert (key.version, key.state) == (1, "current")
    assert entries("tenant_key.made") == [{"version": 1, "public_key": key.public_key}]


def test_rotation_wraps_anew_and_destroys(house: House) -> None:
    """Every live secret opens with the new key only; the old private half is gone."""
    old = tenant_key_ensure(house.tenant.pk)
    first, second = put(house, "ONE"), put(house, "TWO")
    before = bytes(first.wrapped or b"")
    new = tenant_key_rotate(actor=TESTER, tenant=house.tenant)
    old.refresh_from_db()
    assert (old.state, old.private_key, new.version) == ("destroyed", None, 2)
    for secret in (first, second):
        secret.refresh_from_db()
        assert secret.tenant_key == new
        assert secret_open(secret) == SEALED
    with pytest.raises(DamagedError):
        unwrap(new, before, identity=first.identity)
    with pytest.raises(WrappingError, match="destroyed"):
        unwrap(old, before, identity=first.identity)
    assert entries("tenant_key.destroyed") == [{"version": 1, "public_key": old.public_key}]


def test_rotation_marks_what_does_not_open(house: House) -> None:
    """One row that somebody has changed does not keep the others on the old key."""
    tenant_key_ensure(house.tenant.pk)
    good, bad = put(house, "GOOD"), put(house, "BAD")
    ConnectorSecret.objects.filter(pk=bad.pk).update(wrapped=good.wrapped)
    tenant_key_rotate(actor=TESTER, tenant=house.tenant)
    bad.refresh_from_db()
    assert (bad.state, bad.refusal, bad.wrapped) == ("refused", "damaged", None)
    assert secret_open(good) == SEALED


def test_rotation_with_a_wrong_wrapping_key_loses_nothing(house: House, settings: Any) -> None:
    """A worker that was given another wrapping key changes nothing at all."""
    key = tenant_key_ensure(house.tenant.pk)
    secret = put(house, "ONE")
    right, settings.WRAPPING_KEY = settings.WRAPPING_KEY, os.urandom(32)
    with pytest.raises(WrappingError), transaction.atomic():
        tenant_key_rotate(actor=TESTER, tenant=house.tenant)
    settings.WRAPPING_KEY = right
    assert current_key(house.tenant.pk) == key
    assert secret_open(secret) == SEALED


def test_without_its_entry_nothing_is_rotated(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1."""
    key = tenant_key_ensure(house.tenant.pk)

    def full(**given: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tenants.services.tenant_keys.record", full)
    with pytest.raises(OSError, match="disk full"), transaction.atomic():
        tenant_key_rotate(actor=TESTER, tenant=house.tenant)
    assert current_key(house.tenant.pk) == key


def test_operators_ask_and_a_worker_rotates(house: House, as_operator: Actor) -> None:
    """Web only writes the wish; owners may not."""
    assert list(keys_due()) == [house.tenant]
    with pytest.raises(TenantError, match="no key yet"):
        tenant_key_ask_rotation(actor=as_operator, tenant=house.tenant)
    tenant_key_ensure(house.tenant.pk)
    assert list(keys_due()) == []
    with pytest.raises(TenantError, match="Only operators"):
        tenant_key_ask_rotation(actor=house.actor(), tenant=house.tenant)
    tenant_key_ask_rotation(actor=as_operator, tenant=house.tenant)
    assert list(keys_due()) == [house.tenant]
    tenant_key_rotate(actor=TESTER, tenant=house.tenant)
    assert list(keys_due()) == []


def test_the_command_rotates(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the new key's version, and what to change if there is no such tenant."""
    tenant_key_ensure(house.tenant.pk)
    call_command("tenant_keys_rotate", house.tenant.slug)
    assert "key 2" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no tenant"):
        call_command("tenant_keys_rotate", "nobody")


@pytest.mark.parametrize(
    "change",
    [
        {"state": "destroyed"},
        {"private_key": None},
        {"version": 0},
        {"public_key": "00" * 32},
        {"version": 7},
    ],
)
def test_the_database_keeps_a_key_as_it_is(key: TenantKey, change: Any) -> None:
    """A destroyed key has no private half and a live one has; nobody swaps a public half or renumbers."""
    with pytest.raises(DatabaseError), transaction.atomic():
        TenantKey.objects.filter(pk=key.pk).update(**change)


@pytest.mark.parametrize("change", [{"state": "current", "private_key": b"x"}, {"rotation_wanted": True}])
def test_the_database_lets_no_destroyed_key_return(key: TenantKey, tenant: Tenant, change: Any) -> None:
    tenant_key_rotate(actor=TESTER, tenant=tenant)
    with pytest.raises(DatabaseError), transaction.atomic():
        TenantKey.objects.filter(pk=key.pk).update(**change)


def test_the_database_drops_no_key(key: TenantKey) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        TenantKey.objects.filter(pk=key.pk).delete()


def test_one_current_key_and_one_of_each_version(key: TenantKey, tenant: Tenant) -> None:
    for version, state, private in ((2, "current", b"x"), (1, "destroyed", None)):
        with pytest.raises(IntegrityError), transaction.atomic():
            TenantKey.objects.create(
                tenant=tenant, version=version, state=state, public_key="00" * 32, private_key=private
            )


def test_no_wrapped_key_is_in_the_record(house: House, owner: User) -> None:
    """Entries hold public halves and names, and nothing that is wrapped."""
    key = tenant_key_ensure(house.tenant.pk)
    secret = put(house, "ONE")
    text = "".join(Entry.objects.values_list("event", flat=True))
    for held in (bytes(key.private_key or b"-"), bytes(secret.wrapped or b"-"), SEALED):
        assert held.hex() not in text
