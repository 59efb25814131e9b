"""Witnesses on the staff's pages: who has signed what, and refusals, which somebody has to look into.

The portal registers these with the scope that this room cannot know.
"""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from audit import log
from audit.admin import ReasonForm, ServiceAdmin, ServiceForm
from audit.admin_alarms import AlarmAdmin, OpenFilter, StateFilter, ask_reason
from audit.context import Actor
from audit.models import Checkpoint, Cosignature, Witness, WitnessRefusal
from audit.witnesses import WitnessError, refusal_acknowledge, witness_register, witness_retire

SIGNATURES_SHOWN = 20
_MISSING = "-"


class WitnessForm(ServiceForm[Witness]):
    """An outside witness: where it is, and its key. Guests register themselves."""

    class Meta:
        model = Witness
        fields = ("url", "vkey")
        widgets = {"vkey": forms.Textarea(attrs={"rows": 2, "cols": 80})}
        help_texts = {"url": "https:// only. The witness must know this log's key first: see below."}

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        if "url" in self.fields:
            self.fields["url"].required = True


class WitnessAdmin(ServiceAdmin[Witness]):
    """Who has signed which checkpoint, and when."""

    form = WitnessForm
    list_display = ("name", "trouble", "signed", "behind", "signed_at")
    list_filter = (StateFilter,)
    search_fields = ("name", "url", "=target")
    show_full_result_count = False
    actions = ("retire",)
    change_form_template = "admin/audit/witness/change_form.html"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Witness]":
        """With the size and time of the newest checkpoint that each has signed, in one query."""
        newest = Cosignature.objects.filter(witness=OuterRef("pk")).order_by("-checkpoint__size")
        return (
            super()
            .get_queryset(request)
            .annotate(
                newest_size=Subquery(newest.values("checkpoint__size")[:1]),
                newest_at=Subquery(newest.values("signed_at")[:1]),
                head=Subquery(Checkpoint.objects.order_by("-size").values("size")[:1]),
                refusal=Max("refusals__pk"),
            )
        )

    def get_fields(self, request: HttpRequest, obj: Witness | None = None) -> Any:
        """A new one has a URL and a key; of one that is there, everything is shown and nothing is changed."""
        if obj is None:
            return ("url", "vkey")
        return ("name", "vkey", "kind", "signed", "signed_at", "trouble", "added_at", "retired_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Witness | None = None) -> Any:
        """All of one that is there: another key is another witness."""
        return self.get_fields(request, obj) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A witness is retired, never deleted."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is edited; who may change, may retire."""
        return False

    def has_retire_permission(self, request: HttpRequest) -> bool:
        """For the action."""
        return request.user.has_perm("audit.change_witness")

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """With the last signatures, and for a new one the log's own key, which the witness must be told."""
        rows = Cosignature.objects.none()
        if object_id and object_id.isdecimal():
            rows = Cosignature.objects.filter(witness=int(object_id)).select_related("checkpoint", "witness")
        more = {"signatures": rows[:SIGNATURES_SHOWN], "log_vkey": str(log.vkey())}
        return super().changeform_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Witness:
        """Call the service; what it refuses is shown and nothing is written."""
        given = form.cleaned_data
        form.save_m2m = lambda: None
        return witness_register(actor=Actor.of(request.user), vkey=given["vkey"], url=given["url"])

    def save_model(self, request: HttpRequest, obj: Witness, form: Any, change: bool) -> None:
        """Nothing is left to do: the service has saved it."""

    @admin.action(description="Retire the chosen witnesses", permissions=["retire"])
    def retire(self, request: HttpRequest, chosen: "QuerySet[Witness]") -> HttpResponse | None:
        """Ask them no more, after a typed reason."""
        form = ReasonForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            return ask_reason(self, request, chosen, form, "retire", "admin/audit/witness/retire.html")
        for witness in chosen:
            try:
                witness_retire(
                    actor=Actor.of(request.user), witness=witness, reason=form.cleaned_data["reason"]
                )
            except WitnessError as error:
                self.message_user(request, f"{witness}: {' '.join(error.messages)}", messages.ERROR)
            else:
                self.message_user(request, f"{witness}: retired")
        return None

    @admin.display(description="kind")
    def kind(self, obj: Witness) -> str:
        """A guest, or where it is."""
        return obj.url or "guest"

    @admin.display(description="signed up to", ordering="newest_size")
    def signed(self, obj: Any) -> str:
        """Entries in the newest checkpoint that it has signed."""
        return f"{obj.newest_size} entries" if obj.newest_size else "nothing yet"

    @admin.display(description="behind by")
    def behind(self, obj: Any) -> str:
        """Entries that the log's newest checkpoint has beyond that one."""
        return str(max(0, (obj.head or 0) - obj.newest_size)) if obj.newest_size else _MISSING

    @admin.display(description="signed at", ordering="newest_at")
    def signed_at(self, obj: Any) -> str:
        """As the witness dates it."""
        return f"{obj.newest_at:%d %b %H:%M:%S}" if obj.newest_at else _MISSING

    @admin.display(description="trouble")
    def trouble(self, obj: Any) -> str:
        """Refused, unreachable, or nothing."""
        if obj.refusal:
            url = f"{reverse('admin:audit_witnessrefusal_changelist')}?state=all&witness={obj.pk}"
            return format_html('<a class="trouble" href="{}">has refused</a> {}', url, obj.problem)
        return obj.problem or _MISSING


class WitnessRefusalAdmin(AlarmAdmin[WitnessRefusal]):
    """What witnesses have refused to sign, and who looked into it."""

    list_display = ("at", "witness", "what", "size", "shown", "looked_into")
    list_filter = (OpenFilter, "reason")
    list_select_related = ("witness", "checkpoint", "acknowledgement")
    fields = ("at", "witness", "what", "size", "shown", "note", "looked_into")
    readonly_fields = fields
    consequence = (
        "A refusal may mean that somebody rewrites the audit record. Run manage.py audit_verify, find out "
        "why, and say here what you found. The refusal stays in the record."
    )

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """One witness's, for the link on its row."""
        return lookup == "witness" or super().lookup_allowed(lookup, value, request)

    def end_alarm(self, actor: Actor, row: WitnessRefusal, reason: str) -> None:
        """By the service."""
        refusal_acknowledge(actor=actor, refusal=row, reason=reason)

    @admin.display(description="why", ordering="reason")
    def what(self, obj: WitnessRefusal) -> str:
        """In words."""
        return obj.get_reason_display()

    @admin.display(description="it was shown")
    def shown(self, obj: WitnessRefusal) -> str:
        """The size of the checkpoint that it did not sign."""
        return f"{obj.checkpoint.size} entries" if obj.checkpoint else _MISSING

    @admin.display(description="the checkpoint")
    def note(self, obj: WitnessRefusal) -> str:
        """As the log had signed it."""
        return format_html('<pre class="vkey">{}</pre>', obj.checkpoint.note) if obj.checkpoint else _MISSING
