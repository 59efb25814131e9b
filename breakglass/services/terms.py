"""On which terms a tenant's owner lets anybody in: closed, by approvers, or by approvers and an owner.

Signed by the owner, pinned by the machine, and only ever replaced by a later version that an owner signs.
"""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from audit.context import Actor
from audit.services import record
from breakglass import signals
from breakglass.models import TermsVersion
from breakglass.refusals import TicketRefused
from breakglass.services.naming import as_kept, only_owners
from protocol.canonical import canonical
from protocol.keyrings import Keyring
from protocol.terms import Terms, TermsError, accept
from tenants.models import KeyringVersion, Tenant
from tenants.selectors import latest_keyring
from tenants.sites import site

_STALE = "They have changed meanwhile. Reload the page, look again, and sign anew."
_SENTENCES = {
    "wrong_tenant": "This was signed for another tenant. Sign it on that tenant's page.",
    "rolled_back": _STALE,
    "forked": _STALE,
    "version_skipped": _STALE,
    "not_an_owner": "An owner whom the keyring in force names must sign.",
    "bad_signature": "The signature does not fit these terms. Sign again.",
}


def latest_terms(tenant: Tenant) -> TermsVersion | None:
    """What owners of ``tenant`` have signed last; None: the defaults hold."""
    return TermsVersion.objects.filter(tenant=tenant).first()


def terms_draft(*, tenant: Tenant, ordinary: str, emergency: str) -> dict[str, Any]:
    """The document that an owner signs next, for ``Purpose.TERMS``."""
    stored = latest_terms(tenant)
    return {
        "version": stored.version + 1 if stored else 1,
        "tenant_id": str(tenant.pk),
        "ordinary": ordinary,
        "emergency": emergency,
    }


@transaction.atomic
def terms_accept(
    *, actor: Actor, tenant: Tenant, document: Any, signature: Mapping[str, Any]
) -> TermsVersion:
    """Keep the terms that hold from now on. Those in force, sent again, change nothing.

    Raises:
        TicketRefused: ``not_allowed``, ``no_keyring``, ``malformed``, ``wrong_tenant``, ``rolled_back``,
            ``forked``, ``version_skipped``, ``not_an_owner`` or ``bad_signature``.
    """
    only_owners(actor, tenant)
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    keyring, stored = latest_keyring(tenant), latest_terms(tenant)
    if keyring is None:
        raise TicketRefused("no_keyring", "There is no keyring yet. Set it up first.")
    if stored is not None and document == stored.document:
        return stored
    new = _accepted(tenant, keyring, stored, document, signature)
    kept = TermsVersion.objects.create(
        tenant=tenant,
        version=new.version,
        document=json.loads(canonical(document)),
        signature=as_kept(signature),
        keyring=keyring,
    )
    record(
        action="terms.accepted",
        actor=actor,
        tenant_id=tenant.pk,
        target=("break_glass_terms", kept.pk),
        data={
            "version": new.version,
            "ordinary": new.ordinary,
            "emergency": new.emergency,
            "signed_by": str(signature["by"]),
        },
    )
    signals.terms_changed.send(sender=TermsVersion, tenant_id=tenant.pk)
    return kept


def _accepted(
    tenant: Tenant,
    keyring: KeyringVersion,
    stored: TermsVersion | None,
    document: Any,
    signature: Mapping[str, Any],
) -> Terms:
    current = Terms.parse(stored.document) if stored else None
    read = Keyring.parse(keyring.document)
    try:
        new = accept(current, document, signature, read, str(tenant.pk), site(tenant))
    except TermsError as error:
        words = _SENTENCES.get(error.code, f"These terms cannot be taken: {error}.")
        raise TicketRefused(error.code, words) from None
    if new.version != (stored.version if stored else 0) + 1:
        raise TicketRefused("version_skipped", _STALE)
    return new
