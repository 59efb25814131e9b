"""The pages of a tenant's record."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portal.record.asked import CHANGES, Asked, WrongQuestion
from portal.record.reading import entry_page, line, record_page
from tenants.selectors import tenants_for


@login_required
@require_GET
@never_cache
def tenant_record(request: HttpRequest, slug: str) -> HttpResponse:
    """What was done about the tenant, by whom and when."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    context: dict[str, Any] = {"tenant": found}
    try:
        asked = question(request)
    except WrongQuestion as error:
        asked = Asked(topic=CHANGES)
        context["problem"] = str(error)
    context |= record_page(found, asked)
    return render(request, "portal/record.html", context, status=400 if "problem" in context else 200)


@login_required
@require_GET
@never_cache
def tenant_record_entry(request: HttpRequest, slug: str, entry: int) -> HttpResponse:
    """One entry."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    shown = line(found, entry)
    if shown is None:
        raise Http404
    return render(request, "portal/record_entry.html", {"tenant": found, **entry_page(shown)})


def question(request: HttpRequest) -> Asked:
    """What the page's address asks for; the changes, where it says nothing. Raises WrongQuestion."""
    given = {name: request.GET.get(name, "") for name in ("since", "until", "before")}
    return Asked.of(topic=request.GET.get("topic", CHANGES), **given)
