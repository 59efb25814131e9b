"""Outside connections in the staff's pages."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from audit.admin import ReadOnlyAdmin
from provisioning.models import EgressRecord
from provisioning.selectors import (
    egress_records_for,
)


@admin.register(EgressRecord)
class EgressRecordAdmin(ReadOnlyAdmin[EgressRecord]):
    """What tenants' machines tried to reach: names and amounts, never content."""

    list_display = ("at", "tenant", "place", "verdict", "reason", "attempts", "bytes_up", "bytes_down")
    list_filter = (
        "verdict",
        ("tenant", admin.RelatedOnlyFieldListFilter),
        ("runtime__host", admin.RelatedOnlyFieldListFilter),
    )
    search_fields = ("=host",)
    search_help_text = "The whole name of a host."
    list_select_related = ("tenant",)
    show_full_result_count = False
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> Any:
        """Only what this person may know of."""
        return egress_records_for(request.user)

    @admin.display(description="where", ordering="host")
    def place(self, obj: EgressRecord) -> str:
        """As the guest named it."""
        return f"{obj.host}:{obj.port}" if obj.host else "-"
