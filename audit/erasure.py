"""Erasing personal data. The leaves stay as they are, so the log still verifies."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction

from audit.context import Actor
from audit.models import PersonalDatum
from audit.personal import KINDS, forget, reason_of
from audit.reasons import reason_problem
from audit.services import record

NAMED = 500
"""Commitments that one entry names: they are 64 digits each, and an entry is bounded."""


@transaction.atomic
def personal_erase(
    *, actor: Actor, reason: str, subject: str = "", kind: str = "", before: datetime | None = None
) -> int:
    """Erase values and salts for good, of a subject or of a kind or both, and say so in the log.

    Args:
        subject: ``user:7``, ``tenant:UUID`` or ``anonymous``; empty: everybody's.
        kind: one of :data:`audit.personal.KINDS`; empty: all kinds.
        before: only what was first recorded before this.

    Returns:
        How many were erased. The entry names the erased commitments: whoever meets one later knows that it
        was erased and by whose word, and is not lost.

    Raises:
        PermissionDenied: a person without the permission.
        ValidationError: neither subject nor kind, an unknown kind, or no reason.
    """
    if actor.kind not in {"command", "system"} and not _may_erase(actor):
        raise PermissionDenied("You may not erase personal data.")
    _check(reason, subject, kind)
    rows = PersonalDatum.objects.filter(
        **({"subject": subject} if subject else {}),
        **({"kind": kind} if kind else {}),
        **({"made_at__lt": before} if before else {}),
    )
    newest = PersonalDatum.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    erased = 0
    # What this itself records (who erased, and why) is younger, and stays.
    while part := list(rows.filter(pk__lte=newest).select_for_update().order_by("pk")[:NAMED]):
        PersonalDatum.objects.filter(pk__in=[row.pk for row in part]).delete()
        forget((row.subject, row.kind, row.value) for row in part)
        _record(actor, reason, subject, part)
        erased += len(part)
    return erased


def _may_erase(actor: Actor) -> bool:
    return isinstance(actor.user, User) and actor.user.has_perm("audit.delete_personaldatum")


def _check(reason: str, subject: str, kind: str) -> None:
    if not subject and not kind:
        raise ValidationError("Say whose data, or which kind, is to be erased.")
    if kind and kind not in KINDS:
        raise ValidationError(f"There is no kind {kind}. Give one of: {', '.join(KINDS)}.")
    if problem := reason_problem(reason):
        raise ValidationError(problem)


def _record(actor: Actor, reason: str, subject: str, part: Sequence[PersonalDatum]) -> None:
    record(
        action="personal.erased",
        actor=actor,
        target=("subject", subject),
        data={
            "kinds": Counter(row.kind for row in part),
            "commitments": [row.commitment for row in part],
        },
        personal={"reason": reason_of(actor, reason.strip())},
    )
