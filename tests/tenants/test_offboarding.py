"""The end of a tenant: its keys and sealed secrets go, its rows stay, and nothing new begins."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.context import Actor, command
from audit.models import Entry
from provisioning.models import GuestImage, Host
from provisioning.services import OperationRefused, runtime_create
from tenants.models import ConnectorSecret, Tenant, TenantKey
from tenants.selectors import is_member, is_owner, key_holder, tenants_for
from tenants.services import (
    SecretRefused,
    TenantError,
    membership_add,
    secret_put,
    tenant_key_ensure,
    tenant_key_rotate,
    tenant_offboard,
)
from tests.audit.opened import opened
from tests.protocol.people import OWNER
from tests.tenants.conftest import House
from tests.tenants.sealing import put

pytestmark = pytest.mark.django_db
TESTER = command("test")
REASON = "The contract has ended."


def test_keys_and_secrets_go(house: House, as_operator: Actor) -> None:
    """The private half is destroyed and every ciphertext erased; the reason is on record."""
    tenant_key_ensure(house.tenant.pk)
    put(house)
    tenant_offboard(actor=as_operator, tenant=house.tenant, reason=REASON)
    key, secret = TenantKey.objects.get(), ConnectorSecret.objects.get()
    assert (key.state, key.private_key) == ("destroyed", None)
    assert (secret.state, secret.wrapped, secret.refusal) == ("refused", None, "offboarded")
    assert opened(Entry.objects.get(action="tenant.offboarded"))["reason"] == REASON
    assert Entry.objects.filter(action="tenant_key.destroyed").count() == 1


def test_nothing_begins_any_more(
    house: House, as_operator: Actor, image: GuestImage, make_host: Callable[..., Host]
) -> None:
    """No runtime, no secret, no key, no member; its people see nothing, and sign in nowhere."""
    tenant_key_ensure(house.tenant.pk)
    house.register()
    make_host()
    owner = house.people["owner"]
    assert key_holder(OWNER.key.fingerprint) == owner
    tenant_offboard(actor=as_operator, tenant=house.tenant, reason=REASON)
    with pytest.raises(OperationRefused, match="is offboarded"):
        runtime_create(actor=as_operator, tenant=house.tenant)
    with pytest.raises(SecretRefused):
        put(house)
    for deed in (tenant_key_ensure, lambda pk: tenant_key_rotate(actor=TESTER, tenant=house.tenant)):
        with pytest.raises(TenantError, match="is offboarded"):
            deed(house.tenant.pk)
    with pytest.raises(TenantError, match="is offboarded"):
        membership_add(actor=TESTER, tenant=house.tenant, user=house.people["stranger"], role="owner")
    assert not is_owner(owner, house.tenant)
    assert not is_member(owner, house.tenant)
    assert list(tenants_for(owner)) == []
    assert key_holder(OWNER.key.fingerprint) is None
    assert house.tenant.memberships.count() == 2


def test_its_slug_is_taken_and_its_place_is_free(
    make_tenant: Callable[..., Tenant], as_operator: Actor, settings: Any
) -> None:
    """The cap counts those that are there."""
    settings.PILOT_TENANT_CAP = 1
    first = make_tenant("acme")
    with pytest.raises(TenantError, match="at most 1"):
        make_tenant("birch")
    tenant_offboard(actor=as_operator, tenant=first, reason=REASON)
    with pytest.raises(Exception, match="already exists"):
        make_tenant("acme")
    make_tenant("birch")


@pytest.mark.parametrize("reason", ["", "short", "x" * 501])
def test_a_reason_is_asked_for(tenant: Tenant, as_operator: Actor, reason: str) -> None:
    with pytest.raises(TenantError, match="Give a reason"):
        tenant_offboard(actor=as_operator, tenant=tenant, reason=reason)
    tenant.refresh_from_db()
    assert tenant.offboarded_at is None


def test_only_operators_and_only_once(house: House, as_operator: Actor) -> None:
    with pytest.raises(TenantError, match="Only operators"):
        tenant_offboard(actor=house.actor(), tenant=house.tenant, reason=REASON)
    tenant_offboard(actor=as_operator, tenant=house.tenant, reason=REASON)
    with pytest.raises(TenantError, match="already"):
        tenant_offboard(actor=as_operator, tenant=house.tenant, reason=REASON)


def test_a_tenant_with_a_runtime_stays(
    tenant: Tenant, as_operator: Actor, image: GuestImage, make_host: Callable[..., Host], owner: User
) -> None:
    """Until that is deleted; staff are told so."""
    make_host()
    operation = runtime_create(actor=as_operator, tenant=tenant)
    with pytest.raises(TenantError, match="Delete it first"):
        tenant_offboard(actor=as_operator, tenant=tenant, reason=REASON)
    runtime = operation.runtime
    type(runtime).objects.filter(pk=runtime.pk).update(phase="deleted", host=None, reserved=False)
    tenant_offboard(actor=as_operator, tenant=tenant, reason=REASON)
    assert not is_owner(owner, tenant)


def test_secrets_are_refused_by_who_asks(house: House, as_operator: Actor) -> None:
    """An owner of old is nobody's owner now."""
    tenant_offboard(actor=as_operator, tenant=house.tenant, reason=REASON)
    with pytest.raises(SecretRefused) as refused:
        secret_put(
            actor=house.actor(),
            tenant=house.tenant,
            name="A",
            connector="github",
            sealing_key="0" * 16,
            sealed=b"x" * 60,
        )
    assert refused.value.code == "not_allowed"
