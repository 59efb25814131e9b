"""Carries approver sets and terms to guests, and notes what each states that it believes.

The guest decides. It takes its first set with an owner's signature only, each later one with those of a
quorum; so the portal delivers first the set that the owner has named, then all that followed it.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Max, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from breakglass import strays
from breakglass.models import ApproverSetVersion, GuestApprovers, TenantApprovers, TermsVersion
from protocol.terms import MODES
from provisioning import members
from provisioning.models import Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.selectors import ready_runtime, settled
from provisioning.stated import hash_text, number

REFUSALS = members.REFUSALS | {404}
"""As for keyrings; a guest that knows no such route runs an older image, until it starts anew."""


@dataclass(frozen=True)
class Signed:
    """All that the guest of one runtime should believe."""

    naming: TenantApprovers | None
    sets: list[ApproverSetVersion]
    """Oldest first."""
    terms: TermsVersion | None

    @classmethod
    def of(cls, runtime: Runtime) -> "Signed":
        """As the rows are now."""
        naming = TenantApprovers.objects.filter(tenant=runtime.tenant_id).select_related("set", "keyring")
        terms = TermsVersion.objects.filter(tenant=runtime.tenant_id).select_related("keyring")
        return cls(naming.first(), list(ApproverSetVersion.objects.order_by("version")), terms.first())

    @property
    def told(self) -> dict[str, int]:
        """What a guest has answered to once it was told all of this."""
        return {
            "told_naming": self.naming.pk if self.naming else 0,
            "told_set": self.sets[-1].version if self.sets else 0,
            "told_terms": self.terms.version if self.terms else 0,
        }

    @property
    def keyring(self) -> int:
        """The version of the keyring that a guest must have reached to know who signed."""
        return max((each.keyring.version for each in (self.naming, self.terms) if each), default=0)

    def holds(self, version: int, hash_: str) -> bool:
        """Whether a set is one of the portal's own."""
        return any((each.version, each.hash) == (version, hash_) for each in self.sets)


def unconfirmed() -> QuerySet[Runtime]:
    """Runtimes that run and whose guest has not answered to the newest that was signed for it."""
    told = GuestApprovers.objects.filter(runtime=OuterRef("pk"))
    naming = TenantApprovers.objects.filter(tenant=OuterRef("tenant")).order_by("-pk")
    terms = TermsVersion.objects.filter(tenant=OuterRef("tenant")).order_by("-version")
    newest = ApproverSetVersion.objects.aggregate(newest=Max("version"))["newest"] or 0
    return (
        settled()
        .annotate(
            set_told=_or_zero(told.values("told_set")),
            naming_told=_or_zero(told.values("told_naming")),
            terms_told=_or_zero(told.values("told_terms")),
            naming_due=_or_zero(naming.values("pk")),
            terms_due=_or_zero(terms.values("version")),
        )
        .filter(
            Q(naming_due__gt=0, set_told__lt=newest)
            | Q(naming_told__lt=F("naming_due"))
            | Q(terms_told__lt=F("terms_due"))
        )
    )


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
    asked_at, held = _ask(runtime, client)
    if held["keyring"] < signed.keyring:
        # It would not know the owner who signed.
        members.confirm(runtime, client)
        asked_at, held = _ask(runtime, client)
    refusal = _deliver(signed, held["approvers"], held["terms"], client)
    if refusal is not None:
        # Asked again, not concluded: another worker may have delivered more in the meantime.
        asked_at, held = _ask(runtime, client)
        refusal = "" if _follows(signed, held) else refusal or "not_held"
    _note(
        runtime, signed.told, {name: held[name] for name in ("approvers", "terms")}, asked_at, refusal or ""
    )


def _ask(runtime: Runtime, client: RuntimeClient) -> tuple[datetime, dict[str, Any]]:
    asked_at = timezone.now()
    status = client.status()
    strays.end(runtime, status, client)
    return asked_at, statement(status)


