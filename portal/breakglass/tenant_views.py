"""The tenant's pages of break-glass. All of its people see all of it; its owners sign and stop."""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HttpResponseClientRefresh

from audit import log
from audit.context import Actor
from breakglass.models import Ticket
from breakglass.refusals import TicketRefused
from breakglass.selectors import current_set
from breakglass.services.endings import ticket_revoke
from breakglass.services.naming import approvers_name
from breakglass.services.terms import terms_accept, terms_draft
from breakglass.services.tickets import ticket_owner_approve
from portal.breakglass import access_export, signing
from portal.breakglass.signing import SigningRefused
from portal.breakglass.tenant_approvers import approvers_page, way_in
from portal.breakglass.tenant_tickets import PAGE, Told, done_under, history, may, owner_keys, tickets_of
from portal.breakglass.timeline import timeline
from portal.polling import polled
from portal.record.proving import NotProved
from protocol.approvers import ApproverSet, naming_document
from protocol.persons import Purpose
from protocol.terms import MODES
from tenants.models import Tenant
from tenants.selectors import is_owner, tenants_for

View = Callable[..., HttpResponseBase]
CHANGED = "It was changed while you read it. Reload the page and read it again."


def _signs(view: View) -> View:
    """For the two steps of signing: an owner's only, and each refusal is a document that the page shows."""

    @wraps(view)
    def wrapper(request: HttpRequest, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
        tenant = get_object_or_404(tenants_for(request.user), slug=slug)
        if not is_owner(request.user, tenant):
            raise PermissionDenied
        try:
            return view(request, tenant, *args, **kwargs)
        except (TicketRefused, SigningRefused) as refusal:
            return signing.refused(str(refusal))

    return wrapper


@login_required
@require_GET
@never_cache
def tenant_tickets(request: HttpRequest, slug: str) -> HttpResponse:
    """Who asks for access, who has it, and who had."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    return render(request, "portal/break_glass/tenant.html", _list(request, found))


@polled
@login_required
@require_GET
@never_cache
def tenant_tickets_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The lists, fetched again and again; 204 if they are as the caller has them."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    context = _list(request, found)
    if request.GET.get("seen") == context["digest"]:
        return HttpResponse(status=204)
    return render(request, "portal/break_glass/_tenant_live.html", context)


@login_required
@require_GET
@never_cache
def tenant_ticket(request: HttpRequest, slug: str, ticket: UUID) -> HttpResponse:
    """One ticket: what was asked and by whom, who let it in, and each thing that was done."""
    return render(request, "portal/break_glass/tenant_ticket.html", _one(request, slug, ticket))


@polled
@login_required
@require_GET
@never_cache
def tenant_ticket_live(request: HttpRequest, slug: str, ticket: UUID) -> HttpResponse:
    """The changing part of the page; 204 if it is as the caller has it."""
    context = _one(request, slug, ticket)
    if request.GET.get("shown", context["shown"]) != context["shown"]:
        # What stands around this part depends on it, too.
        return HttpResponseClientRefresh()
    if request.GET.get("seen") == context["digest"]:
        return HttpResponse(status=204)
    return render(request, "portal/break_glass/_tenant_ticket_live.html", context)


@login_required
@require_POST
@_signs
def tenant_ticket_approve(request: HttpRequest, tenant: Tenant, ticket: UUID) -> HttpResponse:
    """An owner signs the revision that the page showed; no other."""
    told, slot = _told(request, tenant, ticket), f"tenant-break-glass-approve:{ticket}"
    if signing.is_answer(request):
        document, signature = signing.answered(request, slot=slot)
        if document != told.asked:
            raise SigningRefused(CHANGED)
        ticket_owner_approve(actor=Actor.of(request.user), ticket=told.ticket, signature=signature)
        messages.success(request, "You have signed it.")
        return signing.done(reverse("tenant-break-glass-ticket", args=[tenant.slug, ticket]))
    if request.POST.get("revision", "") != str(told.ticket.revision):
        raise SigningRefused(CHANGED)
    return _ask(request, tenant, slot, Purpose.OWNER_APPROVAL, told.asked)


@login_required
@require_POST
def tenant_ticket_revoke(request: HttpRequest, slug: str, ticket: UUID) -> HttpResponse:
    """An owner stops it: the machine cuts what is under way within seconds."""
    tenant = get_object_or_404(tenants_for(request.user), slug=slug)
    told = _told(request, tenant, ticket)
    if not is_owner(request.user, tenant):
        raise PermissionDenied
    try:
        words = request.POST.get("words", "").strip()
        ticket_revoke(actor=Actor.of(request.user), ticket=told.ticket, words=words)
        messages.success(request, "You have stopped it. Below stands when the machine confirms.")
    except TicketRefused as refusal:
        messages.error(request, str(refusal))
    return redirect("tenant-break-glass-ticket", slug=slug, ticket=ticket)


@login_required
@require_POST
def tenant_ticket_receipts(request: HttpRequest, slug: str, ticket: UUID) -> HttpResponseBase:
    """The machine's receipts with all that proves them, as a file; that it was asked for is on record."""
    tenant = get_object_or_404(tenants_for(request.user), slug=slug)
    told = _told(request, tenant, ticket)
    try:
        lines = access_export.begin(reader=request.user, tenant=tenant, ticket=told.ticket)
    except NotProved as refusal:
        messages.error(request, str(refusal))
        return redirect("tenant-break-glass-ticket", slug=slug, ticket=ticket)
    response = StreamingHttpResponse(lines, content_type="application/jsonl")
    response["Content-Disposition"] = f'attachment; filename="{_file(told)}"'
    return response


@login_required
@require_GET
@never_cache
def tenant_approvers(request: HttpRequest, slug: str) -> HttpResponse:
    """Whom the machine believes, and on which terms."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    context = {"tenant": found, **approvers_page(request.user, found)}
    return render(request, "portal/break_glass/tenant_approvers.html", context)


@login_required
@require_POST
@_signs
def tenant_approvers_name(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """An owner signs the set in force, the one that the page showed."""
    slot, current = f"tenant-break-glass-name:{tenant.pk}", current_set()
    if current is None:
        raise SigningRefused("There are no approvers yet. Staff make the first set.")
    if signing.is_answer(request):
        document, signature = signing.answered(request, slot=slot)
        approvers_name(
            actor=Actor.of(request.user), tenant=tenant, version=document["version"], signature=signature
        )
        messages.success(request, "You have named them. The machine is told when it runs.")
        return signing.done(reverse("tenant-break-glass-approvers", args=[tenant.slug]))
    if request.POST.get("hash", "") != current.hash:
        raise SigningRefused(CHANGED)
    named = naming_document(str(tenant.pk), ApproverSet.parse(current.document))
    return _ask(request, tenant, slot, Purpose.NAMING, named)


@login_required
@require_POST
@_signs
def tenant_terms(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """An owner signs on which terms staff come in."""
    slot = f"tenant-break-glass-terms:{tenant.pk}"
    if signing.is_answer(request):
        document, signature = signing.answered(request, slot=slot)
        terms_accept(actor=Actor.of(request.user), tenant=tenant, document=document, signature=signature)
        messages.success(request, "They hold from now on. The machine is told when it runs.")
        return signing.done(reverse("tenant-break-glass-approvers", args=[tenant.slug]))
    chosen = {kind: request.POST.get(kind, "") for kind in ("ordinary", "emergency")}
    if not set(chosen.values()) <= set(MODES):
        raise SigningRefused("Choose for both kinds who must agree.")
    return _ask(request, tenant, slot, Purpose.TERMS, terms_draft(tenant=tenant, **chosen))


def _ask(
    request: HttpRequest, tenant: Tenant, slot: str, purpose: Purpose, document: dict[str, Any]
) -> HttpResponse:
    user = request.user
    keys = owner_keys(user, tenant) if isinstance(user, User) else []
    if not keys:
        raise SigningRefused(
            "No passkey of yours is an owner's in the keyring. Use the command line: break-glass."
        )
    return signing.ask(request, slot=slot, purpose=purpose, document=document, keys=keys)


def _file(told: Told) -> str:
    return f"{told.ticket.tenant.slug}-access-{str(told.ticket.pk)[:8]}.jsonl"


def _told(request: HttpRequest, tenant: Tenant, ticket: UUID) -> Told:
    return Told(get_object_or_404(tickets_of(request.user, tenant), pk=ticket))


def _list(request: HttpRequest, tenant: Tenant) -> dict[str, Any]:
    every = tickets_of(request.user, tenant)
    over = every.exclude(state__in=Ticket.OPEN).values_list("pk", flat=True)
    page = _number(request.GET.get("page", ""))
    past = list(over[(page - 1) * PAGE : page * PAGE + 1])
    # Both lists at once: what belongs to a ticket is fetched for all of them together.
    shown = [Told(one) for one in every.filter(Q(state__in=Ticket.OPEN) | Q(pk__in=past[:PAGE]))]
    context: dict[str, Any] = {
        "tenant": tenant,
        "active": [one for one in shown if one.ticket.state == Ticket.State.ACTIVE],
        "waiting": [one for one in shown if one.ticket.state in Ticket.WAITING],
        "past": [one for one in shown if not one.ticket.open],
        "page": page,
        "newer": page - 1,
        "older": page + 1 if len(past) > PAGE else 0,
        "way_in": way_in(tenant),
        "owner": is_owner(request.user, tenant),
    }
    return _with_part("portal/break_glass/_tenant_lists.html", context)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 7 and int(text) else 1


def _one(request: HttpRequest, slug: str, ticket: UUID) -> dict[str, Any]:
    tenant = get_object_or_404(tenants_for(request.user), slug=slug)
    told = _told(request, tenant, ticket)
    lines, count = done_under(told.ticket)
    context: dict[str, Any] = {
        "tenant": tenant,
        "told": told,
        "ticket": told.ticket,
        "asked": told.asked,
        "deeds": lines,
        "receipts": count,
        "history": list(history(told)),
        "may": may(request.user, told),
        "can_sign": isinstance(request.user, User) and bool(owner_keys(request.user, tenant)),
        "events": timeline(told.ticket, told.names),
        "file": _file(told),
        "key": str(log.vkey()),
        "shown": told.shown,
    }
    return _with_part("portal/break_glass/_tenant_ticket.html", context)


def _with_part(template: str, context: dict[str, Any]) -> dict[str, Any]:
    """With the changing part as text, and its digest."""
    # Without the request: nothing in this part may differ from one request to the next but its facts.
    part = render_to_string(template, context)
    digest = hashlib.sha256(part.encode()).hexdigest()[:16]
    return context | {"part": mark_safe(part), "digest": digest}  # noqa: S308 - our own template's output
