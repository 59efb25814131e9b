"""Carries connector secrets to the guest, and notes what it says it holds.

Look, then do what is missing: each round begins with what the guest states, so it may run again after a
worker died anywhere in it. The sealed boxes pass through here closed.
"""

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from audit.context import SYSTEM
from protocol.sealed import MAX_SECRET_BYTES, NAME, OVERHEAD_BYTES, key_id
from provisioning import sealing
from provisioning.models import Operation, Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.selectors import settled
from provisioning.services import OperationRefused, operation_request
from tenants.models import ConnectorSecret
from tenants.services.secret_states import (
    secret_forgotten,
    secret_held,
    secret_open,
    secret_refused,
    secret_resealed,
)
from tenants.tenant_keys import DamagedError

State = ConnectorSecret.State
Fence = Callable[[], AbstractContextManager[Any]]
"""A transaction that commits only while the worker holds its operation."""
REFUSALS = frozenset({"malformed", "cannot_open", "rolled_back", "unknown_key", "too_many"})
"""Codes with which a guest says that it will not take a secret. Others may pass."""
RETRY = timedelta(minutes=15)
"""How long the sweeper leaves a guest alone after a delivery has failed."""
MAX_STATED = 4096
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Vault:
    """What a guest states of its secrets; the guest is the tenant's, so it is checked."""

    current: str
    """Sealing key, 64 hex digits."""
    previous: str | None
    secrets: dict[str, tuple[int, str]]
    """By name: version, and ``held`` or ``revoked``."""

    @classmethod
    def ask(cls, client: RuntimeClient) -> "Vault":
        """What the guest that answers on ``client`` states now.

        Raises:
            AgentUnreachable: no answer, or a malformed one.
            AgentRefused: it has no such route, or the like.
        """
        return cls.parse(client.secrets())

    @classmethod
    def parse(cls, answer: Any) -> "Vault":
        """Raises AgentUnreachable: malformed."""
        try:
            keys, listed = answer["sealing"], answer["secrets"]
            if not isinstance(listed, list) or len(listed) > MAX_STATED:
                raise ValueError
            previous = keys["previous"]
            return cls(
                _key(keys["current"]),
                None if previous is None else _key(previous),
                {_name(one["name"]): (_version(one["version"]), _state(one["state"])) for one in listed},
            )
        except (KeyError, TypeError, ValueError):
            raise AgentUnreachable("The guest's statement of its secrets is malformed.") from None

    @property
    def current_id(self) -> str:
        """Id of the key to which new secrets are sealed."""
        return key_id(bytes.fromhex(self.current))


@dataclass
class Done:
    """What one round has changed, for people."""

    delivered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    resealed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = [f"{', '.join(names)} {what}" for what, names in vars(self).items() if names]
        return f"{'; '.join(told)}." if told else "The guest holds what it should."


def unsettled() -> QuerySet[Runtime]:
    """Runtimes that run and whose guest has a secret to take or to forget."""
    work = ConnectorSecret.objects.filter(
        tenant=OuterRef("tenant"), state__in=[State.WAITING, State.REVOKING]
    )
    return settled().filter(Exists(work))


def due() -> QuerySet[Runtime]:
    """Those that the sweeper should see to: not the ones where a delivery has just failed."""
    failed = Operation.objects.filter(
        runtime=OuterRef("pk"),
        kind=Operation.Kind.DELIVER,
        state=Operation.State.FAILED,
        finished_at__gt=timezone.now() - RETRY,
    )
    return unsettled().exclude(Exists(failed))


def apply(runtime_id: uuid.UUID) -> None:
    """Request a delivery if there is something to deliver and nothing else goes on."""
    if unsettled().filter(pk=runtime_id).exists():
        try:
            operation_request(actor=SYSTEM, runtime_id=runtime_id, kind=Operation.Kind.DELIVER)
        except OperationRefused:
            return  # something has begun meanwhile; the sweeper looks again


def confirm(runtime: Runtime, client: RuntimeClient, fence: Fence) -> Done:
    """Deliver what the guest lacks, have it forget what is revoked, and note what it confirms.

    Raises:
        AgentUnreachable, AgentRefused: it does not answer, or for a reason that may pass.
        WrappingError: the tenant's key does not open here.
        LeaseLost: from ``fence``.
    """
    vault, done = Vault.ask(client), Done()
    with fence():
        # First: from here on nobody seals to the key before.
        sealing.follow(Runtime.objects.select_for_update().get(pk=runtime.pk), vault.current)
    live = ConnectorSecret.objects.filter(tenant=runtime.tenant_id, state__in=ConnectorSecret.LIVE)
    for _, versions in groupby(live.order_by("name", "-version"), lambda secret: secret.name):
        _settle(versions, vault, client, fence, done)
    _finish_rotation(runtime, vault, client, fence, done)
    return done


