"""What the buttons of a ticket's page send. Each calls one service, which decides."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from audit.context import Actor
from breakglass import services
from breakglass.models import Ticket
from portal.breakglass import signing
from portal.breakglass.signing import SigningRefused
from portal.breakglass.staff_only import found, person, signed, staff_only, told
from portal.breakglass.ticket_page import signing_keys
from portal.passages import RouteRefused
from portal.routing import route_open_ticket
from protocol.persons import Purpose
from protocol.tickets import Ticket as Document
from protocol.tickets import rejection_document

CHANGED = "The request was changed while you read it. Reload the page and read it again."


@staff_only
@require_POST
@signed
def approve(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """An approver signs the revision that the page showed; no other."""
    current, slot = found(request, ticket), f"break-glass-approve:{ticket}"
    if signing.is_answer(request):
        document, signature = signing.answered(request, slot=slot)
        if document != current.document:
            raise SigningRefused(CHANGED)
        services.ticket_approve(actor=Actor.of(request.user), ticket=current, signature=signature)
        return _done(request, current, "You have approved it.")
    _check_shown(request, current)
    keys = signing_keys(person(request), current)
    return signing.ask(request, slot=slot, purpose=Purpose.APPROVAL, document=current.document, keys=keys)


@staff_only
@require_POST
@signed
def reject(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """An approver signs a no, which ends the ticket."""
    current, slot = found(request, ticket), f"break-glass-reject:{ticket}"
    document = rejection_document(Document.parse(current.document))
    if signing.is_answer(request):
        kept, signature = signing.answered(request, slot=slot)
        if kept != document:
            raise SigningRefused(CHANGED)
        words = request.POST.get("words", "").strip()
        services.ticket_reject(actor=Actor.of(request.user), ticket=current, signature=signature, words=words)
        return _done(request, current, "You have rejected it.")
    _check_shown(request, current)
    keys = signing_keys(person(request), current)
    return signing.ask(request, slot=slot, purpose=Purpose.REJECTION, document=document, keys=keys)


@staff_only
@require_POST
@told
def withdraw(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """The requester needs it no more."""
    services.ticket_withdraw(actor=Actor.of(request.user), ticket=found(request, ticket))
    messages.success(request, "You have withdrawn it.")
    return redirect("break-glass-ticket", ticket=ticket)


@staff_only
@require_POST
@told
def start(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """The requester begins: from now on the time runs."""
    services.ticket_start(actor=Actor.of(request.user), ticket=found(request, ticket))
    return redirect("break-glass-ticket", ticket=ticket)


@staff_only
@require_POST
@told
def open_machine(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """To the machine's own page for this access, on its own origin."""
    current = found(request, ticket)
    try:
        url = route_open_ticket(
            actor=Actor.of(request.user), ticket=current, session_key=request.session.session_key or ""
        )
    except RouteRefused as refusal:
        messages.error(request, refusal.message)
        return redirect("break-glass-ticket", ticket=ticket)
    return HttpResponseRedirect(url)


@staff_only
@require_POST
@told
def end(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """The requester is done, before the time is over."""
    services.ticket_end(actor=Actor.of(request.user), ticket=found(request, ticket))
    return redirect("break-glass-ticket", ticket=ticket)


@staff_only
@require_POST
@told
def revoke(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """Anybody who may stop it stops it."""
    words = request.POST.get("words", "").strip()
    services.ticket_revoke(actor=Actor.of(request.user), ticket=found(request, ticket), words=words)
    messages.success(request, "You have revoked it. Below stands when the machine confirms.")
    return redirect("break-glass-ticket", ticket=ticket)


@staff_only
@require_POST
@signed
def review(request: HttpRequest, ticket: UUID) -> HttpResponse:
    """The requester writes down what was done. A refusal leaves the text where it was typed."""
    current = found(request, ticket)
    services.review_write(actor=Actor.of(request.user), ticket=current, text=request.POST.get("text", ""))
    return _done(request, current, "Thank you. The review is closed.")


def _check_shown(request: HttpRequest, ticket: Ticket) -> None:
    """What is signed is what was read."""
    if request.POST.get("revision", "") != str(ticket.revision):
        raise SigningRefused(CHANGED)


def _done(request: HttpRequest, ticket: Ticket, words: str) -> HttpResponse:
    messages.success(request, words)
    return signing.done(reverse("break-glass-ticket", args=[ticket.pk]))
