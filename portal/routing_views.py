"""Runtime origins: the ticket's end, and the question that nginx asks with each request."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portal import routing
from portal.refusals import mark


class RuntimeRequest(HttpRequest):
    """A request to a runtime's origin, as `portal.middleware.OriginMiddleware` passes it on."""

    runtime_slug: str


@require_GET
@never_cache
def enter(request: RuntimeRequest) -> HttpResponse:
    """Spend the ticket, set the cookie, go on to the guest's own page."""
    try:
        entered = routing.route_enter(slug=request.runtime_slug, ticket=request.GET.get("ticket", "")[:100])
    except routing.RouteRefused as refusal:
        _mark(request, refusal)
        return _begin_anew(request)
    response = HttpResponseRedirect(entered.page)
    # Lax, so that a link in a mail works; what it lets through carries no authority in the guest.
    response.set_cookie(
        routing.COOKIE,
        entered.cookie,
        max_age=settings.SESSION_COOKIE_AGE,
        secure=True,
        httponly=True,
        samesite="Lax",
    )
    return response


@require_GET
@never_cache
def authorize(request: RuntimeRequest) -> HttpResponse:
    """For nginx's ``auth_request``: 204 with token and address, or 401 or 403."""
    try:
        passage = routing.authorize(
            slug=request.runtime_slug,
            cookie=request.COOKIES.get(routing.COOKIE, "")[:100],
            method=request.headers.get("Portal-Method", ""),
            path=request.headers.get("Portal-Path", ""),
        )
    except routing.RouteRefused as refusal:
        _mark(request, refusal)
        told: dict[str, Any] = {"Portal-Reason": refusal.code}
        if refusal.wait is not None:
            told["Portal-Retry-After"] = refusal.wait  # nginx makes a 429 of it
        return HttpResponse(status=refusal.status, headers=told)
    told = {
        "Portal-Token": passage.token,
        "Portal-Guest": passage.address,
        "Portal-Runtime": passage.runtime_id,
    }
    return HttpResponse(status=204, headers=told)


def _mark(request: RuntimeRequest, refusal: routing.RouteRefused) -> None:
    """What the record is told: the code, and whose way it was. A full minute is on record already."""
    mark(request, "" if refusal.code == routing.RouteRefused.TOO_MANY else refusal.code)
    if refusal.actor is not None:
        request.META["portal.actor"] = refusal.actor


def _begin_anew(request: RuntimeRequest) -> HttpResponse:
    by_ticket = request.GET.get("by") == routing.BY_TICKET
    where = settings.BASE_URL + ("/break-glass/" if by_ticket else f"/t/{request.runtime_slug}/open/")
    return render(request, "portal/ticket_spent.html", {"where": where}, status=401)
