"""Keeping what owners have signed: keyrings and consents. The guest checks each of them again for itself."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from audit.context import Actor
from audit.services import record
from protocol.canonical import CanonicalError, canonical
from protocol.keyrings import Keyring, KeyringError, accept
from protocol.persons import Purpose, SignatureError, verify
from tenants.models import ConsentVersion, KeyringVersion, MemberKey, Membership, Tenant
from tenants.selectors import is_owner, latest_consents, latest_keyring
from tenants.services.keys import check_name
from tenants.services.refusals import MembersRefused
from tenants.signals import members_changed
from tenants.sites import site

CONSENT_FIELDS = {"version", "tenant_id", "agents", "always_on"}
_SIGNATURE_FIELDS = {
    "device": ("kind", "by", "signature"),
    "passkey": ("kind", "by", "client_data", "authenticator_data", "signature"),
}
_STALE = "It has changed meanwhile. Reload the page, look again, and sign anew."
_SENTENCES = {
    "wrong_tenant": "This was signed for another tenant. Sign it on that tenant's page.",
    "rolled_back": _STALE,
    "forked": _STALE,
    "version_skipped": _STALE,
    "not_an_owner": "An owner named by the keyring in force must sign.",
}


@transaction.atomic
def keyring_accept(
    *, actor: Actor, tenant: Tenant, document: Any, signature: Mapping[str, Any]
) -> KeyringVersion:
    """Keep the next version. The one in force, sent again, changes nothing.

    Who joins, or changes role, must be a member here in that role, with that key registered. Whoever stays
    is not looked at again: the portal cannot take out what an owner has signed in, and must not stand in the
    way of another change.

    Raises:
        MembersRefused: ``not_allowed``, ``bad_name``, ``not_registered``, ``wrong_role``, or a code of
            :class:`protocol.keyrings.KeyringError`.
    """
    _only_owners(actor, tenant)
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    stored = latest_keyring(tenant)
    current = Keyring.parse(stored.document) if stored else None
    try:
        new = accept(current, document, signature, str(tenant.pk), site(tenant))
    except KeyringError as error:
        raise _refused(error.code, str(error)) from None
    if stored is not None and new is current:
        return stored
    _check_people(tenant, current, new)
    kept = KeyringVersion.objects.create(
        tenant=tenant,
        version=new.version,
        hash=new.hash,
        created_by_id=_person(actor),
        **_kept(document, signature),
    )
    record(
        action="keyring.accepted",
        actor=actor,
        tenant_id=tenant.pk,
        target=("keyring", kept.pk),
        data={
            "version": new.version,
            "hash": new.hash,
            "fingerprints": sorted(new.members),
            "recovery": new.recovery.fingerprint,
            "signed_by": str(signature["by"]),
        },
    )
    members_changed.send(sender=KeyringVersion, tenant_id=tenant.pk)
    return kept


@transaction.atomic
def consent_accept(
    *, actor: Actor, tenant: Tenant, document: Any, signature: Mapping[str, Any]
) -> ConsentVersion:
    """Keep what an owner agrees to from now on. The one in force, sent again, changes nothing.

    Raises:
        MembersRefused: ``not_allowed``, ``no_keyring``, ``malformed``, ``wrong_tenant``, ``rolled_back``,
            ``version_skipped``, ``not_an_owner`` or ``bad_signature``.
    """
    _only_owners(actor, tenant)
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    keyring = latest_keyring(tenant)
    if keyring is None:
        raise MembersRefused("no_keyring", "There is no keyring yet. Set it up first.")
    stored = latest_consents(tenant)
    _check_consents(tenant, document)
    if stored is not None and document == stored.document:
        return stored
    due = (stored.version if stored else 0) + 1
    if document["version"] != due:
        raise _refused("rolled_back" if document["version"] < due else "version_skipped", "")
    by = signature.get("by")
    signer = Keyring.parse(keyring.document).members.get(by) if isinstance(by, str) else None
    if signer is None or signer.role != Membership.Role.OWNER:
        raise _refused("not_an_owner", "")
    try:
        verify(signer.key, signature, Purpose.CONSENT, document, site(tenant))
    except SignatureError as error:
        raise _refused("bad_signature", str(error)) from None
    kept = ConsentVersion.objects.create(
        tenant=tenant,
        version=due,
        keyring=keyring,
        created_by_id=_person(actor),
        **_kept(document, signature),
    )
    record(
        action="consent.accepted",
        actor=actor,
        tenant_id=tenant.pk,
        target=("consent", kept.pk),
        data={
            "version": due,
            "agents": document["agents"],
            "always_on": document["always_on"],
            "signed_by": signer.key.fingerprint,
        },
    )
    members_changed.send(sender=ConsentVersion, tenant_id=tenant.pk)
    return kept


def _only_owners(actor: Actor, tenant: Tenant) -> None:
    if actor.user is None or not is_owner(actor.user, tenant):
        raise MembersRefused(MembersRefused.NOT_ALLOWED, "Only the tenant's owners change this. Ask one.")


def _check_people(tenant: Tenant, current: Keyring | None, new: Keyring) -> None:
    present = {} if current is None else current.members
    joining = [member for name, member in new.members.items() if present.get(name) != member]
    roles = dict(Membership.objects.filter(tenant=tenant).values_list("user_id", "role"))
    registered = dict(
        MemberKey.objects.filter(
            tenant=tenant, fingerprint__in=[member.key.fingerprint for member in joining]
        ).values_list("fingerprint", "user_id")
    )
    for member in joining:
        user = registered.get(member.key.fingerprint)
        short = member.key.fingerprint[:16]
        if user is None or user not in roles:
            raise MembersRefused(
                "not_registered", f"Key {short} is no present member's. Its holder registers it here first."
            )
        if roles[user] != member.role:
            raise MembersRefused(
                "wrong_role", f"The holder of key {short} is {roles[user]} here, not {member.role}."
            )
    for entry in new.document["members"]:
        check_name(entry["name"])


def _check_consents(tenant: Tenant, document: Any) -> None:
    """Raises MembersRefused; afterwards the document has its four members, each of its kind."""
    if not isinstance(document, Mapping) or document.keys() != CONSENT_FIELDS:
        raise _refused("malformed", f"it must have exactly: {', '.join(sorted(CONSENT_FIELDS))}")
    version, agents, always_on = document["version"], document["agents"], document["always_on"]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise _refused("malformed", "version must be a whole number from 1")
    if not isinstance(agents, bool) or not isinstance(always_on, bool):
        raise _refused("malformed", "agents and always_on must be true or false")
    if always_on and not agents:
        raise _refused("malformed", "always_on needs agents")
    if document["tenant_id"] != str(tenant.pk):
        raise _refused("wrong_tenant", "")


def _kept(document: Any, signature: Mapping[str, Any]) -> dict[str, Any]:
    """Both as they are stored: the document in canonical form, the signature without anything beside it.

    Raises:
        MembersRefused: ``malformed``.
    """
    try:
        plain = json.loads(canonical(document))
    except CanonicalError as error:
        raise _refused("malformed", str(error)) from None
    return {
        "document": plain,
        "signature": {name: signature[name] for name in _SIGNATURE_FIELDS[signature["kind"]]},
    }


def _refused(code: str, why: str) -> MembersRefused:
    return MembersRefused(code, _SENTENCES.get(code) or f"This cannot be taken: {why}.")


def _person(actor: Actor) -> int | None:
    return int(actor.id) if actor.kind == "user" else None