def _settle(
    versions: Iterable[ConnectorSecret], vault: Vault, client: RuntimeClient, fence: Fence, done: Done
) -> None:
    """One name, the newest version first; an older one counts only while the guest refuses those above it."""
    for secret in versions:
        if secret.state == State.REVOKING:
            _revoke(secret, vault, client)
            with fence():
                secret_forgotten(secret)
            done.revoked.append(secret.name)
            return
        try:
            code = _deliver(secret, vault, client)
        except ConnectorSecret.DoesNotExist:
            return  # revoked meanwhile; the sweeper looks again
        with fence():
            if code:
                secret_refused(secret, code)
            elif secret_held(secret):
                done.delivered.append(secret.name)
        if not code:
            return
        done.refused.append(f"{secret.name} ({code})")


def _deliver(secret: ConnectorSecret, vault: Vault, client: RuntimeClient) -> str:
    """The code of the guest's refusal; empty if it holds the secret now."""
    if vault.secrets.get(secret.name) == (secret.version, "held"):
        return ""
    try:
        sealed = base64.b64encode(secret_open(secret)).decode()
        client.deliver_secret(
            name=secret.name, version=secret.version, key_id=secret.sealing_key, sealed=sealed
        )
    except DamagedError:
        return "damaged"
    except AgentRefused as error:
        if error.code not in REFUSALS:
            raise
        return error.code
    return ""


def _revoke(secret: ConnectorSecret, vault: Vault, client: RuntimeClient) -> None:
    version, state = vault.secrets.get(secret.name, (0, ""))
    if state == "revoked" and version >= secret.version:
        return
    # A guest that is ahead, of a portal that was restored from a backup, has to forget that version too.
    client.revoke_secret(name=secret.name, version=max(version, secret.version))


def _finish_rotation(runtime: Runtime, vault: Vault, client: RuntimeClient, fence: Fence, done: Done) -> None:
    """Replace the copies that are sealed to a key before the current one; then that key may go."""
    mine = ConnectorSecret.objects.filter(tenant=runtime.tenant_id).exclude(sealing_key=vault.current_id)
    for secret in mine.filter(state=State.HELD):
        sealed = _exported(secret, vault, client)
        if sealed is not None:
            with fence():
                if secret_resealed(secret, vault.current_id, sealed):
                    done.resealed.append(secret.name)
    if vault.previous is None or mine.filter(state__in=ConnectorSecret.DELIVERABLE).exists():
        return
    client.retire_sealing_key(key_id(bytes.fromhex(vault.previous)))


def _exported(secret: ConnectorSecret, vault: Vault, client: RuntimeClient) -> bytes | None:
    """The sealed box as the guest keeps it now; None if it is not the version that is meant."""
    try:
        answer = client.export_secret(secret.name)
    except AgentRefused as error:
        if error.code != "no_such_secret":
            raise
        return None
    if (answer.get("version"), answer.get("key_id")) != (secret.version, vault.current_id):
        return None
    try:
        sealed = base64.b64decode(str(answer.get("sealed")), validate=True)
    except (binascii.Error, ValueError):
        raise AgentUnreachable("The guest's copy of a secret is malformed.") from None
    if not OVERHEAD_BYTES < len(sealed) <= MAX_SECRET_BYTES + OVERHEAD_BYTES:
        raise AgentUnreachable("The guest's copy of a secret is malformed.")
    return sealed


def _key(stated: Any) -> str:
    return _text(stated["public_key"], _KEY)


def _name(stated: Any) -> str:
    return _text(stated, NAME)


def _text(stated: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(stated, str) or not pattern.fullmatch(stated):
        raise ValueError
    return stated


def _version(stated: Any) -> int:
    if isinstance(stated, bool) or not isinstance(stated, int) or not 1 <= stated < 2**31:
        raise ValueError
    return stated


def _state(stated: Any) -> str:
    if stated not in {"held", "revoked"}:
        raise ValueError
    return str(stated)
