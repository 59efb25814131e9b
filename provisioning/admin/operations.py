"""Operations in the staff's pages."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRefresh

from audit.admin import ReadOnlyAdmin
from audit.context import Actor
from provisioning.models import Operation
from provisioning.policy import may_request
from provisioning.selectors import (
    operations_for,
)
from provisioning.sequences import LABELS
from provisioning.services import (
    OperationRefused,
    PermissionRefused,
    operation_cancel,
)
from provisioning.transitions import TRANSITIONS


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin[Operation]):
    """What was asked, how far it is, and why it waits."""

    list_display = ("created_at", "tenant", "kind", "state", "wait_reason", "error_message", "requested_by")
    list_filter = ("state", "kind")
    change_form_template = "admin/provisioning/operation/change_form.html"
    fields = ("runtime", "requested_by", "reason", "created_at", "started_at", "finished_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Only what this person may know of."""
        return operations_for(request.user).select_related("runtime__tenant", "requested_by")

    @admin.display(ordering="runtime__tenant__name")
    def tenant(self, obj: Operation) -> str:
        """Whose runtime it is."""
        return obj.runtime.tenant.name

    def get_urls(self) -> list[URLPattern]:
        """The live part and the cancel button."""
        own = [
            path(
                "<uuid:pk>/steps/",
                self.admin_site.admin_view(self.steps_view),
                name="provisioning_operation_steps",
            ),
            path(
                "<uuid:pk>/cancel/",
                self.admin_site.admin_view(self.cancel_view),
                name="provisioning_operation_cancel",
            ),
        ]
        return own + super().get_urls()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The operation's page, with its steps below."""
        operation = self.get_object(request, object_id)
        extra = {
            **(extra_context or {}),
            "title": f"{operation.get_kind_display().capitalize()} {operation.runtime.tenant}",
            "subtitle": None,
            "operation": operation,
            "labels": LABELS,
            "cancellable": _cancellable(request, operation),
        }
        return super().change_view(request, object_id, form_url, extra)

    def steps_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """The steps as they are now, for polling; once it is over the whole page is fetched again."""
        operation = self.get_object(request, str(pk))
        if not operation.active:
            return HttpResponseClientRefresh()
        return TemplateResponse(request, "portal/_steps.html", {"operation": operation, "labels": LABELS})

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Ask for the operation to be undone."""
        operation = self.get_object(request, str(pk))
        try:
            operation_cancel(actor=Actor.of(request.user), operation_id=operation.pk)
        except PermissionRefused:
            raise PermissionDenied from None
        except OperationRefused as error:
            self.message_user(request, " ".join(error.messages), messages.ERROR)
        return redirect("admin:provisioning_operation_change", operation.pk)


def _cancellable(request: HttpRequest, operation: Operation) -> bool:
    return (
        operation.active
        and not operation.cancel_requested
        and TRANSITIONS[operation.kind].cancelled is not None
        and may_request(Actor.of(request.user), operation.runtime.tenant, operation.kind)
    )