def _deliver(
    signed: Signed, pinned: Mapping[str, Any] | None, terms: Mapping[str, Any] | None, client: RuntimeClient
) -> str | None:
    """The code of the guest's first refusal, empty if it took all; None: there was nothing to deliver."""
    due = list(_lacking_terms(signed, terms, client))
    refusal = None
    if pinned is not None and not signed.holds(pinned["version"], pinned["hash"]):
        refusal = "forked"
    else:
        due += _lacking_sets(signed, pinned, client)
    for deliver in due:
        try:
            deliver()
        except AgentRefused as error:
            if error.status not in REFUSALS:
                raise
            refusal = refusal or error.code
        else:
            refusal = refusal or ""
    return refusal


def _lacking_terms(
    signed: Signed, held: Mapping[str, Any] | None, client: RuntimeClient
) -> "Iterator[partial[Any]]":
    newest = signed.terms
    if newest is not None and newest.version > (held["version"] if held else 0):
        yield partial(client.deliver_terms, newest.document, newest.signature)


def _lacking_sets(
    signed: Signed, pinned: Mapping[str, Any] | None, client: RuntimeClient
) -> "Iterator[partial[Any]]":
    held, naming = pinned["version"] if pinned else 0, signed.naming
    if pinned is None:
        if naming is None:
            return  # no owner has let anybody in
        yield partial(client.deliver_approvers, naming.set.document, [naming.signature])
        held = naming.set.version
    for version in signed.sets:
        if version.version > held:
            yield partial(client.deliver_approvers, version.document, version.signatures)


def _follows(signed: Signed, held: Mapping[str, Any]) -> bool:
    """Whether the guest believes all that it should by now."""
    pinned, terms = held["approvers"], held["terms"]
    newest = signed.told
    if pinned is None and signed.naming is not None:
        return False
    if pinned is not None and (
        not signed.holds(pinned["version"], pinned["hash"]) or pinned["version"] < newest["told_set"]
    ):
        return False
    return (terms["version"] if terms else 0) >= newest["told_terms"]


def _note(
    runtime: Runtime, told: Mapping[str, int], held: dict[str, Any], asked_at: datetime, refusal: str
) -> None:
    with transaction.atomic():
        # The runtime's row, which is there, is the lock of the one that may not be there yet.
        Runtime.objects.select_for_update().get(pk=runtime.pk)
        row, _ = GuestApprovers.objects.get_or_create(runtime=runtime)
        if row.at is not None and row.at > asked_at:
            return  # another worker has asked later
        if held != (row.stated or {"approvers": None, "terms": None}):
            _record("guest.approvers_stated", runtime, held)
        before = {name: getattr(row, name) for name in told}
        if refusal and (refusal, told) != (row.refused, before):
            about = {"code": refusal, "version": told["told_set"], "terms_version": told["told_terms"]}
            _record("guest.approvers_refused", runtime, about)
        GuestApprovers.objects.filter(pk=row.pk).update(stated=held, at=asked_at, refused=refusal, **told)


def _record(action: str, runtime: Runtime, data: dict[str, Any]) -> None:
    record(
        action=action,
        actor=SYSTEM,
        tenant_id=runtime.tenant_id,
        target=("runtime", runtime.pk),
        data=data,
    )


def statement(status: Mapping[str, Any]) -> dict[str, Any]:
    """What of a guest's status is about break-glass, in one form. A guest is the tenant's, so it is checked.

    Raises:
        AgentUnreachable: malformed.
    """
    try:
        keyring, pinned, terms = status["keyring"], status.get("approvers"), status.get("terms")
        return {
            "keyring": number(keyring["version"], least=1) if keyring is not None else 0,
            "approvers": None
            if pinned is None
            else {"version": number(pinned["version"], least=1), "hash": hash_text(pinned["hash"])},
            "terms": None
            if terms is None
            else {
                "version": number(terms["version"], least=1),
                "ordinary": _mode(terms["ordinary"]),
                "emergency": _mode(terms["emergency"]),
            },
        }
    except (KeyError, TypeError, ValueError):
        raise AgentUnreachable("The guest's statement of its approvers is malformed.") from None


def _mode(value: Any) -> str:
    if value not in MODES:
        raise ValueError
    return str(value)


def _or_zero(rows: QuerySet[Any, Any]) -> Coalesce:
    return Coalesce(Subquery(rows[:1]), Value(0))
