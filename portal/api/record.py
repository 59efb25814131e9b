"""A tenant's own part of the record, for the command line and for scripts."""

import json
from typing import Any

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from rest_framework import serializers
from rest_framework.exceptions import ParseError, Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from audit.context import Actor
from portal.api.tenants import TenantView
from portal.record import exporting, proving
from portal.record.asked import Asked, WrongQuestion, number
from portal.record.reading import Line, line, lines
from tenants.models import Tenant

NEXT = "Portal-Next"
"""The header of a download that has more behind it: what to give as ``after``."""


class Kept(serializers.Serializer[Any]):
    checkpoint = serializers.CharField(max_length=60_000, trim_whitespace=False)


class RecordView(TenantView):
    """Who may know of the tenant may read its record."""

    def get(self, request: Request, slug: str) -> Response:
        """One page, the newest first.

        ``?topic=``, ``?since=`` and ``?until=`` narrow it; ``?before=``, an answer's ``next``, goes on.
        """
        rows, following = lines(self.tenant(slug), asked(request.GET))
        return Response({"entries": [row.document() for row in rows], "next": following})


class EntryView(TenantView):
    """One entry, by its id."""

    def get(self, _request: Request, slug: str, entry: int) -> HttpResponse:
        """The entry and its event, word for word; null if its words stand in an archive."""
        found = self.line(self.tenant(slug), entry)
        return Response({**found.document(), "event": json.loads(found.entry.event or "null")})

    def line(self, tenant: Tenant, entry: int) -> Line:
        """The entry, if it is the tenant's; else 404."""
        found = line(tenant, entry)
        if found is None:
            raise Http404
        return found


class ReceiptView(EntryView):
    """One entry with its proof."""

    def get(self, _request: Request, slug: str, entry: int) -> HttpResponse:
        """The receipt; 409 while the entry waits for its place in the log."""
        tenant = self.tenant(slug)
        made = proving.receipt(self.person(), tenant, self.line(tenant, entry).entry)
        return HttpResponse(made.to_json() + "\n", content_type="application/json")


class CheckpointView(TenantView):
    """The log's head."""

    def get(self, _request: Request, slug: str) -> Response:
        """The newest, with its witnesses, and the key to check it with."""
        return Response(proving.newest(self.tenant(slug)).document())

    def post(self, request: Request, slug: str) -> Response:
        """Whether the log continues the checkpoint that is sent: the proof, or 409 ``forked``."""
        tenant = self.tenant(slug)
        given = Kept(data=request.data)
        given.is_valid(raise_exception=True)
        kept = given.validated_data["checkpoint"]
        return Response(proving.since(actor=Actor.of(self.person()), tenant=tenant, kept=kept).document())


class ConsistencyView(TenantView):
    """Two heads."""

    def get(self, request: Request, slug: str) -> Response:
        """The proof that the head of ``?size=`` (or the newest) begins with the first ``?old=`` entries."""
        tenant = self.tenant(slug)
        old = numbered(request.GET, "old")
        if old is None:
            newest = proving.newest(tenant)
            return Response({"old": newest.size, "size": newest.size, "proof": "", "checkpoint": newest.note})
        return Response(proving.consistency(tenant, old, numbered(request.GET, "size")).document())


class ReceiptsView(TenantView):
    """Many receipts at once."""

    def post(self, request: Request, slug: str) -> HttpResponseBase:
        """One receipt a line, the oldest first; a header says what to give as ``after`` for more.

        A POST, because the download itself goes on record.
        """
        tenant = self.tenant(slug)
        given = request.data if isinstance(request.data, dict) else {}
        try:
            rows, following = exporting.begin(
                reader=self.person(), tenant=tenant, asked=asked(given), after=numbered(given, "after") or 0
            )
        except exporting.TooMany as refused:
            raise Throttled(refused.wait, str(refused)) from None
        headers = {NEXT: str(following)} if following else {}
        return StreamingHttpResponse(rows, content_type="application/jsonl", headers=headers)


def asked(given: Any) -> Asked:
    """What a query or document asks for. Raises ParseError."""
    told = {name: str(given.get(name, "")) for name in ("topic", "since", "until", "before")}
    try:
        return Asked.of(**told)
    except WrongQuestion as error:
        raise ParseError(str(error)) from None


def numbered(given: Any, name: str) -> int | None:
    """A number that was given, or None. Raises ParseError."""
    try:
        return number(str(given.get(name, "")), name)
    except WrongQuestion as error:
        raise ParseError(str(error)) from None


_BELOW = "tenants/<slug:slug>/record/"
urlpatterns = [
    path(_BELOW, RecordView.as_view(), name="api-record"),
    path(f"{_BELOW}checkpoint/", CheckpointView.as_view(), name="api-record-checkpoint"),
    path(f"{_BELOW}consistency/", ConsistencyView.as_view(), name="api-record-consistency"),
    path(f"{_BELOW}receipts/", ReceiptsView.as_view(), name="api-record-receipts"),
    path(f"{_BELOW}<int:entry>/", EntryView.as_view(), name="api-record-entry"),
    path(f"{_BELOW}<int:entry>/receipt/", ReceiptView.as_view(), name="api-record-receipt"),
]
