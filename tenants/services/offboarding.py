"""The end of a tenant. Its rows are kept for the record; its keys, and what they wrapped, are not."""

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from audit.context import Actor
from audit.personal import reason_of
from audit.reasons import reason_problem
from audit.services import record
from tenants.models import Tenant
from tenants.selectors import is_operator
from tenants.services.registry import TenantError
from tenants.services.secrets import lost
from tenants.services.tenant_keys import keys_destroy

Hold = Callable[[Tenant], str]
_HOLDS: list[Hold] = []


def hold(check: Hold) -> Hold:
    """Register what may keep a tenant from being offboarded: it tells what to do first, or an empty text.

    A room above this one knows what the tenant still has there.
    """
    _HOLDS.append(check)
    return check


@transaction.atomic
def tenant_offboard(*, actor: Actor, tenant: Tenant, reason: str) -> Tenant:
    """End a tenant: destroy its keys, erase what is kept sealed, close its people's places. Cannot be undone.

    Its slug stays taken. It no longer counts for the pilot's cap.

    Raises:
        TenantError: not an operator, no reason, offboarded before, or it still has a runtime.
    """
    # As for a new runtime: every creation passes through these rows' locks (provisioning/services.py).
    tenant = next(one for one in Tenant.objects.select_for_update().order_by("pk") if one.pk == tenant.pk)
    if actor.kind == "user" and (actor.user is None or not is_operator(actor.user, tenant)):
        raise TenantError("Only operators offboard a tenant.")
    problem = reason_problem(reason)
    if tenant.offboarded_at is not None:
        problem = f"{tenant.name} is offboarded already."
    problem = problem or next(filter(None, (check(tenant) for check in _HOLDS)), "")
    if problem:
        raise TenantError(problem)
    lost(tenant.pk, "offboarded")
    keys_destroy(actor=actor, tenant=tenant)
    tenant.offboarded_at = timezone.now()
    tenant.save(update_fields=["offboarded_at"])
    record(
        action="tenant.offboarded",
        actor=actor,
        tenant_id=tenant.pk,
        target=("tenant", tenant.pk),
        personal={"reason": reason_of(actor, reason.strip())},
    )
    return tenant
