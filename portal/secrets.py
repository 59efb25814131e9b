"""A tenant's connector secrets as people see them: names, versions and states. Values never come here."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from audit.context import Actor
from protocol.sealed import MAX_SECRET_BYTES, key_id
from provisioning.models import Operation, Runtime
from provisioning.policy import may_request
from provisioning.transitions import refusal
from tenants.models import ConnectorSecret, Tenant
from tenants.selectors import is_operator, is_owner, secrets_of
from tenants.services import SecretRefused, secret_put

State = ConnectorSecret.State
ADVICE = {
    "unknown_key": "It was sealed to a key that the machine no longer has. Save it again.",
    "cannot_open": "The machine could not open it. Save it again.",
    "rolled_back": "The machine knows a newer version. Save it again.",
    "too_many": "The machine holds as many secrets as it can. Revoke one, then save it again.",
    "machine_deleted": "The machine that it was sealed to is gone. Save it again for the new one.",
    "damaged": "The portal's copy was changed. Tell an operator, then save it again.",
}
"""By the code of a refusal: what happened, and what to do."""
BADGES = {
    State.HELD: "ready",
    State.WAITING: "provisioning",
    State.REVOKING: "provisioning",
    State.REFUSED: "failed",
}
"""The colour of a state, as the style sheet knows it."""


@dataclass(frozen=True)
class SealingKey:
    """The key to which a tenant's secrets are sealed: the guest's own, as it states it."""

    public_key: bytes

    @property
    def id(self) -> str:
        """Its name, that both sides agree on."""
        return key_id(self.public_key)

    @property
    def base64(self) -> str:
        """As the API and the page hand it out."""
        return b64encode(self.public_key).decode()

    @classmethod
    def of(cls, runtime: Runtime | None) -> "SealingKey":
        """Raises SecretRefused: ``no_key``, while no guest has stated one."""
        if runtime is None or not runtime.sealing_public_key:
            raise SecretRefused(
                "no_key", "The machine has stated no sealing key yet. Wait until it is ready."
            )
        return cls(bytes.fromhex(runtime.sealing_public_key))


def present_runtime(tenant: Tenant) -> Runtime | None:
    """The machine of ``tenant``, which the caller has found in their scope."""
    return Runtime.objects.filter(tenant=tenant).exclude(phase=Runtime.Phase.DELETED).first()


def accept(
    *, actor: Actor, tenant: Tenant, name: str, connector: str, sealing_key: str, sealed: bytes
) -> ConnectorSecret:
    """Keep what an owner has sealed, if it is sealed to the key that the guest has now.

    Raises:
        SecretRefused: ``no_key``, ``unknown_key``, or what :func:`tenants.services.secret_put` raises.
    """
    owns = actor.user is not None and is_owner(actor.user, tenant)
    # Early, for a clear message; the guest decides in the end, and a race ends there with the same code.
    if owns and sealing_key != SealingKey.of(present_runtime(tenant)).id:
        raise SecretRefused("unknown_key", "The machine has another key now. Ask for it again, seal, save.")
    return secret_put(
        actor=actor, tenant=tenant, name=name, connector=connector, sealing_key=sealing_key, sealed=sealed
    )


def listed(tenant: Tenant) -> list[dict[str, Any]]:
    """One entry for each name, by name: its newest version, and the one that the machine holds."""
    newest: dict[str, dict[str, Any]] = {}
    for secret in secrets_of(tenant):
        shown = newest.setdefault(secret.name, entry(secret))
        if secret.state == State.HELD and shown["held_version"] is None:
            shown["held_version"] = secret.version
    return list(newest.values())


def entry(secret: ConnectorSecret) -> dict[str, Any]:
    """One version, for the API and the page."""
    return {
        "name": secret.name,
        "connector": secret.connector,
        "version": secret.version,
        "state": secret.state,
        "held_version": secret.version if secret.state == State.HELD else None,
        "key_id": secret.sealing_key,
        "refusal": secret.refusal,
        "advice": ADVICE.get(secret.refusal, "Save it again." if secret.refusal else ""),
        "created_by": secret.created_by.username if secret.created_by else None,
        "created_at": secret.created_at.isoformat(),
        "changed_at": secret.changed_at.isoformat(),
    }


def secrets_page(person: AbstractBaseUser | AnonymousUser, tenant: Tenant) -> dict[str, Any]:
    """What the page shows, and what its reader can do next."""
    runtime = present_runtime(tenant)
    owner = is_owner(person, tenant)
    rows = listed(tenant)
    active = runtime and runtime.operations.filter(state__in=Operation.ACTIVE).first()
    return {
        "rows": [_row(row) for row in rows],
        "key": SealingKey.of(runtime) if runtime and runtime.sealing_public_key else None,
        "may_save": owner,
        "may_revoke": owner or is_operator(person, tenant),
        "may_rotate": runtime is not None
        and active is None
        and refusal(runtime, Operation.Kind.RESEAL) is None
        and may_request(Actor.of(person), tenant, Operation.Kind.RESEAL),
        "active": active,
        "unsettled": bool(active) or any(row["state"] in {State.WAITING, State.REVOKING} for row in rows),
        "runtime": runtime,
        "max_bytes": MAX_SECRET_BYTES,
    }


def _row(shown: dict[str, Any]) -> dict[str, Any]:
    state = State(shown["state"])
    return {
        **shown,
        "label": state.label,
        "badge": BADGES.get(state, ""),
        "connector_label": ConnectorSecret.Connector(shown["connector"]).label,
        "created_at": datetime.fromisoformat(shown["created_at"]),
        "may_revoke": state in {*ConnectorSecret.DELIVERABLE, State.REFUSED} or shown["held_version"],
    }
