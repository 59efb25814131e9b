"""The one way to write the record."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit.context import Actor, current
from audit.models import Entry
from protocol.canonical import canonical


def record(
    *,
    action: str,
    actor: Actor,
    tenant_id: UUID | None = None,
    target: tuple[str, object] = ("", ""),
    data: Mapping[str, Any] | None = None,
) -> Entry:
    """Append an entry in the caller's transaction.

    Args:
        action: ``thing.verb`` in the past tense, such as ``operation.requested``.
        target: type and id of what was acted on.
        data: facts of the event that have a canonical form. No secret, no tenant content.

    Raises:
        TransactionManagementError: the caller has no transaction, so that the change and its entry
            could part.
        protocol.canonical.CanonicalError: ``data`` has no canonical form.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("audit.record() outside a transaction.")
    now = timezone.now()
    context = current()
    target_type, target_id = target[0], str(target[1])
    document = {
        "version": 1,
        "at": now.isoformat(timespec="microseconds"),
        "action": action,
        "actor": {"kind": actor.kind, "id": actor.id},
        "tenant": str(tenant_id) if tenant_id else None,
        "target": {"type": target_type, "id": target_id},
        "request": context.request_id,
        "task": context.task_id,
        "data": dict(data or {}),
    }
    return Entry.objects.create(
        at=now,
        action=action,
        actor_kind=actor.kind,
        actor_id=actor.id,
        tenant_id=tenant_id,
        target_type=target_type,
        target_id=target_id,
        request_id=context.request_id,
        event=canonical(document).decode("utf-8"),
    )
