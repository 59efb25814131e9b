"""The page of a tenant's quotas."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portal.polling import polled
from portal.quotas import quotas_of
from tenants.selectors import tenants_for


@login_required
@require_GET
@never_cache
def tenant_quotas(request: HttpRequest, slug: str) -> HttpResponse:
    """What the plan gives, what the machine has, what is used now."""
    return _answer(request, slug, "portal/quotas.html")


@polled
@login_required
@require_GET
@never_cache
def tenant_quotas_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The part that changes."""
    return _answer(request, slug, "portal/_quotas.html")


def _answer(request: HttpRequest, slug: str, template: str) -> HttpResponse:
    found = get_object_or_404(tenants_for(request.user).select_related("plan"), slug=slug)
    return render(request, template, {"tenant": found, **quotas_of(found)})
