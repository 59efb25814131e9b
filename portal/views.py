"""The tenant's pages. Reads come from selectors, writes go to services; nothing here knows libvirt."""

import hashlib
from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from audit.context import Actor
from portal.members import members_page
from portal.polling import polled
from portal.routing import RouteRefused, route_open
from provisioning.models import Operation, Runtime
from provisioning.policy import may_request
from provisioning.selectors import operations_for, runtimes_for
from provisioning.sequences import LABELS
from provisioning.services import (
    OperationRefused,
    PermissionRefused,
    access_close,
    access_reopen,
    operation_request,
)
from provisioning.transitions import TRANSITIONS, refusal
from tenants.models import Tenant
from tenants.selectors import is_member, tenants_for
from tenants.sites import tenant_origin

ACCESS: dict[str, Callable[..., None]] = {"close": access_close, "reopen": access_reopen}
BUTTONS = (Operation.Kind.START, Operation.Kind.STOP, Operation.Kind.RESTART)


class SignIn(LoginView):
    """The one sign-in page. The session and its audit entry are one transaction."""

    template_name = "registration/sign_in.html"
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Begin the session."""
        with transaction.atomic():
            return super().form_valid(form)


class SignOut(LogoutView):
    """Ends the session in one transaction with its audit entry."""

    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        """End the session."""
        with transaction.atomic():
            return super().post(request, *args, **kwargs)


@login_required
@require_GET
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Straight to the only tenant; else a choice."""
    tenants = list(tenants_for(request.user)[:50])
    if len(tenants) == 1 and not request.user.is_staff:
        return redirect("tenant", slug=tenants[0].slug)
    present = runtimes_for(request.user).exclude(phase=Runtime.Phase.DELETED)
    runtimes = {runtime.tenant_id: runtime for runtime in present.filter(tenant__in=tenants)}
    rows = [(tenant, runtimes.get(tenant.pk)) for tenant in tenants]
    return render(request, "portal/home.html", {"rows": rows})


@login_required
@require_GET
@never_cache
def tenant(request: HttpRequest, slug: str) -> HttpResponse:
    """One tenant's machine: its state, its buttons, what is going on and what has been."""
    return render(request, "portal/tenant.html", _tenant_context(request, slug))


@polled
@login_required
@require_GET
@never_cache
def tenant_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The changing part of the tenant's page, fetched again and again; 204 if it is as the caller has it.

    So a part that has not changed is not replaced, and a button is not pulled from under a finger.
    """
    context = _tenant_context(request, slug)
    if request.GET.get("seen") == context["digest"]:
        return HttpResponse(status=204)
    return render(request, "portal/_live.html", context)


@login_required
@require_POST
def tenant_operation(request: HttpRequest, slug: str) -> HttpResponse:
    """Start, stop or restart: what the buttons send."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    runtime = get_object_or_404(_present(request, found))
    kind = request.POST.get("kind", "")
    if kind not in Operation.Kind.values:
        messages.error(request, "Choose start, stop or restart.")
    else:
        try:
            operation_request(actor=Actor.of(request.user), runtime_id=runtime.pk, kind=kind)
        except PermissionRefused:
            raise PermissionDenied from None
        except OperationRefused as error:
            messages.error(request, " ".join(error.messages))
    return redirect("tenant", slug=slug)


@login_required
@require_POST
def tenant_access(request: HttpRequest, slug: str) -> HttpResponse:
    """Close members' access, or reopen it."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    runtime = get_object_or_404(_present(request, found))
    service = ACCESS.get(request.POST.get("access", ""))
    if service is None:
        messages.error(request, "Choose close or reopen.")
    else:
        try:
            service(actor=Actor.of(request.user), runtime_id=runtime.pk)
        except PermissionRefused as error:
            if not may_request(Actor.of(request.user), found, Operation.Kind.STOP):
                raise PermissionDenied from None
            messages.error(request, " ".join(error.messages))
    return redirect("tenant", slug=slug)


@login_required
@require_http_methods(["GET", "POST"])
@never_cache
def tenant_open(request: HttpRequest, slug: str) -> HttpResponse:
    """The way to the machine's own origin: a page with one button, and what the button does."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    if request.method == "POST":
        try:
            url = route_open(
                actor=Actor.of(request.user), tenant=found, session_key=request.session.session_key or ""
            )
        except RouteRefused as refusal:
            messages.error(request, refusal.message)
            return redirect("tenant", slug=slug)
        return HttpResponseRedirect(url)
    return render(request, "portal/open.html", {"tenant": found, "origin": tenant_origin(found)})


@login_required
@require_GET
@never_cache
def tenant_members(request: HttpRequest, slug: str) -> HttpResponse:
    """Who may sign in to the machine: the keyring, the keys that wait for it, the consents."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    return render(request, "portal/members.html", {"tenant": found, **members_page(request.user, found)})


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
    if runtime is not None:
        context |= _runtime_context(request, found, runtime)
    # Without the request: nothing in this part may differ from one request to the next but its facts.
    part = render_to_string("portal/_runtime.html", context)
    digest = hashlib.sha256(part.encode()).hexdigest()[:16]
    return context | {"part": mark_safe(part), "digest": digest}  # noqa: S308 - our own template's output


def _runtime_context(request: HttpRequest, found: Tenant, runtime: Runtime) -> dict[str, object]:
    operations = operations_for(request.user).filter(runtime=runtime)
    active = operations.filter(state__in=Operation.ACTIVE).first()
    # What gives way to people keeps no button from them.
    free = active is None or TRANSITIONS[active.kind].yields
    # Once: whoever may stop a machine may press every button of this page (policy.OWNER_MAY).
    may = may_request(Actor.of(request.user), found, Operation.Kind.STOP)
    return {
        "active": active,
        "settling": bool(runtime.access_closed_by) != runtime.access_closed_seen,
        "access_button": _access_button(runtime) if may else "",
        "may_open": is_member(request.user, found) and runtime.phase == Runtime.Phase.READY,
        "history": list(operations.exclude(state__in=Operation.ACTIVE).prefetch_related(None)[:8]),
        "buttons": [
            (kind.value, kind.label.capitalize())
            for kind in BUTTONS
            if may and free and refusal(runtime, kind) is None
        ],
    }


def _access_button(runtime: Runtime) -> str:
    """What an owner may do about members' access: close, reopen, or nothing."""
    return {"": "close", "owner": "reopen"}.get(runtime.access_closed_by, "")
