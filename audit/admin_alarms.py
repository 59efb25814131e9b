"""What pages of the record's alarms have in common: open ones first, and an end with a typed reason."""

from typing import Any, TypeVar

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.admin import ReadOnlyAdmin, ReasonForm, ScopedAdmin
from audit.context import Actor
from audit.models import PersonalDatum

M = TypeVar("M", bound=models.Model)


class StateFilter(admin.SimpleListFilter):
    """Active witnesses, unless somebody asks for the others."""

    title = "state"
    parameter_name = "state"
    first = "active"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What may be chosen beside the active ones."""
        return [("retired", "retired"), ("all", "all")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        """Those chosen."""
        if self.value() == "all":
            return queryset
        return queryset.filter(retired_at__isnull=self.value() != "retired")

    def choices(self, changelist: Any) -> Any:
        """The first choice is called what it is."""
        for index, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": self.first} if index == 0 else choice


class OpenFilter(StateFilter):
    """Alarms that nobody has looked into, unless somebody asks for the others."""

    first = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What may be chosen beside the open ones."""
        return [("acknowledged", "acknowledged"), ("all", "all")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        """Those chosen."""
        if self.value() == "all":
            return queryset
        return queryset.filter(acknowledgement__isnull=self.value() != "acknowledged")


class AlarmAdmin(ReadOnlyAdmin[M]):
    """Rows that stand red on every page until somebody has acknowledged them with a reason."""

    list_display_links = ("at",)
    show_full_result_count = False
    actions = ("acknowledge",)
    consequence = ""
    """What the page of the reason says: what it may mean, and what to do first."""

    def end_alarm(self, actor: Actor, row: M, reason: str) -> None:
        """The service that acknowledges one row. Raises ValidationError with what to tell."""
        raise NotImplementedError

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """With the reason of whoever looked into it, unless it was erased."""
        why = PersonalDatum.objects.filter(commitment=OuterRef("acknowledgement__why"))
        return super().get_queryset(request).annotate(words=Subquery(why.values("value")[:1]))

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        """For the action."""
        return request.user.has_perm(f"audit.change_{self.opts.model_name}")

    @admin.action(description="Acknowledge the chosen %(verbose_name_plural)s", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, chosen: "QuerySet[M]") -> HttpResponse | None:
        """End their alarm, after a typed reason."""
        form = ReasonForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            return ask_reason(self, request, chosen, form, "acknowledge", "admin/audit/acknowledge.html")
        for row in chosen:
            try:
                self.end_alarm(Actor.of(request.user), row, form.cleaned_data["reason"])
            except ValidationError as error:
                self.message_user(request, f"{row}: {' '.join(error.messages)}", messages.ERROR)
            else:
                self.message_user(request, f"{row}: acknowledged")
        return None

    @admin.display(description="looked into", empty_value="not yet")
    def looked_into(self, obj: Any) -> str | None:
        """When, and what was found."""
        found = getattr(obj, "acknowledgement", None)
        return f"{found.at:%d %b %H:%M}: {obj.words or '(erased)'}" if found else None


def ask_reason(
    page: "ScopedAdmin[Any]",
    request: HttpRequest,
    chosen: "QuerySet[Any]",
    form: ReasonForm,
    action: str,
    template: str,
) -> TemplateResponse:
    """The page that asks for the reason of an action on these rows."""
    context = {
        **page.admin_site.each_context(request),
        "title": f"{action.capitalize()}: why?",
        "chosen": chosen,
        "form": form,
        "action": action,
        "opts": page.model._meta,
        "consequence": getattr(page, "consequence", ""),
    }
    return TemplateResponse(request, template, context)
