"""The mixins by which admin pages scope what they show, and write to the record."""

from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import NestedObjects
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import Permission
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import DEFAULT_DB_ALIAS, models, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.context import Actor
from audit.erasure import personal_erase
from audit.models import PersonalDatum
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
    """For models that no service of ours writes: an entry in each change's transaction; no bulk action.

    A change of many-to-many rows (groups, permissions) is an entry of its own that names what came and went.
    """

    actions: Any = ()
    recorded_values: ClassVar[tuple[str, ...]] = ()
    """Fields whose new values stand in the entry; of the others that have changed only the names."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without the stock bulk deletion, which has no transaction of its own."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def log_addition(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Called by Django inside the form's transaction."""
        self._record(request, obj, "added", self._values(obj))
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: M, message: Any) -> Any:
        """Called by Django inside the form's transaction."""
        fields = getattr(obj, "_fields_changed", None)
        self._record(request, obj, "changed", {"fields": fields, **self._values(obj)} if fields else {})
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Called by Django inside the deletion's transaction, while everything is still there."""
        for obj in queryset:
            self._record(request, obj, "deleted", {"with": dependants(obj)})
        return super().log_deletions(request, queryset)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Called by Django inside the form's transaction."""
        setattr(form.instance, "_fields_changed", sorted(form.changed_data))  # noqa: B010 - unknown to the stubs
        before = _links(form.instance)
        super().save_related(request, form, formsets, change)
        after = _links(form.instance)
        moved = {
            name: {"added": sorted(after[name] - before[name]), "removed": sorted(before[name] - after[name])}
            for name in after
            if after[name] != before[name]
        }
        if moved:
            self._record(request, form.instance, "permissions_changed", moved)

    def _values(self, obj: M) -> dict[str, Any]:
        return {name: getattr(obj, name) for name in self.recorded_values}

    def _record(self, request: HttpRequest, obj: M, verb: str, data: dict[str, Any] | None = None) -> None:
        name = obj._meta.model_name
        record(
            action=f"{name}.{verb}",
            actor=Actor.of(request.user),
            target=(str(name), obj.pk),
            data=data,
            personal={"user": username(obj)} if isinstance(obj, AbstractBaseUser) else {},
        )


def dependants(obj: models.Model) -> dict[str, list[str]]:
    """The ids of what the database deletes with a row, by the model's name, at most 100 of each."""
    collector = NestedObjects(using=DEFAULT_DB_ALIAS)
    collector.collect([obj])
    return {
        str(model._meta.label_lower): sorted(str(row.pk) for row in rows)[:100]
        for model, rows in collector.data.items()
        if model is not type(obj) and model is not LogEntry  # Django's own copy of these entries
    }


def _links(obj: models.Model) -> dict[str, set[str]]:
    """The many-to-many rows of ``obj``: permissions by their code, everything else by id."""
    return {
        field.name: {_code(row) for row in getattr(obj, field.name).all()} for field in obj._meta.many_to_many
    }


def _code(row: models.Model) -> str:
    key = row.natural_key() if isinstance(row, Permission) else ()
    return f"{key[1]}.{key[0]}" if key else str(row.pk)


class PersonalAdmin(ReadOnlyAdmin[PersonalDatum]):
    """What leaves commit to. It is erased here, by subject, after a typed reason; the leaves stay."""

    list_display = ("subject", "kind", "shown", "made_at")
    search_fields = ("=subject", "=value", "=commitment")
    fields = ("subject", "kind", "shown", "made_at", "commitment")
    show_full_result_count = False
    list_per_page = 50
    actions = ("erase",)

    @admin.display(description="value", ordering="value")
    def shown(self, datum: PersonalDatum) -> str:
        """What the leaves have committed to, or that it is not that."""
        return datum.shown

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
