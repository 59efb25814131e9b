"""Several at once, in threads with connections of their own. `make test` runs this on both databases."""

from collections.abc import Callable
from typing import Any

import pytest

from audit.context import command
from tenants.models import ConnectorSecret, TenantKey
from tenants.services import SecretRefused, secret_revoke, tenant_key_ensure, tenant_key_rotate
from tenants.services.secret_states import secret_held, secret_open
from tests import races
from tests.tenants.conftest import House
from tests.tenants.sealing import SEALED, put

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """What each came to: its answer, or its refusal's code."""
    return races.at_once(deeds, SecretRefused, lambda refusal: refusal.code)


def test_puts_of_one_name(house: House) -> None:
    """Each gets a version of its own, without a gap."""
    tenant_key_ensure(house.tenant.pk)
    ends = at_once(*[lambda: put(house).version] * 6)
    assert sorted(ends) == [1, 2, 3, 4, 5, 6]


def test_a_key_is_made_once(house: House) -> None:
    ends = at_once(*[lambda: tenant_key_ensure(house.tenant.pk).pk] * 4)
    assert len(set(ends)) == TenantKey.objects.count() == 1


def test_puts_while_the_key_is_rotated(house: House) -> None:
    """Whatever comes first: all that is kept opens with the one key that is left."""
    tenant_key_ensure(house.tenant.pk)

    def rotate() -> int:
        return tenant_key_rotate(actor=TESTER, tenant=house.tenant).version

    at_once(*[lambda name=name: put(house, name) for name in ("A", "B", "C", "D")], rotate, rotate)
    key = TenantKey.objects.get(state="current")
    assert key.version == 3
    for secret in ConnectorSecret.objects.all():
        assert secret.tenant_key == key
        assert secret_open(secret) == SEALED


def test_held_and_revoked_at_once(house: House) -> None:
    """The revocation stands, whichever was first, and nothing is kept."""
    tenant_key_ensure(house.tenant.pk)
    secret = put(house)
    at_once(
        lambda: secret_held(secret),
        lambda: secret_revoke(actor=house.actor(), tenant=house.tenant, name=secret.name),
    )
    secret.refresh_from_db()
    assert (secret.state, secret.wrapped) == ("revoking", None)


def test_workers_and_owners_on_many_rows(house: House) -> None:
    """Delivery, rotation and revocation of the same rows: each waits for the others, and none for ever."""
    tenant_key_ensure(house.tenant.pk)
    for _ in range(5):
        secrets = [put(house, name) for name in ("A", "B") for _ in range(4)]

        def hold(chosen: list[ConnectorSecret] = secrets) -> None:
            for secret in chosen:
                secret_held(secret)

        def rotate() -> None:
            tenant_key_rotate(actor=TESTER, tenant=house.tenant)

        def revoke() -> None:
            secret_revoke(actor=house.actor(), tenant=house.tenant, name="B")

        at_once(hold, rotate, revoke, rotate)
        assert ConnectorSecret.objects.filter(name="A", state="held").count() == 1
        assert not ConnectorSecret.objects.filter(name="B").exclude(wrapped=None).exists()
    assert secret_open(ConnectorSecret.objects.get(name="A", state="held")) == SEALED
