"""The page of connector secrets. It shows names and states; values are sealed in the browser (secrets.js)."""

import hashlib

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portal.connectors import shut
from portal.polling import polled
from portal.secrets import secrets_page
from tenants.selectors import tenants_for


@login_required
@require_GET
@never_cache
def tenant_secrets(request: HttpRequest, slug: str) -> HttpResponse:
    """The form, the list, and the key that the machine states."""
    return render(request, "portal/secrets.html", _context(request, slug))


@polled
@login_required
@require_GET
@never_cache
def tenant_secrets_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The changing part of the page; 204 if it is as the caller has it."""
    context = _context(request, slug)
    if request.GET.get("seen") == context["digest"]:
        return HttpResponse(status=204)
    return render(request, "portal/_secrets_live.html", context)


def _context(request: HttpRequest, slug: str) -> dict[str, object]:
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    facts = secrets_page(request.user, found)
    used = {row["connector"] for row in facts["rows"] if row["label"] != "revoked"}
    context: dict[str, object] = {"tenant": found, **facts, "shut": shut(found, used)}
    # Without the request: nothing in this part may differ from one request to the next but its facts.
    part = render_to_string("portal/_secrets.html", context)
    digest = hashlib.sha256(part.encode()).hexdigest()[:16]
    return context | {"part": mark_safe(part), "digest": digest}  # noqa: S308 - our own template's output
