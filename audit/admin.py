"""The record, read-only; and the mixins by which every other admin page writes to it."""

from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.context import Actor
from audit.erasure import personal_erase
from audit.models import Entry, PersonalDatum
from audit.personal import username
from audit.reasons import REASON_MAXIMUM, REASON_MINIMUM
from audit.services import record

M = TypeVar("M", bound=models.Model)


class ScopedAdmin(admin.ModelAdmin[M]):
    """What a person may not see does not exist for them: 404, never a refusal or a hint."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> M:
        """One row of this person's scope.

        Raises:
            Http404: no such row, or not theirs to see.
        """
        found = super().get_object(request, object_id, from_field)
        if found is None or not self.has_view_or_change_permission(request, found):
            raise Http404
        return found


class ReadOnlyAdmin(ScopedAdmin[M]):
    """Shows rows; changes go through actions that call services."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes here."""
        return False


class ServiceForm(forms.ModelForm[M]):
    """A form that can carry a service's refusal."""

    refusal: ValidationError | None = None

    def clean(self) -> dict[str, Any]:
        """Put each message beside its field; above the form where it has none here."""
        given = super().clean() or {}
        if self.refusal is not None:
            named = getattr(self.refusal, "message_dict", {NON_FIELD_ERRORS: self.refusal.messages})
            for field, words in named.items():
                self.add_error(field if field in self.fields else None, words)
        return given


class ServiceAdmin(ScopedAdmin[M]):
    """Saves through services. What one refuses stands in the form, and nothing that was typed is lost."""

    form = ServiceForm  # type: ignore[assignment]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Once more with the refusal, after the transaction of the first try was rolled back."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except ValidationError as refusal:
            request.META["portal.refusal"] = refusal
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(
        self, request: HttpRequest, obj: M | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[M]]:
        """The form, with what the service said to it."""
        form = super().get_form(request, obj, change=change, **kwargs)
        setattr(form, "refusal", request.META.get("portal.refusal"))  # noqa: B010 - unknown to the stubs
        return form


class ReasonForm(forms.Form):
    """The typed reason that a destructive action asks for."""

    reason = forms.CharField(
        min_length=REASON_MINIMUM,
        max_length=REASON_MAXIMUM,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 70, "autofocus": True}),
        help_text=f"{REASON_MINIMUM} characters or more. It is kept in the audit record.",
    )


class RecordedAdmin(ScopedAdmin[M]):
    """For Django's own models: an entry in the same transaction as each change; no bulk deletion."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without the stock bulk deletion, which has no transaction of its own."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def log_addition(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Called by Django inside the form's transaction."""
        self._record(request, obj, "added")
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Called by Django inside the form's transaction."""
        self._record(request, obj, "changed")
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Called by Django inside the deletion's transaction."""
        for obj in queryset:
            self._record(request, obj, "deleted")
        return super().log_deletions(request, queryset)

    def _record(self, request: HttpRequest, obj: M, verb: str) -> None:
        name = obj._meta.model_name
        record(
            action=f"{name}.{verb}",
            actor=Actor.of(request.user),
            target=(str(name), obj.pk),
            personal={"user": username(obj)} if isinstance(obj, AbstractBaseUser) else {},
        )


class EntryAdmin(ReadOnlyAdmin[Entry]):
    """The append-only table. The portal registers it, with the scope that this room cannot know."""

    list_display = ("at", "action", "actor_kind", "actor_id", "target_type", "target_id", "tenant_id")
    list_filter = ("action", "actor_kind")
    search_fields = ("=target_id", "=request_id", "=actor_id")
    date_hierarchy = "at"
    show_full_result_count = False
    list_per_page = 50


class PersonalAdmin(ReadOnlyAdmin[PersonalDatum]):
    """What leaves commit to. It is erased here, by subject, after a typed reason; the leaves stay."""

    list_display = ("subject", "kind", "value", "made_at")
    search_fields = ("=subject", "=value", "=commitment")
    fields = ("subject", "kind", "value", "made_at", "commitment")
    show_full_result_count = False
    list_per_page = 50
    actions = ("erase",)

    def has_erase_permission(self, request: HttpRequest) -> bool:
        """Whether the action is offered; the service asks again."""
        return request.user.has_perm("audit.delete_personaldatum")

    @admin.action(description="Erase all that is known of the chosen subjects", permissions=["erase"])
    def erase(self, request: HttpRequest, chosen: "models.QuerySet[PersonalDatum]") -> HttpResponse | None:
        """For good, and all of each subject: a half erased person is not erased."""
        subjects = sorted(set(chosen.values_list("subject", flat=True)))
        form = ReasonForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            context = {
                **self.admin_site.each_context(request),
                "title": "Erase personal data: why?",
                "chosen": chosen,
                "subjects": subjects,
                "form": form,
                "action": "erase",
                "opts": self.model._meta,
            }
            return TemplateResponse(request, "admin/erase.html", context)
        actor, reason = Actor.of(request.user), form.cleaned_data["reason"]
        with transaction.atomic():
            erased = sum(personal_erase(actor=actor, reason=reason, subject=each) for each in subjects)
        self.message_user(request, f"{erased} erased of {', '.join(subjects)}. The log verifies as before.")
        return None
