"""What a person may know of a tenant's keys, keyring and consents: one document for the API and the page."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

from protocol.keyrings import Keyring
from provisioning.models import Runtime
from tenants.models import KeyringVersion, MemberKey, Membership, Tenant
from tenants.selectors import keys_of, latest_consents, latest_keyring
from tenants.sites import rp_id, tenant_origin


def overview(user: User, tenant: Tenant) -> dict[str, Any]:
    """Everything public that a signer needs; ``tenant`` is in the caller's scope."""
    role = Membership.objects.filter(tenant=tenant, user=user).values_list("role", flat=True).first()
    keyring, consents = latest_keyring(tenant), latest_consents(tenant)
    named = fingerprints(keyring)
    runtime = Runtime.objects.filter(tenant=tenant).exclude(phase=Runtime.Phase.DELETED).first()
    return {
        "tenant_id": str(tenant.pk),
        "slug": tenant.slug,
        "origin": tenant_origin(tenant),
        "rp_id": rp_id(),
        "role": role or "operator",
        "current": keyring and {"hash": keyring.hash, **_signed(keyring)},
        "registered": [entry(key, user, named) for key in keys_of(tenant)],
        "consents": consents and _signed(consents),
        "guest": guest(runtime),
        "guest_agrees": _agrees(keyring, runtime),
        "guest_refuses": runtime.members_refused if runtime else "",
    }


def members_page(person: AbstractBaseUser | AnonymousUser, tenant: Tenant) -> dict[str, Any]:
    """What the page shows of :func:`overview`, and what its reader can do next."""
    if not isinstance(person, User):
        raise TypeError("Only a signed-in person has a page.")
    view = overview(person, tenant)
    held = {key["fingerprint"]: key for key in view["registered"]}
    keyring = Keyring.parse(view["current"]["document"]) if view["current"] else None
    stated = view["guest"]
    rows = [
        {
            "name": member["name"],
            "role": member["role"],
            "kind": member["kind"],
            "fingerprint": fingerprint,
            "user": held[fingerprint]["user"] if fingerprint in held else "",
            "place": held[fingerprint]["role"] if fingerprint in held else "",
            "stated": None if stated is None else fingerprint in stated["fingerprints"],
        }
        for fingerprint, member in _members(keyring)
    ]
    mine = [key for key in view["registered"] if key["mine"]]
    waiting = [key for key in view["registered"] if not key["in_keyring"]]
    owners = [row for row in rows if row["role"] == Membership.Role.OWNER]
    named = {row["fingerprint"]: row for row in owners}
    can_sign = view["role"] == "owner" and any(
        key["kind"] == "passkey" and key["fingerprint"] in named for key in mine
    )
    return {
        "view": view,
        "rows": [{**row, "last_owner": len(owners) == 1 and row in owners} for row in rows],
        "recovery": keyring.recovery.fingerprint if keyring else "",
        "waiting": waiting,
        "can_register": view["role"] != "operator",
        "can_set_up": keyring is None
        and view["role"] == "owner"
        and any(key["kind"] == "passkey" for key in mine),
        "can_sign": can_sign,
        "agreed": view["consents"]["document"] if view["consents"] else {},
        "next": _next_step(view, mine, can_sign),
    }


def _members(keyring: Keyring | None) -> list[tuple[str, dict[str, Any]]]:
    if keyring is None:
        return []
    return list(zip(keyring.members, keyring.document["members"], strict=True))


def _next_step(view: dict[str, Any], mine: list[dict[str, Any]], can_sign: bool) -> str:
    """One sentence for the reader: the first row whose condition holds."""
    owner = view["role"] == "owner"
    inside = any(key["in_keyring"] for key in mine)
    table = [
        (view["role"] == "operator", "You can look at this page. Owners and members change it."),
        (not mine, "First register a passkey on this device, or add a device key."),
        (
            view["current"] is None and owner and not any(key["kind"] == "passkey" for key in mine),
            "Set up the keyring with the command line, or register a passkey and do it here.",
        ),
        (
            view["current"] is None and owner,
            "Set up the keyring: until then nobody can sign in to the machine.",
        ),
        (view["current"] is None, "Wait until an owner has set up the keyring."),
        (not inside, "Ask an owner to add your key. Until then you cannot sign in to the machine."),
        (owner and not can_sign, "No passkey of yours signs here. Sign with the command line."),
        (can_sign and not view["consents"], "Agents do not run yet. Decide below whether they may."),
    ]
    return next((words for holds, words in table if holds), "")


def entry(key: MemberKey, user: User, named: frozenset[str]) -> dict[str, Any]:
    """One registered key, as ``user`` sees it; ``key`` comes from :func:`tenants.selectors.keys_of`."""
    return {
        "fingerprint": key.fingerprint,
        "kind": key.kind,
        "public_key": key.public_key,
        "credential_id": key.credential_id,
        "name": key.name,
        "user": key.user.username,
        "role": getattr(key, "role"),  # noqa: B009 - an annotation, unknown to the type checker
        "mine": key.user_id == user.pk,
        "in_keyring": key.fingerprint in named,
        "created_at": key.created_at.isoformat(),
    }


def fingerprints(keyring: KeyringVersion | None) -> frozenset[str]:
    """Of the members that a stored keyring names."""
    return frozenset(Keyring.parse(keyring.document).members) if keyring else frozenset()


def guest(runtime: Runtime | None) -> dict[str, Any] | None:
    """What the guest itself last stated; None if it has stated nothing. No keyring: ``version`` is null."""
    if runtime is None or runtime.stated_at is None:
        return None
    nothing: dict[str, Any] = {"version": None, "hash": None, "fingerprints": [], "recovery": None}
    return {
        **(runtime.stated["keyring"] or nothing),
        "consents": runtime.stated["consents"],
        "sealing_public_key": runtime.stated["sealing_public_key"],
        "seen_at": runtime.stated_at.isoformat(),
    }


def _agrees(keyring: KeyringVersion | None, runtime: Runtime | None) -> bool | None:
    """Whether the guest states the keyring that the portal shows; None while there is nothing to compare."""
    if runtime is None or runtime.stated_at is None:
        return None
    stated = runtime.stated["keyring"]
    if keyring is None and stated is None:
        return None
    return bool(keyring is not None and stated is not None and stated["hash"] == keyring.hash)


def _signed(row: Any) -> dict[str, Any]:
    return {"version": row.version, "document": row.document, "signature": row.signature}
