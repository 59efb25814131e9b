"""The one way to write the record."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit.context import Actor, current
from audit.models import Entry
from audit.personal import Personal, commit, of_entry
from protocol.canonical import canonical
from protocol.receipts import MAX_EVENT_BYTES

VERSION = 2
"""Of the event. 1 had no session, cause and personal."""


class EventTooLong(ValueError):
    """An entry would not fit into the tree."""


def record(
    *,
    action: str,
    actor: Actor,
    tenant_id: UUID | None = None,
    target: tuple[str, object] = ("", ""),
    data: Mapping[str, Any] | None = None,
    personal: Mapping[str, Personal] | None = None,
) -> Entry:
    """Append an entry in the caller's transaction.

    Args:
        action: ``thing.verb`` in the past tense, such as ``operation.requested``.
        target: type and id of what was acted on.
        data: facts of the event that have a canonical form. No secret, no tenant content, and nothing that
            names a person or was written by one: that is ``personal``.
        personal: such things, each by its role in the event. The leaf holds a commitment to each. Who acted
            and from which address is added here.

    Raises:
        TransactionManagementError: the caller has no transaction, so that the change and its entry
            could part.
        protocol.canonical.CanonicalError: ``data`` has no canonical form.
        ValueError: a personal datum of an unknown kind, or one that is too long.
        EventTooLong: more than :data:`protocol.receipts.MAX_EVENT_BYTES`.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("audit.record() outside a transaction.")
    now = timezone.now()
    context = current()
    target_type, target_id = target[0], str(target[1])
    cause = None if actor.kind == "user" else context.asker()
    signed_in = actor.kind == "user" or (cause is not None and cause.kind == "user")
    event = canonical(
        {
            "version": VERSION,
            "at": now.isoformat(timespec="microseconds"),
            "action": action,
            "actor": {"kind": actor.kind, "id": actor.id},
            "cause": {"kind": cause.kind, "id": cause.id} if cause else None,
            "tenant": str(tenant_id) if tenant_id else None,
            "target": {"type": target_type, "id": target_id},
            "request": context.request_id,
            # A stranger's cookie proves nothing, and could be any text.
            "session": context.session() if signed_in else "",
            "task": context.task_id,
            "data": dict(data or {}),
            "personal": {
                **of_entry(actor, cause, context),
                **{role: commit(datum) for role, datum in (personal or {}).items()},
            },
        }
    )
    if len(event) > MAX_EVENT_BYTES:
        raise EventTooLong(f"{action}: {len(event)} bytes are too many for one entry. Record less of it.")
    return Entry.objects.create(
        at=now,
        action=action,
        actor_kind=actor.kind,
        actor_id=actor.id,
        tenant_id=tenant_id,
        target_type=target_type,
        target_id=target_id,
        request_id=context.request_id,
        event=event.decode("utf-8"),
    )
