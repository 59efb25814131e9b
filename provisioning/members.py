"""Carries the keyrings and consents that owners have signed to the guest, and notes what it says it holds.

The guest decides. The portal delivers every version in its order, asks what the guest holds now, and keeps
the answer as a statement of the guest's own; a change of it is an audit entry.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from protocol.keyrings import MAX_MEMBERS
from provisioning import sealing
from provisioning.models import Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.selectors import ready_runtime, settled
from provisioning.stated import hash_text, number
from tenants.models import ConsentVersion, KeyringVersion

REFUSALS = frozenset({403, 422})
"""Statuses with which a guest says that it will not take a keyring or consent. Others may pass."""


@dataclass(frozen=True)
class Signed:
    """All that a tenant's owners have signed, oldest first."""

    keyrings: list[KeyringVersion]
    consents: ConsentVersion | None

    @classmethod
    def of(cls, runtime: Runtime) -> "Signed":
        """What the guest of ``runtime`` should hold."""
        keyrings = KeyringVersion.objects.filter(tenant=runtime.tenant_id).order_by("version")
        consents = ConsentVersion.objects.filter(tenant=runtime.tenant_id).order_by("-version")
        return cls(list(keyrings), consents.select_related("keyring").first())

    @property
    def versions(self) -> tuple[int, int]:
        """The newest of the keyrings and of the consents; 0 for none."""
        return (
            self.keyrings[-1].version if self.keyrings else 0,
            self.consents.version if self.consents else 0,
        )


def unconfirmed() -> QuerySet[Runtime]:
    """Runtimes that run and whose guest has not answered to the newest that owners have signed."""
    keyrings = KeyringVersion.objects.filter(tenant=OuterRef("tenant"), version__gt=OuterRef("keyring_told"))
    consents = ConsentVersion.objects.filter(tenant=OuterRef("tenant"), version__gt=OuterRef("consents_told"))
    return settled().filter(Exists(keyrings) | Exists(consents))


def apply(runtime_id: uuid.UUID) -> None:
    """Deliver what the guest lacks. One that is not running is told at its next start.

    Raises:
        AgentUnreachable, AgentRefused: the guest does not answer; the sweeper tries again.
        DriverError: its host does not answer.
    """
    runtime = ready_runtime(runtime_id)
    if runtime is not None:
        confirm(runtime, RuntimeClient.dial(runtime))


def confirm(runtime: Runtime, client: RuntimeClient) -> None:
    """Deliver to the guest that answers on ``client``, and note what it states.

    Raises:
        AgentUnreachable, AgentRefused: it does not answer, or for a reason that may pass.
    """
    signed = Signed.of(runtime)
    asked_at, held = _ask(client)
    refusal = ""
    if not _holds(signed, held, signed.versions):
        refusal = _deliver(signed, held, client)
        # Both asked again, not concluded: another worker may have delivered more in the meantime.
        asked_at, held = _ask(client)
        kept = _holds(Signed.of(runtime), held, signed.versions)
        refusal = "" if kept else refusal or "not_held"
    _note(runtime, signed.versions, held, asked_at, refusal)


def _ask(client: RuntimeClient) -> tuple[datetime, dict[str, Any]]:
    asked_at = timezone.now()
    return asked_at, statement(client.status())


def _deliver(signed: Signed, held: Mapping[str, Any], client: RuntimeClient) -> str:
    """Returns the code of the guest's refusal, or empty."""
    keyring = held["keyring"]
    if keyring is not None and not _is_ours(signed, keyring):
        return "forked"
    deliveries = _lacking(
        signed, keyring["version"] if keyring else 0, int(held["consents"]["version"]), client
    )
    for deliver in deliveries:
        try:
            deliver()
        except AgentRefused as error:
            if error.status not in REFUSALS:
                raise
            return error.code
    return ""


def _lacking(signed: Signed, keyring: int, consents: int, client: RuntimeClient) -> "Iterator[partial[Any]]":
    """What to deliver: the consent while the keyring that names its signer an owner is in force."""
    due = signed.consents if signed.consents and signed.consents.version > consents else None
    for version in signed.keyrings:
        if version.version > keyring:
            yield partial(client.deliver_keyring, version.document, version.signature)
        # A guest that is past that keyring already decides by the one it has.
        if due is not None and version.version >= max(keyring, due.keyring.version):
            yield partial(client.deliver_consents, due.document, due.signature)
            due = None


def _holds(signed: Signed, held: Mapping[str, Any], wanted: tuple[int, int]) -> bool:
    """Whether the guest holds a keyring of ours, and of both at least the ``wanted`` version."""
    keyring, (newest, consents) = held["keyring"], wanted
    if keyring is None:
        return newest == 0
    return (
        _is_ours(signed, keyring) and keyring["version"] >= newest and held["consents"]["version"] >= consents
    )


def _is_ours(signed: Signed, keyring: Mapping[str, Any]) -> bool:
    hashes = {version.version: version.hash for version in signed.keyrings}
    return bool(hashes.get(keyring["version"]) == keyring["hash"])


def _note(
    runtime: Runtime, told: tuple[int, int], held: dict[str, Any], asked_at: datetime, refusal: str
) -> None:
    with transaction.atomic():
        row = Runtime.objects.select_for_update().get(pk=runtime.pk)
        if row.stated_at is not None and row.stated_at > asked_at:
            return  # another worker has asked later
        if held != row.stated:
            _record("guest.stated", row, held)
        if refusal and (refusal, *told) != (row.members_refused, row.keyring_told, row.consents_told):
            about = {"code": refusal, "keyring": told[0], "consents": told[1]}
            _record("guest.keyring_refused", row, about)
        sealing.follow(row, held["sealing_public_key"])
        Runtime.objects.filter(pk=row.pk).update(
            stated=held,
            stated_at=asked_at,
            keyring_told=told[0],
            consents_told=told[1],
            members_refused=refusal,
        )


def _record(action: str, runtime: Runtime, data: dict[str, Any]) -> None:
    record(
        action=action,
        actor=SYSTEM,
        tenant_id=runtime.tenant_id,
        target=("runtime", runtime.pk),
        data=data,
    )


def statement(status: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a guest's status that is kept, in one form. The guest is the tenant's, so it is checked.

    Raises:
        AgentUnreachable: malformed.
    """
    try:
        keyring, consents = status["keyring"], status["consents"]
        return {
            "keyring": None
            if keyring is None
            else {
                "version": number(keyring["version"]),
                "hash": hash_text(keyring["hash"]),
                "fingerprints": _hashes(keyring["fingerprints"]),
                "recovery": hash_text(keyring["recovery"]),
            },
            "consents": {
                "version": number(consents["version"]),
                "agents": consents["agents"] is True,
                "always_on": consents["always_on"] is True,
            },
            "sealing_public_key": hash_text(status["sealing_public_key"]),
        }
    except (KeyError, TypeError, ValueError):
        raise AgentUnreachable("The guest's statement of its members is malformed.") from None


def _hashes(values: Any) -> list[str]:
    if not isinstance(values, list) or len(values) > MAX_MEMBERS:
        raise ValueError
    return sorted(hash_text(value) for value in values)
