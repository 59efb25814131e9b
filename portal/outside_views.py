"""The page of a machine's outside connections. It shows and changes nothing."""

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portal.outside import Asked, outside_page
from tenants.selectors import tenants_for


@login_required
@require_GET
@never_cache
def tenant_outside(request: HttpRequest, slug: str) -> HttpResponse:
    """What it may reach, what it tried, what was dropped."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    try:
        asked = Asked.of(request.GET.get("verdict", ""), request.GET.get("before", ""))
    except ValueError:
        raise Http404 from None
    return render(
        request, "portal/outside.html", {"tenant": found, **outside_page(request.user, found, asked)}
    )
