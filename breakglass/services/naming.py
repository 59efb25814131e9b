"""An owner names the approvers whom the tenant's machine believes: the set in force, signed by the owner.

Without that a machine takes no set, and nobody breaks any glass. Once it has one it follows that set's own
quorums, and an owner shuts the way by terms (:mod:`breakglass.services.terms`).
"""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from audit.context import Actor
from audit.services import record
from breakglass import signals
from breakglass.models import ApproverSetVersion, TenantApprovers
from breakglass.refusals import TicketRefused
from breakglass.selectors import current_set
from protocol.approvers import ApproversError, accept
from protocol.keyrings import Keyring
from tenants.models import Tenant
from tenants.selectors import is_owner, latest_keyring
from tenants.sites import site

SIGNATURE_FIELDS = {
    "device": ("kind", "by", "signature"),
    "passkey": ("kind", "by", "client_data", "authenticator_data", "signature"),
}
_SENTENCES = {
    "not_an_owner": "An owner whom the keyring in force names must sign.",
    "bad_signature": "The signature does not fit the set in force. Reload the page and sign anew.",
}


@transaction.atomic
def approvers_name(
    *, actor: Actor, tenant: Tenant, version: int, signature: Mapping[str, Any]
) -> TenantApprovers:
    """Keep an owner's signature over the set in force. The same set under the same keyring changes nothing.

    Args:
        version: of the set that was shown and signed.
        signature: for ``Purpose.NAMING``, over the :func:`protocol.approvers.naming_document` of both.

    Raises:
        TicketRefused: ``not_allowed``, ``no_keyring``, ``no_approvers``, ``stale``, ``not_an_owner`` or
            ``bad_signature``.
    """
    only_owners(actor, tenant)
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    keyring = latest_keyring(tenant)
    if keyring is None:
        raise TicketRefused("no_keyring", "There is no keyring yet. Set it up first.")
    current = current_set()
    if current is None:
        raise TicketRefused("no_approvers", "There are no approvers yet. Staff make the first set.")
    if version != current.version:
        raise TicketRefused("stale", "Another set is in force meanwhile. Reload the page and look again.")
    stored = TenantApprovers.objects.filter(tenant=tenant, set=current, keyring=keyring).first()
    if stored is not None:
        return stored
    try:
        accept(None, current.document, [signature], Keyring.parse(keyring.document), site(tenant))
    except ApproversError as error:
        raise TicketRefused(error.code, _SENTENCES.get(error.code, str(error))) from None
    named = TenantApprovers.objects.create(
        tenant=tenant, set=current, keyring=keyring, signature=as_kept(signature)
    )
    _record(actor, tenant, current, named)
    signals.approvers_changed.send(sender=TenantApprovers, version=current.version, tenant_id=tenant.pk)
    return named


def only_owners(actor: Actor, tenant: Tenant) -> None:
    """Raises TicketRefused: ``not_allowed`` for all but the tenant's present owners."""
    if actor.user is None or not is_owner(actor.user, tenant):
        raise TicketRefused("not_allowed", "Only the tenant's owners decide this. Ask one.")


def as_kept(signature: Mapping[str, Any]) -> dict[str, Any]:
    """A signature that was verified, without anything that stood beside it."""
    return {name: signature[name] for name in SIGNATURE_FIELDS[signature["kind"]]}


def _record(actor: Actor, tenant: Tenant, current: ApproverSetVersion, named: TenantApprovers) -> None:
    record(
        action="approvers.named",
        actor=actor,
        tenant_id=tenant.pk,
        target=("approver_set", current.pk),
        data={
            "version": current.version,
            "hash": current.hash,
            "keyring": named.keyring.version,
            "signed_by": str(named.signature["by"]),
        },
    )
