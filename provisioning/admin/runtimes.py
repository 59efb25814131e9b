"""Tenants' machines in the staff's pages."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_http_methods

from audit.admin import ReadOnlyAdmin, ReasonForm, ServiceAdmin
from audit.context import Actor
from provisioning.models import Operation, Runtime
from provisioning.plan_page import PlanForm, offers
from provisioning.selectors import (
    drift_for,
    operations_for,
    runtimes_for,
)
from provisioning.services import (
    OperationRefused,
    PermissionRefused,
    access_close,
    access_reopen,
    operation_request,
    plan_change,
    runtime_create,
)
from provisioning.transitions import TRANSITIONS

CONSEQUENCES = {
    Operation.Kind.REBUILD: "The system is replaced; the data volume is kept.",
    Operation.Kind.DELETE: "The data volume's key is destroyed first. Nobody can bring the data back.",
    Operation.Kind.FORCE_DELETE: "The data volume's key is destroyed first. Nobody can bring the data back.",
    Operation.Kind.QUARANTINE: (
        "The machine is paused and unplugged. Nothing is deleted; a release starts it again."
    ),
    Operation.Kind.RELEASE: (
        "The machine's power is cut; machine, filter and network are made anew; then it starts. "
        "The data volume is kept, whatever was done to it. Find out first who changed what, and how."
    ),
}
"""What a person has to know before they give their reason."""


HARMLESS = frozenset({Operation.Kind.REBUILD, Operation.Kind.RELEASE, Operation.Kind.QUARANTINE})
"""Kinds after which the data is still there."""


Action = Callable[["RuntimeAdmin", HttpRequest, "QuerySet[Runtime]"], HttpResponse | None]


def _request_action(kind: Operation.Kind) -> Action:
    """An admin action that requests ``kind`` on the chosen runtimes, after a reason where one is due."""

    def action(
        page: "RuntimeAdmin", request: HttpRequest, chosen: "QuerySet[Runtime]"
    ) -> HttpResponse | None:
        reason = ""
        if TRANSITIONS[kind].destructive:
            form = ReasonForm(request.POST if "reason" in request.POST else None)
            if not form.is_valid():
                return page.ask_reason(request, chosen, kind, form)
            reason = form.cleaned_data["reason"]
        for runtime in chosen:
            try:
                operation = operation_request(
                    actor=Actor.of(request.user), runtime_id=runtime.pk, kind=kind, reason=reason
                )
            except OperationRefused as error:
                page.message_user(request, f"{runtime.tenant}: {' '.join(error.messages)}", messages.ERROR)
                continue
            link = reverse("admin:provisioning_operation_change", args=[operation.pk])
            page.message_user(
                request, format_html('{}: <a href="{}">{} requested</a>', runtime.tenant, link, kind.label)
            )
        return None

    action.__name__ = f"request_{kind.value}"
    action.short_description = f"{kind.label.capitalize()} the chosen runtimes"  # type: ignore[attr-defined]
    return action


@admin.register(Runtime)
class RuntimeAdmin(ReadOnlyAdmin[Runtime], ServiceAdmin[Runtime]):
    """Every tenant's machine that this person may operate."""

    list_display = ("tenant", "phase", "power", "engine", "host", "image", "made")
    list_filter = ("phase", "power", "host")
    search_fields = ("tenant__slug", "tenant__name", "=id")
    list_select_related = ("tenant", "host", "image")
    change_form_template = "admin/provisioning/runtime/change_form.html"
    exclude = ("volume_key", "enrolment_secret")
    autocomplete_fields = ("tenant",)
    actions = [*(_request_action(kind) for kind in Operation.Kind), "close_access", "reopen_access"]

    def get_queryset(self, request: HttpRequest) -> Any:
        """Only what this person may know of."""
        return runtimes_for(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Operators create runtimes; the service checks it again for the chosen tenant."""
        return request.user.has_perm("tenants.operate_tenant")

    def get_fields(self, request: HttpRequest, obj: Runtime | None = None) -> Any:
        """Only the tenant is chosen; everything else follows from its plan."""
        return super().get_fields(request, obj) if obj else ("tenant",)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Runtime:
        """Call the service; what it refuses is shown and nothing is written."""
        operation = runtime_create(actor=Actor.of(request.user), tenant=form.cleaned_data["tenant"])
        form.save_m2m = lambda: None  # Django calls it next; a runtime has nothing of the kind
        return operation.runtime

    def save_model(self, request: HttpRequest, obj: Runtime, form: Any, change: bool) -> None:
        """Nothing is left to do: the service has saved it."""

    def response_add(
        self, request: HttpRequest, obj: Runtime, post_url_continue: str | None = None
    ) -> HttpResponse:
        """On to the page that shows how the creation goes."""
        operation = operations_for(request.user).filter(runtime=obj).first()
        if operation is None:
            return redirect("admin:provisioning_runtime_changelist")
        return redirect("admin:provisioning_operation_change", operation.pk)

    @admin.action(description="Close members' access to the chosen runtimes")
    def close_access(self, request: HttpRequest, chosen: "QuerySet[Runtime]") -> None:
        """End sessions and refuse sign-in until reopened."""
        self._set_access(request, chosen, access_close, "access closes within seconds")

    @admin.action(description="Reopen members' access to the chosen runtimes")
    def reopen_access(self, request: HttpRequest, chosen: "QuerySet[Runtime]") -> None:
        """Let members sign in again."""
        self._set_access(request, chosen, access_reopen, "access reopens within seconds")

    def _set_access(
        self, request: HttpRequest, chosen: "QuerySet[Runtime]", service: Callable[..., None], told: str
    ) -> None:
        for runtime in chosen:
            try:
                service(actor=Actor.of(request.user), runtime_id=runtime.pk)
            except OperationRefused as error:
                self.message_user(request, f"{runtime.tenant}: {' '.join(error.messages)}", messages.ERROR)
            else:
                self.message_user(request, f"{runtime.tenant}: {told}")

    @admin.display(description="created", ordering="created_at")
    def made(self, obj: Runtime) -> str:
        """The day; the minute is on the runtime's own page."""
        return f"{obj.created_at:%d %b %Y}"

    @admin.display(description="engine")
    def engine(self, obj: Runtime) -> str:
        """How real the machine is."""
        return obj.host.get_engine_display() if obj.host else "-"

    def get_urls(self) -> list[URLPattern]:
        """The page of its plan."""
        page = self.admin_site.admin_view(self.plan_view)
        return [path("<uuid:pk>/plan/", page, name="provisioning_runtime_plan"), *super().get_urls()]

    @method_decorator(require_http_methods(["GET", "POST"]))
    def plan_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """What each plan would change; and the change itself, by the service."""
        runtime = self.get_object(request, str(pk))
        tenant = runtime.tenant
        form = PlanForm(
            request.POST if request.method == "POST" else None,
            initial={"plan": tenant.plan_id, "price_cents": tenant.price_cents},
        )
        if form.is_valid():
            try:
                operation = plan_change(actor=Actor.of(request.user), tenant=tenant, **form.cleaned_data)
            except PermissionRefused:
                raise PermissionDenied from None
            except ValidationError as error:
                form.refuse(error)
            else:
                self.message_user(request, f"{tenant} has the plan {form.cleaned_data['plan']}.")
                if operation is None:
                    return redirect("admin:provisioning_runtime_change", runtime.pk)
                return redirect("admin:provisioning_operation_change", operation.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Plan of {tenant}",
            "runtime": runtime,
            "offers": offers(runtime),
            "form": form,
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "admin/provisioning/runtime/plan.html", context)

    def ask_reason(
        self, request: HttpRequest, chosen: "QuerySet[Runtime]", kind: Operation.Kind, form: ReasonForm
    ) -> HttpResponse:
        """The page between a destructive action and its deed."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"{kind.label.capitalize()}: why?",
            "chosen": chosen,
            "kind": kind,
            "form": form,
            "action": f"request_{kind.value}",
            "consequence": CONSEQUENCES.get(kind, ""),
            "harmless": kind in HARMLESS,
            "findings": drift_for(request.user).filter(runtime__in=chosen, cleared_at=None),
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "admin/reason.html", context)
