"""The page of connectors: what the machine may reach outside, and the switches of owners and operators."""

import hashlib
from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from audit.context import Actor
from portal.connectors import connectors_page
from portal.polling import polled
from tenants.models import TenantConnector
from tenants.selectors import tenants_for
from tenants.services import (
    ConnectorRefused,
    connector_allow,
    connector_disable,
    connector_enable,
    connector_forbid,
)

DEEDS: dict[str, tuple[Callable[..., TenantConnector], str]] = {
    "enable": (connector_enable, "{} is on. Below stands when the machine's proxy follows."),
    "disable": (connector_disable, "{} is off. Below stands when the machine's proxy follows."),
    "allow": (connector_allow, "{} is allowed. It is off until an owner turns it on."),
    "forbid": (connector_forbid, "{} is forbidden. Below stands when the machine's proxy follows."),
}
"""What a button sends as its name, the service behind it, and what is said then."""


@login_required
@require_GET
@never_cache
def tenant_connectors(request: HttpRequest, slug: str) -> HttpResponse:
    """Every connector, how it stands, and what it reaches."""
    return render(request, "portal/connectors.html", _context(request, slug))


@polled
@login_required
@require_GET
@never_cache
def tenant_connectors_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The changing part of the page; 204 if it is as the caller has it."""
    context = _context(request, slug)
    if request.GET.get("seen") == context["digest"]:
        return HttpResponse(status=204)
    return render(request, "portal/_connectors_live.html", context)


@login_required
@require_POST
def tenant_connector_switch(request: HttpRequest, slug: str) -> HttpResponse:
    """What the buttons send: one deed, with the connector as its value."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    asked = [deed for deed in DEEDS if deed in request.POST]
    if len(asked) != 1:
        messages.error(request, "Choose one: allow, forbid, enable or disable.")
        return redirect("tenant-connectors", slug=slug)
    service, told = DEEDS[asked[0]]
    try:
        row = service(actor=Actor.of(request.user), tenant=found, connector=request.POST[asked[0]])
    except ConnectorRefused as refusal:
        if refusal.code == ConnectorRefused.NOT_ALLOWED:
            raise PermissionDenied from None
        messages.error(request, str(refusal))
    else:
        messages.success(request, told.format(row))
    return redirect("tenant-connectors", slug=slug)


def _context(request: HttpRequest, slug: str) -> dict[str, object]:
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    context: dict[str, object] = {"tenant": found, **connectors_page(request.user, found)}
    # Without the request: nothing in this part may differ from one request to the next but its facts.
    part = render_to_string("portal/_connectors.html", context)
    digest = hashlib.sha256(part.encode()).hexdigest()[:16]
    return context | {"part": mark_safe(part), "digest": digest}  # noqa: S308 - our own template's output
