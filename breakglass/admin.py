"""Break-glass in the staff's admin: rows to look at. All is done on the pages of break-glass itself."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from audit.admin import ReadOnlyAdmin
from breakglass import admin_mismatches  # noqa: F401 - registers its own page
from breakglass.models import ApproverSetVersion, Notice, Passkey, SetProposal, Ticket, Webhook
from breakglass.selectors import tickets_for


@admin.register(Ticket)
class TicketAdmin(ReadOnlyAdmin[Ticket]):
    """Who asked for access to whom, and what became of it."""

    list_display = ("asked_at", "tenant", "requester", "kind", "state", "ending", "access_until")
    list_filter = ("state", "kind")
    list_select_related = ("tenant", "requester")
    search_fields = ("=id", "tenant__slug", "requester__username")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Of those that this person may know of."""
        return tickets_for(request.user)


@admin.register(Passkey)
class PasskeyAdmin(ReadOnlyAdmin[Passkey]):
    """Passkeys of staff: public halves."""

    list_display = ("name", "user", "fingerprint", "registered_at", "retired_at", "cloned_at")
    list_select_related = ("user",)
    list_filter = (("retired_at", admin.EmptyFieldListFilter), ("cloned_at", admin.EmptyFieldListFilter))
    search_fields = ("=fingerprint", "user__username")


@admin.register(ApproverSetVersion)
class ApproverSetVersionAdmin(ReadOnlyAdmin[ApproverSetVersion]):
    """The sets of approvers, as they were signed."""

    list_display = ("version", "hash", "at")
    search_fields = ("=hash",)


@admin.register(SetProposal)
class SetProposalAdmin(ReadOnlyAdmin[SetProposal]):
    """Sets that wait for signatures, or waited."""

    list_display = ("at", "version", "state", "by", "hash")
    list_select_related = ("by",)
    list_filter = ("state",)


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin[Webhook]):
    """Addresses that are told of tickets. `manage.py webhook` adds and retires them."""

    list_display = ("name", "audience", "tenant", "url", "created_at", "retired_at")
    list_select_related = ("tenant",)
    list_filter = ("audience", ("retired_at", admin.EmptyFieldListFilter))
    exclude = ("key",)


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin[Notice]):
    """Who was told of a ticket, and who was not."""

    list_display = ("due_at", "kind", "ticket", "user", "endpoint", "sent_at", "attempts", "failed")
    list_select_related = ("ticket", "user", "endpoint")
    list_filter = ("kind", "channel", ("sent_at", admin.EmptyFieldListFilter), "failed")
    search_fields = ("=ticket__id", "user__username")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Of tickets that this person may know of."""
        return super().get_queryset(request).filter(ticket__in=tickets_for(request.user))
