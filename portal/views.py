"""The tenant's pages. Reads come from selectors, writes go to services; nothing here knows libvirt."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from audit.context import Actor
from provisioning.models import Operation, Runtime
from provisioning.policy import OWNER_MAY, may_request
from provisioning.selectors import operations_for, runtimes_for
from provisioning.sequences import LABELS
from provisioning.services import OperationRefused, operation_request
from provisioning.transitions import refusal
from tenants.models import Tenant
from tenants.selectors import tenants_for

BUTTONS = (Operation.Kind.START, Operation.Kind.STOP, Operation.Kind.RESTART)


class SignIn(LoginView):
    """The one sign-in page. The session and its audit entry are one transaction."""

    template_name = "registration/sign_in.html"
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Begin the session."""
        with transaction.atomic():
            return super().form_valid(form)


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Straight to the only tenant; else a choice."""
    tenants = list(tenants_for(request.user)[:50])
    if len(tenants) == 1 and not request.user.is_staff:
        return redirect("tenant", slug=tenants[0].slug)
    return render(request, "portal/home.html", {"tenants": tenants})


@login_required
@require_GET
@never_cache
def tenant(request: HttpRequest, slug: str) -> HttpResponse:
    """One tenant's machine: its state, its buttons, what is going on and what has been."""
    return render(request, "portal/tenant.html", _tenant_context(request, slug))


@login_required
@require_GET
@never_cache
def tenant_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The changing part of the tenant's page, fetched every few seconds."""
    return render(request, "portal/_runtime.html", _tenant_context(request, slug))


@login_required
@require_POST
def tenant_operation(request: HttpRequest, slug: str) -> HttpResponse:
    """Start, stop or restart."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    runtime = get_object_or_404(_present(request, found))
    kind = request.POST.get("kind", "")
    if kind not in OWNER_MAY:
        messages.error(request, "Choose start, stop or restart.")
    else:
        try:
            operation_request(actor=Actor.of(request.user), runtime_id=runtime.pk, kind=kind)
        except OperationRefused as error:
            messages.error(request, " ".join(error.messages))
    return redirect("tenant", slug=slug)


@require_GET
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Whether this process can reach its database. Says nothing else to strangers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


def _present(request: HttpRequest, found: Tenant) -> QuerySet[Runtime]:
    return runtimes_for(request.user).filter(tenant=found).exclude(phase=Runtime.Phase.DELETED)


def _tenant_context(request: HttpRequest, slug: str) -> dict[str, object]:
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    runtime = _present(request, found).first()
    context: dict[str, object] = {"tenant": found, "runtime": runtime, "labels": LABELS}
    if runtime is None:
        return context
    operations = operations_for(request.user).filter(runtime=runtime)
    active = operations.filter(state__in=Operation.ACTIVE).first()
    actor = Actor.of(request.user)
    context |= {
        "active": active,
        "history": list(operations.exclude(state__in=Operation.ACTIVE)[:8]),
        "buttons": [
            (kind.value, kind.label.capitalize())
            for kind in BUTTONS
            if active is None and refusal(runtime, kind) is None and may_request(actor, found, kind)
        ],
    }
    return context
