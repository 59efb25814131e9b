"""Staff pages of the registry. Forms call services; no field is written here."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.admin import ReadOnlyAdmin, ReasonForm, ServiceAdmin, ServiceForm
from audit.context import Actor
from tenants.connectors import CONNECTORS, open_connectors
from tenants.models import (
    ConnectorSecret,
    ConsentVersion,
    KeyringVersion,
    MemberKey,
    Membership,
    Plan,
    Tenant,
    TenantConnector,
    TenantKey,
)
from tenants.selectors import is_operator, tenants_for
from tenants.services import (
    ConnectorRefused,
    SecretRefused,
    TenantError,
    connector_allow,
    connector_forbid,
    membership_add,
    membership_remove,
    plan_save,
    secret_revoke,
    tenant_change,
    tenant_create,
    tenant_key_ask_rotation,
    tenant_offboard,
)


class MembershipInline(admin.TabularInline[Membership, Tenant]):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


class TenantForm(ServiceForm[Tenant]):
    """Checks the cost floor early, so that the message stands beside its field."""

    class Meta:
        model = Tenant
        fields = ("name", "slug", "plan", "price_cents")

    def clean(self) -> dict[str, Any]:
        """Refuse a price below the floor."""
        given = super().clean()
        plan, price = given.get("plan"), given.get("price_cents")
        floor = plan.cost_floor_cents if plan is not None else self.instance.cost_floor_cents
        if price is not None and floor is not None and price < floor:
            raise ValidationError({"price_cents": f"Below the cost floor: {floor} cents a month or more."})
        return given


@admin.register(Tenant)
class TenantAdmin(ServiceAdmin[Tenant]):
    """Tenants, scoped to those that the operator may operate."""

    form = TenantForm
    list_display = ("name", "slug", "plan", "price_cents", "created_at", "offboarded_at")
    search_fields = ("name", "slug")
    inlines = (MembershipInline,)
    actions = ("rotate_keys", "offboard")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Only what this person may know of."""
        return tenants_for(request.user)

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[str, ...]:
        """Slug and plan are fixed once accepted; the plan changes on the page of the tenant's runtime."""
        return ("slug", "plan", "cost_floor_cents", "created_at") if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        """Staff who are mere members of a tenant may look, not change; nobody changes an offboarded one."""
        return super().has_change_permission(request, obj) and (
            obj is None or (is_operator(request.user, obj) and obj.offboarded_at is None)
        )

    @admin.action(description="Rotate the keys of the chosen tenants")
    def rotate_keys(self, request: HttpRequest, chosen: "QuerySet[Tenant]") -> None:
        """A worker makes new ones; this process holds nothing to make them with."""
        self._each(request, chosen, tenant_key_ask_rotation, "the key changes within seconds")

    @admin.action(description="Offboard the chosen tenants")
    def offboard(self, request: HttpRequest, chosen: "QuerySet[Tenant]") -> HttpResponse | None:
        """End them, after a typed reason."""
        form = ReasonForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            context = {
                **self.admin_site.each_context(request),
                "title": "Offboard: why?",
                "chosen": chosen,
                "form": form,
                "action": "offboard",
                "opts": self.model._meta,
            }
            return TemplateResponse(request, "admin/offboard.html", context)
        self._each(request, chosen, tenant_offboard, "offboarded", reason=form.cleaned_data["reason"])
        return None

    def _each(
        self,
        request: HttpRequest,
        chosen: "QuerySet[Tenant]",
        service: Callable[..., object],
        told: str,
        **more: str,
    ) -> None:
        for tenant in chosen:
            try:
                service(actor=Actor.of(request.user), tenant=tenant, **more)
            except TenantError as error:
                self.message_user(request, f"{tenant}: {' '.join(error.messages)}", messages.ERROR)
            else:
                self.message_user(request, f"{tenant}: {told}")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A tenant is offboarded, never deleted."""
        return False

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        """Call the service."""
        actor = Actor.of(request.user)
        if change:
            tenant_change(actor=actor, tenant=obj, name=obj.name, price_cents=obj.price_cents)
            return
        created = tenant_create(
            actor=actor, slug=obj.slug, name=obj.name, plan=obj.plan, price_cents=obj.price_cents
        )
        obj.pk, obj.cost_floor_cents = created.pk, created.cost_floor_cents
        obj._state.adding = False

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Memberships, through the services."""
        actor = Actor.of(request.user)
        rows = formset.save(commit=False)
        moved = [row.pk for row, changed in formset.changed_objects if "user" in changed]
        for gone in [*formset.deleted_objects, *Membership.objects.filter(pk__in=moved)]:
            membership_remove(actor=actor, membership=gone)
        for row in rows:
            membership_add(actor=actor, tenant=form.instance, user=row.user, role=row.role)


