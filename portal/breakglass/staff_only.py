"""Whose pages these are, and how a refusal leaves them."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from breakglass.models import Ticket
from breakglass.refusals import TicketRefused
from breakglass.selectors import tickets_for
from portal.breakglass import signing
from portal.breakglass.asked import FormRefused
from portal.breakglass.signing import SigningRefused
from portal.breakglass.ticket_page import full

View = Callable[..., HttpResponse]
NOT_ALLOWED = "not_allowed"
"""The services' code for somebody who may not do this at all."""


def staff_only(view: View) -> View:
    """For staff who are signed in: others are sent to sign in, or refused as by the staff's other pages."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not (request.user.is_staff and request.user.is_active):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    guarded_view: View = login_required(guarded)
    return guarded_view


def signed(view: View) -> View:
    """For what ``sign.js`` posts to: refusals are answers that it shows."""

    @wraps(view)
    def answering(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except FormRefused as refusal:
            return signing.refused(str(refusal), status=400, fields=refusal.fields)
        except SigningRefused as refusal:
            return signing.refused(str(refusal))
        except TicketRefused as refusal:
            return signing.refused(sentence(refusal), status=403 if refusal.code == NOT_ALLOWED else 409)

    return answering


def told(view: View) -> View:
    """For plain buttons of a ticket's page: a refusal stands on that page."""

    @wraps(view)
    def telling(request: HttpRequest, ticket: UUID) -> HttpResponse:
        try:
            return view(request, ticket)
        except TicketRefused as refusal:
            if refusal.code == NOT_ALLOWED:
                raise PermissionDenied from None
            messages.error(request, sentence(refusal))
            return redirect("break-glass-ticket", ticket=ticket)

    return telling


def sentence(refusal: TicketRefused) -> str:
    """Its message as a sentence: the protocol's are written for machines' logs."""
    text = str(refusal).strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def person(request: HttpRequest) -> User:
    """Who asks; the guard has seen that it is somebody."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def found(request: HttpRequest, ticket: UUID) -> Ticket:
    """The ticket with all that pages show, in the reader's scope; 404 for any other."""
    return get_object_or_404(full(tickets_for(request.user)), pk=ticket)
