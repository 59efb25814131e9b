"""The staff's page of findings. Nothing is changed here."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from audit.admin import ReadOnlyAdmin
from provisioning.models import DriftFinding
from provisioning.selectors import drift_for

FOLLOWS = {
    "quarantine": "set aside",
    "alert": "staff act",
    "mend": "drift --fix mends it",
    "note": "to know",
}
"""What a severity means to the person who reads the page."""


class OpenFilter(admin.SimpleListFilter):
    """Open findings, unless somebody asks for those that are over."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What may be chosen beside the open ones."""
        return [("cleared", "cleared"), ("all", "all")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[DriftFinding]") -> "QuerySet[DriftFinding]":
        """Those chosen."""
        if self.value() == "all":
            return queryset
        return queryset.filter(cleared_at__isnull=self.value() != "cleared")

    def choices(self, changelist: Any) -> Any:
        """The first choice is called what it is."""
        for index, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": "open"} if index == 0 else choice


@admin.register(DriftFinding)
class DriftFindingAdmin(ReadOnlyAdmin[DriftFinding]):
    """What checks found on hosts that is not as it was told (docs/drift.md)."""

    list_display = ("about", "finding", "follows", "found")
    list_display_links = ("finding",)
    list_filter = (OpenFilter, "severity", "host")
    search_fields = ("runtime__tenant__slug", "runtime__tenant__name", "=runtime__id", "detail")
    fields = ("about", "what", "where", "follows", "found_at", "seen_at", "cleared_at")
    readonly_fields = fields
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> Any:
        """Only what this person may know of."""
        return drift_for(request.user)

    @admin.display(description="about", ordering="runtime__tenant__name")
    def about(self, obj: DriftFinding) -> str:
        """The runtime by its tenant, with a way to its page; or the host."""
        if obj.runtime is None:
            url, name = reverse("admin:provisioning_host_change", args=[obj.host_id]), f"host {obj.host}"
        else:
            url = reverse("admin:provisioning_runtime_change", args=[obj.runtime_id])
            name = obj.runtime.tenant.name
        return format_html('<a href="{}">{}</a>', url, name)

    @admin.display(description="what is wrong, and where", ordering="code")
    def finding(self, obj: DriftFinding) -> str:
        """Both, for the list: a narrow column for the second would be unreadable."""
        return format_html('{}<br><span class="drift-where">{}</span>', obj.words, obj.detail)

    @admin.display(description="found", ordering="found_at")
    def found(self, obj: DriftFinding) -> str:
        """Day and minute; since when it is over, if it is."""
        until = f" to {obj.cleared_at:%d %b %H:%M}" if obj.cleared_at else ""
        return f"{obj.found_at:%d %b %H:%M}{until}"

    @admin.display(description="what is wrong")
    def what(self, obj: DriftFinding) -> str:
        """In words."""
        return obj.words

    @admin.display(description="where")
    def where(self, obj: DriftFinding) -> str:
        """What libvirt shows, beside what it was told."""
        return format_html('<span class="drift-where">{}</span>', obj.detail or "-")

    @admin.display(description="what follows", ordering="severity")
    def follows(self, obj: DriftFinding) -> str:
        """What was done, or what to do."""
        return format_html('<span class="severity {}">{}</span>', obj.severity, FOLLOWS[obj.severity])
