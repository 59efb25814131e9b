"""Mismatches on the staff's pages: what does not go together, and who looked into it."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from audit.admin_alarms import AlarmAdmin, OpenFilter
from audit.context import Actor
from audit.models import PersonalDatum
from breakglass.models import Mismatch
from breakglass.services.mismatches import mismatch_acknowledge
from tenants.selectors import tenants_for


class OpenMismatches(OpenFilter):
    """Those that nobody has looked into, unless somebody asks for the others."""

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        """Those chosen."""
        if self.value() == "all":
            return queryset
        return queryset.filter(acknowledged_at__isnull=self.value() != "acknowledged")


@admin.register(Mismatch)
class MismatchAdmin(AlarmAdmin[Mismatch]):
    """Of the tenants that this person operates."""

    list_display = ("found_at", "runtime", "kind", "ticket", "seq", "looked_into")
    list_display_links = ("found_at",)
    list_filter = (OpenMismatches, "kind")
    list_select_related = ("runtime__tenant", "acknowledged_by")
    fields = ("found_at", "runtime", "kind", "ticket", "token", "seq", "looked_into")
    readonly_fields = fields
    consequence = (
        "Either a guest was used without the portal's knowledge, or it does not tell what was done in it. "
        "Read docs/break-glass.md, “What is wrong with access”, look, and say here what you found. "
        "One alarm may stand for many: look at all that was done in it then. The evidence stays."
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """With the reason of whoever looked into it, unless it was erased."""
        why = PersonalDatum.objects.filter(commitment=OuterRef("why"))
        rows = Mismatch.objects.filter(runtime__tenant__in=tenants_for(request.user))
        return rows.annotate(words=Subquery(why.values("value")[:1]))

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        """For the action."""
        return request.user.has_perm("breakglass.change_mismatch")

    def end_alarm(self, actor: Actor, row: Mismatch, reason: str) -> None:
        """By the service."""
        mismatch_acknowledge(actor=actor, mismatch=row, reason=reason)

    @admin.display(description="looked into", empty_value="not yet")
    def looked_into(self, obj: Any) -> str | None:
        """When, by whom, and what was found."""
        if obj.acknowledged_at is None:
            return None
        return f"{obj.acknowledged_at:%d %b %H:%M}, {obj.acknowledged_by}: {obj.words or '(erased)'}"