@admin.register(Plan)
class PlanAdmin(ServiceAdmin[Plan]):
    """Plans. Changing one does not change runtimes that exist; none is deleted, for tenants refer to it."""

    list_display = (
        *("name", "slug", "vcpus", "memory_mib", "disk_gib", "cpu_percent", "iops", "bandwidth_mbit"),
        *("processes", "jobs_running", "jobs_waiting", "api_per_minute", "routed_per_minute"),
        "cost_floor_cents",
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The record names plans that tenants had."""
        return False

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: bool) -> None:
        """Call the service."""
        plan_save(actor=Actor.of(request.user), plan=obj)


M = TypeVar("M", MemberKey, KeyringVersion, ConsentVersion, TenantKey, ConnectorSecret, TenantConnector)


class TenantsOwnAdmin(ReadOnlyAdmin[M]):
    """What a tenant's members registered, signed or sealed: staff look, and change nothing."""

    ordering: ClassVar[tuple[str, ...]] = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Only of tenants that this person may know of."""
        return super().get_queryset(request).filter(tenant__in=tenants_for(request.user))


@admin.register(MemberKey)
class MemberKeyAdmin(TenantsOwnAdmin[MemberKey]):
    """Public keys that members registered."""

    list_display = ("name", "tenant", "user", "kind", "fingerprint", "created_at")
    list_select_related = ("tenant", "user")
    search_fields = ("=fingerprint",)


@admin.register(KeyringVersion)
class KeyringVersionAdmin(TenantsOwnAdmin[KeyringVersion]):
    """Keyrings that owners signed."""

    list_display = ("tenant", "version", "hash", "created_by", "created_at")
    list_select_related = ("tenant", "created_by")
    search_fields = ("=hash",)


@admin.register(ConsentVersion)
class ConsentVersionAdmin(TenantsOwnAdmin[ConsentVersion]):
    """Consents that owners signed."""

    list_display = ("tenant", "version", "document", "created_by", "created_at")
    list_select_related = ("tenant", "created_by")


@admin.register(TenantKey)
class TenantKeyAdmin(TenantsOwnAdmin[TenantKey]):
    """The keys that wrap what tenants have sealed; never their private halves."""

    list_display = ("tenant", "version", "state", "created_at", "changed_at")
    list_select_related = ("tenant",)
    exclude = ("private_key",)


@admin.register(ConnectorSecret)
class ConnectorSecretAdmin(TenantsOwnAdmin[ConnectorSecret]):
    """Names and states of connector secrets; never what is in them, sealed or not."""

    list_display = ("name", "tenant", "connector", "version", "state", "refusal", "created_by", "created_at")
    list_filter = ("state", "connector")
    list_select_related = ("tenant", "created_by")
    search_fields = ("=name", "tenant__slug")
    exclude = ("wrapped",)
    actions = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without the ciphertext: no page has a use for it."""
        return super().get_queryset(request).defer("wrapped")

    @admin.action(description="Revoke the chosen secrets")
    def revoke(self, request: HttpRequest, chosen: "QuerySet[ConnectorSecret]") -> None:
        """Erase what is kept, and have the machine forget it."""
        for secret in {(row.tenant_id, row.name): row for row in chosen.select_related("tenant")}.values():
            try:
                secret_revoke(actor=Actor.of(request.user), tenant=secret.tenant, name=secret.name)
            except SecretRefused as refusal:
                self.message_user(request, f"{secret.tenant}: {refusal}", messages.ERROR)
            else:
                self.message_user(request, f"{secret.tenant}: {secret.name} is being revoked")


class ConnectorForm(ServiceForm[TenantConnector]):
    """Which tenant may have which connector."""

    connector = forms.ChoiceField(
        choices=lambda: [(slug, CONNECTORS[slug].name) for slug in open_connectors()],
        help_text="What the pilot's guardrail lets through. Opens nothing until an owner turns it on.",
    )

    class Meta:
        model = TenantConnector
        fields = ("tenant", "connector")

    def clean(self) -> dict[str, Any]:
        """One that was forbidden has a row: it is that one which is allowed again."""
        given = super().clean()
        row = TenantConnector.objects.filter(tenant=given.get("tenant"), connector=given.get("connector"))
        self.instance = row.first() or self.instance
        return given


@admin.register(TenantConnector)
class TenantConnectorAdmin(TenantsOwnAdmin[TenantConnector], ServiceAdmin[TenantConnector]):
    """What tenants may reach, and what their owners have turned on."""

    form = ConnectorForm
    ordering = ("tenant__slug", "connector")
    list_display = ("tenant", "service", "allowed", "enabled", "changed")
    list_filter = ("connector", "allowed", "enabled")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug", "tenant__name")
    actions = ("allow", "forbid")

    @admin.display(ordering="connector", description="connector")
    def service(self, row: TenantConnector) -> str:
        """As people call it."""
        return str(row)

    @admin.display(description="last change")
    def changed(self, row: TenantConnector) -> datetime | None:
        """By whomever; the row's page says by whom."""
        return row.changed_at

    @admin.display(description="reaches, while enabled")
    def hosts(self, row: TenantConnector) -> str:
        """Nothing, where the program does not know it any more."""
        return ", ".join(reach.place for reach in row.spec.reaches) if row.spec else "nothing"

    def get_fields(self, request: HttpRequest, obj: TenantConnector | None = None) -> tuple[str, ...]:
        """The form has two; a row's page shows all there is."""
        if obj is None:
            return ("tenant", "connector")
        decided = ("allowed", "allowed_by", "allowed_at", "beyond_pilot")
        return ("tenant", "service", *decided, "enabled", "enabled_by", "enabled_at", "hosts")

    def get_readonly_fields(
        self, request: HttpRequest, obj: TenantConnector | None = None
    ) -> tuple[str, ...]:
        """Of a row, everything: it changes by the actions only."""
        return tuple(self.get_fields(request, obj)) if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may allow."""
        return request.user.has_perm("tenants.add_tenantconnector")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Tenants of this person's scope that are not offboarded."""
        if db_field.name == "tenant":
            kwargs["queryset"] = tenants_for(request.user).filter(offboarded_at=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: TenantConnector, form: Any, change: bool) -> None:
        """Call the service."""
        try:
            row = connector_allow(actor=Actor.of(request.user), tenant=obj.tenant, connector=obj.connector)
        except ConnectorRefused as refusal:
            raise ValidationError(str(refusal)) from None
        obj.pk = row.pk
        obj._state.adding = False

    @admin.action(description="Allow the chosen connectors")
    def allow(self, request: HttpRequest, chosen: "QuerySet[TenantConnector]") -> None:
        """Owners may turn them on."""
        self._each(request, chosen, connector_allow, "allowed")

    @admin.action(description="Forbid the chosen connectors")
    def forbid(self, request: HttpRequest, chosen: "QuerySet[TenantConnector]") -> None:
        """And turn them off."""
        self._each(request, chosen, connector_forbid, "forbidden")

    def _each(
        self,
        request: HttpRequest,
        chosen: "QuerySet[TenantConnector]",
        service: Callable[..., TenantConnector],
        told: str,
    ) -> None:
        for row in chosen:
            try:
                service(actor=Actor.of(request.user), tenant=row.tenant, connector=row.connector)
            except ConnectorRefused as refusal:
                self.message_user(request, f"{row.tenant}: {refusal}", messages.ERROR)
            else:
                self.message_user(request, f"{row.tenant}: {row} {told}")
