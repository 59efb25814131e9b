"""Whom a tenant's machine may believe, and on which terms: what its people see, and what its owners sign."""

from typing import Any

from django.contrib.auth.models import User

from breakglass.models import ApproverSetVersion, GuestApprovers
from breakglass.selectors import approvers_of, current_set, current_terms, named_set
from portal.breakglass.tenant_tickets import owner_keys
from portal.breakglass.words import scope
from portal.secrets import present_runtime
from protocol.approvers import ApproverSet
from protocol.terms import DEFAULT_MODE, MODES
from tenants.models import Tenant
from tenants.selectors import Person, is_owner, latest_keyring

MODE_WORDS = {
    "closed": ("Nobody", "The machine lets nobody in, whoever approves."),
    "approvers": ("Approvers", "Enough of the approvers let staff in."),
    "owner": ("Approvers and an owner", "Enough approvers, and one of your owners for each ticket."),
}
KINDS = {
    "ordinary": ("Ordinary tickets", "Up to four hours; may read, and if the ticket says so write and run."),
    "emergency": ("Emergencies", "When nobody answers: reading only, 15 minutes at most."),
}
POLICY_WORDS = {"emergency": "An emergency, as a whole"}


def modes(tenant: Tenant) -> dict[str, str]:
    """What the terms in force say of each kind."""
    terms = current_terms(tenant)
    return {kind: terms.document[kind] if terms else DEFAULT_MODE for kind in KINDS}


def way_in(tenant: Tenant) -> str:
    """In a code: ``none`` (nobody was named), ``closed``, ``owner`` or ``approvers``."""
    if named_set(tenant) is None:
        return "none"
    found = set(modes(tenant).values())
    return "closed" if found == {"closed"} else "owner" if found <= {"owner", "closed"} else "approvers"


def approvers_page(reader: Person, tenant: Tenant) -> dict[str, Any]:
    """The page's context."""
    current, named, terms = current_set(), named_set(tenant), current_terms(tenant)
    keyring, owner = latest_keyring(tenant), is_owner(reader, tenant)
    keys = owner_keys(reader, tenant) if owner and isinstance(reader, User) else []
    now = modes(tenant)
    return {
        "current": current,
        "people": people(approvers_of(current)),
        "threshold": current.document["threshold"] if current else 0,
        "policy": policy(approvers_of(current)),
        "named": named,
        "anew": named is not None and named.keyring != keyring,
        "guest": guest(tenant, current),
        "terms": terms,
        "kinds": [
            (kind, *words, MODE_WORDS.get(now[kind], (now[kind], ""))[0], _choices(now[kind]))
            for kind, words in KINDS.items()
        ],
        "owner": owner,
        "can_sign": bool(keys) and keyring is not None,
        "keyring": keyring,
    }


def people(approvers: ApproverSet | None) -> list[dict[str, Any]]:
    """Each person of the set once, with the fingerprints of their keys."""
    if approvers is None:
        return []
    found: dict[str, dict[str, Any]] = {}
    names = {one["public_key"]: one["name"] for one in approvers.document["approvers"]}
    for fingerprint, one in approvers.approvers.items():
        name = names[one.key.public_key.hex()]
        row = found.setdefault(one.person, {"person": one.person, "name": name, "keys": []})
        row["keys"].append(fingerprint)
    return sorted(found.values(), key=lambda row: (row["name"], row["person"]))


def policy(approvers: ApproverSet | None) -> list[tuple[str, int]]:
    """How many people each scope takes, in words."""
    if approvers is None:
        return []
    order = ("status", "logs:read", "workspace:read", "workspace:write", "exec", "emergency")
    return [(POLICY_WORDS.get(name, scope(name)), approvers.policy[name]) for name in order]


def guest(tenant: Tenant, current: ApproverSetVersion | None) -> dict[str, Any]:
    """What the machine itself last stated, and whether it is what it should be."""
    runtime = present_runtime(tenant)
    row = GuestApprovers.objects.filter(runtime=runtime).first() if runtime else None
    stated = (row.stated if row else {}) or {}
    pinned, terms = stated.get("approvers"), stated.get("terms")
    agrees = None
    if pinned and current:
        agrees = (pinned["version"], pinned["hash"]) == (current.version, current.hash)
    return {
        "at": row.at if row else None,
        "approvers": pinned,
        "terms": terms,
        "agrees": agrees,
        "refused": row.refused if row else "",
    }


def document(tenant: Tenant) -> dict[str, Any]:
    """For the API: what an owner needs to sign with a device key, and to compare."""
    current, named, terms = current_set(), named_set(tenant), current_terms(tenant)
    shown = guest(tenant, current)
    return {
        "current": current
        and {"version": current.version, "hash": current.hash, "document": current.document},
        "named": named
        and {"version": named.set.version, "hash": named.set.hash, "signature": named.signature},
        "terms": terms
        and {"version": terms.version, "document": terms.document, "signature": terms.signature},
        "modes": modes(tenant),
        "guest": shown | {"at": shown["at"].isoformat() if shown["at"] else None},
    }


def _choices(chosen: str) -> list[tuple[str, str, str, bool]]:
    return [(mode, *MODE_WORDS[mode], mode == chosen) for mode in MODES]
