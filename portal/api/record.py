"""A tenant's own part of the record, for the command line and for scripts."""

import json
from typing import Any

from django.http import Http404
from django.urls import path
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from portal.api.tenants import TenantView
from portal.record.asked import Asked, WrongQuestion
from portal.record.reading import Line, line, lines
from tenants.models import Tenant


class RecordView(TenantView):
    """Who may know of the tenant may read its record."""

    def get(self, request: Request, slug: str) -> Response:
        """One page, the newest first.

        ``?topic=``, ``?since=`` and ``?until=`` narrow it; ``?before=``, an answer's ``next``, goes on.
        """
        tenant = self.tenant(slug)
        rows, following = lines(tenant, asked(request))
        return Response({"entries": [row.document() for row in rows], "next": following})


class RecordEntryView(TenantView):
    """One entry, by its id."""

    def get(self, _request: Request, slug: str, entry: int) -> Response:
        """The entry and its event, word for word."""
        found = self.line(self.tenant(slug), entry)
        return Response({**found.document(), "event": json.loads(found.entry.event)})

    def line(self, tenant: Tenant, entry: int) -> Line:
        """The entry, if it is the tenant's; else 404."""
        found = line(tenant, entry)
        if found is None:
            raise Http404
        return found


def asked(request: Request) -> Asked:
    """What the query asks for. Raises ParseError."""
    given: dict[str, Any] = {
        name: request.GET.get(name, "") for name in ("topic", "since", "until", "before")
    }
    try:
        return Asked.of(**given)
    except WrongQuestion as error:
        raise ParseError(str(error)) from None


urlpatterns = [
    path("tenants/<slug:slug>/record/", RecordView.as_view(), name="api-record"),
    path("tenants/<slug:slug>/record/<int:entry>/", RecordEntryView.as_view(), name="api-record-entry"),
]
