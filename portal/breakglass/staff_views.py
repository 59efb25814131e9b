"""The staff's pages of tickets: the inbox, the form, and a ticket's own page."""

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods
from django_htmx.http import HttpResponseClientRefresh

from audit.context import Actor
from breakglass import services
from breakglass.models import Passkey, Ticket
from breakglass.refusals import TicketRefused
from portal.breakglass import signing
from portal.breakglass.asked import Asked, FormRefused
from portal.breakglass.form_page import form_page, keys_of, operated
from portal.breakglass.inbox import inbox_page
from portal.breakglass.staff_only import found, person, signed, staff_only
from portal.breakglass.ticket_page import Part, live_part, part, ticket_page
from portal.polling import polled
from protocol.persons import Purpose
from tenants.models import Tenant

Context = Callable[[], dict[str, Any]]


@staff_only
@require_GET
@never_cache
def inbox(request: HttpRequest) -> HttpResponse:
    """What waits for the reader, what is theirs, what is open now, and what has been."""
    return render(request, "portal/break_glass/inbox.html", _inbox(request))


@polled
@staff_only
@require_GET
@never_cache
def inbox_live(request: HttpRequest) -> HttpResponse:
    """The lists, fetched again; 204 if they are as the caller has them."""
    context = _inbox(request)
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "portal/break_glass/_inbox_live.html", context)


@staff_only
@require_http_methods(["GET", "POST"])
@never_cache
def new(request: HttpRequest) -> HttpResponse:
    """Ask for access: the form, and both steps of signing it."""
    if request.method == "POST":
        return _post_new(request)
    slug = request.GET.get("tenant", "")
    tenants = list(operated(person(request)))
    chosen = next((one for one in tenants if one.slug == slug), tenants[0] if len(tenants) == 1 else None)
    context = form_page(person(request), chosen) | {"tenants": tenants}
    return render(request, "portal/break_glass/form.html", context)


@staff_only
@require_http_methods(["GET", "POST"])
@never_cache
def edit(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """Change what was asked: a new revision, which nobody has approved yet."""
    current = found(request, ticket)
    if request.method == "POST":
        return _post_edit(request, current)
    asked = Asked.again(current.document)
    context = form_page(person(request), current.tenant, asked) | {"ticket": current}
    return render(request, "portal/break_glass/form.html", context)


@staff_only
@require_GET
@never_cache
def ticket_view(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """One ticket: who, what, why, for how long, who has agreed, and what the reader may do."""
    seen = part(person(request), found(request, ticket))
    context = ticket_page(seen)
    return render(request, "portal/break_glass/ticket.html", context | _parts(context))


@polled
@staff_only
@require_GET
@never_cache
def ticket_live(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """The changing part; the whole page anew where the rest of it holds no longer."""
    seen: Part = part(person(request), found(request, ticket))
    if request.GET.get("shown", seen.shown) != seen.shown:
        return HttpResponseClientRefresh()
    context = live_part(seen)
    context |= _parts(context) | {"polled": True}
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "portal/break_glass/_ticket_live.html", context)


@signed
def _post_new(request: HttpRequest) -> HttpResponse:
    actor = Actor.of(request.user)
    if signing.is_answer(request):
        document, signature = signing.answered(request, slot="break-glass-new")
        ticket = services.ticket_open(actor=actor, document=document, signature=signature)
        return signing.done(reverse("break-glass-ticket", args=[ticket.pk]))
    slug = request.POST.get("tenant", "")
    if not slug:
        raise FormRefused({"tenant": "Choose a tenant."})
    tenant = get_object_or_404(operated(person(request)), slug=slug)
    return _ask(request, "break-glass-new", tenant, None)


@signed
def _post_edit(request: HttpRequest, ticket: Ticket) -> HttpResponse:
    slot = f"break-glass-edit:{ticket.pk}"
    if signing.is_answer(request):
        document, signature = signing.answered(request, slot=slot)
        services.ticket_edit(
            actor=Actor.of(request.user), ticket=ticket, document=document, signature=signature
        )
        return signing.done(reverse("break-glass-ticket", args=[ticket.pk]))
    return _ask(request, slot, ticket.tenant, ticket)


def _ask(request: HttpRequest, slot: str, tenant: Tenant, ticket: Ticket | None) -> HttpResponse:
    """The first step: the document of what the form asks for."""
    asked = Asked.of(request.POST)
    passkey = _passkey(request)
    document = services.draft(
        actor=Actor.of(request.user),
        tenant=tenant,
        kind=asked.kind,
        reason=asked.reason,
        incident=asked.incident,
        scopes=asked.scopes,
        paths=asked.paths,
        seconds=asked.seconds,
        passkey=passkey,
        ticket=ticket,
    )
    return signing.ask(request, slot=slot, purpose=Purpose.ACCESS_REQUEST, document=document, keys=[passkey])


def _passkey(request: HttpRequest) -> Passkey:
    """The one that was chosen among the person's own; the only one where there is no choice."""
    keys = keys_of(person(request))
    chosen = [key for key in keys if key.fingerprint == request.POST.get("passkey", "")] or keys[:1]
    if not chosen:
        raise TicketRefused("no_passkey", "Register a passkey first.")
    return chosen[0]


def _inbox(request: HttpRequest) -> dict[str, Any]:
    context = inbox_page(person(request))
    return context | _rendered(context, part="portal/break_glass/_inbox.html")


def _parts(context: dict[str, Any]) -> dict[str, Any]:
    return _rendered(context, part="portal/break_glass/_ticket.html", story="portal/break_glass/_events.html")


def _rendered(context: dict[str, Any], **templates: str) -> dict[str, Any]:
    """The parts that are fetched again, and a mark by which a browser says that it has them."""
    # Without the request: nothing in these may differ from one request to the next but its facts.
    texts = {name: render_to_string(template, context) for name, template in templates.items()}
    seen = hashlib.sha256("".join(texts.values()).encode()).hexdigest()[:16]
    return {name: mark_safe(text) for name, text in texts.items()} | {"seen": seen}  # noqa: S308 - our own
