"""Break-glass for the tenant: who asks, who comes in, what they do; owners sign and stop with any key."""

from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.http import Http404, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from rest_framework import serializers, status
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from audit.context import Actor
from breakglass.refusals import TicketRefused
from breakglass.services.endings import ticket_revoke
from breakglass.services.naming import approvers_name
from breakglass.services.terms import terms_accept
from breakglass.services.tickets import ticket_owner_approve
from portal.api.record import numbered
from portal.api.tenants import TenantView
from portal.breakglass import access_export
from portal.breakglass.tenant_approvers import document
from portal.breakglass.tenant_tickets import PAGE, Told, done_under, tickets_of
from portal.record.exporting import TooMany
from tenants.models import Tenant

DONE = 100
"""Lines of what was done that one answer has, the newest; the file of receipts has all."""


class Signed(serializers.Serializer[Any]):
    revision = serializers.IntegerField(min_value=1)
    signature = serializers.DictField()


class Named(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1)
    signature = serializers.DictField()


class Terms(serializers.Serializer[Any]):
    document = serializers.DictField()
    signature = serializers.DictField()


class Revoked(serializers.Serializer[Any]):
    words = serializers.CharField(max_length=500, allow_blank=True, default="")


class BreakGlassView(TenantView):
    """A view below ``tenants/<slug>/break-glass/``."""

    def told(self, tenant: Tenant, ticket: UUID) -> Told:
        """One of the tenant's tickets, if the caller may know of it; else 404."""
        found = tickets_of(self.person(), tenant).filter(pk=ticket).first()
        if found is None:
            raise Http404
        return Told(found)

    def given(self, form: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """What was sent, in that form. Raises ValidationError."""
        wanted = form(data=self.request.data)
        wanted.is_valid(raise_exception=True)
        return dict(wanted.validated_data)

    def handle_exception(self, exc: Exception) -> Response:
        """A refusal: 403 for who asks, 409 for what was asked."""
        if not isinstance(exc, TicketRefused):
            return super().handle_exception(exc)
        forbidden = exc.code == "not_allowed"
        return Response(
            {"code": exc.code, "detail": str(exc)},
            status.HTTP_403_FORBIDDEN if forbidden else status.HTTP_409_CONFLICT,
        )


class TicketsView(BreakGlassView):
    """All tickets of the tenant."""

    def get(self, request: Request, slug: str) -> Response:
        """One page, the newest first; ``?page=``, an answer's ``next``, goes on."""
        tickets = tickets_of(self.person(), self.tenant(slug))
        page = Paginator(tickets, PAGE).get_page(numbered(request.GET, "page") or 1)
        following = page.next_page_number() if page.has_next() else None
        return Response({"tickets": [Told(one).document() for one in page], "next": following})


class OneView(BreakGlassView):
    """One ticket."""

    def get(self, _request: Request, slug: str, ticket: UUID) -> Response:
        """All of it: documents and signatures of each revision, and each thing that was done."""
        told = self.told(self.tenant(slug), ticket)
        lines, count = done_under(told.ticket, DONE)
        done = {"done": [line.document() for line in lines], "receipts": count}
        return Response({**told.document(), **told.signed(), **done})


class ApproveView(BreakGlassView):
    """An owner's signature, where the terms ask for one."""

    def post(self, _request: Request, slug: str, ticket: UUID) -> Response:
        """Keep it. It must be of the revision that holds."""
        told, given = self.told(self.tenant(slug), ticket), self.given(Signed)
        if given["revision"] != told.ticket.revision:
            raise TicketRefused("stale", "The ticket was changed meanwhile. Read it again.")
        ticket_owner_approve(actor=Actor.of(self.person()), ticket=told.ticket, signature=given["signature"])
        return Response(self.told(told.ticket.tenant, ticket).document())


class RevokeView(BreakGlassView):
    """The end, at once."""

    def post(self, _request: Request, slug: str, ticket: UUID) -> Response:
        """End it, whether it waits or runs."""
        told, given = self.told(self.tenant(slug), ticket), self.given(Revoked)
        ticket_revoke(actor=Actor.of(self.person()), ticket=told.ticket, words=given["words"])
        return Response(self.told(told.ticket.tenant, ticket).document())


class ReceiptsView(BreakGlassView):
    """The machine's receipts with what proves them."""

    def post(self, _request: Request, slug: str, ticket: UUID) -> HttpResponseBase:
        """The file that ``python -m protocol.verify access`` reads. A POST, because it goes on record."""
        tenant = self.tenant(slug)
        told = self.told(tenant, ticket)
        try:
            lines = access_export.begin(reader=self.person(), tenant=tenant, ticket=told.ticket)
        except TooMany as refused:
            raise Throttled(refused.wait, str(refused)) from None
        return StreamingHttpResponse(lines, content_type="application/jsonl")


class ApproversView(BreakGlassView):
    """Whom the machine believes."""

    def get(self, _request: Request, slug: str) -> Response:
        """The set in force, the naming, the terms, and what the machine itself states."""
        return Response(document(self.tenant(slug)))

    def post(self, _request: Request, slug: str) -> Response:
        """Keep an owner's signature over the set in force."""
        tenant, given = self.tenant(slug), self.given(Named)
        approvers_name(actor=Actor.of(self.person()), tenant=tenant, **given)
        return Response(document(tenant))


class TermsView(BreakGlassView):
    """On which terms staff come in."""

    def post(self, _request: Request, slug: str) -> Response:
        """Keep the next version, signed by an owner."""
        tenant, given = self.tenant(slug), self.given(Terms)
        terms_accept(actor=Actor.of(self.person()), tenant=tenant, **given)
        return Response(document(tenant))


_BELOW = "tenants/<slug:slug>/break-glass/"
urlpatterns = [
    path(_BELOW, TicketsView.as_view(), name="api-break-glass"),
    path(f"{_BELOW}approvers/", ApproversView.as_view(), name="api-break-glass-approvers"),
    path(f"{_BELOW}terms/", TermsView.as_view(), name="api-break-glass-terms"),
    path(f"{_BELOW}<uuid:ticket>/", OneView.as_view(), name="api-break-glass-ticket"),
    path(f"{_BELOW}<uuid:ticket>/approve/", ApproveView.as_view(), name="api-break-glass-approve"),
    path(f"{_BELOW}<uuid:ticket>/revoke/", RevokeView.as_view(), name="api-break-glass-revoke"),
    path(f"{_BELOW}<uuid:ticket>/receipts/", ReceiptsView.as_view(), name="api-break-glass-receipts"),
]
