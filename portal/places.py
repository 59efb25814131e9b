"""What a request is about, as the record may hold it: a route's name and ids, never what was typed."""

from dataclasses import dataclass
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest

from breakglass.models import Ticket
from tenants.models import Tenant

UNKNOWN = "unknown"
"""No route has this address: its path is a stranger's text."""
_BY_ROUTE = {
    "api-runtime": "runtime",
    "api-runtime-operations": "runtime",
    "api-operation": "operation",
}
_TENANT_OF = {
    "tenants.Tenant": "pk",
    "provisioning.Operation": "runtime__tenant_id",
    "provisioning.DriftFinding": "runtime__tenant_id",
}
"""Where the tenant of a row is found, if not in its own ``tenant_id``."""


@dataclass(frozen=True)
class Place:
    """A route, whose tenant it is about, and the row that its address names."""

    route: str = UNKNOWN
    tenant_id: UUID | None = None
    target: tuple[str, str] = ("", "")


def place_of(request: HttpRequest) -> Place:
    """Where a request that was resolved goes. One query at most, and none where the address names no row."""
    found = request.resolver_match
    if found is None:
        return Place(tenant_id=_tenant(slug=getattr(request, "runtime_slug", "")))
    route, named = found.view_name or UNKNOWN, found.kwargs
    slug = named.get("slug") or getattr(request, "runtime_slug", "")
    if slug:
        tenant_id = _tenant(slug=slug)
        return Place(route, tenant_id, ("tenant", str(tenant_id)) if tenant_id else ("", ""))
    if isinstance(named.get("ticket"), UUID):
        return _ticket(route, named["ticket"])
    if route in _BY_ROUTE:
        return Place(route, None, (_BY_ROUTE[route], str(named["pk"])))
    model = admin_model(route)
    typed = named.get("object_id") or named.get("pk")
    if model is None or not typed:
        return Place(route)
    return _row(route, model, typed)


def admin_model(route: str) -> type[Model] | None:
    """The model of one of the staff's pages, by the name that Django gives its routes."""
    for model in admin.site._registry:
        if route.startswith(f"admin:{model._meta.app_label}_{model._meta.model_name}_"):
            return model
    return None


def _row(route: str, model: type[Model], typed: object) -> Place:
    """The row's own id: what was typed is kept only if it names one."""
    kind, way = str(model._meta.model_name), _way_to_tenant(model)
    try:
        row = model._default_manager.filter(pk=typed).values_list("pk", *way).first()
    except (ValueError, ValidationError, OverflowError):
        row = None
    if row is None:
        return Place(route, None, (kind, ""))
    return Place(route, row[1] if way else None, (kind, str(row[0])))


def _ticket(route: str, pk: UUID) -> Place:
    """A break-glass ticket, which is its tenant's to know of."""
    tenant_id = Ticket.objects.filter(pk=pk).values_list("tenant_id", flat=True).first()
    return Place(route, tenant_id, ("ticket", str(pk) if tenant_id else ""))


def _way_to_tenant(model: type[Model]) -> tuple[str, ...]:
    if model._meta.label in _TENANT_OF:
        return (_TENANT_OF[model._meta.label],)
    has = any(field.attname == "tenant_id" for field in model._meta.concrete_fields)
    return ("tenant_id",) if has else ()


def _tenant(slug: str) -> UUID | None:
    return Tenant.objects.filter(slug=slug).values_list("pk", flat=True).first() if slug else None
